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

/// Objects and arrays around each other in a patched document, as many as in one that is read. What goes through a document
/// calls itself for each, and has a stack that ends.
const DEPTH_MAX: usize = 127;

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
        if tests_for_absence(operation, &patched) {
            continue;
        }
        let carries = carried(operation, &patched);
        let moves = matches!(operation, PatchOperation::Copy(_) | PatchOperation::Move(_));
        if let Some(value) = carries.filter(|_| moves) {
            copied += value.to_string().len();
            if copied > COPIED_BYTES_MAX {
                return Err(unprocessable(&format!(
                    "the copy operations of the patch exceed {COPIED_BYTES_MAX} bytes"
                )));
            }
        }
        if carries.is_some_and(|value| operation.path().count() + depth(value) > DEPTH_MAX) {
            return Err(unprocessable(&format!(
                "more than {DEPTH_MAX} objects and arrays are within each other"
            )));
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

/// Whether an operation tests for `null` what is not there: kube-apiserver's library takes the two for the same, and
/// kube-rs adds its first finalizer so.
fn tests_for_absence(operation: &PatchOperation, document: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, name)) = test.path.split_back() else { return false };
    let holds = parent.resolve(document).ok().and_then(Value::as_object);
    test.value.is_null() && holds.is_some_and(|fields| !fields.contains_key(&*name.decoded()))
}

/// What an operation puts to its path, if that may make the document deeper.
fn carried<'a>(operation: &'a PatchOperation, document: &'a Value) -> Option<&'a Value> {
    match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Copy(copy) => copy.from.resolve(document).ok(),
        PatchOperation::Move(moved) if moved.path.count() > moved.from.count() => {
            moved.from.resolve(document).ok()
        }
        PatchOperation::Move(_) | PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    }
}

/// How many objects and arrays are within each other.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
