//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. Pure functions from objects and a time.
//!
//! Enter at `head` and `row_of` (lists) and [`render_one`] (one object, watch events). The columns and the rules of their
//! cells are those of kube-apiserver's printers for 1.36; a kind's columns are in `columns.rs`, its cells in
//! `cells.rs`, `pod.rs`, `batch.rs` and `stored.rs`.

mod age;
mod batch;
mod cells;
mod columns;
mod pod;
mod stored;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::model::{Kind, Object, Status};

pub use columns::Column;

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
    /// 400 for anything else.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "None" => Ok(Self::None),
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            _ => Err(Status::bad_request(format!("unrecognized includeObject value: {text:?}"))),
        }
    }
}

/// A table, ready to be serialised.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    column_definitions: &'static [Column],
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

/// A table of many objects up to its rows, which are then [`row_of`] each; `]}` ends it. `metadata` is the list's own:
/// `resourceVersion`, `continue`, `remainingItemCount`.
pub(crate) fn head(kind: &Kind, metadata: Value) -> String {
    let empty = table(columns::of(kind), Vec::new(), metadata);
    let mut text = serde_json::to_string(&empty).expect("a table has string keys only");
    text.truncate(text.len() - "]}".len());
    text
}

/// The row of one object.
pub(crate) fn row_of(object: &Object, now: Timestamp, include: IncludeObject) -> Bytes {
    serde_json::to_vec(&row(object, now, include)).expect("a row has string keys only").into()
}

/// A table of one object: for GET, and for each event of a watch. Like kube-apiserver, a watch sends the columns with
/// its first event only (`with_columns`).
pub fn render_one(
    object: &Object,
    now: Timestamp,
    include: IncludeObject,
    with_columns: bool,
) -> Table {
    let columns = if with_columns { columns::of(object.key.kind) } else { &[] };
    let metadata = json!({"resourceVersion": object.revision.to_string()});
    table(columns, vec![row(object, now, include)], metadata)
}

fn table(column_definitions: &'static [Column], rows: Vec<Row>, metadata: Value) -> Table {
    Table { kind: "Table", api_version: "meta.k8s.io/v1", metadata, column_definitions, rows }
}

fn row(object: &Object, now: Timestamp, include: IncludeObject) -> Row {
    let cells = cells::of(object, now).unwrap_or_else(|error| {
        tracing::error!(%error, "stored object cannot be printed");
        let rest = columns::of(object.key.kind).len().saturating_sub(1);
        let unknown = std::iter::repeat_n(Value::from("<unknown>"), rest);
        std::iter::once(object.key.name.as_str().into()).chain(unknown).collect()
    });
    Row { cells, conditions: pod::row_conditions(object), object: included(object, include) }
}

/// An object's metadata alone, as a `PartialObjectMetadata` document.
pub fn partial(object: &Object) -> Bytes {
    let json = included(object, IncludeObject::Metadata).map_or("null".into(), Box::<str>::from);
    String::from(json).into()
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

fn included(object: &Object, include: IncludeObject) -> Option<Box<RawValue>> {
    let document = object.document();
    let text = std::str::from_utf8(&document).ok()?;
    let json = match include {
        IncludeObject::None => return None,
        IncludeObject::Object => text.to_owned(),
        IncludeObject::Metadata => {
            let Envelope { metadata } = serde_json::from_str(text).ok()?;
            format!(
                r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#
            )
        }
    };
    RawValue::from_string(json).ok()
}
