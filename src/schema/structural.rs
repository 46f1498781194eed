//! [`Schema`]: one node of a structural schema, as a `CustomResourceDefinition` writes it (`JSONSchemaProps` of
//! apiextensions.k8s.io/v1).
//!
//! One type serves both sides of a structural schema: its skeleton (properties, items, additional properties) and the
//! value validations nested below `allOf`, `anyOf`, `oneOf` and `not`. What the latter may not say is kept here and
//! refused by [`check`](crate::schema::check). Texts for people (descriptions, titles, examples) are not kept: what is
//! published is made from the document itself, by [`publish`](crate::schema::publish).

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::schema::pattern::Pattern;

/// One node of a structural schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`.
    pub value_type: Type,
    /// `nullable`: null is a value.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`: what is not specified is kept.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-preserve-unknown-fields` is set, but false, which is refused.
    pub forbids_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource`: the value is an object with `apiVersion`, `kind` and `metadata`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// Fields that say something to people only, or that structural schemas may not have.
    pub others: Others,
    /// `x-kubernetes-list-type`.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<MapType>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Box<[Box<str>]>,
    /// `default`; null counts as none.
    pub default: Option<Box<Value>>,
    /// `properties`, by name.
    pub properties: Properties,
    /// `additionalProperties`.
    pub additional_properties: AdditionalProperties,
    /// `items`.
    pub items: Option<Box<Self>>,
    /// All fields that validate the value and say nothing about the structure.
    pub validations: Option<Box<Validations>>,
    /// `x-kubernetes-validations`.
    pub rules: Box<[Rule]>,
}

/// JSON types that a schema may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// None is named.
    #[default]
    Unset,
    /// A map or a structure.
    Object,
    /// A list.
    Array,
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A name that is none of the above: refused when a schema is checked.
    Other(Box<str>),
}

/// List types of server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// Owned and replaced as a whole.
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects that the list's keys identify.
    Map,
    /// Refused when a schema is checked.
    Other(Box<str>),
}

/// Map types of server-side apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapType {
    /// Owned and replaced as a whole.
    Atomic,
    /// Each field is owned by itself.
    Granular,
    /// Refused when a schema is checked.
    Other(Box<str>),
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub enum AdditionalProperties {
    /// Not said.
    #[default]
    Unset,
    /// True or false.
    Allowed(bool),
    /// What each value must be.
    Schema(Box<Schema>),
}

/// `properties`, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    all: Box<[(Box<str>, Schema)]>,
    /// Where those with a default stand.
    with_default: Box<[usize]>,
}

/// Value validations. Absent fields do not validate.
#[derive(Clone, Debug, Default)]
pub struct Validations {
    /// `format`; empty if absent.
    pub format: Box<str>,
    /// `maximum`.
    pub maximum: Option<f64>,
    /// `minimum`.
    pub minimum: Option<f64>,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: bool,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: bool,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `maxLength`, in code points.
    pub max_length: Option<i64>,
    /// `minLength`, in code points.
    pub min_length: Option<i64>,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `minItems`.
    pub min_items: Option<i64>,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `minProperties`.
    pub min_properties: Option<i64>,
    /// `pattern`. Equal patterns of one schema are one.
    pub pattern: Option<Arc<Pattern>>,
    /// `enum`; empty if absent.
    pub enumeration: Box<[Value]>,
    /// `required`.
    pub required: Box<[Box<str>]>,
    /// `allOf`.
    pub all_of: Box<[Schema]>,
    /// `anyOf`.
    pub any_of: Box<[Schema]>,
    /// `oneOf`.
    pub one_of: Box<[Schema]>,
    /// `not`.
    pub not: Option<Schema>,
}

/// One rule of `x-kubernetes-validations`. Texts that are absent are empty, as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `rule`: the expression.
    pub rule: Box<str>,
    /// `message`.
    pub message: Box<str>,
    /// `messageExpression`.
    pub message_expression: Box<str>,
    /// `reason`.
    pub reason: Option<Box<str>>,
    /// `fieldPath`.
    pub field_path: Box<str>,
    /// `optionalOldSelf`.
    pub optional_old_self: Option<bool>,
}

/// A set of [`OTHERS`], which a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others(u16);

/// Fields of `JSONSchemaProps` of which only the presence is kept: those for people, then those that are not supported.
pub const OTHERS: &[&str] = &[
    "description",
    "title",
    "example",
    "externalDocs",
    "id",
    "$schema",
    "$ref",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
];

/// The name under which a list of schemas for `items` is remembered: it is not supported either.
const ITEMS_AS_LIST: u16 = 15;

impl Others {
    /// Whether the node has this field of [`OTHERS`].
    pub fn has(self, name: &str) -> bool {
        OTHERS.iter().position(|other| *other == name).is_some_and(|bit| self.0 >> bit & 1 == 1)
    }

    /// Whether `items` is a list of schemas.
    pub fn has_items_as_list(self) -> bool {
        self.0 >> ITEMS_AS_LIST == 1
    }

    /// Whether there is any.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a field, if it is of [`OTHERS`].
    pub(super) fn add(&mut self, name: &str) {
        if let Some(bit) = OTHERS.iter().position(|other| *other == name) {
            self.0 |= 1 << bit;
        }
    }

    pub(super) fn add_items_as_list(&mut self) {
        self.0 |= 1 << ITEMS_AS_LIST;
    }
}

impl Properties {
    /// The property of this name.
    pub fn find(&self, name: &str) -> Option<&Schema> {
        let at = self.all.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.all[at].1)
    }

    /// All, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Schema)> {
        self.all.iter().map(|(name, schema)| (&**name, schema))
    }

    /// Those that have a default.
    pub fn with_default(&self) -> impl Iterator<Item = (&str, &Schema)> {
        self.with_default.iter().map(|at| &self.all[*at]).map(|(name, schema)| (&**name, schema))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// From pairs in any order; of equal names the last counts.
    pub fn new(pairs: impl IntoIterator<Item = (Box<str>, Schema)>) -> Self {
        let sorted: std::collections::BTreeMap<Box<str>, Schema> = pairs.into_iter().collect();
        let all: Box<[_]> = sorted.into_iter().collect();
        let with_default =
            all.iter().enumerate().filter(|(_, (_, schema))| schema.default.is_some());
        Self { with_default: with_default.map(|(at, _)| at).collect(), all }
    }
}

impl Type {
    /// As written; empty for [`Type::Unset`].
    pub fn name(&self) -> &str {
        match self {
            Self::Unset => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Other(name) => name,
        }
    }

    pub(super) fn of(name: &str) -> Self {
        match name {
            "" => Self::Unset,
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            other => Self::Other(other.into()),
        }
    }
}

impl ListType {
    /// As written.
    pub fn name(&self) -> &str {
        match self {
            Self::Atomic => "atomic",
            Self::Set => "set",
            Self::Map => "map",
            Self::Other(name) => name,
        }
    }

    pub(super) fn of(name: &str) -> Self {
        match name {
            "atomic" => Self::Atomic,
            "set" => Self::Set,
            "map" => Self::Map,
            other => Self::Other(other.into()),
        }
    }
}

impl MapType {
    /// As written.
    pub fn name(&self) -> &str {
        match self {
            Self::Atomic => "atomic",
            Self::Granular => "granular",
            Self::Other(name) => name,
        }
    }

    pub(super) fn of(name: &str) -> Self {
        match name {
            "atomic" => Self::Atomic,
            "granular" => Self::Granular,
            other => Self::Other(other.into()),
        }
    }
}

impl AdditionalProperties {
    /// What each value must be, if that is said.
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Self::Schema(schema) => Some(schema),
            Self::Unset | Self::Allowed(_) => None,
        }
    }

    /// Whether it is said at all.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }
}

/// What stands for absent validations.
static NO_VALIDATIONS: LazyLock<Validations> = LazyLock::new(Validations::default);

impl Schema {
    /// The validations; those of a node without any do not validate.
    pub fn validations(&self) -> &Validations {
        self.validations.as_deref().unwrap_or(&NO_VALIDATIONS)
    }

    /// What stands below a name: the property, or else what additional properties must be.
    pub fn field(&self, name: &str) -> Option<&Self> {
        self.properties.find(name).or_else(|| self.additional_properties.schema())
    }
}
