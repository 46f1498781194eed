//! Defaults: what a schema says of fields that are absent, and of nulls where null is not a value. Source:
//! apiextensions-apiserver's `schema/defaulting`.

use serde_json::{Map, Value};

use crate::{model::Cause, schema::structural::Schema};

/// Drops fields that are null where null is not a value and no default stands for it. Done before [`default`], which
/// replaces the others.
pub fn prune_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(fields) => fields.retain(|name, value| {
            let Some(below) = schema.field(name) else { return true };
            if value.is_null() && !below.nullable && below.default.is_none() {
                return false;
            }
            prune_nulls(value, below);
            true
        }),
        Value::Array(items) => {
            let Some(below) = &schema.items else { return };
            items.iter_mut().for_each(|item| prune_nulls(item, below));
        }
        _ => {}
    }
}

/// Most values that defaults may add to a document. Far more than a document of the largest size has.
const ADDED_MAX: usize = 1_000_000;

/// Fills in defaults, also those inside of defaults.
///
/// # Errors
/// Defaults that would make the document too large: a list of many empty objects, of a schema with many defaults.
pub fn default(value: &mut Value, schema: &Schema) -> Result<(), Cause> {
    Defaulting { room: ADDED_MAX }.value(value, schema).map_err(|TooLarge| {
        Cause::broken("<nil>", "the defaults of the schema would make the object too large")
    })
}

/// How many values may be added yet.
struct Defaulting {
    room: usize,
}

struct TooLarge;

impl Defaulting {
    fn value(&mut self, value: &mut Value, schema: &Schema) -> Result<(), TooLarge> {
        match value {
            Value::Object(fields) => self.fields(fields, schema),
            Value::Array(items) => {
                let Some(below) = &schema.items else { return Ok(()) };
                items.iter_mut().try_for_each(|item| self.nullable(item, below))
            }
            _ => Ok(()),
        }
    }

    fn fields(&mut self, fields: &mut Map<String, Value>, schema: &Schema) -> Result<(), TooLarge> {
        for (name, property) in schema.properties.with_default() {
            if !fields.contains_key(name)
                && let Some(default) = &property.default
            {
                self.spend(default)?;
                fields.insert(name.to_owned(), (**default).clone());
            }
        }
        fields.iter_mut().try_for_each(|(name, value)| match schema.field(name) {
            Some(below) => self.nullable(value, below),
            None => Ok(()),
        })
    }

    /// A null is replaced where it is no value.
    fn nullable(&mut self, value: &mut Value, schema: &Schema) -> Result<(), TooLarge> {
        if let Some(default) = &schema.default
            && value.is_null()
            && !schema.nullable
        {
            self.spend(default)?;
            *value = (**default).clone();
        }
        self.value(value, schema)
    }

    fn spend(&mut self, added: &Value) -> Result<(), TooLarge> {
        self.room = self.room.checked_sub(count(added)).ok_or(TooLarge)?;
        Ok(())
    }
}

/// How many values a value is made of.
fn count(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    };
    inner.saturating_add(1)
}
