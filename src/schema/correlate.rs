//! The old value that belongs to a new one, for ratcheting: what an update leaves as it is does not fail newly.
//!
//! Values correlate through properties, additional properties and the keys of list maps. Items of other lists have no
//! identity. Source: `CorrelatedObject` of apiserver's `pkg/cel/common`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::structural::{ListType, Schema};

/// An old value, and the node of the schema that says what correlates below it.
#[derive(Clone, Copy, Debug)]
pub struct Old<'a> {
    /// The value before the update.
    pub value: &'a Value,
    /// The node of the skeleton (never of a nested value validation) that stands for it.
    pub schema: &'a Schema,
}

/// The old items of a list, by the index of the new ones.
pub(crate) struct OldItems<'a> {
    schema: &'a Schema,
    items: Vec<Option<&'a Value>>,
}

impl<'a> Old<'a> {
    /// The old value of a field.
    pub fn field(self, name: &str) -> Option<Self> {
        let value = self.value.get(name)?;
        Some(Self { value, schema: self.schema.field(name)? })
    }

    /// The old values of a list's items; none for a list whose items have no keys.
    pub(crate) fn items(self, new: &[Value]) -> Option<OldItems<'a>> {
        let keys = list_keys(self.schema)?;
        let schema = self.schema.items.as_deref()?;
        let mut by_key = BTreeMap::new();
        for item in self.value.as_array()? {
            if let Some(key) = identity(keys, item) {
                by_key.entry(key).or_insert(item);
            }
        }
        let items = new.iter().map(|item| by_key.get(&identity(keys, item)?).copied()).collect();
        Some(OldItems { schema, items })
    }

    /// Whether the new value is the old one. List maps are equal in any order; a map with a field of which the schema
    /// says nothing never is, as in Kubernetes.
    pub fn is_same(self, new: &Value) -> bool {
        match (self.value, new) {
            (Value::Array(old), Value::Array(new)) if list_keys(self.schema).is_some() => {
                let items = self.items(new);
                old.len() == new.len()
                    && items.is_some_and(|items| {
                        let mut all = new.iter().enumerate();
                        all.all(|(at, item)| items.at(at).is_some_and(|old| old.is_same(item)))
                    })
            }
            (Value::Object(old), Value::Object(new)) => self.has_same_fields(old, new),
            (old, new) => old == new,
        }
    }

    fn has_same_fields(self, old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
        let is_same =
            |(name, value): (&String, _)| self.field(name).is_some_and(|old| old.is_same(value));
        old.len() == new.len() && new.iter().all(is_same)
    }
}

impl<'a> OldItems<'a> {
    /// The old value of the new list's item at this index.
    pub(crate) fn at(&self, index: usize) -> Option<Old<'a>> {
        let value = self.items.get(index).copied().flatten()?;
        Some(Old { value, schema: self.schema })
    }
}

fn list_keys(schema: &Schema) -> Option<&[Box<str>]> {
    let is_map = schema.list_type == Some(ListType::Map) && !schema.list_map_keys.is_empty();
    is_map.then_some(&*schema.list_map_keys)
}

/// What identifies an item: all keys, which are scalars.
fn identity<'a>(keys: &[Box<str>], item: &'a Value) -> Option<Vec<Scalar<'a>>> {
    keys.iter().map(|key| Scalar::of(item.get(&**key)?)).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Scalar<'a> {
    Flag(bool),
    Text(&'a str),
    Whole(i64),
    Float(u64),
}

impl<'a> Scalar<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Bool(flag) => Self::Flag(*flag),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Self::Whole(whole),
                None => Self::Float(number.as_f64()?.to_bits()),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        })
    }
}
