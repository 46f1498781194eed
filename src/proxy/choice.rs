//! Choosing one endpoint of a view: affinity first, then the policy, then, after a failed connect, whatever is left.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    policy::{By, Decision, Flow, PickRequest, Picking, Scheduler},
    proxy::{
        live::{Active, Live},
        views::View,
    },
};

/// Chooses through a scheduler.
pub(crate) struct Chooser {
    pub(crate) scheduler: Arc<dyn Scheduler>,
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
    /// An endpoint that is not among `tried`; `None` when the policy refuses or all were tried. The policy may need a
    /// moment, when it was just loaded or the endpoints have just changed.
    pub(crate) async fn choose(
        &self,
        view: &View,
        flow: &Flow,
        tried: &[SocketAddr],
    ) -> Option<Chosen> {
        let decision = self.decide(view, flow, tried).await;
        let (target, live) = view.targets.get(decision.index?)?;
        Some(Chosen { target: *target, live: Arc::clone(live), active: live.picked() })
    }

    /// The decision about a connection.
    async fn decide(&self, view: &View, flow: &Flow, tried: &[SocketAddr]) -> Decision {
        if tried.is_empty()
            && let Some(index) = remembered(view, flow)
        {
            return Decision::new(Some(index), By::Affinity);
        }
        let View { route, seat, generation, candidates, .. } = view;
        let (policy, generation) = (route.policy.as_deref(), *generation);
        let request = PickRequest { seat, policy, generation, candidates, flow };
        let mut decision = match self.scheduler.pick(request) {
            Picking::Now(decision) => decision,
            Picking::Later(decision) => decision.await,
        };
        let count = candidates.len();
        let is_untried = |index: &usize| !tried.contains(&candidates[*index].address);
        if let Some(picked) = decision.index.filter(|index| !is_untried(index)) {
            decision.index = (0..count).map(|step| (picked + step) % count).find(is_untried);
            decision.by = By::Retry;
        }
        decision
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
