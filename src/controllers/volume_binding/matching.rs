//! Which existing volume a claim gets: the smallest of those that fit.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, PersistentVolume, PersistentVolumeClaim};

use crate::{
    controllers::{
        scheduler::node::selects,
        volume_binding::claims::{Claim, class_name},
    },
    model::{LabelSelector, Object, ObjectKey, kind, quantity},
    registry::{CLASS_ANNOTATION, View},
};

const STORAGE: &str = "storage";

/// The volume for a claim. With `reserved_only`, one that names the claim; else also one that is available, and that the
/// node (if there is one) can reach.
pub(crate) fn best(
    view: &View,
    claim: &Claim<'_>,
    node: Option<&str>,
    reserved_only: bool,
) -> Option<Arc<Object>> {
    let node = node.and_then(|name| view.get(&ObjectKey::cluster(&kind::NODE, name)));
    let mut smallest: Option<(i128, Arc<Object>)> = None;
    for (object, volume) in fitting(view, claim) {
        let spec = volume.spec.unwrap_or_default();
        if spec.claim_ref.is_some() {
            return Some(object);
        }
        let reachable = match (node, required(&spec)) {
            (Some(node), Some(required)) => {
                selects(required, &node.key.name, &node.metadata.labels)
            }
            _ => true,
        };
        let size = capacity(&spec).unwrap_or(0);
        if !reserved_only && reachable && smallest.as_ref().is_none_or(|(least, _)| size < *least) {
            smallest = Some((size, object));
        }
    }
    smallest.map(|(_, object)| object)
}

/// The volumes that a claim could have: first those that name it, then those that are available.
pub(crate) fn fitting(view: &View, claim: &Claim<'_>) -> Vec<(Arc<Object>, PersistentVolume)> {
    let (mut reserved, mut available) = (Vec::new(), Vec::new());
    let wanted = claim.object.parse::<PersistentVolumeClaim>().unwrap_or_default();
    let wanted = wanted.spec.unwrap_or_default();
    let selector = wanted.selector.as_ref().map(LabelSelector::from_object);
    let class = class_name(claim).unwrap_or_default();
    for object in view.list(&kind::PERSISTENT_VOLUME, None).filter(|v| !v.is_terminating()) {
        let Ok(volume) = object.parse::<PersistentVolume>() else { continue };
        if mismatch_of_spec(&wanted, &volume).is_some() {
            continue;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        if let Some(reference) = &spec.claim_ref {
            if claim.is_named(reference) {
                reserved.push((object.clone(), volume));
            }
            continue;
        }
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let selected = match &selector {
            None => true,
            Some(Ok(selector)) => selector.matches(&object.metadata.labels),
            Some(Err(_)) => false,
        };
        if phase == Some("Available") && selected && class_of(object, &spec) == class {
            available.push((object.clone(), volume));
        }
    }
    reserved.extend(available);
    reserved
}

fn class_of<'a>(volume: &'a Object, spec: &'a core::PersistentVolumeSpec) -> &'a str {
    let annotation = volume.metadata.annotations.get(CLASS_ANNOTATION);
    annotation.or(spec.storage_class_name.as_ref()).map(String::as_str).unwrap_or_default()
}

/// Where a volume can be used; `None` for everywhere.
pub(crate) fn required(spec: &core::PersistentVolumeSpec) -> Option<&core::NodeSelector> {
    spec.node_affinity.as_ref()?.required.as_ref()
}

/// Why a volume that the claim names is not for it.
pub(crate) fn mismatch(claim: &Claim<'_>, volume: &PersistentVolume) -> Option<&'static str> {
    let wanted = claim.object.parse::<PersistentVolumeClaim>().unwrap_or_default();
    mismatch_of_spec(&wanted.spec.unwrap_or_default(), volume)
}

fn mismatch_of_spec(
    wanted: &core::PersistentVolumeClaimSpec,
    volume: &PersistentVolume,
) -> Option<&'static str> {
    let spec = volume.spec.clone().unwrap_or_default();
    let size = wanted.resources.as_ref().and_then(|own| own.requests.as_ref()?.get(STORAGE));
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if capacity(&spec) < size.and_then(|size| quantity::nano(&size.0)) {
        Some("requested PV is too small")
    } else if spec.volume_mode != wanted.volume_mode {
        Some("incompatible volumeMode")
    } else if !wanted.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn capacity(spec: &core::PersistentVolumeSpec) -> Option<i128> {
    quantity::nano(&spec.capacity.as_ref()?.get(STORAGE)?.0)
}
