//! Node objects and their leases.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    model::{
        ObjectKey, Status, kind,
        time::{micro_time_text, time_text},
        well_known::{BETA_ARCH_LABEL, BETA_OS_LABEL, HOSTNAME_LABEL, NODE_READY, ZONE_LABEL},
    },
    node::{NodeOptions, Size, capacity, parse},
    registry::{Registry, Subresource, WriteOptions},
};

/// The Kubernetes version whose behaviour is served, which `kubectl get nodes` shows.
const KUBELET_VERSION: &str = "v1.36.0";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const STORAGE: &str = "100Gi";

/// Creates the Node object, or brings what this process owns of it up to date; labels and taints that others set stay.
pub(crate) async fn node(registry: &Registry, node: &NodeOptions) -> Result<(), Status> {
    let key = ObjectKey::cluster(&kind::NODE, &node.name);
    let options = WriteOptions::default();
    let labels = labels(node);
    registry.clear(&key).await?;
    if registry.view().get(&key).is_none() {
        let document = json!({"metadata": {"name": node.name, "labels": labels},
            "spec": {"podCIDR": node.pod_cidr.to_string(), "podCIDRs": [node.pod_cidr.to_string()],
                     "providerID": format!("snowglobe://{}", node.name)}});
        registry.create(&kind::NODE, "", document, &options).await?;
    } else {
        registry
            .modify(&key, Subresource::None, &options, |object| {
                let mut document: Value = parse(object)?;
                for (label, value) in labels.as_object().into_iter().flatten() {
                    document["metadata"]["labels"][label] = value.clone();
                }
                Ok(document)
            })
            .await?;
    }
    registry
        .modify(&key, Subresource::Status, &options, |object| {
            let mut document: Value = parse(object)?;
            let mut wanted = status(node, Timestamp::now());
            capacity::keep_additions(&document["status"], &mut wanted);
            document["status"] = wanted;
            Ok(document)
        })
        .await?;
    Ok(())
}

/// Shows that the node lives.
pub(crate) async fn renew_lease(registry: &Registry, node: &NodeOptions) -> Result<(), Status> {
    let key = ObjectKey::new(&kind::LEASE, LEASE_NAMESPACE, &node.name);
    let options = WriteOptions::default();
    let (uid, is_new) = {
        let view = registry.view();
        // A deleted node stays deleted until the next start, and its lease with it.
        let Some(object) = view.get(&ObjectKey::cluster(&kind::NODE, &node.name)) else {
            return Ok(());
        };
        (object.metadata.uid.clone(), view.get(&key).is_none())
    };
    let now = micro_time_text(Timestamp::now());
    if is_new {
        registry.clear(&key).await?;
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": uid}]);
        let document = json!({"metadata": {"name": node.name, "ownerReferences": owner},
            "spec": {"holderIdentity": node.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
        registry.create(&kind::LEASE, LEASE_NAMESPACE, document, &options).await?;
        return Ok(());
    }
    registry
        .modify(&key, Subresource::None, &options, |object| {
            let mut document: Value = parse(object)?;
            document["spec"]["renewTime"] = now.as_str().into();
            Ok(document)
        })
        .await?;
    Ok(())
}

fn labels(node: &NodeOptions) -> Value {
    let architecture = architecture();
    let mut labels = json!({
        HOSTNAME_LABEL: node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        BETA_OS_LABEL: "linux",
        BETA_ARCH_LABEL: architecture,
    });
    if let Some(zone) = &node.zone {
        labels[ZONE_LABEL] = zone.as_str().into();
    }
    for (label, value) in &node.labels {
        labels[label] = value.as_str().into();
    }
    labels
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(node: &NodeOptions, now: Timestamp) -> Value {
    let now = time_text(now);
    let Size { cpu, memory, pods } = &node.size;
    let resources = json!({"cpu": cpu.to_string(), "memory": memory.to_string(), "pods": pods.to_string(),
        "ephemeral-storage": STORAGE});
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let kernel = rustix::system::uname();
    json!({
        "addresses": [{"type": "InternalIP", "address": node.address.to_string()},
                      {"type": "Hostname", "address": node.name}],
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the node has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "the node has sufficient process ids available"),
            condition(NODE_READY, "True", "KubeletReady", "the virtual node runs pods"),
        ],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": "Snowglobe virtual node",
            "kernelVersion": kernel.release().to_string_lossy(), "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "", "containerRuntimeVersion": concat!("snowglobe://", env!("CARGO_PKG_VERSION")),
            "machineID": "", "systemUUID": "", "bootID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    })
}
