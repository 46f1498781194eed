//! Rules of schemas: what a definition is refused for, and what objects are.

use serde_json::{Value, json};

use super::schema;
use crate::schema::{
    Path,
    cel::{Compiled, Findings},
};

fn compile(document: &Value) -> Result<Compiled, Vec<String>> {
    let causes = Compiled::compile(&schema(document), &Path::root("openAPIV3Schema"));
    causes.map_err(|causes| {
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    })
}

fn refusals(document: &Value) -> Vec<String> {
    compile(document).expect_err("it is refused")
}

fn validate(document: &Value, new: &Value, old: Option<&Value>) -> Findings {
    let compiled = compile(document).unwrap();
    compiled.validate(&schema(document), new, old, &Path::root(""))
}

/// The causes of a new object.
fn causes(document: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let findings = validate(document, new, old);
    findings.causes.iter().map(|c| format!("{} {}: {}", c.reason, c.field, c.message)).collect()
}

/// A schema with one property `spec`.
fn with_spec(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

fn with_rule(mut schema: Value, rule: &Value) -> Value {
    schema["x-kubernetes-validations"] = json!([rule]);
    schema
}

fn replicas(rule: &Value) -> Value {
    with_spec(&with_rule(
        json!({"type": "object", "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 9}}}),
        rule,
    ))
}

#[test]
fn schemas_without_rules_are_free() {
    let document = with_spec(&json!({"type": "object"}));
    let compiled = compile(&document).unwrap();
    assert!(compiled.is_empty());
    assert_eq!(validate(&document, &json!({"spec": {}}), None), Findings::default());
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&compiled);
}

#[test]
fn a_rule_that_does_not_hold() {
    let spec = json!({"spec": {"min": 2, "max": 1}});
    let rows = [
        (
            json!({"rule": "self.min <= self.max"}),
            "FieldValueInvalid spec: Invalid value: failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": " min is above max "}),
            "FieldValueInvalid spec: Invalid value: min is above max",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'min is %d'.format([self.min])"}),
            "FieldValueInvalid spec: Invalid value: min is 2",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "' '", "message": "plain"}),
            "FieldValueInvalid spec: Invalid value: plain",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'a\\nb'", "message": "plain"}),
            "FieldValueInvalid spec: Invalid value: plain",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "string(1 / (self.min - 2))", "message": "plain"}),
            "FieldValueInvalid spec: Invalid value: plain",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "m", "reason": "FieldValueForbidden"}),
            "FieldValueForbidden spec: Forbidden: m",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "m", "reason": "FieldValueRequired", "fieldPath": ".max"}),
            "FieldValueRequired spec.max: Required value: m",
        ),
        (
            json!({"rule": "self.min <= self.max", "reason": "FieldValueDuplicate", "fieldPath": ".min"}),
            "FieldValueDuplicate spec.min: Duplicate value",
        ),
        (
            json!({"rule": "self.name.size() > 0"}),
            "FieldValueInvalid spec: Invalid value: \"object\": no such key: name evaluating rule: self.name.size() > 0",
        ),
        (
            json!({"rule": "dyn(self.min) + 'a' == ''", "message": "m"}),
            "FieldValueInvalid spec: Invalid value: \"object\": 'no such overload': call arguments did not match a \
             supported operator, function or macro signature for rule: m",
        ),
    ];
    for (rule, expected) in rows {
        assert_eq!(causes(&replicas(&rule), &spec, None), [expected], "{rule}");
    }
    let document =
        with_spec(&with_rule(json!({"type": "string"}), &json!({"rule": "self != 'a'"})));
    assert_eq!(
        causes(&document, &json!({"spec": "a"}), None),
        ["FieldValueInvalid spec: Invalid value: \"a\": failed rule: self != 'a'"]
    );
}

#[test]
fn rules_at_all_levels() {
    let item = with_rule(
        json!({"type": "object", "properties": {"port": with_rule(json!({"type": "integer"}), &json!({"rule": "self > 0"}))}}),
        &json!({"rule": "has(self.port)"}),
    );
    let document = with_rule(
        json!({"type": "object", "properties": {
            "list": {"type": "array", "maxItems": 10, "items": item},
            "map": {"type": "object", "maxProperties": 10, "additionalProperties":
                with_rule(json!({"type": "string", "maxLength": 10}), &json!({"rule": "self != ''"}))}}}),
        &json!({"rule": "self.metadata.name != 'bad'"}),
    );
    let object = json!({
        "metadata": {"name": "bad"},
        "list": [{"port": 1}, {"port": 0}, {}],
        "map": {"a": "", "b": "x"},
    });
    assert_eq!(
        causes(&document, &object, None),
        [
            "FieldValueInvalid <nil>: Invalid value: failed rule: self.metadata.name != 'bad'",
            "FieldValueInvalid list[1].port: Invalid value: 0: failed rule: self > 0",
            "FieldValueInvalid list[2]: Invalid value: failed rule: has(self.port)",
            "FieldValueInvalid map[a]: Invalid value: \"\": failed rule: self != ''",
        ]
    );
}

#[test]
fn transition_rules() {
    let keyed = json!({"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": with_rule(
            json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}),
            &json!({"rule": "self.v >= oldSelf.v"}))});
    let document = with_spec(&keyed);
    let old = json!({"spec": [{"k": "a", "v": 2}, {"k": "b", "v": 2}]});
    let new = json!({"spec": [{"k": "b", "v": 3}, {"k": "a", "v": 1}, {"k": "c", "v": 0}]});
    assert_eq!(causes(&document, &new, None), [""; 0]);
    assert_eq!(
        causes(&document, &new, Some(&old)),
        ["FieldValueInvalid spec[1]: Invalid value: failed rule: self.v >= oldSelf.v"]
    );
    let optional = json!({"rule": "!oldSelf.hasValue() || oldSelf.value().min == self.min", "optionalOldSelf": true});
    let document = replicas(&optional);
    let (old, new) = (json!({"spec": {"min": 1}}), json!({"spec": {"min": 2}}));
    assert_eq!(causes(&document, &new, None), [""; 0]);
    assert_eq!(causes(&document, &new, Some(&json!({}))), [""; 0]);
    assert_eq!(causes(&document, &new, Some(&old)).len(), 1);
    let required = json!({"rule": "oldSelf.hasValue()", "optionalOldSelf": true});
    assert_eq!(causes(&replicas(&required), &new, None).len(), 1);
}

#[test]
fn what_stays_the_same_does_not_fail_newly() {
    let document = with_spec(&json!({"type": "object", "properties": {
        "name": with_rule(json!({"type": "string"}), &json!({"rule": "self == 'good'"})),
        "list": {"type": "array", "maxItems": 3, "items":
            with_rule(json!({"type": "string", "maxLength": 9}), &json!({"rule": "self == 'good'"}))},
        "other": {"type": "integer"}}}));
    let old = json!({"spec": {"name": "bad", "list": ["bad"], "other": 1}});
    let new = json!({"spec": {"name": "bad", "list": ["bad"], "other": 2}});
    let findings = validate(&document, &new, Some(&old));
    assert_eq!(findings.causes, []);
    assert_eq!(
        findings.warnings,
        [
            "spec.list[0]: Invalid value: \"bad\": failed rule: self == 'good'",
            "spec.name: Invalid value: \"bad\": failed rule: self == 'good'",
        ]
    );
    let changed = json!({"spec": {"name": "worse", "list": ["bad", "good"], "other": 1}});
    assert_eq!(causes(&document, &changed, Some(&old)).len(), 2);
}

#[test]
fn null_and_hidden_values_are_not_evaluated() {
    let document = with_spec(&with_rule(
        json!({"type": "string", "nullable": true}),
        &json!({"rule": "false"}),
    ));
    assert_eq!(causes(&document, &json!({"spec": null}), None), [""; 0]);
    assert_eq!(causes(&document, &json!({}), None), [""; 0]);
}

#[test]
fn objects_have_a_budget() {
    let list = json!({"type": "array", "maxItems": 300, "items": {"type": "integer"}});
    let rule = "self.all(x, self.all(y, x * y >= 0 && x + y >= 0))";
    let mut spec = with_rule(list, &json!({"rule": rule}));
    spec["x-kubernetes-validations"] = json!(vec![json!({"rule": rule}); 14]);
    let document = with_spec(&spec);
    let numbers: Vec<i64> = (0..300).collect();
    let found = causes(&document, &json!({"spec": numbers}), None);
    assert_eq!(
        found,
        [
            "FieldValueInvalid spec: Invalid value: \"array\": validation failed due to running out of cost budget, no \
          further validation rules will be run"
        ]
    );
    let rule = "self.all(x, self.all(y, x * y >= 0 && x + y >= 0 && x - y <= 300))";
    let document = with_spec(&with_rule(
        json!({"type": "array", "maxItems": 310, "items": {"type": "integer"}}),
        &json!({"rule": rule, "message": "m"}),
    ));
    let numbers: Vec<i64> = (0..310).collect();
    assert_eq!(
        causes(&document, &json!({"spec": numbers}), None),
        [
            "FieldValueInvalid spec: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no \
          further validation rules will be run due to call cost exceeds limit for rule: m"
        ]
    );
}

#[test]
fn definitions_are_refused() {
    let place = "openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    let rows = [
        (json!({"rule": "self.min"}), ".rule", "cel expression must evaluate to a bool"),
        (
            json!({"rule": "self.x == 1"}),
            ".rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'x'",
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            json!({"rule": "true", "messageExpression": "x"}),
            ".messageExpression",
            "messageExpression compilation failed: ERROR: <input>:1:1: undeclared reference to 'x'",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            ".optionalOldSelf",
            "Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "self.name.find('(') == ''"}),
            ".rule",
            "program instantiation failed: error parsing regexp",
        ),
        (
            json!({"rule": "oldSelf + 1 == 2", "optionalOldSelf": true}),
            ".rule",
            "applied to '(optional_type(selfType), int)'",
        ),
        (
            json!({"rule": "true", "messageExpression": "'min is ' + string(self.min)"}),
            ".messageExpression",
            "estimated messageExpression cost exceeds budget by factor of more than 100x",
        ),
        (
            json!({"rule": "[self].all(a, lists.range(1000).all(b, lists.range(1000).all(c, lists.range(1000).all(d, true))))"}),
            ".rule",
            "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule",
        ),
    ];
    for (rule, field, expected) in rows {
        let found = refusals(&replicas(&rule));
        assert!(found[0].starts_with(&format!("{place}{field}: ")), "{}", found[0]);
        assert!(found[0].contains(expected), "{}\nexpected: {expected}", found[0]);
    }
    assert_eq!(
        refusals(&replicas(
            &json!({"rule": "self.min", "message": "m\"", "reason": "FieldValueInvalid"})
        ))[0],
        format!(
            "{place}.rule: Invalid value: apiextensions.ValidationRule{{Rule:\"self.min\", Message:\"m\\\"\", \
             MessageExpression:\"\", Reason:(*apiextensions.FieldValueErrorReason)(0xc000000000), FieldPath:\"\", \
             OptionalOldSelf:(*bool)(nil)}}: cel expression must evaluate to a bool"
        )
    );
}

#[test]
fn old_values_without_identity_are_refused() {
    let item =
        with_rule(json!({"type": "string", "maxLength": 5}), &json!({"rule": "self == oldSelf"}));
    let document = with_spec(&json!({"type": "array", "maxItems": 5, "items": item}));
    assert_eq!(
        refusals(&document),
        [
            "openAPIV3Schema.properties[spec].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": \
          oldSelf cannot be used on the uncorrelatable portion of the schema within openAPIV3Schema.properties[spec]"
        ]
    );
}

#[test]
fn rules_on_values_that_they_cannot_see_are_refused() {
    let document = with_spec(&with_rule(
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        &json!({"rule": "true"}),
    ));
    assert!(
        refusals(&document)[0].contains("unable to convert structural schema to CEL declarations")
    );
}

#[test]
fn definitions_that_cost_too_much_are_refused() {
    let text = json!({"type": "string"});
    let rule = json!({"rule": "self.contains('abcdefghijklmnopqrstuvwxyz')"});
    let list = |items: i64| json!({"type": "array", "maxItems": items, "items": with_rule(text.clone(), &rule)});
    assert!(compile(&with_spec(&list(10))).is_ok());
    assert!(refusals(&with_spec(&list(16)))[0].ends_with(
        "Forbidden: estimated rule cost exceeds budget by factor of 1.509954x (try simplifying the rule, or adding \
         maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    ) || refusals(&with_spec(&list(16)))[0].contains("exceeds budget by factor of 1.5"));
    let mut properties = json!({});
    for name in 0..12 {
        properties[format!("p{name}")] = list(10);
    }
    let found = refusals(&json!({"type": "object", "properties": properties}));
    assert_eq!(found.len(), 5);
    assert!(found[0].ends_with(
        "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    ));
    assert!(found[4].starts_with(
        "openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema \
         exceeds budget by factor of 1.1"
    ));
}

#[test]
fn defaults_are_validated() {
    let node = schema(&with_rule(json!({"type": "string"}), &json!({"rule": "self != 'a'"})));
    let path = Path::root("spec");
    assert_eq!(Compiled::validate_default(&node, &json!("b"), &path), []);
    assert_eq!(Compiled::validate_default(&node, &json!("a"), &path).len(), 1);
}
