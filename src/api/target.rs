//! What a request is about: the resource that its path names.

use std::sync::Arc;

use crate::{
    model::{Kind, ObjectKey, Status},
    registry::{Descriptor, Kinds},
};

/// The subresource after which a path may continue.
pub(crate) const PROXY: &str = "proxy";

/// The resource that a path names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The kind that the path names.
    pub(crate) descriptor: Arc<Descriptor>,
    /// Absent for cluster-scoped kinds and for lists over all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        let parts = |target: &Self| {
            let Self { descriptor: _, namespace, name, subresource } = target.clone();
            (namespace, name, subresource)
        };
        self.kind() == other.kind() && parts(self) == parts(other)
    }
}

impl Target {
    /// Reads the segments of `/api/v1/...` and `/apis/GROUP/VERSION/...`; `None` when they name nothing that is served.
    pub(crate) fn of(kinds: &Kinds, segments: &[&str]) -> Option<Self> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] if group.is_empty() => (None, rest),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => {
                (Some((*namespace).to_owned()), inner)
            }
            _ => (None, rest),
        };
        let kind = kinds.by_path(group, version, rest.first()?)?;
        let descriptor = kinds.descriptor(kind)?.clone();
        let text = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        let (name, subresource) = (text(1), text(2));
        let misplaced = if kind.namespaced {
            namespace.is_none() && name.is_some()
        } else {
            namespace.is_some()
        };
        // The rest of the path belongs to the pod.
        let proxied = subresource.as_deref() == Some(PROXY);
        let empty = rest.iter().take(3).any(|part| part.is_empty());
        let served = !misplaced && !empty && (proxied || rest.len() <= 3);
        served.then_some(Self { descriptor, namespace, name, subresource })
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.descriptor.kind
    }

    /// The error if a webhook would have to convert the objects.
    pub(crate) fn check_conversion(&self) -> Result<(), Status> {
        let custom = self.descriptor.custom();
        custom.map_or(Ok(()), |version| version.check_conversion(self.kind()))
    }

    /// The warning of a deprecated version of a custom kind.
    pub(crate) fn deprecation(&self) -> Option<String> {
        self.descriptor.custom()?.deprecation(self.kind())
    }

    /// The key of the object that the path names.
    pub(crate) fn key(&self) -> Result<ObjectKey, Status> {
        let name = self.name.clone().ok_or_else(Status::method_not_allowed)?;
        Ok(ObjectKey::new(self.kind(), self.namespace.clone().unwrap_or_default(), name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        /// Plural, namespace, name, subresource.
        type Parts<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let check = |path: &str, expected: Option<Parts<'_>>| {
            let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
            let target = Target::of(&Kinds::built_in(), &segments);
            let found = target.as_ref().map(|t| {
                (
                    &*t.kind().plural,
                    t.namespace.as_deref(),
                    t.name.as_deref(),
                    t.subresource.as_deref(),
                )
            });
            assert_eq!(found, expected, "{path}");
        };
        check("/api/v1/pods", Some(("pods", None, None, None)));
        check("/api/v1/namespaces", Some(("namespaces", None, None, None)));
        check("/api/v1/namespaces/a", Some(("namespaces", None, Some("a"), None)));
        check("/api/v1/namespaces/a/status", Some(("namespaces", None, Some("a"), Some("status"))));
        check("/api/v1/namespaces/a/pods/b/log", Some(("pods", Some("a"), Some("b"), Some("log"))));
        check(
            "/apis/apps/v1/namespaces/a/deployments",
            Some(("deployments", Some("a"), None, None)),
        );
        check("/apis/apps/v2/deployments", None);
        check("/api/v1/pods/b", None);
        check("/api/v1/namespaces/a/nodes", None);
        check("/api/v1/nodes/n/x/y", None);
        check(
            "/api/v1/namespaces/a/services/b:web/proxy/x//y/",
            Some(("services", Some("a"), Some("b:web"), Some("proxy"))),
        );
        check("/", None);
    }
}
