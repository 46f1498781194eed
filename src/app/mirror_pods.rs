//! The mirror pods of the DNS server of this process and of the proxy of each node.

use serde_json::{Value, json};

use crate::{app::bind::Sockets, config::Options, node::MirrorPod};

/// One pod for DNS on the first node, and one pod for the proxy on each node.
pub(crate) fn all(options: &Options, sockets: &Sockets) -> Vec<MirrorPod> {
    let Some(first) = options.nodes.first() else { return Vec::new() };
    let moved: serde_json::Map<String, Value> = sockets
        .dns_pod_ports
        .iter()
        .filter(|moved| moved.declared != moved.bound)
        .map(|moved| (format!("{}/{}", moved.declared, moved.protocol), moved.bound.into()))
        .collect();
    let dns = MirrorPod {
        name: format!("coredns-{}", first.name),
        app: "kube-dns",
        node: first.clone(),
        ip: sockets.dns_pod,
        container: json!({"name": "coredns", "image": image(), "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"}]}),
        bound_ports: Value::Object(moved),
    };
    let proxies = options.nodes.iter().map(|node| MirrorPod {
        name: format!("kube-proxy-{}", node.name),
        app: "kube-proxy",
        node: node.clone(),
        ip: node.address,
        container: json!({"name": "kube-proxy", "image": image()}),
        bound_ports: Value::Null,
    });
    std::iter::once(dns).chain(proxies).collect()
}

fn image() -> &'static str {
    concat!("snowglobe:", env!("CARGO_PKG_VERSION"))
}
