//! Which objects a controller manages: controller references, adoption of orphans that match the selector, release of
//! objects that no longer match.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    controllers::{Plan, Step, document},
    model::{Kind, LabelSelector, Object, ObjectKey},
    registry::View,
};

/// The objects that an owner manages.
pub(crate) struct Claimed<'a> {
    pub(crate) objects: Vec<&'a Arc<Object>>,
    /// Adoptions and releases that are due. A plan does these first, and is made anew afterwards.
    pub(crate) steps: Vec<Step>,
}

/// `spec.selector` of a workload.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Selecting {
    spec: SelectingSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SelectingSpec {
    selector: meta::LabelSelector,
}

/// The `ownerReferences` entry of a manager.
pub(crate) fn reference(owner: &Object) -> Value {
    json!({"apiVersion": owner.key.kind.api_version(), "kind": owner.key.kind.kind, "name": owner.key.name,
           "uid": owner.metadata.uid, "controller": true, "blockOwnerDeletion": true})
}

/// What `owner` manages among the objects of a kind in its namespace.
pub(crate) fn claim<'a>(
    view: &'a View,
    kind: &Kind,
    owner: &Object,
    selector: &LabelSelector,
) -> Claimed<'a> {
    let mut claimed = Claimed { objects: Vec::new(), steps: Vec::new() };
    let (namespace, uid) = (owner.key.namespace.as_str(), owner.metadata.uid.as_str());
    for object in view.controlled_by(kind, namespace, uid) {
        if selector.matches(&object.metadata.labels) {
            claimed.objects.push(object);
        } else if !owner.is_terminating() {
            claimed.steps.push(without_owner(object, uid));
        }
    }
    if !owner.is_terminating() {
        let orphans = view.matching_orphans(kind, namespace, selector);
        let orphans = orphans.filter(|orphan| !orphan.is_terminating());
        claimed.steps.extend(orphans.map(|orphan| with_owner(orphan, owner)));
    }
    claimed
}

/// The selector of a workload, and the objects that it manages by it.
///
/// # Errors
/// What to plan instead: nothing for a workload without a selector, else the adoptions and releases that are due.
pub(crate) fn selected<'a>(
    view: &'a View,
    kind: &Kind,
    owner: &Object,
    selector: &meta::LabelSelector,
) -> Result<(LabelSelector, Vec<&'a Arc<Object>>), Plan> {
    let selector = LabelSelector::from_object(selector).ok();
    let selector = selector.filter(|selector| !selector.is_empty()).ok_or_else(Plan::nothing)?;
    let Claimed { objects, steps } = claim(view, kind, owner, &selector);
    if steps.is_empty() { Ok((selector, objects)) } else { Err(Plan::all(steps)) }
}

/// For triggers: the manager of an object, or all workloads of the kind that would adopt it.
pub(crate) fn managers(view: &View, kind: &Kind, object: &Object) -> Vec<ObjectKey> {
    let namespace = object.key.namespace.as_str();
    match object.controller() {
        Some(owner) if owner.kind == kind.kind && owner.api_version == kind.api_version() => {
            vec![ObjectKey::new(kind, namespace, owner.name.as_str())]
        }
        Some(_) => Vec::new(),
        None => view
            .list(kind, Some(namespace))
            .filter(|workload| selects(workload, object))
            .map(|workload| workload.key.clone())
            .collect(),
    }
}

fn selects(workload: &Object, object: &Object) -> bool {
    let digest = workload.digest::<Selecting>();
    LabelSelector::from_object(&digest.spec.selector)
        .is_ok_and(|selector| !selector.is_empty() && selector.matches(&object.metadata.labels))
}

/// The object that an owner reference means: in the same namespace, or cluster-scoped. `None` when its kind is not
/// served here.
pub(crate) fn owner_key(
    view: &View,
    object: &Object,
    owner: &crate::model::OwnerReference,
) -> Option<ObjectKey> {
    let kind = view.kinds().by_api_version(&owner.api_version, &owner.kind)?.stored();
    let namespace = if kind.namespaced { object.key.namespace.as_str() } else { "" };
    Some(ObjectKey::new(kind, namespace, owner.name.as_str()))
}

fn with_owner(object: &Object, owner: &Object) -> Step {
    let mut document = document(object);
    match document["metadata"]["ownerReferences"].as_array_mut() {
        Some(owners) => {
            owners.retain(|other| other["uid"] != owner.metadata.uid.as_str());
            owners.push(reference(owner));
        }
        None => document["metadata"]["ownerReferences"] = json!([reference(owner)]),
    }
    Step::Update(object.key.clone(), document)
}

/// Takes an owner out of an object.
pub(crate) fn without_owner(object: &Object, uid: &str) -> Step {
    let mut document = document(object);
    if let Some(owners) = document["metadata"]["ownerReferences"].as_array_mut() {
        owners.retain(|owner| owner["uid"] != uid);
    }
    Step::Update(object.key.clone(), document)
}
