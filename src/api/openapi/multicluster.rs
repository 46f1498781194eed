//! Schemas of the multi-cluster API, whose resource definitions keep them in one piece. Both versions have the same.

use serde_json::{Value, json};

use crate::{
    api::openapi::references::reference,
    model::{Kind, patch::keys},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schema of ServiceExport or ServiceImport, by its name.
pub(super) fn schema(kind: &Kind) -> (String, Value) {
    let (description, spec, status) = match &*kind.kind {
        "ServiceExport" => (
            "A Service of the same name and namespace that other clusters may use.",
            export_spec(),
            json!({"conditions": conditions()}),
        ),
        _ => (
            "A Service that other clusters export.",
            import_spec(),
            json!({"clusters": clusters(), "conditions": conditions()}),
        ),
    };
    let root = json!({
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": text("Version of the schema of this object."),
            "kind": text("Kind of this object."),
            "metadata": reference(&format!("{META}.ObjectMeta")),
            "spec": spec,
            "status": {"description": "What became of it.", "type": "object", "properties": status},
        },
    });
    (keys::schema(kind), root)
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn texts(description: &str, of: &str) -> Value {
    let mut schema = json!({"type": of, "description": description});
    let inner = if of == "array" { "items" } else { "additionalProperties" };
    schema[inner] = json!({"type": "string"});
    schema
}

fn conditions() -> Value {
    json!({
        "description": "What holds for it.",
        "type": "array",
        "items": reference(&format!("{META}.Condition")),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

fn clusters() -> Value {
    let cluster = text("Name of the exporting cluster.");
    json!({
        "description": "The clusters that export it.",
        "type": "array",
        "items": {"type": "object", "required": ["cluster"], "properties": {"cluster": cluster}},
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["cluster"],
    })
}

fn export_spec() -> Value {
    json!({
        "description": "What is exported besides the Service.",
        "type": "object",
        "properties": {
            "exportedAnnotations": texts("Annotations of the imported Service.", "object"),
            "exportedLabels": texts("Labels of the imported Service.", "object"),
        },
    })
}

fn import_spec() -> Value {
    let number = |description: &str| json!({"type": "integer", "format": "int32", "description": description});
    let port = json!({
        "type": "object",
        "required": ["port"],
        "properties": {
            "appProtocol": text("What is spoken on the port."),
            "name": text("Name of the port."),
            "port": number("Number of the port."),
            "protocol": text("TCP, UDP or SCTP."),
        },
    });
    let timeout = number("Seconds for which a client keeps its endpoint.");
    let client = json!({
        "description": "Affinity by client address.",
        "type": "object",
        "properties": {"timeoutSeconds": timeout},
    });
    let mut kind = text("ClusterSetIP or Headless.");
    kind["enum"] = json!(["ClusterSetIP", "Headless"]);
    let mut families = texts("Families of the addresses.", "array");
    families["maxItems"] = 2.into();
    let mut addresses = texts("Virtual addresses of the service.", "array");
    addresses["maxItems"] = 2.into();
    json!({
        "description": "How the service is used.",
        "type": "object",
        "required": ["ports", "type"],
        "properties": {
            "internalTrafficPolicy": text("Cluster or Local."),
            "ipFamilies": families,
            "ips": addresses,
            "ports": {
                "description": "Ports of the service.",
                "type": "array",
                "items": port,
                "x-kubernetes-list-type": "atomic",
            },
            "sessionAffinity": text("ClientIP or None."),
            "sessionAffinityConfig": {
                "description": "How long affinity lasts.",
                "type": "object",
                "properties": {"clientIP": client},
            },
            "trafficDistribution": text("Which endpoints are preferred."),
            "type": kind,
        },
    })
}
