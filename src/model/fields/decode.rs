//! Reads a document by the table, as Kubernetes reads it into Go types: every value must be of its field's form, and
//! fields that the type does not have are dropped. So a kind needs no Rust type.

use std::fmt;

use k8s_openapi::{
    ByteString,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, Time},
        util::intstr::IntOrString,
    },
};
use serde::{
    Deserialize, Serialize,
    de::{Error, Unexpected},
};
use serde_json::Value;

use crate::model::{
    fields::{Form, Message, Shape},
    wording,
};

/// Why a document cannot be read: the first value, in its order, that is not of its field's form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("json: field {path}: {detail}")]
pub struct Fault {
    /// Where it stands, `spec.ports[0].port`; `.` for the document itself.
    pub path: String,
    /// What is wrong with it.
    pub detail: String,
}

/// Where a value stands, as a chain back to the document.
#[derive(Clone, Copy)]
enum Path<'a> {
    Document,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => Ok(()),
            Self::Field(Self::Document, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Path<'_> {
    fn fault(&self, error: &serde_json::Error) -> Fault {
        let path = if matches!(self, Self::Document) { ".".to_owned() } else { self.to_string() };
        Fault { path, detail: wording::in_json(error) }
    }

    fn expected(&self, form: &str, found: &Value) -> Fault {
        self.fault(&Error::invalid_type(unexpected(found), &form))
    }
}

impl Message {
    /// Drops the fields that the type does not have, and returns their paths in the order of the document.
    ///
    /// # Errors
    /// The first value that is not of its field's form. The document may then lack some of its unknown fields.
    pub fn decode(&self, document: &mut Value) -> Result<Vec<String>, Fault> {
        let mut unknown = Vec::new();
        read(self, document, &Path::Document, &mut unknown)?;
        Ok(unknown)
    }
}

fn read(
    message: &Message,
    value: &mut Value,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Fault> {
    if message.is_either {
        return match message.choice(value) {
            Some(field) => read_shape(field.shape, value, path, unknown),
            None => Err(path.fault(&Error::custom("data did not match any variant"))),
        };
    }
    let Value::Object(fields) = value else { return Err(path.expected("an object", value)) };
    let mut dropped = Vec::new();
    for (name, content) in fields.iter_mut() {
        let here = Path::Field(path, name);
        match message.field(name) {
            // As if it were not there.
            Some(_) if content.is_null() => {}
            Some(field) => read_shape(field.shape, content, &here, unknown)?,
            None if message.has_identity(name) => read_identity(message, name, content, &here)?,
            None => {
                unknown.push(here.to_string());
                dropped.push(name.clone());
            }
        }
    }
    for name in dropped {
        fields.shift_remove(&name);
    }
    Ok(())
}

fn read_shape(
    shape: Shape,
    value: &mut Value,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Fault> {
    match (shape, value) {
        (Shape::One(form), value) => read_value(form, value, path, unknown),
        (Shape::List(form), Value::Array(items)) => {
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(i, item)| read_value(form, item, &Path::Item(path, i), unknown))
        }
        (Shape::Map(form), Value::Object(entries)) => {
            let mut entries = entries.iter_mut();
            entries.try_for_each(|(k, v)| read_value(form, v, &Path::Field(path, k), unknown))
        }
        (Shape::List(_), value) => Err(path.expected("a list", value)),
        (Shape::Map(_), value) => Err(path.expected("an object", value)),
    }
}

fn read_value(
    form: Form,
    value: &mut Value,
    path: &Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Fault> {
    match (form, &*value) {
        (Form::Json, _) | (Form::Text | Form::Quantity, Value::String(_)) => Ok(()),
        (Form::Message(id), _) => read(id.message(), value, path, unknown),
        (Form::Text, _) => read_as::<String>(value, path),
        (Form::Bool, _) => read_as::<bool>(value, path),
        (Form::Integer32, _) => read_as::<i32>(value, path),
        (Form::Integer, _) => read_as::<i64>(value, path),
        (Form::Number, _) => read_as::<f64>(value, path),
        (Form::Bytes, _) => read_as::<ByteString>(value, path),
        (Form::Quantity, _) => read_as::<Quantity>(value, path),
        (Form::IntegerOrText, _) => read_as::<IntOrString>(value, path),
        (Form::Time, _) => read_time::<Time>(value, path),
        (Form::MicroTime, _) => read_time::<MicroTime>(value, path),
    }
}

fn read_as<'a, T: Deserialize<'a>>(value: &'a Value, path: &Path<'_>) -> Result<(), Fault> {
    T::deserialize(value).map(drop).map_err(|error| path.fault(&error))
}

/// Also a time that lies before year 0 in UTC can be read and written, but what was written cannot be read; Kubernetes
/// knows none either.
fn read_time<T: for<'a> Deserialize<'a> + Serialize>(
    value: &Value,
    path: &Path<'_>,
) -> Result<(), Fault> {
    let time = T::deserialize(value).map_err(|error| path.fault(&error))?;
    match value {
        Value::String(text) if text.starts_with('-') || text.starts_with("0000-") => {
            let written = serde_json::to_value(time).map_err(|error| path.fault(&error))?;
            read_as::<T>(&written, path)
        }
        _ => Ok(()),
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(integer), _) => Unexpected::Unsigned(integer),
            (_, Some(integer)) => Unexpected::Signed(integer),
            _ => Unexpected::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

impl Message {
    fn has_identity(&self, name: &str) -> bool {
        self.kind.is_some() && matches!(name, "apiVersion" | "kind")
    }
}

/// The API version and the kind must be those of the type, where they are told.
fn read_identity(
    message: &Message,
    name: &str,
    value: &Value,
    path: &Path<'_>,
) -> Result<(), Fault> {
    let Some((api_version, kind)) = &message.kind else { return Ok(()) };
    let expected = if name == "kind" { *kind } else { api_version.as_str() };
    read_as::<String>(value, path)?;
    if value != expected {
        return Err(path.fault(&Error::invalid_value(unexpected(value), &expected)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::fields;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
    fn check(version: &str, kind: &str, given: Value, unknown: &[&str], kept: Value) {
        let mut document = given;
        let found = fields::message(version, kind).unwrap().decode(&mut document).unwrap();
        assert_eq!(found, unknown);
        assert_eq!(document, kept);
    }

    #[track_caller]
    fn refused(version: &str, kind: &str, mut document: Value, expected: &str) {
        let fault = fields::message(version, kind).unwrap().decode(&mut document).unwrap_err();
        assert_eq!(fault.to_string(), format!("json: field {expected}"));
    }

    #[test]
    fn unknown_fields_are_dropped() {
        check(
            "v1",
            "Service",
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "x": 1},
                "spec": {"ports": [{"port": 80, "y": {}}], "z": null}}),
            &["metadata.x", "spec.ports[0].y", "spec.z"],
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
                "spec": {"ports": [{"port": 80}]}}),
        );
        check(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"volumeClaimTemplates": [{"kind": "PersistentVolumeClaim", "a": 1}],
                "template": {"kind": "PodTemplateSpec"}}}),
            &["spec.volumeClaimTemplates[0].a", "spec.template.kind"],
            json!({"spec": {"volumeClaimTemplates": [{"kind": "PersistentVolumeClaim"}],
                "template": {}}}),
        );
    }

    #[test]
    fn schemas_are_read_whole() {
        let schema = |schema: Value| json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        let path = "spec.versions[0].schema.openAPIV3Schema";
        let crd = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        check(
            crd.0,
            crd.1,
            schema(json!({"properties": {"a": {"items": {"x": 1, "default": {"x": null}},
                "additionalProperties": false}}})),
            &[&format!("{path}.properties.a.items.x")],
            schema(json!({"properties": {"a": {"items": {"default": {"x": null}},
                "additionalProperties": false}}})),
        );
        for (given, expected) in [
            (
                json!({"items": 1}),
                ".items: the value has none of the forms that this field can have",
            ),
            (
                json!({"items": [{"type": 1}]}),
                ".items[0].type: invalid type: integer `1`, expected a string",
            ),
            (json!({"maximum": "1"}), ".maximum: invalid type: string \"1\", expected a number"),
        ] {
            refused(crd.0, crd.1, schema(given), &format!("{path}{expected}"));
        }
    }

    #[test]
    fn the_first_fault_is_told() {
        for (document, expected) in [
            (json!([]), ".: invalid type: list, expected an object"),
            (json!({"spec": []}), "spec: invalid type: list, expected an object"),
            (json!({"kind": "Pod"}), "kind: invalid value: string \"Pod\", expected Lease"),
            (
                json!({"spec": {"leaseDurationSeconds": 3_000_000_000_u64, "holderIdentity": 1}}),
                "spec.leaseDurationSeconds: invalid value: integer `3000000000`, expected an integer",
            ),
            (
                json!({"metadata": {"labels": {"a": null}}}),
                "metadata.labels.a: invalid type: null, expected a string",
            ),
        ] {
            refused("coordination.k8s.io/v1", "Lease", document, expected);
        }
    }

    #[test]
    fn times_can_be_read_back() {
        for (time, is_fine) in [
            ("-009999-01-02T01:59:59Z", false),
            ("0000-01-01T00:00:00Z", true),
            ("0000-01-01T00:00:00+01:00", false),
            ("9999-12-30T22:00:00Z", true),
        ] {
            let mut document = json!({"spec": {"renewTime": time}});
            let lease = fields::message("coordination.k8s.io/v1", "Lease").unwrap();
            assert_eq!(lease.decode(&mut document).is_ok(), is_fine, "{time}");
        }
    }
}
