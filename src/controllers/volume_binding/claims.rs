//! What is read of a claim: its class, whether it is bound, and which pods use it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    controllers::{pod::Pod, protection::claims_of},
    model::{Object, ObjectKey, kind},
    registry::{CLASS_ANNOTATION, View},
};

/// The node for which a claim with delayed binding gets its volume.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Claim and volume name each other.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// A claim with the digest of its document.
pub(crate) struct Claim<'a> {
    pub(crate) object: &'a Object,
    pub(crate) facts: Arc<Facts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) volume_name: String,
    pub(crate) access_modes: Vec<String>,
    storage_class_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) phase: String,
}

impl<'a> Claim<'a> {
    pub(crate) fn of(object: &'a Object) -> Self {
        Self { object, facts: object.digest::<Facts>() }
    }

    /// Whether it and its volume name each other.
    pub(crate) fn is_bound(&self) -> bool {
        !self.facts.spec.volume_name.is_empty()
            && self.object.metadata.annotations.contains_key(BIND_COMPLETED)
    }

    /// Whether a volume's reference means it. One without uid means the claim of that name.
    pub(crate) fn is_named(&self, reference: &ObjectReference) -> bool {
        let (key, uid) = (&self.object.key, &self.object.metadata.uid);
        reference.namespace.as_deref() == Some(&*key.namespace)
            && reference.name.as_deref() == Some(&*key.name)
            && reference.uid.as_ref().is_none_or(|own| own == uid)
    }

    /// How a volume names it.
    pub(crate) fn reference(&self) -> Value {
        let key = &self.object.key;
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.namespace, "name": key.name,
            "uid": self.object.metadata.uid, "resourceVersion": self.object.revision.to_string()})
    }
}

/// The class that a claim names; the empty one means volumes without class.
pub(crate) fn class_name<'a>(claim: &'a Claim<'_>) -> Option<&'a str> {
    let annotation = claim.object.metadata.annotations.get(CLASS_ANNOTATION);
    annotation.or(claim.facts.spec.storage_class_name.as_ref()).map(String::as_str)
}

/// The node that the scheduler chose.
pub(crate) fn selected_node(claim: &Object) -> Option<&str> {
    claim.metadata.annotations.get(SELECTED_NODE).map(String::as_str)
}

/// Whether the claim's class binds when a pod comes.
pub(crate) fn is_delayed(view: &View, claim: &Claim<'_>) -> bool {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Class {
        volume_binding_mode: String,
    }
    let class = class_name(claim).unwrap_or_default();
    let class = view.get(&ObjectKey::cluster(&kind::STORAGE_CLASS, class));
    class.is_some_and(|class| class.digest::<Class>().volume_binding_mode == "WaitForFirstConsumer")
}

/// Where the first pod of a claim is or will be.
pub(crate) fn node(view: &View, claim: &Claim<'_>) -> Option<String> {
    let chosen = selected_node(claim.object).map(str::to_owned);
    chosen.or_else(|| {
        let placed = pods(view, claim).find(|pod| !pod.facts.spec.node_name.is_empty());
        placed.map(|pod| pod.facts.spec.node_name.clone())
    })
}

/// A pod that uses the claim and has no node.
pub(crate) fn waiting_pod(view: &View, claim: &Claim<'_>) -> Option<String> {
    pods(view, claim).next().map(|pod| pod.object.key.name.clone())
}

fn pods<'a>(view: &'a View, claim: &Claim<'_>) -> impl Iterator<Item = Pod<'a>> + use<'a> {
    let key = claim.object.key.clone();
    let pods = view.list(&kind::POD, Some(&key.namespace)).cloned().collect::<Vec<_>>();
    let names: Vec<ObjectKey> = pods
        .iter()
        .filter(|pod| claims_of(view, pod).contains(&key))
        .map(|pod| pod.key.clone())
        .collect();
    names.into_iter().filter_map(|key| view.get(&key)).map(Pod::of).filter(Pod::is_active)
}
