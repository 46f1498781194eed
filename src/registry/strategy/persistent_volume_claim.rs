//! PersistentVolumeClaims: the default class, the bounds of LimitRanges, and a spec that stays.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use crate::{
    model::{Cause, Object, kind, quantity},
    registry::{
        Subresource, View,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill_text, items, text},
            limit_ranger,
            metadata::NameForm,
            storage_class::{self, default_class},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::PERSISTENT_VOLUME_CLAIM,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether it has a volume."),
        Column::text("Volume", "Volume that it has."),
        Column::text("Capacity", "Size of the volume."),
        Column::text("Access Modes", "Ways in which the volume can be mounted."),
        Column::text("StorageClass", "Class of storage."),
        Column::text("VolumeAttributesClass", "Class of attributes."),
        Column::AGE,
        Column::text("VolumeMode", "File system or block device.").wide(),
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<PersistentVolumeClaim> =
    Rules { default, admit: Some(admit), validate, refuse, ..Rules::STORED };

/// Holds a claim while a pod uses it.
pub(crate) const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The class, before it had a field.
pub(crate) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Access modes in the order and by the letters in which they are shown.
const MODE_LETTERS: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];
const ONE_POD: &str = "ReadWriteOncePod";
const STORAGE: &str = "storage";
const REQUEST: &str = "spec.resources[storage]";
const SEALED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// Holds an object as long as it is in use (admission plugin StorageObjectInUseProtection).
pub(super) fn protect(metadata: &mut ObjectMeta, finalizer: &str) {
    let finalizers = metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
}

fn default(
    new: &mut PersistentVolumeClaim,
    old: Option<&PersistentVolumeClaim>,
    _context: &Context<'_>,
) {
    if old.is_none() {
        protect(&mut new.metadata, CLAIM_PROTECTION);
    }
    let spec = new.spec.get_or_insert_default();
    fill_text(&mut spec.volume_mode, "Filesystem");
    fill_text(&mut new.status.get_or_insert_default().phase, "Pending");
}

/// A new claim that names no class gets the default one (admission plugin DefaultStorageClass).
fn admit(
    new: &mut PersistentVolumeClaim,
    old: Option<&PersistentVolumeClaim>,
    context: &Context<'_>,
) {
    if old.is_some() || has_class(new) {
        return;
    }
    if let Some(class) = default_class(context.view) {
        new.spec.get_or_insert_default().storage_class_name = Some(class.name);
    }
}

/// Whether it says which class it wants; the empty one is one too.
fn has_class(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    annotations.is_some_and(|own| own.contains_key(CLASS_ANNOTATION))
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

/// As admission plugins LimitRanger and PersistentVolumeClaimResize. What is being deleted may change as it must.
fn refuse(
    new: &PersistentVolumeClaim,
    old: Option<&PersistentVolumeClaim>,
    context: &Context<'_>,
) -> Option<String> {
    let is_status = context.subresource == Subresource::Status;
    if is_status || old.is_some_and(|old| old.metadata.deletion_timestamp.is_some()) {
        return None;
    }
    let too_large = || limit_ranger::refuse_claim(new, context.view);
    old.and_then(|old| refuse_expansion(new, old, context.view)).or_else(too_large)
}

/// Only a claim that has a volume may ask for more, and only if its class says so.
fn refuse_expansion(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    view: &View,
) -> Option<String> {
    let wanted = |claim: &PersistentVolumeClaim| {
        claim.spec.as_ref().and_then(size).and_then(|size| quantity::nano(&size.0))
    };
    if wanted(new) <= wanted(old) {
        return None;
    }
    if old.status.as_ref().is_none_or(|status| text(&status.phase) != "Bound") {
        return Some("Only bound persistent volume claims can be expanded".to_owned());
    }
    let class = old.spec.as_ref().map(|spec| text(&spec.storage_class_name)).unwrap_or_default();
    if !storage_class::allows_expansion(view, class) {
        let rule = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
                    must support resize";
        return Some(rule.to_owned());
    }
    None
}

fn validate(
    new: &PersistentVolumeClaim,
    old: Option<&PersistentVolumeClaim>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        return causes;
    }
    let Some(spec) = &new.spec else { return causes };
    access_modes(
        &mut causes,
        "spec.accessModes",
        items(&spec.access_modes),
        "at least 1 access mode is required",
    );
    if let Some(selector) = &spec.selector {
        checks::selector(&mut causes, "spec.selector", selector);
    }
    match size(spec).map(|size| quantity::nano(&size.0)) {
        None => causes.push(Cause::required(REQUEST, "")),
        Some(Some(1..)) => {}
        Some(parsed) => {
            let given = size(spec).map(|size| size.0.clone()).unwrap_or_default();
            let rule = if parsed.is_none() { NO_QUANTITY } else { "must be greater than zero" };
            causes.push(Cause::invalid(REQUEST, given, rule));
        }
    }
    class_and_mode(&mut causes, &spec.storage_class_name, &spec.volume_mode);
    if let Some(old) = old {
        validate_update(&mut causes, new, old);
    }
    causes
}

/// What Go's quantity parser says.
pub(super) const NO_QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The access modes of a claim or volume.
pub(super) fn access_modes(causes: &mut Vec<Cause>, path: &str, modes: &[String], missing: &str) {
    if modes.is_empty() {
        causes.push(Cause::required(path, missing));
    }
    for mode in modes {
        checks::one_of(causes, path, mode, ACCESS_MODES);
    }
    let is_other = |mode: &String| mode != ONE_POD && ACCESS_MODES.contains(&mode.as_str());
    if modes.iter().any(|mode| mode == ONE_POD) && modes.iter().any(is_other) {
        let rule = "may not use ReadWriteOncePod with other access modes";
        causes.push(Cause::forbidden(path, rule));
    }
}

/// The storage class and the volume mode of a claim or volume.
pub(super) fn class_and_mode(
    causes: &mut Vec<Cause>,
    class: &Option<String>,
    mode: &Option<String>,
) {
    if let Some(class) = class.as_ref().filter(|class| !class.is_empty()) {
        checks::name(causes, "spec.storageClassName", class, NameForm::Subdomain);
    }
    checks::one_of(causes, "spec.volumeMode", text(mode), &["Block", "Filesystem"]);
}

fn requests(spec: &PersistentVolumeClaimSpec) -> Option<&BTreeMap<String, Quantity>> {
    spec.resources.as_ref()?.requests.as_ref()
}

fn size(spec: &PersistentVolumeClaimSpec) -> Option<&Quantity> {
    requests(spec)?.get(STORAGE)
}

/// A claim keeps its spec; a volume may be given once, and a bound claim may grow.
fn validate_update(
    causes: &mut Vec<Cause>,
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
) {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else { return };
    let mut allowed = before.clone();
    if text(&before.volume_name).is_empty() {
        allowed.volume_name.clone_from(&spec.volume_name);
        // A default class may come later than the claim.
        if !has_class(old) {
            allowed.storage_class_name.clone_from(&spec.storage_class_name);
        }
    }
    let status = new.status.clone().unwrap_or_default();
    if text(&status.phase) == "Bound" {
        allowed.volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
        if let (Some(wanted), Some(requests)) = (
            size(spec),
            allowed.resources.as_mut().and_then(|resources| resources.requests.as_mut()),
        ) {
            requests.insert(STORAGE.to_owned(), wanted.clone());
        }
    }
    if *spec != allowed {
        causes.push(Cause::forbidden("spec", SEALED));
    }
    let parse = |quantity: Option<&Quantity>| quantity.and_then(|size| quantity::nano(&size.0));
    let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get(STORAGE));
    let wanted = parse(size(spec));
    if wanted < parse(size(before)) && wanted <= Some(parse(capacity).unwrap_or(0)) {
        let rule = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", rule));
    }
    // The path is Kubernetes' own.
    checks::immutable(causes, "volumeMode", &spec.volume_mode, &before.volume_mode);
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let claim: PersistentVolumeClaim = object.parse()?;
    let (spec, status) = (claim.spec.unwrap_or_default(), claim.status.unwrap_or_default());
    let volume = spec.volume_name.unwrap_or_default();
    // What the claim asks for tells nothing about what it has.
    let (mut size, mut modes) = (String::new(), String::new());
    if !volume.is_empty() {
        let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get(STORAGE));
        size = capacity.map_or_else(|| "0".to_owned(), |size| size.0.clone());
        modes = printed_modes(status.access_modes.as_ref());
    }
    let mut row = row::plain(
        object,
        now,
        [
            printed_phase(object, status.phase),
            volume,
            size,
            modes,
            printed_class(object, spec.storage_class_name),
            or_unset(spec.volume_attributes_class_name),
        ],
    );
    row.push(or_unset(spec.volume_mode).into());
    Ok(row)
}

pub(super) fn printed_modes(modes: Option<&Vec<String>>) -> String {
    let has = |mode: &str| modes.into_iter().flatten().any(|given| given == mode);
    row::joined(MODE_LETTERS.iter().filter(|(mode, _)| has(mode)).map(|(_, letters)| letters))
}

pub(super) fn printed_phase(object: &Object, phase: Option<String>) -> String {
    if object.is_terminating() {
        return "Terminating".to_owned();
    }
    phase.unwrap_or_default()
}

/// The annotation of old, else the field.
pub(super) fn printed_class(object: &Object, class: Option<String>) -> String {
    object.metadata.annotations.get(CLASS_ANNOTATION).cloned().or(class).unwrap_or_default()
}

pub(super) fn or_unset(text: Option<String>) -> String {
    text.unwrap_or_else(|| row::UNSET.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::strategy::checks::testing::{admitted, merged};

    fn given(
        change: &Value,
        old: Option<&PersistentVolumeClaim>,
    ) -> (Vec<String>, PersistentVolumeClaim) {
        let base = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "a"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        admitted(&RULES, merged(base, change), old)
    }

    #[test]
    fn defaults_and_rules() {
        let (faults, claim) = given(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(claim.status.unwrap().phase.as_deref(), Some("Pending"));
        assert_eq!(claim.spec.unwrap().volume_mode.as_deref(), Some("Filesystem"));
        for (change, expected) in [
            (
                json!({"spec": {"accessModes": null, "resources": null}}),
                vec![
                    "spec.accessModes: Required value: at least 1 access mode is required",
                    "spec.resources[storage]: Required value",
                ],
            ),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "Often"]}}),
                vec![
                    "spec.accessModes: Unsupported value: \"Often\": supported values: \"ReadOnlyMany\", \
                     \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                ],
            ),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}}),
                vec![
                    "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                ],
            ),
            (
                json!({"spec": {"resources": {"requests": {"storage": "0"}}, "volumeMode": "Tape"}}),
                vec![
                    "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
                    "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
                ],
            ),
        ] {
            assert_eq!(given(&change, None).0, expected);
        }
    }

    #[test]
    fn a_claim_keeps_its_spec() {
        let (_, old) = given(&json!({}), None);
        let bound = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        let mut larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let sealed = format!("spec: Forbidden: {SEALED}");
        assert_eq!(given(&json!({"spec": {"volumeName": "pv"}}), Some(&old)).0, [""; 0]);
        assert_eq!(given(&larger, Some(&old)).0, [sealed.as_str()]);
        larger["status"] = bound.clone();
        assert_eq!(given(&larger, Some(&old)).0, [""; 0]);
        let smaller =
            json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}, "status": bound});
        assert_eq!(
            given(&smaller, Some(&old)).0,
            [
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
            ]
        );
        let other = json!({"spec": {"storageClassName": "fast"}});
        let (faults, classed) = given(&other, Some(&old));
        assert_eq!(faults, [""; 0], "a class may come later");
        let other = json!({"spec": {"storageClassName": "slow"}});
        assert_eq!(given(&other, Some(&classed)).0, [sealed.as_str()]);
        let block = json!({"spec": {"volumeMode": "Block"}});
        let kept = "volumeMode: Invalid value: \"Block\": field is immutable";
        assert_eq!(given(&block, Some(&old)).0, [sealed.as_str(), kept]);
    }
}
