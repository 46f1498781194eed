//! PolicyStats, our own kind: what policies did. There are no objects, so that nothing is checked.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Object, kind::extension::POLICY_STATS},
    registry::{
        printing::{Cells, Column},
        strategy::{BuiltIn, document::DocumentRules, json::text},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &POLICY_STATS,
    rules: &DocumentRules::STORED,
    columns: &[
        Column::NAME,
        Column::text("World", "The world of the ABI."),
        Column::text("Form", "A core module or a component."),
        Column::number("Picks", "Picks asked of the policy."),
        Column::number(
            "Fallbacks",
            "Picks that another made because it had failed or was not ready.",
        ),
        Column::number("Failures", "Failures of all kinds."),
        Column::number("Instances", "Instances of the module now."),
        Column::text("Pick", "Mean time of a pick."),
        Column::number("Abstentions", "Picks for which it had no opinion.").wide(),
        Column::number("Memory", "Linear memory of all instances in bytes.").wide(),
        Column::text("Digest", "Digest of the module.").wide(),
        Column::text("Last Failure", "The last failure in words.").wide(),
    ],
    cells,
    ..BuiltIn::STORED
};

fn cells(object: &Object, _now: Timestamp) -> Cells {
    let document: Value = object.parse()?;
    let failures = document["failures"].as_object().into_iter().flatten();
    let failures: u64 = failures.filter_map(|(_, count)| count.as_u64()).sum();
    let pick = document["pickNanoseconds"]["mean"].as_f64();
    let pick = pick.map_or_else(String::new, |mean| format!("{mean:.0}ns"));
    Ok(vec![
        object.key.name.as_str().into(),
        document["world"].clone(),
        document["form"].clone(),
        document["picks"].clone(),
        document["fallbacks"].clone(),
        failures.into(),
        document["instances"].clone(),
        pick.into(),
        document["abstentions"].clone(),
        document["memoryBytes"].clone(),
        document["digest"].clone(),
        text(&document, "lastFailure").into(),
    ])
}
