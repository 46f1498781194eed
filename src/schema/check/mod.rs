//! Whether a schema may be that of a custom resource: what kube-apiserver says when a `CustomResourceDefinition` is
//! written. Enter at [`check`].

mod completeness;
mod defaults;
mod invariants;
mod openapi;
mod rules;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::{
    model::Cause,
    schema::{metadata, path::Path, structural::Schema},
};

/// What the caller knows, and what it checks for this module.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whether the version has the status subresource.
    pub has_status: bool,
    /// The metadata of a document.
    pub metadata: metadata::Check<'a>,
    /// Evaluates the CEL rules of a node and below on a default; the path is that of the default.
    pub rules: &'a dyn Fn(&Schema, &Value, &Path<'_>) -> Vec<Cause>,
}

/// Everything that is wrong with a schema, which stands at `path` (that of `openAPIV3Schema`). CEL rules are compiled by
/// the caller, if there is nothing wrong.
///
/// Takes time that is linear in the size of the schema.
pub fn check(schema: &Schema, path: &Path<'_>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.has_status {
        check_root_fields(schema, path, &mut causes);
    }
    if schema.nullable {
        causes.push(forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let is_unreadable = invariants::is_unreadable(schema);
    if !is_unreadable {
        let mut structural = Vec::new();
        invariants::check(schema, path, &mut structural);
        completeness::check(schema, path, &mut structural);
        if structural.is_empty() {
            defaults::check(schema, path, context, &mut structural);
        } else {
            structural.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
        }
        causes.extend(structural);
    }
    openapi::check(schema, path, &mut causes);
    if causes.is_empty() && is_unreadable {
        // The one field of which nothing else is said.
        causes.push(invalid(path, &"".into(), "OpenAPIV3Schema 'schema' is not supported"));
    }
    causes
}

/// With the status subresource the root may say only what is not lost when the status is validated alone.
fn check_root_fields(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const ALLOWED: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
        MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
        XPreserveUnknownFields XValidations]";
    let checks = schema.validations();
    let is_allowed = !schema.nullable
        && schema.default.is_none()
        && !schema.embedded_resource
        && !schema.int_or_string
        && schema.list_type.is_none()
        && schema.map_type.is_none()
        && schema.list_map_keys.is_empty()
        && !schema.additional_properties.is_set()
        && checks.enumeration.is_empty()
        && checks.max_properties.is_none()
        && checks.min_properties.is_none()
        && checks.all_of.is_empty()
        && checks.any_of.is_empty()
        && checks.one_of.is_empty()
        && checks.not.is_none();
    let name = schema.value_type.name();
    if !name.is_empty() && name != "object" {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
            enabled";
        causes.push(Cause::invalid(path.child("type").to_string(), name, detail));
    } else if !is_allowed {
        let detail = format!(
            "only {ALLOWED} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        causes.push(Cause::broken(path.to_string(), &detail));
    }
}

fn forbidden(path: &Path<'_>, detail: &str) -> Cause {
    Cause::forbidden(path.to_string(), detail)
}

fn required(path: &Path<'_>, detail: &str) -> Cause {
    Cause::required(path.to_string(), detail)
}

/// A value that breaks a rule, shown as JSON, or in quotes if it is a text.
fn invalid(path: &Path<'_>, value: &Value, detail: &str) -> Cause {
    let message = format!("Invalid value: {}: {detail}", crate::schema::go_text::value(value));
    Cause { reason: "FieldValueInvalid", field: path.to_string(), message }
}
