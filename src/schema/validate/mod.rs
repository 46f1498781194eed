//! Validation of a document against a schema, with the words of kube-apiserver.
//!
//! Enter at [`validate`]. The order of checks, what they say, and how `anyOf` and `oneOf` choose the alternative to
//! blame are those of kube-openapi's `pkg/validation/validate`, which kube-apiserver uses for custom resources.

mod number;
mod scalar;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::Cause,
    schema::{correlate::Old, path::Path, structural::Schema},
};

/// Most steps of one validation: a visit of a node, a few characters that a pattern reads, a byte of a message. Far more
/// than a sound schema takes for an object of the largest size, and about a second.
const WORK_MAX: usize = 10_000_000;

/// Most failures that are told.
const CAUSES_MAX: usize = 1000;

/// Checks a value against a schema. On an update the old value says what does not fail newly: a value that is the same as
/// before, at any level that correlates. `prefix` is the path of the value itself, empty for a whole object.
///
/// The caller checks metadata, embedded resources, duplicates in lists and rules of CEL; see
/// [`resource`](crate::schema::resource).
pub fn validate(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    prefix: &Path<'_>,
) -> Vec<Cause> {
    validate_within(WORK_MAX, schema, value, old, prefix)
}

/// Whether the format of a node is one that is checked for its type.
pub(crate) fn knows_format(schema: &Schema) -> bool {
    !scalar::kept_format(schema, schema.validations()).is_empty()
}

fn validate_within(
    work: usize,
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    prefix: &Path<'_>,
) -> Vec<Cause> {
    let mut walk = walk::Walk::new(work);
    let old = old.map(|value| Old { value, schema });
    let outcome = walk.value(schema, value, old, &Path::root(""));
    if walk.is_exhausted() {
        let detail = "validation was stopped: the schema takes too many steps for this value";
        return vec![located(Cause::broken("", detail), prefix)];
    }
    let mut causes: Vec<Cause> = Vec::with_capacity(outcome.causes.len());
    let mut seen = BTreeSet::new();
    for cause in outcome.causes {
        if seen.insert((cause.field.clone(), cause.message.clone())) {
            causes.push(located(cause, prefix));
        }
    }
    causes
}

/// Kubernetes prints the path of a whole object as Go prints nil.
fn located(mut cause: Cause, prefix: &Path<'_>) -> Cause {
    let prefix = prefix.to_string();
    let name = cause.field.trim_start_matches('.');
    cause.field = match (prefix.is_empty(), name.is_empty()) {
        (true, true) => "<nil>".to_owned(),
        (false, true) => prefix,
        (true, false) => name.to_owned(),
        (false, false) => format!("{prefix}.{name}"),
    };
    cause
}

/// What a part of the validation found.
#[derive(Debug, Default)]
struct Outcome {
    causes: Vec<Cause>,
    is_invalid: bool,
    /// How many checks passed or applied; of several alternatives that fail, the one with the most is blamed.
    matches: u64,
}

impl Outcome {
    fn add(&mut self, cause: Cause) {
        self.is_invalid = true;
        if !self.is_full() {
            self.causes.push(cause);
        }
    }

    /// Whether no more is told.
    fn is_full(&self) -> bool {
        self.causes.len() >= CAUSES_MAX
    }

    fn count(&mut self, matches: u64) {
        self.matches = self.matches.saturating_add(matches);
    }

    fn merge(&mut self, other: Self) {
        self.is_invalid |= other.is_invalid;
        self.count(other.matches);
        if self.causes.is_empty() {
            self.causes = other.causes;
        } else {
            let room = CAUSES_MAX.saturating_sub(self.causes.len());
            self.causes.extend(other.causes.into_iter().take(room));
        }
    }
}
