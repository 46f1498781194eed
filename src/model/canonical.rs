//! The canonical form of a document: the one that Kubernetes has after it decoded a document into its Go types and encoded
//! it again. Empty lists and maps and the zeros of `omitempty` fields are left out, structs are always there, quantities
//! and times have one spelling. Enter at [`canonicalise`].

use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use crate::model::{
    Kind,
    fields::{self, Field, Form, Message, Presence, Shape},
    quantity,
    time::{micro_time_text, time_text},
};

/// Go's `time.Time{}`. It is left out.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Brings a document of a stored kind into its canonical form. Unknown fields and values of a wrong type stay as they are:
/// decoding finds them later. Of custom resources only the metadata has a Go type.
pub fn canonicalise(kind: &Kind, document: &mut Value) {
    let Value::Object(fields) = document else { return };
    let message =
        if kind.is_custom() { None } else { fields::message(&kind.api_version(), &kind.kind) };
    if let Some(message) = message {
        object(message, fields);
    } else if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
        object(fields::metadata(), metadata);
    }
}

fn object(message: &Message, fields: &mut Map<String, Value>) {
    fields.retain(|name, value| message.field(name).is_none_or(|field| is_kept(field, value)));
    message.complete(fields);
}

/// Canonicalises the value; `false` if it is not written.
fn is_kept(field: &Field, content: &mut Value) -> bool {
    if content.is_null() {
        return false;
    }
    shaped(field.shape, content);
    match (field.shape, &*content) {
        (Shape::One(Form::Time | Form::MicroTime), Value::String(time)) => time != NO_TIME,
        _ => field.presence != Presence::NonZero || !is_zero(field.shape, content),
    }
}

fn shaped(shape: Shape, content: &mut Value) {
    match (shape, &mut *content) {
        (Shape::One(form), _) => value(form, content),
        (Shape::List(form), Value::Array(items)) => {
            items.iter_mut().for_each(|item| value(form, item));
        }
        (Shape::Map(form), Value::Object(entries)) => {
            for entry in entries.values_mut() {
                entry_of_map(form, entry);
            }
        }
        _ => {}
    }
}

/// The zero of the type, for fields whose zero is not written; a value of another type is none.
fn is_zero(shape: Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
        (Shape::One(Form::Text | Form::Bytes | Form::IntegerOrText), Value::String(text)) => {
            text.is_empty()
        }
        (Shape::One(Form::Bool), Value::Bool(value)) => !value,
        (
            Shape::One(Form::Integer32 | Form::Integer | Form::Number | Form::IntegerOrText),
            Value::Number(number),
        ) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn entry_of_map(form: Form, entry: &mut Value) {
    if entry.is_null() {
        match form {
            Form::Text | Form::Bytes => *entry = "".into(),
            Form::Quantity => *entry = "0".into(),
            _ => {}
        }
    }
    value(form, entry);
}

fn value(form: Form, value: &mut Value) {
    match (form, &mut *value) {
        (Form::Message(id), _) if id.message().is_either => {
            if let Some(field) = id.message().choice(value) {
                shaped(field.shape, value);
            }
        }
        (Form::Message(id), Value::Object(fields)) => object(id.message(), fields),
        (Form::Number, Value::Number(number)) => *value = number_of(number),
        (Form::Quantity, Value::Number(number)) => *value = quantity_of(&number.to_string()),
        (Form::Quantity, Value::String(text)) => *value = quantity_of(text),
        (Form::Time, Value::String(text)) => rewrite(text, NO_TIME.len(), time_text),
        (Form::MicroTime, Value::String(text)) => {
            rewrite(text, NO_TIME.len() + ".000000".len(), micro_time_text);
        }
        _ => {}
    }
}

fn quantity_of(text: &str) -> Value {
    quantity::canonical(text.trim()).unwrap_or_else(|| text.to_owned()).into()
}

/// Go writes a number without the fraction that it does not have.
fn number_of(number: &Number) -> Value {
    match number.to_string().strip_suffix(".0").map(str::parse::<i64>) {
        Some(Ok(integer)) => integer.into(),
        _ => number.clone().into(),
    }
}

/// Rewrites a time. One of the right length in UTC is canonical already.
fn rewrite(time: &mut String, length: usize, write: fn(Timestamp) -> String) {
    if (time.len() != length || !time.ends_with('Z'))
        && time != NO_TIME
        && let Ok(parsed) = time.parse()
    {
        *time = write(parsed);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::kind;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
    fn check(kind: &Kind, given: Value, expected: Value) {
        let mut document = given;
        canonicalise(kind, &mut document);
        assert_eq!(document, expected);
        let once = document.clone();
        canonicalise(kind, &mut document);
        assert_eq!(document, once);
    }

    /// The spec of a pod with one container; both get what is not given.
    fn pod(mut spec: Value, mut container: Value) -> Value {
        container["name"] = "c".into();
        if container.get("resources").is_none() {
            container["resources"] = json!({});
        }
        spec["containers"] = json!([container]);
        json!({"metadata": {"name": "p"}, "spec": spec, "status": {}})
    }

    #[test]
    fn zeros_of_omitempty_fields_vanish() {
        for (spec, container) in [
            (json!({"volumes": []}), json!({"env": [], "ports": []})),
            (json!({"tolerations": null}), json!({"command": null})),
            (json!({"nodeSelector": {}, "hostAliases": []}), json!({"tty": false})),
            (json!({"hostPID": false}), json!({"stdin": false, "workingDir": ""})),
            (json!({"nodeName": "", "overhead": {}}), json!({"resources": {"limits": {}}})),
        ] {
            check(&kind::POD, pod(spec, container), pod(json!({}), json!({})));
        }
        let probe = |probe: Value| pod(json!({}), json!({"livenessProbe": probe}));
        check(
            &kind::POD,
            probe(json!({"initialDelaySeconds": 0, "tcpSocket": {"port": 0, "host": ""}})),
            probe(json!({"tcpSocket": {"port": 0}})),
        );
    }

    #[test]
    fn what_was_set_stays() {
        for (spec, container) in [
            (json!({"securityContext": {}, "affinity": {}}), json!({"securityContext": {}})),
            (json!({"priority": 0}), json!({"securityContext": {"privileged": false}})),
            (json!({"automountServiceAccountToken": false}), json!({"livenessProbe": {}})),
            (json!({"volumes": [{"name": "v", "emptyDir": {}}]}), json!({})),
            (json!({"unknown": []}), json!({"stdin": "", "env": {}})),
        ] {
            check(&kind::POD, pod(spec.clone(), container.clone()), pod(spec, container));
        }
        let deployment = |spec: Value| json!({"metadata": {}, "spec": spec, "status": {}});
        let template = json!({"metadata": {}, "spec": {"containers": []}});
        check(
            &kind::DEPLOYMENT,
            deployment(json!({"replicas": 0, "paused": false})),
            deployment(json!({"replicas": 0, "template": template, "strategy": {}})),
        );
    }

    #[test]
    fn what_is_always_written_is_added() {
        check(
            &kind::ROLE,
            json!({"metadata": {"labels": {}}, "rules": [{"resources": ["pods"], "resourceNames": []}]}),
            json!({"metadata": {}, "rules": [{"resources": ["pods"], "verbs": []}]}),
        );
        let variable = |divisor: Value| {
            let mut field = json!({"resource": "limits.cpu"});
            if !divisor.is_null() {
                field["divisor"] = divisor;
            }
            pod(
                json!({}),
                json!({"env": [{"name": "N", "valueFrom": {"resourceFieldRef": field}}]}),
            )
        };
        check(&kind::POD, variable(Value::Null), variable(json!("0")));
        check(&kind::POD, variable(json!("1000m")), variable(json!("1")));
    }

    #[test]
    fn quantities_have_one_spelling() {
        let limits = |cpu: Value| pod(json!({}), json!({"resources": {"limits": {"cpu": cpu}}}));
        for (given, canonical) in [
            (json!("2000m"), json!("2")),
            (json!(2), json!("2")),
            (json!(0.25), json!("250m")),
            (json!(" 1 "), json!("1")),
            (json!("0"), json!("0")),
            (json!(null), json!("0")),
            (json!("lots"), json!("lots")),
            (json!(true), json!(true)),
        ] {
            check(&kind::POD, limits(given), limits(canonical));
        }
        let volume = |size: &str| {
            pod(json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": size}}]}), json!({}))
        };
        check(&kind::POD, volume("2048Ki"), volume("2Mi"));
        check(&kind::POD, volume("0Mi"), volume("0"));
    }

    #[test]
    fn times_have_one_spelling() {
        let lease = |time: &str| json!({"metadata": {}, "spec": {"renewTime": time}});
        check(
            &kind::LEASE,
            lease("2026-01-01T01:00:00.5+01:00"),
            lease("2026-01-01T00:00:00.500000Z"),
        );
        check(&kind::LEASE, lease("soon"), lease("soon"));
        check(&kind::LEASE, lease(NO_TIME), json!({"metadata": {}, "spec": {}}));
        let map = |metadata: Value| json!({"metadata": metadata});
        check(
            &kind::CONFIG_MAP,
            map(json!({"creationTimestamp": null, "deletionTimestamp": "2026-01-01T00:00:00.9Z"})),
            map(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        );
    }

    #[test]
    fn maps_hold_no_null() {
        check(
            &kind::CONFIG_MAP,
            json!({"metadata": {"annotations": {"a": null, "b": ""}}, "data": {}}),
            json!({"metadata": {"annotations": {"a": "", "b": ""}}}),
        );
    }

    #[test]
    fn schemas_have_a_canonical_form() {
        let message = fields::message("apiextensions.k8s.io/v1", "JSONSchemaProps").unwrap();
        for (given, canonical) in [
            (json!({"maximum": 10.0, "enum": [], "nullable": false}), json!({"maximum": 10})),
            (json!({"minimum": 0, "multipleOf": 0.5}), json!({"minimum": 0, "multipleOf": 0.5})),
            (json!({"items": {"enum": []}}), json!({"items": {}})),
            (json!({"items": [{"title": ""}]}), json!({"items": [{}]})),
            (json!({"additionalProperties": false}), json!({"additionalProperties": false})),
            (json!({"dependencies": {"a": ["b"]}}), json!({"dependencies": {"a": ["b"]}})),
            (
                json!({"properties": {"a": {"default": {"b": null}}}}),
                json!({"properties": {"a": {"default": {"b": null}}}}),
            ),
        ] {
            let Value::Object(mut schema) = given else { unreachable!("it is an object") };
            object(message, &mut schema);
            assert_eq!(Value::Object(schema), canonical);
        }
    }

    #[test]
    fn custom_resources_have_typed_metadata_only() {
        let given = json!({"metadata": {"labels": {}}, "spec": {"list": []}});
        check(&kind::LOAD_BALANCER_POLICY, given, json!({"metadata": {}, "spec": {"list": []}}));
    }
}
