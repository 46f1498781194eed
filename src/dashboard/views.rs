//! What the page shows: pure functions from a [`View`] and the proxy's counters to documents.
//!
//! Two documents, because they change at different speeds: [`cluster`] is everything that objects say, [`traffic`]
//! the counters. The page joins them by service, port and address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1 as core,
        discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde::{Deserialize, Serialize};

use crate::{
    model::{
        Object, kind,
        pod::is_phase_terminal,
        service::{EXTERNAL_NAME, NONE, is_headless, is_type},
        well_known::{
            LOAD_BALANCER_POLICY_ANNOTATION, NODE_READY, POD_READY, POLICY_READY,
            SERVICE_NAME_LABEL, TOPOLOGY_POLICY_ANNOTATION, ZONE_LABEL,
        },
    },
    registry::View,
    route::RouteName,
};

/// Services in one document. More than anybody looks through; the page says when there are more.
pub const SERVICES_MAX: usize = 1000;
/// Endpoints of one service in the document, likewise.
pub const ENDPOINTS_MAX: usize = 200;
/// The newest Events in the document.
pub const EVENTS_MAX: usize = 50;

/// What the proxy counts for one service port in one view.
#[derive(Clone, Debug)]
pub struct RouteTraffic {
    /// Which service port.
    pub route: RouteName,
    /// The policy that picks, where it is known.
    pub policy: Option<String>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointTraffic>,
}

/// What the proxy counts for one endpoint in one view.
#[derive(Clone, Copy, Debug)]
pub struct EndpointTraffic {
    /// As advertised.
    pub address: SocketAddr,
    /// Connections open now.
    pub active: u32,
    /// Consecutive failed connects.
    pub failures: u32,
    /// Moving average in microseconds, 0 = none yet.
    pub latency_us: u64,
    /// Connections ever given to it.
    pub picks: u64,
}

/// The counters by service port (`default/web:80/TCP`).
pub type Traffic = BTreeMap<String, PortTraffic>;

/// The counters of one service port, all views together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortTraffic {
    /// The policy that picks, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// By `address:port`.
    pub endpoints: BTreeMap<String, Counters>,
}

/// Counters of one endpoint of one service port, all views together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Connections ever given to it.
    pub picks: u64,
    /// Connections open now.
    pub active: u32,
    /// Consecutive failed connects, the worst view.
    pub failures: u32,
    /// Microseconds, the slowest view.
    pub latency_us: u64,
}

/// What is different now: ports whose counters changed, and `None` for those that are gone.
pub fn changes<'a>(
    before: &'a Traffic,
    now: &'a Traffic,
) -> BTreeMap<&'a str, Option<&'a PortTraffic>> {
    let gone = before.keys().filter(|port| !now.contains_key(*port));
    let gone = gone.map(|port| (port.as_str(), None));
    let changed = now.iter().filter(|(port, counters)| before.get(*port) != Some(counters));
    changed.map(|(port, counters)| (port.as_str(), Some(counters))).chain(gone).collect()
}

/// Adds up the views (a service port has one entry for each node's view).
pub fn traffic(routes: &[RouteTraffic]) -> Traffic {
    let mut sum = Traffic::new();
    for RouteTraffic { route, policy, endpoints } in routes {
        let port = sum.entry(route.to_string()).or_default();
        port.policy = port.policy.take().or_else(|| policy.clone());
        for endpoint in endpoints {
            let all = port.endpoints.entry(endpoint.address.to_string()).or_default();
            all.picks = all.picks.saturating_add(endpoint.picks);
            all.active = all.active.saturating_add(endpoint.active);
            all.failures = all.failures.max(endpoint.failures);
            all.latency_us = all.latency_us.max(endpoint.latency_us);
        }
    }
    sum
}

/// Everything that objects say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// `--cluster-domain`.
    pub domain: String,
    /// For the commands on the page.
    pub kubeconfig: String,
    /// Names.
    pub namespaces: Vec<String>,
    /// By namespace and name, at most [`SERVICES_MAX`].
    pub services: Vec<Service>,
    /// How many there are.
    pub services_total: usize,
    /// By name.
    pub nodes: Vec<Node>,
    /// All pods.
    pub pods: Pods,
    /// By name.
    pub policies: Vec<Policy>,
    /// The newest first, at most [`EVENTS_MAX`].
    pub events: Vec<Event>,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub r#type: String,
    /// A ClusterIP Service without a virtual IP: clients get the endpoints' addresses from DNS.
    pub headless: bool,
    /// The virtual IPs.
    pub cluster_ips: Vec<String>,
    /// Addresses of the load balancer, and `externalIPs`.
    pub external_ips: Vec<String>,
    /// Where an ExternalName Service points.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_name: String,
    /// Ports.
    pub ports: Vec<Port>,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// The load balancer policy that it asks for; empty for the cluster's default.
    pub policy: String,
    /// The topology policy that it asks for, or `trafficDistribution`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topology: String,
    /// `sessionAffinity: ClientIP`.
    pub affinity: bool,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// By zone, node, pod and address, at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// How many endpoints there are.
    pub endpoints_total: usize,
    /// How many of them take new connections.
    pub endpoints_ready: usize,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Empty for the only port.
    pub name: String,
    /// The number on the virtual IP.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The number or name on the pods.
    pub target: String,
    /// The number on every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
}

/// One address behind a Service, all ports together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The zone of its node, empty when it has none.
    pub zone: String,
    /// Its node, empty when it has none.
    pub node: String,
    /// Its pod, empty when it is none.
    pub pod: String,
    /// Address.
    pub address: String,
    /// Port numbers.
    pub ports: BTreeSet<i32>,
    /// New connections may go here.
    pub ready: bool,
    /// It answers, though it may be terminating.
    pub serving: bool,
    /// It is going away.
    pub terminating: bool,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Name.
    pub name: String,
    /// Zone, empty when it has none.
    pub zone: String,
    /// Its own address.
    pub address: String,
    /// Condition `Ready`.
    pub ready: bool,
    /// Pods on it that have not ended.
    pub pods: usize,
    /// Room for pods.
    pub pods_max: String,
}

/// All pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pods {
    /// Those that have not ended.
    pub total: usize,
    /// Those with condition `Ready`.
    pub ready: usize,
}

/// One LoadBalancerPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// Where the module comes from: `builtin`, `path`, `configMap` or `inline`.
    pub source: String,
    /// Condition `Ready`: `True`, `False` or `Unknown`.
    pub ready: String,
    /// Why it is not.
    pub message: String,
}

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Something is wrong.
    pub warning: bool,
    /// CamelCase word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Kind of the object that it is about.
    pub kind: String,
    /// That object's namespace.
    pub namespace: String,
    /// That object's name.
    pub name: String,
    /// How often it happened.
    pub count: i32,
    /// When it happened last.
    pub time: Option<Timestamp>,
}

/// The whole cluster.
pub fn cluster(view: &View, domain: &str, kubeconfig: &str) -> Cluster {
    let (pods, pods_by_node) = pods(view);
    let nodes = nodes(view, &pods_by_node);
    let mut slices = slices_by_service(view);
    Cluster {
        domain: domain.to_owned(),
        kubeconfig: kubeconfig.to_owned(),
        namespaces: view.list(&kind::NAMESPACE, None).map(|o| o.key.name.clone()).collect(),
        services: view
            .list(&kind::SERVICE, None)
            .take(SERVICES_MAX)
            .filter_map(|object| {
                let key = (object.key.namespace.clone(), object.key.name.clone());
                let slices = slices.remove(&key).unwrap_or_default();
                service(object, endpoints(&slices, &nodes))
            })
            .collect(),
        services_total: view.list(&kind::SERVICE, None).count(),
        pods,
        policies: view.list(&kind::LOAD_BALANCER_POLICY, None).filter_map(policy).collect(),
        events: events(view),
        nodes,
    }
}

/// An object that does not parse is left out here; the controllers say so where it matters.
fn parse<T: serde::de::DeserializeOwned>(object: &Object) -> Option<T> {
    object.parse().inspect_err(|error| tracing::debug!(key = %object.key, %error, "not shown")).ok()
}

fn slices_by_service(view: &View) -> BTreeMap<(String, String), Vec<EndpointSlice>> {
    let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for object in view.list(&kind::ENDPOINT_SLICE, None) {
        let Some(service) = object.metadata.labels.get(SERVICE_NAME_LABEL) else { continue };
        let key = (object.key.namespace.clone(), service.clone());
        slices.entry(key).or_default().extend(parse::<EndpointSlice>(object));
    }
    slices
}

fn service(object: &Object, endpoints: Vec<Endpoint>) -> Option<Service> {
    let core::Service { spec, status, .. } = parse(object)?;
    let spec = spec.unwrap_or_default();
    let annotation = |name| object.metadata.annotations.get(name).cloned();
    let ingress = status.and_then(|status| status.load_balancer).and_then(|lb| lb.ingress);
    let ingress = ingress.unwrap_or_default().into_iter().filter_map(|one| one.ip.or(one.hostname));
    let headless = is_headless(&spec) && !is_type(&spec, EXTERNAL_NAME);
    let r#type = spec.type_.unwrap_or_else(|| "ClusterIP".to_owned());
    let mut cluster_ips = spec.cluster_ips.unwrap_or_default();
    cluster_ips.retain(|ip| ip != NONE && !ip.is_empty());
    Some(Service {
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        headless,
        cluster_ips,
        external_ips: ingress.chain(spec.external_ips.unwrap_or_default()).collect(),
        external_name: spec.external_name.filter(|_| r#type == EXTERNAL_NAME).unwrap_or_default(),
        r#type,
        ports: spec.ports.unwrap_or_default().into_iter().map(port).collect(),
        selector: spec.selector.unwrap_or_default(),
        policy: annotation(LOAD_BALANCER_POLICY_ANNOTATION).unwrap_or_default(),
        topology: annotation(TOPOLOGY_POLICY_ANNOTATION)
            .or(spec.traffic_distribution)
            .unwrap_or_default(),
        affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        endpoints_total: endpoints.len(),
        endpoints_ready: endpoints.iter().filter(|endpoint| endpoint.ready).count(),
        endpoints: endpoints.into_iter().take(ENDPOINTS_MAX).collect(),
    })
}

fn port(port: core::ServicePort) -> Port {
    Port {
        target: match port.target_port {
            Some(IntOrString::Int(number)) => number.to_string(),
            Some(IntOrString::String(name)) => name,
            None => port.port.to_string(),
        },
        name: port.name.unwrap_or_default(),
        port: port.port,
        protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        node_port: port.node_port.filter(|number| *number != 0),
    }
}

/// One entry per address: slices repeat an address for each set of ports.
fn endpoints(slices: &[EndpointSlice], nodes: &[Node]) -> Vec<Endpoint> {
    let mut by_address: BTreeMap<&str, Endpoint> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten().filter_map(|port| port.port);
        for one in slice.endpoints.iter().flatten() {
            let Some(address) = one.addresses.first() else { continue };
            let endpoint = by_address.entry(address).or_insert_with(|| endpoint(one, nodes));
            endpoint.ports.extend(ports.clone());
        }
    }
    let mut endpoints: Vec<Endpoint> = by_address.into_values().collect();
    // Stable, so that what is equal stays in the order of addresses.
    endpoints.sort_by(|a, b| (&a.zone, &a.node, &a.pod).cmp(&(&b.zone, &b.node, &b.pod)));
    endpoints
}

/// The defaults of the conditions are those of the EndpointConditions field documentation.
fn endpoint(one: &SliceEndpoint, nodes: &[Node]) -> Endpoint {
    let node = one.node_name.clone().unwrap_or_default();
    let zone_of_node = || nodes.iter().find(|n| n.name == node).map(|n| n.zone.clone());
    let conditions = one.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let pod = one.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Endpoint {
        zone: one.zone.clone().or_else(zone_of_node).unwrap_or_default(),
        pod: pod.and_then(|target| target.name.clone()).unwrap_or_default(),
        address: one.addresses.first().cloned().unwrap_or_default(),
        ports: BTreeSet::new(),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node,
    }
}

fn pods(view: &View) -> (Pods, BTreeMap<String, usize>) {
    let mut pods = Pods::default();
    let mut by_node = BTreeMap::new();
    for object in view.list(&kind::POD, None) {
        let Some(core::Pod { spec, status, .. }) = parse(object) else { continue };
        let status = status.unwrap_or_default();
        if status.phase.as_deref().is_some_and(is_phase_terminal) {
            continue;
        }
        let mut conditions = status.conditions.iter().flatten();
        pods.total += 1;
        pods.ready += usize::from(conditions.any(|c| c.type_ == POD_READY && c.status == "True"));
        if let Some(node) = spec.and_then(|spec| spec.node_name) {
            *by_node.entry(node).or_default() += 1;
        }
    }
    (pods, by_node)
}

fn nodes(view: &View, pods: &BTreeMap<String, usize>) -> Vec<Node> {
    let node = |object: &Arc<Object>| {
        let core::Node { status, .. } = parse(object)?;
        let status = status.unwrap_or_default();
        let mut conditions = status.conditions.iter().flatten();
        let mut addresses = status.addresses.into_iter().flatten();
        let room = status.allocatable.as_ref().or(status.capacity.as_ref());
        Some(Node {
            name: object.key.name.clone(),
            zone: object.metadata.labels.get(ZONE_LABEL).cloned().unwrap_or_default(),
            ready: conditions.any(|c| c.type_ == NODE_READY && c.status == "True"),
            address: addresses
                .find(|address| address.type_ == "InternalIP")
                .map(|address| address.address)
                .unwrap_or_default(),
            pods: pods.get(&object.key.name).copied().unwrap_or_default(),
            pods_max: room
                .and_then(|room| room.get("pods"))
                .map_or_else(String::new, |q| q.0.clone()),
        })
    };
    view.list(&kind::NODE, None).filter_map(node).collect()
}

/// The parts of a LoadBalancerPolicy that are shown.
#[derive(Deserialize)]
struct PolicyDocument {
    spec: PolicySpec,
    #[serde(default)]
    status: PolicyStatus,
}

#[derive(Deserialize)]
struct PolicySpec {
    #[serde(default)]
    module: serde_json::Map<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct PolicyStatus {
    #[serde(default)]
    conditions: Vec<PolicyCondition>,
}

#[derive(Deserialize)]
struct PolicyCondition {
    r#type: String,
    status: String,
    #[serde(default)]
    message: String,
}

fn policy(object: &Arc<Object>) -> Option<Policy> {
    let PolicyDocument { spec, status } = parse(object)?;
    let ready = status.conditions.into_iter().find(|condition| condition.r#type == POLICY_READY);
    let (ready, message) =
        ready.map_or_else(|| ("Unknown".to_owned(), String::new()), |c| (c.status, c.message));
    Some(Policy {
        name: object.key.name.clone(),
        source: spec.module.keys().next().cloned().unwrap_or_default(),
        message: if ready == "True" { String::new() } else { message },
        ready,
    })
}

/// The newest by the revision that wrote them, which needs no parsing and knows no ties.
fn events(view: &View) -> Vec<Event> {
    let mut objects: Vec<&Arc<Object>> = view.list(&kind::EVENT, None).collect();
    objects.sort_by_key(|object| std::cmp::Reverse(object.revision));
    objects.truncate(EVENTS_MAX);
    objects.into_iter().filter_map(|object| Some(event(parse(object)?))).collect()
}

fn event(event: core::Event) -> Event {
    let series = event.series.unwrap_or_default();
    let time = series.last_observed_time.or(event.event_time).map(|time| time.0);
    let seconds = event.last_timestamp.or(event.first_timestamp);
    Event {
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        kind: event.involved_object.kind.unwrap_or_default(),
        namespace: event.involved_object.namespace.unwrap_or_default(),
        name: event.involved_object.name.unwrap_or_default(),
        count: series.count.or(event.count).unwrap_or(1).max(1),
        time: time.max(seconds.map(|time| time.0)),
    }
}
