//! Expressions and rules in tables: what they give, what they cost, what is said against them.

mod costs;
mod errors;
mod hostile;
mod language;
mod libraries;
mod rules;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    checker, checks, eval,
    expression::VARIABLES,
    parser, plan,
    shape::Shape,
    source::Faults,
    value::{json as document, show},
    value_type::Type,
    work::{Failure, Work},
};
use crate::schema::{Path, Schema};

/// What one evaluation may cost.
const COST_MAX: u64 = 1_000_000;
/// What is left of the work that one object may make, so that tests end soon.
const STEPS: u64 = 500_000;

fn schema(document: &Value) -> Schema {
    Schema::parse(document, &Path::root("")).unwrap()
}

/// A schema with a property of each kind.
fn example_schema() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 20},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 5,
            "items": {"type": "string", "maxLength": 10}},
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object",
            "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "when": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "wait": {"type": "string", "format": "duration"},
        "raw": {"type": "string", "format": "byte"},
        "either": {"x-kubernetes-int-or-string": true},
        "other": {"x-kubernetes-int-or-string": true},
        "nested": {"type": "object", "properties": {
            "inner": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "absent": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
        "maybe": {"type": "string", "nullable": true},
        "namespace": {"type": "string"},
        "max-surge": {"type": "integer"},
        "a.b/c__d": {"type": "integer"},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "hidden": {"x-kubernetes-preserve-unknown-fields": true},
    }})
}

fn example() -> Value {
    json!({
        "name": "front", "count": 3, "ratio": 2.5, "flag": true,
        "tags": ["a", "b"], "numbers": [3, 1, 2],
        "ports": [{"name": "web", "port": 80}, {"name": "dns", "port": 53}],
        "labels": {"app": "shop", "tier/x": "1"},
        "when": "2024-02-29T12:30:45.5Z", "day": "2024-03-01", "wait": "1m30s", "raw": "aGk=",
        "either": "50%", "other": 7,
        "nested": {"inner": {"x": 1}},
        "maybe": null, "namespace": "default", "max-surge": 2, "a.b/c__d": 4,
        "open": {"x": 1}, "hidden": [1],
    })
}

/// Evaluates an expression of any type: its value as a text or what is wrong, and its cost.
fn evaluate_on(schema: &Schema, object: &Value, text: &str) -> (Result<String, String>, u64) {
    let shape = Arc::new(Shape::new(schema, false));
    let parsed = match parser::parse(text) {
        Ok(parsed) => parsed,
        Err(faults) => return (Err(faults.show(text)), 0),
    };
    let of = Type::of_shape(&shape);
    let mut faults = Faults::default();
    let checked = checker::check(parsed, &[("self", of.clone()), ("oldSelf", of)], &mut faults);
    if let Some(checked) = &checked {
        checks::check(checked, &mut faults);
    }
    let Some(checked) = checked.filter(|_| faults.is_empty()) else {
        return (Err(faults.show(text)), 0);
    };
    let mut work = Work::new(COST_MAX);
    work.leave(STEPS);
    let plan = match plan::plan(&checked, &VARIABLES) {
        Ok(plan) => plan,
        Err(failure) => return (Err(failure.message().to_owned()), 0),
    };
    let this = document::typed(object, &shape).unwrap();
    let value = eval::evaluate(&plan, &[Some(this), None], &mut work);
    let cost = work.cost();
    let shown = value.and_then(|value| show::show(&value, &mut Work::new(COST_MAX)));
    (shown.map_err(|failure: Failure| failure.message().to_owned()), cost)
}

fn evaluate(text: &str) -> Result<String, String> {
    evaluate_on(&schema(&example_schema()), &example(), text).0
}

/// Each row: an expression on the example, and its value.
fn check_values(rows: &[(&str, &str)]) {
    let (schema, object) = (schema(&example_schema()), example());
    for (text, expected) in rows {
        let found = evaluate_on(&schema, &object, text).0;
        assert_eq!(found.as_deref(), Ok(*expected), "{text}");
    }
}

/// Each row: an expression on the example, and a part of what is said against it.
fn check_faults(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        match evaluate(text) {
            Ok(value) => panic!("{text} is {value}, not: {expected}"),
            Err(found) => {
                assert!(found.contains(expected), "{text}: {found}\nexpected: {expected}");
            }
        }
    }
}

/// The type that an expression has.
fn type_of(text: &str) -> String {
    let shape = Arc::new(Shape::new(&schema(&example_schema()), false));
    let variables: [(&str, Type); 1] = [("self", Type::of_shape(&shape))];
    let mut faults = Faults::default();
    let checked = checker::check(parser::parse(text).unwrap(), &variables, &mut faults);
    match checked {
        Some(checked) => checked.value_type(checked.root).to_string(),
        None => faults.show(text),
    }
}
