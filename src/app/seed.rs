//! The cluster-scoped objects that kube-apiserver makes at its start, besides those of `bootstrap`: roles and their
//! bindings, an APIService for each group version, and the objects of flow control. Those that exist stay as they are.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::discovery::{GROUP_PRIORITIES, group_versions},
    model::{
        Kind,
        kind::{
            self,
            extension::{API_SERVICE, FLOW_SCHEMA, PRIORITY_LEVEL_CONFIGURATION},
        },
        well_known::{AUTOMANAGED_LABEL, CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY},
    },
    registry::{Kinds, Registry},
};

const ROLES: &str = include_str!("cluster_roles.yaml");
const CONTROLLER_ROLES: &str = include_str!("controller_roles.yaml");
const ACCESS: &str = "rbac.authorization.k8s.io";
const CHANGES: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
const READS: [&str; 3] = ["get", "list", "watch"];
/// The `versionPriority` of the oldest version of a group of Kubernetes; each later one has so much more.
const VERSION_PRIORITY: i64 = 15;
/// What kube-apiserver gives to `v1` of the two groups that it treats differently.
const VERSION_PRIORITIES: [(&str, i64); 2] = [("", 1), ("flowcontrol.apiserver.k8s.io", 21)];

/// Creates what is missing.
pub(crate) async fn objects(registry: &Registry) -> anyhow::Result<()> {
    let mut all = roles()?;
    all.extend(api_services(&Kinds::built_in()));
    all.extend(priority_levels());
    all.extend(flow_schemas());
    registry.create_missing(&all).await.context("cannot create the first objects of the cluster")
}

/// An object and its kind.
type Seed = (&'static Kind, Value);

/// One entry of the file of roles.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Role {
    rules: Vec<String>,
    to: Vec<String>,
    within: Option<String>,
    aggregates: Option<String>,
}

fn roles() -> anyhow::Result<Vec<Seed>> {
    let mut roles: BTreeMap<String, Role> = serde_yaml::from_str(ROLES)?;
    let of_controllers: BTreeMap<String, Vec<String>> = serde_yaml::from_str(CONTROLLER_ROLES)?;
    roles.extend(of_controllers.into_iter().map(|(name, rules)| {
        let to = vec![format!("account:{name}")];
        (format!("system:controller:{name}"), Role { rules, to, ..Role::default() })
    }));
    // What is aggregated to a role is part of it. The controller that does this later is not there yet.
    let own = |name: &str| roles.get(name).map(|role| rules_of(&role.rules)).unwrap_or_default();
    let mut all = Vec::new();
    for (name, role) in &roles {
        let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
        if let Some(parent) = &role.within {
            labels[format!("{ACCESS}/aggregate-to-{parent}")] = "true".into();
        }
        let metadata = json!({"name": name, "labels": labels,
            "annotations": {format!("{ACCESS}/autoupdate"): "true"}});
        let mut document = json!({"metadata": metadata, "rules": own(name)});
        if let Some(aggregated) = &role.aggregates {
            let label = format!("{ACCESS}/aggregate-to-{aggregated}");
            let selector = json!({"matchLabels": {label: "true"}});
            document["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
            document["rules"] = aggregated_rules(&roles, aggregated).into();
        }
        all.push((&kind::CLUSTER_ROLE, document));
        if !role.to.is_empty() {
            let metadata = json!({"name": name, "annotations": {format!("{ACCESS}/autoupdate"): "true"},
                "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}});
            let reference = json!({"apiGroup": ACCESS, "kind": "ClusterRole", "name": name});
            let subjects: Vec<Value> = role.to.iter().map(|to| subject(to)).collect();
            let binding = json!({"metadata": metadata, "roleRef": reference, "subjects": subjects});
            all.push((&kind::CLUSTER_ROLE_BINDING, binding));
        }
    }
    Ok(all)
}

/// The rules of all roles within one, and of those within them.
fn aggregated_rules(roles: &BTreeMap<String, Role>, name: &str) -> Vec<Value> {
    let parts = roles.values().filter(|role| role.within.as_deref() == Some(name));
    parts
        .flat_map(|role| match &role.aggregates {
            Some(inner) => aggregated_rules(roles, inner),
            None => rules_of(&role.rules),
        })
        .collect()
}

/// `group:NAME`, `user:NAME`, or `account:NAME` of kube-system.
fn subject(text: &str) -> Value {
    match text.split_once(':') {
        Some(("group", name)) => json!({"apiGroup": ACCESS, "kind": "Group", "name": name}),
        Some(("account", name)) => {
            json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": name})
        }
        Some((_, name)) => json!({"apiGroup": ACCESS, "kind": "User", "name": name}),
        None => Value::Null,
    }
}

fn rules_of(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| rule(line)).collect()
}

/// `VERBS GROUPS/RESOURCES`, with `=NAMES` for some objects only, or `VERBS /PATHS`.
fn rule(line: &str) -> Value {
    let (verbs, what) = line.split_once(' ').unwrap_or((line, ""));
    let verbs = verbs.split(',').flat_map(|verb| match verb {
        "all" => CHANGES.to_vec(),
        "read" => READS.to_vec(),
        verb => vec![verb],
    });
    let verbs: Vec<&str> = verbs.collect();
    let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
    if what.starts_with('/') {
        let paths = if what == "/*" { vec!["*".to_owned()] } else { list(what) };
        return json!({"verbs": verbs, "nonResourceURLs": paths});
    }
    let (groups, resources) = what.split_once('/').unwrap_or(("", what));
    let groups: Vec<&str> =
        groups.split(',').map(|group| if group == "core" { "" } else { group }).collect();
    let (resources, names) = match resources.split_once('=') {
        Some((resources, names)) => (resources, Some(names)),
        None => (resources, None),
    };
    let mut rule = json!({"verbs": verbs, "apiGroups": groups, "resources": list(resources)});
    if let Some(names) = names {
        rule["resourceNames"] = list(names).into();
    }
    rule
}

fn api_services(kinds: &Kinds) -> Vec<Seed> {
    let mut all = Vec::new();
    for (group, versions) in group_versions(kinds) {
        let native = GROUP_PRIORITIES.iter().find(|(name, _)| *name == group);
        let special = VERSION_PRIORITIES.iter().find(|(name, _)| *name == group);
        for (version, step) in versions.iter().rev().zip(1..) {
            let (group_priority, priority) = match (native, special) {
                (Some((_, group)), Some((_, version))) => (*group, *version),
                (Some((_, group)), None) => (*group, VERSION_PRIORITY * step),
                (None, _) => (CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY),
            };
            let managed = if native.is_some() { "onstart" } else { "true" };
            let labels = json!({AUTOMANAGED_LABEL: managed});
            let mut spec = json!({"version": version, "groupPriorityMinimum": group_priority,
                "versionPriority": priority});
            if !group.is_empty() {
                spec["group"] = group.into();
            }
            let name = format!("{version}.{group}");
            all.push((
                &API_SERVICE,
                json!({"metadata": {"name": name, "labels": labels}, "spec": spec}),
            ));
        }
    }
    all
}

/// An object of flow control, which kube-apiserver keeps as it is.
fn kept(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": spec})
}

fn priority_levels() -> Vec<Seed> {
    // Name, shares, percent that others may use, queues and hand size.
    let queued = [
        ("global-default", 20, 50, 128, 6),
        ("leader-election", 10, 0, 16, 4),
        ("node-high", 40, 25, 64, 6),
        ("system", 30, 33, 64, 6),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
    ];
    let level = |spec: &Value, name: &str| (&PRIORITY_LEVEL_CONFIGURATION, kept(name, spec));
    let mut all = vec![
        level(&json!({"type": "Exempt", "exempt": {}}), "exempt"),
        level(
            &json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
            "catch-all",
        ),
    ];
    all.extend(queued.map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        level(&json!({"type": "Limited", "limited": limited}), name)
    }));
    all
}

/// Name, level, precedence, what parts the flows, and the groups or users.
const SCHEMAS: [(&str, &str, i64, &str, &[&str]); 11] = [
    ("exempt", "exempt", 1, "", &["group:system:masters"]),
    ("probes", "exempt", 2, "", &["group:system:unauthenticated", "group:system:authenticated"]),
    (
        "endpoint-controller",
        "workload-high",
        150,
        "ByUser",
        &["user:system:kube-controller-manager"],
    ),
    ("system-node-high", "node-high", 400, "ByUser", &["group:system:nodes"]),
    ("system-nodes", "system", 500, "ByUser", &["group:system:nodes"]),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &["user:system:kube-controller-manager"],
    ),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", &["user:system:kube-scheduler"]),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &["group:system:serviceaccounts:kube-system"],
    ),
    ("service-accounts", "workload-low", 9000, "ByUser", &["group:system:serviceaccounts"]),
    (
        "global-default",
        "global-default",
        9900,
        "ByUser",
        &["group:system:unauthenticated", "group:system:authenticated"],
    ),
    (
        "catch-all",
        "catch-all",
        10_000,
        "ByUser",
        &["group:system:unauthenticated", "group:system:authenticated"],
    ),
];

fn flow_schemas() -> Vec<Seed> {
    let schemas = SCHEMAS.into_iter().map(|(name, level, precedence, method, to)| {
        let subjects: Vec<Value> = to
            .iter()
            .filter_map(|to| to.split_once(':'))
            .map(|(kind, name)| match kind {
                "group" => json!({"kind": "Group", "group": {"name": name}}),
                _ => json!({"kind": "User", "user": {"name": name}}),
            })
            .collect();
        let mut rule = json!({"subjects": subjects});
        if name == "probes" {
            rule["nonResourceRules"] =
                json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]);
        } else {
            rule["resourceRules"] = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "clusterScope": true, "namespaces": ["*"]}]);
            rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        }
        let mut spec = json!({"priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence, "rules": [rule]});
        if !method.is_empty() {
            spec["distinguisherMethod"] = json!({"type": method});
        }
        (&FLOW_SCHEMA, kept(name, &spec))
    });
    schemas.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_out() {
        assert_eq!(
            rule("read core,apps/pods,pods/log"),
            json!({"verbs": READS, "apiGroups": ["", "apps"], "resources": ["pods", "pods/log"]})
        );
        assert_eq!(rule("* /*"), json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        assert_eq!(
            rule("sign certificates.k8s.io/signers=a.io/b,c"),
            json!({"verbs": ["sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
                "resourceNames": ["a.io/b", "c"]})
        );
        let all = roles().unwrap();
        let rules = |name: &str| {
            let found = all.iter().find(|(_, role)| role["metadata"]["name"] == name);
            found.unwrap().1["rules"].as_array().unwrap().len()
        };
        assert_eq!(rules("cluster-admin"), 2);
        assert!(rules("admin") > rules("edit") && rules("edit") > rules("view"));
        let binding = |(kind, object): &&Seed| {
            **kind == kind::CLUSTER_ROLE_BINDING
                && object["metadata"]["name"] == "system:controller:ttl-controller"
        };
        let subjects = &all.iter().find(binding).unwrap().1["subjects"];
        assert_eq!(
            subjects,
            &json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "ttl-controller"}])
        );
    }
}
