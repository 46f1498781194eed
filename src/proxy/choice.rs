//! Choosing one endpoint of a view: affinity first, then the policy, then, after a failed connect, whatever is left.

use std::{net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    policy::{Candidates, Flow},
    proxy::{
        live::{Active, Live},
        views::View,
    },
    route::RouteName,
};

/// Picks the index of a candidate for a connection; `None` refuses it.
pub type Pick = Arc<dyn for<'a> Fn(Question<'a>) -> BoxFuture<'a, Option<usize>> + Send + Sync>;

/// The question of one connection to the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The service port.
    pub route: &'a RouteName,
    /// The view of the client's node.
    pub view: &'a Arc<str>,
    /// The policy that the service names; `None` for the default.
    pub policy: Option<&'a str>,
    /// Changes whenever the candidates do.
    pub generation: u64,
    /// The endpoints that may be picked.
    pub candidates: &'a Candidates,
    /// The connection.
    pub flow: &'a Flow,
}

/// Chooses through a policy.
pub(crate) struct Chooser {
    pick: Pick,
}

/// An endpoint that was given a connection.
pub(crate) struct Chosen {
    /// Where to connect.
    pub(crate) target: SocketAddr,
    /// Its figures.
    pub(crate) live: Arc<Live>,
    /// Counts as open while held.
    pub(crate) active: Active,
}

impl Chooser {
    pub(crate) fn new(pick: Pick) -> Self {
        Self { pick }
    }

    /// An endpoint that is not among `tried`; `None` when the policy refuses or all were tried. The policy may need a
    /// moment, when it was just loaded or the endpoints have just changed.
    pub(crate) async fn choose(
        &self,
        view: &View,
        flow: &Flow,
        tried: &[SocketAddr],
    ) -> Option<Chosen> {
        let remembered = if tried.is_empty() { remembered(view, flow) } else { None };
        let index = match remembered {
            Some(index) => index,
            None => self.untried(view, flow, tried).await?,
        };
        let (target, live) = view.targets.get(index)?;
        Some(Chosen { target: *target, live: Arc::clone(live), active: live.picked() })
    }

    async fn untried(&self, view: &View, flow: &Flow, tried: &[SocketAddr]) -> Option<usize> {
        let policy = view.route.policy.as_deref();
        let View { route, label, generation, candidates, .. } = view;
        let (route, view, generation) = (&route.name, label, *generation);
        let question = Question { route, view, policy, generation, candidates, flow };
        let picked = (self.pick)(question).await?;
        let count = candidates.len();
        let untried = |index: &usize| !tried.contains(&candidates[*index].address);
        (0..count).map(|step| (picked + step) % count).find(untried)
    }
}

/// The endpoint of the client's last connection, if affinity is on and the endpoint may still be used.
fn remembered(view: &View, flow: &Flow) -> Option<usize> {
    let endpoint = view.affinity.endpoint(flow.source.ip(), view.route.affinity?)?;
    view.candidates.iter().position(|candidate| candidate.address == endpoint)
}

/// The client's next connection goes to the same endpoint, if affinity is on.
pub(crate) fn remember(view: &View, flow: &Flow, live: &Live) {
    if view.route.affinity.is_some() {
        view.affinity.remember(flow.source.ip(), live.address);
    }
}
