//! StorageClasses and VolumeAttributesClasses: parameters that a driver understands, and that never change.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Cause, Object, ObjectKey, kind},
    registry::{
        View,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, checks,
            document::DocumentRules,
            json::{bytes, items, stored_only, text},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::STORAGE_CLASS,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text("ReclaimPolicy", "What happens to its volumes when their claims go."),
        Column::text("VolumeBindingMode", "When claims get their volumes."),
        Column::text("AllowVolumeExpansion", "Whether its volumes can grow."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

pub(super) static ATTRIBUTES: BuiltIn = BuiltIn {
    kind: &kind::VOLUME_ATTRIBUTES_CLASS,
    rules: &ATTRIBUTES_RULES,
    columns: &[
        Column::NAME,
        Column::text("DriverName", "Driver that knows the attributes."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        let row = row::plain(object, now, [text(&document, "driverName")]);
        Ok(marked(row, object, DEFAULT_ATTRIBUTES))
    },
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules { default, validate, ..DocumentRules::STORED };

static ATTRIBUTES_RULES: DocumentRules = DocumentRules {
    validate: validate_attributes,
    warnings: |new, old| stored_only(new, old, "changes no volumes"),
    ..DocumentRules::STORED
};

/// The annotation of the class that claims without a class get, and its older form.
pub(crate) const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const DEFAULT_ATTRIBUTES: [&str; 2] = [
    "volumeattributesclass.kubernetes.io/is-default-class",
    "volumeattributesclass.beta.kubernetes.io/is-default-class",
];
const PARAMETERS_MAX: usize = 512;
/// Bytes of all keys and values.
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

/// The class of claims that have none: of all default ones, the newest (admission plugin DefaultStorageClass).
pub(crate) fn default_class(view: &View) -> Option<ObjectKey> {
    let classes = view.list(&kind::STORAGE_CLASS, None);
    let classes = classes.filter(|class| is_marked(&class.metadata.annotations, DEFAULT_CLASS));
    let newest = classes.max_by(|one, other| {
        let (one_created, other_created) =
            (&one.metadata.creation_timestamp, &other.metadata.creation_timestamp);
        one_created.cmp(other_created).then_with(|| other.key.name.cmp(&one.key.name))
    });
    newest.map(|class| class.key.clone())
}

/// Whether claims of a class may grow.
pub(super) fn allows_expansion(view: &View, class: &str) -> bool {
    let class = view.get(&ObjectKey::cluster(&kind::STORAGE_CLASS, class));
    let allowed = |class: Value| class["allowVolumeExpansion"] == true;
    class.and_then(|class| class.parse::<Value>().ok()).is_some_and(allowed)
}

fn default(new: &mut Value, _old: Option<&Value>, _context: &Context<'_>) {
    for (field, value) in [("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")] {
        if new[field].is_null() {
            new[field] = value.into();
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            unchanged(&mut causes, field, new, old);
        }
        let field = "volumeBindingMode";
        checks::immutable(&mut causes, field, &new[field], &old[field]);
        return causes;
    }
    driver(&mut causes, "provisioner", text(new, "provisioner"));
    parameters(&mut causes, new);
    if let Some(policy) = new["reclaimPolicy"].as_str().filter(|policy| !policy.is_empty()) {
        checks::one_of(&mut causes, "reclaimPolicy", policy, &["Delete", "Retain"]);
    }
    let mode = text(new, "volumeBindingMode");
    checks::one_of(&mut causes, "volumeBindingMode", mode, &["Immediate", "WaitForFirstConsumer"]);
    topologies(&mut causes, items(new, "allowedTopologies"));
    causes
}

fn unchanged(causes: &mut Vec<Cause>, field: &str, new: &Value, old: &Value) {
    if new[field] != old[field] {
        causes.push(Cause::forbidden(field, &format!("updates to {field} are forbidden.")));
    }
}

/// The name of a driver.
fn driver(causes: &mut Vec<Cause>, path: &str, name: &str) {
    if name.is_empty() {
        causes.push(Cause::required(path, ""));
    } else {
        checks::qualified_name(causes, path, &name.to_lowercase());
    }
}

fn parameters(causes: &mut Vec<Cause>, of: &Value) {
    const PATH: &str = "parameters";
    let Some(parameters) = of[PATH].as_object() else { return };
    if parameters.len() > PARAMETERS_MAX {
        causes.push(Cause::too_long(PATH, PARAMETERS_MAX));
        return;
    }
    if parameters.contains_key("") {
        causes.push(Cause::invalid(PATH, "", "field can not be empty."));
    }
    if bytes(parameters) > PARAMETER_BYTES_MAX {
        causes.push(Cause::too_long(PATH, PARAMETER_BYTES_MAX));
    }
}

fn topologies(causes: &mut Vec<Cause>, terms: &[Value]) {
    let mut seen: Vec<&Value> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let path = format!("allowedTopologies[{i}].matchLabelExpressions");
        let expressions = &term["matchLabelExpressions"];
        let mut keys = BTreeSet::new();
        for (j, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            let key = text(expression, "key");
            topology_values(causes, &format!("{path}[{j}].values"), items(expression, "values"));
            checks::qualified_name(causes, &format!("{path}[{j}].key"), key);
            if !keys.insert(key) {
                causes.push(Cause::duplicate(format!("{path}[{j}].key"), key));
            }
        }
        if seen.contains(&expressions) {
            causes.push(Cause::duplicate(path, ""));
        }
        seen.push(expressions);
    }
}

fn topology_values(causes: &mut Vec<Cause>, path: &str, values: &[Value]) {
    if values.is_empty() {
        causes.push(Cause::required(path, ""));
    }
    for (i, value) in values.iter().enumerate() {
        if values[..i].contains(value) {
            causes.push(Cause::duplicate(format!("{path}[{i}]"), value.clone()));
        }
    }
}

fn validate_attributes(new: &Value, old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    driver(&mut causes, "driverName", text(new, "driverName"));
    if new["parameters"].as_object().is_none_or(serde_json::Map::is_empty) {
        let rule = "must contain at least one key/value pair";
        causes.push(Cause::required("parameters", rule));
    }
    parameters(&mut causes, new);
    if let Some(old) = old {
        unchanged(&mut causes, "driverName", new, old);
        unchanged(&mut causes, "parameters", new, old);
    }
    causes
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let class: Value = object.parse()?;
    let cells: [Value; 4] = [
        text(&class, "provisioner").into(),
        row::or(text(&class, "reclaimPolicy"), "Delete").into(),
        row::or(text(&class, "volumeBindingMode"), "Immediate").into(),
        class["allowVolumeExpansion"].as_bool().unwrap_or_default().into(),
    ];
    Ok(marked(row::plain(object, now, cells), object, DEFAULT_CLASS))
}

/// The row with the mark of a default class.
fn marked(mut row: Vec<Value>, object: &Object, annotations: [&str; 2]) -> Vec<Value> {
    if let (true, Some(name)) =
        (is_marked(&object.metadata.annotations, annotations), row.first_mut())
    {
        *name = format!("{} (default)", object.key.name).into();
    }
    row
}

fn is_marked(own: &BTreeMap<String, String>, annotations: [&str; 2]) -> bool {
    annotations.iter().any(|name| own.get(*name).is_some_and(|own| own == "true"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::{checks::testing::merged, json::testing::admitted};

    fn class(change: &Value) -> Value {
        let base = json!({"metadata": {"name": "a"}, "provisioner": "example.com/Disk"});
        merged(base, change)
    }

    #[test]
    fn storage_classes() {
        let (faults, old) = admitted(&RULES, &kind::STORAGE_CLASS, class(&json!({})), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(old["reclaimPolicy"], "Delete");
        assert_eq!(old["volumeBindingMode"], "Immediate");
        let term = json!({"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}]});
        for (change, expected) in [
            (json!({"provisioner": ""}), vec!["provisioner: Required value"]),
            (
                json!({"parameters": {"": "x"}}),
                vec!["parameters: Invalid value: \"\": field can not be empty."],
            ),
            (
                json!({"parameters": {"a": "x".repeat(PARAMETER_BYTES_MAX)}}),
                vec!["parameters: Too long: may not be more than 262144 bytes"],
            ),
            (
                json!({"reclaimPolicy": "Recycle", "volumeBindingMode": "Late"}),
                vec![
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                    "volumeBindingMode: Unsupported value: \"Late\": supported values: \"Immediate\", \
                 \"WaitForFirstConsumer\"",
                ],
            ),
            (
                json!({"allowedTopologies": [term, {"matchLabelExpressions": [{"key": "zone"}]}]}),
                vec![
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
                    "allowedTopologies[1].matchLabelExpressions[0].values: Required value",
                ],
            ),
        ] {
            assert_eq!(admitted(&RULES, &kind::STORAGE_CLASS, class(&change), None).0, expected);
        }
        let change = json!({"parameters": {"a": "b"}, "provisioner": "other", "reclaimPolicy": "Retain",
            "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true});
        assert_eq!(
            admitted(&RULES, &kind::STORAGE_CLASS, class(&change), Some(&old)).0,
            [
                "parameters: Forbidden: updates to parameters are forbidden.",
                "provisioner: Forbidden: updates to provisioner are forbidden.",
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ]
        );
    }

    #[test]
    fn attributes_classes() {
        let class = |change: &Value| {
            let base =
                json!({"metadata": {"name": "a"}, "driverName": "d", "parameters": {"a": "b"}});
            merged(base, change)
        };
        let (faults, old) =
            admitted(&ATTRIBUTES_RULES, &kind::VOLUME_ATTRIBUTES_CLASS, class(&json!({})), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(
            admitted(
                &ATTRIBUTES_RULES,
                &kind::VOLUME_ATTRIBUTES_CLASS,
                class(&json!({"driverName": "", "parameters": null})),
                None
            )
            .0,
            [
                "driverName: Required value",
                "parameters: Required value: must contain at least one key/value pair",
            ]
        );
        let change = json!({"driverName": "e", "parameters": {"a": "c"}});
        assert_eq!(
            admitted(&ATTRIBUTES_RULES, &kind::VOLUME_ATTRIBUTES_CLASS, class(&change), Some(&old))
                .0,
            [
                "driverName: Forbidden: updates to driverName are forbidden.",
                "parameters: Forbidden: updates to parameters are forbidden.",
            ]
        );
    }
}
