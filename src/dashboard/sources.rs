//! What the dashboard shows: the cluster and the proxy's counters, each read when somebody looks.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    dashboard::views::RouteTraffic,
    registry::{Registry, View},
};

/// Where the dashboard looks.
#[derive(Clone)]
pub struct Sources {
    /// The cluster as it is now.
    pub view: Arc<dyn Fn() -> View + Send + Sync>,
    /// What the proxy has counted. Asked a few times a second at most, however many look, and never when nobody does.
    pub traffic: Arc<dyn Fn() -> Vec<RouteTraffic> + Send + Sync>,
    /// Ends the streams, which would otherwise keep a graceful shutdown waiting.
    pub shutdown: CancellationToken,
}

impl Sources {
    /// Looks at a registry, and at a proxy's counters.
    pub fn new(
        registry: Arc<Registry>,
        traffic: impl Fn() -> Vec<RouteTraffic> + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Self {
        Self { view: Arc::new(move || registry.view()), traffic: Arc::new(traffic), shutdown }
    }
}
