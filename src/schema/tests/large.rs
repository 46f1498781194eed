//! A schema with the shape of that of Prometheus Operator's largest kind: pod templates in a template, long descriptions,
//! lists of maps, integers or strings with one pattern, and a few thousand nodes more than one would write.

use serde_json::{Map, Value, json};

const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

fn described(mut schema: Value, name: &str) -> Value {
    let text = format!(
        "The {name} of this part of the server. It is used when the server starts, and read again whenever it changes. \
         An empty value stands for what the operator thinks best."
    );
    schema["description"] = text.into();
    schema
}

fn object(fields: Vec<(String, Value)>, required: &[&str]) -> Value {
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| {
            let schema = described(schema, &name);
            (name, schema)
        })
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn named(fields: &[(&str, Value)]) -> Vec<(String, Value)> {
    fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect()
}

fn quantities() -> Value {
    json!({"type": "object", "additionalProperties": {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": QUANTITY,
        "x-kubernetes-int-or-string": true,
    }})
}

fn keyed(keys: &[&str], items: &Value) -> Value {
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
}

fn selector() -> Value {
    let requirement = object(
        named(&[
            ("key", json!({"type": "string"})),
            ("operator", json!({"type": "string"})),
            (
                "values",
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"}),
            ),
        ]),
        &["key", "operator"],
    );
    let mut selector = object(
        named(&[
            ("matchExpressions", json!({"type": "array", "items": requirement})),
            ("matchLabels", json!({"type": "object", "additionalProperties": {"type": "string"}})),
        ]),
        &[],
    );
    selector["x-kubernetes-map-type"] = "atomic".into();
    selector
}

fn container() -> Value {
    let secret = object(
        named(&[
            ("key", json!({"type": "string"})),
            ("name", json!({"type": "string", "default": ""})),
            ("optional", json!({"type": "boolean"})),
        ]),
        &["key"],
    );
    let env = object(
        named(&[
            ("name", json!({"type": "string"})),
            ("value", json!({"type": "string"})),
            (
                "valueFrom",
                object(
                    named(&[("secretKeyRef", secret.clone()), ("configMapKeyRef", secret)]),
                    &[],
                ),
            ),
        ]),
        &["name"],
    );
    let port = object(
        named(&[
            (
                "containerPort",
                json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}),
            ),
            ("protocol", json!({"type": "string", "default": "TCP"})),
            (
                "name",
                json!({"type": "string", "maxLength": 15, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}),
            ),
        ]),
        &["containerPort"],
    );
    let strings = json!({"type": "array", "items": {"type": "string"}});
    let mut fields = named(&[
        ("name", json!({"type": "string", "minLength": 1})),
        ("image", json!({"type": "string"})),
        ("args", strings.clone()),
        ("command", strings),
        ("env", keyed(&["name"], &env)),
        ("ports", keyed(&["containerPort", "protocol"], &port)),
        ("resources", object(named(&[("limits", quantities()), ("requests", quantities())]), &[])),
    ]);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe", "preStop", "postStart"] {
        let port = json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
        let get = object(named(&[("path", json!({"type": "string"})), ("port", port)]), &["port"]);
        let more = ["initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold"];
        let mut parts = named(&[("httpGet", get)]);
        let count = json!({"type": "integer", "format": "int32"});
        parts.extend(more.map(|name| (name.to_owned(), count.clone())));
        fields.push((probe.to_owned(), object(parts, &[])));
    }
    object(fields, &["name"])
}

fn volume() -> Value {
    let mut fields = named(&[("name", json!({"type": "string"}))]);
    for source in 0..30 {
        let parts = (0..6).map(|at| (format!("part{at}"), json!({"type": "string"}))).collect();
        fields.push((format!("source{source}"), object(parts, &[])));
    }
    object(fields, &["name"])
}

fn affinity() -> Value {
    let term = object(
        named(&[
            ("labelSelector", selector()),
            ("namespaceSelector", selector()),
            ("topologyKey", json!({"type": "string"})),
        ]),
        &["topologyKey"],
    );
    let terms = json!({"type": "array", "items": term, "x-kubernetes-list-type": "atomic"});
    let parts: Vec<_> = ["nodeAffinity", "podAffinity", "podAntiAffinity"]
        .into_iter()
        .map(|name| {
            let both = named(&[("required", terms.clone()), ("preferred", terms.clone())]);
            (name.to_owned(), object(both, &[]))
        })
        .collect();
    object(parts, &[])
}

fn status() -> Value {
    object(
        named(&[
            ("replicas", json!({"type": "integer", "format": "int32"})),
            (
                "conditions",
                keyed(
                    &["type"],
                    &object(
                        named(&[
                            ("type", json!({"type": "string", "minLength": 1})),
                            ("status", json!({"type": "string", "minLength": 1})),
                            (
                                "lastTransitionTime",
                                json!({"type": "string", "format": "date-time"}),
                            ),
                        ]),
                        &["type", "status"],
                    ),
                ),
            ),
        ]),
        &[],
    )
}

/// About 0.6 MB as JSON.
pub(crate) fn schema() -> Value {
    let containers = keyed(&["name"], &container());
    let mut fields = named(&[
        ("replicas", json!({"type": "integer", "format": "int32", "minimum": 0, "default": 1})),
        ("version", json!({"type": "string"})),
        (
            "retention",
            json!({"type": "string", "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?)$", "default": "24h"}),
        ),
        ("logLevel", json!({"type": "string", "enum": ["", "debug", "info", "warn", "error"]})),
        ("affinity", affinity()),
        ("containers", containers.clone()),
        ("initContainers", containers),
        ("volumes", json!({"type": "array", "items": volume()})),
        ("serviceMonitorSelector", selector()),
        ("podMonitorSelector", selector()),
        ("resources", object(named(&[("limits", quantities()), ("requests", quantities())]), &[])),
        (
            "podMetadata",
            object(
                named(&[(
                    "labels",
                    json!({"type": "object", "additionalProperties": {"type": "string"}}),
                )]),
                &[],
            ),
        ),
    ]);
    for remote in 0..16 {
        let (container, part) = if remote % 3 == 0 { (container(), 24) } else { (affinity(), 40) };
        let mut parts =
            named(&[("url", json!({"type": "string", "minLength": 1})), ("inner", container)]);
        parts.extend((0..part).map(|at| {
            let schema = match at % 4 {
                0 => json!({"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}),
                1 => json!({"type": "integer", "format": "int64", "minimum": 0}),
                2 => json!({"type": "boolean", "default": false}),
                _ => json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            };
            (format!("field{at}"), schema)
        }));
        fields.push((format!("remote{remote}"), object(parts, &["url"])));
    }
    let top = named(&[
        ("apiVersion", json!({"type": "string"})),
        ("kind", json!({"type": "string"})),
        ("spec", object(fields, &[])),
        ("status", status()),
    ]);
    let mut root = object(top, &["spec"]);
    root["properties"]["metadata"] = json!({"type": "object"});
    root
}

/// One of its objects, as people write them: a few dozen fields, two containers, selectors.
pub(crate) fn object_of_it() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "quay.io/prometheus/prometheus:v3", "args": ["--a", "--b", "--c"],
            "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"key": "k", "name": "s"}}}],
            "ports": [{"containerPort": 9090, "name": "web"}, {"containerPort": 8080, "name": "reloader", "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "400Mi"}, "limits": {"memory": "2Gi", "cpu": 1}},
            "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "web"}, "periodSeconds": 5, "failureThreshold": 6},
        })
    };
    let remote = |url: &str| json!({"url": url, "field0": "name-a", "field1": 5, "field3": ["a", "b", "c"], "field5": 6});
    let selector = json!({"matchLabels": {"team": "frontend"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]});
    json!({
        "apiVersion": "monitoring.example.com/v1", "kind": "Prometheus",
        "metadata": {"name": "main", "namespace": "monitoring", "labels": {"app": "prometheus"}},
        "spec": {
            "replicas": 2, "version": "v3.1.0", "retention": "15d", "logLevel": "info",
            "serviceMonitorSelector": selector, "podMonitorSelector": selector,
            "resources": {"requests": {"memory": "400Mi"}},
            "podMetadata": {"labels": {"a": "b", "c": "d"}},
            "containers": [container("prometheus"), container("reloader")],
            "volumes": [{"name": "config", "source3": {"part0": "x"}}, {"name": "data", "source4": {"part1": "y"}}],
            "affinity": {"podAntiAffinity": {"required": [{"topologyKey": "zone", "labelSelector": selector}]}},
            "remote1": remote("https://a.example.com"), "remote2": remote("https://b.example.com"),
            "remote4": remote("https://c.example.com"),
        },
        "status": {"replicas": 2, "conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Reconciled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    })
}
