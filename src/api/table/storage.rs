//! The cells of kinds about storage, quotas and pod templates, read from their documents.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::table::row::{NONE, joined, labels, or, plain},
    model::Object,
};

const UNSET: &str = "<unset>";
/// The annotation of the default class, and its older form.
const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const DEFAULT_ATTRIBUTES: [&str; 2] = [
    "volumeattributesclass.kubernetes.io/is-default-class",
    "volumeattributesclass.beta.kubernetes.io/is-default-class",
];

/// All cells of a row.
pub(super) fn cells(object: &Object, document: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &document["spec"];
    match &*object.key.kind.kind {
        "StorageClass" => {
            let mode = text(&document["volumeBindingMode"], "Immediate");
            let policy = text(&document["reclaimPolicy"], "Delete");
            let provisioner = text(&document["provisioner"], "");
            let cells: [Value; 4] = [
                provisioner.into(),
                policy.into(),
                mode.into(),
                flag(&document["allowVolumeExpansion"], false),
            ];
            named_class(object, plain(object, now, cells), DEFAULT_CLASS)
        }
        "VolumeAttributesClass" => {
            let row = plain(object, now, [text(&document["driverName"], "")]);
            named_class(object, row, DEFAULT_ATTRIBUTES)
        }
        "CSIDriver" => plain(object, now, csi_driver(spec)),
        "CSINode" => plain(object, now, [spec["drivers"].as_array().map_or(0, Vec::len)]),
        "CSIStorageCapacity" => vec![
            object.key.name.as_str().into(),
            text(&document["storageClassName"], "").into(),
            text(&document["capacity"], UNSET).into(),
        ],
        "VolumeAttachment" => {
            let cells: [Value; 4] = [
                text(&spec["attacher"], "").into(),
                text(&spec["source"]["persistentVolumeName"], "").into(),
                text(&spec["nodeName"], "").into(),
                flag(&document["status"]["attached"], false),
            ];
            plain(object, now, cells)
        }
        "ResourceQuota" => plain(object, now, quota(&document["status"])),
        _ => pod_template(object, &document["template"]),
    }
}

fn text(field: &Value, instead: &str) -> String {
    or(field.as_str().unwrap_or_default().to_owned(), instead)
}

fn flag(field: &Value, instead: bool) -> Value {
    field.as_bool().unwrap_or(instead).into()
}

/// The row with the mark of a default class.
fn named_class(object: &Object, mut row: Vec<Value>, annotations: [&str; 2]) -> Vec<Value> {
    let own = &object.metadata.annotations;
    let is_default =
        annotations.iter().any(|name| own.get(*name).is_some_and(|value| value == "true"));
    if let (true, Some(name)) = (is_default, row.first_mut()) {
        *name = format!("{} (default)", object.key.name).into();
    }
    row
}

fn csi_driver(spec: &Value) -> [Value; 6] {
    let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
    let requests = list("tokenRequests");
    let audiences = requests.iter().map(|request| request["audience"].as_str().unwrap_or_default());
    let audiences = if requests.is_empty() { UNSET.to_owned() } else { joined(audiences) };
    let modes = list("volumeLifecycleModes");
    let modes = joined(modes.iter().filter_map(Value::as_str));
    [
        flag(&spec["attachRequired"], true),
        flag(&spec["podInfoOnMount"], false),
        flag(&spec["storageCapacity"], false),
        audiences.into(),
        flag(&spec["requiresRepublish"], false),
        or(modes, NONE).into(),
    ]
}

/// What is used of requests, and of limits: `pods: 1/10, requests.cpu: 2/4`.
fn quota(status: &Value) -> [String; 2] {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<_> = status["hard"].as_object().into_iter().flatten().collect();
    hard.sort_by(|(one, _), (other, _)| -> Ordering { one.cmp(other) });
    for (name, amount) in hard {
        let used = text(&status["used"][name], "0");
        let cell = format!("{name}: {used}/{}", text(amount, "0"));
        let is_limit = name.split('.').next() == Some("limits");
        if is_limit { limits.push(cell) } else { requests.push(cell) }
    }
    [requests.join(", "), limits.join(", ")]
}

/// There is no age.
fn pod_template(object: &Object, template: &Value) -> Vec<Value> {
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let each = |field: &str| {
        joined(containers.iter().map(|container| container[field].as_str().unwrap_or_default()))
    };
    let own = serde_json::from_value(template["metadata"]["labels"].clone()).ok();
    vec![
        object.key.name.as_str().into(),
        each("name").into(),
        each("image").into(),
        labels(own.as_ref()).into(),
    ]
}
