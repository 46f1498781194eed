//! ControllerRevisions: what they hold never changes, only their number and metadata do.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, row},
        strategy::{BuiltIn, Context, Rules, checks},
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::CONTROLLER_REVISION,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Controller", "Whose revision it is."),
        Column::number("Revision", "Number of the revision."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<ControllerRevision> = Rules { validate, ..Rules::STORED };

fn validate(
    new: &ControllerRevision,
    old: Option<&ControllerRevision>,
    _context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if new.data.is_none() {
        causes.push(Cause::required("data", "data is mandatory"));
    }
    checks::not_negative(&mut causes, "revision", Some(new.revision));
    if let Some(old) = old {
        checks::immutable(&mut causes, "data", &new.data, &old.data);
    }
    causes
}

/// `statefulset.apps/web`, the revision, the age.
fn cells(object: &Object, now: Timestamp) -> Cells {
    let revision: Value = object.parse()?;
    let owner = object.controller().map(|owner| {
        let group = owner.api_version.rsplit_once('/').map(|(group, _)| format!(".{group}"));
        format!("{}{}/{}", owner.kind.to_lowercase(), group.unwrap_or_default(), owner.name)
    });
    let owner = owner.unwrap_or_else(|| row::NONE.to_owned());
    let number = revision["revision"].as_i64().unwrap_or_default();
    Ok(row::plain(object, now, [Value::from(owner), number.into()]))
}
