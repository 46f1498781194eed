//! Component schemas: those of the Kubernetes types, with the extensions that say how lists are merged.

use serde_json::{Value, json};

use crate::{
    api::{
        discovery::verbs,
        openapi::{
            kubernetes_types::{Schemas, Types},
            multicluster,
            references::{PREFIX, SWAGGER_PREFIX, reference},
        },
    },
    model::{
        Kind,
        patch::keys::{self, Field, List, Strategy, Type},
    },
};

const GROUP_VERSION_KIND: &str = "x-kubernetes-group-version-kind";

/// The name of a list's schema.
pub(super) fn list_of(kind: &Kind) -> String {
    format!("{}List", keys::schema(kind))
}

/// The value of the extension that ties a schema or an operation to a kind.
pub(super) fn group_version_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The schemas of these kinds and of everything that they and their operations refer to.
pub(super) fn of(
    kinds: &[&Kind],
    types: &Types,
    custom: &dyn Fn(&Kind) -> Option<Value>,
) -> Schemas {
    let mut roots: Vec<String> = ["DeleteOptions", "ListMeta", "Patch", "Status"].map(meta).into();
    roots.extend(kinds.iter().flat_map(|kind| roots_of(kind)));
    let mut schemas = types.with_references(roots);
    for kind in kinds {
        if let Some(schema) = custom(kind) {
            schemas.insert(keys::schema(kind), schema);
        }
        match &*kind.kind {
            _ if kind.is_custom() => {}
            "LoadBalancerPolicy" => schemas.extend(policy(kind, &SCHEDULER)),
            "TopologyPolicy" => schemas.extend(policy(kind, &TOPOLOGY)),
            "PolicyStats" => schemas.extend([policy_stats(kind)]),
            "ServiceExport" | "ServiceImport" => schemas.extend([multicluster::schema(kind)]),
            _ => {}
        }
        if verbs(kind).contains(&"list") {
            schemas.insert(list_of(kind), list_schema(kind));
        }
        let own = group_version_kind(&kind.group, &kind.version, &kind.kind);
        if let Some(schema) = schemas.get_mut(&keys::schema(kind)) {
            schema[GROUP_VERSION_KIND] = json!([own]);
        }
    }
    annotate(&mut schemas);
    schemas.sort_keys();
    schemas
}

/// The name of a schema of `meta/v1`.
fn meta(name: &str) -> String {
    format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")
}

/// The types of a kind and of its subresources.
fn roots_of(kind: &Kind) -> Vec<String> {
    let mut roots = vec![keys::schema(kind)];
    let mut add = |name: &str| roots.push(format!("io.k8s.api.{name}"));
    if kind.has_scale {
        add("autoscaling.v1.Scale");
    }
    match &*kind.kind {
        "Pod" => ["core.v1.Binding", "policy.v1.Eviction"].into_iter().for_each(add),
        "ServiceAccount" => add("authentication.v1.TokenRequest"),
        _ if !kind.is_native() => roots.extend(["ObjectMeta", "Condition"].map(meta)),
        _ => {}
    }
    roots
}

fn list_schema(kind: &Kind) -> Value {
    let name = kind.list_kind();
    json!({
        "description": format!("{name} is a list of {} objects.", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "items": reference(&keys::schema(kind))},
            "kind": {"type": "string"},
            "metadata": reference(&meta("ListMeta")),
        },
        GROUP_VERSION_KIND: [group_version_kind(&kind.group, &kind.version, &name)],
    })
}

/// Adds to each schema how its lists and maps are merged.
fn annotate(schemas: &mut Schemas) {
    let mut defaults: Vec<(String, &str, &Value)> = Vec::new();
    for (name, schema) in schemas.iter_mut() {
        let of = keys::by_schema(name).unwrap_or(&keys::ANY);
        if of.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        for (name, property) in properties(schema) {
            annotate_property(property, of, name);
            if let List::Map(keys) = of.field(name).list
                && let Some(item) = property.pointer("/items/$ref").and_then(Value::as_str)
            {
                let item = item.trim_start_matches(PREFIX).to_owned();
                let known = keys.iter().filter_map(|key| Some((key.field, key.default?)));
                defaults.extend(known.map(|(field, default)| (item.clone(), field, default)));
            }
        }
    }
    // Appliers leave out such keys, and mean the default.
    for (item, field, default) in defaults {
        if let Some(property) = schemas.get_mut(&item).and_then(|s| s["properties"].get_mut(field))
        {
            property["default"] = default.clone();
        }
    }
}

fn properties(schema: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
}

fn annotate_property(property: &mut Value, of: &Type, name: &str) {
    let Field { list, atomic, strategy, .. } = of.field(name);
    if property["type"] == "array" {
        property["x-kubernetes-list-type"] = match list {
            List::Atomic => "atomic",
            List::Set => "set",
            List::Map(keys) => {
                let keys: Vec<&str> = keys.iter().map(|key| key.field).collect();
                property["x-kubernetes-list-map-keys"] = keys.into();
                "map"
            }
        }
        .into();
    }
    if atomic {
        property["x-kubernetes-map-type"] = "atomic".into();
    }
    let (strategy, key) = match strategy {
        Strategy::Default => return,
        Strategy::Union => ("merge", None),
        Strategy::Merge(key) => ("merge", Some(key)),
        Strategy::MergeRetainKeys(key) => ("merge,retainKeys", Some(key)),
        Strategy::RetainKeys => ("retainKeys", None),
    };
    property["x-kubernetes-patch-strategy"] = strategy.into();
    if let Some(key) = key {
        property["x-kubernetes-patch-merge-key"] = key.into();
    }
}

/// The schemas in the form of Swagger 2.0, where a reference may have a description beside it and there is no choice.
pub(super) fn swagger(schemas: Schemas) -> Value {
    let mut definitions = Value::Object(schemas);
    to_swagger(&mut definitions);
    definitions
}

fn to_swagger(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Lists: the type of schemas has fields of these names.
            if fields.get("oneOf").is_some_and(Value::is_array) {
                fields.remove("oneOf");
                fields.insert("type".to_owned(), "string".into());
            }
            if fields.get("allOf").is_some_and(Value::is_array)
                && let Some(Value::Array(all)) = fields.remove("allOf")
                && let Some(Value::Object(only)) = all.into_iter().next()
            {
                fields.extend(only);
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                *reference = reference.replace(PREFIX, SWAGGER_PREFIX);
            }
            fields.values_mut().for_each(to_swagger);
        }
        Value::Array(items) => items.iter_mut().for_each(to_swagger),
        _ => {}
    }
}

/// Our own kind, of which there is no Rust type in the Kubernetes library.
fn policy_stats(kind: &Kind) -> (String, Value) {
    let of = |kind: &str, description: &str| json!({"type": kind, "description": description});
    let counts = |description: &str| json!({"type": "object", "description": description, "additionalProperties": {"type": "integer"}});
    let mut time = of("object", "Time of a pick in nanoseconds: mean, p50 and p99; of one in 64.");
    time["additionalProperties"] = json!({"type": "number"});
    let root = json!({
        "description": "What a load-balancing policy did since its name was loaded.",
        "type": "object",
        "properties": {
            "apiVersion": of("string", "Version of the schema of this object."),
            "kind": of("string", "Kind of this object."),
            "metadata": reference(&meta("ObjectMeta")),
            "world": of("string", "The world of the ABI: load-balancer or topology."),
            "form": of("string", "core (a core module) or component."),
            "digest": of("string", "Digest of the module."),
            "picks": of("integer", "Picks asked of the policy."),
            "abstentions": of("integer", "Picks for which it had no opinion."),
            "fallbacks": of("integer", "Picks that another made because it had failed or was not ready."),
            "failures": counts("Failures by kind: trap, deadline, memory, range, start."),
            "reloads": counts("Modules that took the place of another (succeeded) or were refused (failed)."),
            "compileSeconds": of("number", "Time that the module took to compile; absent before."),
            "pickNanoseconds": time,
            "instances": of("integer", "Instances of the module now."),
            "memoryBytes": of("integer", "Linear memory of all instances."),
            "lastFailure": of("string", "The last failure in words."),
        },
    });
    (keys::schema(kind), root)
}

/// What a kind of policies is, and what `onFailure` means for it.
struct PolicyTexts {
    kind: &'static str,
    on_failure: &'static str,
}

const SCHEDULER: PolicyTexts = PolicyTexts {
    kind: "A load-balancing scheduler: a WASM module that picks an endpoint for each connection.",
    on_failure: "What happens to connections when the module fails: the built-in round robin, a reset, or the last module that worked.",
};

const TOPOLOGY: PolicyTexts = PolicyTexts {
    kind: "A topology policy: a WASM module that says which endpoints of a Service the clients of a zone or node use.",
    on_failure: "What happens to connections when the module fails: what would without a topology policy, a reset, or the last module that worked.",
};

/// Our own kinds, of which there are no Rust types in the Kubernetes library.
fn policy(kind: &Kind, texts: &PolicyTexts) -> [(String, Value); 3] {
    let name = keys::schema(kind);
    let text = |description: &str| json!({"type": "string", "description": description});
    let (spec, status) = (format!("{name}Spec"), format!("{name}Status"));
    let module = json!({
        "type": "object",
        "description": "Where the module comes from: exactly one of the fields.",
        "properties": {
            "builtin": text("Name of a module that is built in."),
            "path": text("File below the data directory's policies/; watched."),
            "configMap": {
                "type": "object",
                "description": "A key of a ConfigMap's binaryData.",
                "required": ["namespace", "name", "key"],
                "properties": {
                    "namespace": text("Namespace of the ConfigMap."),
                    "name": text("Name of the ConfigMap."),
                    "key": text("Key in binaryData."),
                },
            },
            "inline": {"type": "string", "format": "byte", "description": "The module itself, in base64."},
        },
    });
    let mut on_failure = text(texts.on_failure);
    on_failure["enum"] = json!(["Fallback", "Reject", "LastGood"]);
    let root = json!({
        "description": texts.kind,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text("Version of the schema of this object."),
            "kind": text("Kind of this object."),
            "metadata": reference(&meta("ObjectMeta")),
            "spec": reference(&spec),
            "status": reference(&status),
        },
    });
    let spec_schema = json!({
        "description": "What to load, and how to run it.",
        "type": "object",
        "required": ["module"],
        "properties": {
            "module": module,
            "config": text("Given to the module as it is."),
            "onFailure": on_failure,
        },
    });
    let status_schema = json!({
        "description": "What became of the module.",
        "type": "object",
        "properties": {
            "conditions": {"type": "array", "items": reference(&meta("Condition")),
                "description": "Ready, with the reason when a module was refused."},
            "digest": text("Digest of the loaded module."),
            "abi": text("ABI version of the loaded module."),
            "compileMs": {"type": "integer", "format": "int64", "description": "Milliseconds that compiling took."},
            "observedGeneration": {"type": "integer", "format": "int64",
                "description": "Generation of the spec that this status is about."},
        },
    });
    [(name, root), (spec, spec_schema), (status, status_schema)]
}
