//! Pods that stand for parts of this process (the DNS server, each node's proxy), like a kubelet's mirror pods. They are
//! not run, they are created again when somebody deletes them, and they are always ready.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{
    model::{
        Object, ObjectKey, Status, kind,
        well_known::{BOUND_PORTS_ANNOTATION, PART_ANNOTATION},
    },
    node::{NodeOptions, parse, status},
    registry::{DeleteOptions, Preconditions, Registry, Subresource, WriteOptions},
    runtime::PodState,
};

const NAMESPACE: &str = "kube-system";

/// A part of this process that is shown as a pod.
#[derive(Clone, Debug)]
pub struct MirrorPod {
    /// Pod name.
    pub name: String,
    /// Label `k8s-app`.
    pub app: &'static str,
    /// The node that it is on.
    pub node: NodeOptions,
    /// The pod's address.
    pub ip: IpAddr,
    /// Its one container, with ports.
    pub container: Value,
    /// Where ports are bound when not as declared, `{"53/UDP": 6453}`.
    pub bound_ports: Value,
}

/// Creates or refreshes a mirror pod, Ready.
pub(crate) async fn ensure(registry: &Registry, mirror: &MirrorPod) -> Result<(), Status> {
    let key = key(mirror);
    let options = WriteOptions::default();
    let wanted = document(mirror);
    match registry.view().get(&key) {
        Some(old) if !old.is_terminating() => {
            // The pod of an earlier run stays; only where its ports are may have changed.
            let annotations = wanted["metadata"]["annotations"].clone();
            let change = |pod: &Object| {
                let mut document: Value = parse(pod)?;
                document["metadata"]["annotations"] = annotations.clone();
                Ok(document)
            };
            registry.modify(&key, Subresource::None, &options, change).await?;
        }
        old => {
            if let Some(old) = old {
                end(registry, old).await?;
            }
            let created = registry.create(&kind::POD, NAMESPACE, wanted, &options).await;
            created.map_err(|status| match status.code {
                // The namespace is kept in existence: it will be back.
                404 => Status::unavailable(status.to_string()),
                _ => status,
            })?;
        }
    }
    registry
        .modify(&key, Subresource::Status, &options, |pod| {
            let typed: Pod = parse(pod)?;
            let mut document: Value = parse(pod)?;
            let state = PodState::running();
            let now = Timestamp::now();
            document["status"] =
                json!(status::running(&typed, mirror.ip, &mirror.node, &state, now));
            Ok(document)
        })
        .await?;
    Ok(())
}

/// Removes a terminating pod, which no kubelet will do.
async fn end(registry: &Registry, pod: &Object) -> Result<(), Status> {
    let preconditions = Preconditions::of_uid(pod.metadata.uid.as_str());
    let now = DeleteOptions { grace_seconds: Some(0), preconditions, ..DeleteOptions::default() };
    match registry.delete(&pod.key, &now).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

pub(crate) fn key(mirror: &MirrorPod) -> ObjectKey {
    ObjectKey::new(&kind::POD, NAMESPACE, &mirror.name)
}

fn document(mirror: &MirrorPod) -> Value {
    let mut annotations = json!({PART_ANNOTATION: mirror.app});
    if mirror.bound_ports.as_object().is_some_and(|ports| !ports.is_empty()) {
        annotations[BOUND_PORTS_ANNOTATION] = mirror.bound_ports.to_string().into();
    }
    json!({
        "metadata": {"name": mirror.name, "namespace": NAMESPACE, "labels": {"k8s-app": mirror.app},
                     "annotations": annotations},
        "spec": {"nodeName": mirror.node.name, "hostNetwork": mirror.ip == mirror.node.address,
                 "priorityClassName": "", "tolerations": [{"operator": "Exists"}],
                 "containers": [mirror.container]},
    })
}
