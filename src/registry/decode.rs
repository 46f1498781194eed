//! From a client's document to its kind's type and back: types are checked, unknown and wrong fields are found.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::model::{Kind, Status};

/// The `fieldValidation` query parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown fields are dropped in silence.
    Ignore,
    /// Unknown fields are dropped with a warning.
    #[default]
    Warn,
    /// Unknown fields are an error.
    Strict,
}

/// Reads a document as `T`, which drops what `T` does not know; gives the warnings about that. The error names the
/// path of the first field of a wrong type, or the unknown fields if the client wants it so.
pub(crate) fn decode<T: DeserializeOwned + Serialize>(
    kind: &Kind,
    document: &Value,
    validation: FieldValidation,
) -> Result<(T, Vec<String>), Status> {
    let object: T = typed(kind, document)?;
    let kept = encode(&object);
    if may_hold_time_before_year_0(&kept) {
        // Such a time can be read and written, but what was written cannot be read; Kubernetes knows none either.
        typed::<T>(kind, &kept)?;
    }
    if validation == FieldValidation::Ignore {
        return Ok((object, Vec::new()));
    }
    let mut unknown = Vec::new();
    find_dropped(document, &kept, "", &mut unknown);
    let warnings = judge_unknown(&unknown, validation)?;
    Ok((object, warnings))
}

/// Reads a document as `T`, without a look at what `T` does not know.
pub(crate) fn typed<T: DeserializeOwned>(kind: &Kind, document: &Value) -> Result<T, Status> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: json: field {}: {}",
            kind.kind,
            kind.version,
            kind.kind,
            error.path(),
            error.inner()
        ))
    })
}

/// The JSON of a typed object.
pub(crate) fn encode<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("Kubernetes types have string keys and no failing fields")
}

fn may_hold_time_before_year_0(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with('-') && text.contains('T'),
        Value::Array(items) => items.iter().any(may_hold_time_before_year_0),
        Value::Object(fields) => fields.values().any(may_hold_time_before_year_0),
        _ => false,
    }
}

/// Applies the client's wish about unknown fields: an error, or the warnings to send along.
fn judge_unknown(unknown: &[String], validation: FieldValidation) -> Result<Vec<String>, Status> {
    let lines: Vec<String> =
        unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    match validation {
        FieldValidation::Strict if !lines.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", lines.join(", "))))
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(lines),
    }
}

/// Everything that is in `given` and did not survive into `kept` is a field that the type does not have.
fn find_dropped(given: &Value, kept: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (name, value) in given {
                let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match kept.get(name) {
                    Some(kept) => find_dropped(value, kept, &here, unknown),
                    None if value.is_null() => {}
                    None => unknown.push(here),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                find_dropped(given, kept, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Service};
    use serde_json::json;

    use super::*;
    use crate::model::kind;

    #[test]
    fn unknown_fields_are_found_by_path() {
        let document = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "x": 1},
            "spec": {"ports": [{"port": 80, "targetprot": 1}], "selector": null}});
        let decode = |validation| decode::<Service>(&kind::SERVICE, &document, validation);
        let unknown = ["metadata.x", "spec.ports[0].targetprot"];
        let lines = unknown.map(|path| format!("unknown field \"{path}\""));
        assert_eq!(decode(FieldValidation::Warn).unwrap().1, lines);
        assert_eq!(decode(FieldValidation::Ignore).unwrap().1, [""; 0]);
        let strict = decode(FieldValidation::Strict).err().unwrap();
        assert_eq!(strict.message, format!("strict decoding error: {}", lines.join(", ")));
    }

    #[test]
    fn times_that_can_be_read_back() {
        for (time, fine) in [
            ("-009999-01-02T01:59:59Z", false),
            ("-000001-01-02T01:59:59Z", false),
            ("0000-01-01T00:00:00Z", true),
            ("9999-12-30T22:00:00Z", true),
        ] {
            let document = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a",
                "annotations": {"note": "-009999-01-02T01:59:59Z"}},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]}});
            let decoded = decode::<Node>(&kind::NODE, &document, FieldValidation::Ignore);
            assert_eq!(
                decoded.as_ref().map_err(|status| status.code).err(),
                (!fine).then_some(400)
            );
            if let Err(status) = decoded {
                let field = "status.conditions[0].lastHeartbeatTime";
                assert!(status.message.contains(field), "{}", status.message);
            }
        }
    }

    #[test]
    fn wrong_types_name_the_field() {
        let document = json!({"apiVersion": "v1", "kind": "Service", "metadata": {},
            "spec": {"ports": [{"port": "eighty"}]}});
        let error = typed::<Service>(&kind::SERVICE, &document).err().unwrap();
        assert!(error.message.contains("spec.ports[0].port"), "{}", error.message);
    }
}
