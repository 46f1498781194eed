//! What happens to a custom resource on its way in, in the order of kube-apiserver: [`decode`], [`default`], then
//! [`validate()`] or [`validate_update`], then the rules of CEL unless [`blocks_rules`] says why not.

use serde_json::Value;

use crate::{
    model::Cause,
    schema::{
        defaulting, list_types,
        metadata::{self, Check},
        path::Path,
        prune,
        structural::Schema,
        validate,
    },
};

pub use defaulting::default;

/// Drops fields that the schema does not specify and nulls that are no values, and reads the metadata of embedded
/// resources. The metadata of the object itself is the caller's. Gives the paths of unknown fields: for a warning, or for
/// an error.
///
/// # Errors
/// Metadata of an embedded resource that Kubernetes cannot read.
pub fn decode(document: &mut Value, schema: &Schema) -> Result<Vec<String>, Cause> {
    let mut unknown = prune::prune(document, schema, true);
    defaulting::prune_nulls(document, schema);
    unknown.extend(metadata::coerce(document, schema, false, &Path::root(""))?);
    Ok(unknown)
}

/// All failures of a new object, except those of its own metadata and of rules.
pub fn validate(document: &Value, schema: &Schema, check_metadata: Check<'_>) -> Vec<Cause> {
    let root = Path::root("");
    let mut causes = validate::validate(schema, document, None, &root);
    causes.extend(metadata::validate(document, schema, false, &root, check_metadata));
    causes.extend(list_types::check(document, schema, &root));
    causes
}

/// The same for an update. What stays as it was does not fail newly; metadata of embedded resources does.
pub fn validate_update(
    document: &Value,
    old: &Value,
    schema: &Schema,
    check_metadata: Check<'_>,
) -> Vec<Cause> {
    let root = Path::root("");
    let mut causes = validate::validate(schema, document, Some(old), &root);
    causes.extend(metadata::validate(document, schema, false, &root, check_metadata));
    causes.extend(list_types::check_update(document, old, schema, &root));
    causes
}

/// The same for an update of the status: only that is checked.
pub fn validate_status_update(document: &Value, old: &Value, schema: &Schema) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let (Some(below), Some(status)) = (schema.properties.find("status"), document.get("status"))
    {
        // An absent status is null to Kubernetes here.
        let old = old.get("status").unwrap_or(&Value::Null);
        causes = validate::validate(below, status, Some(old), &Path::root("status"));
    }
    causes.extend(list_types::check_update(document, old, schema, &Path::root("")));
    causes
}

/// Rules are not evaluated on an object that has not the form that they expect; then this is told in their place.
pub fn blocks_rules(causes: &[Cause]) -> Option<Cause> {
    const BLOCKING: &[&str] = &[
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    causes.iter().any(|cause| BLOCKING.contains(&cause.reason)).then(|| Cause {
        reason: "FieldValueInvalid",
        field: "<nil>".to_owned(),
        message: "Invalid value: null: some validation rules were not checked because the object was invalid; \
            correct the existing errors to complete validation"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests;
