//! What the endpoint controllers share about Services: which pods they select and which ports these give.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    controllers::pod::Pod,
    model::{
        LabelSelector, Object, ObjectKey, kind,
        time::time_text,
        well_known::{POD_READY, ZONE_LABEL},
    },
    registry::View,
};

/// A port of an endpoint, resolved for one pod. The order makes equal sets equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) protocol: String,
    pub(crate) port: Option<i32>,
    pub(crate) app_protocol: Option<String>,
}

/// For triggers: the Services that select a pod.
pub(crate) fn selecting(view: &View, pod: &Object) -> Vec<ObjectKey> {
    view.services_selecting(pod).map(|service| service.key.clone()).collect()
}

/// For triggers: the Services with pods on a node whose zone is not (or no longer) what this state of it says.
/// Heartbeats wake nobody.
pub(crate) fn selecting_on_node(view: &View, node: &Object) -> Vec<ObjectKey> {
    let zone = |node: &Object| node.metadata.labels.get(ZONE_LABEL).cloned();
    if view.get(&node.key).is_some_and(|now| zone(now) == zone(node)) {
        return Vec::new();
    }
    let pods = view.list(&kind::POD, None).map(Pod::of);
    let on_node = pods.filter(|pod| pod.facts.spec.node_name == node.key.name);
    on_node.flat_map(|pod| selecting(view, pod.object)).collect()
}

/// Whether the endpoints of a Service are derived from pods.
pub(crate) fn has_selector(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some("ExternalName")
        && spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}

/// The pods that a Service selects.
pub(crate) fn pods<'a>(view: &'a View, key: &ObjectKey, spec: &ServiceSpec) -> Vec<Pod<'a>> {
    let selector = LabelSelector::from_map(spec.selector.as_ref().unwrap_or(&BTreeMap::new()));
    view.matching(&kind::POD, &key.namespace, &selector).map(Pod::of).collect()
}

/// The families of addresses that a Service's endpoints have.
pub(crate) fn families(spec: &ServiceSpec) -> Vec<&'static str> {
    let stored = spec.ip_families.iter().flatten();
    let mut families: Vec<_> = stored.map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if families.is_empty() {
        let address = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        families.push(if address.is_some_and(|a| a.is_ipv6()) { "IPv6" } else { "IPv4" });
    }
    families
}

/// The pod's addresses of a family.
pub(crate) fn addresses(pod: &Pod<'_>, family: &str) -> Vec<String> {
    let wanted = pod.addresses().filter(|a| a.is_ipv6() == (family == "IPv6"));
    wanted.map(|address| address.to_string()).collect()
}

/// The Service's ports as this pod serves them. A named port that the pod does not have is left out.
pub(crate) fn ports(spec: &ServiceSpec, pod: &Pod<'_>) -> Vec<Port> {
    let resolve = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(Port {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(port, pod, &protocol)?),
            app_protocol: port.app_protocol.clone(),
            protocol,
        })
    };
    let mut ports: Vec<_> = spec.ports.iter().flatten().filter_map(resolve).collect();
    ports.sort();
    ports
}

fn target_port(port: &ServicePort, pod: &Pod<'_>, protocol: &str) -> Option<i32> {
    match &port.target_port {
        Some(IntOrString::String(name)) if !name.is_empty() => pod.named_port(name, protocol),
        Some(IntOrString::Int(number)) if *number != 0 => Some(*number),
        _ => Some(port.port),
    }
}

/// The pod's DNS name below the Service, when it asks for one.
pub(crate) fn hostname(key: &ObjectKey, pod: &Pod<'_>) -> Option<String> {
    let spec = &pod.facts.spec;
    (!spec.hostname.is_empty() && spec.subdomain == key.name).then(|| spec.hostname.clone())
}

/// When the newest of the things happened from which the endpoints follow.
pub(crate) fn trigger_time(service: &Service, pods: &[Pod<'_>]) -> Option<String> {
    let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let readiness = |pod: &Pod<'_>| pod.condition(POD_READY).and_then(|c| c.last_transition_time);
    let newest: Option<Timestamp> = pods.iter().filter_map(readiness).chain(created).max();
    newest.map(time_text)
}
