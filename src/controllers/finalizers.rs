//! Steps that add or remove one finalizer of an object. The other finalizers stay.

use serde_json::{Value, json};

use crate::{
    controllers::{Step, document},
    model::Object,
};

/// Adds a finalizer that the object does not have.
pub(crate) fn with_finalizer(object: &Object, name: &str) -> Step {
    changed(object, |finalizers| finalizers.push(name.into()))
}

/// Removes a finalizer.
pub(crate) fn without_finalizer(object: &Object, name: &str) -> Step {
    changed(object, |finalizers| finalizers.retain(|finalizer| finalizer != name))
}

fn changed(object: &Object, change: impl FnOnce(&mut Vec<Value>)) -> Step {
    let mut document = document(object);
    let finalizers = &mut document["metadata"]["finalizers"];
    if !finalizers.is_array() {
        *finalizers = json!([]);
    }
    finalizers.as_array_mut().map(change);
    Step::Update(object.key.clone(), document)
}
