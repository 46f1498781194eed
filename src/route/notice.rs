//! [`Notice`]: what the data half reports back. One bounded channel, read by `controllers/notices.rs`, which
//! writes Events and status.

use std::net::SocketAddr;

use crate::route::{NamespacedName, Protocol, RouteName};

/// The kinds of policy: what a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// A LoadBalancerPolicy: which endpoint gets a connection.
    LoadBalancer,
    /// A TopologyPolicy: which endpoints the clients at a place may use.
    Topology,
}

/// Something that happened in the data half and that a user should be able to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A service address could not be bound. Traffic elsewhere goes on; binding is tried again.
    PortNotBound {
        /// Whose port.
        route: RouteName,
        /// Which address.
        address: SocketAddr,
        /// Why, which process holds it where that is known, and the remedies.
        reason: String,
    },
    /// A port's protocol is not carried (SCTP).
    ProtocolNotCarried {
        /// Whose.
        service: NamespacedName,
        /// Which.
        protocol: Protocol,
    },
    /// A client outside `loadBalancerSourceRanges` was reset (sent once per service and source).
    SourceRefused {
        /// Whose.
        route: RouteName,
        /// The client.
        source: SocketAddr,
    },
    /// A policy trapped, ran out of time or answered nonsense; its `onFailure` decided instead.
    PolicyFailed {
        /// The policy's kind.
        kind: PolicyKind,
        /// Its name.
        policy: String,
        /// Where.
        route: RouteName,
        /// What happened.
        reason: String,
    },
    /// A service port names a policy that is not loaded; it is served as if it named none.
    PolicyMissing {
        /// The policy's kind.
        kind: PolicyKind,
        /// The name.
        policy: String,
        /// Where.
        route: RouteName,
    },
    /// A guest called `log`.
    PolicyLog {
        /// The policy's kind.
        kind: PolicyKind,
        /// Its name.
        policy: String,
        /// The guest's code.
        code: u32,
        /// The guest's value.
        value: u64,
    },
}

/// Where the data half puts its notices: `try_send`, and a full channel drops the notice (it is advice, and the
/// state that it tells of is retried or counted elsewhere).
pub type Sender = tokio::sync::mpsc::Sender<Notice>;

/// Notices waiting to be written as Events. Events are rate-limited anyway; more than this is a storm.
pub const NOTICES_MAX: usize = 1024;
