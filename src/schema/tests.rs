//! Laws over schemas and documents that nobody wrote, and a schema of the size of Prometheus Operator's.

mod large;

use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Map, Value, json};

use crate::schema::{
    Path, Schema,
    check::{Context, check},
    prune::prune,
    resource::{decode, default, validate, validate_update},
};

fn parsed(document: &Value) -> Schema {
    Schema::parse(document, &Path::root("s")).unwrap()
}

fn faults(schema: &Schema) -> Vec<crate::model::Cause> {
    let context =
        Context { has_status: true, metadata: &|_| Vec::new(), rules: &|_, _, _| Vec::new() };
    check(schema, &Path::root("s"), &context)
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..8).prop_map(Value::from),
        "[ab]{0,3}".prop_map(Value::from),
    ]
}

use proptest::strategy::Just;

fn documents() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(4, 24, 4, |inner| {
        let named = prop::collection::btree_map("[abc]", inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::from),
            named.prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// Schemas that are structural, whose defaults are valid, and in which no validation looks at what a default may add.
fn schemas() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        (any::<bool>(), any::<bool>()).prop_map(|(nullable, has_default)| {
            let mut schema = json!({"type": "integer", "maximum": 5, "nullable": nullable});
            if has_default {
                schema["default"] = json!(1);
            }
            schema
        }),
        any::<bool>().prop_map(|has_default| {
            let mut schema = json!({"type": "string", "pattern": "^a", "maxLength": 2});
            if has_default {
                schema["default"] = json!("a");
            }
            schema
        }),
        Just(
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
        ),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let named = prop::collection::btree_map("[abc]", inner.clone(), 0..4);
        prop_oneof![
            (named, any::<bool>(), any::<bool>()).prop_map(|(properties, has_default, keeps)| {
                let required: Vec<_> = properties.keys().take(1).cloned().collect();
                let properties: Map<String, Value> = properties.into_iter().collect();
                let mut schema = json!({"type": "object", "properties": properties});
                if keeps {
                    schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
                }
                if has_default {
                    schema["default"] = json!({});
                } else {
                    schema["required"] = json!(required);
                }
                schema
            }),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.prop_map(|below| json!({"type": "object", "additionalProperties": below})),
        ]
    })
}

proptest! {
    #[test]
    fn laws(a in schemas(), value in documents()) {
        let schema = parsed(&json!({"type": "object", "properties": {"a": a}}));
        assert_eq!(faults(&schema), []);
        let mut document = json!({"a": value});
        decode(&mut document, &schema).unwrap();
        // To prune is done once.
        let pruned = document.clone();
        assert_eq!(decode(&mut document, &schema), Ok(Vec::new()));
        assert_eq!(document, pruned);
        // What is valid stays valid with its defaults.
        let was_valid = validate(&document, &schema, &|_| Vec::new()).is_empty();
        default(&mut document, &schema).unwrap();
        let causes = validate(&document, &schema, &|_| Vec::new());
        assert!(causes.is_empty() || !was_valid, "{causes:?}");
        // Defaults are fields that the schema specifies, and are filled in once.
        let defaulted = document.clone();
        assert_eq!(prune(&mut document, &schema, true), [""; 0]);
        default(&mut document, &schema).unwrap();
        assert_eq!(document, defaulted);
        // What is said of a new object is said of an update that leaves nothing as it was.
        let old = json!({"b": 1});
        let of_update = validate_update(&document, &old, &schema, &|_| Vec::new());
        assert_eq!(of_update.is_empty(), causes.is_empty());
    }

    #[test]
    fn nothing_fails_that_stays(value in documents()) {
        let below = json!({"type": "string", "minLength": 2, "nullable": true});
        let a = json!({"type": "object", "required": ["c"], "properties": {"a": below, "b": {"type": "array", "items": below}}});
        let schema = parsed(&json!({"type": "object", "properties": {"a": a}}));
        let mut document = json!({"a": value});
        decode(&mut document, &schema).unwrap();
        assert_eq!(validate_update(&document, &document, &schema, &|_| Vec::new()), []);
    }

    #[test]
    fn any_pattern_is_compiled_or_refused(pattern in "[a-c\\\\\\[\\](){}*+?|^$.:<>=!dDwWsSbBpPQEx0-9,-]{0,12}", text in "[a-c0-9]{0,8}") {
        let pattern = crate::schema::pattern::Pattern::new(&pattern);
        let is_sound = pattern.check().is_ok();
        assert!(is_sound || !pattern.matches(&text));
    }

    #[test]
    fn any_document_is_a_schema_or_refused(document in documents()) {
        let root = json!({"type": "object", "properties": {"a": document}, "allOf": [document], "items": document});
        if let Ok(schema) = Schema::parse(&root, &Path::root("s")) {
            faults(&schema);
        }
    }
}

#[test]
fn a_schema_as_large_as_prometheus_operators() {
    let document = large::schema();
    let bytes = document.to_string().len();
    assert!((550_000..700_000).contains(&bytes), "{bytes}");
    let schema = parsed(&document);
    assert_eq!(faults(&schema), []);
    let mut object = large::object_of_it();
    assert_eq!(decode(&mut object, &schema), Ok(Vec::new()));
    default(&mut object, &schema).unwrap();
    assert_eq!(validate(&object, &schema, &|_| Vec::new()), []);
}
