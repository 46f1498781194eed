use serde_json::{Value, json};

use super::{blocks_rules, decode, default, validate, validate_status_update, validate_update};
use crate::{
    model::Cause,
    schema::{Path, Schema},
};

fn schema(document: &Value) -> Schema {
    Schema::parse(document, &Path::root("schema")).unwrap()
}

/// A root with one field `a`.
fn with(field: &Value) -> Schema {
    schema(&json!({"type": "object", "properties": {"a": field}}))
}

fn lines(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn no_metadata(_: &Value) -> Vec<Cause> {
    Vec::new()
}

/// A field, a value for it, what is kept, and the paths of what is dropped.
#[track_caller]
fn prunes(rows: &[(Value, Value, Value, &[&str])]) {
    for (field, given, kept, dropped) in rows {
        let mut document =
            json!({"apiVersion": "v1", "kind": "A", "metadata": {"any": 1}, "a": given});
        let unknown = decode(&mut document, &with(field)).unwrap();
        assert_eq!(document["a"], *kept, "{field} {given}");
        assert_eq!(unknown, *dropped, "{field} {given}");
        assert_eq!(document["metadata"], json!({"any": 1}));
        // Once is enough.
        let again = document.clone();
        assert_eq!(decode(&mut document, &with(field)), Ok(Vec::new()));
        assert_eq!(document, again);
    }
}

#[test]
fn what_is_not_specified_is_dropped() {
    prunes(&[
        (json!({"type": "object"}), json!({"b": 1}), json!({}), &["a.b"]),
        (
            json!({"type": "object", "properties": {"b": {"type": "integer"}}}),
            json!({"b": 1, "c": 2}),
            json!({"b": 1}),
            &["a.c"],
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            json!({"b": 1}),
            json!({"b": 1}),
            &[],
        ),
        // What additional properties may be is not said: their own fields are unknown.
        (
            json!({"type": "object", "additionalProperties": true}),
            json!({"b": {"c": 1}}),
            json!({"b": {}}),
            &["a.b.c"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "string"}}}}),
            json!({"b": {"c": "x", "d": 1}}),
            json!({"b": {"c": "x"}}),
            &["a.b.d"],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}}),
            json!([{"b": "x"}, {"c": 1, "b": "y"}]),
            json!([{"b": "x"}, {"b": "y"}]),
            &["a[1].c"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!([{"b": 1}]),
            json!([{}]),
            &["a[0].b"],
        ),
        (json!({"type": "string"}), json!({"b": {"c": 1}}), json!({}), &["a.b"]),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            json!({"b": {"c": [1]}}),
            json!({"b": {"c": [1]}}),
            &[],
        ),
    ]);
    let mut document = json!({"b": 1});
    assert_eq!(decode(&mut document, &with(&json!({}))), Ok(vec!["b".to_owned()]));
}

#[test]
fn what_is_kept_though_it_is_unknown() {
    let embedded = json!({
        "type": "object", "x-kubernetes-embedded-resource": true,
        "properties": {"spec": {"type": "object", "properties": {"b": {"type": "string"}}}},
    });
    prunes(&[
        // What is specified below is pruned again.
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "object", "properties": {"c": {"type": "string"}}}}}),
            json!({"b": {"c": "x", "d": 1}, "e": {"f": 1}}),
            json!({"b": {"c": "x"}, "e": {"f": 1}}),
            &["a.b.d"],
        ),
        // Items of a list that keeps unknown fields keep them as well.
        (
            json!({"type": "array", "x-kubernetes-preserve-unknown-fields": true, "items": {"type": "object", "properties": {"b": {"type": "object"}}}}),
            json!([{"b": {"c": 1}, "d": 2}]),
            json!([{"b": {}, "d": 2}]),
            &["a[0].b.c"],
        ),
        // apiVersion, kind and metadata of an embedded resource stay, its unknown metadata goes.
        (
            embedded.clone(),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "snow": 1}, "spec": {"b": "x", "c": 1}, "d": 1}),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"b": "x"}}),
            &["a.d", "a.spec.c", "a.metadata.snow"],
        ),
        (
            embedded,
            json!({"metadata": {"creationTimestamp": null, "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u", "snow": 1}]}}),
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"}]}}),
            &["a.metadata.ownerReferences[0].snow"],
        ),
    ]);
}

#[test]
fn metadata_of_embedded_resources_is_read() {
    let embedded = with(
        &json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
    );
    for (given, expected) in [
        (json!({"kind": 1}), "a.kind: Invalid value: 1: must be a string"),
        (
            json!({"metadata": {"name": 1}}),
            "a.metadata: Invalid value: {\"name\":1}: invalid type: integer `1`, expected a string",
        ),
        (
            json!({"metadata": {"labels": {"x": 1}}}),
            "a.metadata: Invalid value: {\"labels\":{\"x\":1}}: invalid type: integer `1`, expected a string",
        ),
    ] {
        let cause = decode(&mut json!({"a": given}), &embedded).unwrap_err();
        assert_eq!(lines(&[cause]), [expected]);
    }
    for (given, expected) in [
        (json!({"apiVersion": "v1", "kind": "Pod"}), &[][..]),
        (json!({}), &["a.apiVersion: Required value", "a.kind: Required value"]),
        (
            json!({"apiVersion": "", "kind": "Pod"}),
            &["a.apiVersion: Invalid value: \"\": must not be empty"],
        ),
        (
            json!({"apiVersion": "a/b/c", "kind": 5}),
            &[
                "a.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "a.kind: Invalid value: 5: must be a string",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "-"}}),
            &["a.metadata.name: Invalid value: \"-\": no name"],
        ),
    ] {
        let check = |document: &Value| match document["metadata"]["name"].as_str() {
            Some("-") => vec![Cause::invalid("metadata.name", "-", "no name")],
            _ => Vec::new(),
        };
        assert_eq!(lines(&validate(&json!({"a": given}), &embedded, &check)), expected, "{given}");
    }
}

#[test]
fn defaults_fill_in() {
    let text = json!({"type": "string", "default": "x"});
    let inner = json!({"type": "object", "properties": {"b": text}});
    for (field, given, expected) in [
        (text.clone(), json!({}), json!({"a": "x"})),
        (text.clone(), json!({"a": "y"}), json!({"a": "y"})),
        (text.clone(), json!({"a": ""}), json!({"a": ""})),
        (text.clone(), json!({"a": null}), json!({"a": "x"})),
        (
            json!({"type": "string", "nullable": true, "default": "x"}),
            json!({"a": null}),
            json!({"a": null}),
        ),
        (json!({"type": "string"}), json!({"a": null}), json!({})),
        (json!({"type": "string", "nullable": true}), json!({"a": null}), json!({"a": null})),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true}),
            json!({"a": {"b": null}}),
            json!({"a": {"b": null}}),
        ),
        (inner.clone(), json!({}), json!({})),
        (inner.clone(), json!({"a": {}}), json!({"a": {"b": "x"}})),
        (
            json!({"type": "object", "default": {}, "properties": {"b": text}}),
            json!({}),
            json!({"a": {"b": "x"}}),
        ),
        (
            json!({"type": "array", "items": inner}),
            json!({"a": [{}, {"b": "y"}]}),
            json!({"a": [{"b": "x"}, {"b": "y"}]}),
        ),
        (
            json!({"type": "object", "additionalProperties": inner}),
            json!({"a": {"k": {}}}),
            json!({"a": {"k": {"b": "x"}}}),
        ),
        (
            json!({"type": "array", "items": text}),
            json!({"a": [null, "y"]}),
            json!({"a": ["x", "y"]}),
        ),
        (
            json!({"type": "object", "additionalProperties": text}),
            json!({"a": {"k": null}}),
            json!({"a": {"k": "x"}}),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"a": {"k": null}}),
            json!({"a": {}}),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!({"a": [null]}),
            json!({"a": [null]}),
        ),
    ] {
        let schema = with(&field);
        let mut document = given.clone();
        decode(&mut document, &schema).unwrap();
        default(&mut document, &schema).unwrap();
        assert_eq!(document, expected, "{field} {given}");
        default(&mut document, &schema).unwrap();
        assert_eq!(document, expected, "twice: {field} {given}");
    }
}

#[test]
fn sets_and_list_maps_have_no_duplicates() {
    let list = |list_type: &str, keys: Value| {
        json!({
            "type": "array", "x-kubernetes-list-type": list_type, "x-kubernetes-list-map-keys": keys,
            "items": {"x-kubernetes-preserve-unknown-fields": true},
        })
    };
    for (field, given, expected) in [
        (list("set", json!([])), json!([1, "1", true, 1.0]), &[][..]),
        (list("set", json!([])), json!([1, 2, 1, 1]), &["a[2]: Duplicate value: 1"]),
        (
            list("set", json!([])),
            json!([{"b": 1, "c": 2}, {"c": 2, "b": 1}]),
            &["a[1]: Duplicate value: {\"b\":1,\"c\":2}"],
        ),
        (list("atomic", json!([])), json!([1, 1]), &[]),
        (list("map", json!(["k"])), json!([{"k": "x"}, {"k": "y", "v": 1}]), &[]),
        (
            list("map", json!(["k"])),
            json!([{"k": "x"}, {"k": "x", "v": 1}]),
            &["a[1]: Duplicate value: {\"k\":\"x\"}"],
        ),
        (list("map", json!(["k"])), json!([{"v": 2}, {"v": 1}]), &["a[1]: Duplicate value: {}"]),
        (
            list("map", json!(["k", "l"])),
            json!([{"k": "x", "l": 1}, {"k": "x", "l": 2}, {"l": 1, "k": "x"}]),
            &["a[2]: Duplicate value: {\"k\":\"x\",\"l\":1}"],
        ),
        (
            list("map", json!(["k"])),
            json!([{"k": "x"}, 5]),
            &["a[1]: Invalid value: 5: must be an object for an array of list-type map"],
        ),
    ] {
        let schema = with(&field);
        let document = json!({"a": given});
        assert_eq!(lines(&validate(&document, &schema, &no_metadata)), expected, "{field} {given}");
        // What was so before does not fail newly, even if it got worse.
        let found = validate_update(&document, &document, &schema, &no_metadata);
        assert_eq!(lines(&found), [""; 0]);
    }
}

#[test]
fn the_status_alone() {
    let schema = schema(&json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object"},
        "status": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
    }}));
    let found = validate_status_update(&json!({"status": {"n": 0}}), &json!({}), &schema);
    assert_eq!(
        lines(&found),
        ["status.n: Invalid value: 0: n in body should be greater than or equal to 1"]
    );
    let old = json!({"status": {"n": 0}});
    assert_eq!(validate_status_update(&old, &old, &schema), []);
}

#[test]
fn rules_wait_for_the_form() {
    let schema = with(&json!({"type": "string", "enum": ["x"]}));
    let found = validate(&json!({"a": "y"}), &schema, &no_metadata);
    assert!(blocks_rules(&found).is_some());
    let schema = with(&json!({"type": "string", "pattern": "x"}));
    let found = validate(&json!({"a": "y"}), &schema, &no_metadata);
    assert_eq!((found.len(), blocks_rules(&found)), (1, None));
}

#[test]
fn defaults_do_not_blow_up() {
    let inner = json!({"type": "object", "default": {}, "properties": {"b": {"type": "array", "items": {"type": "string"}, "default": vec!["x"; 100]}}});
    let schema = with(&json!({"type": "array", "items": inner}));
    let mut document = json!({"a": vec![json!({}); 9_000]});
    assert_eq!(default(&mut document, &schema), Ok(()));
    let mut document = json!({"a": vec![json!({}); 100_000]});
    let cause = default(&mut document, &schema).unwrap_err();
    assert_eq!(
        lines(&[cause]),
        ["<nil>: Invalid value: the defaults of the schema would make the object too large"]
    );
}
