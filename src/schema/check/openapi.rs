//! Rules for each field of a schema, wherever it stands: what is not supported, lists and maps of server-side apply, and
//! where defaults may be. Source: apiextensions' `validation.go`, `ValidateCustomResourceDefinitionOpenAPISchema`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    model::Cause,
    schema::{
        check::{forbidden, invalid, required, rules},
        path::Path,
        prune::META_FIELDS,
        structural::{AdditionalProperties, ListType, MapType, Schema, Type},
    },
};

/// What holds from a node downwards.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    is_root: bool,
    /// Why defaults are forbidden, if they are: the field of the object's own metadata, or empty inside of additional
    /// properties.
    forbids_defaults: Option<&'a str>,
    /// Inside of `apiVersion`, `kind` or `metadata` of a resource.
    is_in_metadata: bool,
}

pub(super) fn check(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    node(schema, Place { is_root: true, ..Place::default() }, path, causes);
}

fn node(schema: &Schema, place: Place<'_>, path: &Path<'_>, causes: &mut Vec<Cause>) {
    supported(schema, place, path, causes);
    if schema.validations().unique_items {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(forbidden(&path.child("uniqueItems"), detail));
    }
    below(schema, Place { is_root: false, ..place }, place.is_root, path, causes);
    if schema.forbids_unknown_fields {
        let place = path.child("x-kubernetes-preserve-unknown-fields");
        causes.push(invalid(&place, &false.into(), "must be true or undefined"));
    }
    map_type(schema, path, causes);
    list_type(schema, path, causes);
    if schema.list_type == Some(ListType::Map) {
        list_map(schema, path, causes);
    }
    keyed_items(schema, path, causes);
    rules::check(schema, path, causes);
}

fn below(
    schema: &Schema,
    place: Place<'_>,
    is_root: bool,
    path: &Path<'_>,
    causes: &mut Vec<Cause>,
) {
    let additional = path.child("additionalProperties");
    let is_plain = matches!(
        schema.additional_properties,
        AdditionalProperties::Unset | AdditionalProperties::Allowed(true)
    );
    if !is_plain && !schema.properties.is_empty() {
        let detail = "additionalProperties and properties are mutual exclusive";
        causes.push(forbidden(&additional, detail));
    }
    if let AdditionalProperties::Schema(below) = &schema.additional_properties {
        let forbids_defaults = if place.is_in_metadata { Some("") } else { place.forbids_defaults };
        node(below, Place { forbids_defaults, ..place }, &additional, causes);
    }
    let properties = path.child("properties");
    for (name, property) in schema.properties.iter() {
        let mut place = place;
        if (is_root || schema.embedded_resource) && META_FIELDS.contains(&name) {
            place.is_in_metadata = true;
            if is_root {
                place.forbids_defaults = Some(name);
            }
        }
        node(property, place, &properties.key(name), causes);
    }
    let checks = schema.validations();
    if let Some(not) = &checks.not {
        node(not, place, &path.child("not"), causes);
    }
    for (name, all) in
        [("allOf", &checks.all_of), ("oneOf", &checks.one_of), ("anyOf", &checks.any_of)]
    {
        let path = path.child(name);
        for (at, schema) in all.iter().enumerate() {
            node(schema, place, &path.index(at), causes);
        }
    }
    if let Some(items) = &schema.items {
        node(items, place, &path.child("items"), causes);
    }
}

fn supported(schema: &Schema, place: Place<'_>, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
    if let Type::Other(name) = &schema.value_type {
        causes.push(Cause::not_supported(path.child("type").to_string(), &**name, TYPES));
    }
    if let Some(reason) = place.forbids_defaults.filter(|_| schema.default.is_some()) {
        let detail = if reason.is_empty() {
            "must not be set inside additionalProperties applying to object metadata".to_owned()
        } else {
            format!("must not be set in top-level {reason}")
        };
        causes.push(forbidden(&path.child("default"), &detail));
    }
    for name in
        ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"]
    {
        if schema.others.has(name) {
            causes.push(forbidden(&path.child(name), &format!("{name} is not supported")));
        }
    }
    if schema.value_type.name() == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        causes.push(forbidden(&path.child("type"), detail));
    }
    if schema.others.has_items_as_list() {
        let detail = "items must be a schema object and not an array";
        causes.push(forbidden(&path.child("items"), detail));
    }
    if place.is_in_metadata && schema.embedded_resource {
        let detail = "must not be used inside of resource meta";
        causes.push(forbidden(&path.child("x-kubernetes-embedded-resource"), detail));
    }
}

/// The type of a value that has a list or map type.
fn must_be(wanted: &Type, extension: &str, schema: &Schema, path: &Path<'_>) -> Option<Cause> {
    let detail = format!("must be {} if {extension} is specified", wanted.name());
    let place = path.child("type");
    match &schema.value_type {
        Type::Unset => Some(required(&place, &detail)),
        found if found == wanted => None,
        other => Some(invalid(&place, &other.name().into(), &detail)),
    }
}

fn map_type(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const NAME: &str = "x-kubernetes-map-type";
    let Some(map_type) = &schema.map_type else { return };
    causes.extend(must_be(&Type::Object, NAME, schema, path));
    if let MapType::Other(name) = map_type {
        let supported = &["atomic", "granular"];
        causes.push(Cause::not_supported(path.child(NAME).to_string(), &**name, supported));
    }
}

fn list_type(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const NAME: &str = "x-kubernetes-list-type";
    let place = path.child(NAME);
    if let Some(list_type) = &schema.list_type {
        match must_be(&Type::Array, NAME, schema, path) {
            Some(cause) => causes.push(cause),
            None if *list_type == ListType::Set => set_items(schema, path, causes),
            None => {}
        }
        if let ListType::Other(name) = list_type {
            let supported = &["atomic", "set", "map"];
            causes.push(Cause::not_supported(place.to_string(), &**name, supported));
        }
    }
    if !schema.list_map_keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match &schema.list_type {
            None => causes.push(required(&place, detail)),
            Some(ListType::Map) => {}
            Some(other) => causes.push(invalid(&place, &other.name().into(), detail)),
        }
    }
}

/// Items of a set are owned as a whole.
fn set_items(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let Some(items) = &schema.items else { return };
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let shown = items.list_type.as_ref().map_or(Value::Null, |found| found.name().into());
    let path = path.child("items");
    let is_whole_list = matches!(items.list_type, None | Some(ListType::Atomic));
    match items.value_type {
        Type::Array if !is_whole_list => {
            causes.push(invalid(&path.child("x-kubernetes-list-type"), &shown, detail));
        }
        Type::Object if items.map_type != Some(MapType::Atomic) => {
            causes.push(invalid(&path.child("x-kubernetes-map-type"), &shown, detail));
        }
        _ => {}
    }
}

fn list_map(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    const NAME: &str = "x-kubernetes-list-map-keys";
    if schema.list_map_keys.is_empty() {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        causes.push(required(&path.child(NAME), detail));
    }
    let Some(items) = &schema.items else {
        let place = path.child("items");
        causes.push(if schema.others.has_items_as_list() {
            let detail = "must only have a single schema if x-kubernetes-list-type is map";
            Cause::broken(place.to_string(), detail)
        } else {
            required(&place, "must have a schema if x-kubernetes-list-type is map")
        });
        return;
    };
    let items_path = path.child("items");
    let type_name = Value::from(items.value_type.name());
    if items.value_type != Type::Object {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        causes.push(invalid(&items_path.child("type"), &type_name, detail));
        return;
    }
    let all = Value::from(schema.list_map_keys.iter().map(|key| &**key).collect::<Vec<_>>());
    let properties = items_path.child("properties");
    let mut seen = BTreeSet::new();
    let mut has_strangers = false;
    let mut has_twins = false;
    for key in &schema.list_map_keys {
        match items.properties.find(key).map(|property| &property.value_type) {
            Some(Type::Array | Type::Object) => {
                let detail =
                    "must be a scalar type if parent array's x-kubernetes-list-type is map";
                causes.push(invalid(&properties.key(key).child("type"), &type_name, detail));
            }
            Some(_) => {}
            None => has_strangers = true,
        }
        has_twins |= !seen.insert(key);
    }
    if has_strangers {
        let detail = "entries must all be names of item properties";
        causes.push(invalid(&path.child(NAME), &all, detail));
    }
    if has_twins {
        let detail = "must not contain duplicate entries";
        causes.push(invalid(&path.child(NAME), &all, detail));
    }
}

/// Items that are told apart by value or key are never null, and have each key.
fn keyed_items(schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let (Some(list_type @ (ListType::Set | ListType::Map)), Some(items)) =
        (&schema.list_type, &schema.items)
    else {
        return;
    };
    let path = path.child("items");
    if items.nullable {
        let detail =
            format!("cannot be nullable when x-kubernetes-list-type is {}", list_type.name());
        causes.push(forbidden(&path.child("nullable"), &detail));
    }
    if *list_type == ListType::Set {
        return;
    }
    let properties = path.child("properties");
    let required_names: BTreeSet<&str> =
        items.validations().required.iter().map(|name| &**name).collect();
    for key in &schema.list_map_keys {
        let Some(property) = items.properties.find(key) else { continue };
        let place = properties.key(key);
        if !required_names.contains(&**key) && property.default.is_none() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                property";
            causes.push(required(&place.child("default"), detail));
        }
        if property.nullable {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            causes.push(forbidden(&place.child("nullable"), detail));
        }
    }
}
