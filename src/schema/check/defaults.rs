//! Defaults must be what pruning leaves and what the schema accepts. Source: apiextensions-apiserver's
//! `schema/defaulting/validation.go`.

use serde_json::{Map, Value, json};

use crate::{
    model::Cause,
    schema::{
        check::{Context, invalid},
        metadata,
        path::Path,
        prune::{META_FIELDS, prune},
        structural::Schema,
        validate::validate,
    },
};

/// A node, and the resource around it.
#[derive(Clone, Copy)]
struct Place<'a> {
    schema: &'a Schema,
    /// The innermost resource that the node belongs to.
    resource: &'a Schema,
    /// From the resource to the node.
    steps: Steps<'a>,
    is_in_metadata: bool,
    is_resource: bool,
}

/// Steps from a resource downwards, the last first.
#[derive(Clone, Copy)]
enum Steps<'a> {
    None,
    Field(&'a Self, &'a str),
    Item(&'a Self),
}

pub(super) fn check(
    schema: &Schema,
    path: &Path<'_>,
    context: &Context<'_>,
    causes: &mut Vec<Cause>,
) {
    let place = Place {
        schema,
        resource: schema,
        steps: Steps::None,
        is_in_metadata: false,
        is_resource: true,
    };
    node(place, path, context, causes);
}

/// Additional properties are not followed, as in Kubernetes.
fn node(mut place: Place<'_>, path: &Path<'_>, context: &Context<'_>, causes: &mut Vec<Cause>) {
    let schema = place.schema;
    if schema.embedded_resource {
        place = Place {
            resource: schema,
            steps: Steps::None,
            is_in_metadata: false,
            is_resource: true,
            ..place
        };
    }
    if let Some(default) = &schema.default {
        causes.extend(check_default(place, default, &path.child("default"), context));
    }
    if let Some(items) = &schema.items {
        let steps = Steps::Item(&place.steps);
        let below = Place { schema: items, steps, is_resource: false, ..place };
        node(below, &path.child("items"), context, causes);
    }
    let properties = path.child("properties");
    for (name, property) in schema.properties.iter() {
        let is_meta_field = place.is_resource && META_FIELDS.contains(&name);
        let below = Place {
            schema: property,
            steps: Steps::Field(&place.steps, name),
            is_in_metadata: place.is_in_metadata || is_meta_field,
            is_resource: false,
            ..place
        };
        node(below, &properties.key(name), context, causes);
    }
}

fn check_default(
    place: Place<'_>,
    default: &Value,
    path: &Path<'_>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let schema = place.schema;
    if place.is_in_metadata {
        if let Some(fault) = metadata_fault(place, default, context) {
            let detail = format!("must result in valid metadata: {fault}");
            return vec![invalid(path, default, &detail)];
        }
    } else {
        let causes = resource_causes(place, default, path, context);
        if !causes.is_empty() {
            return causes;
        }
    }
    let causes = validate(schema, default, None, path);
    if causes.is_empty() { (context.rules)(schema, default, path) } else { causes }
}

fn resource_causes(
    place: Place<'_>,
    default: &Value,
    path: &Path<'_>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let (schema, is_resource) = (place.schema, place.is_resource);
    let mut pruned = default.clone();
    let mut causes = Vec::new();
    if !prune(&mut pruned, schema, is_resource).is_empty() {
        causes.push(invalid(path, default, "must not have unknown fields"));
    }
    let mut coerced = default.clone();
    match metadata::coerce(&mut coerced, schema, is_resource, path) {
        Err(cause) => causes.push(cause),
        Ok(_) => {
            causes.extend(metadata::validate(
                &coerced,
                schema,
                is_resource,
                path,
                context.metadata,
            ));
        }
    }
    causes
}

/// What is wrong with a resource that has nothing but the default and what leads to it.
fn metadata_fault(place: Place<'_>, default: &Value, context: &Context<'_>) -> Option<String> {
    let mut document = place.steps.around(default.clone());
    if let Value::Object(fields) = &mut document {
        fields.entry("kind").or_insert_with(|| json!("Validation"));
        fields.entry("apiVersion").or_insert_with(|| json!("validation/v1"));
    }
    let root = Path::root("");
    let causes = match metadata::coerce(&mut document, place.resource, true, &root) {
        Err(cause) => vec![cause],
        Ok(_) => metadata::validate(&document, place.resource, true, &root, context.metadata),
    };
    let lines: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    match lines.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

impl Steps<'_> {
    fn around(self, value: Value) -> Value {
        match self {
            Self::None => value,
            Self::Item(before) => before.around(Value::Array(vec![value])),
            Self::Field(before, name) => {
                before.around(Value::Object(Map::from_iter([(name.to_owned(), value)])))
            }
        }
    }
}
