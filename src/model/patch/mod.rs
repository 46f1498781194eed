//! Patches: pure functions from a document and a request body to the next document.
//!
//! Enter at [`PatchType::from_content_type`] and [`check_options`], then [`apply_patch`] for JSON, merge and
//! strategic merge patches, or [`decode_apply`] and [`apply`] for server-side apply. Both make a [`Wanted`] document;
//! who writes it fills in defaults and then lets its [`Ownership`] settle. How documents of a kind are merged, a [`Resource`]
//! says. This module must never know HTTP, the store or
//! defaults.

mod applied;
mod apply;
mod json;
pub mod keys;
mod managers;
mod merge;
mod ownership;
mod paths;
mod place;
pub mod scale;
mod strategic;
mod walk;

#[cfg(test)]
mod tests;

use std::borrow::Cow::Borrowed;

use serde_json::Value;

use crate::model::{
    Cause, Kind, Status,
    duplicates::{self, Parsed},
    kind::Identity,
};

pub use apply::apply;
pub use managers::FieldManager;
pub use ownership::{Ownership, Wanted};
pub use place::{Node, Resource};

/// The forms of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, which knows how each list is merged.
    Strategic,
    /// Server-side apply.
    Apply,
}

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Longest name of a field manager (`metav1.FieldManagerMaxLength`).
const MANAGER_LENGTH_MAX: usize = 128;

/// What validation of the query parameters talks about; not a served kind.
static PATCH_OPTIONS: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("meta.k8s.io"),
    version: Borrowed("v1"),
    kind: Borrowed("PatchOptions"),
    plural: Borrowed(""),
    singular: Borrowed(""),
    list_kind: Borrowed(""),
    short_names: Borrowed(&[]),
    categories: Borrowed(&[]),
    namespaced: false,
    has_status: false,
    has_scale: false,
    has_generation: false,
    kept_by_status: None,
    stored_as: None,
});

impl PatchType {
    /// The media types that PATCH accepts for a kind. As in Kubernetes, kinds that are not its own have no
    /// strategic merge patch (kubectl then makes a merge patch).
    pub fn accepted(kind: &Kind) -> &'static [&'static str] {
        if kind.is_native() { &[JSON, MERGE, STRATEGIC, APPLY] } else { &[JSON, MERGE, APPLY] }
    }

    /// Reads the `Content-Type` header of a PATCH.
    ///
    /// # Errors
    /// 415 that lists what is accepted.
    pub fn from_content_type(kind: &Kind, content_type: &str) -> Result<Self, Status> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let accepted = Self::accepted(kind);
        match media_type {
            JSON => Ok(Self::Json),
            MERGE => Ok(Self::Merge),
            STRATEGIC if accepted.contains(&STRATEGIC) => Ok(Self::Strategic),
            APPLY => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ))),
        }
    }
}

/// Checks the query parameters `fieldManager` and `force` of a PATCH.
///
/// # Errors
/// 422 as kube-apiserver's for `PatchOptions`.
pub fn check_options(
    patch_type: PatchType,
    field_manager: &str,
    force: Option<bool>,
) -> Result<(), Status> {
    let mut causes = Vec::new();
    if patch_type == PatchType::Apply {
        if field_manager.is_empty() {
            causes.push(Cause::required("fieldManager", "is required for apply patch"));
        }
    } else if force.is_some() {
        causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    causes.extend(manager_causes(field_manager));
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&PATCH_OPTIONS, "", causes))
}

/// What is wrong with a field manager's name.
fn manager_causes(name: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if name.len() > MANAGER_LENGTH_MAX {
        causes.push(Cause::too_long("fieldManager", MANAGER_LENGTH_MAX));
    }
    if name.chars().any(char::is_control) {
        causes.push(Cause::invalid(
            "fieldManager",
            name,
            "should only contain printable characters",
        ));
    }
    causes
}

/// Applies a JSON, merge or strategic merge patch to the current document.
///
/// # Errors
/// 400 for what is no such patch, 413 for too many operations, 422 for one that does not fit the document,
/// 415 for [`PatchType::Apply`], which needs [`apply`].
pub fn apply_patch(
    kind: &Kind,
    patch_type: PatchType,
    current: &Value,
    patch: Value,
) -> Result<Value, Status> {
    let patched = match patch_type {
        PatchType::Json => json::apply(current, patch)?,
        PatchType::Merge => merge::apply(current, &patch)?,
        PatchType::Strategic => strategic::apply(kind, current, patch)?,
        PatchType::Apply => {
            return Err(Status::unsupported_media_type("a server-side apply is not a plain patch"));
        }
    };
    if patched.is_object() {
        Ok(patched)
    } else {
        Err(unprocessable("the result is not an object"))
    }
}

/// Decodes the body of a patch for [`apply_patch`].
///
/// # Errors
/// 400.
pub fn decode_patch(body: &[u8]) -> Result<Parsed, Status> {
    duplicates::parse_json(body).map_err(|error| undecodable(&error))
}

/// Decodes the body of a server-side apply, YAML or JSON.
///
/// # Errors
/// 400.
pub fn decode_apply(body: &[u8]) -> Result<Parsed, Status> {
    // Nearly all clients send JSON, which is YAML, but parses faster as what it is.
    duplicates::parse_json(body).or_else(|_no_json| {
        duplicates::parse(serde_yaml::Deserializer::from_slice(body))
            .map_err(|error| undecodable(&error))
    })
}

fn undecodable(error: &impl std::fmt::Display) -> Status {
    Status::bad_request(format!("error decoding patch: {error}"))
}

/// 422 for a patch that cannot be applied to this document, in kube-apiserver's words and ours.
fn unprocessable(detail: &str) -> Status {
    Status::unprocessable(format!(
        "the server rejected our request due to an error in our request: {detail}"
    ))
}
