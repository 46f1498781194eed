use serde_json::{Value, json};

use super::{validate, validate_within};
use crate::schema::{Path, Schema};

fn schema(document: &Value) -> Schema {
    Schema::parse(document, &Path::root("schema")).unwrap()
}

fn lines(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<String> {
    let causes = validate(schema, value, old, &Path::root(""));
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// One field `a` of a schema, a value for it, and what is said.
#[track_caller]
fn check(rows: &[(Value, Value, &[&str])]) {
    for (of_a, a, expected) in rows {
        let schema = schema(&json!({"type": "object", "properties": {"a": of_a}}));
        assert_eq!(lines(&schema, &json!({"a": a}), None), *expected, "{of_a} {a}");
    }
}

const NO_NUMBER: &str =
    "a: Invalid value: \"string\": a in body must be of type integer: \"string\"";

#[test]
fn types() {
    check(&[
        (json!({"type": "integer"}), json!(1), &[]),
        (json!({"type": "integer"}), json!(1.0), &[]),
        (json!({"type": "integer"}), json!("1"), &[NO_NUMBER]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            &[
                "a: Invalid value: \"number\": a in body must be of type integer: \"number\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in a",
            ],
        ),
        (json!({"type": "number"}), json!(1), &[]),
        (json!({"type": "number"}), json!(1.5), &[]),
        (
            json!({"type": "string"}),
            json!(1),
            &["a: Invalid value: \"integer\": a in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "boolean"}),
            json!("true"),
            &["a: Invalid value: \"string\": a in body must be of type boolean: \"string\""],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!({}),
            &["a: Invalid value: \"object\": a in body must be of type array: \"object\""],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["b", 1]),
            &["a[1]: Invalid value: \"integer\": a[1] in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "object"}),
            json!([]),
            &["a: Invalid value: \"array\": a in body must be of type object: \"array\""],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "integer"}}),
            json!({"b.c/d": "x"}),
            &[
                "a.b.c/d: Invalid value: \"string\": a.b.c/d in body must be of type integer: \"string\"",
            ],
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([1, "b"]), &[]),
    ]);
}

#[test]
fn nulls_and_integers_or_strings() {
    const NULL: &str = "a: Invalid value: \"null\": a in body must be of type string: \"null\"";
    check(&[
        (json!({"type": "string"}), json!(null), &[NULL]),
        (json!({"type": "string", "nullable": true}), json!(null), &[]),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!(null), &[]),
        (
            json!({"type": "string", "nullable": true, "enum": ["b", null]}),
            json!(null),
            &["a: Unsupported value: null: supported values: \"b\", \"null\""],
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!(1), &[]),
        (json!({"x-kubernetes-int-or-string": true}), json!("1"), &[]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            &[
                "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
            ],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^[0-9]+%$"}),
            json!("5"),
            &["a: Invalid value: \"5\": a in body should match '^[0-9]+%$'"],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            json!([]),
            &[
                "a: Invalid value: \"array\": a in body must be of type integer,string: \"array\"",
                "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)",
                "a: Invalid value: \"array\": a in body must be of type integer: \"array\"",
            ],
        ),
    ]);
}

#[test]
fn texts() {
    let string = |more: Value| {
        let mut all = json!({"type": "string"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    check(&[
        (string(json!({"maxLength": 2})), json!("äö"), &[]),
        (
            string(json!({"maxLength": 2})),
            json!("abc"),
            &["a: Too long: may not be more than 2 bytes"],
        ),
        (
            string(json!({"maxLength": 1})),
            json!("abc"),
            &["a: Too long: may not be more than 1 byte"],
        ),
        (
            string(json!({"minLength": 2})),
            json!("ä"),
            &["a: Invalid value: \"ä\": a in body should be at least 2 chars long"],
        ),
        (
            string(json!({"pattern": "^b+$"})),
            json!("abb"),
            &["a: Invalid value: \"abb\": a in body should match '^b+$'"],
        ),
        (
            string(json!({"minLength": 9, "pattern": "^b+$"})),
            json!("abb"),
            &["a: Invalid value: \"abb\": a in body should be at least 9 chars long"],
        ),
        (
            string(json!({"enum": ["b", "c"]})),
            json!("d"),
            &["a: Unsupported value: \"d\": supported values: \"b\", \"c\""],
        ),
        (string(json!({"enum": ["b", "c"]})), json!("c"), &[]),
        (
            string(json!({"format": "date"})),
            json!("x"),
            &["a: Invalid value: \"x\": a in body must be of type date: \"x\""],
        ),
        (
            string(json!({"format": "date-time"})),
            json!("2020-01-01"),
            &[
                "a: Invalid value: \"2020-01-01\": a in body must be of type date-time: \"2020-01-01\"",
            ],
        ),
        (
            string(json!({"format": "date"})),
            json!(5),
            &["a: Invalid value: \"int64\": a in body must be of type date: \"int64\""],
        ),
        (string(json!({"format": "date"})), json!([1]), &[]),
        (string(json!({"format": "snow"})), json!("x"), &[]),
        (
            json!({"x-kubernetes-preserve-unknown-fields": true, "format": "ipv4"}),
            json!("::1"),
            &["a: Invalid value: \"::1\": a in body must be of type ipv4: \"::1\""],
        ),
    ]);
}

#[test]
fn numbers() {
    let integer = |name: &str, rule: Value| json!({"type": "integer", name: rule});
    check(&[
        (
            integer("maximum", json!(5)),
            json!(6),
            &["a: Invalid value: 6: a in body should be less than or equal to 5"],
        ),
        (integer("maximum", json!(5)), json!(5), &[]),
        (
            integer("minimum", json!(1)),
            json!(0),
            &["a: Invalid value: 0: a in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            &["a: Invalid value: 1: a in body should be greater than 1"],
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            &["a: Invalid value: 1.5: a in body should be less than 1.5"],
        ),
        (
            integer("multipleOf", json!(3)),
            json!(7),
            &["a: Invalid value: 7: a in body should be a multiple of 3"],
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), &[]),
        (
            json!({"type": "number", "multipleOf": 0.1}),
            json!(0.35),
            &["a: Invalid value: 0.35: a in body should be a multiple of 0.1"],
        ),
        (
            integer("multipleOf", json!(-1)),
            json!(7),
            &["a: Invalid value: -1: factor MultipleOf declared for a must be positive: -1"],
        ),
        (
            integer("minimum", json!(0.5)),
            json!(0),
            &[
                "<nil>: Invalid value: \"\": Minimum boundary value must be of type integer (default format) in a",
                "a: Invalid value: 0: a in body should be greater than or equal to 0.5",
            ],
        ),
    ]);
}

#[test]
fn formats_of_numbers() {
    check(&[
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            &[
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in a",
            ],
        ),
        (json!({"type": "integer", "format": "int64"}), json!(3_000_000_000_i64), &[]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(true),
            &["a: Invalid value: \"\": a in body must be of type int32: \"\""],
        ),
        (
            json!({"type": "number", "format": "float"}),
            json!(1e300),
            &[
                "<nil>: Invalid value: \"\": Checked value must be of type number with format float in a",
            ],
        ),
        (
            json!({"type": "integer", "enum": [1, 2]}),
            json!(3),
            &["a: Unsupported value: 3: supported values: \"1\", \"2\""],
        ),
        (json!({"type": "integer", "enum": [1, 2]}), json!(2.0), &[]),
    ]);
}

#[test]
fn lists_and_objects() {
    let list = |name: &str, rule: Value| json!({"type": "array", "items": {"type": "integer"}, name: rule});
    check(&[
        (list("maxItems", json!(1)), json!([1, 2]), &["a: Too many: 2: must have at most 1 item"]),
        (
            list("minItems", json!(2)),
            json!([1]),
            &["a: Invalid value: 1: a in body should have at least 2 items"],
        ),
        (
            list("uniqueItems", json!(true)),
            json!([1, 2, 1]),
            &["a: Invalid value: \"\": a in body shouldn't contain duplicates"],
        ),
        (
            json!({"type": "object", "required": ["b", "c"]}),
            json!({"c": 1}),
            &["a.b: Required value"],
        ),
        (
            json!({"type": "object", "maxProperties": 1}),
            json!({"b": 1, "c": 2}),
            &["a: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "object", "minProperties": 1}),
            json!({}),
            &["a: Invalid value: 0: a in body should have at least 1 properties"],
        ),
        (
            json!({"type": "object", "additionalProperties": false, "properties": {"b": {"type": "string"}}}),
            json!({"b": "x", "c": 1}),
            &["a: Invalid value: \"c\": a.c in body is a forbidden property"],
        ),
        (
            json!({"type": "object", "enum": [{"b": 1}]}),
            json!({"c": 1, "b": "<"}),
            &[
                "a: Unsupported value: {\"b\":\"\\u003c\",\"c\":1}: supported values: \"{\\\"b\\\":1}\"",
            ],
        ),
    ]);
}

#[test]
fn junctors() {
    let object = |name: &str, rule: Value| json!({"type": "object", name: rule});
    let one = json!([{"required": ["b"]}, {"required": ["c"]}]);
    check(&[
        (object("anyOf", one.clone()), json!({"c": 1}), &[]),
        (
            object("anyOf", one.clone()),
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)",
                "a.b: Required value",
            ],
        ),
        (object("oneOf", one.clone()), json!({"c": 1}), &[]),
        (
            object("oneOf", one.clone()),
            json!({}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found none valid",
                "a.b: Required value",
            ],
        ),
        (
            object("oneOf", one.clone()),
            json!({"b": 1, "c": 2}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
            ],
        ),
        (
            object("allOf", one.clone()),
            json!({"c": 1}),
            &[
                "a.b: Required value",
                "<nil>: Invalid value: \"\": \"a\" must validate all the schemas (allOf)",
            ],
        ),
        (
            object("allOf", one),
            json!({}),
            &[
                "a.b: Required value",
                "a.c: Required value",
                "<nil>: Invalid value: \"\": \"a\" must validate all the schemas (allOf). None validated",
            ],
        ),
        (
            object("not", json!({"required": ["b"]})),
            json!({"b": 1}),
            &["<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)"],
        ),
        (object("not", json!({"required": ["b"]})), json!({}), &[]),
        // The alternative with the most checks that pass is blamed.
        (
            object(
                "anyOf",
                json!([{"required": ["b"]}, {"properties": {"c": {"minimum": 5}, "d": {"minimum": 1}}}]),
            ),
            json!({"c": 1, "d": 2}),
            &[
                "<nil>: Invalid value: \"\": \"a\" must validate at least one schema (anyOf)",
                "a.c: Invalid value: 1: a.c in body should be greater than or equal to 5",
            ],
        ),
    ]);
}

#[test]
fn the_root_and_prefixes() {
    let schema = schema(&json!({
        "type": "object", "required": ["spec"], "minProperties": 3,
        "properties": {"spec": {"type": "object"}},
    }));
    assert_eq!(
        lines(&schema, &json!({}), None),
        [
            "<nil>: Invalid value: 0:  in body should have at least 3 properties",
            "spec: Required value"
        ]
    );
    let causes = validate(&schema, &json!({"spec": 1}), None, &Path::root("status"));
    assert_eq!(causes[1].field, "status.spec");
    assert_eq!(
        causes[1].message,
        "Invalid value: \"integer\": spec in body must be of type object: \"integer\""
    );
    assert_eq!(causes[0].field, "status");
}

/// A schema with one field for each way in which old values correlate.
fn ratcheted() -> Schema {
    schema(&json!({
        "type": "object",
        "properties": {
            "kind": {"type": "string", "maxLength": 1},
            "a": {"type": "integer", "minimum": 5},
            "b": {"type": "object", "required": ["x"], "properties": {
                "c": {"type": "string", "maxLength": 1},
                "d": {"type": "string", "maxLength": 1},
            }},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 5}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 1},
            "atomic": {"type": "array", "items": {"type": "integer", "minimum": 5}},
            "keyed": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {
                    "k": {"type": "string", "maxLength": 1}, "v": {"type": "integer", "minimum": 5},
                }},
            },
            "either": {"type": "object", "anyOf": [{"required": ["p"]}], "properties": {
                "p": {"type": "string"}, "q": {"type": "string"},
            }},
        },
    }))
}

#[track_caller]
fn updates(rows: &[(Value, Value, &[&str])]) {
    let schema = ratcheted();
    for (old, new, expected) in rows {
        assert_eq!(lines(&schema, new, Some(old)), *expected, "{old} {new}");
    }
}

#[test]
fn what_stays_does_not_fail_newly() {
    let long = "a: Invalid value: 1: a in body should be greater than or equal to 5";
    updates(&[
        (json!({"a": 1}), json!({"a": 1}), &[]),
        (json!({"a": 2}), json!({"a": 1}), &[long]),
        (json!({}), json!({"a": 1}), &[long]),
        (json!({"a": null}), json!({"a": 1}), &[long]),
        (
            json!({"kind": "Long"}),
            json!({"kind": "Long", "a": 6}),
            &["kind: Too long: may not be more than 1 byte"],
        ),
        (
            json!({"b": {"c": "long", "d": "d"}}),
            json!({"b": {"c": "long", "d": "long"}}),
            &["b.d: Too long: may not be more than 1 byte", "b.x: Required value"],
        ),
        (json!({"b": {"c": "long", "d": "d"}}), json!({"b": {"d": "d", "c": "long"}}), &[]),
        (json!({"map": {"x": 1}}), json!({"map": {"x": 1, "y": 6}}), &[]),
        (
            json!({"map": {"x": 1}}),
            json!({"map": {"z": 1}}),
            &["map.z: Invalid value: 1: map.z in body should be greater than or equal to 5"],
        ),
        (
            json!({"any": {"x": 1, "y": 2}}),
            json!({"any": {"x": 1, "y": 2}}),
            &["any: Too many: 2: must have at most 1 item"],
        ),
    ]);
}

#[test]
fn lists_and_alternatives_that_stay() {
    updates(&[
        (json!({"atomic": [1, 6]}), json!({"atomic": [1, 6]}), &[]),
        (
            json!({"atomic": [1, 6]}),
            json!({"atomic": [1, 6, 7]}),
            &[
                "atomic[0]: Invalid value: 1: atomic[0] in body should be greater than or equal to 5",
            ],
        ),
        (
            json!({"keyed": [{"k": "a", "v": 1}]}),
            json!({"keyed": [{"k": "b", "v": 5}, {"k": "a", "v": 1}]}),
            &[],
        ),
        (
            json!({"keyed": [{"k": "a", "v": 1}]}),
            json!({"keyed": [{"k": "b", "v": 1}, {"k": "a", "v": 2}]}),
            &[
                "keyed[0].v: Invalid value: 1: keyed[0].v in body should be greater than or equal to 5",
                "keyed[1].v: Invalid value: 2: keyed[1].v in body should be greater than or equal to 5",
            ],
        ),
        (json!({"either": {"q": "x"}}), json!({"either": {"q": "x"}}), &[]),
        (
            json!({"either": {"q": "x"}}),
            json!({"either": {"q": "y"}}),
            &[
                "<nil>: Invalid value: \"\": \"either\" must validate at least one schema (anyOf)",
                "either.p: Required value",
            ],
        ),
        // The order of a list map's items is not the list map.
        (
            json!({"b": {}, "keyed": [{"k": "long"}, {"k": "b"}]}),
            json!({"b": {}, "keyed": [{"k": "b"}, {"k": "long"}]}),
            &[],
        ),
    ]);
}

#[test]
fn work_is_bounded() {
    let alternatives: Vec<Value> = (0..200).map(|at| json!({"minimum": at})).collect();
    let schema = schema(&json!({"type": "object", "properties": {
        "a": {"type": "array", "items": {"type": "integer", "allOf": alternatives}},
        "b": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "c": {"type": "string", "pattern": "^(a{1,20}){1,40}$"},
    }}));
    let lines = |value| {
        let causes = validate_within(100_000, &schema, &value, None, &Path::root(""));
        causes.into_iter().map(|cause| cause.message).collect::<Vec<_>>()
    };
    let stopped =
        ["Invalid value: validation was stopped: the schema takes too many steps for this value"];
    assert_eq!(lines(json!({"a": vec![500; 100]})), [""; 0]);
    assert_eq!(lines(json!({"a": vec![500; 1000]})), stopped);
    assert_eq!(lines(json!({"b": vec!["long"; 100_000]})), stopped);
    assert_eq!(lines(json!({"c": "a".repeat(800)})), [""; 0]);
    assert_eq!(lines(json!({"c": "a".repeat(8000)})), stopped);
}

#[test]
fn so_many_failures_are_told() {
    let schema = schema(&json!({"type": "array", "items": {"type": "string", "maxLength": 1}}));
    assert_eq!(lines(&schema, &json!(vec!["long"; 5000]), None).len(), super::CAUSES_MAX);
}
