//! One request about a resource. Its methods combine what headers, query and body say.

use axum::body::Bytes;
use http::{HeaderMap, Method, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{
        authentication::Caller,
        decode::{content_type, document_of, parsed_of},
        forms::Form,
        query::{Query, dry_run_cause, propagation},
        target::Target,
    },
    http_server::headers,
    model::{
        Status,
        duplicates::Parsed,
        patch::{self, FieldManager, PatchType, Resource, Wanted},
        wording,
    },
    registry::{DeleteOptions, Preconditions, Propagation, Subresource, WriteOptions},
};

/// One request about a resource.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) caller: Caller,
}

impl Request {
    /// The form in which the client wants one object.
    pub(crate) fn form(&self) -> Result<Form, Status> {
        Form::of_object(&self.headers, &self.query.include_object)
    }

    /// The options of a write.
    pub(crate) fn write_options(&self) -> Result<WriteOptions, Status> {
        self.query.write_options(match self.method {
            Method::POST => "CreateOptions",
            Method::PUT => "UpdateOptions",
            Method::PATCH => "PatchOptions",
            _ => "DeleteOptions",
        })
    }

    /// The body as a document.
    pub(crate) fn document(&self) -> Result<Value, Status> {
        document_of(&self.headers, &self.body)
    }

    /// The body as a document, with a warning for each duplicate field.
    pub(crate) fn parsed(&self) -> Result<Parsed, Status> {
        parsed_of(&self.headers, &self.body)
    }

    /// The patch, after checking its type and the query parameters.
    pub(crate) fn patch(&self) -> Result<Patch<'_>, Status> {
        let kind = PatchType::from_content_type(self.target.kind(), self.content_type())?;
        let force = self.query.force;
        patch::check_options(kind, &self.query.field_manager, force)?;
        Ok(Patch { kind, body: &self.body, force: force == Some(true) })
    }

    /// The body of a PUT as a document.
    ///
    /// # Errors
    /// 400 if it does not name its object.
    pub(crate) fn replacement(&self) -> Result<Parsed, Status> {
        let parsed = self.parsed()?;
        if parsed.value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(Status::bad_request(
                "the name of the object must be in the request body (metadata.name)",
            ));
        }
        Ok(parsed)
    }

    /// Applies a patch to the old document, which is of this kind.
    pub(crate) fn patched<'a>(
        &self,
        resource: Resource<'_>,
        patch: &Patch<'_>,
        old: Option<&Value>,
        manager: FieldManager<'a>,
    ) -> Result<Wanted<'a>, Status> {
        if patch.kind == PatchType::Apply {
            let Parsed { value: config, duplicates } = patch::decode_apply(patch.body)?;
            let wanted = patch::apply(resource, old, &config, &manager, patch.force)?;
            return Ok(wanted.with_duplicates(duplicates));
        }
        let Parsed { value, mut duplicates } = patch::decode_patch(patch.body)?;
        if patch.kind == PatchType::Json {
            // kube-apiserver says so, because it decodes the operations separately.
            duplicates.iter_mut().for_each(|line| line.insert_str(0, "json patch "));
        }
        let kind = resource.kind();
        let document = patch::apply_patch(kind, patch.kind, old.unwrap_or(&Value::Null), value)?;
        Ok(Wanted::updated(document, manager).with_duplicates(duplicates))
    }

    fn content_type(&self) -> &str {
        content_type(&self.headers)
    }

    /// The manager's name for `metadata.managedFields`: the query parameter, else the first word of the user agent.
    pub(crate) fn manager(&self) -> String {
        if !self.query.field_manager.is_empty() {
            return self.query.field_manager.clone();
        }
        let agent = headers::text(&self.headers, header::USER_AGENT);
        agent.and_then(|text| text.split('/').next()).unwrap_or("unknown").to_owned()
    }

    /// The options of a delete, from its body or else its query.
    pub(crate) fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let body = if self.body.is_empty() { Value::Null } else { self.document()? };
        delete_options(body, &self.query)
    }
}

/// The options in a `DeleteOptions` document. The query says what the document leaves out.
pub(crate) fn delete_options(document: Value, query: &Query) -> Result<DeleteOptions, Status> {
    let body: Option<DeleteBody> = serde_json::from_value(document).map_err(|error| {
        Status::bad_request(format!("DeleteOptions: {}", wording::in_json(&error)))
    })?;
    let body = body.unwrap_or_default();
    let policy = body.propagation_policy.as_deref().unwrap_or(&query.propagation_policy);
    let mut causes: Vec<_> = [&body.dry_run, &query.dry_run]
        .into_iter()
        .filter_map(|values| dry_run_cause(values))
        .collect();
    let policy = match body.orphan_dependents {
        Some(true) => Some(Propagation::Orphan),
        Some(false) => Some(Propagation::Background),
        None => propagation(policy).unwrap_or_else(|cause| {
            causes.push(cause);
            None
        }),
    };
    if !causes.is_empty() {
        return Err(Status::invalid_options("DeleteOptions", causes));
    }
    let PreconditionsBody { uid, resource_version } = body.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        grace_seconds: body.grace_period_seconds.or(query.grace_period_seconds),
        preconditions: Preconditions { uid, resource_version },
        propagation: policy,
        dry_run: !query.dry_run.is_empty() || !body.dry_run.is_empty(),
    })
}

/// The body of a PATCH, and its type.
pub(crate) struct Patch<'a> {
    pub(crate) kind: PatchType,
    body: &'a [u8],
    pub(crate) force: bool,
}

/// The manager of a write through a subresource, for `metadata.managedFields`.
pub(crate) fn manager(name: &str, subresource: Subresource) -> FieldManager<'_> {
    let subresource = match subresource {
        Subresource::None => "",
        Subresource::Status => "status",
        Subresource::EphemeralContainers => "ephemeralcontainers",
        Subresource::Finalize => "finalize",
        Subresource::Binding => "binding",
        Subresource::Approval => "approval",
    };
    FieldManager { name, subresource, now: Timestamp::now() }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<PreconditionsBody>,
    dry_run: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PreconditionsBody {
    uid: Option<String>,
    resource_version: Option<String>,
}
