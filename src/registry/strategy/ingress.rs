//! Ingresses: hosts, paths and backends that can be routed; the default class.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::TypedLocalObjectReference,
    networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressServiceBackend, IngressSpec,
    },
};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        Subresource,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, address, checks,
            fields::{items, text},
            metadata::{NameForm, validate_name},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::INGRESS,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Class", "IngressClass that serves it."),
        Column::text("Hosts", "Names that are routed."),
        Column::text("Address", "Where clients connect to."),
        Column::text("Ports", "Ports that clients connect to."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<Ingress> = Rules { default, validate, warnings, ..Rules::STORED };

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
const PATH_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const PATH_ENDS: &[&str] = &["/..", "/."];
const NOT_AN_ADDRESS: &str = "must be a DNS name, not an IP address";
const WILDCARD_RULE: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
     must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
     '*.example.com', regex used for validation is \
     '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// As the admission plugin `DefaultIngressClass`: the newest class that is marked as the default.
fn default(new: &mut Ingress, old: Option<&Ingress>, context: &Context<'_>) {
    new.status.get_or_insert_default().load_balancer.get_or_insert_default();
    let annotated = class_annotation(new).is_some();
    let spec = new.spec.get_or_insert_default();
    if old.is_some() || annotated || spec.ingress_class_name.is_some() {
        return;
    }
    spec.ingress_class_name = context
        .view
        .list(&kind::INGRESS_CLASS, None)
        .filter(|class| class.metadata.annotations.get(DEFAULT_CLASS).is_some_and(|v| v == "true"))
        .max_by_key(|class| class.metadata.creation_timestamp.clone())
        .map(|class| class.key.name.clone());
}

fn class_annotation(ingress: &Ingress) -> Option<&str> {
    let annotations = ingress.metadata.annotations.as_ref()?;
    annotations.get(CLASS_ANNOTATION).map(String::as_str)
}

fn warnings(new: &Ingress, _old: Option<&Ingress>) -> Vec<String> {
    let text = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
    class_annotation(new).map(|_| text.to_owned()).into_iter().collect()
}

fn validate(new: &Ingress, old: Option<&Ingress>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        validate_status(&mut causes, new);
        return causes;
    }
    let Some(spec) = &new.spec else { return causes };
    validate_spec(&mut causes, spec);
    if let (None, Some(annotation), Some(class)) =
        (old, class_annotation(new), &spec.ingress_class_name)
        && annotation != class
    {
        let rule = "must match `ingressClassName` when both are specified";
        causes.push(Cause::invalid(format!("annotations.{CLASS_ANNOTATION}"), annotation, rule));
    }
    causes
}

fn validate_spec(causes: &mut Vec<Cause>, spec: &IngressSpec) {
    let rules = items(&spec.rules);
    match &spec.default_backend {
        Some(backend) => validate_backend(causes, "spec.defaultBackend", backend),
        None if rules.is_empty() => {
            let rule = "either `defaultBackend` or `rules` must be specified";
            causes.push(Cause::invalid("spec", serde_json::Value::Null, rule));
        }
        None => {}
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{i}]");
        let host = text(&rule.host);
        if !host.is_empty() {
            let field = format!("{path}.host");
            if host.parse::<IpAddr>().is_ok() {
                causes.push(Cause::invalid(&field, host, NOT_AN_ADDRESS));
            }
            validate_host(causes, &field, host);
        }
        let Some(http) = &rule.http else { continue };
        if http.paths.is_empty() {
            causes.push(Cause::required(format!("{path}.http.paths"), ""));
        }
        for (i, route) in http.paths.iter().enumerate() {
            validate_path(causes, &format!("{path}.http.paths[{i}]"), route);
        }
    }
    for (i, tls) in items(&spec.tls).iter().enumerate() {
        for (j, host) in items(&tls.hosts).iter().enumerate() {
            validate_host(causes, &format!("spec.tls[{i}].hosts[{j}]"), host);
        }
        if let Some(secret) = tls.secret_name.as_ref().filter(|name| !name.is_empty()) {
            let field = format!("spec.tls[{i}].secretName");
            checks::name(causes, &field, secret, NameForm::Subdomain);
        }
    }
    if let Some(class) = &spec.ingress_class_name {
        checks::name(causes, "spec.ingressClassName", class, NameForm::Subdomain);
    }
}

/// A DNS name, whose first label may be a star.
fn validate_host(causes: &mut Vec<Cause>, path: &str, host: &str) {
    if !host.contains('*') {
        checks::name(causes, path, host, NameForm::Subdomain);
        return;
    }
    let rest = host.strip_prefix("*.").unwrap_or_default();
    if !validate_name(rest, NameForm::Subdomain).is_empty() {
        causes.push(Cause::invalid(path, host, WILDCARD_RULE));
    }
}

fn validate_path(causes: &mut Vec<Cause>, path: &str, route: &HTTPIngressPath) {
    let (field, value) = (format!("{path}.path"), text(&route.path));
    let mut refuse = |rule: &str| causes.push(Cause::invalid(&field, value, rule));
    match route.path_type.as_str() {
        "" => {
            let rule = "pathType must be specified";
            causes.push(Cause::required(format!("{path}.pathType"), rule));
            return;
        }
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                refuse("must be an absolute path");
            }
            for sequence in PATH_SEQUENCES.iter().filter(|s| value.contains(**s)) {
                refuse(&format!("must not contain '{sequence}'"));
            }
            for end in PATH_ENDS.iter().filter(|end| value.ends_with(**end)) {
                refuse(&format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                refuse("must be an absolute path");
            }
        }
        other => causes.push(Cause::not_supported(format!("{path}.pathType"), other, PATH_TYPES)),
    }
    validate_backend(causes, &format!("{path}.backend"), &route.backend);
}

fn validate_backend(causes: &mut Vec<Cause>, path: &str, backend: &IngressBackend) {
    match (&backend.resource, &backend.service) {
        (Some(_), Some(_)) => {
            let rule = "cannot set both resource and service backends";
            causes.push(Cause::invalid(path, "", rule));
        }
        (Some(resource), None) => {
            validate_resource(causes, &format!("{path}.resource"), resource);
        }
        (None, Some(service)) => validate_service(causes, path, service),
        (None, None) => {
            causes.push(Cause::invalid(path, "", "resource or service backend is required"));
        }
    }
}

fn validate_resource(causes: &mut Vec<Cause>, path: &str, resource: &TypedLocalObjectReference) {
    if let Some(group) = &resource.api_group {
        checks::name(causes, &format!("{path}.apiGroup"), group, NameForm::Subdomain);
    }
    for (field, value) in [("kind", &resource.kind), ("name", &resource.name)] {
        checks::path_segment(causes, &format!("{path}.{field}"), value);
    }
}

fn validate_service(causes: &mut Vec<Cause>, path: &str, service: &IngressServiceBackend) {
    let field = format!("{path}.service.name");
    if service.name.is_empty() {
        causes.push(Cause::required(field, ""));
    } else {
        checks::label(causes, &field, &service.name);
    }
    let port = service.port.clone().unwrap_or_default();
    match (text(&port.name), port.number.unwrap_or_default()) {
        ("", 0) => causes.push(Cause::required(path, "port name or number is required")),
        ("", number) => {
            checks::port_number(causes, &format!("{path}.service.port.number"), number);
        }
        (name, 0) => checks::port_name(causes, &format!("{path}.service.port.name"), name),
        _ => causes.push(Cause::invalid(path, "", "cannot set both port name & port number")),
    }
}

fn validate_status(causes: &mut Vec<Cause>, ingress: &Ingress) {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for (i, point) in status.iter().flat_map(|s| items(&s.ingress)).enumerate() {
        let path = format!("status.loadBalancer.ingress[{i}]");
        if let Some(ip) = point.ip.as_ref().filter(|ip| !ip.is_empty()) {
            address::ip(causes, &format!("{path}.ip"), ip);
        }
        if let Some(host) = point.hostname.as_ref().filter(|host| !host.is_empty()) {
            let field = format!("{path}.hostname");
            checks::name(causes, &field, host, NameForm::Subdomain);
            if host.parse::<IpAddr>().is_ok() {
                causes.push(Cause::invalid(field, host.as_str(), NOT_AN_ADDRESS));
            }
        }
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let ingress: Ingress = object.parse()?;
    let spec = ingress.spec.unwrap_or_default();
    let points = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let mut addresses: Vec<&String> = points
        .and_then(|status| status.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|point| point.ip.as_ref().or(point.hostname.as_ref()))
        .collect();
    addresses.sort();
    addresses.dedup();
    let ports = if spec.tls.is_some_and(|tls| !tls.is_empty()) { "80, 443" } else { "80" };
    let rules = spec.rules.unwrap_or_default();
    let hosts: Vec<&str> =
        rules.iter().filter_map(|rule| rule.host.as_deref()).filter(|h| !h.is_empty()).collect();
    let mut shown = row::or(row::joined(hosts.iter().take(row::LISTED_MAX)), "*");
    if hosts.len() > row::LISTED_MAX {
        shown += &format!(" + {} more...", rules.len() - row::LISTED_MAX);
    }
    let class = spec.ingress_class_name.unwrap_or_else(|| row::NONE.to_owned());
    Ok(row::plain(object, now, [class, shown, row::joined(addresses), ports.to_owned()]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Object, ObjectKey, object::to_stored},
        registry::{
            View,
            strategy::checks::testing::{context, lines, object, options},
        },
    };

    fn admit(view: &View, spec: &Value) -> (Vec<String>, Ingress) {
        let options = options();
        let context = context(view, &options, Subresource::None);
        let mut new: Ingress =
            object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": "a"}, "spec": spec}));
        default(&mut new, None, &context);
        (lines(&validate(&new, None, &context)), new)
    }

    fn path(fields: &Value) -> Value {
        let mut path = json!({"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "web", "port": {"number": 80}}}});
        json_patch::merge(&mut path, fields);
        json!({"rules": [{"host": "a.example", "http": {"paths": [path]}}]})
    }

    #[test]
    fn rules() {
        const AT: &str = "spec.rules[0].http.paths[0]";
        for (spec, expected) in [
            (path(&json!({})), vec![]),
            (
                json!({}),
                vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified".to_owned()],
            ),
            (
                path(&json!({"pathType": null})),
                vec![format!("{AT}.pathType: Required value: pathType must be specified")],
            ),
            (
                path(&json!({"pathType": "Regex"})),
                vec![format!(
                    "{AT}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \
                     \"ImplementationSpecific\", \"Prefix\""
                )],
            ),
            (
                path(&json!({"path": "a//b/.."})),
                vec![
                    format!("{AT}.path: Invalid value: \"a//b/..\": must be an absolute path"),
                    format!("{AT}.path: Invalid value: \"a//b/..\": must not contain '//'"),
                    format!("{AT}.path: Invalid value: \"a//b/..\": cannot end with '/..'"),
                ],
            ),
            (
                path(&json!({"backend": {"service": {"name": "", "port": null}}})),
                vec![
                    format!("{AT}.backend.service.name: Required value"),
                    format!("{AT}.backend: Required value: port name or number is required"),
                ],
            ),
            (
                path(&json!({"backend": {"service": null}})),
                vec![format!("{AT}.backend: Invalid value: \"\": resource or service backend is required")],
            ),
            (
                json!({"rules": [{"host": "1.2.3.4"}, {"host": "*.a.example"}, {"host": "a.*"}]}),
                vec![
                    format!("spec.rules[0].host: Invalid value: \"1.2.3.4\": {NOT_AN_ADDRESS}"),
                    format!("spec.rules[2].host: Invalid value: \"a.*\": {WILDCARD_RULE}"),
                ],
            ),
        ] {
            assert_eq!(admit(&View::for_tests(), &spec).0, expected, "{spec}");
        }
    }

    #[test]
    fn the_default_class_is_used() {
        let mut view = View::for_tests();
        let class = json!({"metadata": {"name": "front", "annotations": {DEFAULT_CLASS: "true"}}});
        let key = ObjectKey::cluster(&kind::INGRESS_CLASS, "front");
        let stored = to_stored(&kind::INGRESS_CLASS, class);
        view.insert(&Object::from_stored(key, 1, stored).unwrap().into());
        let class = |spec: &Value| admit(&view, spec).1.spec.unwrap().ingress_class_name;
        assert_eq!(class(&path(&json!({}))).as_deref(), Some("front"));
        let own = json!({"ingressClassName": "own", "rules": [{}]});
        assert_eq!(class(&own).as_deref(), Some("own"));
    }
}
