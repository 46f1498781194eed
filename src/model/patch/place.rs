//! [`Resource`]: a kind, and how its documents are merged. A [`Place`] is where a value of such a document stands.
//!
//! Built-in kinds have the types of [`keys`]. A custom kind has a schema, of which this module knows only what [`Node`]
//! tells. Metadata is that of Kubernetes in both.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use crate::model::{
    Kind,
    patch::keys::{self, Field, Key, List},
};

/// One node of the schema of a custom kind, as far as merging needs it.
pub trait Node: fmt::Debug + Sync {
    /// What is said of a field of an object.
    fn field(&self, name: &str) -> Option<&dyn Node>;

    /// Whether an object may have the field.
    fn declares(&self, name: &str) -> bool;

    /// What is said of the items of a list.
    fn item(&self) -> Option<&dyn Node>;

    /// Whether an object is a resource itself, with metadata.
    fn is_resource(&self) -> bool;

    /// Whether an object is owned as a whole.
    fn is_atomic(&self) -> bool;

    /// The keys that identify the items of a list: none if it is a set, `None` if it is owned as a whole.
    fn keys(&self) -> Option<Vec<Key<'_>>>;

    /// Drops the fields of a resource that it does not keep.
    fn prune(&self, document: &mut Value);
}

/// A kind, and how its documents are merged.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    pub(super) kind: &'a Kind,
    pub(super) root: Place<'a>,
}

impl<'a> Resource<'a> {
    /// Of a built-in kind.
    pub fn built_in(kind: &'a Kind) -> Self {
        Self { kind, root: Place::of(Field { of: keys::root(kind), ..keys::ANY.field("") }) }
    }

    /// Of a custom kind, with the root of its schema.
    pub fn custom(kind: &'a Kind, schema: &'a dyn Node) -> Self {
        Self { kind, root: Place::Root(schema) }
    }

    /// The kind.
    pub fn kind(self) -> &'a Kind {
        self.kind
    }

    /// Drops from a document what is never stored.
    pub(super) fn prune(self, document: &mut Value) {
        if let Place::Root(schema) = self.root {
            schema.prune(document);
        }
    }
}

/// How a value is merged; decided by its own form and by its place.
pub(super) enum Form<'a> {
    /// Field by field; continue with [`Place::field`].
    Object,
    /// Item by item, told apart by these keys, or by the values if there are none; continue with [`Place::item`].
    List(Cow<'a, [Key<'a>]>),
    /// Owned as a whole.
    Leaf,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In a field of a type of Kubernetes, or in an item of the list in that field.
    Typed { field: Field, is_item: bool },
    /// At a node of a schema.
    Node(&'a dyn Node),
    /// At the root of a schema.
    Root(&'a dyn Node),
}

impl<'a> Place<'a> {
    fn of(field: Field) -> Self {
        Self::Typed { field, is_item: false }
    }

    /// Where nothing is said: objects are merged, lists are replaced.
    fn unknown() -> Self {
        Self::of(keys::ANY.field(""))
    }

    fn at(node: Option<&'a dyn Node>) -> Self {
        node.map_or_else(Self::unknown, Self::Node)
    }

    /// The node of a schema, and whether a resource stands there.
    fn node(self) -> Option<(&'a dyn Node, bool)> {
        match self {
            Self::Typed { .. } => None,
            Self::Node(node) => Some((node, node.is_resource())),
            Self::Root(node) => Some((node, true)),
        }
    }

    /// The place of a field of an object that stands here.
    pub(super) fn field(self, name: &str) -> Self {
        match (self, self.node()) {
            (_, Some((_, true))) if name == "metadata" => Self::of(keys::metadata()),
            (_, Some((_, true))) if matches!(name, "apiVersion" | "kind") => Self::unknown(),
            (_, Some((node, _))) => Self::at(node.field(name)),
            (Self::Typed { field, .. }, _) => Self::of(field.of.field(name)),
            _ => Self::unknown(),
        }
    }

    /// The place of an item of a list that stands here.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Typed { field, .. } => Self::Typed { field, is_item: true },
            Self::Node(node) | Self::Root(node) => Self::at(node.item()),
        }
    }

    /// Whether a schema says what stands here.
    pub(super) fn is_of_schema(self) -> bool {
        self.node().is_some()
    }

    /// Whether an object that stands here may have the field. Types of Kubernetes are not asked.
    pub(super) fn declares(self, name: &str) -> bool {
        const OF_RESOURCES: [&str; 3] = ["apiVersion", "kind", "metadata"];
        self.node().is_none_or(|(node, is_resource)| {
            is_resource && OF_RESOURCES.contains(&name) || node.declares(name)
        })
    }

    /// How a value is merged, or the two that are compared here. Null counts as whatever the other one is, so it has no
    /// say.
    pub(super) fn form(self, values: [Option<&Value>; 2]) -> Form<'a> {
        let value = values.into_iter().flatten().find(|value| !value.is_null());
        match (value, self) {
            (Some(Value::Object(_)), Self::Typed { field, is_item }) => {
                if field.of.atomic || field.atomic && !is_item { Form::Leaf } else { Form::Object }
            }
            (Some(Value::Object(_)), Self::Node(node) | Self::Root(node)) => {
                if node.is_atomic() {
                    Form::Leaf
                } else {
                    Form::Object
                }
            }
            (Some(Value::Array(_)), Self::Typed { field, is_item: false }) => match field.list {
                List::Atomic => Form::Leaf,
                List::Set => Form::List(Cow::Borrowed(&[])),
                List::Map(keys) => Form::List(Cow::Borrowed(keys)),
            },
            (Some(Value::Array(_)), Self::Node(node)) => {
                node.keys().map_or(Form::Leaf, |keys| Form::List(Cow::Owned(keys)))
            }
            _ => Form::Leaf,
        }
    }
}
