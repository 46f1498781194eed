//! What clients look for in the documents.

use std::collections::BTreeSet;

use super::*;
use crate::{
    api::discovery::verbs,
    model::{
        kind::BUILT_IN,
        patch::{PatchType, keys},
    },
};

fn parsed(group: &str, version: &str) -> Value {
    serde_json::from_slice(
        &OpenApi::default().document(&Kinds::built_in(), group, version).unwrap(),
    )
    .unwrap()
}

/// Calls `visit` for every reference in the document.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference);
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves() {
    let openapi = OpenApi::default();
    let mut documents: Vec<Value> =
        vec![serde_json::from_slice(&openapi.v2(&Kinds::built_in())).unwrap()];
    for (group, versions) in group_versions(&Kinds::built_in()) {
        documents.extend(versions.iter().map(|version| parsed(group, version)));
    }
    for document in &documents {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 5);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn the_root_lists_documents_by_hash() {
    let openapi = OpenApi::default();
    let kinds = Kinds::built_in();
    let root = openapi.root(&kinds);
    let url = root["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert_eq!(openapi.root(&kinds), root, "hashes are stable");
    assert!(root["paths"].get("api/v1").is_some());
    assert_eq!(openapi.document(&kinds, "apps", "v9"), None);
}

#[test]
fn patches_of_every_kind_validate_fields() {
    for kind in BUILT_IN.iter().filter(|kind| verbs(kind).contains(&"patch")) {
        let document = parsed(&kind.group, &kind.version);
        let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let item = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .find(|(path, _)| path.ends_with(&format!("/{}/{{name}}", kind.plural)))
            .unwrap()
            .1;
        for method in ["get", "put", "patch"] {
            assert_eq!(item[method]["x-kubernetes-group-version-kind"], own);
        }
        let parameters = item["patch"]["parameters"].as_array().unwrap();
        let has_validation = |p: &Value| p["name"] == "fieldValidation" && p["in"] == "query";
        assert!(parameters.iter().any(has_validation), "{kind:?}");
        let types: Vec<&str> = item["patch"]["requestBody"]["content"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(types, PatchType::accepted(kind));
        let schema = &document["components"]["schemas"][keys::schema(kind)];
        assert_eq!(schema["x-kubernetes-group-version-kind"], json!([own]), "{kind:?}");
        assert!(schema["description"].is_string());
    }
}

#[test]
fn merge_keys_are_told() {
    let document = parsed("", "v1");
    let property = |of: &str, name: &str| {
        document["components"]["schemas"][format!("io.k8s.api.core.v1.{of}")]["properties"][name]
            .clone()
    };
    let ports = property("ServiceSpec", "ports");
    assert_eq!(ports["x-kubernetes-list-type"], "map");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "port");
    assert_eq!(ports["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(property("ServicePort", "protocol")["default"], "TCP");
    assert_eq!(property("ServiceSpec", "selector")["x-kubernetes-map-type"], "atomic");
    assert_eq!(property("PodSpec", "volumes")["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(property("PodSpec", "tolerations")["x-kubernetes-list-type"], "atomic");
    let security = property("PodSpec", "securityContext");
    assert_eq!(
        security["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSecurityContext"}])
    );
    assert!(security["description"].is_string(), "a description beside a reference survives");
}

#[test]
fn every_field_with_a_merge_key_exists() {
    let document: Value =
        serde_json::from_slice(&OpenApi::default().v2(&Kinds::built_in())).unwrap();
    let schemas = document["definitions"].as_object().unwrap();
    let known = schemas.iter().filter_map(|(name, schema)| Some((schema, keys::by_schema(name)?)));
    let mut count = 0;
    for (schema, of) in known {
        count += 1;
        for field in of.fields() {
            assert!(schema["properties"][field.name].is_object(), "{} {}", of.schema, field.name);
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn only_json_is_served() {
    for (accept, expected) in [
        ("", true),
        ("*/*", true),
        ("application/json, text/plain", true),
        (PROTOBUF_V2, false),
        ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf,application/json;q=0.5", true),
    ] {
        assert_eq!(accepts_json(accept), expected, "{accept}");
    }
}

#[test]
fn v2_as_protobuf_says_who_made_it() {
    let document = OpenApi::default().v2_protobuf();
    assert!(document.starts_with(b"\x0a\x032.0\x12"), "{document:?}");
    assert_eq!(usize::from(document[6]), document.len() - 7, "the info is all the rest");
    assert!(document[7..].starts_with(b"\x0a\x0aKubernetes\x12"), "{document:?}");
}
