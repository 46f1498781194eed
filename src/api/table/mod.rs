//! `meta.k8s.io/v1` Tables: what `kubectl get` prints. Pure functions from objects and a time.
//!
//! Enter at `Printer`. This is the form of tables and rows; what the columns and cells of a kind are, its
//! [`Descriptor`] says.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    model::{Object, Status},
    registry::{Column, Descriptor, SCALE, scale_cells},
};

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
pub(crate) struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    /// `null` in all events of a watch but the first.
    column_definitions: Option<Columns<'a>>,
    rows: Vec<Row>,
}

type Columns<'a> = Cow<'a, [Column<'a>]>;

/// Prints the objects of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    descriptor: Arc<Descriptor>,
}

#[derive(Debug, Serialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Value>,
    object: Option<Box<RawValue>>,
}

impl Table<'_> {
    /// The JSON document.
    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a table has string keys only").into()
    }
}

impl Printer {
    pub(crate) fn of(descriptor: &Arc<Descriptor>) -> Self {
        Self { descriptor: descriptor.clone() }
    }

    /// A table of many objects up to the list of its rows, which are then [`row_of`](Self::row_of) each. `metadata` is
    /// the list's own: `resourceVersion`, `continue`, `remainingItemCount`.
    pub(crate) fn head(&self, metadata: Value, version: Version) -> String {
        let empty = table(version, Some(self.descriptor.columns()), Vec::new(), metadata);
        let mut text = serde_json::to_string(&empty).expect("a table has string keys only");
        text.truncate(text.len() - "[]}".len());
        text
    }

    /// Whether the table of no objects has no list of rows.
    pub(crate) fn is_generic(&self) -> bool {
        self.descriptor.is_generic()
    }

    /// The row of one object.
    pub(crate) fn row_of(&self, object: &Object, now: Timestamp, rows: Rows) -> Bytes {
        let row = self.row(object, now, rows);
        serde_json::to_vec(&row).expect("a row has string keys only").into()
    }

    /// A table of one object: for GET, and for each event of a watch. Like kube-apiserver, a watch sends the columns with
    /// its first event only (`with_columns`).
    pub(crate) fn render_one(
        &self,
        object: &Object,
        now: Timestamp,
        rows: Rows,
        with_columns: bool,
    ) -> Table<'_> {
        let columns = with_columns.then(|| self.descriptor.columns());
        let metadata = json!({"resourceVersion": object.revision.to_string()});
        table(rows.version, columns, vec![self.row(object, now, rows)], metadata)
    }

    fn row(&self, object: &Object, now: Timestamp, rows: Rows) -> Row {
        let descriptor = &self.descriptor;
        let cells = descriptor.cells(object, now).unwrap_or_else(|error| {
            tracing::error!(%error, "stored object cannot be printed");
            let rest = descriptor.columns().len().saturating_sub(1);
            let unknown = std::iter::repeat_n(Value::from("<unknown>"), rest);
            std::iter::once(object.key.name.as_str().into()).chain(unknown).collect()
        });
        let conditions = descriptor.row_conditions(object);
        Row { cells, conditions, object: included(object, rows) }
    }
}

/// The table of a scale, which is nothing that is stored.
pub(crate) fn of_scale(scale: &Value, now: Timestamp, rows: Rows) -> Table<'static> {
    let metadata = &scale["metadata"];
    let object = match rows.include {
        IncludeObject::None => None,
        IncludeObject::Object => Some(scale.clone()),
        IncludeObject::Metadata => Some(partial_of(metadata, rows.version)),
    };
    let object = object.and_then(|object| RawValue::from_string(object.to_string()).ok());
    let row = Row { cells: scale_cells(scale, now), conditions: Vec::new(), object };
    let metadata = json!({"resourceVersion": metadata["resourceVersion"]});
    table(rows.version, Some(SCALE.into()), vec![row], metadata)
}

/// A document's metadata alone.
pub(crate) fn partial_of(metadata: &Value, version: Version) -> Value {
    let api_version = version.api_version();
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata})
}

fn table(
    version: Version,
    column_definitions: Option<Columns<'_>>,
    rows: Vec<Row>,
    metadata: Value,
) -> Table<'_> {
    let api_version = version.api_version();
    Table { kind: "Table", api_version, metadata, column_definitions, rows }
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
