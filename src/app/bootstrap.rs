//! The objects that a cluster has from its start, as a real cluster has. An object that exists stays as its users
//! changed it, except for fields that describe this process (the addresses of the API server).

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    config::Options,
    model::{
        Kind, Object, ObjectKey, kind,
        service::ip_family,
        well_known::{NODE_READY, SERVICE_NAME_LABEL, SKIP_MIRROR_LABEL},
    },
    policy::{PolicyKind, wasm::Engine},
    registry::{DEFAULT_CLASS, DeleteOptions, Registry, Subresource, WriteOptions},
};

/// Offsets of the system Services in the Service range.
const API_OFFSET: u32 = 1;
const DNS_OFFSET: u32 = 10;

/// The objects that must always exist: the system namespaces, and the system Services with the endpoints of the API
/// server.
pub(crate) type Kept = BTreeMap<ObjectKey, Value>;

/// Creates missing objects. Returns those that must be restored when somebody deletes them.
pub(crate) async fn objects(
    registry: &Registry,
    options: &Options,
    api: SocketAddr,
) -> anyhow::Result<Kept> {
    let kept = kept(registry, api)?;
    let of_kind = |kind: &'static Kind| kept.iter().filter(move |(key, _)| key.kind == *kind);
    for (key, document) in of_kind(&kind::NAMESPACE) {
        create(registry, &key.kind, "", document.clone()).await?;
    }
    service_ranges(registry).await?;
    for (name, value, used_by) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "must run in the cluster, but can be moved to another node if necessary.",
        ),
        ("system-node-critical", 2_000_001_000, "must not be moved from their current node."),
    ] {
        let class = json!({"metadata": {"name": name}, "value": value,
            "description": format!("Used for system critical pods that {used_by}")});
        create(registry, &kind::PRIORITY_CLASS, "", class).await?;
    }
    for (key, document) in of_kind(&kind::SERVICE) {
        create(registry, &key.kind, &key.namespace, document.clone()).await?;
    }
    for kind in [&kind::ENDPOINT_SLICE, &kind::ENDPOINTS] {
        for (key, document) in of_kind(kind) {
            put(registry, &key.kind, &key.namespace, document.clone()).await?;
        }
    }
    let corefile = corefile(&options.cluster_domain);
    let coredns = json!({"metadata": {"name": "coredns"}, "data": {"Corefile": corefile}});
    create(registry, &kind::CONFIG_MAP, "kube-system", coredns).await?;
    let proxy = json!({"metadata": {"name": "kube-proxy", "labels": {"app": "kube-proxy"}},
        "data": {"config.conf": KUBE_PROXY_CONFIGURATION}});
    create(registry, &kind::CONFIG_MAP, "kube-system", proxy).await?;
    let runtime = json!({"metadata": {"name": "simulated"}, "handler": "simulated"});
    create(registry, &kind::RUNTIME_CLASS, "", runtime).await?;
    // As minikube's add-on: who deletes it has it again after the next start.
    let class = json!({
        "metadata": {"name": "standard", "annotations": {DEFAULT_CLASS[0]: "true"}},
        "provisioner": "snowglobe.dev/simulated",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    });
    create(registry, &kind::STORAGE_CLASS, "", class).await?;
    for name in Engine::builtins() {
        let policy = json!({"metadata": {"name": name}, "spec": {"module": {"builtin": name}}});
        create(registry, &kind::LOAD_BALANCER_POLICY, "", policy).await?;
    }
    for name in Engine::builtins_of(PolicyKind::Topology) {
        let policy = json!({"metadata": {"name": name}, "spec": {"module": {"builtin": name}}});
        create(registry, &kind::TOPOLOGY_POLICY, "", policy).await?;
    }
    Ok(kept)
}

fn kept(registry: &Registry, api: SocketAddr) -> anyhow::Result<Kept> {
    let address = |offset| {
        registry
            .options()
            .service_address(offset)
            .map(|address| address.to_string())
            .context("--service-cidr is too small: it needs at least 16 addresses")
    };
    let (slice, endpoints) = api_endpoints(api);
    let mut kept = Kept::new();
    let mut keep = |kind: &Kind, namespace: &str, mut document: Value| {
        if kind.namespaced {
            document["metadata"]["namespace"] = namespace.into();
        }
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        kept.insert(ObjectKey::new(kind, namespace, name), document);
    };
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        keep(&kind::NAMESPACE, "", json!({"metadata": {"name": name}}));
    }
    keep(&kind::SERVICE, "default", api_service(&address(API_OFFSET)?));
    keep(&kind::SERVICE, "kube-system", dns_service(&address(DNS_OFFSET)?));
    keep(&kind::ENDPOINT_SLICE, "default", slice);
    keep(&kind::ENDPOINTS, "default", endpoints);
    Ok(kept)
}

/// Creates the ServiceCIDR of `--service-cidr` and writes its status. If the ranges have changed since the last
/// start, it is another object.
async fn service_ranges(registry: &Registry) -> anyhow::Result<()> {
    let key = ObjectKey::cluster(&kind::SERVICE_CIDR, "kubernetes");
    let ranges: Vec<String> =
        registry.options().service_cidrs.iter().map(ToString::to_string).collect();
    let found = registry.view().parse::<Value>(&key);
    if found.is_some_and(|found| found["spec"]["cidrs"] != json!(ranges)) {
        let free = |found: &Object| {
            let mut document: Value = found.parse()?;
            document["metadata"]["finalizers"] = json!([]);
            Ok(document)
        };
        let freed = registry.modify(&key, Subresource::None, &WriteOptions::default(), free).await;
        freed.context("cannot free ServiceCIDR kubernetes")?;
        let deleted = registry.delete(&key, &DeleteOptions::default()).await;
        deleted.context("cannot replace ServiceCIDR kubernetes")?;
    }
    let document = json!({"metadata": {"name": key.name}, "spec": {"cidrs": ranges}});
    create(registry, &key.kind, "", document).await?;
    let ready = |found: &Object| {
        let mut document: Value = found.parse()?;
        if document["status"]["conditions"].is_null() {
            document["status"]["conditions"] = json!([{"type": NODE_READY, "status": "True", "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": document["metadata"]["creationTimestamp"]}]);
        }
        Ok(document)
    };
    let written = registry.modify(&key, Subresource::Status, &WriteOptions::default(), ready).await;
    written.map(drop).context("cannot write the status of ServiceCIDR kubernetes")
}

const KUBE_PROXY_CONFIGURATION: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: \"\"
";

/// The default Corefile of kubeadm.
fn corefile(domain: &str) -> String {
    format!(
        ".:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"
    )
}

fn api_service(address: &str) -> Value {
    json!({
        "metadata": {"name": "kubernetes",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                 "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
    })
}

fn dns_service(address: &str) -> Value {
    json!({
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                 "selector": {"k8s-app": "kube-dns"},
                 "ports": [{"name": "dns", "port": 53, "protocol": "UDP"},
                           {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                           {"name": "metrics", "port": 9153, "protocol": "TCP"}]},
    })
}

/// The endpoints of the API server itself. In kube-apiserver the endpoint reconciler writes them.
fn api_endpoints(api: SocketAddr) -> (Value, Value) {
    let address =
        if api.ip().is_unspecified() { "127.0.0.1".to_owned() } else { api.ip().to_string() };
    let port = json!({"name": "https", "port": api.port(), "protocol": "TCP"});
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {SERVICE_NAME_LABEL: "kubernetes"}},
        "addressType": ip_family(api.ip()),
        "ports": [port],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    });
    let endpoints = json!({
        "metadata": {"name": "kubernetes",
                     "labels": {SKIP_MIRROR_LABEL: "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
    });
    (slice, endpoints)
}

fn key_of(kind: &Kind, namespace: &str, document: &Value) -> ObjectKey {
    ObjectKey::new(kind, namespace, document["metadata"]["name"].as_str().unwrap_or_default())
}

async fn create(
    registry: &Registry,
    kind: &Kind,
    namespace: &str,
    document: Value,
) -> anyhow::Result<()> {
    let key = key_of(kind, namespace, &document);
    if registry.view().get(&key).is_some() {
        return Ok(());
    }
    registry.clear(&key).await.with_context(|| format!("cannot replace {key}"))?;
    registry
        .create(kind, namespace, document, &WriteOptions::default())
        .await
        .map(drop)
        .with_context(|| format!("cannot create {key}"))
}

/// Creates an object, or replaces its content.
async fn put(
    registry: &Registry,
    kind: &Kind,
    namespace: &str,
    document: Value,
) -> anyhow::Result<()> {
    let key = key_of(kind, namespace, &document);
    if registry.view().get(&key).is_none() {
        return create(registry, kind, namespace, document).await;
    }
    registry
        .update(&key, Subresource::None, document, &WriteOptions::default())
        .await
        .map(drop)
        .with_context(|| format!("cannot update {key}"))
}
