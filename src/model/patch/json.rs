//! JSON patches (RFC 6902): a list of operations on paths.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::model::{
    Status,
    patch::{undecodable, unprocessable},
    wording,
};

/// As kube-apiserver allows.
const OPERATIONS_MAX: usize = 10_000;

/// Bytes that the `copy` operations of one patch may copy in sum; without a bound, a short patch that copies the
/// document into itself doubles it with each operation. The number is kube-apiserver's.
const COPIED_BYTES_MAX: usize = 30 * 1024 * 1024;

/// Performs all operations, or none.
pub(super) fn apply(document: &Value, patch: Value) -> Result<Value, Status> {
    let Value::Array(operations) = patch else {
        return Err(Status::bad_request(
            "error decoding patch: a JSON patch is an array of operations",
        ));
    };
    if operations.len() > OPERATIONS_MAX {
        let mut status = Status::too_large(OPERATIONS_MAX);
        status.message = format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        );
        return Err(status);
    }
    let Patch(operations) = serde_json::from_value(Value::Array(operations))
        .map_err(|error| undecodable(&wording::in_json(&error)))?;
    let mut patched = document.clone();
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&patched).map_or(0, |value| value.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(unprocessable(&format!(
                    "the copy operations of the patch exceed {COPIED_BYTES_MAX} bytes"
                )));
            }
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            let path = operation.path();
            unprocessable(&match (&error.kind, operation) {
                (json_patch::PatchErrorKind::TestFailed, _) => {
                    format!("testing value {path} failed: test failed")
                }
                (kind, _) => format!("{path}: {kind}"),
            })
        })?;
    }
    Ok(patched)
}
