//! The meaning of a Service's `spec`: when it is headless, and which addresses and ports its type needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{api::core::v1::ServiceSpec, apimachinery::pkg::util::intstr::IntOrString};
use serde::Deserialize;

/// `type` of a Service inside the cluster, the default.
pub const CLUSTER_IP: &str = "ClusterIP";
/// `type` of a Service on ports of all nodes.
pub const NODE_PORT: &str = "NodePort";
/// `type` of a Service behind a load balancer.
pub const LOAD_BALANCER: &str = "LoadBalancer";
/// `type` of a Service that is an alias in DNS.
pub const EXTERNAL_NAME: &str = "ExternalName";
/// The `clusterIP` of a headless Service.
pub const NONE: &str = "None";

/// The digest of a Service: the fields that are read at each change of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Digest {
    /// The part of it that is read.
    pub spec: DigestSpec,
}

/// `spec` in a [`Digest`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DigestSpec {
    /// `ClusterIP` and so on.
    pub r#type: String,
    /// The labels of the pods that it selects; empty if it selects none.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<DigestPort>,
}

/// A port in a [`Digest`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DigestPort {
    /// The port of the Service.
    pub port: i32,
    /// `TCP` if it is absent.
    pub protocol: Option<String>,
    /// The port of the pods; that of the Service if it is absent or 0.
    pub target_port: Option<IntOrString>,
}

/// The IP family of an address, as `ipFamilies` and `addressType` name it.
pub fn ip_family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// Whether a Service has this `type`.
pub fn is_type(spec: &ServiceSpec, type_: &str) -> bool {
    spec.type_.as_deref() == Some(type_)
}

/// `clusterIPs`, or `clusterIP` if the client knows only that field.
pub fn cluster_ips(spec: &ServiceSpec) -> &[String] {
    match spec.cluster_ips.as_deref() {
        Some(addresses) if !addresses.is_empty() => addresses,
        _ => spec.cluster_ip.as_slice(),
    }
}

/// Whether a Service has no address of its own, so that DNS answers with those of its endpoints.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    cluster_ips(spec) == [NONE]
}

/// Whether Services of the type have cluster addresses, unless they are headless.
pub fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    [CLUSTER_IP, NODE_PORT, LOAD_BALANCER].iter().any(|type_| is_type(spec, type_))
}

/// Whether each port has a node port.
pub fn needs_node_ports(spec: &ServiceSpec) -> bool {
    let wanted = spec.allocate_load_balancer_node_ports != Some(false);
    is_type(spec, NODE_PORT) || (is_type(spec, LOAD_BALANCER) && wanted)
}

/// Whether clients outside the cluster can reach the Service, so that `externalTrafficPolicy` applies.
pub fn is_externally_accessible(spec: &ServiceSpec) -> bool {
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    is_type(spec, LOAD_BALANCER)
        || is_type(spec, NODE_PORT)
        || (is_type(spec, CLUSTER_IP) && has_external_ips)
}

/// Whether load balancers check the health of each node on a port of its own.
pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    is_type(spec, LOAD_BALANCER) && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The node ports of a Service's ports, without the health check's.
pub fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    let ports = spec.ports.iter().flatten();
    ports.filter_map(|port| port.node_port).filter(|port| *port != 0).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, headless: bool) {
        let shown = spec.to_string();
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(is_headless(&spec), headless, "{shown}");
    }

    #[test]
    fn headless_is_one_address_that_is_none() {
        check(json!({"clusterIP": "None"}), true);
        check(json!({"clusterIPs": ["None"]}), true);
        check(json!({"clusterIP": "None", "clusterIPs": ["None"]}), true);
        check(json!({"clusterIP": "None", "clusterIPs": []}), true);
        check(json!({}), false);
        check(json!({"clusterIP": ""}), false);
        check(json!({"clusterIP": "127.96.0.1", "clusterIPs": ["127.96.0.1"]}), false);
        check(json!({"clusterIPs": ["None", "127.96.0.1"]}), false);
    }
}
