//! The parts of Kubernetes objects that routes and names are made of. The builder keeps these, not documents: an
//! update that changes none of them changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};

use crate::{
    model::{
        pod::is_phase_terminal,
        service::{EXTERNAL_NAME, cluster_ips, is_headless, is_type},
        well_known::{
            BOUND_PORTS_ANNOTATION, LOAD_BALANCER_POLICY_ANNOTATION, TOPOLOGY_POLICY_ANNOTATION,
            ZONE_LABEL,
        },
    },
    route::{
        Hints, NamespacedName, Node, Protocol,
        names::{self, ServiceKind},
    },
};

/// A pod's weight.
const WEIGHT: &str = "snowglobe.dev/weight";
/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`: three hours.
const AFFINITY_DEFAULT: Duration = Duration::from_secs(10_800);

type Annotations = BTreeMap<String, String>;

/// A Service without its endpoints.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: ServiceKind,
    pub(super) ports: Vec<ServicePort>,
    /// `status.loadBalancer.ingress`, those that the proxy serves.
    pub(super) ingress: Vec<IpAddr>,
    pub(super) affinity: Option<Duration>,
    pub(super) internal_local: bool,
    pub(super) external_local: bool,
    pub(super) source_ranges: Vec<IpNet>,
    pub(super) policy: Option<Arc<str>>,
    pub(super) topology: Option<Arc<str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServicePort {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
    pub(super) node_port: Option<u16>,
}

impl Service {
    pub(super) fn new(service: core::Service, annotations: &Annotations) -> Self {
        let spec = service.spec.unwrap_or_default();
        let kind = if is_type(&spec, EXTERNAL_NAME) {
            ServiceKind::ExternalName(spec.external_name.as_deref().unwrap_or_default().into())
        } else if is_headless(&spec) {
            ServiceKind::Headless
        } else {
            ServiceKind::ClusterIp(addresses(cluster_ips(&spec).iter()))
        };
        let ingress = service.status.and_then(|status| status.load_balancer?.ingress);
        let ingress = ingress.unwrap_or_default();
        // ipMode Proxy: the balancer delivers to node ports, so the address is not ours to serve.
        let ours = ingress.iter().filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let timeout = spec.session_affinity_config.and_then(|c| c.client_ip?.timeout_seconds);
        let timeout = timeout.and_then(|seconds| u64::try_from(seconds).ok());
        let timeout = timeout.map_or(AFFINITY_DEFAULT, Duration::from_secs);
        let ranges = spec.load_balancer_source_ranges.unwrap_or_default();
        Self {
            kind,
            ports: spec.ports.into_iter().flatten().filter_map(ServicePort::new).collect(),
            ingress: addresses(ours.filter_map(|ingress| ingress.ip.as_ref())),
            affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then_some(timeout),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            source_ranges: ranges.iter().filter_map(|range| range.trim().parse().ok()).collect(),
            policy: named(annotations, LOAD_BALANCER_POLICY_ANNOTATION),
            topology: named(annotations, TOPOLOGY_POLICY_ANNOTATION),
        }
    }

    pub(super) fn has_node_ports(&self) -> bool {
        self.ports.iter().any(|port| port.node_port.is_some())
    }
}

impl ServicePort {
    fn new(port: core::ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.unwrap_or_default().into(),
            protocol: protocol(port.protocol.as_deref())?,
            number: number(port.port)?,
            node_port: port.node_port.and_then(number),
        })
    }
}

/// An EndpointSlice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) ports: Arc<[names::Port]>,
    pub(super) endpoints: Vec<SliceEndpoint>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct SliceEndpoint {
    /// Never empty. The proxy uses the first (as kube-proxy), DNS all (as CoreDNS).
    pub(super) addresses: Vec<IpAddr>,
    pub(super) hostname: Option<String>,
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) node: Option<Arc<str>>,
    pub(super) zone: Option<Arc<str>>,
    /// The pod that `targetRef` names.
    pub(super) pod: Option<NamespacedName>,
    pub(super) hints: Option<Arc<Hints>>,
}

impl Slice {
    pub(super) fn new(slice: &discovery::EndpointSlice, namespace: &Arc<str>) -> Self {
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(names::Port {
                name: port.name.as_deref().unwrap_or_default().into(),
                protocol: protocol(port.protocol.as_deref())?,
                number: number(port.port?)?,
            })
        });
        let mut known = BTreeSet::new();
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let hints =
                endpoint.hints.as_ref().and_then(hints).map(|hints| shared(hints, &mut known));
            Some(SliceEndpoint { hints, ..SliceEndpoint::new(endpoint, namespace)? })
        });
        Self { ports: ports.collect(), endpoints: endpoints.collect() }
    }
}

impl SliceEndpoint {
    /// Without its hints. Absent conditions mean what the field documentation says: ready, as serving as ready, not
    /// terminating.
    fn new(endpoint: &discovery::Endpoint, namespace: &Arc<str>) -> Option<Self> {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        let is_pod = |target: &&core::ObjectReference| target.kind.as_deref() == Some("Pod");
        let pod = endpoint.target_ref.as_ref().filter(is_pod);
        let addresses = addresses(endpoint.addresses.iter());
        (!addresses.is_empty()).then(|| Self {
            addresses,
            hostname: endpoint.hostname.clone(),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.as_deref().map(Into::into),
            zone: endpoint.zone.as_deref().map(Into::into),
            pod: pod.and_then(|target| {
                let of_target = target.namespace.as_deref().map(Into::into);
                let namespace = of_target.unwrap_or_else(|| namespace.clone());
                Some(NamespacedName { namespace, name: target.name.as_deref()?.into() })
            }),
            hints: None,
        })
    }
}

/// The policy that an annotation names.
fn named(annotations: &Annotations, annotation: &str) -> Option<Arc<str>> {
    annotations.get(annotation).filter(|name| !name.is_empty()).map(|name| name.as_str().into())
}

/// `None` when they name no zone and no node.
fn hints(hints: &discovery::EndpointHints) -> Option<Hints> {
    let zones = hints.for_zones.iter().flatten().map(|zone| zone.name.as_str().into()).collect();
    let nodes = hints.for_nodes.iter().flatten().map(|node| node.name.as_str().into()).collect();
    let hints = Hints { zones, nodes };
    (hints != Hints::default()).then_some(hints)
}

/// The one of the known values that says the same.
fn shared(hints: Hints, known: &mut BTreeSet<Arc<Hints>>) -> Arc<Hints> {
    if let Some(hints) = known.get(&hints) {
        return hints.clone();
    }
    let hints = Arc::new(hints);
    known.insert(hints.clone());
    hints
}

/// A Pod that holds its addresses: not one that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) node: Option<Arc<str>>,
    pub(super) weight: u32,
    bound_ports: BTreeMap<String, u16>,
}

impl Pod {
    /// `None` for a pod that has ended: its address may belong to another one by now.
    pub(super) fn new(pod: core::Pod, annotations: &Annotations) -> Option<Self> {
        let status = pod.status.unwrap_or_default();
        if status.phase.as_deref().is_some_and(is_phase_terminal) {
            return None;
        }
        let ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
        let ips = if ips.is_empty() { Vec::from_iter(status.pod_ip) } else { ips };
        let weight = annotations.get(WEIGHT).and_then(|weight| weight.parse().ok());
        let ports = annotations.get(BOUND_PORTS_ANNOTATION);
        Some(Self {
            addresses: addresses(ips.iter()),
            node: pod.spec.and_then(|spec| spec.node_name).map(Into::into),
            weight: weight.unwrap_or(1),
            bound_ports: ports.and_then(|p| serde_json::from_str(p).ok()).unwrap_or_default(),
        })
    }

    /// Where the pod really listens for one of its ports.
    pub(super) fn bound_port(&self, number: u16, protocol: Protocol) -> u16 {
        if self.bound_ports.is_empty() {
            return number;
        }
        self.bound_ports.get(&format!("{number}/{protocol}")).copied().unwrap_or(number)
    }
}

/// The route table's view of a Node.
pub(super) fn node(name: &Arc<str>, node: core::Node, labels: &BTreeMap<String, String>) -> Node {
    let all = node.status.and_then(|status| status.addresses).unwrap_or_default();
    let internal = all.iter().filter(|address| address.type_ == "InternalIP");
    Node {
        name: name.clone(),
        addresses: addresses(internal.map(|address| &address.address)),
        zone: labels.get(ZONE_LABEL).map(|zone| zone.as_str().into()),
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// `None` for a protocol that Kubernetes does not know either.
fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}
