//! CSIDrivers, CSINodes and CSIStorageCapacities: what storage drivers say about themselves.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    model::{Cause, kind, quantity},
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, checks,
            document::DocumentRules,
            json::{items, text, texts},
            metadata::NameForm,
        },
    },
};

pub(super) static DRIVER: BuiltIn = BuiltIn {
    kind: &kind::CSI_DRIVER,
    rules: &DRIVER_RULES,
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired", "Whether its volumes must be attached to nodes."),
        Column::boolean("PodInfoOnMount", "Whether it wants to know the pod that mounts a volume."),
        Column::boolean("StorageCapacity", "Whether pods go where it has room."),
        Column::text("TokenRequests", "Audiences of the tokens that it wants."),
        Column::boolean(
            "RequiresRepublish",
            "Whether it wants volumes to be published again and again.",
        ),
        Column::text("Modes", "Ways in which its volumes live."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, printed_driver(&document["spec"])))
    },
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static NODE: BuiltIn = BuiltIn {
    kind: &kind::CSI_NODE,
    rules: &NODE_RULES,
    columns: &[
        Column::NAME,
        Column::number("Drivers", "Storage drivers of the node."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, [items(&document["spec"], "drivers").len()]))
    },
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static CAPACITY: BuiltIn = BuiltIn {
    kind: &kind::CSI_STORAGE_CAPACITY,
    rules: &CAPACITY_RULES,
    columns: &[
        Column::NAME,
        Column::text("StorageClassName", "Class of storage that has the capacity."),
        Column::text("Capacity", "Storage that is left."),
    ],
    cells: |object, _| {
        let document: Value = object.parse()?;
        Ok(vec![
            object.key.name.as_str().into(),
            text(&document, "storageClassName").into(),
            row::or(text(&document, "capacity"), row::UNSET).into(),
        ])
    },
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

static DRIVER_RULES: DocumentRules =
    DocumentRules { default: default_driver, validate: validate_driver, ..DocumentRules::STORED };
static NODE_RULES: DocumentRules =
    DocumentRules { validate: validate_node, ..DocumentRules::STORED };
static CAPACITY_RULES: DocumentRules =
    DocumentRules { validate: validate_capacity, ..DocumentRules::STORED };

const DRIVER_NAME_MAX: usize = 63;
const NODE_ID_MAX: usize = 256;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
const UPDATE_SECONDS_MIN: i64 = 10;

fn default_driver(new: &mut Value, old: Option<&Value>, _context: &Context<'_>) {
    // Kubernetes counts the changes of the spec, but does not begin with 1.
    if old.is_none()
        && let Some(metadata) = new["metadata"].as_object_mut()
    {
        metadata.remove("generation");
    }
    for (field, value) in [
        ("attachRequired", json!(true)),
        ("podInfoOnMount", json!(false)),
        ("storageCapacity", json!(false)),
        ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
        ("volumeLifecycleModes", json!(["Persistent"])),
        ("requiresRepublish", json!(false)),
        ("seLinuxMount", json!(false)),
    ] {
        if new["spec"][field].is_null() {
            new["spec"][field] = value;
        }
    }
}

fn validate_driver(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &new["spec"];
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    checks::one_of(&mut causes, "spec.fsGroupPolicy", text(spec, "fsGroupPolicy"), &policies);
    token_requests(&mut causes, items(spec, "tokenRequests"));
    for mode in texts(spec, "volumeLifecycleModes") {
        let known = ["Ephemeral", "Persistent"];
        checks::one_of(&mut causes, "spec.volumeLifecycleModes", mode, &known);
    }
    let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
    if let Some(seconds) = period.as_i64().filter(|seconds| *seconds < UPDATE_SECONDS_MIN) {
        let field = "spec.nodeAllocatableUpdatePeriodSeconds";
        causes.push(Cause::invalid(field, seconds, "must be greater than or equal to 10 seconds"));
    }
    if let Some(before) = old.map(|old| &old["spec"]) {
        for (path, field) in [
            // The path is Kubernetes' own.
            ("spec.attachedRequired", "attachRequired"),
            ("spec.volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            checks::immutable(&mut causes, path, &spec[field], &before[field]);
        }
    }
    causes
}

fn token_requests(causes: &mut Vec<Cause>, requests: &[Value]) {
    let mut audiences = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let path = format!("spec.tokenRequests[{i}]");
        let audience = text(request, "audience");
        if !audiences.insert(audience) {
            causes.push(Cause::duplicate(format!("{path}.audience"), audience));
            continue;
        }
        let Some(seconds) = request["expirationSeconds"].as_i64() else { continue };
        let rule = match seconds {
            ..TOKEN_SECONDS_MIN => "may not specify a duration less than 10 minutes",
            TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        causes.push(Cause::invalid(format!("{path}.expirationSeconds"), seconds, rule));
    }
}

/// The name of a storage driver.
pub(super) fn driver_name(causes: &mut Vec<Cause>, path: &str, name: &str) {
    if name.is_empty() {
        causes.push(Cause::required(path, ""));
        return;
    }
    if name.len() > DRIVER_NAME_MAX {
        causes.push(Cause::too_long(path, DRIVER_NAME_MAX));
    }
    checks::name(causes, path, &name.to_lowercase(), NameForm::Subdomain);
}

fn validate_node(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let drivers = items(&new["spec"], "drivers");
    let mut names = BTreeSet::new();
    for (i, driver) in drivers.iter().enumerate() {
        let path = format!("spec.drivers[{i}]");
        let name = text(driver, "name");
        driver_name(&mut causes, &format!("{path}.name"), name);
        if !names.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), name));
        }
        node_driver(&mut causes, &path, driver);
    }
    let before = old.map(|old| items(&old["spec"], "drivers")).unwrap_or_default();
    let fixed = |driver: &Value| ["nodeID", "topologyKeys"].map(|field| driver[field].clone());
    let changed = drivers.iter().any(|driver| {
        let mut same = before.iter().filter(|before| before["name"] == driver["name"]);
        same.any(|before| fixed(before) != fixed(driver))
    });
    if changed {
        let drivers = new["spec"]["drivers"].clone();
        causes.push(Cause::invalid("spec.drivers", drivers, checks::IMMUTABLE));
    }
    causes
}

fn node_driver(causes: &mut Vec<Cause>, path: &str, driver: &Value) {
    let id = text(driver, "nodeID");
    let field = format!("{path}.nodeID");
    match id.len() {
        0 => causes.push(Cause::required(field, "")),
        1..=NODE_ID_MAX => {}
        _ => causes.push(Cause::invalid(field, id, "must be 256 characters or less")),
    }
    let count = driver["allocatable"]["count"].as_i64();
    checks::not_negative(causes, &format!("{path}.allocatable.count"), count);
    let mut keys = BTreeSet::new();
    for key in texts(driver, "topologyKeys") {
        if key.is_empty() {
            causes.push(Cause::required(path, ""));
        }
        if !keys.insert(key) {
            causes.push(Cause::duplicate(path, key));
        }
        checks::qualified_name(causes, path, key);
    }
}

fn validate_capacity(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Ok(selector) = serde_json::from_value(new["nodeTopology"].clone()) {
        checks::selector(&mut causes, "nodeTopology", &selector);
    }
    let class = text(new, "storageClassName");
    checks::name(&mut causes, "storageClassName", class, NameForm::Subdomain);
    if let Some(capacity) = new["capacity"].as_str()
        && quantity::nano(capacity).is_some_and(|amount| amount < 0)
    {
        causes.push(Cause::invalid("capacity", capacity, "must be greater than or equal to 0"));
    }
    if let Some(old) = old {
        for field in ["nodeTopology", "storageClassName"] {
            checks::immutable(&mut causes, field, &new[field], &old[field]);
        }
    }
    causes
}

fn printed_driver(spec: &Value) -> [Value; 6] {
    let flag = |field: &str, default: bool| spec[field].as_bool().unwrap_or(default).into();
    let requests = items(spec, "tokenRequests");
    let audiences = requests.iter().map(|request| text(request, "audience"));
    let audiences =
        if requests.is_empty() { row::UNSET.to_owned() } else { row::joined(audiences) };
    let modes = row::joined(texts(spec, "volumeLifecycleModes"));
    [
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        audiences.into(),
        flag("requiresRepublish", false),
        row::or(modes, row::NONE).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::strategy::json::testing::admitted;

    #[test]
    fn drivers() {
        let driver =
            |spec: Value| json!({"metadata": {"name": "d", "generation": 1}, "spec": spec});
        let (faults, old) = admitted(&DRIVER_RULES, &kind::CSI_DRIVER, driver(json!({})), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(old["metadata"]["generation"], Value::Null);
        assert_eq!(
            old["spec"],
            json!({"attachRequired": true, "podInfoOnMount": false,
            "storageCapacity": false, "fsGroupPolicy": "ReadWriteOnceWithFSType",
            "volumeLifecycleModes": ["Persistent"], "requiresRepublish": false, "seLinuxMount": false})
        );
        let spec = json!({"attachRequired": false, "fsGroupPolicy": "All", "volumeLifecycleModes": ["Long"],
            "nodeAllocatableUpdatePeriodSeconds": 9, "tokenRequests": [
                {"audience": "a", "expirationSeconds": 1}, {"audience": "a"},
                {"audience": "b", "expirationSeconds": 4_294_967_297_i64}]});
        assert_eq!(
            admitted(&DRIVER_RULES, &kind::CSI_DRIVER, driver(spec), Some(&old)).0,
            [
                "spec.fsGroupPolicy: Unsupported value: \"All\": supported values: \"File\", \"None\", \
             \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger \
             than 2^32 seconds",
                "spec.volumeLifecycleModes: Unsupported value: \"Long\": supported values: \"Ephemeral\", \"Persistent\"",
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
                "spec.attachedRequired: Invalid value: false: field is immutable",
                "spec.volumeLifecycleModes: Invalid value: [\"Long\"]: field is immutable",
            ]
        );
    }

    #[test]
    fn nodes() {
        let node =
            |drivers: Value| json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}});
        let (faults, old) = admitted(
            &NODE_RULES,
            &kind::CSI_NODE,
            node(json!([{"name": "a", "nodeID": "1"}])),
            None,
        );
        assert_eq!(faults, [""; 0]);
        let grown = node(json!([{"name": "a", "nodeID": "1", "allocatable": {"count": 2}}]));
        assert_eq!(admitted(&NODE_RULES, &kind::CSI_NODE, grown, Some(&old)).0, [""; 0]);
        let drivers = json!([{"name": "a", "nodeID": ""},
            {"name": "a", "nodeID": "x", "topologyKeys": ["k", "k"], "allocatable": {"count": -1}}]);
        let (faults, _) = admitted(&NODE_RULES, &kind::CSI_NODE, node(drivers), Some(&old));
        assert_eq!(
            faults[..4],
            [
                "spec.drivers[0].nodeID: Required value",
                "spec.drivers[1].name: Duplicate value: \"a\"",
                "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                "spec.drivers[1]: Duplicate value: \"k\"",
            ]
        );
        assert!(faults[4].ends_with("field is immutable"), "{faults:?}");
    }

    #[test]
    fn capacities() {
        let capacity = |class: &str, size: &str| json!({"metadata": {"name": "c"}, "storageClassName": class, "capacity": size});
        let (faults, old) =
            admitted(&CAPACITY_RULES, &kind::CSI_STORAGE_CAPACITY, capacity("fast", "1Gi"), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(
            admitted(
                &CAPACITY_RULES,
                &kind::CSI_STORAGE_CAPACITY,
                capacity("slow", "-1"),
                Some(&old)
            )
            .0,
            [
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
                "storageClassName: Invalid value: \"slow\": field is immutable",
            ]
        );
    }
}
