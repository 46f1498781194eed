//! The kinds of objects: what identifies one, and the table of those that this API server has by itself. Kinds that
//! CustomResourceDefinitions bring come and go; `registry::Kinds` holds those that are served now.
//!
//! A kind that several group versions serve has an entry for each, all but one with `stored_as`; what differs is in
//! `model::conversion`.

pub mod extension;

mod built_in;
mod reviews;

use std::{borrow::Cow, cmp::Ordering, fmt, hash, ops::Deref, sync::Arc};

pub use built_in::*;
pub use reviews::{REVIEWS, TOKEN_REQUEST};

/// A kind of objects. Cheap to clone; compared by group, version and plural.
#[derive(Clone)]
pub enum Kind {
    /// One that every cluster has.
    BuiltIn(&'static Identity),
    /// One of a CustomResourceDefinition.
    Custom(Arc<Identity>),
}

/// Text of a built-in kind, or of one that came later.
pub type Text = Cow<'static, str>;

/// What discovery says of a kind.
#[derive(Debug, PartialEq)]
pub struct Identity {
    /// API group; empty for core.
    pub group: Text,
    /// Version; of a group's versions, the first in the table is preferred.
    pub version: Text,
    /// CamelCase name, `EndpointSlice`.
    pub kind: Text,
    /// Resource name in URLs, `endpointslices`.
    pub plural: Text,
    /// Singular name that kubectl accepts, `endpointslice`.
    pub singular: Text,
    /// Kind of its lists; empty for the kind's name with `List`.
    pub list_kind: Text,
    /// kubectl's abbreviations.
    pub short_names: Cow<'static, [Text]>,
    /// Groups of resources, as in `kubectl get all`.
    pub categories: Cow<'static, [Text]>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is a subresource of its own.
    pub has_status: bool,
    /// Whether `scale` is served.
    pub has_scale: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
    /// The field of the metadata that a write of the status may not change, by the kind's status strategy in Kubernetes.
    pub kept_by_status: Option<&'static str>,
    /// The kind whose objects it shows in another form; `None` for a kind with objects of its own.
    pub stored_as: Option<Kind>,
}

/// The built-in kind that a document names by `apiVersion` and `kind`.
pub fn built_in(api_version: &str, name: &str) -> Option<&'static Kind> {
    BUILT_IN.iter().copied().find(|kind| kind.is_named(api_version, name))
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `EndpointSliceList`.
    pub fn list_kind(&self) -> Text {
        if self.list_kind.is_empty() {
            format!("{}List", self.kind).into()
        } else {
            self.list_kind.clone()
        }
    }

    /// Whether the kind is Kubernetes' own, not a custom resource.
    pub fn is_native(&self) -> bool {
        let of_kubernetes = !self.group.contains('.') || self.group.ends_with(".k8s.io");
        matches!(self, Self::BuiltIn(_)) && of_kubernetes
    }

    /// The kind that its objects have in the store.
    pub fn stored(&self) -> &Self {
        self.stored_as.as_ref().unwrap_or(self)
    }

    /// Whether a document of this `apiVersion` and `kind` is of it.
    pub fn is_named(&self, api_version: &str, name: &str) -> bool {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.kind == name && self.group == group && self.version == version
    }

    /// Whether a CustomResourceDefinition made it.
    pub fn is_custom(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    fn identity(&self) -> (&str, &str, &str) {
        (&self.group, &self.plural, &self.version)
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BuiltIn(one), Self::BuiltIn(other)) => std::ptr::eq(*one, *other),
            (Self::Custom(one), Self::Custom(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Deref for Kind {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        match self {
            Self::BuiltIn(identity) => identity,
            Self::Custom(identity) => identity,
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.identity() == other.identity()
    }
}
impl Eq for Kind {}
impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of the two keys that a map compares, most are of one kind.
        if self.is_same(other) {
            return Ordering::Equal;
        }
        self.identity().cmp(&other.identity())
    }
}
impl hash::Hash for Kind {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}
