//! Tables for tests, made from manifests by the real builder.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{Object, ObjectKey, kind, object::to_stored},
    route::{
        RouteTable,
        build::{Builder, Options},
    },
};

/// The serial of every fixture.
pub(crate) const SERIAL: u32 = 1_700_000_000;

/// The objects of a manifest with several documents.
pub(crate) fn objects(manifest: &str) -> Vec<Arc<Object>> {
    serde_yaml::Deserializer::from_str(manifest)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .map(|document| object(&document))
        .collect()
}

fn object(document: &Value) -> Arc<Object> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let kind = kind::built_in(text("/apiVersion"), text("/kind")).expect("kind is served");
    let namespace = match text("/metadata/namespace") {
        "" if kind.namespaced => "default",
        given => given,
    };
    let key = ObjectKey::new(kind, namespace, text("/metadata/name"));
    Arc::new(Object::from_stored(key, 1, to_stored(kind, document.clone())).unwrap())
}

/// The time that fixtures are built at.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(i64::from(SERIAL)).unwrap()
}

/// The table of a manifest, at revision 1.
pub(crate) fn table(manifest: &str) -> Arc<RouteTable> {
    let mut builder = Builder::new(Options::default());
    for object in objects(manifest) {
        builder.apply(&object.key, Some(&object));
    }
    builder.table(1, now())
}
