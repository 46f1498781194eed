//! The OpenAPI schema of a custom resource, made from the JSON of its `JSONSchemaProps`: v3 says all of it, v2 what clients
//! can read there. Source: apiextensions-apiserver's `controller/openapi`.

use serde_json::{Map, Value, json};

/// The kind that a schema is published for.
#[derive(Clone, Copy, Debug)]
pub struct GroupVersionKind<'a> {
    /// API group.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
}

/// Versions of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenApi {
    V2,
    V3,
}

/// The schema for OpenAPI v3: as it is written, with the fields that every object has. Without a schema: any object.
pub fn v3(document: Option<&Value>, kind: GroupVersionKind<'_>) -> Value {
    let root = document.and_then(Value::as_object);
    let root = root.map(|root| OpenApi::V3.resource(&skeleton(root)));
    finish(root, kind)
}

/// The schema for OpenAPI v2: without junctors; a value that may be null has any type, and one that keeps unknown fields
/// has no fields, since kubectl would refuse others.
pub fn v2(document: Option<&Value>, kind: GroupVersionKind<'_>) -> Value {
    let root = document.and_then(Value::as_object).filter(|root| !is_true(root, PRESERVE));
    let root = root.map(|root| OpenApi::V2.resource(&swagger(&skeleton(root))));
    finish(root, kind)
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

fn finish(root: Option<Map<String, Value>>, kind: GroupVersionKind<'_>) -> Value {
    let mut root = root.unwrap_or_else(|| Map::from_iter([("type".to_owned(), json!("object"))]));
    let GroupVersionKind { group, version, kind } = kind;
    let own = json!([{"group": group, "version": version, "kind": kind}]);
    root.insert("x-kubernetes-group-version-kind".to_owned(), own);
    Value::Object(root)
}

/// A type that Kubernetes publishes for the metadata of any object.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl OpenApi {
    fn resource(self, root: &Map<String, Value>) -> Map<String, Value> {
        let mut root = self.embedded(root);
        self.add_meta_fields(&mut root);
        root
    }

    fn add_meta_fields(self, fields: &mut Map<String, Value>) {
        let definitions = match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        };
        let text = |description: &str| json!({"description": description, "type": "string"});
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = text("Version of the schema of this object.");
        properties["kind"] = text("Kind of this object.");
        properties["metadata"] = json!({"$ref": format!("{definitions}{OBJECT_META}")});
    }

    /// Embedded resources have the fields that every object has.
    fn embedded(self, node: &Map<String, Value>) -> Map<String, Value> {
        let mut node = each_below(node, &|below| self.embedded(below));
        let hides_fields = self == Self::V2 && is_true(&node, PRESERVE);
        if !is_true(&node, EMBEDDED) || hides_fields {
            return node;
        }
        self.add_meta_fields(&mut node);
        let required = node.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(required) = required {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|one| one == name) {
                    required.push(name.into());
                }
            }
        }
        node
    }
}

fn is_true(node: &Map<String, Value>, name: &str) -> bool {
    node.get(name) == Some(&Value::Bool(true))
}

/// Gives what stands for a node.
type Replace<'a> = &'a dyn Fn(&Map<String, Value>) -> Map<String, Value>;

/// A node with the nodes of the skeleton below it replaced.
fn each_below(node: &Map<String, Value>, replace: Replace<'_>) -> Map<String, Value> {
    let below = |value: &Value| match value {
        Value::Object(node) => Value::Object(replace(node)),
        other => other.clone(),
    };
    let field = |(name, value): (&String, &Value)| {
        let value = match (name.as_str(), value) {
            ("properties", Value::Object(named)) => {
                named.iter().map(|(name, value)| (name.clone(), below(value))).collect()
            }
            ("items" | "additionalProperties", value) => below(value),
            (_, value) => value.clone(),
        };
        (name.clone(), value)
    };
    node.iter().map(field).collect()
}

/// Fields of a published node. Whatever else a document has is not a schema's.
const FIELDS: &[&str] = &[
    "description",
    "title",
    "type",
    "format",
    "nullable",
    "default",
    "example",
    "externalDocs",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "multipleOf",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxProperties",
    "minProperties",
    "enum",
    "required",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "properties",
    "additionalProperties",
    "items",
    PRESERVE,
    EMBEDDED,
    INT_OR_STRING,
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

/// The known fields, with an integer or string written out as alternatives.
fn skeleton(node: &Map<String, Value>) -> Map<String, Value> {
    let mut node = each_below(node, &skeleton);
    node.retain(|name, value| {
        let is_unsaid = value.is_null()
            || (value == &Value::Bool(false)
                && name != "additionalProperties"
                && name != "default");
        FIELDS.contains(&name.as_str()) && !is_unsaid
    });
    if !is_true(&node, INT_OR_STRING) {
        return node;
    }
    let alternatives = json!([{"type": "integer"}, {"type": "string"}]);
    let first = node.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
    if node.get("anyOf") == Some(&alternatives) || first == Some(&alternatives) {
        return node;
    }
    if node.get("anyOf").is_none() {
        node.insert("anyOf".to_owned(), alternatives);
        return node;
    }
    let mut all = vec![json!({"anyOf": alternatives})];
    if let Some(Value::Array(others)) = node.get("allOf") {
        all.extend(others.iter().cloned());
    }
    node.insert("allOf".to_owned(), Value::Array(all));
    node
}

/// Without what v2 cannot say or kubectl cannot read there.
fn swagger(node: &Map<String, Value>) -> Map<String, Value> {
    let mut node = node.clone();
    for name in ["allOf", "oneOf", "anyOf", "not"] {
        node.remove(name);
    }
    let is_nullable = node.remove("nullable") == Some(Value::Bool(true));
    let keeps_unknown = is_true(&node, PRESERVE);
    if is_nullable || keeps_unknown {
        node.remove("items");
        node.remove("properties");
    }
    let type_name = node.get("type").and_then(Value::as_str);
    let has_no_items = type_name == Some("array") && node.get("items").is_none();
    if is_nullable || has_no_items || (keeps_unknown && type_name == Some("object")) {
        node.remove("type");
    }
    drop_required(&mut node);
    each_below(&node, &swagger)
}

/// What may be null is not required: a client could not tell null from nothing.
fn drop_required(node: &mut Map<String, Value>) {
    let is_nullable = |below: Option<&Value>| {
        below.and_then(Value::as_object).is_some_and(|below| is_true(below, "nullable"))
    };
    let Some(Value::Array(required)) = node.get("required") else { return };
    let properties = node.get("properties");
    let is_kept = |name: &&Value| !is_nullable(properties.and_then(|all| all.get(name.as_str()?)));
    let kept: Vec<Value> = required.iter().filter(is_kept).cloned().collect();
    if kept.is_empty() || is_nullable(node.get("additionalProperties")) {
        node.remove("required");
    } else {
        node.insert("required".to_owned(), Value::Array(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: GroupVersionKind<'static> =
        GroupVersionKind { group: "snow.dev", version: "v1", kind: "Globe" };

    /// What is published for a field `a` of an object.
    fn published(field: &Value, openapi: OpenApi) -> Value {
        let root = json!({"type": "object", "properties": {"a": field}});
        let root = match openapi {
            OpenApi::V2 => v2(Some(&root), KIND),
            OpenApi::V3 => v3(Some(&root), KIND),
        };
        root["properties"]["a"].clone()
    }

    #[test]
    fn every_object_has_its_fields() {
        let root = json!({"type": "object", "required": ["spec"], "properties": {
            "metadata": {"type": "object"}, "spec": {"type": "object", "description": "d"},
        }});
        let text = |description: &str| json!({"description": description, "type": "string"});
        let own = json!([{"group": "snow.dev", "version": "v1", "kind": "Globe"}]);
        let expected = |definitions: &str| {
            json!({
                "type": "object", "required": ["spec"],
                "properties": {
                    "apiVersion": text("Version of the schema of this object."),
                    "kind": text("Kind of this object."),
                    "metadata": {"$ref": format!("{definitions}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")},
                    "spec": {"type": "object", "description": "d"},
                },
                "x-kubernetes-group-version-kind": own,
            })
        };
        assert_eq!(v3(Some(&root), KIND), expected("#/components/schemas/"));
        assert_eq!(v2(Some(&root), KIND), expected("#/definitions/"));
        let any = json!({"type": "object", "x-kubernetes-group-version-kind": own});
        assert_eq!(v3(None, KIND), any);
        assert_eq!(v2(None, KIND), any);
        let keeps = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        assert_eq!(v2(Some(&keeps), KIND), any);
        assert_eq!(v3(Some(&keeps), KIND)["properties"]["kind"]["type"], "string");
    }

    #[test]
    fn what_each_version_says() {
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        for (given, of_v3, of_v2) in [
            (
                json!({"type": "string", "nullable": false, "unheard": 1, "default": "x", "title": null}),
                json!({"type": "string", "default": "x"}),
                json!({"type": "string", "default": "x"}),
            ),
            (
                json!({"type": "string", "anyOf": [{"minLength": 1}], "not": {"pattern": "x"}}),
                json!({"type": "string", "anyOf": [{"minLength": 1}], "not": {"pattern": "x"}}),
                json!({"type": "string"}),
            ),
            (
                json!({"type": "object", "nullable": true, "properties": {"b": {"type": "string"}}}),
                json!({"type": "object", "nullable": true, "properties": {"b": {"type": "string"}}}),
                json!({}),
            ),
            (
                json!({"type": "object", "required": ["b", "c"], "properties": {"b": {"type": "string", "nullable": true}, "c": {"type": "string"}}}),
                json!({"type": "object", "required": ["b", "c"], "properties": {"b": {"type": "string", "nullable": true}, "c": {"type": "string"}}}),
                json!({"type": "object", "required": ["c"], "properties": {"b": {}, "c": {"type": "string"}}}),
            ),
            (
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "string"}}}),
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "string"}}}),
                json!({"x-kubernetes-preserve-unknown-fields": true}),
            ),
            (
                json!({"type": "array", "nullable": true, "items": {"type": "string"}}),
                json!({"type": "array", "nullable": true, "items": {"type": "string"}}),
                json!({}),
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!({"x-kubernetes-int-or-string": true, "anyOf": either}),
                json!({"x-kubernetes-int-or-string": true}),
            ),
            (
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}], "allOf": [{"maximum": 5}]}),
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}], "allOf": [{"anyOf": either}, {"maximum": 5}]}),
                json!({"x-kubernetes-int-or-string": true}),
            ),
        ] {
            assert_eq!(published(&given, OpenApi::V3), of_v3, "v3 of {given}");
            assert_eq!(published(&given, OpenApi::V2), of_v2, "v2 of {given}");
        }
    }

    #[test]
    fn embedded_resources_have_the_fields_of_objects() {
        let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}});
        let found = published(&embedded, OpenApi::V3);
        assert_eq!(found["required"], json!(["kind", "apiVersion"]));
        assert_eq!(found["properties"].as_object().map(Map::len), Some(4));
        let keeps = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
        assert_eq!(published(&keeps, OpenApi::V2).get("properties"), None);
        assert_eq!(published(&keeps, OpenApi::V3)["required"], json!(["kind", "apiVersion"]));
    }
}
