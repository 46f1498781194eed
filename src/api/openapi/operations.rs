//! Paths and operations: one description of what the server does with a kind, written in both versions of OpenAPI.

use serde_json::{Map, Value, json};

use crate::{
    api::{
        discovery::{SubresourceEntry, subresources, verbs},
        openapi::schemas,
    },
    model::{
        Kind,
        patch::{PatchType, keys},
    },
};

/// One operation on one path.
struct Operation<'a> {
    path: String,
    method: &'static str,
    /// kubectl's word for it: `list`, `patch`, ...
    action: &'static str,
    id: String,
    /// Group, version and kind of the documents.
    about: (&'a str, &'a str, &'a str),
    body: Option<Body>,
    /// Schema of the answer; `None` is plain text.
    answer: Option<String>,
    parameters: Vec<(&'static str, &'static str)>,
}

struct Body {
    schema: String,
    media_types: Vec<&'static str>,
}

const OPTIONAL: &[(&str, &str)] = &[("pretty", "string")];
const WRITE: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] =
    &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")];
const LOG: &[(&str, &str)] = &[
    ("container", "string"),
    ("follow", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];
const PROXY: &[(&str, &str)] = &[("path", "string")];
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

fn prefix(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    }
}

/// `AppsV1NamespacedDeployment`: the end of operation ids.
fn id_of(kind: &Kind) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or(String::new(), |c| c.to_ascii_uppercase().to_string() + letters.as_str())
    };
    let group = kind.group.strip_suffix(".k8s.io").unwrap_or(&kind.group);
    let group = if group.is_empty() { "core" } else { group };
    let group: String = group.split('.').map(capital).collect();
    let namespaced = if kind.namespaced { "Namespaced" } else { "" };
    format!("{group}{}{namespaced}{}", capital(&kind.version), kind.kind)
}

fn operations(kind: &Kind) -> Vec<Operation<'_>> {
    let (prefix, plural) = (prefix(kind), &*kind.plural);
    let collection = if kind.namespaced {
        format!("{prefix}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{prefix}/{plural}")
    };
    let item = format!("{collection}/{{name}}");
    let verbs = verbs(kind);
    let mut out = Vec::new();
    for (verb, path, method, action) in [
        ("list", &collection, "get", "list"),
        ("create", &collection, "post", "post"),
        ("deletecollection", &collection, "delete", "deletecollection"),
        ("get", &item, "get", "get"),
        ("update", &item, "put", "put"),
        ("patch", &item, "patch", "patch"),
        ("delete", &item, "delete", "delete"),
    ] {
        if verbs.contains(&verb) {
            out.push(operation(kind, path, method, action, None));
        }
    }
    if kind.namespaced && verbs.contains(&"list") {
        let mut all = operation(kind, &format!("{prefix}/{plural}"), "get", "list", None);
        all.id = all.id.replace("Namespaced", "") + "ForAllNamespaces";
        out.push(all);
    }
    for subresource in subresources(kind) {
        let path = format!("{item}/{}", subresource.name);
        for verb in subresource.verbs {
            let (method, action) = match *verb {
                "create" => ("post", "post"),
                "update" => ("put", "put"),
                "patch" => ("patch", "patch"),
                "delete" => ("delete", "delete"),
                _ => ("get", "get"),
            };
            if subresource.is_proxy() {
                let inner =
                    operation(kind, &format!("{path}/{{path}}"), method, action, Some(subresource));
                out.push(Operation { id: format!("{}WithPath", inner.id), ..inner });
            }
            out.push(operation(kind, &path, method, action, Some(subresource)));
        }
    }
    out
}

fn operation<'a>(
    kind: &'a Kind,
    path: &str,
    method: &'static str,
    action: &'static str,
    subresource: Option<SubresourceEntry>,
) -> Operation<'a> {
    let about = match subresource {
        Some(SubresourceEntry { kind: Some(about), .. }) => about,
        _ => (&*kind.group, &*kind.version, &*kind.kind),
    };
    let is_log = subresource.is_some_and(|subresource| subresource.name == "log");
    let action = match subresource {
        Some(subresource) if subresource.is_stream() => "connect",
        _ => action,
    };
    let schema = match about {
        (_, _, "Scale") => "io.k8s.api.autoscaling.v1.Scale".to_owned(),
        (_, _, "Binding") => "io.k8s.api.core.v1.Binding".to_owned(),
        (_, _, "Eviction") => "io.k8s.api.policy.v1.Eviction".to_owned(),
        (_, _, "TokenRequest") => "io.k8s.api.authentication.v1.TokenRequest".to_owned(),
        _ => keys::schema(kind),
    };
    let verb = match action {
        "get" => "read",
        "post" => "create",
        "put" => "replace",
        "deletecollection" => "deleteCollection",
        "connect" => match method {
            "get" => "connectGet",
            "put" => "connectPut",
            "patch" => "connectPatch",
            "delete" => "connectDelete",
            _ => "connectPost",
        },
        other => other,
    };
    let suffix = subresource.map_or("", suffix);
    let (parameters, body) = match action {
        "list" => (LIST, None),
        "get" if is_log => (LOG, None),
        "connect" if subresource.is_some_and(|subresource| subresource.is_proxy()) => (PROXY, None),
        "post" | "put" => (WRITE, Some((schema.clone(), vec![JSON, YAML]))),
        "patch" => (WRITE, Some((format!("{META}.Patch"), PatchType::accepted(kind).to_vec()))),
        "delete" => (DELETE, Some((format!("{META}.DeleteOptions"), vec![JSON]))),
        "deletecollection" => (LIST, Some((format!("{META}.DeleteOptions"), vec![JSON]))),
        _ => (OPTIONAL, None),
    };
    let mut parameters = parameters.to_vec();
    if action == "patch" {
        parameters.push(("force", "boolean"));
    }
    let answer = match action {
        _ if is_log || action == "connect" => None,
        "list" => Some(schemas::list_of(kind)),
        "delete" | "deletecollection" => Some(format!("{META}.Status")),
        _ => Some(schema),
    };
    Operation {
        path: path.to_owned(),
        method,
        action,
        id: format!("{verb}{}{suffix}", id_of(kind)),
        about,
        body: body.map(|(schema, media_types)| Body { schema, media_types }),
        answer,
        parameters,
    }
}

/// The end of the operation ids of a subresource.
fn suffix(subresource: SubresourceEntry) -> &'static str {
    match subresource.name {
        "attach" => "Attach",
        "binding" => "Binding",
        "ephemeralcontainers" => "Ephemeralcontainers",
        "eviction" => "Eviction",
        "exec" => "Exec",
        "finalize" => "Finalize",
        "log" => "Log",
        "portforward" => "Portforward",
        "proxy" => "Proxy",
        "scale" => "Scale",
        "token" => "Token",
        _ => "Status",
    }
}

impl Operation<'_> {
    /// What both versions say alike.
    fn common(&self, kind: &Kind) -> Map<String, Value> {
        let (group, version, name) = self.about;
        let tag = if kind.group.is_empty() { "core" } else { &*kind.group };
        let tag = format!("{}_{}", tag.trim_end_matches(".k8s.io").replace('.', "_"), kind.version);
        let Value::Object(fields) = json!({
            "tags": [tag],
            "operationId": self.id,
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": schemas::group_version_kind(group, version, name),
        }) else {
            return Map::new();
        };
        fields
    }

    fn success(&self) -> &'static str {
        if self.method == "post" { "201" } else { "200" }
    }

    /// `{namespace}`, `{name}` and `{path}` of the path.
    fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        ["namespace", "name", "path"]
            .into_iter()
            .filter(|name| self.path.contains(&format!("{{{name}}}")))
    }
}

fn by_path(
    kind: &Kind,
    write: impl Fn(&Operation<'_>, Map<String, Value>) -> Value,
    path_parameter: impl Fn(&str) -> Value,
) -> Map<String, Value> {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations(kind) {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| {
            let parameters: Vec<Value> = operation.path_parameters().map(&path_parameter).collect();
            if parameters.is_empty() { json!({}) } else { json!({"parameters": parameters}) }
        });
        path[operation.method] = write(&operation, operation.common(kind));
    }
    paths
}

/// OpenAPI 3.0.
pub(super) mod v3 {
    use serde_json::{Map, Value, json};

    use crate::{
        api::openapi::{
            operations::{JSON, Operation, by_path},
            references::reference,
        },
        model::Kind,
    };

    /// The paths of a kind.
    pub(in crate::api::openapi) fn paths(kind: &Kind) -> Map<String, Value> {
        by_path(kind, write, |name| {
            json!({"name": name, "in": "path", "required": true,
                   "schema": {"type": "string", "uniqueItems": true}})
        })
    }

    fn content(media_types: &[&str], schema: &str) -> Value {
        let typed = |media: &&str| ((*media).to_owned(), json!({"schema": reference(schema)}));
        Value::Object(media_types.iter().map(typed).collect())
    }

    fn write(operation: &Operation<'_>, mut fields: Map<String, Value>) -> Value {
        let parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|(name, kind)| {
                json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
            })
            .collect();
        fields.insert("parameters".to_owned(), parameters.into());
        if let Some(body) = &operation.body {
            let content = content(&body.media_types, &body.schema);
            let required = operation.method != "delete";
            fields.insert(
                "requestBody".to_owned(),
                json!({"content": content, "required": required}),
            );
        }
        let content = match &operation.answer {
            Some(schema) => content(&[JSON], schema),
            None => json!({"text/plain": {"schema": {"type": "string"}}}),
        };
        let response = json!({operation.success(): {"description": "OK", "content": content}});
        fields.insert("responses".to_owned(), response);
        Value::Object(fields)
    }
}

/// Swagger 2.0.
pub(super) mod v2 {
    use serde_json::{Map, Value, json};

    use crate::{
        api::openapi::{
            operations::{JSON, Operation, by_path},
            references::SWAGGER_PREFIX,
        },
        model::Kind,
    };

    /// The paths of a kind.
    pub(in crate::api::openapi) fn paths(kind: &Kind) -> Map<String, Value> {
        by_path(kind, write, |name| {
            json!({"name": name, "in": "path", "required": true, "type": "string",
                   "uniqueItems": true})
        })
    }

    fn write(operation: &Operation<'_>, mut fields: Map<String, Value>) -> Value {
        let schema = |name: &str| json!({"$ref": format!("{SWAGGER_PREFIX}{name}")});
        let mut parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|(name, kind)| json!({"name": name, "in": "query", "type": kind, "uniqueItems": true}))
            .collect();
        if let Some(body) = &operation.body {
            let required = operation.method != "delete";
            parameters.push(json!({"name": "body", "in": "body", "required": required,
                                   "schema": schema(&body.schema)}));
            fields.insert("consumes".to_owned(), body.media_types.clone().into());
        }
        fields.insert("parameters".to_owned(), parameters.into());
        let (media_type, schema) = match &operation.answer {
            Some(name) => (JSON, schema(name)),
            None => ("text/plain", json!({"type": "string"})),
        };
        fields.insert("produces".to_owned(), json!([media_type]));
        let response = json!({operation.success(): {"description": "OK", "schema": schema}});
        fields.insert("responses".to_owned(), response);
        Value::Object(fields)
    }
}
