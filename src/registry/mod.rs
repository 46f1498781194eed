//! The registry: Kubernetes objects over the store. One write path (defaults, validation, compare-and-swap),
//! one cache (fed only by `Store::watch`), subscriptions for watches.
//!
//! Enter at [`Registry`]: the API server, the node and the controllers call it, nothing else writes objects.
//! It knows kinds and their rules; it must never know HTTP, routing, DNS or a socket.

mod alloc;
mod cache;
mod decode;
mod delete;
mod strategy;
mod view;
mod watch;
mod write;

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde_json::Value;
use tokio::sync::watch as channel;

use crate::{
    model::{Kind, Object, ObjectKey, Status},
    store::{self, Store},
};

pub use cache::{Event, EventKind};
pub use decode::FieldValidation;
pub use delete::{DeleteOptions, Propagation};
pub use view::View;
pub use watch::Subscription;
pub use write::{Part, WriteOptions, Written};

/// What the registry must know about the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Service address ranges, first family first.
    pub service_cidrs: Vec<IpNet>,
    /// Range of `status.loadBalancer.ingress` addresses.
    pub load_balancer_cidr: IpNet,
    /// Range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Whether 127/8 may stand in Endpoints and EndpointSlices (the loopback data plane).
    pub loopback_endpoints: bool,
}

impl Options {
    /// The n-th address of the first service range: 1 is the API's, 10 is the DNS server's.
    pub fn service_address(&self, n: u32) -> Option<IpAddr> {
        alloc::nth_address(*self.service_cidrs.first()?, n)
    }
}

/// Reads and writes of Kubernetes objects.
pub struct Registry {
    store: Arc<dyn Store>,
    cache: Arc<cache::Cache>,
    options: Options,
    /// The revision that the data half has taken over, see [`Registry::set_routed`].
    routed: channel::Sender<u64>,
}

/// How long a write waits until the data half has its revision (conventions, section 3).
const ROUTED_WAIT: Duration = Duration::from_millis(50);
