//! How lists and maps of each type are merged: merge keys for strategic merge patches, list types for
//! server-side apply. What is not listed has the defaults of Kubernetes (lists are replaced as a whole, objects are
//! merged field by field).
//!
//! The facts are those of the field tags `patchStrategy`, `patchMergeKey`, `listType`, `listMapKey`, `structType`
//! and `mapType` of Kubernetes' API types, which [the table of fields](crate::model::fields) has. Enter at [`root`] (a
//! kind's type) or [`by_schema`] (OpenAPI).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{LazyLock, OnceLock},
};

use serde_json::Value;

use crate::model::{
    Kind,
    fields::{self, Form, Message, MessageId, Shape},
    kind::Identity,
};

/// One object type, as far as merging needs it.
pub struct Type {
    /// Name of the OpenAPI schema; empty for [`ANY`].
    pub schema: &'static str,
    /// Owned as a whole by server-side apply.
    pub atomic: bool,
    /// Set once, when there are all types: they refer to each other.
    content: OnceLock<Content>,
}

/// What is within a [`Type`].
#[derive(Debug)]
struct Content {
    /// Fields that differ from the defaults, or lead to some that do, by name.
    fields: Vec<Field>,
    /// The others.
    other: Field,
}

/// One field of a [`Type`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// What server-side apply does when the value is a list.
    pub list: List,
    /// What server-side apply does when the value is a map: `true` owns it as a whole.
    pub atomic: bool,
    /// What a strategic merge patch does.
    pub strategy: Strategy,
    /// Type of the value, or of the list's items or the map's values.
    pub of: &'static Type,
}

/// List types of server-side apply.
#[derive(Clone, Copy, Debug)]
pub enum List {
    /// Owned and replaced as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects that these fields identify.
    Map(&'static [Key<'static>]),
}

/// One identifying field of a [`List::Map`].
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Name in JSON.
    pub field: &'a str,
    /// What stands for a missing value.
    pub default: Option<&'a Value>,
}

/// Patch strategy of a field. All lists without one are replaced, all objects merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// No strategy.
    Default,
    /// A list of scalars: the union.
    Union,
    /// A list of objects with this key: items are merged.
    Merge(&'static str),
    /// As [`Strategy::Merge`]; clients also say which keys an item retains.
    MergeRetainKeys(&'static str),
    /// An object of which clients say which keys are retained.
    RetainKeys,
}

impl fmt::Debug for Type {
    /// Only its name: types may hold themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.schema)
    }
}

impl Type {
    /// The rules for a field, which are the defaults for one that is not listed.
    pub fn field(&self, name: &str) -> Field {
        let Some(content) = self.content.get() else { return inside("", &ANY) };
        match content.fields.binary_search_by_key(&name, |field| field.name) {
            Ok(at) => content.fields[at],
            Err(_) => content.other,
        }
    }

    /// The fields that are listed.
    pub fn fields(&self) -> &[Field] {
        self.content.get().map_or(&[], |content| &content.fields)
    }
}

/// A type about which nothing special is known.
pub static ANY: Type = Type { schema: "", atomic: false, content: OnceLock::new() };

/// A constant that is too long to write as one.
static TYPES: LazyLock<BTreeMap<&'static str, &'static Type>> = LazyLock::new(types);

static OBJECT: LazyLock<Type> = LazyLock::new(|| {
    let metadata = by_schema(&fields::metadata().schema).unwrap_or(&ANY);
    of_fields("", vec![inside("metadata", metadata)], inside("", &ANY))
});

/// The type of a kind's documents. A kind without an entry has ordinary metadata and defaults below it.
pub fn root(kind: &Kind) -> &'static Type {
    by_schema(&schema(kind)).unwrap_or(&OBJECT)
}

/// The metadata of all kinds, as a field.
pub(super) fn metadata() -> Field {
    OBJECT.field("metadata")
}

/// The name of a kind's OpenAPI schema, `io.k8s.api.apps.v1.Deployment`.
pub fn schema(kind: &Kind) -> String {
    let Identity { group, version, kind: name, .. } = &**kind;
    if let Some(package) = fields::package_name(group, version)
        && !kind.is_custom()
    {
        return format!("{package}.{name}");
    }
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{name}", reversed.join("."))
}

/// The type with this OpenAPI schema name, for the extensions that OpenAPI documents carry.
pub fn by_schema(schema: &str) -> Option<&'static Type> {
    TYPES.get(schema).copied()
}

const fn inside(name: &'static str, of: &'static Type) -> Field {
    Field { name, list: List::Atomic, atomic: false, strategy: Strategy::Default, of }
}

fn of_fields(schema: &'static str, fields: Vec<Field>, other: Field) -> Type {
    Type { schema, atomic: false, content: Content { fields, other }.into() }
}

/// Every type that merging needs to know. There is one set of them for the life of the process.
fn types() -> BTreeMap<&'static str, &'static Type> {
    let known: BTreeMap<MessageId, &'static Type> =
        special().into_iter().map(|id| (id, &*Box::leak(Box::new(empty(id.message()))))).collect();
    for (id, of) in &known {
        let fields = id.message().named_fields();
        let fields = fields.iter().filter_map(|field| field_of(field, &known)).collect();
        of.content.get_or_init(|| Content { fields, other: inside("", &ANY) });
    }
    known.into_values().map(|of| (of.schema, of)).collect()
}

fn empty(message: &'static Message) -> Type {
    Type { schema: &message.schema, atomic: message.is_atomic, content: OnceLock::new() }
}

/// The messages with a field that is merged in a way of its own, and those that lead to one.
fn special() -> BTreeSet<MessageId> {
    let mut found = BTreeSet::new();
    loop {
        let is_special = |message: &Message| {
            message.is_atomic
                || message.named_fields().iter().any(|field| {
                    !field.merging.is_empty()
                        || message_of(field.shape).is_some_and(|id| found.contains(&id))
                })
        };
        // A value of one of several types has no fields by name.
        let all = fields::messages().filter(|(_, message)| !message.is_either);
        let now: BTreeSet<MessageId> =
            all.filter(|(_, message)| is_special(message)).map(|(id, _)| id).collect();
        if found == now {
            return found;
        }
        found = now;
    }
}

fn message_of(shape: Shape) -> Option<MessageId> {
    match shape {
        Shape::One(Form::Message(id))
        | Shape::List(Form::Message(id))
        | Shape::Map(Form::Message(id)) => Some(id),
        _ => None,
    }
}

/// The rules of a field; `None` if they are the defaults.
fn field_of(field: &fields::Field, known: &BTreeMap<MessageId, &'static Type>) -> Option<Field> {
    let of = message_of(field.shape).and_then(|id| known.get(&id).copied());
    if of.is_none() && field.merging.is_empty() {
        return None;
    }
    let of = match (field.shape, of) {
        (Shape::Map(_), Some(of)) => map_of(of),
        (_, of) => of.unwrap_or(&ANY),
    };
    Some(field.merging.split_whitespace().fold(inside(field.name, of), merged))
}

/// A map with such values.
fn map_of(of: &'static Type) -> &'static Type {
    Box::leak(Box::new(of_fields("", Vec::new(), inside("", of))))
}

/// A field with what a word of the table says about its merging.
fn merged(field: Field, word: &'static str) -> Field {
    match word.split_once('=').unwrap_or((word, "")) {
        ("set", _) => Field { list: List::Set, ..field },
        ("map", keys) => Field { list: List::Map(keys_of(keys)), ..field },
        ("atomic", _) => Field { atomic: true, ..field },
        ("merge", "") => Field { strategy: Strategy::Union, ..field },
        ("merge", key) => Field { strategy: Strategy::Merge(key), ..field },
        // It stands after what it says more about.
        ("retain", _) => match field.strategy {
            Strategy::Merge(key) => Field { strategy: Strategy::MergeRetainKeys(key), ..field },
            _ => Field { strategy: Strategy::RetainKeys, ..field },
        },
        _ => field,
    }
}

fn keys_of(text: &'static str) -> &'static [Key<'static>] {
    let keys = text.split('+').map(|key| match key.split_once(':') {
        Some((field, default)) => Key { field, default: Some(Box::leak(Box::new(default.into()))) },
        None => Key { field: key, default: None },
    });
    Box::leak(keys.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind::{self, BUILT_IN};

    #[test]
    fn every_kind_has_a_type_with_metadata() {
        for kind in BUILT_IN {
            let of = by_schema(&schema(kind)).unwrap_or_else(|| panic!("{kind:?}"));
            assert!(matches!(of.field("metadata").of.field("finalizers").list, List::Set));
        }
        assert!(matches!(OBJECT.field("metadata").of.field("finalizers").list, List::Set));
    }

    #[test]
    fn unlisted_fields_have_the_defaults() {
        let field = root(&kind::POD).field("spec").of.field("tolerations");
        assert!(matches!(field.list, List::Atomic));
        assert_eq!(field.strategy, Strategy::Default);
    }

    #[test]
    fn words_of_the_table_are_understood() {
        let words: BTreeSet<&str> = fields::messages()
            .flat_map(|(_, message)| message.named_fields())
            .flat_map(|field| field.merging.split_whitespace())
            .map(|word| word.split('=').next().unwrap_or_default())
            .collect();
        assert_eq!(words, ["atomic", "map", "merge", "retain", "set"].into());
        let spec = root(&kind::POD).field("spec").of;
        assert_eq!(spec.field("volumes").strategy, Strategy::MergeRetainKeys("name"));
        let List::Map([port, protocol]) = spec.field("containers").of.field("ports").list else {
            panic!("ports have two keys");
        };
        assert_eq!((port.field, port.default), ("containerPort", None));
        assert_eq!((protocol.field, protocol.default), ("protocol", Some(&"TCP".into())));
        assert!(spec.field("nodeSelector").atomic);
        assert!(spec.field("affinity").of.field("nodeAffinity").of.fields().len() > 1);
    }

    #[test]
    fn types_may_hold_themselves() {
        let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let of = by_schema(schema).unwrap();
        let property = of.field("properties").of.field("spec").of;
        assert!(std::ptr::eq(of, property));
        assert_eq!(property.field("x-kubernetes-validations").strategy, Strategy::Merge("rule"));
    }
}
