//! ControllerRevisions: what they hold never changes, only their number and metadata do.

use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::{
    model::Cause,
    registry::strategy::{Context, Rules, checks},
};

pub(super) static RULES: Rules<ControllerRevision> = Rules { validate, ..Rules::STORED };

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
