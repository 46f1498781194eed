//! APIServices: group versions, and who serves them. Those without a service are always available; nothing is passed on to
//! the others yet.

use serde_json::{Value, json};

use crate::{
    model::{Cause, kind::extension::API_SERVICE, time::time_text},
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{
            BuiltIn, Context,
            admission_match::dns_1035_faults,
            checks,
            document::DocumentRules,
            json::{condition, fill, is_set, items, number, stored_only, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &API_SERVICE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Service", "Service that serves the group version."),
        Column::text("Available", "Whether the group version is served."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, printed(&document["spec"], &document["status"])))
    },
    replaced_by_revision: true,
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules {
    default,
    validate,
    warnings: |new, old| match is_set(&new["spec"], "service") {
        true => stored_only(new, old, "passes no requests on to its service"),
        false => Vec::new(),
    },
    name: NameForm::PathSegment,
};

const HTTPS_PORT: i64 = 443;
const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1000;

fn default(new: &mut Value, old: Option<&Value>, context: &Context<'_>) {
    let is_local = !is_set(&new["spec"], "service");
    if let Some(service) = new["spec"].get_mut("service") {
        fill(service, "port", HTTPS_PORT);
    }
    if old.is_none() && is_local {
        new["status"] = json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
            "message": "Local APIServices are always available", "lastTransitionTime": time_text(context.now)}]});
    }
}

fn validate(new: &Value, _old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        for (i, condition) in items(&new["status"], "conditions").iter().enumerate() {
            let path = format!("status.conditions[{i}].status");
            let known = ["True", "False", "Unknown"];
            checks::one_of(&mut causes, &path, text(condition, "status"), &known);
        }
        return causes;
    }
    let spec = &new["spec"];
    let (name, group, version) =
        (text(&new["metadata"], "name"), text(spec, "group"), text(spec, "version"));
    let required = format!("{version}.{group}");
    if name != required {
        let rule = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        causes.push(Cause::invalid("metadata.name", name, &rule));
    }
    if !group.is_empty() {
        checks::name(&mut causes, "spec.group", group, NameForm::Subdomain);
    } else if version != "v1" {
        let rule = "only v1 may have an empty group and it better be legacy kube";
        causes.push(Cause::required("spec.group", rule));
    }
    for fault in dns_1035_faults(version) {
        causes.push(Cause::invalid("spec.version", version, &fault));
    }
    for (field, max, limit) in [
        ("groupPriorityMinimum", GROUP_PRIORITY_MAX, "20000"),
        ("versionPriority", VERSION_PRIORITY_MAX, "1000"),
    ] {
        let priority = number(spec, field).unwrap_or_default();
        if !(1..=max).contains(&priority) {
            let rule = format!("must be positive and less than {limit}");
            causes.push(Cause::invalid(format!("spec.{field}"), priority, &rule));
        }
    }
    service(&mut causes, spec);
    causes
}

fn service(causes: &mut Vec<Cause>, spec: &Value) {
    let bundle = text(spec, "caBundle");
    let is_insecure = spec["insecureSkipTLSVerify"] == true;
    let service = &spec["service"];
    if service.is_null() {
        if !bundle.is_empty() {
            let bytes = format!("{} bytes", bundle.trim_end_matches('=').len() * 3 / 4);
            let rule = "local APIServices may not have a caBundle";
            causes.push(Cause::invalid("spec.caBundle", bytes, rule));
        }
        if is_insecure {
            let rule = "local APIServices may not have insecureSkipTLSVerify";
            causes.push(Cause::invalid("spec.insecureSkipTLSVerify", true, rule));
        }
        return;
    }
    for field in ["namespace", "name"] {
        if text(service, field).is_empty() {
            causes.push(Cause::required(format!("spec.service.{field}"), ""));
        }
    }
    let port = number(service, "port").unwrap_or(HTTPS_PORT);
    if !(1..=65_535).contains(&port) {
        let rule = "port is not valid: must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid("spec.service.port", port, rule));
    }
    if is_insecure && !bundle.is_empty() {
        let rule = "may not be true if caBundle is present";
        causes.push(Cause::invalid("spec.insecureSkipTLSVerify", true, rule));
    }
}

/// Service and availability.
fn printed(spec: &Value, status: &Value) -> [String; 2] {
    let service = &spec["service"];
    let service = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", text(service, "namespace"), text(service, "name"))
    };
    let available = match condition(status, "Available") {
        None => "Unknown".to_owned(),
        Some(found) if found["status"] == "True" => "True".to_owned(),
        Some(found) => format!("{} ({})", text(found, "status"), text(found, "reason")),
    };
    [service, available]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::kind::extension::API_SERVICE,
        registry::strategy::json::testing::{admitted, check_faults},
    };

    #[test]
    fn local_and_remote() {
        let local = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1.example.com"},
            "spec": {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15}});
        let (_, document) = admitted(&RULES, &API_SERVICE, local.clone(), None);
        assert_eq!(document["status"]["conditions"][0]["reason"], "Local");
        let mut remote = local.clone();
        remote["spec"]["service"] = json!({"name": "s", "namespace": "n"});
        let (faults, document) = admitted(&RULES, &API_SERVICE, remote.clone(), None);
        assert_eq!((faults, &document["spec"]["service"]["port"]), (vec![], &json!(443)));
        assert_eq!(
            (RULES.warnings)(&remote, None),
            ["Snowglobe stores this APIService but passes no requests on to its service yet"]
        );
        assert!((RULES.warnings)(&local, None).is_empty());
        let cases: &[(&str, Value, &[&str])] = &[
            (
                "/metadata/name",
                json!("v1.example"),
                &[
                    "metadata.name: Invalid value: \"v1.example\": must be `spec.version+\".\"+spec.group`: \
                   \"v1.example.com\"",
                ],
            ),
            (
                "/spec/groupPriorityMinimum",
                json!(20_001),
                &[
                    "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                ],
            ),
        ];
        check_faults(&RULES, &API_SERVICE, &local, cases);
        let cases: &[(&str, Value, &[&str])] = &[(
            "/spec/service",
            json!({"port": 70_000}),
            &[
                "spec.service.namespace: Required value",
                "spec.service.name: Required value",
                "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
            ],
        )];
        check_faults(&RULES, &API_SERVICE, &remote, cases);
    }

    #[test]
    fn rows() {
        let unavailable =
            json!({"conditions": [{"type": "Available", "status": "False", "reason": "Gone"}]});
        let service = json!({"service": {"namespace": "n", "name": "s"}});
        assert_eq!(printed(&service, &unavailable), ["n/s", "False (Gone)"]);
        assert_eq!(printed(&json!({}), &json!({})), ["Local", "Unknown"]);
    }
}
