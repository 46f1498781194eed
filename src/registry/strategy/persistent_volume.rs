//! PersistentVolumes: exactly one place where the data is. Nothing is mounted.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Map, Value};

use crate::{
    model::{Cause, Object, kind, quantity},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, checks,
            fields::{fill_text, items, text},
            persistent_volume_claim::{
                NO_QUANTITY, access_modes, class_and_mode, or_unset, printed_class, printed_modes,
                printed_phase, protect,
            },
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::PERSISTENT_VOLUME,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Capacity", "Size."),
        Column::text("Access Modes", "Ways in which it can be mounted."),
        Column::text("Reclaim Policy", "What happens when its claim goes."),
        Column::text("Status", "Whether it is in use."),
        Column::text("Claim", "Claim that has it."),
        Column::text("StorageClass", "Class of storage."),
        Column::text("VolumeAttributesClass", "Class of attributes."),
        Column::text("Reason", "Why it is in this status."),
        Column::AGE,
        Column::text("VolumeMode", "File system or block device.").wide(),
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<PersistentVolume> = Rules { default, validate, ..Rules::STORED };

/// Holds a volume while a claim has it.
pub(crate) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// The fields of a spec that are not where the data is.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const STORAGE: &str = "storage";
const SOURCE: &str = "spec.persistentvolumesource";

fn default(new: &mut PersistentVolume, old: Option<&PersistentVolume>, context: &Context<'_>) {
    if old.is_none() {
        protect(&mut new.metadata, VOLUME_PROTECTION);
    }
    let spec = new.spec.get_or_insert_default();
    fill_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
    fill_text(&mut spec.volume_mode, "Filesystem");
    if let Some(host) = &mut spec.host_path {
        host.type_.get_or_insert_default();
    }
    let status = new.status.get_or_insert_default();
    fill_text(&mut status.phase, "Pending");
    let before = old.and_then(|old| old.status.as_ref()).and_then(|status| status.phase.as_ref());
    if before != status.phase.as_ref() {
        status.last_phase_transition_time = Some(Time(context.now));
    }
}

fn validate(
    new: &PersistentVolume,
    old: Option<&PersistentVolume>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        return causes;
    }
    let Some(spec) = &new.spec else { return causes };
    access_modes(&mut causes, "spec.accessModes", items(&spec.access_modes), "");
    validate_capacity(&mut causes, spec);
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = text(&spec.persistent_volume_reclaim_policy);
    checks::one_of(&mut causes, "spec.persistentVolumeReclaimPolicy", policy, &policies);
    let names: Vec<String> = sources(spec).keys().cloned().collect();
    match names.as_slice() {
        [] => causes.push(Cause::required("spec", "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => causes.extend(more.iter().map(|name| {
            Cause::forbidden(format!("spec.{name}"), "may not specify more than 1 volume type")
        })),
    }
    class_and_mode(&mut causes, &spec.storage_class_name, &spec.volume_mode);
    if let Some(before) = old.and_then(|old| old.spec.as_ref()) {
        if sources(spec) != sources(before) {
            causes.push(Cause::forbidden(SOURCE, &format!("{SOURCE} is immutable after creation")));
        }
        checks::immutable(&mut causes, "spec.volumeMode", &spec.volume_mode, &before.volume_mode);
        if before.node_affinity.is_some() {
            let (now, before) = (&spec.node_affinity, &before.node_affinity);
            checks::immutable(&mut causes, "spec.nodeAffinity", now, before);
        }
    }
    causes
}

fn validate_capacity(causes: &mut Vec<Cause>, spec: &PersistentVolumeSpec) {
    const CAPACITY: &str = "spec.capacity";
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        causes.push(Cause::required(CAPACITY, ""));
    } else if capacity.len() > 1 || !capacity.contains_key(STORAGE) {
        causes.push(Cause::not_supported(CAPACITY, checks::shown(&capacity), &[STORAGE]));
    }
    for (resource, amount) in &capacity {
        let rule = match quantity::nano(&amount.0) {
            Some(1..) => continue,
            Some(_) => "must be greater than zero",
            None => NO_QUANTITY,
        };
        causes.push(Cause::invalid(format!("{CAPACITY}[{resource}]"), amount.0.as_str(), rule));
    }
}

/// Where the data is: exactly one field.
fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    let Value::Object(mut fields) = checks::shown(spec) else { return Map::new() };
    fields.retain(|name, _| !NOT_SOURCES.contains(&name.as_str()));
    fields
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let volume: PersistentVolume = object.parse()?;
    let (spec, status) = (volume.spec.unwrap_or_default(), volume.status.unwrap_or_default());
    let size = spec.capacity.as_ref().and_then(|capacity| capacity.get(STORAGE));
    let claim = spec.claim_ref.as_ref().map(|claim| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}/{}", part(&claim.namespace), part(&claim.name))
    });
    let mut row = row::plain(
        object,
        now,
        [
            size.map_or_else(|| "0".to_owned(), |size| size.0.clone()),
            printed_modes(spec.access_modes.as_ref()),
            spec.persistent_volume_reclaim_policy.unwrap_or_default(),
            printed_phase(object, status.phase),
            claim.unwrap_or_default(),
            printed_class(object, spec.storage_class_name),
            or_unset(spec.volume_attributes_class_name),
            status.reason.unwrap_or_default(),
        ],
    );
    row.push(or_unset(spec.volume_mode).into());
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::checks::testing::{admitted, merged};

    fn admit(change: &Value, old: Option<&PersistentVolume>) -> (Vec<String>, PersistentVolume) {
        let base = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "a"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}}});
        admitted(&RULES, merged(base, change), old)
    }

    #[test]
    fn defaults_and_rules() {
        let (faults, volume) = admit(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        let shown = checks::shown(&volume);
        assert_eq!(shown["status"]["phase"], "Pending");
        assert_eq!(shown["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        for (change, expected) in [
            (
                json!({"spec": {"capacity": null, "hostPath": null}}),
                vec![
                    "spec.capacity: Required value",
                    "spec: Required value: must specify a volume type",
                ],
            ),
            (
                json!({"spec": {"nfs": {"path": "/", "server": "s"}, "persistentVolumeReclaimPolicy": "Burn"}}),
                vec![
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \
                     \"Recycle\", \"Retain\"",
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                ],
            ),
        ] {
            assert_eq!(admit(&change, None).0, expected);
        }
        let moved = json!({"spec": {"hostPath": {"path": "/other"}}});
        assert_eq!(
            admit(&moved, Some(&volume)).0,
            [
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"
            ]
        );
    }
}
