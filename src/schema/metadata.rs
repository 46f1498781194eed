//! `apiVersion`, `kind` and `metadata` of embedded resources: made what Kubernetes would read of them, and checked.
//! Source: apiextensions-apiserver's `schema/objectmeta`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::{
    model::{
        Cause, fields,
        fields::{Form, Message, Shape},
        wording,
    },
    schema::{go_text, path::Path, structural::Schema},
};

/// Checks the metadata of a document, which has it in `metadata`; the causes' fields start with that.
pub type Check<'a> = &'a dyn Fn(&Value) -> Vec<Cause>;

/// Gives embedded resources the metadata that Kubernetes reads: of the known fields, without what is empty. `is_resource`
/// says whether the value is one, whatever its schema says. Gives the paths of unknown fields, sorted.
///
/// # Errors
/// The first field that has the wrong type.
pub fn coerce(
    value: &mut Value,
    schema: &Schema,
    is_resource: bool,
    path: &Path<'_>,
) -> Result<Vec<String>, Cause> {
    let mut unknown = Vec::new();
    let is_resource = is_resource || schema.embedded_resource;
    coerce_value(value, schema, is_resource, path, &mut unknown)?;
    unknown.sort_unstable();
    Ok(unknown)
}

fn coerce_value(
    value: &mut Value,
    schema: &Schema,
    is_resource: bool,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Cause> {
    if let Value::Object(fields) = value
        && is_resource
    {
        coerce_meta_fields(fields, path, unknown)?;
    }
    let mut below = |value, schema: &Schema, path: &Path<'_>| {
        coerce_value(value, schema, schema.embedded_resource, path, unknown)
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(property) = schema.properties.find(name) {
                    below(value, property, &path.child(name))?;
                } else if let Some(schema) = schema.additional_properties.schema() {
                    below(value, schema, &path.key(name))?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return Ok(()) };
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(at, item)| below(item, schema, &path.index(at)))
        }
        _ => Ok(()),
    }
}

fn coerce_meta_fields(
    fields: &mut Map<String, Value>,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Cause> {
    for name in ["apiVersion", "kind"] {
        if let Some(value) = fields.get(name).filter(|value| !value.is_string()) {
            return Err(invalid(&path.child(name), value, "must be a string"));
        }
    }
    let Some(metadata) = fields.get_mut("metadata") else { return Ok(()) };
    let path = path.child("metadata");
    let read: ObjectMeta = if metadata.is_null() {
        ObjectMeta::default()
    } else {
        serde::Deserialize::deserialize(&*metadata).map_err(|error: serde_json::Error| {
            invalid(&path, metadata, &wording::in_json(&error))
        })?
    };
    find_unknown(metadata, fields::metadata(), &path, unknown);
    *metadata = serde_json::to_value(read).unwrap_or_default();
    if let Value::Object(fields) = metadata {
        fields.retain(|_, value| !is_zero(value));
    }
    Ok(())
}

/// Whether Go leaves out a field of this value.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Fields that a message does not have.
fn find_unknown(value: &Value, message: &Message, path: &Path<'_>, unknown: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = path.child(name);
        let Some(field) = message.fields.iter().find(|field| field.name == name) else {
            unknown.push(path.to_string());
            continue;
        };
        match (field.shape, value) {
            (Shape::One(Form::Message(id)), value) => {
                find_unknown(value, id.message(), &path, unknown);
            }
            (Shape::List(Form::Message(id)), Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    find_unknown(item, id.message(), &path.index(at), unknown);
                }
            }
            _ => {}
        }
    }
}

/// Checks embedded resources: `apiVersion` and `kind` must be there, metadata must be sound. `is_resource` as for
/// [`coerce`].
pub fn validate(
    value: &Value,
    schema: &Schema,
    is_resource: bool,
    path: &Path<'_>,
    check_metadata: Check<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let is_resource = is_resource || schema.embedded_resource;
    validate_value(value, schema, is_resource, path, check_metadata, &mut causes);
    causes
}

fn validate_value(
    value: &Value,
    schema: &Schema,
    is_resource: bool,
    path: &Path<'_>,
    check_metadata: Check<'_>,
    causes: &mut Vec<Cause>,
) {
    let below = |value, schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>| {
        validate_value(value, schema, schema.embedded_resource, path, check_metadata, causes);
    };
    match value {
        Value::Object(fields) => {
            if is_resource {
                validate_meta_fields(value, path, check_metadata, causes);
            }
            for (name, value) in fields {
                if let Some(property) = schema.properties.find(name) {
                    below(value, property, &path.child(name), causes);
                } else if let Some(schema) = schema.additional_properties.schema() {
                    below(value, schema, &path.key(name), causes);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            for (at, item) in items.iter().enumerate() {
                below(item, schema, &path.index(at), causes);
            }
        }
        _ => {}
    }
}

fn validate_meta_fields(
    resource: &Value,
    path: &Path<'_>,
    check_metadata: Check<'_>,
    causes: &mut Vec<Cause>,
) {
    for (name, check) in [("apiVersion", api_version_fault as fn(&str) -> _), ("kind", kind_fault)]
    {
        let path = path.child(name);
        let fault = match resource.get(name) {
            None => {
                causes.push(Cause::required(path.to_string(), ""));
                continue;
            }
            Some(Value::String(text)) if text.is_empty() => Some("must not be empty".to_owned()),
            Some(Value::String(text)) => check(text),
            Some(_) => Some("must be a string".to_owned()),
        };
        if let Some(fault) = fault {
            causes.push(invalid(&path, &resource[name], &fault));
        }
    }
    let Some(metadata) = resource.get("metadata") else { return };
    if !metadata.is_object() && !metadata.is_null() {
        causes.push(invalid(&path.child("metadata"), metadata, "must be an object"));
        return;
    }
    let mut document = json!({"metadata": metadata});
    // An embedded resource needs no name.
    if document["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        document["metadata"]["name"] = "unnamed".into();
    }
    causes.extend(check_metadata(&document).into_iter().map(|mut cause| {
        cause.field = path.child(&cause.field).to_string();
        cause
    }));
}

fn api_version_fault(text: &str) -> Option<String> {
    let is_sound = text.matches('/').count() < 2;
    (!is_sound).then(|| format!("unexpected GroupVersion string: {text}"))
}

fn kind_fault(text: &str) -> Option<String> {
    const FORM: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
        alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
        validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let lower = text.to_lowercase();
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = lower.starts_with(|c: char| c.is_ascii_lowercase())
        && !lower.ends_with('-')
        && lower.bytes().all(is_inner);
    let mut faults = Vec::new();
    if lower.len() > 63 {
        faults.push("must be no more than 63 bytes");
    }
    if !is_label {
        faults.push(FORM);
    }
    let faults = faults.join(",");
    (!faults.is_empty())
        .then(|| format!("may have mixed case, but should otherwise match: {faults}"))
}

fn invalid(path: &Path<'_>, value: &Value, detail: &str) -> Cause {
    let message = format!("Invalid value: {}: {detail}", go_text::value(value));
    Cause { reason: "FieldValueInvalid", field: path.to_string(), message }
}
