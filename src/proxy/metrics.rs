//! The metrics of the proxy: counters per service port for Prometheus, and totals for people.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::route::RouteName;

/// The proxy's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    connections: Family<RouteLabels, Counter>,
    connect_failures: Family<RouteLabels, Counter>,
    sent_bytes: Family<RouteLabels, Counter>,
    received_bytes: Family<RouteLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    /// TCP connections open now.
    pub(crate) open: Gauge,
    /// UDP sessions alive now.
    pub(crate) sessions: Gauge,
    sync: Histogram,
    sums: Arc<Sums>,
}

/// Sums over all service ports since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections and UDP sessions given to an endpoint.
    pub carried: u64,
    /// Connections reset and UDP sessions not begun: no endpoint, source not allowed, at the bound.
    pub refused: u64,
    /// Connects to an endpoint that failed.
    pub connect_failures: u64,
    /// Bytes from clients to endpoints, of ended connections.
    pub sent_bytes: u64,
    /// Bytes from endpoints to clients, of ended connections.
    pub received_bytes: u64,
}

/// Why a connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ResetReason {
    /// The service port is gone; its listener is about to be.
    NoRoute,
    /// This client's view has no endpoint.
    NoEndpoint,
    /// Outside `loadBalancerSourceRanges`.
    Source,
    /// The policy refused, or every endpoint that was tried failed.
    NotConnected,
    /// As many connections as the proxy carries, in all or of one service, and none is idle.
    Bound,
}

/// The counters of one service port, so that a connection looks up no labels.
#[derive(Clone, Debug)]
pub(crate) struct RouteCounters {
    connections: Counter,
    connect_failures: Counter,
    sent_bytes: Counter,
    received_bytes: Counter,
    sums: Arc<Sums>,
}

#[derive(Debug, Default)]
struct Sums {
    carried: AtomicU64,
    refused: AtomicU64,
    connect_failures: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    namespace: String,
    service: String,
    port: u16,
    protocol: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    namespace: String,
    service: String,
    port: u16,
    protocol: String,
    reason: ResetReason,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connections: Family::default(),
            connect_failures: Family::default(),
            sent_bytes: Family::default(),
            received_bytes: Family::default(),
            refused: Family::default(),
            open: Gauge::default(),
            sessions: Gauge::default(),
            sync: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            sums: Arc::default(),
        }
    }
}

impl Metrics {
    /// Adds every metric to the registry.
    pub fn register(&self, registry: &mut Registry) {
        let families = [
            ("connections", "Connections and UDP sessions given to an endpoint", &self.connections),
            ("connect_failures", "Connects to an endpoint that failed", &self.connect_failures),
            ("sent_bytes", "Bytes from clients to endpoints", &self.sent_bytes),
            ("received_bytes", "Bytes from endpoints to clients", &self.received_bytes),
        ];
        for (name, text, family) in families {
            registry.register(format!("snowglobe_proxy_{name}"), text, family.clone());
        }
        registry.register(
            "snowglobe_proxy_refused",
            "Connections reset and UDP sessions not begun, by reason",
            self.refused.clone(),
        );
        registry.register(
            "snowglobe_proxy_open_connections",
            "TCP connections open now",
            self.open.clone(),
        );
        registry.register(
            "snowglobe_proxy_udp_sessions",
            "UDP sessions alive now",
            self.sessions.clone(),
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "Time from a new route table to its listeners being in place",
            self.sync.clone(),
        );
    }

    /// The sums now.
    pub fn totals(&self) -> Totals {
        Totals {
            carried: self.sums.carried.load(Relaxed),
            refused: self.sums.refused.load(Relaxed),
            connect_failures: self.sums.connect_failures.load(Relaxed),
            sent_bytes: self.sums.sent_bytes.load(Relaxed),
            received_bytes: self.sums.received_bytes.load(Relaxed),
        }
    }

    /// A table's listeners are in place.
    pub(crate) fn synced(&self, took: Duration) {
        self.sync.observe(took.as_secs_f64());
    }

    /// A connection was reset, or a datagram dropped.
    pub(crate) fn refused(&self, route: &RouteName, reason: ResetReason) {
        self.sums.refused.fetch_add(1, Relaxed);
        let RouteLabels { namespace, service, port, protocol } = RouteLabels::new(route);
        let labels = RefusedLabels { namespace, service, port, protocol, reason };
        self.refused.get_or_create(&labels).inc();
    }

    /// The counters of one service port.
    pub(crate) fn route(&self, route: &RouteName) -> RouteCounters {
        let labels = RouteLabels::new(route);
        RouteCounters {
            connections: self.connections.get_or_create_owned(&labels),
            connect_failures: self.connect_failures.get_or_create_owned(&labels),
            sent_bytes: self.sent_bytes.get_or_create_owned(&labels),
            received_bytes: self.received_bytes.get_or_create_owned(&labels),
            sums: Arc::clone(&self.sums),
        }
    }

    /// Drops the series of a service port that is gone.
    pub(crate) fn forget(&self, route: &RouteName) {
        let labels = RouteLabels::new(route);
        for family in
            [&self.connections, &self.connect_failures, &self.sent_bytes, &self.received_bytes]
        {
            family.remove(&labels);
        }
        for reason in ResetReason::ALL {
            let RouteLabels { namespace, service, port, protocol } = labels.clone();
            self.refused.remove(&RefusedLabels { namespace, service, port, protocol, reason });
        }
    }
}

impl ResetReason {
    const ALL: [Self; 5] =
        [Self::NoRoute, Self::NoEndpoint, Self::Source, Self::NotConnected, Self::Bound];
}

impl RouteCounters {
    /// A connection or session was given to an endpoint.
    pub(crate) fn carried(&self) {
        self.connections.inc();
        self.sums.carried.fetch_add(1, Relaxed);
    }

    /// An endpoint did not take a connection.
    pub(crate) fn connect_failed(&self) {
        self.connect_failures.inc();
        self.sums.connect_failures.fetch_add(1, Relaxed);
    }

    /// Bytes that went up and came down.
    pub(crate) fn moved(&self, sent: u64, received: u64) {
        self.sent_bytes.inc_by(sent);
        self.received_bytes.inc_by(received);
        self.sums.sent_bytes.fetch_add(sent, Relaxed);
        self.sums.received_bytes.fetch_add(received, Relaxed);
    }
}

impl RouteLabels {
    fn new(route: &RouteName) -> Self {
        Self {
            namespace: String::from(&*route.service.namespace),
            service: String::from(&*route.service.name),
            port: route.port,
            protocol: route.protocol.to_string(),
        }
    }
}
