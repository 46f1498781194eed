//! The walk over value and schema: junctors, lists and objects. What it counts in `matches` is what kube-openapi counts.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    model::Cause,
    schema::{
        correlate::Old,
        go_text,
        path::Path,
        structural::{AdditionalProperties, Schema, Validations},
        validate::{Outcome, number, scalar},
    },
};

/// What it takes to tell a failure, or to hand it on.
const STEPS_PER_CAUSE: usize = 16;

/// One validation, which has so many steps left.
pub(super) struct Walk {
    work: usize,
}

impl Walk {
    pub(super) fn new(work: usize) -> Self {
        Self { work }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.work == 0
    }

    pub(super) fn spend(&mut self, steps: usize) {
        self.work = self.work.saturating_sub(steps);
    }

    /// A node of the schema and the value that it is for.
    pub(super) fn value(
        &mut self,
        schema: &Schema,
        value: &Value,
        old: Option<Old<'_>>,
        path: &Path<'_>,
    ) -> Outcome {
        self.spend(1);
        let mut outcome = Outcome::default();
        if self.is_exhausted() {
            return outcome;
        }
        let checks = schema.validations();
        if value.is_null() {
            match scalar::check_null(schema, path) {
                Some(cause) => outcome.add(cause),
                None => outcome.count(1),
            }
            self.enumeration(checks, value, path, &mut outcome);
        } else {
            self.present(schema, value, old, path, &mut outcome);
        }
        self.spend(outcome.causes.len().saturating_mul(STEPS_PER_CAUSE));
        if outcome.is_invalid && old.is_some_and(|old| old.is_same(value)) {
            return Outcome { matches: outcome.matches, ..Outcome::default() };
        }
        outcome
    }

    fn present(
        &mut self,
        schema: &Schema,
        value: &Value,
        old: Option<Old<'_>>,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        let checks = schema.validations();
        match scalar::check_type(schema, value, path) {
            scalar::Typed::Unsaid => {}
            scalar::Typed::Fits => outcome.count(2),
            scalar::Typed::Differs(cause) => {
                outcome.add(cause);
                outcome.count(1);
            }
        }
        self.junctors(checks, value, path, outcome);
        outcome.count(2);
        match value {
            Value::String(text) => self.text(schema, checks, text, path, outcome),
            Value::Number(number) => {
                number::check(schema, checks, number, path, outcome);
                outcome.count(2);
            }
            Value::Array(items) => {
                self.items(schema, items, old, path, outcome);
                outcome.count(2);
            }
            _ => {}
        }
        self.enumeration(checks, value, path, outcome);
        outcome.count(1);
        if let Value::Object(fields) = value {
            self.fields(schema, fields, old, path, outcome);
            outcome.count(1);
        }
        outcome.count(1);
    }

    fn text(
        &mut self,
        schema: &Schema,
        checks: &Validations,
        text: &str,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        if let Some(pattern) = &checks.pattern {
            self.spend(text.len().saturating_mul(pattern.size().div_ceil(16)));
        }
        if let Some(cause) = scalar::check_text(checks, text, path) {
            self.spend(cause.message.len());
            outcome.add(cause);
        }
        outcome.count(1);
        if let Some(format) = scalar::known_format(schema, checks) {
            if !format.holds(text) {
                let cause = scalar::wrong_type(path, &checks.format, &go_text::quote(text));
                self.spend(cause.message.len());
                outcome.add(cause);
            }
            outcome.count(1);
        }
    }

    fn enumeration(
        &mut self,
        checks: &Validations,
        value: &Value,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        self.spend(checks.enumeration.len());
        if !checks.enumeration.is_empty() && !scalar::is_listed(&checks.enumeration, value) {
            let cause = scalar::not_listed(&checks.enumeration, value, path);
            self.spend(cause.message.len());
            outcome.add(cause);
        }
    }

    /// Nothing ratchets inside of junctors; the value as a whole may.
    fn junctors(
        &mut self,
        checks: &Validations,
        value: &Value,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        if !checks.any_of.is_empty() {
            self.any_of(&checks.any_of, value, path, outcome);
        }
        if !checks.one_of.is_empty() {
            self.one_of(&checks.one_of, value, path, outcome);
        }
        if !checks.all_of.is_empty() {
            self.all_of(&checks.all_of, value, path, outcome);
        }
        if let Some(not) = &checks.not
            && !self.value(not, value, None, path).is_invalid
        {
            let text = go_text::quote(&path.to_string());
            outcome.add(scalar::whole(&format!("{text} must not validate the schema (not)")));
        }
    }

    fn any_of(&mut self, all: &[Schema], value: &Value, path: &Path<'_>, outcome: &mut Outcome) {
        let mut best: Option<Outcome> = None;
        for schema in all {
            let found = self.value(schema, value, None, path);
            if !found.is_invalid {
                outcome.merge(found);
                return;
            }
            if best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        let text = go_text::quote(&path.to_string());
        outcome.add(scalar::whole(&format!("{text} must validate at least one schema (anyOf)")));
        outcome.merge(best.unwrap_or_default());
    }

    fn one_of(&mut self, all: &[Schema], value: &Value, path: &Path<'_>, outcome: &mut Outcome) {
        let mut best: Option<Outcome> = None;
        let mut valid: Option<Outcome> = None;
        let mut count = 0_usize;
        for schema in all {
            let found = self.value(schema, value, None, path);
            if !found.is_invalid {
                count = count.saturating_add(1);
                best = None;
                valid.get_or_insert(found);
            } else if count == 0 && best.as_ref().is_none_or(|best| found.matches > best.matches) {
                best = Some(found);
            }
        }
        if let (1, Some(valid)) = (count, valid) {
            outcome.merge(valid);
            return;
        }
        let text = go_text::quote(&path.to_string());
        let found = match count {
            0 => "Found none valid".to_owned(),
            count => format!("Found {count} valid alternatives"),
        };
        let detail = format!("{text} must validate one and only one schema (oneOf). {found}");
        outcome.add(scalar::whole(&detail));
        outcome.merge(best.unwrap_or_default());
    }

    fn all_of(&mut self, all: &[Schema], value: &Value, path: &Path<'_>, outcome: &mut Outcome) {
        let mut valid = 0_usize;
        for schema in all {
            let found = self.value(schema, value, None, path);
            valid = valid.saturating_add(usize::from(!found.is_invalid));
            outcome.merge(found);
        }
        if valid != all.len() {
            let text = go_text::quote(&path.to_string());
            let none = if valid == 0 { ". None validated" } else { "" };
            outcome
                .add(scalar::whole(&format!("{text} must validate all the schemas (allOf){none}")));
        }
    }

    fn items(
        &mut self,
        schema: &Schema,
        items: &[Value],
        old: Option<Old<'_>>,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        if let Some(schema) = &schema.items {
            let old = old.and_then(|old| old.items(items));
            for (at, item) in items.iter().enumerate() {
                let old = old.as_ref().and_then(|old| old.at(at));
                outcome.merge(self.value(schema, item, old, &path.index(at)));
            }
        }
        let checks = schema.validations();
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(min) = checks.min_items.filter(|min| count < *min) {
            outcome.add(scalar::invalid(
                path,
                &count.to_string(),
                &format!("should have at least {min} items"),
            ));
        }
        if let Some(max) = checks.max_items.filter(|max| count > *max) {
            outcome.add(scalar::too_many(path, count, max));
        }
        if checks.unique_items {
            let mut seen = BTreeSet::new();
            if !items.iter().all(|item| seen.insert(go_text::json(item))) {
                outcome.add(scalar::invalid(path, "\"\"", "shouldn't contain duplicates"));
            }
        }
    }

    fn fields(
        &mut self,
        schema: &Schema,
        fields: &Map<String, Value>,
        old: Option<Old<'_>>,
        path: &Path<'_>,
        outcome: &mut Outcome,
    ) {
        let checks = schema.validations();
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        if let Some(min) = checks.min_properties.filter(|min| count < *min) {
            let detail = format!("should have at least {min} properties");
            outcome.add(scalar::invalid(path, &count.to_string(), &detail));
        }
        if let Some(max) = checks.max_properties.filter(|max| count > *max) {
            outcome.add(scalar::too_many(path, count, max));
        }
        for (name, value) in fields {
            if let Some(property) = schema.properties.find(name) {
                // What version a document has does not ratchet: both sides of an update have been made the same.
                let is_type = path.is_empty() && matches!(&**name, "apiVersion" | "kind");
                let old = old.filter(|_| !is_type).and_then(|old| old.field(name));
                outcome.merge(self.value(property, value, old, &path.child(name)));
                continue;
            }
            match &schema.additional_properties {
                AdditionalProperties::Schema(schema) => {
                    let old = old.and_then(|old| old.field(name));
                    outcome.merge(self.value(schema, value, old, &path.child(name)));
                }
                AdditionalProperties::Allowed(false) => {
                    let mut cause =
                        scalar::invalid(&path.child(name), &go_text::quote(name), FORBIDDEN);
                    cause.field = path.to_string();
                    outcome.add(cause);
                }
                AdditionalProperties::Unset | AdditionalProperties::Allowed(true) => {}
            }
        }
        self.spend(checks.required.len());
        for name in checks.required.iter().filter(|name| !fields.contains_key(&***name)) {
            outcome.add(Cause::required(path.child(name).to_string(), ""));
            if outcome.is_full() {
                break;
            }
        }
    }
}

const FORBIDDEN: &str = "is a forbidden property";
