//! ComponentStatuses: the health of the control plane's components. There are no objects, so that nothing is checked.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Object, kind::extension::COMPONENT_STATUS},
    registry::{
        printing::{Cells, Column},
        strategy::{
            BuiltIn,
            document::DocumentRules,
            json::{condition, text},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &COMPONENT_STATUS,
    rules: &DocumentRules::STORED,
    columns: &[
        Column::NAME,
        Column::text("Status", "Whether the component is healthy."),
        Column::text("Message", "What the component says."),
        Column::text("Error", "Why it is not healthy."),
    ],
    cells,
    ..BuiltIn::STORED
};

fn cells(object: &Object, _now: Timestamp) -> Cells {
    let document: Value = object.parse()?;
    let healthy = condition(&document, "Healthy").cloned().unwrap_or_default();
    let state = match healthy["status"].as_str() {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let (message, error) = (text(&healthy, "message"), text(&healthy, "error"));
    Ok(vec![object.key.name.as_str().into(), state.into(), message.into(), error.into()])
}
