//! What the PersistentVolume controller and a provisioner do: claims get volumes that exist or are made for them, and volumes
//! are released with their claims. A volume of our provisioner holds nothing: no data is behind it.
//!
//! A claim is bound in steps, each of which is a plan on what the former one left: the two objects name each other, then
//! both say so in their status. Reference: kubernetes/pkg/controller/volume/persistentvolume.

pub(crate) mod claims;
pub(crate) mod matching;

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document, itself,
        protection::claims_of,
        volume_binding::{
            claims::{BIND_COMPLETED, Claim, class_name, selected_node},
            matching::{best, mismatch},
        },
    },
    model::{Object, ObjectKey, kind, quantity},
    registry::{View, default_class},
};

pub(crate) static CLAIMS: Controller = Controller {
    name: "persistentvolume-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: itself },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME), keys: on_volume },
        Trigger { kind: Some(&kind::STORAGE_CLASS), keys: on_class },
        Trigger { kind: Some(&kind::POD), keys: claims_of },
    ],
    plan: plan_claim,
};

pub(crate) static VOLUMES: Controller = Controller {
    name: "persistentvolume-reclaimer",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME), keys: itself },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: on_claim },
    ],
    plan: plan_volume,
};

/// The provisioner whose volumes are made here.
pub(crate) const PROVISIONER: &str = "snowglobe.dev/simulated";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const STORAGE_PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
const BOUND: &str = "Bound";

/// The claim that a volume is for; all that wait, when it is for none.
fn on_volume(view: &View, volume: &Object) -> Vec<ObjectKey> {
    let typed = volume.parse::<PersistentVolume>().unwrap_or_default();
    match typed.spec.unwrap_or_default().claim_ref {
        Some(claim) => {
            let (namespace, name) =
                (claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
            vec![ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, namespace, name)]
        }
        None => unbound(view),
    }
}

fn on_class(view: &View, _class: &Object) -> Vec<ObjectKey> {
    unbound(view)
}

fn unbound(view: &View) -> Vec<ObjectKey> {
    let claims = view.list(&kind::PERSISTENT_VOLUME_CLAIM, None);
    let unbound = claims.filter(|claim| !Claim::of(claim).is_bound());
    unbound.map(|claim| claim.key.clone()).collect()
}

/// The volume that a claim names.
fn on_claim(_: &View, claim: &Object) -> Vec<ObjectKey> {
    let claim = Claim::of(claim);
    let name = claim.facts.spec.volume_name.as_str();
    if name.is_empty() { Vec::new() } else { vec![volume_key(name)] }
}

fn volume_key(name: &str) -> ObjectKey {
    ObjectKey::cluster(&kind::PERSISTENT_VOLUME, name)
}

fn plan_claim(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let claim = Claim::of(object);
    let volume = claim.facts.spec.volume_name.as_str();
    if volume.is_empty() {
        if object.is_terminating() { Vec::new() } else { without_volume(world, &claim) }
    } else {
        with_volume(world, &claim, volume)
    }
    .into()
}

/// The claim names its volume: the volume must name it too.
fn with_volume(world: &World<'_>, claim: &Claim<'_>, name: &str) -> Vec<Step> {
    let object = claim.object;
    let Some(volume) = world.view.get(&volume_key(name)) else {
        let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    };
    let typed = volume.parse::<PersistentVolume>().unwrap_or_default();
    let spec = typed.spec.clone().unwrap_or_default();
    let theirs = spec.claim_ref.as_ref().is_some_and(|reference| !claim.is_named(reference));
    if theirs {
        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
        if claim.is_bound() {
            return lost(claim, "ClaimMisbound", message);
        }
        let message = format!("volume {name:?} already bound to a different claim.");
        return vec![Step::warning(object, "FailedBinding", message)];
    }
    let named = spec.claim_ref.as_ref().is_some_and(|reference| reference.uid.is_some());
    if !claim.is_bound() {
        if let Some(why) = mismatch(claim, &typed) {
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            return vec![Step::warning(object, "VolumeMismatch", message)];
        }
        let mut steps = Vec::new();
        if !named {
            steps.push(reserve(volume, claim));
        }
        let mut completed = document(object);
        completed["metadata"]["annotations"][BIND_COMPLETED] = "yes".into();
        steps.push(Step::Update(object.key.clone(), completed));
        return vec![Step::Chain(steps)];
    }
    let is_ours = is_simulated(volume);
    let mut claimed = document(object);
    if is_ours && let Some(step) = expand(volume, &claimed["spec"]) {
        return vec![step];
    }
    let status = &mut claimed["status"];
    let (before, now) = (status["capacity"].take(), json!(spec.capacity));
    let has_grown = is_ours && !before["storage"].is_null() && before != now;
    status["phase"] = BOUND.into();
    status["accessModes"] = json!(spec.access_modes);
    status["capacity"] = if has_grown || before["storage"].is_null() { now } else { before };
    let mut steps: Vec<Step> = Step::status(object, status).into_iter().collect();
    if has_grown {
        let message = "Resize volume succeeded".to_owned();
        steps.push(Step::note(object, "VolumeResizeSuccessful", message));
    }
    steps
}

/// Whether our provisioner made the volume.
fn is_simulated(volume: &Object) -> bool {
    volume.metadata.annotations.get(PROVISIONED_BY).is_some_and(|name| name == PROVISIONER)
}

/// Gives a volume the size that its claim asks for, if that is more. That the class allows it was checked at admission.
fn expand(volume: &Object, claim_spec: &Value) -> Option<Step> {
    let wanted = &claim_spec["resources"]["requests"]["storage"];
    let mut expanded = document(volume);
    let size = |value: &Value| value.as_str().and_then(quantity::nano);
    let capacity = &mut expanded["spec"]["capacity"]["storage"];
    if size(wanted) <= size(capacity) {
        return None;
    }
    *capacity = wanted.clone();
    Some(Step::Update(volume.key.clone(), expanded))
}

fn lost(claim: &Claim<'_>, reason: &'static str, message: &str) -> Vec<Step> {
    if !claim.is_bound() || claim.facts.status.phase == "Lost" {
        return Vec::new();
    }
    let mut status = document(claim.object)["status"].clone();
    status["phase"] = "Lost".into();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("capacity");
        fields.remove("accessModes");
    }
    let mut steps: Vec<Step> = Step::status(claim.object, &status).into_iter().collect();
    steps.push(Step::warning(claim.object, reason, message.to_owned()));
    steps
}

/// The claim looks for a volume, or gets one made.
fn without_volume(world: &World<'_>, claim: &Claim<'_>) -> Vec<Step> {
    let object = claim.object;
    let Some(class) = class_name(claim) else {
        return match default_class(world.view) {
            Some(class) => {
                let mut classed = document(object);
                classed["spec"]["storageClassName"] = class.name.into();
                vec![Step::Update(object.key.clone(), classed)]
            }
            None => find(world, claim, None),
        };
    };
    find(world, claim, Some(class))
}

fn find(world: &World<'_>, claim: &Claim<'_>, class: Option<&str>) -> Vec<Step> {
    let (view, object) = (world.view, claim.object);
    let consumer = claims::node(view, claim);
    let delayed = claims::is_delayed(view, claim) && consumer.is_none();
    if let Some(volume) = best(view, claim, consumer.as_deref(), delayed) {
        return bind(&volume, claim);
    }
    if delayed {
        let (reason, message) = match claims::waiting_pod(view, claim) {
            None => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_owned(),
            ),
            Some(pod) => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        };
        return vec![Step::note(object, reason, message)];
    }
    match class.filter(|class| !class.is_empty()) {
        Some(class) => provision(view, claim, class),
        None => {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            vec![Step::note(object, "FailedBinding", message.to_owned())]
        }
    }
}

/// Claim and volume name each other.
fn bind(volume: &Arc<Object>, claim: &Claim<'_>) -> Vec<Step> {
    let typed = volume.parse::<PersistentVolume>().unwrap_or_default();
    let reference = typed.spec.and_then(|spec| spec.claim_ref);
    let mut steps = Vec::new();
    if reference.is_none_or(|reference| reference.uid.is_none()) {
        steps.push(reserve(volume, claim));
    }
    let mut bound = document(claim.object);
    bound["spec"]["volumeName"] = volume.key.name.as_str().into();
    let annotations = &mut bound["metadata"]["annotations"];
    annotations[BIND_COMPLETED] = "yes".into();
    annotations[BOUND_BY_CONTROLLER] = "yes".into();
    steps.push(Step::Update(claim.object.key.clone(), bound));
    vec![Step::Chain(steps)]
}

/// The volume names the claim.
fn reserve(volume: &Object, claim: &Claim<'_>) -> Step {
    let mut reserved = document(volume);
    if reserved["spec"]["claimRef"].is_null() {
        reserved["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
    }
    reserved["spec"]["claimRef"] = claim.reference();
    Step::Update(volume.key.clone(), reserved)
}

fn provision(view: &View, claim: &Claim<'_>, class: &str) -> Vec<Step> {
    let object = claim.object;
    let Some(class) = view.get(&ObjectKey::cluster(&kind::STORAGE_CLASS, class)) else {
        let message = format!("storageclass.storage.k8s.io {class:?} not found");
        return vec![Step::warning(object, "ProvisioningFailed", message)];
    };
    let class = document(class);
    let provisioner = class["provisioner"].as_str().unwrap_or_default();
    if provisioner == NO_PROVISIONER {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return vec![Step::note(object, "FailedBinding", message.to_owned())];
    }
    let mut steps = Vec::new();
    let said = STORAGE_PROVISIONER
        .iter()
        .all(|name| object.metadata.annotations.get(*name).is_some_and(|own| own == provisioner));
    if !said {
        let mut asked = document(object);
        for name in STORAGE_PROVISIONER {
            asked["metadata"]["annotations"][name] = provisioner.into();
        }
        steps.push(Step::Update(object.key.clone(), asked));
    }
    if provisioner != PROVISIONER {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
             the system administrator. If volume creation is delayed, please verify that the provisioner is running \
             and correctly registered."
        );
        steps.push(Step::note(object, "ExternalProvisioning", message));
        return vec![Step::Chain(steps)];
    }
    let (name, volume) = made(claim, &class);
    steps.push(Step::Create(kind::PERSISTENT_VOLUME.clone(), volume));
    let message = format!("Successfully provisioned volume {name}");
    steps.push(Step::note(object, "ProvisioningSucceeded", message));
    vec![Step::Chain(steps)]
}

/// The volume of a claim, and its name.
fn made(claim: &Claim<'_>, class: &Value) -> (String, Value) {
    let wanted = &document(claim.object)["spec"];
    let name = format!("pvc-{}", claim.object.metadata.uid);
    let document = json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": wanted["accessModes"],
            "capacity": {"storage": wanted["resources"]["requests"]["storage"]},
            "claimRef": claim.reference(),
            "hostPath": {"path": format!("/var/lib/snowglobe/volumes/{name}"), "type": "DirectoryOrCreate"},
            "mountOptions": class["mountOptions"],
            "persistentVolumeReclaimPolicy": class["reclaimPolicy"],
            "storageClassName": class["metadata"]["name"],
            "volumeMode": wanted["volumeMode"],
        },
    });
    (name, document)
}

fn plan_volume(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(volume) = world.view.get(key) else { return Plan::nothing() };
    let typed = volume.parse::<PersistentVolume>().unwrap_or_default();
    let Some(reference) = typed.spec.clone().unwrap_or_default().claim_ref else {
        return phase(volume, "Available").into();
    };
    if reference.uid.is_none() {
        return phase(volume, "Available").into();
    }
    let key = ObjectKey::new(
        &kind::PERSISTENT_VOLUME_CLAIM,
        reference.namespace.as_deref().unwrap_or_default(),
        reference.name.as_deref().unwrap_or_default(),
    );
    let claim = world
        .view
        .get(&key)
        .map(|claim| Claim::of(claim))
        .filter(|claim| claim.is_named(&reference));
    match claim {
        Some(claim) if claim.facts.spec.volume_name == volume.key.name => {
            phase(volume, BOUND).into()
        }
        // The claim is about to name it.
        Some(claim) if claim.facts.spec.volume_name.is_empty() => Plan::nothing(),
        _ => released(volume, &typed).into(),
    }
}

fn phase(volume: &Object, phase: &str) -> Vec<Step> {
    let mut status = document(volume)["status"].clone();
    status["phase"] = phase.into();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("message");
        fields.remove("reason");
    }
    Step::status(volume, &status).into_iter().collect()
}

/// The claim is gone: what the reclaim policy says.
fn released(volume: &Object, typed: &PersistentVolume) -> Vec<Step> {
    let now = typed.status.as_ref().and_then(|status| status.phase.as_deref());
    if !matches!(now, Some("Released" | "Failed")) {
        return phase(volume, "Released");
    }
    let spec = typed.spec.clone().unwrap_or_default();
    let policy = spec.persistent_volume_reclaim_policy.unwrap_or_default();
    let provisioner = volume.metadata.annotations.get(PROVISIONED_BY).map(String::as_str);
    match (policy.as_str(), provisioner) {
        _ if volume.is_terminating() => Vec::new(),
        ("Delete", Some(PROVISIONER)) => vec![Step::delete(volume)],
        ("Delete", None) if now != Some("Failed") => {
            let message = format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.key.name
            );
            let mut status = document(volume)["status"].clone();
            status["phase"] = "Failed".into();
            status["message"] = message.as_str().into();
            let mut steps: Vec<Step> = Step::status(volume, &status).into_iter().collect();
            steps.push(Step::warning(volume, "VolumeFailedDelete", message));
            steps
        }
        ("Recycle", _) => {
            let mut free = document(volume);
            free["spec"].as_object_mut().and_then(|spec| spec.remove("claimRef"));
            let recycled = Step::note(volume, "VolumeRecycled", "Volume recycled".to_owned());
            vec![Step::Chain(vec![Step::Update(volume.key.clone(), free), recycled])]
        }
        _ => Vec::new(),
    }
}

/// The step that tells on which node the first pod of a claim will be.
pub(crate) fn select_node(claim: &Object, node: &str) -> Option<Step> {
    if selected_node(claim) == Some(node) {
        return None;
    }
    let mut selected = document(claim);
    selected["metadata"]["annotations"][claims::SELECTED_NODE] = node.into();
    Some(Step::Update(claim.key.clone(), selected))
}

/// Whether volumes of a class come only from an administrator.
pub(crate) fn is_static(view: &View, class: &str) -> bool {
    let class = view.get(&ObjectKey::cluster(&kind::STORAGE_CLASS, class));
    class.is_none_or(|class| document(class)["provisioner"] == NO_PROVISIONER)
}

#[cfg(test)]
mod tests;
