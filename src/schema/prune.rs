//! Pruning: fields that a schema does not specify are dropped. Source: apiextensions-apiserver's `schema/pruning`.

use serde_json::{Map, Value};

use crate::schema::{
    path::Path,
    structural::{AdditionalProperties, Schema},
};

/// Fields that an embedded resource has in any case.
pub(crate) const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what the schema does not specify. A resource keeps its `apiVersion`, `kind` and `metadata`, and so do embedded
/// resources below. Gives the paths of what was dropped, sorted, as `spec.items[0].name`.
pub fn prune(value: &mut Value, schema: &Schema, is_resource: bool) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.value(value, Some(schema), is_resource || schema.embedded_resource, &Path::root(""));
    pruner.dropped.sort_unstable();
    pruner.dropped
}

#[derive(Default)]
struct Pruner {
    dropped: Vec<String>,
}

impl Pruner {
    fn value(
        &mut self,
        value: &mut Value,
        schema: Option<&Schema>,
        is_resource: bool,
        path: &Path<'_>,
    ) {
        let keeps = schema.is_some_and(|schema| schema.preserve_unknown_fields);
        match value {
            Value::Object(fields) => self.fields(fields, schema, keeps, is_resource, path),
            Value::Array(items) => {
                let schema = schema.and_then(|schema| schema.items.as_deref());
                for (at, item) in items.iter_mut().enumerate() {
                    self.item(item, schema, keeps, &path.index(at));
                }
            }
            _ => {}
        }
    }

    /// An item of a list that keeps unknown fields keeps them as well, whatever its own schema says.
    fn item(&mut self, item: &mut Value, schema: Option<&Schema>, keeps: bool, path: &Path<'_>) {
        let is_resource = schema.is_some_and(|schema| schema.embedded_resource);
        match (item, schema) {
            (_, None) if keeps => {}
            (Value::Object(fields), schema) if keeps => {
                self.fields(fields, schema, true, is_resource, path);
            }
            (Value::Array(items), Some(schema)) if keeps => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.item(item, schema.items.as_deref(), true, &path.index(at));
                }
            }
            (item, schema) => self.value(item, schema, is_resource, path),
        }
    }

    fn fields(
        &mut self,
        fields: &mut Map<String, Value>,
        schema: Option<&Schema>,
        keeps: bool,
        is_resource: bool,
        path: &Path<'_>,
    ) {
        fields.retain(|name, value| {
            if is_resource && META_FIELDS.contains(&name.as_str()) {
                return true;
            }
            let below = schema.and_then(|schema| {
                let property = schema.properties.find(name).map(Some);
                property.or(match &schema.additional_properties {
                    AdditionalProperties::Unset => None,
                    AdditionalProperties::Allowed(_) => Some(None),
                    AdditionalProperties::Schema(schema) => Some(Some(&**schema)),
                })
            });
            match below {
                Some(below) => {
                    let is_resource = below.is_some_and(|below| below.embedded_resource);
                    self.value(value, below, is_resource, &path.child(name));
                    true
                }
                None if keeps => true,
                None => {
                    self.dropped.push(path.child(name).to_string());
                    false
                }
            }
        });
    }
}
