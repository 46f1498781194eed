//! [`ObjectKey`]: which object, and its form in the store.

use std::fmt;

use crate::model::kind::{Identity, Kind};

/// Identifies one object of the cluster. Cluster-scoped objects have an empty namespace.
/// The order is kind, namespace, name, so that one namespace of one kind is a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The object's `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn new(kind: &Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.clone(), namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(kind: &Kind, name: impl Into<String>) -> Self {
        Self::new(kind, "", name)
    }

    /// The key of the same object as it is stored.
    pub fn stored(&self) -> Self {
        Self { kind: self.kind.stored().clone(), ..self.clone() }
    }

    /// The key in the object store: `objects/PLURAL.GROUP/NAMESPACE/NAME`.
    /// Names and namespaces never contain a slash, so this is unambiguous.
    pub fn to_store_key(&self) -> Vec<u8> {
        let Identity { plural, group, .. } = &**self.kind.stored();
        format!("{OBJECTS}{plural}.{group}/{}/{}", self.namespace, self.name).into_bytes()
    }

    /// What the store keys of a kind begin with; with a namespace, only those in it.
    pub fn store_prefix(kind: &Kind, namespace: Option<&str>) -> Vec<u8> {
        let Identity { plural, group, .. } = &**kind.stored();
        let namespace = namespace.map(|name| format!("{name}/")).unwrap_or_default();
        format!("{OBJECTS}{plural}.{group}/{namespace}").into_bytes()
    }

    /// The parts of a key of the object store: plural, group, namespace and name; `None` for keys that are not objects.
    pub fn store_parts(key: &[u8]) -> Option<(&str, &str, &str, &str)> {
        let text = std::str::from_utf8(key).ok()?.strip_prefix(OBJECTS)?;
        let mut parts = text.splitn(3, '/');
        let (plural, group) = parts.next()?.split_once('.')?;
        Some((plural, group, parts.next()?, parts.next()?))
    }
}

/// Every object's store key begins with this; other prefixes hold allocations.
pub const OBJECTS: &str = "objects/";

impl fmt::Display for ObjectKey {
    /// `Service default/web`, or `Node n1` for cluster-scoped kinds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind.kind, self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind;

    #[test]
    fn store_keys_round_trip() {
        for key in [
            ObjectKey::new(&kind::SERVICE, "default", "web"),
            ObjectKey::cluster(&kind::NODE, "node-1"),
            ObjectKey::new(&kind::ENDPOINT_SLICE, "a", "b.c"),
        ] {
            for namespace in [None, Some(key.namespace.as_str())] {
                let prefix = ObjectKey::store_prefix(&key.kind, namespace);
                assert!(key.to_store_key().starts_with(&prefix));
            }
            let (stored, kind) = (key.to_store_key(), &key.kind);
            let parts = (&*kind.plural, &*kind.group, &*key.namespace, &*key.name);
            assert_eq!(ObjectKey::store_parts(&stored), Some(parts));
        }
        assert_eq!(ObjectKey::store_parts(b"allocations/node-ports/30080"), None);
    }
}
