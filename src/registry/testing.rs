//! For tests: registries over an empty store in memory, with the usual options.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    registry::{Kinds, Options, Registry, View},
    store::Memory,
};

impl View {
    /// An empty one.
    pub(crate) fn for_tests() -> Self {
        Self::of(Arc::new(Kinds::built_in()), 0)
    }
}

impl Registry {
    /// One of a cluster that has IPv4.
    pub(crate) async fn for_tests() -> Arc<Self> {
        Arc::new(Self::in_memory(&["127.96.0.0/16"]).await)
    }

    /// One of a cluster that also has IPv6, and whose writes happen at the times of this clock.
    pub(crate) async fn for_tests_at(clock: fn() -> Timestamp) -> Self {
        Self { clock, ..Self::in_memory(&["127.96.0.0/16", "fd00:96::/112"]).await }
    }

    async fn in_memory(ranges: &[&str]) -> Self {
        let options = Options {
            service_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            load_balancer_cidr: "127.100.0.0/24".parse().unwrap(),
            node_ports: 30000..=32767,
            loopback_endpoints: true,
        };
        Self::open(Arc::new(Memory::new()), options).await.unwrap()
    }
}
