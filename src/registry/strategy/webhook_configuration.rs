//! Configurations of admission webhooks: whom they call, about which requests, and how.

use serde_json::{Value, json};

use crate::{
    model::{
        Cause,
        kind::extension::{MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION},
    },
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context,
            admission_match::{
                FAILURE_POLICIES, REINVOCATION_POLICIES, default_match, dns_1035_faults,
                match_conditions, match_policy, qualified_domain, rule_of,
            },
            checks,
            document::DocumentRules,
            json::{fill, is_set, items, items_mut, number, stored_only, text, texts, unique},
            metadata::{NameForm, validate_name},
        },
    },
};

pub(super) static MUTATING: BuiltIn = BuiltIn {
    kind: &MUTATING_WEBHOOK_CONFIGURATION,
    rules: &RULES,
    columns: &[Column::NAME, Column::number("Webhooks", "Number of webhooks."), Column::AGE],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, [items(&document, "webhooks").len()]))
    },
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

pub(super) static VALIDATING: BuiltIn =
    BuiltIn { kind: &VALIDATING_WEBHOOK_CONFIGURATION, ..MUTATING };

static RULES: DocumentRules = DocumentRules {
    default,
    validate,
    warnings: |new, old| stored_only(new, old, "calls no webhooks"),
    ..DocumentRules::STORED
};

const HTTPS_PORT: i64 = 443;
const TIMEOUT_SECONDS: i64 = 10;
const TIMEOUT_SECONDS_MAX: i64 = 30;
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

fn default(new: &mut Value, _old: Option<&Value>, _context: &Context<'_>) {
    let mutates = new["kind"] == *MUTATING_WEBHOOK_CONFIGURATION.kind;
    for webhook in items_mut(new, "webhooks") {
        fill(webhook, "failurePolicy", "Fail");
        default_match(webhook, &["rules"]);
        fill(webhook, "timeoutSeconds", TIMEOUT_SECONDS);
        if mutates {
            fill(webhook, "reinvocationPolicy", "Never");
        }
        if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
            fill(service, "port", HTTPS_PORT);
        }
    }
}

fn validate(new: &Value, _old: Option<&Value>, _context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let webhooks = items(new, "webhooks");
    for (i, hook) in webhooks.iter().enumerate() {
        let path = format!("webhooks[{i}]");
        webhook(&mut causes, &path, hook);
        if new["kind"] == *MUTATING_WEBHOOK_CONFIGURATION.kind {
            let (path, policy) =
                (format!("{path}.reinvocationPolicy"), text(hook, "reinvocationPolicy"));
            checks::one_of(&mut causes, &path, policy, &REINVOCATION_POLICIES);
        }
        review_versions(&mut causes, &format!("{path}.admissionReviewVersions"), hook);
    }
    let names = webhooks.iter().map(|hook| text(hook, "name")).enumerate();
    let names = names.filter(|(_, name)| !name.is_empty());
    unique(&mut causes, names.map(|(i, name)| (format!("webhooks[{i}].name"), name)));
    causes
}

fn webhook(causes: &mut Vec<Cause>, path: &str, hook: &Value) {
    let at = |field: &str| format!("{path}.{field}");
    qualified_domain(causes, &at("name"), text(hook, "name"));
    for (i, rule) in items(hook, "rules").iter().enumerate() {
        rule_of(causes, &format!("{path}.rules[{i}]"), rule);
    }
    checks::one_of(causes, &at("failurePolicy"), text(hook, "failurePolicy"), &FAILURE_POLICIES);
    if is_set(hook, "sideEffects") {
        checks::one_of(causes, &at("sideEffects"), text(hook, "sideEffects"), &SIDE_EFFECTS);
    } else {
        let rule = "must specify one of None, NoneOnDryRun";
        causes.push(Cause::required(at("sideEffects"), rule));
    }
    let seconds = number(hook, "timeoutSeconds").unwrap_or(TIMEOUT_SECONDS);
    if !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
        let rule = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(at("timeoutSeconds"), seconds, rule));
    }
    match_policy(causes, path, hook);
    client_config(causes, &at("clientConfig"), &hook["clientConfig"]);
    match_conditions(causes, path, hook);
}

fn client_config(causes: &mut Vec<Cause>, path: &str, config: &Value) {
    match (is_set(config, "url"), is_set(config, "service")) {
        (true, false) => url(causes, &format!("{path}.url"), text(config, "url")),
        (false, true) => service(causes, &format!("{path}.service"), &config["service"]),
        _ => causes.push(Cause::required(path, "exactly one of url or service is required")),
    }
}

/// `https://host[/path]` and nothing else.
fn url(causes: &mut Vec<Cause>, path: &str, url: &str) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let faults = [
        (scheme != "https", scheme, format!("'https' is the only allowed URL scheme{FORM}")),
        (host.is_empty(), host, format!("host must be specified{FORM}")),
        (!user.is_empty(), user, "user information is not permitted in the URL".to_owned()),
        (!fragment.is_empty(), fragment, "fragments are not permitted in the URL".to_owned()),
        (!query.is_empty(), query, "query parameters are not permitted in the URL".to_owned()),
    ];
    for (_, value, rule) in faults.iter().filter(|(broken, ..)| *broken) {
        causes.push(Cause::invalid(path, *value, rule));
    }
}

fn service(causes: &mut Vec<Cause>, path: &str, service: &Value) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            let rule = format!("service {field} is required");
            causes.push(Cause::required(format!("{path}.{field}"), &rule));
        }
    }
    let port = number(service, "port").unwrap_or(HTTPS_PORT);
    if !(1..=65_535).contains(&port) {
        let rule = "port is not valid: must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid(format!("{path}.port"), port, rule));
    }
    let (url_path, at) = (text(service, "path"), format!("{path}.path"));
    let mut broken = |rule: &str| causes.push(Cause::invalid(at.clone(), url_path, rule));
    match url_path {
        "" | "/" => return,
        "//" => return broken("segment[0] may not be empty"),
        _ => {}
    }
    if !url_path.starts_with('/') {
        broken("must start with a '/'");
    }
    let steps = url_path.get(1..).unwrap_or_default();
    let steps = steps.strip_suffix('/').unwrap_or(steps);
    for (i, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            broken(&format!("segment[{i}] may not be empty"));
            continue;
        }
        for fault in validate_name(step, NameForm::Subdomain) {
            broken(&format!("segment[{i}]: {fault}"));
        }
    }
}

fn review_versions(causes: &mut Vec<Cause>, path: &str, hook: &Value) {
    let versions = texts(hook, "admissionReviewVersions");
    if versions.is_empty() {
        causes.push(Cause::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    for (i, version) in versions.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if versions[..i].contains(version) {
            causes.push(Cause::invalid(at, *version, "duplicate version"));
            continue;
        }
        for fault in dns_1035_faults(version) {
            causes.push(Cause::invalid(at.clone(), *version, &fault));
        }
    }
    if !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let rule = "must include at least one of v1, v1beta1";
        causes.push(Cause::invalid(path, json!(versions), rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::kind::extension::{
            MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION,
        },
        registry::strategy::json::testing::{admitted, check_faults},
    };

    fn configuration() -> Value {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "a"},
            "webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 5, "matchConditions": [{"name": "a", "expression": "true"}],
                "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/p"}},
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]})
    }

    #[test]
    fn defaults() {
        let mut given = configuration();
        given["kind"] = "MutatingWebhookConfiguration".into();
        let (faults, document) = admitted(&RULES, &MUTATING_WEBHOOK_CONFIGURATION, given, None);
        assert_eq!(faults, [""; 0]);
        let webhook = &document["webhooks"][0];
        for (pointer, value) in [
            ("/failurePolicy", json!("Fail")),
            ("/matchPolicy", json!("Equivalent")),
            ("/namespaceSelector", json!({})),
            ("/objectSelector", json!({})),
            ("/reinvocationPolicy", json!("Never")),
            ("/clientConfig/service/port", json!(443)),
            ("/rules/0/scope", json!("*")),
        ] {
            assert_eq!(webhook.pointer(pointer), Some(&value), "{pointer}");
        }
    }

    #[test]
    fn rules() {
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/webhooks/0/name",
                json!("a.example"),
                &[
                    "webhooks[0].name: Invalid value: \"a.example\": should be a domain with at least three segments \
                   separated by dots",
                ],
            ),
            (
                "/webhooks/0/rules/0/operations",
                json!(["*", "READ"]),
                &[
                    "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"READ\"]: if '*' is present, must not specify \
                     other operations",
                    "webhooks[0].rules[0].operations[1]: Unsupported value: \"READ\": supported values: \"*\", \"CONNECT\", \
                     \"CREATE\", \"DELETE\", \"UPDATE\"",
                ],
            ),
            (
                "/webhooks/0/rules/0/resources",
                json!(["pods/*", "pods/log", "*", "pods"]),
                &[
                    "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not \
                     specify pods/log",
                    "webhooks[0].rules[0].resources: Invalid value: [\"pods/*\",\"pods/log\",\"*\",\"pods\"]: if '*' is \
                     present, must not specify other resources without subresources",
                ],
            ),
            (
                "/webhooks/0/sideEffects",
                Value::Null,
                &[
                    "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                ],
            ),
            (
                "/webhooks/0/timeoutSeconds",
                json!(31),
                &[
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ],
            ),
            (
                "/webhooks/0/clientConfig",
                json!({}),
                &[
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                ],
            ),
            (
                "/webhooks/0/clientConfig",
                json!({"url": "http://u@h/p?q#f"}),
                &[
                    "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired \
                     format: https://host[/path]",
                    "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                    "webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
                    "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
                ],
            ),
            (
                "/webhooks/0/clientConfig/service",
                json!({"port": 70_000, "path": "p//"}),
                &[
                    "webhooks[0].clientConfig.service.name: Required value: service name is required",
                    "webhooks[0].clientConfig.service.namespace: Required value: service namespace is required",
                    "webhooks[0].clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and \
                     65535, inclusive",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"p//\": must start with a '/'",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"p//\": segment[0] may not be empty",
                    "webhooks[0].clientConfig.service.path: Invalid value: \"p//\": segment[1] may not be empty",
                ],
            ),
            (
                "/webhooks/0/admissionReviewVersions",
                json!(["v2", "v2"]),
                &[
                    "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                    "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, \
                     v1beta1",
                ],
            ),
            (
                "/webhooks/0/matchConditions",
                json!([{"name": "a", "expression": ""}, {"name": "a", "expression": "true"}]),
                &[
                    "webhooks[0].matchConditions[0].expression: Required value",
                    "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
                ],
            ),
        ];
        check_faults(&RULES, &VALIDATING_WEBHOOK_CONFIGURATION, &configuration(), cases);
    }
}
