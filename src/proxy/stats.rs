//! The proxy's figures for people: one entry per service port and view.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use crate::{proxy::views::View, route::RouteName};

/// One service port in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStats {
    /// The service port.
    pub route: RouteName,
    /// The node's name; empty when all share one view; `NODE/local` for a view of that node's own endpoints only.
    pub view: Arc<str>,
    /// Its endpoints, in the table's order.
    pub endpoints: Vec<EndpointStats>,
}

/// One endpoint in one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointStats {
    /// As advertised.
    pub address: SocketAddr,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// It gets new connections.
    pub ready: bool,
    /// Connections open now.
    pub active: u32,
    /// Consecutive failed connects.
    pub failures: u32,
    /// Average time to the first byte, microseconds; 0 = not known yet.
    pub latency_us: u64,
    /// Connections ever given to it.
    pub picks: u64,
}

pub(crate) fn of(view: &View) -> RouteStats {
    let mut seen = BTreeSet::new();
    let endpoints = view.route.endpoints.iter().filter_map(|endpoint| {
        let live = view.endpoints.get(&endpoint.address)?;
        seen.insert(endpoint.address).then(|| EndpointStats {
            address: endpoint.address,
            pod: endpoint.pod.clone(),
            node: endpoint.node.clone(),
            zone: endpoint.zone.clone(),
            ready: endpoint.ready,
            active: live.load.active.load(Relaxed),
            failures: live.load.failures.load(Relaxed),
            latency_us: live.load.latency.load(Relaxed),
            picks: live.load.picks.load(Relaxed),
        })
    });
    let endpoints = endpoints.collect();
    RouteStats {
        route: view.route.name.clone(),
        view: Arc::clone(&view.seat.key().scope),
        endpoints,
    }
}
