//! Custom resources: pruning, defaults and validation by the schema of the version in which the client wrote them.

use serde_json::Value;

use crate::{
    model::{Cause, Kind, Status},
    registry::{
        Subresource, decode,
        kinds::{
            custom::{ReadSchema, Version},
            scale::ScalePaths,
        },
        strategy::{
            Admitted, AnyRules, Context,
            document::{admitted, metadata_causes, settle_document},
            metadata,
        },
    },
    schema::{Path, Schema, resource},
};

impl AnyRules for Version {
    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status> {
        let ReadSchema { schema, rules } = self.schema();
        let mut new = document.clone();
        let mut warnings = read(kind, &mut new, schema, context)?;
        resource::default(&mut new, schema).map_err(|cause| refused(kind, document, cause))?;
        if old.is_none() && kind.has_status {
            new.as_object_mut().and_then(|fields| fields.remove("status"));
        }
        settle_document(kind, &mut new, old, context)?;
        let mut causes = metadata_causes(&new, old, metadata::NameForm::Subdomain);
        causes.extend(validate(&new, old, schema, context.subresource));
        causes.extend(
            self.scale()
                .map_or_else(Vec::new, |scale| validate_scale(&new, scale, context.subresource)),
        );
        match resource::blocks_rules(&causes) {
            Some(unchecked) if !rules.is_empty() => causes.push(unchecked),
            Some(_) => {}
            None => {
                let found = rules.validate(schema, &new, old, &Path::root(""));
                causes.extend(found.causes);
                warnings.extend(found.warnings);
            }
        }
        admitted(kind, new, causes, warnings)
    }
}

fn refused(kind: &Kind, document: &Value, cause: Cause) -> Status {
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    Status::invalid(kind, name, vec![cause])
}

/// Reads the metadata, and drops what the schema does not specify. Returns warnings about unknown fields.
fn read(
    kind: &Kind,
    new: &mut Value,
    schema: &Schema,
    context: &Context<'_>,
) -> Result<Vec<String>, Status> {
    let mut unknown = decode::metadata(kind, new)?;
    let pruned = resource::decode(new, schema);
    unknown.extend(pruned.map_err(|cause| {
        let Cause { field, message, .. } = cause;
        Status::bad_request(format!("{field}: {message}"))
    })?);
    decode::judge_fields(&context.wanted.duplicates, unknown, context.field_validation)
}

/// A write of the status does not answer for the wanted replica count.
fn validate_scale(new: &Value, scale: &ScalePaths, subresource: Subresource) -> Vec<Cause> {
    let mut causes = match subresource {
        Subresource::Status => Vec::new(),
        _ => scale.validate_spec(new),
    };
    causes.extend(scale.validate_status(new));
    causes
}

fn validate(
    new: &Value,
    old: Option<&Value>,
    schema: &Schema,
    subresource: Subresource,
) -> Vec<Cause> {
    let of_embedded =
        |document: &Value| metadata::validate(document, metadata::NameForm::Subdomain);
    match (old, subresource) {
        (None, _) => resource::validate(new, schema, &of_embedded),
        (Some(old), Subresource::Status) => resource::validate_status_update(new, old, schema),
        (Some(old), _) => resource::validate_update(new, old, schema, &of_embedded),
    }
}
