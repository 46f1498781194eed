//! What makes a schema structural: types are told by the skeleton, and nested value validations say nothing about the
//! structure. Source: apiextensions-apiserver's `schema/validation.go`.

use crate::{
    model::Cause,
    schema::{
        check::{forbidden, invalid, required},
        path::Path,
        structural::{AdditionalProperties, Schema, Type, Validations},
    },
};

/// Where a node of the skeleton stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Whether Kubernetes cannot read the schema as a structural one at all: then only the fields that are not supported are
/// told.
pub(super) fn is_unreadable(schema: &Schema) -> bool {
    const PEOPLE: usize = 4;
    let refused = crate::schema::structural::OTHERS.iter().skip(PEOPLE);
    let mut refused = refused.filter(|name| schema.others.has(name));
    let checks = schema.validations();
    refused.next().is_some()
        || schema.others.has_items_as_list()
        || schema.forbids_unknown_fields
        || schema.properties.iter().any(|(_, schema)| is_unreadable(schema))
        || schema.additional_properties.schema().is_some_and(is_unreadable)
        || schema.items.as_deref().is_some_and(is_unreadable)
        || checks.not.as_ref().is_some_and(is_unreadable)
        || [&checks.all_of, &checks.any_of, &checks.one_of]
            .iter()
            .any(|all| all.iter().any(is_unreadable))
}

pub(super) fn check(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    node(schema, Level::Root, path, causes);
}

fn node(schema: &Schema, level: Level, path: &Path<'_>, causes: &mut Vec<Cause>) {
    if schema.value_type == Type::Array && schema.items.is_none() {
        causes.push(required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &schema.items {
        node(items, Level::Item, &path.child("items"), causes);
    }
    let properties = path.child("properties");
    for (name, property) in schema.properties.iter() {
        node(property, Level::Field, &properties.key(name), causes);
    }
    let additional = path.child("additionalProperties");
    if schema.additional_properties.is_set() && level == Level::Root {
        causes.push(forbidden(&additional, "must not be used at the root"));
    }
    if let AdditionalProperties::Schema(below) = &schema.additional_properties {
        node(below, Level::Field, &additional, causes);
    }
    extensions(schema, path, causes);
    let checks = schema.validations();
    let skips = Skips {
        any_of: is_int_or_string(&checks.any_of),
        first_any_of: checks
            .all_of
            .first()
            .is_some_and(|first| is_int_or_string(&first.validations().any_of)),
    };
    validations(checks, skips, path, causes);
    node_type(schema, level, path, causes);
    metadata(schema, level, path, causes);
}

fn extensions(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let detail = "must be false if x-kubernetes-int-or-string is true";
    if schema.int_or_string && schema.preserve_unknown_fields {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        causes.push(invalid(&path, &true.into(), detail));
    }
    if schema.int_or_string && schema.embedded_resource {
        let path = path.child("x-kubernetes-embedded-resource");
        causes.push(invalid(&path, &true.into(), detail));
    }
}

fn node_type(schema: &Schema, level: Level, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let place = path.child("type");
    let name = schema.value_type.name();
    if schema.embedded_resource && name != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(if name.is_empty() {
            required(&place, detail)
        } else {
            invalid(&place, &name.into(), detail)
        });
    } else if name.is_empty() && !schema.int_or_string && !schema.preserve_unknown_fields {
        causes.push(required(
            &place,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if schema.embedded_resource && schema.additional_properties.is_set() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        causes.push(forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !name.is_empty() && name != "object" {
        causes.push(invalid(&place, &name.into(), "must be object at the root"));
    }
    let has_fields = schema.preserve_unknown_fields || !schema.properties.is_empty();
    if schema.embedded_resource && !has_fields {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
            x-kubernetes-preserve-unknown-fields";
        causes.push(required(&path.child("properties"), detail));
    }
}

/// The root may restrict the object's name; more of metadata may only embedded resources say.
fn metadata(schema: &Schema, level: Level, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let is_resource = level == Level::Root || schema.embedded_resource;
    let properties = path.child("properties");
    for name in ["kind", "apiVersion"] {
        let Some(property) = schema.properties.find(name).filter(|_| is_resource) else { continue };
        if property.value_type != Type::String {
            let place = properties.key(name);
            let found = property.value_type.name().into();
            causes.push(invalid(&place.child("type"), &found, "must be string"));
        }
    }
    let Some(metadata) = schema.properties.find("metadata") else { return };
    let place = properties.key("metadata");
    if is_resource && metadata.value_type != Type::Object {
        let found = metadata.value_type.name().into();
        causes.push(invalid(&place.child("type"), &found, "must be object"));
    }
    let restricts_name =
        metadata.properties.iter().all(|(name, _)| matches!(name, "name" | "generateName"));
    if level == Level::Root && !(restricts_name && says_only_properties(metadata)) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly \
            specified";
        causes.push(forbidden(&place, detail));
    }
}

/// Whether a node has nothing but properties, a type and a default.
fn says_only_properties(schema: &Schema) -> bool {
    !schema.nullable
        && !schema.preserve_unknown_fields
        && !schema.embedded_resource
        && !schema.int_or_string
        && schema.others.is_empty()
        && schema.list_type.is_none()
        && schema.map_type.is_none()
        && schema.list_map_keys.is_empty()
        && !schema.additional_properties.is_set()
        && schema.items.is_none()
        && schema.validations.is_none()
        && schema.rules.is_empty()
}

/// Whether these are the two alternatives that `x-kubernetes-int-or-string` allows to name types.
fn is_int_or_string(any_of: &[Schema]) -> bool {
    let is_bare = |schema: &Schema| {
        says_only_properties(schema) && schema.properties.is_empty() && schema.default.is_none()
    };
    match any_of {
        [first, second] => {
            first.value_type == Type::Integer
                && second.value_type == Type::String
                && is_bare(first)
                && is_bare(second)
        }
        _ => false,
    }
}

/// Alternatives that may name types.
#[derive(Clone, Copy, Default)]
struct Skips {
    any_of: bool,
    /// Those of the first schema of `allOf`.
    first_any_of: bool,
}

fn validations(checks: &Validations, skips: Skips, path: &Path<'_>, causes: &mut Vec<Cause>) {
    if !skips.any_of {
        nested_list(&checks.any_of, &path.child("anyOf"), causes);
    }
    let all_of = path.child("allOf");
    for (at, schema) in checks.all_of.iter().enumerate() {
        let skips = Skips { any_of: skips.first_any_of && at == 0, first_any_of: false };
        nested(schema, skips, &all_of.index(at), causes);
    }
    nested_list(&checks.one_of, &path.child("oneOf"), causes);
    if let Some(not) = &checks.not {
        nested(not, Skips::default(), &path.child("not"), causes);
    }
    if let Some(pattern) = &checks.pattern
        && let Err(fault) = pattern.check()
    {
        let detail = format!("must be a valid regular expression, but isn't: {fault}");
        causes.push(invalid(&path.child("pattern"), &pattern.text().into(), &detail));
    }
}

fn nested_list(all: &[Schema], path: &Path<'_>, causes: &mut Vec<Cause>) {
    for (at, schema) in all.iter().enumerate() {
        nested(schema, Skips::default(), &path.index(at), causes);
    }
}

/// A nested value validation: it may not say what belongs to the skeleton.
fn nested(schema: &Schema, skips: Skips, path: &Path<'_>, causes: &mut Vec<Cause>) {
    validations(schema.validations(), skips, path, causes);
    if let Some(items) = &schema.items {
        nested(items, Skips::default(), &path.child("items"), causes);
    }
    let properties = path.child("properties");
    for (name, property) in schema.properties.iter() {
        nested(property, Skips::default(), &properties.key(name), causes);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    let has_additional = !matches!(
        schema.additional_properties,
        AdditionalProperties::Unset | AdditionalProperties::Allowed(false)
    );
    for (is_said, name, detail) in [
        (schema.value_type != Type::Unset, "type", EMPTY),
        (has_additional, "additionalProperties", UNDEFINED),
        (schema.default.is_some(), "default", UNDEFINED),
        (schema.others.has("title"), "title", EMPTY),
        (schema.others.has("description"), "description", EMPTY),
        (schema.nullable, "nullable", FALSE),
        (schema.preserve_unknown_fields, "x-kubernetes-preserve-unknown-fields", FALSE),
        (schema.embedded_resource, "x-kubernetes-embedded-resource", FALSE),
        (schema.int_or_string, "x-kubernetes-int-or-string", FALSE),
        (!schema.list_map_keys.is_empty(), "x-kubernetes-list-map-keys", EMPTY),
        (schema.list_type.is_some(), "x-kubernetes-list-type", UNDEFINED),
        (schema.map_type.is_some(), "x-kubernetes-map-type", UNDEFINED),
        (!schema.rules.is_empty(), "x-kubernetes-validations", EMPTY),
    ] {
        if is_said {
            causes.push(forbidden(&path.child(name), detail));
        }
    }
    if schema.properties.find("metadata").is_some() {
        let place = properties.key("metadata");
        causes.push(forbidden(&place, "must not be specified in a nested context"));
    }
}
