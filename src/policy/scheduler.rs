//! The border to whoever needs endpoints for connections: a [`Scheduler`] answers a [`PickRequest`] with a [`Decision`],
//! at once where it can. The proxy asks the [`Library`](super::library::Library); tests have schedulers of their own.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use crate::{
    policy::{Candidates, Flow, instance::Request, place::Seat, version::Version},
    route::RouteName,
};

/// Chooses endpoints.
pub trait Scheduler: Send + Sync {
    /// Picks an endpoint for one connection.
    fn pick<'a>(&'a self, request: PickRequest<'a>) -> Picking<'a>;

    /// Drops what is kept of a service port that is gone.
    fn forget(&self, route: &RouteName);
}

/// The question of one connection.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    /// The scheduler instance that is to answer.
    pub seat: &'a Seat,
    /// The policy that the service names; `None` for the default.
    pub policy: Option<&'a str>,
    /// Changes whenever the candidates do, and is never used for others.
    pub generation: u64,
    /// The endpoints that may be picked.
    pub candidates: &'a Candidates,
    /// The connection.
    pub flow: &'a Flow,
}

impl<'a> PickRequest<'a> {
    pub(super) fn for_guest(self) -> Request<'a> {
        let Self { generation, candidates, flow, .. } = self;
        Request { generation, candidates, flow }
    }
}

/// An answer: most are there at once, without an allocation.
pub enum Picking<'a> {
    /// It is decided.
    Now(Decision),
    /// The policy needs a moment: it was just loaded, the endpoints have just changed, or it was slow before.
    Later(BoxFuture<'a, Decision>),
}

/// Who chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The session affinity of the Service: the endpoint of the client's last connection.
    Affinity,
    /// The policy.
    Policy,
    /// What stands in for the policy: it had no opinion, failed, or was not there.
    Fallback,
    /// The next one, after a connection to the one before had failed.
    Retry,
}

/// What was decided about one connection, with what a person needs to understand it.
#[derive(Clone)]
pub struct Decision {
    /// The candidate; `None` resets the connection.
    pub index: Option<usize>,
    /// Who chose it.
    pub by: By,
    version: Option<Arc<Version>>,
}

impl Decision {
    /// One in which no loaded policy had a part.
    pub fn new(index: Option<usize>, by: By) -> Self {
        Self { index, by, version: None }
    }

    pub(super) fn of(version: Arc<Version>, index: Option<usize>, by: By) -> Self {
        Self { index, by, version: Some(version) }
    }

    /// The name of the policy that was asked.
    pub fn policy(&self) -> Option<&str> {
        self.version.as_ref().map(|version| &*version.name)
    }

    /// The digest of its module, `sha256:` and hexadecimal digits.
    pub fn digest(&self) -> Option<&str> {
        self.version.as_ref().map(|version| version.policy.program().digest())
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, by, .. } = self;
        let mut debug = f.debug_struct("Decision");
        debug.field("index", index).field("by", by).field("policy", &self.policy()).finish()
    }
}
