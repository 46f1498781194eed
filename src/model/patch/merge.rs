//! Merge patches (RFC 7386): objects are merged, everything else is replaced, null removes.

use serde_json::Value;

use crate::model::Status;

/// Lays the patch over the document.
pub(super) fn apply(document: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    let mut patched = document.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}
