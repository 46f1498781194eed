//! A schema in one piece, made from Kubernetes' published types, which refer to each other; and constraints put on top.
//! So the rules of built-in kinds that need one field only can be those of a schema too.

use serde_json::{Map, Value, json};

/// Finds a published type by its name.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<&'a Value>;

/// The JSON of a schema for this type, for [`Schema::parse`](crate::schema::Schema::parse); none if there is no such type.
///
/// A type inside of itself is anything. Defaults are not taken over, since those are Go's zero values; nor are texts for
/// people.
pub fn inline(name: &str, find: Find<'_>) -> Option<Value> {
    let mut open = Vec::new();
    named(name, find, &mut open)
}

/// Adds constraints, which have the form of a schema that says nothing else: objects are merged, all else is replaced.
pub fn constrain(schema: &mut Value, constraints: &Value) {
    match (schema, constraints) {
        (Value::Object(fields), Value::Object(more)) => {
            for (name, constraint) in more {
                constrain(fields.entry(name.clone()).or_insert(Value::Null), constraint);
            }
        }
        (schema, constraint) => constraint.clone_into(schema),
    }
}

fn named(name: &str, find: Find<'_>, open: &mut Vec<String>) -> Option<Value> {
    let published = find(name)?;
    if open.iter().any(|outer| outer == name) {
        return Some(json!({"x-kubernetes-preserve-unknown-fields": true}));
    }
    open.push(name.to_owned());
    let schema = node(published, find, open);
    open.pop();
    Some(schema)
}

fn node(published: &Value, find: Find<'_>, open: &mut Vec<String>) -> Value {
    let anything = || json!({"x-kubernetes-preserve-unknown-fields": true});
    let Value::Object(fields) = published else { return published.clone() };
    if let Some(name) = reference(fields) {
        return named(name, find, open).unwrap_or_else(anything);
    }
    if fields.get("format").is_some_and(|format| format == "int-or-string") {
        return json!({"x-kubernetes-int-or-string": true});
    }
    let mut schema = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            ("description" | "default" | "title" | "example", _) => continue,
            ("properties", Value::Object(named)) => {
                named.iter().map(|(name, value)| (name.clone(), node(value, find, open))).collect()
            }
            ("items" | "additionalProperties", value) => node(value, find, open),
            (_, value) => value.clone(),
        };
        schema.insert(name.clone(), value);
    }
    // A type of which nothing is said is any JSON.
    if schema.is_empty() { anything() } else { Value::Object(schema) }
}

/// The name of the type that a node refers to, by itself or as the only one of `allOf`.
fn reference(fields: &Map<String, Value>) -> Option<&str> {
    let target = match fields.get("$ref") {
        Some(target) => target,
        None => fields.get("allOf")?.get(0)?.get("$ref")?,
    };
    target.as_str()?.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Path, Schema, validate::validate};

    #[test]
    fn published_types_become_one_schema() {
        let types = json!({
            "Port": {"description": "d", "type": "object", "required": ["port"], "properties": {
                "port": {"type": "integer", "format": "int32", "default": 0},
                "target": {"$ref": "#/components/schemas/IntOrString"},
            }},
            "IntOrString": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
            "Spec": {"type": "object", "properties": {
                "ports": {"type": "array", "items": {"allOf": [{"$ref": "#/definitions/Port"}], "default": {}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"]},
                "self": {"$ref": "#/components/schemas/Spec"},
                "raw": {"description": "d"},
                "lost": {"$ref": "#/components/schemas/Lost"},
            }},
        });
        let mut schema = inline("Spec", &|name| types.get(name)).unwrap();
        let any = json!({"x-kubernetes-preserve-unknown-fields": true});
        let expected = json!({"type": "object", "properties": {
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "required": ["port"], "properties": {
                    "port": {"type": "integer", "format": "int32"},
                    "target": {"x-kubernetes-int-or-string": true},
                }},
            },
            "self": any, "raw": any, "lost": any,
        }});
        assert_eq!(schema, expected);
        assert_eq!(inline("Lost", &|name| types.get(name)), None);
        let port = json!({"minimum": 1, "maximum": 65535});
        constrain(
            &mut schema,
            &json!({"required": ["ports"], "properties": {"ports": {"items": {"properties": {"port": port}}}}}),
        );
        let schema = Schema::parse(&schema, &Path::root("")).unwrap();
        let lines = |value: &Value| -> Vec<String> {
            let causes = validate(&schema, value, None, &Path::root("spec"));
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        };
        assert_eq!(lines(&json!({"ports": [{"port": 80, "target": "web"}]})), [""; 0]);
        assert_eq!(lines(&json!({})), ["spec.ports: Required value"]);
        assert_eq!(
            lines(&json!({"ports": [{"port": 0}]})),
            [
                "spec.ports[0].port: Invalid value: 0: ports[0].port in body should be greater than or equal to 1"
            ]
        );
    }
}
