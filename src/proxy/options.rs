//! How the proxy behaves: whose view clients have, and when what is silent ends. Plain values, which `app` fills in.

use std::{sync::Arc, time::Duration};

use crate::descriptors::Budget;

/// How the proxy behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node of clients that are on none.
    pub client_node: Arc<str>,
    /// Whose state is shared.
    pub view: ProxyView,
    /// When silent connections end.
    pub timeouts: Timeouts,
    /// How long open connections may go on after the proxy was told to stop.
    pub drain: Duration,
    /// Where listeners, connections and sessions come from.
    pub descriptors: Budget,
}

/// Whose picks, affinity and figures are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyView {
    /// Each node has its own, as each node has its own kube-proxy.
    #[default]
    PerNode,
    /// All nodes share one. What is restricted to a node's own endpoints still has a view per node.
    Global,
}

/// When silence ends a connection; kube-proxy's `conntrack` settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP connections on which nothing moves.
    pub tcp: Duration,
    /// UDP sessions that were not answered, or at once and never used again (`udpTimeout`).
    pub udp: Duration,
    /// UDP sessions used for longer (`udpStreamTimeout`).
    pub udp_stream: Duration,
}

impl Default for Timeouts {
    /// As conntrack has them (`nf_conntrack_udp_timeout`, `_stream`) and kube-proxy (`tcpEstablishedTimeout`).
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(24 * 3600),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(180),
        }
    }
}
