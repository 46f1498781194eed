//! What webhook configurations and admission policies have in common: the requests that they are about.

use serde_json::{Value, json};

use crate::{
    model::Cause,
    registry::strategy::{
        checks,
        json::{fill, is_set, items, items_mut, required_name, selector, text, texts, unique},
        metadata::NameForm,
    },
};

/// Operations of webhooks and of policies that judge.
pub(super) const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
const MATCH_CONDITIONS_MAX: usize = 64;
const LABEL_MAX: usize = 63;

/// Fills in how objects are matched, and the scopes of the rules in these lists.
pub(super) fn default_match(of: &mut Value, lists: &[&str]) {
    fill(of, "matchPolicy", "Equivalent");
    for field in SELECTORS {
        fill(of, field, json!({}));
    }
    for field in lists {
        for rule in items_mut(of, field) {
            fill(rule, "scope", "*");
        }
    }
}

/// The policy of matching and the selectors. A policy's must be there; a webhook always has its defaults.
pub(super) fn match_policy(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    let at = |field: &str| format!("{path}.{field}");
    if is_set(of, "matchPolicy") {
        checks::one_of(causes, &at("matchPolicy"), text(of, "matchPolicy"), &MATCH_POLICIES);
    } else {
        causes.push(Cause::required(at("matchPolicy"), ""));
    }
    for field in SELECTORS {
        if is_set(of, field) {
            selector(causes, &at(field), &of[field]);
        } else {
            causes.push(Cause::required(at(field), ""));
        }
    }
}

/// `matchConstraints` or `matchResources` of a policy or a binding.
pub(super) fn match_resources(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    match_policy(causes, path, of);
    for list in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in items(of, list).iter().enumerate() {
            let at = format!("{path}.{list}[{i}]");
            for (j, name) in texts(rule, "resourceNames").into_iter().enumerate() {
                let at = format!("{at}.resourceNames[{j}]");
                checks::name(causes, &at, name, NameForm::PathSegment);
            }
            let names = texts(rule, "resourceNames").into_iter().enumerate();
            unique(causes, names.map(|(j, name)| (format!("{at}.resourceNames[{j}]"), name)));
            rule_of(causes, &at, rule);
        }
    }
}

/// The operations and resources that a rule is about.
pub(super) fn rule_of(causes: &mut Vec<Cause>, path: &str, rule: &Value) {
    let at = |field: &str| format!("{path}.{field}");
    let operations = texts(rule, "operations");
    star_alone(causes, &at("operations"), &operations, "operations");
    for (i, operation) in operations.iter().enumerate() {
        checks::one_of(causes, &format!("{path}.operations[{i}]"), operation, &OPERATIONS);
    }
    star_alone(causes, &at("apiGroups"), &texts(rule, "apiGroups"), "API groups");
    let versions = texts(rule, "apiVersions");
    star_alone(causes, &at("apiVersions"), &versions, "API versions");
    for (i, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        causes.push(Cause::required(format!("{path}.apiVersions[{i}]"), ""));
    }
    resources(causes, &at("resources"), &texts(rule, "resources"));
    if is_set(rule, "scope") {
        checks::one_of(causes, &at("scope"), text(rule, "scope"), &SCOPES);
    }
}

/// A list that says something, and nothing besides a star.
fn star_alone(causes: &mut Vec<Cause>, path: &str, values: &[&str], what: &str) {
    if values.is_empty() {
        causes.push(Cause::required(path, ""));
    } else if values.len() > 1 && values.contains(&"*") {
        let rule = format!("if '*' is present, must not specify other {what}");
        causes.push(Cause::invalid(path, json!(values), &rule));
    }
}

fn resources(causes: &mut Vec<Cause>, path: &str, resources: &[&str]) {
    if resources.is_empty() {
        causes.push(Cause::required(path, ""));
    }
    let (mut any_subresource, mut any_resource) = (Vec::new(), Vec::new());
    for (i, full) in resources.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if full.is_empty() {
            causes.push(Cause::required(at.clone(), ""));
        }
        if *full == "*/*" {
            continue;
        }
        let Some((resource, subresource)) = full.split_once('/') else { continue };
        if any_subresource.contains(&resource) {
            let rule = format!("if '{resource}/*' is present, must not specify {full}");
            causes.push(Cause::invalid(at.clone(), *full, &rule));
        }
        if any_resource.contains(&subresource) {
            let rule = format!("if '*/{subresource}' is present, must not specify {full}");
            causes.push(Cause::invalid(at, *full, &rule));
        }
        any_subresource.extend((subresource == "*").then_some(resource));
        any_resource.extend((resource == "*").then_some(subresource));
    }
    let is_plain = |name: &&str| !name.is_empty() && *name != "*" && !name.contains('/');
    let broken = [
        (
            resources.len() > 1 && resources.contains(&"*/*"),
            "if '*/*' is present, must not specify other resources",
        ),
        (
            resources.contains(&"*") && resources.iter().any(is_plain),
            "if '*' is present, must not specify other resources without subresources",
        ),
    ];
    for (_, rule) in broken.into_iter().filter(|(broken, _)| *broken) {
        causes.push(Cause::invalid(path, json!(resources), rule));
    }
}

/// Expressions that decide about single requests. What they say is not read yet.
pub(super) fn match_conditions(causes: &mut Vec<Cause>, path: &str, of: &Value) {
    let path = format!("{path}.matchConditions");
    let conditions = items(of, "matchConditions");
    if conditions.len() > MATCH_CONDITIONS_MAX {
        causes.push(Cause::too_many(path.clone(), conditions.len(), MATCH_CONDITIONS_MAX));
    }
    for (i, condition) in conditions.iter().enumerate() {
        if text(condition, "expression").trim().is_empty() {
            causes.push(Cause::required(format!("{path}[{i}].expression"), ""));
        }
        let (name, at) = (text(condition, "name"), format!("{path}[{i}].name"));
        if name.is_empty() {
            causes.push(Cause::required(at, ""));
        } else {
            checks::qualified_name(causes, &at, name);
        }
    }
    let names = conditions.iter().map(|condition| text(condition, "name")).enumerate();
    let names = names.filter(|(_, name)| !name.is_empty());
    unique(causes, names.map(|(i, name)| (format!("{path}[{i}].name"), name)));
}

/// A domain of at least three labels.
pub(super) fn qualified_domain(causes: &mut Vec<Cause>, path: &str, name: &str) {
    let before = causes.len();
    required_name(causes, path, name, NameForm::Subdomain);
    if causes.len() == before && name.split('.').count() < 3 {
        let rule = "should be a domain with at least three segments separated by dots";
        causes.push(Cause::invalid(path, name, rule));
    }
}

/// The rules of a DNS-1035 label that a text breaks.
pub(super) fn dns_1035_faults(text: &str) -> Vec<String> {
    const RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
        alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
        validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(is_inner);
    let mut faults = Vec::new();
    if text.len() > LABEL_MAX {
        faults.push("must be no more than 63 bytes".to_owned());
    }
    if !is_label {
        faults.push(RULE.to_owned());
    }
    faults
}
