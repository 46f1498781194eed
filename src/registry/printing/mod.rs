//! What `kubectl get` prints of an object: the columns of its kind, and a cell for each.
//!
//! This is what the kinds share. The columns and cells of a built-in kind stand in its file under `registry::strategy`,
//! those of a custom resource come from its definition ([`PrinterColumns`]). Names, types, formats and priorities of columns, and
//! the rules of cells, are those of kube-apiserver's printers for 1.36. The table around the rows is `api::table`'s.

pub(crate) mod age;
mod column;
mod printer_columns;
pub(crate) mod row;

pub(crate) use column::Column;
pub(crate) use printer_columns::PrinterColumns;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::object::Error;

/// The columns of a built-in kind.
pub(crate) type Columns = &'static [Column<'static>];
/// The cells of one row, in the order of the columns.
pub(crate) type Cells = Result<Vec<Value>, Error>;

/// The columns of the scale of any kind.
pub(crate) const SCALE: Columns = &[
    Column::NAME,
    Column::number("Desired", "Pods that are wanted."),
    Column::number("Available", "Pods that exist."),
    Column::AGE,
];

/// The cells of a scale, which is nothing that is stored.
pub(crate) fn scale_cells(scale: &Value, now: Timestamp) -> Vec<Value> {
    let metadata = &scale["metadata"];
    let replicas = |of: &str| scale[of]["replicas"].as_i64().unwrap_or_default().into();
    let age = age::since_text(metadata["creationTimestamp"].as_str(), now);
    vec![metadata["name"].clone(), replicas("spec"), replicas("status"), age.into()]
}
