//! Decodes a client's document as the type of its kind, and encodes it again. Finds unknown fields and wrong types.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::model::{Kind, Status, fields, kind::Identity, wording};

/// The `fieldValidation` query parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown fields are dropped silently. Writers within this process use it.
    #[default]
    Ignore,
    /// Unknown fields are dropped with a warning. This is the default for clients.
    Warn,
    /// Unknown fields are an error.
    Strict,
}

/// Decodes a document as `T`, without the fields that `T` does not have. Returns warnings about those and about duplicate
/// fields. The error names the first field of a wrong type, or the unknown and duplicate fields if the client asked for
/// that.
pub(crate) fn decode<T: DeserializeOwned + Serialize>(
    kind: &Kind,
    document: &Value,
    validation: FieldValidation,
    duplicates: &[String],
) -> Result<(T, Vec<String>), Status> {
    let object: T = typed(kind, document)?;
    let may_hold_time = may_hold_time_before_year_0(document);
    if validation == FieldValidation::Ignore && !may_hold_time {
        return Ok((object, Vec::new()));
    }
    let kept = encode(&object);
    if may_hold_time {
        // Such a time can be read and written, but what was written cannot be read; Kubernetes knows none either.
        typed::<T>(kind, &kept)?;
    }
    if validation == FieldValidation::Ignore {
        return Ok((object, Vec::new()));
    }
    let mut unknown = Vec::new();
    find_dropped(document, &kept, "", &mut unknown);
    Ok((object, judge_fields(duplicates, unknown, validation)?))
}

/// Checks the types of all fields of a document by the table of fields, and drops those that its kind does not have.
/// Returns the paths of these.
pub(crate) fn by_table(kind: &Kind, document: &mut Value) -> Result<Vec<String>, Status> {
    let message = fields::message(&kind.api_version(), &kind.kind)
        .ok_or_else(|| Status::internal(format!("{} has no fields", kind.kind)))?;
    message.decode(document).map_err(|fault| unreadable(kind, &fault.to_string()))
}

fn unreadable(kind: &Kind, fault: &str) -> Status {
    let Identity { kind: name, version, .. } = &**kind;
    Status::bad_request(format!(
        "{name} in version \"{version}\" cannot be handled as a {name}: {fault}"
    ))
}

/// Reads the metadata of a custom resource, and puts what was understood in its place. Returns the paths of unknown fields.
pub(crate) fn metadata(kind: &Kind, document: &mut Value) -> Result<Vec<String>, Status> {
    #[derive(Deserialize)]
    struct OnlyMetadata {
        metadata: ObjectMeta,
    }
    let OnlyMetadata { metadata } = typed(kind, &json!({"metadata": document["metadata"]}))?;
    let kept = encode(&metadata);
    if may_hold_time_before_year_0(&document["metadata"]) {
        typed::<OnlyMetadata>(kind, &json!({"metadata": kept}))?;
    }
    let mut unknown = Vec::new();
    find_dropped(&document["metadata"], &kept, "metadata", &mut unknown);
    document["metadata"] = kept;
    Ok(unknown)
}

/// Turns unknown and duplicate fields into an error or into warnings, as the client asked for.
pub(crate) fn judge_fields(
    duplicates: &[String],
    unknown: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, Status> {
    let unknown = unknown.into_iter().map(|path| format!("unknown field \"{path}\""));
    judge(duplicates.iter().cloned().chain(unknown).collect(), validation)
}

/// Decodes a document as `T`, and ignores unknown fields.
pub(crate) fn typed<T: DeserializeOwned>(kind: &Kind, document: &Value) -> Result<T, Status> {
    T::deserialize(document).map_err(|error| {
        let path = first_fault(document, &|part| T::deserialize(part).is_ok());
        let path = if path.is_empty() { ".".to_owned() } else { path };
        unreadable(kind, &format!("json: field {path}: {}", wording::in_json(&error)))
    })
}

/// The path of the first value, in the order of the document, that makes it unreadable. `reads` must refuse what
/// contains that value and accept what ends before it: true of Kubernetes' types, where every field may be absent.
///
/// Only a refused document pays for this. Readers that keep track of their path cost every type a second
/// implementation of `Deserialize`, a tenth of this program.
fn first_fault(document: &Value, reads: &dyn Fn(&Value) -> bool) -> String {
    match document {
        Value::Object(fields) => {
            let names: Vec<&String> = fields.keys().collect();
            let upto = |count: usize| -> Value {
                Value::Object(
                    fields.iter().take(count).map(|(n, v)| (n.clone(), v.clone())).collect(),
                )
            };
            let before = shortest_refused(names.len(), &|count| reads(&upto(count)));
            let Some(before) = before else { return String::new() };
            let (name, kept) = (names[before], upto(before));
            let inner = first_fault(&fields[name], &|part| {
                let mut whole = kept.clone();
                whole[name] = part.clone();
                reads(&whole)
            });
            join(name, &inner)
        }
        Value::Array(items) => {
            let upto = |count: usize| Value::Array(items[..count].to_vec());
            let before = shortest_refused(items.len(), &|count| reads(&upto(count)));
            let Some(before) = before else { return String::new() };
            let kept = &items[..before];
            let inner = first_fault(&items[before], &|part| {
                let mut whole = kept.to_vec();
                whole.push(part.clone());
                reads(&Value::Array(whole))
            });
            join(&format!("[{before}]"), &inner)
        }
        _ => String::new(),
    }
}

/// How many leading parts can be read, if not all can, by halving; `None` if it is not the parts that are refused.
fn shortest_refused(count: usize, reads: &dyn Fn(usize) -> bool) -> Option<usize> {
    if !reads(0) || reads(count) {
        return None;
    }
    let (mut accepted, mut refused) = (0, count);
    while refused - accepted > 1 {
        let middle = accepted.midpoint(refused);
        if reads(middle) { accepted = middle } else { refused = middle }
    }
    Some(accepted)
}

fn join(outer: &str, inner: &str) -> String {
    let divider = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
    format!("{outer}{divider}{inner}")
}

/// The JSON of a typed object.
pub(crate) fn encode<T: Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("Kubernetes types have string keys and no failing fields")
}

/// Also a time of year 0 that lies in the year before, in UTC.
fn may_hold_time_before_year_0(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            (text.starts_with('-') || text.starts_with("0000-")) && text.contains('T')
        }
        Value::Array(items) => items.iter().any(may_hold_time_before_year_0),
        Value::Object(fields) => fields.values().any(may_hold_time_before_year_0),
        _ => false,
    }
}

/// The lines as an error, or as warnings.
fn judge(lines: Vec<String>, validation: FieldValidation) -> Result<Vec<String>, Status> {
    match validation {
        FieldValidation::Strict if !lines.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", lines.join(", "))))
        }
        FieldValidation::Strict | FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(lines),
    }
}

/// The fields of `given` that are missing in `kept`: the type does not have them.
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
mod agreement;

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
        let decode = |validation| decode::<Service>(&kind::SERVICE, &document, validation, &[]);
        let unknown = ["metadata.x", "spec.ports[0].targetprot"];
        let lines = unknown.map(|path| format!("unknown field \"{path}\""));
        assert_eq!(decode(FieldValidation::Warn).unwrap().1, lines);
        assert_eq!(decode(FieldValidation::Ignore).unwrap().1, [""; 0]);
        let strict = decode(FieldValidation::Strict).err().unwrap();
        assert_eq!(strict.message, format!("strict decoding error: {}", lines.join(", ")));
    }

    #[test]
    fn duplicate_fields_are_told_before_unknown_ones() {
        let document = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"nmae": "a"}});
        let twice = ["duplicate field \"spec.type\"".to_owned()];
        let decode = |validation| decode::<Service>(&kind::SERVICE, &document, validation, &twice);
        let lines = [&*twice[0], "unknown field \"metadata.nmae\""];
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
            ("0000-01-01T00:00:00+01:00", false),
            ("9999-12-30T22:00:00Z", true),
        ] {
            let document = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a",
                "annotations": {"note": "-009999-01-02T01:59:59Z"}},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]}});
            let decoded = decode::<Node>(&kind::NODE, &document, FieldValidation::Ignore, &[]);
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
    fn the_first_fault_is_found_wherever_it_is() {
        let port = |port: Value| json!({"name": "p", "port": port});
        let ports = |at: usize, wrong: Value| -> Vec<Value> {
            (0..9).map(|i| port(if i == at { wrong.clone() } else { json!(80) })).collect()
        };
        let service = |key: &str, value: Value| {
            let mut document = json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"type": "ClusterIP"}});
            document[key] = value;
            document
        };
        for (document, expected) in [
            (service("spec", json!({"ports": ports(0, json!("x"))})), "spec.ports[0].port"),
            (service("spec", json!({"ports": ports(8, json!([]))})), "spec.ports[8].port"),
            (service("spec", json!({"ports": ports(4, json!(1.5))})), "spec.ports[4].port"),
            (service("spec", json!({"ports": {"a": 1}})), "spec.ports"),
            (service("spec", json!({"ports": [[]]})), "spec.ports[0]"),
            (
                service("spec", json!({"selector": {"a": "b", "c": 1}, "ports": 1})),
                "spec.selector.c",
            ),
            (service("spec", json!([])), "spec"),
            (service("metadata", json!({"labels": {"a": "b", "c": {}}})), "metadata.labels.c"),
            (
                service("metadata", json!({"creationTimestamp": "now"})),
                "metadata.creationTimestamp",
            ),
            (service("kind", json!(1)), "kind"),
            (json!("text"), "."),
            (json!([]), "."),
            (json!(null), "."),
        ] {
            let error = typed::<Service>(&kind::SERVICE, &document).err().unwrap().message;
            let path = error.split(": ").nth(2).unwrap_or_default();
            assert_eq!(path, format!("field {expected}"), "{document}: {error}");
        }
    }

    #[test]
    fn wrong_types_name_the_field() {
        let document = json!({"apiVersion": "v1", "kind": "Service", "metadata": {},
            "spec": {"ports": [{"port": "eighty"}]}});
        let error = typed::<Service>(&kind::SERVICE, &document).err().unwrap();
        assert_eq!(
            error.message,
            "Service in version \"v1\" cannot be handled as a Service: json: field spec.ports[0].port: \
             invalid type: string \"eighty\", expected an integer"
        );
    }
}
