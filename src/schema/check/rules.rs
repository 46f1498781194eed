//! The texts of `x-kubernetes-validations`: messages, reasons and paths. The expressions are CEL's matter.

use crate::{
    model::Cause,
    schema::{
        check::{invalid, required},
        field_path,
        path::Path,
        structural::{Rule, Schema},
    },
};

pub(super) fn check(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let path = path.child("x-kubernetes-validations");
    for (at, rule) in schema.rules.iter().enumerate() {
        check_message(rule, &path.index(at), causes);
        check_rest(schema, rule, &path.index(at), causes);
    }
}

fn has_line_breaks(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn check_message(rule: &Rule, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let message = rule.message.trim();
    let place = path.child("message");
    if rule.rule.trim().is_empty() {
        causes.push(required(&path.child("rule"), "rule is not specified"));
    } else if !rule.message.is_empty() && message.is_empty() {
        causes.push(invalid(&place, &(*rule.message).into(), "must be non-empty if specified"));
    } else if has_line_breaks(message) {
        causes.push(invalid(&place, &(*rule.message).into(), "must not contain line breaks"));
    } else if has_line_breaks(rule.rule.trim()) && message.is_empty() {
        causes.push(required(&place, "message must be specified if rule contains line breaks"));
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        causes.push(required(&path.child("messageExpression"), detail));
    }
}

fn check_rest(schema: &Schema, rule: &Rule, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const REASONS: &[&str] =
        &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        causes.push(Cause::not_supported(path.child("reason").to_string(), reason, REASONS));
    }
    if rule.field_path.is_empty() {
        return;
    }
    let mut refuse = |detail| {
        let place = path.child("fieldPath");
        causes.push(invalid(&place, &(*rule.field_path).into(), detail));
    };
    if rule.field_path.trim().is_empty() {
        refuse("must be non-empty if specified");
    }
    if has_line_breaks(&rule.field_path) {
        refuse("must not contain line breaks");
    }
    if field_path::resolve(&rule.field_path, schema, true).is_err() {
        refuse("must be a valid path");
    }
}
