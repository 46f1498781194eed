//! The joint between control and data: one immutable [`RouteTable`] per state of the cluster, handed over through
//! a `watch` channel. Proxy and DNS read one table per decision.
//!
//! [`build`] and [`names`] translate Kubernetes objects into it and are the only files here that see `model`;
//! the types below do not know Kubernetes, so that another source (a simulator, another registry) could fill them.
//! Unchanged parts are shared between tables by `Arc`: a change costs what changed.

pub mod build;
pub mod names;
pub mod notice;
pub mod topology;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use imbl::OrdMap;
use ipnet::IpNet;

pub use names::Names;
pub use notice::Notice;

/// Everything that the data half knows, at one revision.
#[derive(Clone, Default)]
pub struct RouteTable {
    /// The store revision that it was built from; 0 before the first sync (DNS then answers SERVFAIL, the proxy
    /// claims nothing).
    pub revision: u64,
    /// One route per service port.
    pub routes: OrdMap<RouteName, Arc<Route>>,
    /// Virtual nodes by name.
    pub nodes: OrdMap<Arc<str>, Arc<Node>>,
    /// Which node an address belongs to: pods' and nodes' own addresses.
    pub places: OrdMap<IpAddr, Arc<str>>,
    /// What DNS answers from.
    pub names: Names,
}

/// Namespace and name of an object, `default/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One port of one service. Port number and protocol are unique within a service, names may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName {
    /// The service.
    pub service: NamespacedName,
    /// The service's port number.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.service, self.port, self.protocol)
    }
}

/// Transport protocols. SCTP is known to DNS (SRV) and not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    /// Kubernetes' spelling, `TCP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// How traffic to one service port is carried. ExternalName and headless services have no routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which service port.
    pub name: RouteName,
    /// The port's name, empty for the only port of a service.
    pub port_name: Arc<str>,
    /// Where clients dial.
    pub frontends: Vec<Frontend>,
    /// All endpoints of all slices for this port, in a stable order (slice name, then place in the slice).
    /// Which of them a client may use: the proxy's matter.
    pub endpoints: Arc<[Endpoint]>,
    /// `sessionAffinity: ClientIP` and its timeout.
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `loadBalancerSourceRanges`; empty allows all.
    pub source_ranges: Vec<IpNet>,
    /// The LoadBalancerPolicy that picks; `None` for the cluster's default.
    pub policy: Option<Arc<str>>,
    /// The TopologyPolicy that decides, in place of hints, which endpoints clients may use; `None` for none.
    pub topology: Option<Arc<str>>,
}

/// One address and port where clients dial a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// What kind of address it is, which decides which traffic policy applies.
    pub kind: FrontendKind,
    /// Where to listen. For node ports one frontend per node address.
    pub address: SocketAddr,
}

/// The kinds of service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`: internal traffic policy applies.
    ClusterIp,
    /// A node's address and the node port: external traffic policy applies.
    NodePort,
    /// `status.loadBalancer.ingress`: external traffic policy and source ranges apply.
    LoadBalancer,
}

/// One endpoint of one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As advertised in slices and DNS.
    pub address: SocketAddr,
    /// Where the proxy connects; differs when a pod could not bind its port as it is.
    pub target: SocketAddr,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// That node's zone.
    pub zone: Option<Arc<str>>,
    /// New connections may go here.
    pub ready: bool,
    /// It answers, though it may be terminating; used when every endpoint is terminating.
    pub serving: bool,
    /// It is going away.
    pub terminating: bool,
    /// `snowglobe.dev/weight` of the pod, else 1.
    pub weight: u32,
    /// The pod's name, for people.
    pub pod: Option<Arc<str>>,
    /// Which clients it is meant for; `None` for all. What follows from it: [`topology`].
    pub hints: Option<Arc<Hints>>,
}

/// The clients that an endpoint is meant for. Endpoints of one slice that say the same share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    /// Zones of clients.
    pub zones: Vec<Arc<str>>,
    /// Nodes of clients.
    pub nodes: Vec<Arc<str>>,
}

/// A virtual node as the data half sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// Addresses, one per family.
    pub addresses: Vec<IpAddr>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
}
