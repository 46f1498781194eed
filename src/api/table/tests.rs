//! Rows as kube-apiserver prints them.

use std::sync::Arc;

use super::*;
use crate::{
    model::{Kind, ObjectKey, kind, object::to_stored},
    registry::Kinds,
};

const NOW: &str = "2026-01-01T01:00:00Z";

fn rows(include: IncludeObject) -> Rows {
    Rows { version: Version::V1, include }
}

fn object(kind: &Kind, mut document: Value) -> Arc<Object> {
    document["metadata"]["name"] = "x".into();
    document["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let key = ObjectKey::new(kind, if kind.namespaced { "default" } else { "" }, "x");
    Arc::new(Object::from_stored(key, 7, to_stored(kind, document)).unwrap())
}

fn printer(kind: &Kind) -> Printer {
    Printer::of(Kinds::built_in().descriptor(kind).unwrap())
}

#[test]
fn tables_carry_what_was_asked_for() {
    let now = NOW.parse().unwrap();
    let map = object(&kind::CONFIG_MAP, json!({"data": {"a": "1"}}));
    let as_value = |table: &Table<'_>| serde_json::from_slice::<Value>(&table.to_bytes()).unwrap();
    let list = json!({"resourceVersion": "9"});
    let row = printer(&kind::CONFIG_MAP).row_of(&map, now, rows(IncludeObject::Metadata));
    let text = printer(&kind::CONFIG_MAP).head(list, Version::V1)
        + "["
        + str::from_utf8(&row).unwrap()
        + "]}";
    let table: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(table["metadata"]["resourceVersion"], "9");
    assert_eq!(
        table["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name",
               "description": "Name, unique within the namespace for its kind.", "priority": 0})
    );
    let row = &table["rows"][0];
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["resourceVersion"], "7");
    assert_eq!(row["object"].get("data"), None);
    let table = as_value(&printer(&kind::CONFIG_MAP).render_one(
        &map,
        now,
        rows(IncludeObject::Object),
        false,
    ));
    assert_eq!(table.get("columnDefinitions"), Some(&Value::Null));
    assert_eq!(table["rows"][0]["object"]["data"]["a"], "1");
    let table = as_value(&printer(&kind::CONFIG_MAP).render_one(
        &map,
        now,
        rows(IncludeObject::None),
        true,
    ));
    assert_eq!(table["rows"][0]["object"], Value::Null);
    let end = json!({"metadata": {"annotations": {INITIAL_EVENTS_END: "true"}}});
    let end = as_value(&printer(&kind::POD).render_one(
        &object(&kind::POD, end),
        now,
        rows(IncludeObject::None),
        false,
    ));
    assert_eq!(end["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(IncludeObject::parse("x").unwrap_err().code, 400);
    let done = object(&kind::POD, json!({"status": {"phase": "Succeeded"}}));
    let table =
        as_value(&printer(&kind::POD).render_one(&done, now, rows(IncludeObject::None), false));
    assert_eq!(table["rows"][0]["conditions"][0]["reason"], "Succeeded");
}

#[test]
fn scales_have_columns_of_their_own() {
    let now: Timestamp = NOW.parse().unwrap();
    let scale = json!({"kind": "Scale", "metadata": {"name": "web", "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 3}, "status": {"replicas": 2}});
    let as_value = |table: &Table<'_>| serde_json::from_slice::<Value>(&table.to_bytes()).unwrap();
    let old = Rows { version: Version::V1Beta1, include: IncludeObject::Metadata };
    let table = as_value(&of_scale(&scale, now, old));
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1beta1");
    let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]);
    assert_eq!(columns.collect::<Vec<_>>(), ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["web", 3, 2, "60m"]));
    assert_eq!(table["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let table = as_value(&of_scale(&scale, now, rows(IncludeObject::Object)));
    assert_eq!(table["rows"][0]["object"], scale);
}
