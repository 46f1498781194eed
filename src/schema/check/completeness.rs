//! Everything that a nested value validation speaks of must be specified by the skeleton as well. Source:
//! apiextensions-apiserver's `schema/complete.go`.

use crate::{
    model::Cause,
    schema::{check::required, path::Path, structural::Schema},
};

/// The root's validations only: properties and items below it are looked at through what is nested at the root, as in
/// Kubernetes.
pub(super) fn check(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    junctors(schema, schema, path, path, causes);
}

/// What is nested in `validating` must be in `skeleton`.
fn junctors(
    validating: &Schema,
    skeleton: &Schema,
    skeleton_path: &Path<'_>,
    path: &Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let checks = validating.validations();
    if let Some(not) = &checks.not {
        nested(not, Some(skeleton), skeleton_path, &path.child("not"), causes);
    }
    for (name, all) in
        [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)]
    {
        let path = path.child(name);
        for (at, schema) in all.iter().enumerate() {
            nested(schema, Some(skeleton), skeleton_path, &path.index(at), causes);
        }
    }
}

fn nested(
    validating: &Schema,
    skeleton: Option<&Schema>,
    skeleton_path: &Path<'_>,
    path: &Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let Some(skeleton) = skeleton else {
        causes.push(required(skeleton_path, &format!("because it is defined in {path}")));
        return;
    };
    junctors(validating, skeleton, skeleton_path, path, causes);
    if let Some(items) = &validating.items {
        let (skeleton_path, path) = (skeleton_path.child("items"), path.child("items"));
        nested(items, skeleton.items.as_deref(), &skeleton_path, &path, causes);
    }
    let (skeleton_path, path) = (skeleton_path.child("properties"), path.child("properties"));
    for (name, property) in validating.properties.iter() {
        let found = skeleton.properties.find(name);
        nested(property, found, &skeleton_path.key(name), &path.key(name), causes);
    }
}
