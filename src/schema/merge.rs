//! How server-side apply merges what a schema describes. What a schema does not describe has Kubernetes' defaults: objects
//! are merged, lists are replaced.

use serde_json::Value;

use crate::{
    model::patch::{Node, keys::Key},
    schema::{
        prune,
        structural::{AdditionalProperties, ListType, MapType, Schema, Type},
    },
};

impl Node for Schema {
    fn field(&self, name: &str) -> Option<&dyn Node> {
        Self::field(self, name).map(|schema| schema as &dyn Node)
    }

    /// As the published schema says it: an object without properties may have any.
    fn declares(&self, name: &str) -> bool {
        let is_open = match &self.additional_properties {
            AdditionalProperties::Unset => self.properties.iter().len() == 0,
            AdditionalProperties::Allowed(allowed) => *allowed,
            AdditionalProperties::Schema(_) => true,
        };
        is_open
            || self.preserve_unknown_fields
            || self.value_type != Type::Object
            || self.properties.find(name).is_some()
    }

    fn item(&self) -> Option<&dyn Node> {
        self.items.as_deref().map(|schema| schema as &dyn Node)
    }

    fn is_resource(&self) -> bool {
        self.embedded_resource
    }

    fn is_atomic(&self) -> bool {
        self.map_type == Some(MapType::Atomic)
    }

    fn keys(&self) -> Option<Vec<Key<'_>>> {
        match self.list_type {
            Some(ListType::Set) => Some(Vec::new()),
            Some(ListType::Map) if !self.list_map_keys.is_empty() => {
                let properties = self.items.as_deref().map(|items| &items.properties);
                let key = |field| {
                    let property = properties.and_then(|properties| properties.find(field));
                    Key {
                        field,
                        default: property.and_then(|property| property.default.as_deref()),
                    }
                };
                Some(self.list_map_keys.iter().map(|field| key(field)).collect())
            }
            _ => None,
        }
    }

    fn prune(&self, document: &mut Value) {
        prune::prune(document, self, true);
    }
}

#[cfg(test)]
mod tests;
