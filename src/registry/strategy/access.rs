//! Roles and their bindings: rules that say something, subjects that can exist, a role reference that stays.
//! Nothing enforces them yet.

use jiff::Timestamp;
use k8s_openapi::{
    api::rbac::v1::{
        ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::Deserialize;

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Rules, checks,
            fields::{fill_text, is_empty, items, text},
            metadata::NameForm,
        },
    },
};

pub(super) static ROLE: BuiltIn =
    BuiltIn { kind: &kind::ROLE, rules: &ROLE_RULES, created_by_put: true, ..BuiltIn::GENERIC };

pub(super) static CLUSTER_ROLE: BuiltIn = BuiltIn {
    kind: &kind::CLUSTER_ROLE,
    rules: &CLUSTER_ROLE_RULES,
    created_by_put: true,
    ..BuiltIn::GENERIC
};

pub(super) static ROLE_BINDING: BuiltIn = BuiltIn {
    kind: &kind::ROLE_BINDING,
    rules: &ROLE_BINDING_RULES,
    columns: &[
        Column::NAME,
        Column::text("Role", "Role that is given."),
        Column::AGE,
        Column::text("Users", "Users that have it.").wide(),
        Column::text("Groups", "Groups that have it.").wide(),
        Column::text("ServiceAccounts", "ServiceAccounts that have it.").wide(),
    ],
    cells,
    created_by_put: true,
    ..BuiltIn::STORED
};

pub(super) static CLUSTER_ROLE_BINDING: BuiltIn = BuiltIn {
    kind: &kind::CLUSTER_ROLE_BINDING,
    rules: &CLUSTER_ROLE_BINDING_RULES,
    ..ROLE_BINDING
};

static ROLE_RULES: Rules<Role> = Rules {
    validate: |new, _, _| policy_rules(items(&new.rules), true),
    name: NameForm::PathSegment,
    ..Rules::STORED
};

static CLUSTER_ROLE_RULES: Rules<ClusterRole> = Rules {
    validate: |new, _, _| {
        let mut causes = policy_rules(items(&new.rules), false);
        if let Some(aggregation) = &new.aggregation_rule {
            aggregated(&mut causes, items(&aggregation.cluster_role_selectors));
        }
        causes
    },
    name: NameForm::PathSegment,
    ..Rules::STORED
};

static ROLE_BINDING_RULES: Rules<RoleBinding> = Rules {
    default: |new, _, _| default(&mut new.role_ref, new.subjects.as_mut()),
    validate: |new, old, _| {
        let old = old.map(|old| &old.role_ref);
        binding(&new.role_ref, old, items(&new.subjects), true)
    },
    name: NameForm::PathSegment,
    ..Rules::STORED
};

static CLUSTER_ROLE_BINDING_RULES: Rules<ClusterRoleBinding> = Rules {
    default: |new, _, _| default(&mut new.role_ref, new.subjects.as_mut()),
    validate: |new, old, _| {
        let old = old.map(|old| &old.role_ref);
        binding(&new.role_ref, old, items(&new.subjects), false)
    },
    name: NameForm::PathSegment,
    ..Rules::STORED
};

const GROUP: &str = "rbac.authorization.k8s.io";

fn default(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    fill_text(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            fill_text(&mut subject.api_group, GROUP);
        }
    }
}

fn policy_rules(rules: &[PolicyRule], namespaced: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        policy_rule(&mut causes, &format!("rules[{i}]"), rule, namespaced);
    }
    causes
}

fn policy_rule(causes: &mut Vec<Cause>, path: &str, rule: &PolicyRule, namespaced: bool) {
    let mut require = |field: &str, detail: &str| {
        causes.push(Cause::required(format!("{path}.{field}"), detail));
    };
    if rule.verbs.is_empty() {
        require("verbs", "verbs must contain at least one value");
    }
    if is_empty(&rule.non_resource_urls) {
        if is_empty(&rule.api_groups) {
            require("apiGroups", "resource rules must supply at least one api group");
        }
        if is_empty(&rule.resources) {
            require("resources", "resource rules must supply at least one resource");
        }
        if !is_empty(&rule.resource_names) && items(&rule.resources).len() > 1 {
            require("resourceNames", "resource names cannot apply to multiple resources");
        }
        return;
    }
    let of_resources = [&rule.api_groups, &rule.resources, &rule.resource_names];
    let broken = [
        (namespaced, "namespaced rules cannot apply to non-resource URLs"),
        (
            of_resources.into_iter().any(|list| !is_empty(list)),
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
    ];
    for (_, detail) in broken.into_iter().filter(|(broken, _)| *broken) {
        let urls = checks::shown(&rule.non_resource_urls);
        causes.push(Cause::invalid(format!("{path}.nonResourceURLs"), urls, detail));
    }
}

fn aggregated(causes: &mut Vec<Cause>, selectors: &[LabelSelector]) {
    const PATH: &str = "aggregationRule.clusterRoleSelectors";
    if selectors.is_empty() {
        causes.push(Cause::required(
            PATH,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    for (i, selector) in selectors.iter().enumerate() {
        checks::selector(causes, &format!("{PATH}[{i}]"), selector);
    }
}

fn binding(
    role: &RoleRef,
    old: Option<&RoleRef>,
    subjects: &[Subject],
    namespaced: bool,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    checks::one_of(&mut causes, "roleRef.apiGroup", text(&role.api_group), &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    checks::one_of(&mut causes, "roleRef.kind", &role.kind, kinds);
    checks::path_segment(&mut causes, "roleRef.name", &role.name);
    for (i, subject) in subjects.iter().enumerate() {
        validate_subject(&mut causes, &format!("subjects[{i}]"), subject, namespaced);
    }
    if old.is_some_and(|old| old != role) {
        causes.push(Cause::invalid("roleRef", checks::shown(role), "cannot change roleRef"));
    }
    causes
}

fn validate_subject(causes: &mut Vec<Cause>, path: &str, subject: &Subject, namespaced: bool) {
    let group = text(&subject.api_group);
    let group_is = |causes: &mut Vec<Cause>, expected| {
        checks::one_of(causes, &format!("{path}.apiGroup"), group, &[expected]);
    };
    let field = format!("{path}.name");
    if subject.name.is_empty() {
        causes.push(Cause::required(&field, ""));
    }
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                checks::name(causes, &field, &subject.name, NameForm::Subdomain);
            }
            group_is(causes, "");
            if !namespaced && text(&subject.namespace).is_empty() {
                causes.push(Cause::required(format!("{path}.namespace"), ""));
            }
        }
        kind @ ("User" | "Group") => {
            if subject.name.is_empty() {
                let rule = format!("{} name cannot be empty", kind.to_lowercase());
                causes.push(Cause::invalid(&field, "", &rule));
            }
            group_is(causes, GROUP);
        }
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            causes.push(Cause::not_supported(format!("{path}.kind"), other, &kinds));
        }
    }
}

/// What both kinds of bindings have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(default)]
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Vec<Subject>,
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let Binding { role_ref, subjects } = object.parse()?;
    let mut row = row::plain(object, now, [format!("{}/{}", role_ref.kind, role_ref.name)]);
    for kind in ["User", "Group", "ServiceAccount"] {
        let names = subjects.iter().filter(|subject| subject.kind == kind).map(|subject| {
            match &subject.namespace {
                Some(namespace) if kind == "ServiceAccount" => {
                    format!("{namespace}/{}", subject.name)
                }
                _ => subject.name.clone(),
            }
        });
        row.push(names.collect::<Vec<_>>().join(", ").into());
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, object, options},
    };

    fn check_binding(change: &Value, old: Option<&RoleBinding>) -> (Vec<String>, RoleBinding) {
        let mut document = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "a"}, "roleRef": {"kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "ann"}]});
        json_patch::merge(&mut document, change);
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: RoleBinding = object(document);
        (ROLE_BINDING_RULES.default)(&mut new, old, &context);
        (lines(&(ROLE_BINDING_RULES.validate)(&new, old, &context)), new)
    }

    #[test]
    fn bindings() {
        let (faults, old) = check_binding(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        assert_eq!(old.role_ref.api_group.as_deref(), Some(GROUP));
        assert_eq!(old.subjects.as_ref().unwrap()[0].api_group.as_deref(), Some(GROUP));
        for (change, expected) in [
            (
                json!({"roleRef": {"kind": "Group", "name": "a/b"}}),
                vec![
                    "roleRef.kind: Unsupported value: \"Group\": supported values: \"Role\", \"ClusterRole\"",
                    "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
                ],
            ),
            (
                json!({"subjects": [{"kind": "Robot", "name": "r"}, {"kind": "ServiceAccount", "apiGroup": "x", "name": ""}]}),
                vec![
                    "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                    "subjects[1].name: Required value",
                    "subjects[1].apiGroup: Unsupported value: \"x\": supported values: \"\"",
                ],
            ),
        ] {
            assert_eq!(check_binding(&change, None).0, expected);
        }
        let moved = check_binding(&json!({"roleRef": {"name": "writer"}}), Some(&old)).0;
        assert!(moved[0].ends_with(": cannot change roleRef"), "{moved:?}");
    }

    #[test]
    fn roles() {
        let rules = |rules: Value, namespaced| {
            let rules: Vec<PolicyRule> = object(rules);
            lines(&policy_rules(&rules, namespaced))
        };
        assert_eq!(
            rules(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]), true),
            [""; 0]
        );
        assert_eq!(
            rules(json!([{"verbs": []}]), true),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        let urls = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]);
        assert_eq!(rules(urls.clone(), false), [""; 0]);
        assert_eq!(
            rules(urls, true),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
    }
}
