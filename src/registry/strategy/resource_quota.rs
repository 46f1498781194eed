//! ResourceQuotas: names, amounts and scopes. Nothing is counted here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    model::{Cause, kind, quantity},
    registry::{
        Subresource,
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, checks,
            document::DocumentRules,
            json::{items, stored_only, text, texts},
            resource_validation::{HUGE_PAGES, is_whole_number},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::RESOURCE_QUOTA,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Request", "What is used of what may be requested."),
        Column::text("Limit", "What is used of the sum of limits."),
        Column::AGE,
    ],
    cells: |object, now| {
        let document: Value = object.parse()?;
        Ok(row::plain(object, now, printed(&document["status"])))
    },
    ..BuiltIn::STORED
};

static RULES: DocumentRules = DocumentRules { validate, warnings, ..DocumentRules::STORED };

const SCOPES: &str = "spec.scopes";
const EXPRESSIONS: &str = "spec.scopeSelector.matchExpressions";
/// Counts of objects.
const COUNTS: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// What pods ask for.
const OF_PODS: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];
const OTHERS: &[&str] = &[
    "ephemeral-storage",
    "limits.ephemeral-storage",
    "requests.ephemeral-storage",
    "requests.storage",
];
const KNOWN_SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const CONFLICTS: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

fn validate(new: &Value, old: Option<&Value>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if context.subresource == Subresource::Status {
        amounts(&mut causes, "status.hard", &new["status"]["hard"]);
        amounts(&mut causes, "status.used", &new["status"]["used"]);
        return causes;
    }
    let spec = &new["spec"];
    amounts(&mut causes, "spec.hard", &spec["hard"]);
    scopes(&mut causes, spec);
    selector(&mut causes, spec);
    if let Some(old) = old {
        let set = |spec: &Value| -> BTreeSet<String> {
            texts(spec, "scopes").into_iter().map(str::to_owned).collect()
        };
        if set(spec) != set(&old["spec"]) {
            causes.push(Cause::invalid(SCOPES, spec["scopes"].clone(), checks::IMMUTABLE));
        }
    }
    causes
}

fn amounts(causes: &mut Vec<Cause>, path: &str, amounts: &Value) {
    for (name, amount) in amounts.as_object().into_iter().flatten() {
        let field = format!("{path}[{name}]");
        checks::qualified_name(causes, &field, name);
        if !name.contains('/') && !is_standard(name) {
            let rule = "must be a standard resource for quota";
            causes.push(Cause::invalid(field.as_str(), name.as_str(), rule));
        }
        let Some((amount, value)) = amount.as_str().and_then(|a| Some((a, quantity::nano(a)?)))
        else {
            continue;
        };
        if value < 0 {
            let rule = "must be greater than or equal to 0";
            causes.push(Cause::invalid(field.as_str(), amount, rule));
        }
        let is_count = COUNTS.contains(&name.as_str()) || is_whole_number(name);
        if is_count && value % 1_000_000_000 != 0 {
            causes.push(Cause::invalid(field, amount, "must be an integer"));
        }
    }
}

fn is_standard(name: &str) -> bool {
    [COUNTS, OF_PODS, OTHERS].iter().any(|names| names.contains(&name))
        || name.strip_prefix("requests.").unwrap_or(name).starts_with(HUGE_PAGES)
}

/// Whether a scope can tell apart what uses the resource. Resources with a prefix, and those that are not standard, always.
fn is_tracked(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => OF_PODS.contains(&resource),
    }
}

fn has_untracked(spec: &Value, scope: &str) -> bool {
    let hard = spec["hard"].as_object().into_iter().flat_map(Map::keys);
    let mut standard = hard.filter(|name| is_standard(name));
    standard.any(|name| !is_tracked(scope, name))
}

fn conflict(scopes: &[&str]) -> bool {
    CONFLICTS.iter().any(|pair| pair.iter().all(|scope| scopes.contains(scope)))
}

fn scopes(causes: &mut Vec<Cause>, spec: &Value) {
    let given = &spec["scopes"];
    let scopes = texts(spec, "scopes");
    for scope in &scopes {
        if !KNOWN_SCOPES.contains(scope) {
            causes.push(Cause::invalid(SCOPES, given.clone(), "unsupported scope"));
        } else if has_untracked(spec, scope) {
            let rule = "unsupported scope applied to resource";
            causes.push(Cause::invalid(SCOPES, given.clone(), rule));
        }
    }
    if conflict(&scopes) {
        causes.push(Cause::invalid(SCOPES, given.clone(), "conflicting scopes"));
    }
}

fn selector(causes: &mut Vec<Cause>, spec: &Value) {
    let selector = &spec["scopeSelector"];
    let expressions = items(selector, "matchExpressions");
    for expression in expressions {
        let scope = text(expression, "scopeName");
        if !KNOWN_SCOPES.contains(&scope) {
            let field = format!("{EXPRESSIONS}.scopeName");
            causes.push(Cause::invalid(field, scope, "unsupported scope"));
        } else if has_untracked(spec, scope) {
            let rule = "unsupported scope applied to resource";
            causes.push(Cause::invalid(EXPRESSIONS, selector.clone(), rule));
        }
        operator(causes, scope, expression);
    }
    let scopes: Vec<&str> = expressions.iter().map(|one| text(one, "scopeName")).collect();
    if conflict(&scopes) {
        causes.push(Cause::invalid(EXPRESSIONS, spec["scopes"].clone(), "conflicting scopes"));
    }
}

fn operator(causes: &mut Vec<Cause>, scope: &str, expression: &Value) {
    let (operator, values) = (text(expression, "operator"), items(expression, "values"));
    let named = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if KNOWN_SCOPES.contains(&scope) && !named && operator != "Exists" {
        let rule = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
             ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
             ResourceQuotaScopeCrossNamespacePodAffinity";
        causes.push(Cause::invalid(format!("{EXPRESSIONS}.operator"), operator, rule));
    }
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let rule =
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            causes.push(Cause::required(format!("{EXPRESSIONS}.values"), rule));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let rule =
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            let values = expression["values"].clone();
            causes.push(Cause::invalid(format!("{EXPRESSIONS}.values"), values, rule));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => {
            let rule = "not a valid selector operator";
            causes.push(Cause::invalid(format!("{EXPRESSIONS}.operator"), operator, rule));
        }
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    stored_only(new, old, "enforces no quotas")
}

/// What is used of requests, and of limits: `pods: 1/10, requests.cpu: 2/4`.
fn printed(status: &Value) -> [String; 2] {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let hard: BTreeMap<_, _> = status["hard"].as_object().into_iter().flatten().collect();
    for (name, amount) in hard {
        let (used, hard) = (text(&status["used"], name), amount.as_str().unwrap_or_default());
        let cell = format!("{name}: {}/{}", row::or(used, "0"), row::or(hard, "0"));
        let is_limit = name.split('.').next() == Some("limits");
        if is_limit { limits.push(cell) } else { requests.push(cell) }
    }
    [requests.join(", "), limits.join(", ")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::strategy::json::testing::admitted;

    #[test]
    fn rules() {
        let quota =
            |spec: Value| json!({"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec});
        for (spec, expected) in [
            (
                json!({"hard": {"pods": "4", "requests.cpu": "1500m", "count/jobs.batch": "3"}}),
                vec![],
            ),
            (
                json!({"hard": {"storage": "1Gi"}}),
                vec![
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                ],
            ),
            (
                json!({"hard": {"cpu": "-1", "pods": "500m"}}),
                vec![
                    "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                    "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
                ],
            ),
            (
                json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
                vec![
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
                ],
            ),
            (
                json!({"scopes": ["Some"]}),
                vec!["spec.scopes: Invalid value: [\"Some\"]: unsupported scope"],
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In"},
                {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]},
                {"scopeName": "Other", "operator": "Near"}]}}),
                vec![
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when \
                 `operator` is 'In' or 'NotIn' for scope selector",
                    "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when \
                 `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                    "spec.scopeSelector.matchExpressions.scopeName: Invalid value: \"Other\": unsupported scope",
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Near\": not a valid selector operator",
                ],
            ),
        ] {
            assert_eq!(admitted(&RULES, &kind::RESOURCE_QUOTA, quota(spec), None).0, expected);
        }
        let old = quota(json!({"scopes": ["Terminating"]}));
        assert_eq!(
            admitted(&RULES, &kind::RESOURCE_QUOTA, quota(json!({})), Some(&old)).0,
            ["spec.scopes: Invalid value: null: field is immutable",]
        );
        assert_eq!(
            warnings(&old, None),
            ["Snowglobe stores this ResourceQuota but enforces no quotas yet"]
        );
        assert_eq!(warnings(&old, Some(&old)), [""; 0]);
    }
}
