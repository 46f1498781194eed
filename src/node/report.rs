//! What a node writes about its pods: how they are, and their end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{
    model::{Object, ObjectKey, Status, well_known::BOUND_PORTS_ANNOTATION},
    node::{NodeOptions, parse, ports::port_name, references::Missing, status},
    registry::{DeleteOptions, Preconditions, Registry, Subresource, WriteOptions, until_written},
    runtime::{PodSpec, PodState},
};

/// Why a pod was ended from here.
pub(crate) struct Reason {
    reason: &'static str,
    message: &'static str,
}

/// In kubelet's words.
pub(crate) const OVERDUE: Reason = Reason {
    reason: "DeadlineExceeded",
    message: "Pod was active on the node longer than the specified deadline",
};

/// Removes the object of a pod that has ended.
pub(crate) async fn remove(registry: &Registry, key: &ObjectKey, uid: &str) {
    let preconditions = Preconditions::of_uid(uid);
    let options = DeleteOptions { grace_seconds: Some(0), preconditions, ..<_>::default() };
    let removed = until_written(key, || async {
        match registry.get(key) {
            Ok(pod) if pod.metadata.uid == uid => registry.delete(key, &options).await.map(drop),
            _gone => Ok(()),
        }
    });
    if let Err(status) = removed.await
        && status.code != 404
    {
        tracing::warn!(%key, error = %status, "cannot remove a terminated pod");
    }
}

/// Tells that a pod was ended, when somebody wants to know: there is a reason, or a finalizer keeps it.
pub(crate) async fn tell_end(
    registry: &Registry,
    key: &ObjectKey,
    uid: &str,
    why: Option<&Reason>,
) {
    let options = WriteOptions::default();
    let ended = |pod: &Object| {
        let wanted = why.is_some() || !pod.metadata.finalizers.is_empty();
        if pod.metadata.uid != uid || !wanted {
            return Err(Status::not_found(key));
        }
        let typed: Pod = parse(pod)?;
        let mut document: Value = parse(pod)?;
        document["status"] = json!(status::killed(&typed, Timestamp::now()));
        if let Some(Reason { reason, message }) = why {
            document["status"]["reason"] = (*reason).into();
            document["status"]["message"] = (*message).into();
        }
        Ok(document)
    };
    let told = until_written(key, || registry.modify(key, Subresource::Status, &options, ended));
    if let Err(status) = told.await
        && status.code != 404
    {
        tracing::warn!(%key, error = %status, "cannot write the last status of a pod");
    }
}

/// Tells why a pod does not start, unless it has by now.
pub(crate) async fn write_held(
    registry: &Registry,
    key: &ObjectKey,
    uid: &str,
    node: &NodeOptions,
    missing: &Missing,
) -> Result<(), Status> {
    let held = |pod: &Object| {
        let typed: Pod = parse(pod)?;
        let started = typed.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        if pod.metadata.uid != uid || started {
            return Err(Status::not_found(key));
        }
        let mut document: Value = parse(pod)?;
        document["status"] = json!(status::held(&typed, node, missing, Timestamp::now()));
        Ok(document)
    };
    registry.modify(key, Subresource::Status, &WriteOptions::default(), held).await.map(|_| ())
}

/// Tells how a pod is, once.
pub(crate) async fn write_status(
    registry: &Registry,
    key: &ObjectKey,
    node: &NodeOptions,
    spec: &PodSpec,
    state: &PodState,
) -> Result<(), Status> {
    let options = WriteOptions::default();
    let own = |pod: &Object| {
        if pod.metadata.uid == spec.uid { Ok(()) } else { Err(Status::not_found(key)) }
    };
    let moved: BTreeMap<String, u16> =
        state.moved.iter().map(|moved| (port_name(&moved.port), moved.bound)).collect();
    let wanted = (!moved.is_empty()).then(|| json!(moved).to_string());
    let object = registry.get(key)?;
    if object.metadata.annotations.get(BOUND_PORTS_ANNOTATION) != wanted.as_ref() {
        registry
            .modify(key, Subresource::None, &options, |pod| {
                own(pod)?;
                let mut document: Value = parse(pod)?;
                match &wanted {
                    Some(text) => {
                        document["metadata"]["annotations"][BOUND_PORTS_ANNOTATION] =
                            text.as_str().into();
                    }
                    None => {
                        if let Some(all) = document["metadata"]["annotations"].as_object_mut() {
                            all.remove(BOUND_PORTS_ANNOTATION);
                        }
                    }
                }
                Ok(document)
            })
            .await?;
    }
    registry
        .modify(key, Subresource::Status, &options, |pod| {
            own(pod)?;
            let typed: Pod = parse(pod)?;
            let mut document: Value = parse(pod)?;
            let status = status::running(&typed, spec.ip, node, state, Timestamp::now());
            document["status"] = json!(status);
            Ok(document)
        })
        .await?;
    Ok(())
}
