//! Component schemas: those of the Kubernetes types, with the extensions that say how lists are merged.

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview},
        authorization::v1::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview,
        },
        autoscaling::v1::Scale,
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{
            Binding, ConfigMap, Endpoints, Event, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, ReplicationController, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        events::v1::Event as NewEvent,
        networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        node::v1::RuntimeClass,
        policy::v1::{Eviction, PodDisruptionBudget},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::apis::meta::v1::{
        Condition, DeleteOptions, ListMeta, ObjectMeta, Patch, Status,
    },
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        discovery::verbs,
        openapi::{
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

type Schemas = Map<String, Value>;

/// The name of a list's schema.
pub(super) fn list_of(kind: &Kind) -> String {
    format!("{}List", keys::schema(kind))
}

/// The value of the extension that ties a schema or an operation to a kind.
pub(super) fn group_version_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// The schemas of these kinds and of everything that they and their operations refer to.
pub(super) fn of(kinds: &[&Kind]) -> Schemas {
    let settings = SchemaSettings::openapi3()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    for refer in [refer::<DeleteOptions>, refer::<ListMeta>, refer::<Patch>, refer::<Status>] {
        refer(&mut generator);
    }
    for kind in kinds {
        refer_to_kind(kind, &mut generator);
    }
    let mut schemas: Schemas = generator.take_definitions(false).into_iter().collect();
    for kind in kinds {
        match kind.kind {
            "LoadBalancerPolicy" => schemas.extend(load_balancer_policy(kind)),
            "ServiceExport" | "ServiceImport" => schemas.extend([multicluster::schema(kind)]),
            _ => {}
        }
        if verbs(kind).contains(&"list") {
            schemas.insert(list_of(kind), list_schema(kind));
        }
        let own = group_version_kind(kind.group, kind.version, kind.kind);
        if let Some(schema) = schemas.get_mut(&keys::schema(kind)) {
            schema[GROUP_VERSION_KIND] = json!([own]);
        }
    }
    for schema in schemas.values_mut() {
        tidy(schema);
    }
    annotate(&mut schemas);
    schemas.sort_keys();
    schemas
}

fn refer<T: JsonSchema>(generator: &mut SchemaGenerator) {
    // Adds the type and all that it refers to to the definitions; the reference itself is of no use here.
    let _reference = generator.subschema_for::<T>();
}

fn refer_to_kind(kind: &Kind, generator: &mut SchemaGenerator) {
    if kind.has_scale {
        refer::<Scale>(generator);
    }
    match kind.kind {
        "ConfigMap" => refer::<ConfigMap>(generator),
        "ControllerRevision" => refer::<ControllerRevision>(generator),
        "CronJob" => refer::<CronJob>(generator),
        "DaemonSet" => refer::<DaemonSet>(generator),
        "Deployment" => refer::<Deployment>(generator),
        "EndpointSlice" => refer::<EndpointSlice>(generator),
        "Endpoints" => refer::<Endpoints>(generator),
        "ClusterRole" => refer::<ClusterRole>(generator),
        "ClusterRoleBinding" => refer::<ClusterRoleBinding>(generator),
        "Event" if kind.group.is_empty() => refer::<Event>(generator),
        "Event" => refer::<NewEvent>(generator),
        "IPAddress" => refer::<IPAddress>(generator),
        "Job" => refer::<Job>(generator),
        "Ingress" => refer::<Ingress>(generator),
        "IngressClass" => refer::<IngressClass>(generator),
        "Lease" => refer::<Lease>(generator),
        "Namespace" => refer::<Namespace>(generator),
        "NetworkPolicy" => refer::<NetworkPolicy>(generator),
        "Node" => refer::<Node>(generator),
        "PersistentVolume" => refer::<PersistentVolume>(generator),
        "PersistentVolumeClaim" => refer::<PersistentVolumeClaim>(generator),
        "PriorityClass" => refer::<PriorityClass>(generator),
        "Pod" => {
            refer::<Pod>(generator);
            refer::<Binding>(generator);
            refer::<Eviction>(generator);
        }
        "PodDisruptionBudget" => refer::<PodDisruptionBudget>(generator),
        "ReplicaSet" => refer::<ReplicaSet>(generator),
        "ReplicationController" => refer::<ReplicationController>(generator),
        "RuntimeClass" => refer::<RuntimeClass>(generator),
        "Secret" => refer::<Secret>(generator),
        "Service" => refer::<Service>(generator),
        "ServiceAccount" => {
            refer::<ServiceAccount>(generator);
            refer::<TokenRequest>(generator);
        }
        "LocalSubjectAccessReview" => refer::<LocalSubjectAccessReview>(generator),
        "SelfSubjectAccessReview" => refer::<SelfSubjectAccessReview>(generator),
        "SelfSubjectReview" => refer::<SelfSubjectReview>(generator),
        "SelfSubjectRulesReview" => refer::<SelfSubjectRulesReview>(generator),
        "SubjectAccessReview" => refer::<SubjectAccessReview>(generator),
        "TokenReview" => refer::<TokenReview>(generator),
        "Role" => refer::<Role>(generator),
        "RoleBinding" => refer::<RoleBinding>(generator),
        "ServiceCIDR" => refer::<ServiceCIDR>(generator),
        "StatefulSet" => refer::<StatefulSet>(generator),
        _ => {
            refer::<ObjectMeta>(generator);
            refer::<Condition>(generator);
        }
    }
}

fn list_schema(kind: &Kind) -> Value {
    let name = format!("{}List", kind.kind);
    json!({
        "description": format!("{name} is a list of {} objects.", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "items": {"type": "array", "items": reference(&keys::schema(kind))},
            "kind": {"type": "string"},
            "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
        },
        GROUP_VERSION_KIND: [group_version_kind(kind.group, kind.version, &name)],
    })
}

/// In OpenAPI 3.0 nothing may stand beside a reference, and a value of two types is a choice.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.len() > 1
                && fields.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            if fields.remove("x-kubernetes-int-or-string").is_some() {
                fields.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
                fields.insert("format".to_owned(), "int-or-string".into());
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Adds to each schema how its lists and maps are merged.
fn annotate(schemas: &mut Schemas) {
    let mut defaults: Vec<(String, &str, &str)> = Vec::new();
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
            property["default"] = default.into();
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
            if fields.remove("oneOf").is_some() {
                fields.insert("type".to_owned(), "string".into());
            }
            if let Some(Value::Array(all)) = fields.remove("allOf")
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
fn load_balancer_policy(kind: &Kind) -> [(String, Value); 3] {
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
    let mut on_failure = text(
        "What happens to connections when the module fails: the built-in round robin, a reset, or the last module that worked.",
    );
    on_failure["enum"] = json!(["Fallback", "Reject", "LastGood"]);
    let root = json!({
        "description": "A load-balancing scheduler: a WASM module that picks an endpoint for each connection.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": text("Version of the schema of this object."),
            "kind": text("Kind of this object."),
            "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
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
            "conditions": {"type": "array", "items": reference("io.k8s.apimachinery.pkg.apis.meta.v1.Condition"),
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
