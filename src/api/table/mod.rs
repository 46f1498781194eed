//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. Pure functions from objects and a time.
//!
//! Enter at `head` and `row_of` (lists) and [`render_one`] (one object, watch events). The columns and the rules of their
//! cells are those of kube-apiserver's printers for 1.36; a kind's columns are in `columns.rs`, its cells in
//! `cells.rs`, `pod.rs`, `batch.rs` and `stored.rs`, what these share in `row.rs`.

mod age;
mod batch;
mod cells;
mod columns;
mod pod;
mod row;
mod stored;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::model::{Kind, Object, Status};

pub use columns::Column;

/// What marks the bookmark after the first events of a watch; it is shown whatever a row shows else.
pub(crate) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The `includeObject` parameter: what a row carries besides its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata, as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty means metadata.
    ///
    /// # Errors
    /// 400 for anything else, as `ValidateTableOptions`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            _ => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {text:?}: \
                 must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The version of `meta.k8s.io` in which a table or metadata are wanted; only the name differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The present one.
    V1,
    /// That of old clients.
    V1Beta1,
}

impl Version {
    /// With the group.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How a table is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Of the table, and of the metadata in it.
    pub version: Version,
    /// What rows carry.
    pub include: IncludeObject,
}

/// A table, ready to be serialised.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    /// `null` in all events of a watch but the first.
    column_definitions: Option<&'static [Column]>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Value>,
    object: Option<Box<RawValue>>,
}

impl Table {
    /// The JSON document.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a table has string keys only").into()
    }
}

/// A table of many objects up to the list of its rows, which are then [`row_of`] each. `metadata` is the list's own:
/// `resourceVersion`, `continue`, `remainingItemCount`.
pub(crate) fn head(kind: &Kind, metadata: Value, version: Version) -> String {
    let empty = table(version, Some(columns::of(kind)), Vec::new(), metadata);
    let mut text = serde_json::to_string(&empty).expect("a table has string keys only");
    text.truncate(text.len() - "[]}".len());
    text
}

/// Whether the table of no objects has no list of rows.
pub(crate) fn is_generic(kind: &Kind) -> bool {
    columns::is_generic(kind)
}

/// The row of one object.
pub(crate) fn row_of(object: &Object, now: Timestamp, rows: Rows) -> Bytes {
    serde_json::to_vec(&row(object, now, rows)).expect("a row has string keys only").into()
}

/// A table of one object: for GET, and for each event of a watch. Like kube-apiserver, a watch sends the columns with
/// its first event only (`with_columns`).
pub fn render_one(object: &Object, now: Timestamp, rows: Rows, with_columns: bool) -> Table {
    let columns = with_columns.then(|| columns::of(object.key.kind));
    let metadata = json!({"resourceVersion": object.revision.to_string()});
    table(rows.version, columns, vec![row(object, now, rows)], metadata)
}

/// The table of a scale, which is nothing that is stored.
pub(crate) fn of_scale(scale: &Value, now: Timestamp, rows: Rows) -> Table {
    let metadata = &scale["metadata"];
    let replicas = |of: &str| scale[of]["replicas"].as_i64().unwrap_or_default().into();
    let age = age::since_text(metadata["creationTimestamp"].as_str(), now);
    let cells = vec![metadata["name"].clone(), replicas("spec"), replicas("status"), age.into()];
    let object = match rows.include {
        IncludeObject::None => None,
        IncludeObject::Object => Some(scale.clone()),
        IncludeObject::Metadata => Some(partial_of(metadata, rows.version)),
    };
    let object = object.and_then(|object| RawValue::from_string(object.to_string()).ok());
    let row = Row { cells, conditions: Vec::new(), object };
    let metadata = json!({"resourceVersion": metadata["resourceVersion"]});
    table(rows.version, Some(columns::SCALE), vec![row], metadata)
}

/// A document's metadata alone.
pub(crate) fn partial_of(metadata: &Value, version: Version) -> Value {
    let api_version = version.api_version();
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata})
}

fn table(
    version: Version,
    column_definitions: Option<&'static [Column]>,
    rows: Vec<Row>,
    metadata: Value,
) -> Table {
    let api_version = version.api_version();
    Table { kind: "Table", api_version, metadata, column_definitions, rows }
}

fn row(object: &Object, now: Timestamp, rows: Rows) -> Row {
    let cells = cells::of(object, now).unwrap_or_else(|error| {
        tracing::error!(%error, "stored object cannot be printed");
        let rest = columns::of(object.key.kind).len().saturating_sub(1);
        let unknown = std::iter::repeat_n(Value::from("<unknown>"), rest);
        std::iter::once(object.key.name.as_str().into()).chain(unknown).collect()
    });
    Row { cells, conditions: pod::row_conditions(object), object: included(object, rows) }
}

/// An object's metadata alone, as a `PartialObjectMetadata` document.
pub fn partial(object: &Object, version: Version) -> Bytes {
    let json = included(object, Rows { version, include: IncludeObject::Metadata })
        .map_or("null".into(), Box::<str>::from);
    String::from(json).into()
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

fn included(object: &Object, rows: Rows) -> Option<Box<RawValue>> {
    let document = object.document();
    let text = std::str::from_utf8(&document).ok()?;
    let json = match rows.include {
        IncludeObject::None if !object.metadata.annotations.contains_key(INITIAL_EVENTS_END) => {
            return None;
        }
        IncludeObject::Object => text.to_owned(),
        IncludeObject::Metadata | IncludeObject::None => {
            let Envelope { metadata } = serde_json::from_str(text).ok()?;
            let api_version = rows.version.api_version();
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"{api_version}","metadata":{metadata}}}"#
            )
        }
    };
    RawValue::from_string(json).ok()
}
