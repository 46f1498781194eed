//! Which endpoints of a service port a proxy uses for clients at one place: ready ones, by their hints, or those of the
//! client's own node. Pure.
//!
//! Enter at [`usable`], or at [`categorize`] for everything at once. The rules are those of kube-proxy
//! (`CategorizeEndpoints`); a hint only counts when all ready endpoints have one of its kind and one of these is for this
//! place, so a Service is never cut off by its hints.

use std::{fmt, sync::Arc};

use crate::route::{Endpoint, FrontendKind, Hints, Route};

/// Where a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its node; empty when not known.
    pub node: &'a str,
    /// That node's zone; empty when not known.
    pub zone: &'a str,
}

/// Which endpoints hints leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// All: the hints are missing, incomplete, or name other places only.
    Cluster,
    /// Those for the client's zone.
    SameZone,
    /// Those for the client's node.
    SameNode,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "Cluster",
            Self::SameZone => "PreferSameZone",
            Self::SameNode => "PreferSameNode",
        })
    }
}

/// What a traffic policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Endpoints everywhere, by their hints.
    Cluster,
    /// Endpoints on the client's node only, whatever their hints.
    Local,
}

/// The endpoints that may be used from one place, each list in the order of the route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories<'a> {
    /// By policy `Cluster`; `None` when the service port never follows it.
    pub cluster: Option<Vec<&'a Endpoint>>,
    /// By policy `Local`; `None` when the service port never follows it.
    pub local: Option<Vec<&'a Endpoint>>,
    /// By any policy that the service port follows.
    pub reachable: Vec<&'a Endpoint>,
    /// The service port has a usable endpoint, if only at another place.
    pub any: bool,
}

/// The endpoints for connections under a policy: ready ones; if there is none, those that still serve while they
/// terminate (KEP-1669), for which hints do not matter.
pub fn usable<'a, 'p>(
    endpoints: &'a [Endpoint],
    policy: Policy,
    place: Place<'p>,
) -> impl Iterator<Item = &'a Endpoint> + use<'a, 'p> {
    let selection = Selection::new(endpoints, policy, place);
    endpoints.iter().filter(move |endpoint| selection.includes(endpoint))
}

/// The same if there were no hints, by index: what a topology policy chooses from.
pub fn usable_anyhow(endpoints: &[Endpoint], policy: Policy, node: &str) -> Vec<usize> {
    let place = Place { node, zone: "" };
    let mut selection = Selection { policy, place, topology: Topology::Cluster, ready: true };
    selection.ready = endpoints.iter().any(|endpoint| selection.includes(endpoint));
    (0..endpoints.len()).filter(|index| selection.includes(&endpoints[*index])).collect()
}

/// What the hints of the ready endpoints say at a place. Hints for nodes go before those for zones.
pub fn of(endpoints: &[Endpoint], place: Place<'_>) -> Topology {
    let (mut node, mut zone) = (Hinted::NONE, Hinted::NONE);
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.ready) {
        // Most services have no hints: the first endpoint decides.
        let Some(hints) = &endpoint.hints else { return Topology::Cluster };
        node.count(&hints.nodes, place.node);
        zone.count(&hints.zones, place.zone);
    }
    match (node, zone) {
        (Hinted { all: true, here: true }, _) => Topology::SameNode,
        (_, Hinted { all: true, here: true }) => Topology::SameZone,
        _ => Topology::Cluster,
    }
}

/// Everything about a service port from one place. `externalTrafficPolicy: Local` counts only for a service port that has
/// addresses for clients outside; such a one follows policy `Cluster` too, for clients inside.
pub fn categorize<'a>(route: &'a Route, place: Place<'a>) -> Categories<'a> {
    let is_external = |kind| matches!(kind, FrontendKind::NodePort | FrontendKind::LoadBalancer);
    let is_external = route.frontends.iter().any(|frontend| is_external(frontend.kind));
    let follows_cluster = !route.internal_local || is_external;
    let follows_local = route.internal_local || (route.external_local && is_external);

    let select = |policy| Selection::new(&route.endpoints, policy, place);
    let cluster = follows_cluster.then(|| select(Policy::Cluster));
    let local = follows_local.then(|| select(Policy::Local));
    let in_cluster = |endpoint: &Endpoint| cluster.is_some_and(|all| all.includes(endpoint));
    let in_local = |endpoint: &Endpoint| local.is_some_and(|all| all.includes(endpoint));
    let all = route.endpoints.iter();
    let is_reachable = |endpoint: &&Endpoint| in_cluster(endpoint) || in_local(endpoint);
    Categories {
        cluster: cluster.map(|_| all.clone().filter(|endpoint| in_cluster(endpoint)).collect()),
        local: local.map(|_| all.clone().filter(|endpoint| in_local(endpoint)).collect()),
        reachable: all.clone().filter(is_reachable).collect(),
        any: all.clone().any(|e| e.ready || serves_while_terminating(e)),
    }
}

/// Tells which endpoints may be used.
#[derive(Clone, Copy)]
struct Selection<'a> {
    policy: Policy,
    place: Place<'a>,
    topology: Topology,
    /// Otherwise those are used that still serve.
    ready: bool,
}

impl<'a> Selection<'a> {
    fn new(endpoints: &[Endpoint], policy: Policy, place: Place<'a>) -> Self {
        let topology = match policy {
            Policy::Cluster => of(endpoints, place),
            Policy::Local => Topology::Cluster,
        };
        let mut selection = Self { policy, place, topology, ready: true };
        selection.ready = endpoints.iter().any(|endpoint| selection.includes(endpoint));
        selection
    }

    fn includes(&self, endpoint: &Endpoint) -> bool {
        let Place { node, zone } = self.place;
        let hinted = |names: fn(&Hints) -> &[Arc<str>], here: &str| {
            endpoint
                .hints
                .as_ref()
                .is_some_and(|hints| names(hints).iter().any(|name| **name == *here))
        };
        let fits = match (self.policy, self.topology) {
            (Policy::Local, _) => endpoint.node.as_deref() == Some(node),
            (Policy::Cluster, _) if !self.ready => true,
            (Policy::Cluster, Topology::Cluster) => true,
            (Policy::Cluster, Topology::SameZone) => hinted(|hints| &hints.zones, zone),
            (Policy::Cluster, Topology::SameNode) => hinted(|hints| &hints.nodes, node),
        };
        fits && if self.ready { endpoint.ready } else { serves_while_terminating(endpoint) }
    }
}

/// What one kind of hints says about all ready endpoints.
#[derive(Clone, Copy)]
struct Hinted {
    /// Each has a hint.
    all: bool,
    /// One is for the client's place.
    here: bool,
}

impl Hinted {
    const NONE: Self = Self { all: true, here: false };

    fn count(&mut self, hints: &[Arc<str>], here: &str) {
        self.all &= !hints.is_empty();
        self.here |= hints.iter().any(|name| **name == *here);
    }
}

fn serves_while_terminating(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

#[cfg(test)]
mod tests;
