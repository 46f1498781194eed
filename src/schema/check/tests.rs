use serde_json::{Value, json};

use super::{Context, check};
use crate::{
    model::Cause,
    schema::{Path, Schema},
};

fn context(has_status: bool) -> Context<'static> {
    Context { has_status, metadata: &metadata, rules: &|_, _, _| Vec::new() }
}

/// As a registry would, with one name that is none.
fn metadata(document: &Value) -> Vec<Cause> {
    match document["metadata"]["name"].as_str() {
        None | Some("-") => vec![Cause::required("metadata.name", "")],
        Some(_) => Vec::new(),
    }
}

fn lines(document: &Value, has_status: bool) -> Vec<String> {
    let path = Path::root("s");
    let schema = match Schema::parse(document, &path) {
        Ok(schema) => schema,
        Err(cause) => return vec![format!("{}: {}", cause.field, cause.message)],
    };
    let causes = check(&schema, &path, &context(has_status));
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// Roots of schemas, and what is said about them.
#[track_caller]
fn roots(rows: &[(Value, &[&str])]) {
    for (root, expected) in rows {
        assert_eq!(lines(root, false), *expected, "{root}");
    }
}

/// The same for a field `a` of an object.
#[track_caller]
fn fields(rows: &[(Value, &[&str])]) {
    for (field, expected) in rows {
        let root = json!({"type": "object", "properties": {"a": field}});
        let found: Vec<String> = lines(&root, false)
            .into_iter()
            .map(|line| line.replace("s.properties[a]", "A"))
            .collect();
        assert_eq!(found, *expected, "{field}");
    }
}

#[test]
fn the_root() {
    roots(&[
        (json!({"type": "object"}), &[]),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), &[]),
        (json!({}), &["s.type: Required value: must not be empty at the root"]),
        (
            json!({"type": "string"}),
            &["s.type: Invalid value: \"string\": must be object at the root"],
        ),
        (
            json!({"type": "object", "nullable": true}),
            &["s.nullable: Forbidden: nullable cannot be true at the root"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            &["s.additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}}}),
            &[],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            &[
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "description": "d"}}}),
            &[
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "string"}, "kind": {"type": "integer"}}}),
            &[
                "s.properties[kind].type: Invalid value: \"integer\": must be string",
                "s.properties[metadata].type: Invalid value: \"string\": must be object",
            ],
        ),
        (
            json!({"type": "object", "properties": {"apiVersion": {"type": "string", "default": "v1"}}}),
            &[
                "s.properties[apiVersion].default: Forbidden: must not be set in top-level apiVersion",
            ],
        ),
    ]);
}

#[test]
fn the_root_with_a_status() {
    let allowed =
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object"}}});
    assert_eq!(lines(&allowed, true), [""; 0]);
    let refused = json!({"type": "object", "anyOf": [{"required": ["spec"]}]});
    assert_eq!(lines(&refused, false), [""; 0]);
    let [line] = &lines(&refused, true)[..] else { panic!("one") };
    assert!(line.starts_with("s: Invalid value: only [Description Type Format"), "{line}");
}

#[test]
fn skeletons() {
    const NO_TYPE: &str = "A.type: Required value: must not be empty for specified object fields";
    fields(&[
        (json!({"type": "string", "nullable": true}), &[]),
        (json!({}), &[NO_TYPE]),
        (json!({"x-kubernetes-int-or-string": true}), &[]),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), &[]),
        (
            json!({"type": "array", "items": {}}),
            &["A.items.type: Required value: must not be empty for specified array items"],
        ),
        (json!({"type": "array"}), &["A.items: Required value: must be specified"]),
        (json!({"type": "array", "items": {"type": "string"}}), &[]),
        (
            json!({"type": "snow"}),
            &[
                "A.type: Unsupported value: \"snow\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            ],
        ),
        (
            json!({"type": "null"}),
            &[
                "A.type: Unsupported value: \"null\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
                "A.type: Forbidden: type cannot be set to null, use nullable as an alternative",
            ],
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            &[
                "A.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": true}),
            &[],
        ),
        (
            json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}}),
            &[],
        ),
        (
            json!({"type": "object", "additionalProperties": {}}),
            &[
                "A.additionalProperties.type: Required value: must not be empty for specified object fields",
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            &[
                "A.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
            ],
        ),
        (
            json!({"type": "string", "pattern": "("}),
            &[
                "A.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            &[
                "A.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
    ]);
}

#[test]
fn what_is_not_supported() {
    fields(&[
        (json!({"type": "string", "$ref": "#/x"}), &["A.$ref: Forbidden: $ref is not supported"]),
        (json!({"type": "object", "definitions": {}, "patternProperties": {}}), &[]),
        (json!({"type": "string", "id": "x"}), &["A.id: Forbidden: id is not supported"]),
        (
            json!({"type": "object", "patternProperties": {"a": {}}}),
            &["A.patternProperties: Forbidden: patternProperties is not supported"],
        ),
        (
            json!({"type": "object", "definitions": {"a": {}}}),
            &["A.definitions: Forbidden: definitions is not supported"],
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            &["A.items: Forbidden: items must be a schema object and not an array"],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            &[
                "A.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            json!({"type": "string", "maxLength": "1"}),
            &["A.maxLength: Invalid value: must be an integer"],
        ),
        (json!({"type": "string", "maxLength": null}), &[]),
        (json!({"type": "string", "unheard": {"of": 1}}), &[]),
    ]);
}

#[test]
fn nested_validations_say_nothing_about_the_structure() {
    let nested = |what: Value| json!({"type": "string", "anyOf": [what]});
    fields(&[
        (nested(json!({"minLength": 1, "format": "date", "enum": ["a"]})), &[]),
        (
            nested(json!({"type": "string"})),
            &["A.anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (
            nested(json!({"default": 1})),
            &["A.anyOf[0].default: Forbidden: must be undefined to be structural"],
        ),
        (
            nested(json!({"title": "t"})),
            &["A.anyOf[0].title: Forbidden: must be empty to be structural"],
        ),
        (
            nested(json!({"description": "t"})),
            &["A.anyOf[0].description: Forbidden: must be empty to be structural"],
        ),
        (
            nested(json!({"nullable": true})),
            &["A.anyOf[0].nullable: Forbidden: must be false to be structural"],
        ),
        (
            nested(json!({"additionalProperties": {"minLength": 1}})),
            &["A.anyOf[0].additionalProperties: Forbidden: must be undefined to be structural"],
        ),
        (
            nested(json!({"x-kubernetes-preserve-unknown-fields": true})),
            &[
                "A.anyOf[0].x-kubernetes-preserve-unknown-fields: Forbidden: must be false to be structural",
            ],
        ),
        (
            nested(json!({"x-kubernetes-validations": [{"rule": "true"}]})),
            &["A.anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural"],
        ),
        (
            json!({"type": "object", "not": {"properties": {"metadata": {}}}}),
            &["A.not.properties[metadata]: Forbidden: must not be specified in a nested context"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "oneOf": [{"items": {"pattern": "["}}]}),
            &[
                "A.oneOf[0].items.pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[`",
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"minimum": 1}]}),
            &[],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "string"}, {"type": "integer"}]}),
            &[
                "A.anyOf[0].type: Forbidden: must be empty to be structural",
                "A.anyOf[1].type: Forbidden: must be empty to be structural",
            ],
        ),
    ]);
}

#[test]
fn what_is_validated_is_specified() {
    roots(&[
        (
            json!({"type": "object", "anyOf": [{"properties": {"b": {"minLength": 1}}}]}),
            &["s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]"],
        ),
        (
            json!({
                "type": "object", "properties": {"b": {"type": "array", "items": {"type": "string"}}},
                "not": {"properties": {"b": {"items": {"items": {"minLength": 1}}}}},
            }),
            &[
                "s.properties[b].items.items: Required value: because it is defined in s.not.properties[b].items.items",
            ],
        ),
        (
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "allOf": [{"properties": {"b": {"minLength": 1}}}]}),
            &[],
        ),
    ]);
}

#[test]
fn embedded_resources() {
    let embedded = |more: Value| {
        let mut all = json!({"type": "object", "x-kubernetes-embedded-resource": true});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    fields(&[
        (embedded(json!({"x-kubernetes-preserve-unknown-fields": true})), &[]),
        (embedded(json!({"properties": {"spec": {"type": "object"}}})), &[]),
        (
            embedded(json!({})),
            &[
                "A.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            embedded(json!({"type": "string", "x-kubernetes-preserve-unknown-fields": true})),
            &[
                "A.type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
            ],
        ),
        (
            embedded(
                json!({"x-kubernetes-preserve-unknown-fields": true, "additionalProperties": {"type": "string"}}),
            ),
            &[
                "A.additionalProperties: Forbidden: must not be used if x-kubernetes-embedded-resource is set",
            ],
        ),
        (
            embedded(
                json!({"properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object", "additionalProperties": {"type": "string", "default": "x"}}}}}}),
            ),
            &[
                "A.properties[metadata].properties[labels].additionalProperties.default: Forbidden: must not be set inside additionalProperties applying to object metadata",
            ],
        ),
        (
            embedded(
                json!({"properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}}),
            ),
            &[],
        ),
        (
            embedded(
                json!({"properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "-"}}}}}),
            ),
            &[
                "A.properties[metadata].properties[name].default: Invalid value: \"-\": must result in valid metadata: metadata.name: Required value",
            ],
        ),
    ]);
}

#[test]
fn list_types() {
    let list = |list_type: &str, items: Value| json!({"type": "array", "x-kubernetes-list-type": list_type, "items": items});
    let text = json!({"type": "string"});
    fields(&[
        (list("set", text.clone()), &[]),
        (list("atomic", text.clone()), &[]),
        (
            list("snow", text.clone()),
            &[
                "A.x-kubernetes-list-type: Unsupported value: \"snow\": supported values: \"atomic\", \"set\", \"map\"",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            &[
                "A.type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
            ],
        ),
        (
            list("set", json!({"type": "string", "nullable": true})),
            &["A.items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set"],
        ),
        (
            list("set", json!({"type": "object"})),
            &[
                "A.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (list("set", json!({"type": "object", "x-kubernetes-map-type": "atomic"})), &[]),
        (
            list("set", json!({"type": "array", "x-kubernetes-list-type": "set", "items": text})),
            &[
                "A.items.x-kubernetes-list-type: Invalid value: \"set\": must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
    ]);
}

#[test]
fn keys_and_map_types() {
    let keyed = |keys: Value, items: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items": items});
    let item = json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "n": {"type": "integer"}, "l": {"type": "object"}}});
    let text = json!({"type": "string"});
    fields(&[
        (keyed(json!(["k"]), item.clone()), &[]),
        (
            keyed(json!([]), item.clone()),
            &[
                "A.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            keyed(json!(["x"]), item.clone()),
            &[
                "A.x-kubernetes-list-map-keys: Invalid value: [\"x\"]: entries must all be names of item properties",
            ],
        ),
        (
            keyed(json!(["k", "k"]), item.clone()),
            &[
                "A.x-kubernetes-list-map-keys: Invalid value: [\"k\",\"k\"]: must not contain duplicate entries",
            ],
        ),
        (
            keyed(json!(["k", "n"]), item.clone()),
            &[
                "A.items.properties[n].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            keyed(
                json!(["k"]),
                json!({"type": "object", "properties": {"k": {"type": "string", "default": "x", "nullable": true}}}),
            ),
            &[
                "A.items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            ],
        ),
        (
            keyed(
                json!(["l"]),
                json!({"type": "object", "required": ["l"], "properties": {"l": {"type": "object"}}}),
            ),
            &[
                "A.items.properties[l].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
            ],
        ),
        (
            keyed(json!(["k"]), text),
            &[
                "A.items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-map-keys": ["k"], "items": item}),
            &[
                "A.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
            ],
        ),
    ]);
}

#[test]
fn map_types() {
    fields(&[
        (json!({"type": "object", "x-kubernetes-map-type": "atomic"}), &[]),
        (
            json!({"type": "object", "x-kubernetes-map-type": "snow"}),
            &[
                "A.x-kubernetes-map-type: Unsupported value: \"snow\": supported values: \"atomic\", \"granular\"",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
            &[
                "A.type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
            ],
        ),
    ]);
}

#[test]
fn defaults() {
    fields(&[
        (json!({"type": "string", "default": "x"}), &[]),
        (json!({"type": "string", "default": null}), &[]),
        (
            json!({"type": "string", "default": 1}),
            &[
                "A.default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "object", "default": {"b": 1}, "properties": {"b": {"type": "integer", "maximum": 0}}}),
            &["A.default.b: Invalid value: 1: b in body should be less than or equal to 0"],
        ),
        (
            json!({"type": "object", "default": {"b": 1, "c": 2}, "properties": {"b": {"type": "integer"}}}),
            &["A.default: Invalid value: {\"b\":1,\"c\":2}: must not have unknown fields"],
        ),
        (
            json!({"type": "object", "default": {}, "required": ["b"], "properties": {"b": {"type": "integer", "default": 1}}}),
            &["A.default.b: Required value"],
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string", "default": 1}}}}),
            &[
                "A.items.properties[b].default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true, "default": {"kind": "A"}}),
            &["A.default.apiVersion: Required value"],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"apiVersion": {"type": "string", "default": "a/b/c"}}}),
            &[
                "A.properties[apiVersion].default: Invalid value: \"a/b/c\": must result in valid metadata: apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ],
        ),
    ]);
}

#[test]
fn texts_of_rules() {
    let rule = |rule: Value| json!({"type": "object", "properties": {"b": {"type": "string"}}, "x-kubernetes-validations": [rule]});
    const AT: &str = "A.x-kubernetes-validations[0]";
    for (given, expected) in [
        (json!({"rule": "true"}), ""),
        (json!({"rule": " "}), ".rule: Required value: rule is not specified"),
        (
            json!({"rule": "true", "message": " "}),
            ".message: Invalid value: \" \": must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": "a\nb"}),
            ".message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
        (
            json!({"rule": "true\n&& true"}),
            ".message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            json!({"rule": "true", "messageExpression": " "}),
            ".messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "reason": "Snow"}),
            ".reason: Unsupported value: \"Snow\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (json!({"rule": "true", "reason": "FieldValueForbidden", "fieldPath": ".b"}), ""),
        (
            json!({"rule": "true", "fieldPath": ".c"}),
            ".fieldPath: Invalid value: \".c\": must be a valid path",
        ),
        (json!({"rule": "true", "fieldPath": "['b']"}), ""),
    ] {
        let expected = format!("{AT}{expected}");
        let expected: &[&str] = if expected == AT { &[] } else { &[&expected] };
        fields(&[(rule(given), expected)]);
    }
}

#[test]
fn schemas_that_are_too_much() {
    let mut deep = json!({"type": "object"});
    for _ in 0..200 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let [line] = &lines(&deep, false)[..] else { panic!("one") };
    assert!(line.ends_with("Invalid value: a schema may be at most 128 levels deep"), "{line}");
    let many = json!({"type": "object", "allOf": vec![json!({}); 100_000]});
    let [line] = &lines(&many, false)[..] else { panic!("one") };
    assert!(line.ends_with("Invalid value: a schema may have at most 100000 nodes"), "{line}");
    // Alternatives of alternatives: the work is that of the document's size.
    let mut nested = json!({"minLength": 1});
    for _ in 0..14 {
        nested = json!({"anyOf": [nested.clone(), nested]});
    }
    let root =
        json!({"type": "object", "properties": {"a": {"type": "string", "anyOf": [nested]}}});
    assert_eq!(lines(&root, false), [""; 0]);
}
