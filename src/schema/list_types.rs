//! Duplicates in lists of the types set and map. Source: apiextensions-apiserver's `schema/listtype`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    model::Cause,
    schema::{
        go_text,
        path::Path,
        structural::{ListType, Schema},
    },
};

/// The items of sets and maps that are there more than once, each told once.
pub fn check(value: &Value, schema: &Schema, path: &Path<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_value(value, schema, path, &mut causes);
    causes
}

/// The same on an update: none if the old object has such a list already.
pub fn check_update(new: &Value, old: &Value, schema: &Schema, path: &Path<'_>) -> Vec<Cause> {
    let causes = check(new, schema, path);
    if !causes.is_empty() && !check(old, schema, path).is_empty() { Vec::new() } else { causes }
}

fn check_value(value: &Value, schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(property) = schema.properties.find(name) {
                    check_value(value, property, &path.child(name), causes);
                } else if let Some(below) = schema.additional_properties.schema() {
                    check_value(value, below, &path.key(name), causes);
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type {
                Some(ListType::Set) => {
                    check_unique(items, &Value::eq, &Value::clone, path, causes);
                }
                Some(ListType::Map) => check_map(items, schema, path, causes),
                Some(ListType::Atomic | ListType::Other(_)) | None => {}
            }
            let Some(below) = &schema.items else { return };
            for (at, item) in items.iter().enumerate() {
                check_value(item, below, &path.index(at), causes);
            }
        }
        _ => {}
    }
}

fn check_map(items: &[Value], schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    for (at, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let value = go_text::value(item);
            let detail = "must be an object for an array of list-type map";
            causes.push(Cause {
                reason: "FieldValueInvalid",
                field: path.index(at).to_string(),
                message: format!("Invalid value: {value}: {detail}"),
            });
            return;
        }
    }
    let shown = |item: &Value| {
        let key = |name: &str| Some((name.to_owned(), item.get(name)?.clone()));
        Value::Object(schema.list_map_keys.iter().filter_map(|name| key(name)).collect())
    };
    let are_same = |one: &Value, other: &Value| {
        schema.list_map_keys.iter().all(|key| one.get(&**key) == other.get(&**key))
    };
    check_unique(items, &are_same, &shown, path, causes);
}

/// Lists of at most so many items are searched item by item, which takes no memory.
const SHORT: usize = 16;

/// Tells the second of equal items.
fn check_unique(
    items: &[Value],
    are_same: &dyn Fn(&Value, &Value) -> bool,
    shown: &dyn Fn(&Value) -> Value,
    path: &Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let mut tell = |at: usize| {
        let value = go_text::value(&shown(&items[at]));
        causes.push(Cause {
            reason: "FieldValueDuplicate",
            field: path.index(at).to_string(),
            message: format!("Duplicate value: {value}"),
        });
    };
    if items.len() <= SHORT {
        for (at, item) in items.iter().enumerate() {
            if items[..at].iter().filter(|before| are_same(before, item)).count() == 1 {
                tell(at);
            }
        }
        return;
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        let count = seen.entry(go_text::json(&shown(item))).or_default();
        *count = count.saturating_add(1);
        if *count == 2 {
            tell(at);
        }
    }
}
