//! [`Shape`]: a node of a schema as rules see it: its type, its fields under their escaped names, and how large its
//! values may be (`SchemaDeclType` of kube-apiserver).

use std::sync::Arc;

use super::escape::{escape, escape_reserved};
use crate::schema::structural::{ListType, Schema, Type as JsonType, Validations};

/// Most bytes of a request, for estimates only.
pub(super) const REQUEST_BYTES_MAX: i64 = 3 * 1024 * 1024;

const DURATION_BYTES_MIN: i64 = 3;
const DURATION_BYTES_MAX: i64 = 32;
const DATE_BYTES: i64 = 12;
const TIME_BYTES_MIN: i64 = 21;
const TIME_BYTES_MAX: i64 = 32;
/// Code points have up to four bytes.
const CODE_POINT_BYTES_MAX: i64 = 4;

/// A node of a schema.
#[derive(Debug)]
pub(super) struct Shape {
    name: Box<str>,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    /// Whether rules can see it. What they cannot see is still compared.
    pub(super) is_visible: bool,
    /// Most elements, entries or bytes, for estimates.
    pub(super) elements_max: u64,
    /// Fewest bytes in JSON.
    pub(super) bytes_min: i64,
}

/// What a node describes.
#[derive(Debug)]
pub(super) enum Kind {
    Object(Fields),
    Map(Arc<Shape>),
    List(Items),
    String,
    Bytes,
    Duration,
    Date,
    DateTime,
    Integer,
    Number,
    Boolean,
    IntOrString,
    /// A value that rules cannot see, of any type.
    Unknown,
}

/// The elements of a list.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) shape: Arc<Shape>,
    pub(super) order: Order,
}

/// How elements of a list are compared and added.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// In their order.
    Atomic,
    /// Each once, in any order.
    Set,
    /// By these keys, in any order.
    Keys(Box<[Box<str>]>),
}

/// The properties of an object, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Fields {
    by_name: Vec<Field>,
    /// Whether the schema names properties at all.
    pub(super) are_named: bool,
}

/// A property.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    /// The name in expressions, if it can have one.
    pub(super) escaped: Option<Box<str>>,
    pub(super) shape: Arc<Shape>,
}

impl Fields {
    /// The property of this name in JSON.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Shape>> {
        let at = self.by_name.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        Some(&self.by_name[at].shape)
    }

    /// The property of this name in expressions, if rules can see it.
    pub(super) fn find_escaped(&self, escaped: &str) -> Option<&Field> {
        let find = |escaped: &str| {
            let mut fields = self.by_name.iter();
            fields.find(|f| f.escaped.as_deref() == Some(escaped) && f.shape.is_visible)
        };
        find(escaped).or_else(|| find(&escape_reserved(escaped)?))
    }
}

impl Shape {
    /// The root of a resource if `is_resource` is set, else any node.
    pub(super) fn new(schema: &Schema, is_resource: bool) -> Self {
        Self::build(schema, is_resource, "selfType")
    }

    /// How messages call the type of an object.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The shape of the elements or of the values.
    pub(super) fn element(&self) -> Option<&Arc<Self>> {
        match &self.kind {
            Kind::Map(values) => Some(values),
            Kind::List(items) => Some(&items.shape),
            _ => None,
        }
    }

    /// The shape of a property, by its name in JSON.
    pub(super) fn property(&self, name: &str) -> Option<Arc<Self>> {
        match &self.kind {
            Kind::Object(fields) => fields.find(name).cloned(),
            _ => None,
        }
    }

    fn build(schema: &Schema, is_resource: bool, name: &str) -> Self {
        let limits = schema.validations();
        let (kind, elements_max, bytes_min) = if schema.int_or_string {
            (Kind::IntOrString, text_bytes(limits.max_length), 1)
        } else {
            match &schema.value_type {
                JsonType::Array => list(schema, name),
                JsonType::Object => object(schema, is_resource, name),
                JsonType::String => string(limits),
                JsonType::Boolean => (Kind::Boolean, 0, 4),
                JsonType::Number => (Kind::Number, 0, 1),
                JsonType::Integer => (Kind::Integer, 0, 1),
                JsonType::Unset | JsonType::Other(_) => (Kind::Unknown, 0, 1),
            }
        };
        let is_visible = match &kind {
            Kind::Unknown => false,
            Kind::Map(element) => element.is_visible,
            Kind::List(items) => items.shape.is_visible,
            _ => true,
        };
        let elements_max = u64::try_from(elements_max).unwrap_or_default();
        let nullable = schema.nullable;
        Self { name: name.into(), kind, nullable, is_visible, elements_max, bytes_min }
    }

    /// A text of any length.
    fn text() -> Self {
        let (kind, name) = (Kind::String, "".into());
        let elements_max = u64::try_from(text_bytes(None)).unwrap_or_default();
        Self { name, kind, nullable: false, is_visible: true, elements_max, bytes_min: 2 }
    }
}

/// Most bytes of a text with at most this many code points.
fn text_bytes(length_max: Option<i64>) -> i64 {
    match length_max {
        Some(length) => length.max(0).saturating_mul(CODE_POINT_BYTES_MAX),
        // Without the quotes.
        None => REQUEST_BYTES_MAX - 2,
    }
}

fn string(limits: &Validations) -> (Kind, i64, i64) {
    match &*limits.format {
        "byte" => {
            let length = limits.max_length.map(|length| length.max(0));
            (Kind::Bytes, length.unwrap_or(REQUEST_BYTES_MAX - 2), 2)
        }
        "duration" => (Kind::Duration, DURATION_BYTES_MAX, DURATION_BYTES_MIN),
        "date" => (Kind::Date, DATE_BYTES, DATE_BYTES),
        "date-time" => (Kind::DateTime, TIME_BYTES_MAX, TIME_BYTES_MIN),
        _ if limits.max_length.is_none() && !limits.enumeration.is_empty() => {
            let texts = limits.enumeration.iter().filter_map(|value| value.as_str());
            let longest = texts.map(str::len).max().unwrap_or_default();
            (Kind::String, i64::try_from(longest).unwrap_or(i64::MAX), 2)
        }
        _ => (Kind::String, text_bytes(limits.max_length), 2),
    }
}

fn list(schema: &Schema, name: &str) -> (Kind, i64, i64) {
    let Some(items) = &schema.items else { return (Kind::Unknown, 0, 2) };
    let shape = Shape::build(items, items.embedded_resource, &format!("{name}.@idx"));
    let fitting = (REQUEST_BYTES_MAX - 2) / (shape.bytes_min + 1);
    let most = schema.validations().max_items.map_or(fitting, |most| most.max(0));
    let order = match &schema.list_type {
        Some(ListType::Set) => Order::Set,
        Some(ListType::Map) => Order::Keys(schema.list_map_keys.clone()),
        _ => Order::Atomic,
    };
    (Kind::List(Items { shape: Arc::new(shape), order }), most, 2)
}

fn object(schema: &Schema, is_resource: bool, name: &str) -> (Kind, i64, i64) {
    if let Some(values) = schema.additional_properties.schema() {
        let shape = Shape::build(values, values.embedded_resource, &format!("{name}.@elem"));
        // A key, quotes, a colon and a comma.
        let fitting = (REQUEST_BYTES_MAX - 2) / (shape.bytes_min + 6);
        let most = schema.validations().max_properties.map_or(fitting, |most| most.max(0));
        return (Kind::Map(Arc::new(shape)), most, 2);
    }
    let mut fields: Vec<Field> = Vec::new();
    for (field, property) in schema.properties.iter() {
        let escaped = escape(field);
        let name = format!("{name}.{}", escaped.as_deref().unwrap_or(field));
        let shape = Shape::build(property, property.embedded_resource, &name);
        fields.push(Field { name: field.into(), escaped, shape: Arc::new(shape) });
    }
    if is_resource || schema.embedded_resource {
        add_type_and_object_meta(&mut fields, schema, name);
    }
    let required = &schema.validations().required;
    let is_counted = |field: &Field| {
        let has_default =
            schema.properties.find(&field.name).is_some_and(|property| property.default.is_some());
        field.shape.is_visible && !has_default && required.contains(&field.name)
    };
    let length = |field: &Field| i64::try_from(field.name.len()).unwrap_or(i64::MAX);
    let bytes = fields.iter().filter(|field| is_counted(field));
    let bytes_min = bytes.fold(2_i64, |sum, field| {
        sum.saturating_add(length(field)).saturating_add(field.shape.bytes_min).saturating_add(4)
    });
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    let are_named = !fields.is_empty();
    (Kind::Object(Fields { by_name: fields, are_named }), 0, bytes_min)
}

/// Rules on a resource see `apiVersion`, `kind`, `metadata.name` and `metadata.generateName`, and no other metadata.
fn add_type_and_object_meta(fields: &mut Vec<Field>, schema: &Schema, name: &str) {
    let is_text = |schema: Option<&Schema>| {
        schema.is_some_and(|schema| schema.value_type == JsonType::String)
    };
    let metadata = schema.properties.find("metadata");
    let properties = metadata.map(|metadata| &metadata.properties);
    let of_metadata = |name: &str| properties.and_then(|properties| properties.find(name));
    let is_complete = is_text(schema.properties.find("kind"))
        && is_text(schema.properties.find("apiVersion"))
        && metadata.is_some_and(|metadata| metadata.value_type == JsonType::Object)
        && is_text(of_metadata("name"))
        && is_text(of_metadata("generateName"));
    if is_complete {
        return;
    }
    fields.retain(|field| !matches!(&*field.name, "kind" | "apiVersion" | "metadata"));
    let field = |name: &str, shape: Shape| Field {
        name: name.into(),
        escaped: Some(name.into()),
        shape: Arc::new(shape),
    };
    let by_name = vec![field("generateName", Shape::text()), field("name", Shape::text())];
    let metadata = Shape {
        name: format!("{name}.metadata").into(),
        kind: Kind::Object(Fields { by_name, are_named: true }),
        bytes_min: 2,
        is_visible: true,
        nullable: false,
        elements_max: 0,
    };
    fields.push(field("kind", Shape::text()));
    fields.push(field("apiVersion", Shape::text()));
    fields.push(field("metadata", metadata));
}
