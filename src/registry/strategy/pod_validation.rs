//! Validation of pod specs, for Pods and for the templates of workloads. Containers are in
//! [`container_validation`], what workloads share in [`template`].

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{
        Affinity, PodAffinityTerm, PodDNSConfig, PodSpec, PodTemplateSpec, Toleration,
        TopologySpreadConstraint,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde_json::json;

use crate::{
    model::{self, Cause},
    registry::strategy::{
        address, checks,
        container_validation::{self, Place},
        fields::{is_empty, items, text},
        metadata::NameForm,
        resource_validation, security_validation, volume_validation,
    },
};

/// Linux's own limit.
const HOSTNAME_MAX: usize = 64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
pub(super) const TAINT_EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// All rules of a pod spec.
pub(super) fn validate(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec, place: Place) {
    let at = |field: &str| format!("{path}.{field}");
    let volumes = volume_validation::volumes(causes, path, spec);
    container_validation::containers(causes, path, spec, &volumes, place);
    host_ports(causes, path, spec, place);
    security_validation::of_pod(causes, path, spec);
    resource_validation::of_pod(causes, path, spec);
    let policies = ["Always", "OnFailure", "Never"];
    checks::required_one_of(causes, &at("restartPolicy"), text(&spec.restart_policy), &policies);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    checks::required_one_of(causes, &at("dnsPolicy"), text(&spec.dns_policy), &policies);
    checks::labels(causes, &at("nodeSelector"), spec.node_selector.as_ref());
    if let Some(affinity) = &spec.affinity {
        validate_affinity(causes, &at("affinity"), affinity);
    }
    dns_config(causes, &at("dnsConfig"), spec.dns_config.as_ref(), text(&spec.dns_policy));
    for (i, gate) in items(&spec.readiness_gates).iter().enumerate() {
        let field = format!("{path}.readinessGates[{i}].conditionType");
        checks::qualified_name(causes, &field, &gate.condition_type);
    }
    let mut gates = BTreeSet::new();
    for (i, gate) in items(&spec.scheduling_gates).iter().enumerate() {
        let field = format!("{path}.schedulingGates[{i}]");
        checks::qualified_name(causes, &field, &gate.name);
        if !gates.insert(&gate.name) {
            causes.push(Cause::duplicate(field, gate.name.as_str()));
        }
    }
    spread_constraints(causes, path, items(&spec.topology_spread_constraints));
    names(causes, path, spec);
    for (i, toleration) in items(&spec.tolerations).iter().enumerate() {
        validate_toleration(causes, &format!("{path}.tolerations[{i}]"), toleration);
    }
    for (i, alias) in items(&spec.host_aliases).iter().enumerate() {
        let field = format!("{path}.hostAliases[{i}]");
        address::ip(causes, &format!("{field}.ip"), &alias.ip);
        for (j, name) in items(&alias.hostnames).iter().enumerate() {
            let field = format!("{field}.hostnames[{j}]");
            checks::name(causes, &field, name, NameForm::Subdomain);
        }
    }
}

/// The rules of a workload's `spec.template`, `path` being the template's.
pub(super) fn template(
    causes: &mut Vec<Cause>,
    path: &str,
    template: &PodTemplateSpec,
    selector: &LabelSelector,
) {
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    match model::LabelSelector::from_object(selector) {
        Err(_) => causes.push(Cause::invalid(
            "spec.selector",
            checks::shown(selector),
            "invalid label selector",
        )),
        Ok(parsed) => {
            let own = labels.cloned().unwrap_or_default();
            if parsed.is_empty() || !parsed.matches(&own) {
                let rule = "`selector` does not match template `labels`";
                let field = format!("{path}.metadata.labels");
                causes.push(Cause::invalid(field, json!(labels), rule));
            }
        }
    }
    template_alone(causes, path, template);
    let policy = template.spec.as_ref().map_or("", |spec| text(&spec.restart_policy));
    if policy != "Always" {
        let field = format!("{path}.spec.restartPolicy");
        causes.push(Cause::not_supported(field, policy, &["Always"]));
    }
}

/// The rules of a template that has no selector and any restart policy.
pub(super) fn template_alone(causes: &mut Vec<Cause>, path: &str, template: &PodTemplateSpec) {
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    checks::labels(causes, &format!("{path}.labels"), labels);
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    for key in annotations.into_iter().flatten().map(|(key, _)| key.to_lowercase()) {
        checks::qualified_name(causes, &format!("{path}.annotations"), &key);
    }
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    validate(causes, &format!("{path}.spec"), spec, Place::Template);
    if !is_empty(&spec.ephemeral_containers) {
        let rule = "ephemeral containers not allowed in pod template";
        causes.push(Cause::forbidden(format!("{path}.spec.ephemeralContainers"), rule));
    }
}

fn host_ports(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec, place: Place) {
    if spec.host_network != Some(true) {
        return;
    }
    for (i, container) in spec.containers.iter().enumerate() {
        for (j, port) in items(&container.ports).iter().enumerate() {
            let host = port.host_port.unwrap_or_default();
            if (place == Place::Pod || host != 0) && host != port.container_port {
                let field = format!("{path}.containers[{i}].ports[{j}].hostPort");
                let rule = "must match `containerPort` when `hostNetwork` is true";
                causes.push(Cause::invalid(field, host, rule));
            }
        }
    }
}

fn names(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) {
    let at = |field: &str| format!("{path}.{field}");
    let subdomains =
        [("serviceAccountName", &spec.service_account_name), ("nodeName", &spec.node_name)];
    for (field, name) in subdomains {
        if !text(name).is_empty() {
            checks::name(causes, &at(field), text(name), NameForm::Subdomain);
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let rule = format!("must be between 1 and {}, inclusive", i32::MAX);
        causes.push(Cause::invalid(at("activeDeadlineSeconds"), seconds, &rule));
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if !text(name).is_empty() {
            checks::label(causes, &at(field), text(name));
        }
    }
    hostname_override(causes, path, spec);
    let subdomains = [
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ];
    for (field, name) in subdomains {
        if !text(name).is_empty() {
            checks::name(causes, &at(field), text(name), NameForm::Subdomain);
        }
    }
    if let Some(policy) = &spec.preemption_policy {
        let policies = ["PreemptLowerPriority", "Never"];
        checks::required_one_of(causes, &at("preemptionPolicy"), policy, &policies);
    }
}

/// Its rules are those of the field's documentation.
fn hostname_override(causes: &mut Vec<Cause>, path: &str, spec: &PodSpec) {
    let name = text(&spec.hostname_override);
    if name.is_empty() {
        return;
    }
    let field = format!("{path}.hostnameOverride");
    if name.len() > HOSTNAME_MAX {
        causes.push(Cause::too_long(field.as_str(), HOSTNAME_MAX));
    }
    checks::name(causes, &field, name, NameForm::Subdomain);
    for (broken, other) in [
        (spec.set_hostname_as_fqdn == Some(true), "setHostnameAsFQDN"),
        (spec.host_network == Some(true), "hostNetwork"),
    ] {
        if broken {
            let rule = format!("may not be specified when `{other}` is true");
            causes.push(Cause::forbidden(field.as_str(), &rule));
        }
    }
}

fn dns_config(causes: &mut Vec<Cause>, path: &str, config: Option<&PodDNSConfig>, policy: &str) {
    let Some(config) = config else {
        if policy == "None" {
            let rule = "must provide `dnsConfig` when `dnsPolicy` is None";
            causes.push(Cause::required(path, rule));
        }
        return;
    };
    let (servers, searches) = (items(&config.nameservers), items(&config.searches));
    if policy == "None" && servers.is_empty() {
        let rule = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        causes.push(Cause::required(format!("{path}.nameservers"), rule));
        return;
    }
    let characters = searches.join(" ").len();
    for (broken, field, value, rule) in [
        (
            servers.len() > NAMESERVERS_MAX,
            "nameservers",
            json!(servers),
            format!("must not have more than {NAMESERVERS_MAX} nameservers"),
        ),
        (
            searches.len() > SEARCHES_MAX,
            "searches",
            json!(searches),
            format!("must not have more than {SEARCHES_MAX} search paths"),
        ),
        (
            characters > SEARCH_CHARACTERS_MAX,
            "searches",
            json!(searches),
            format!(
                "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
            ),
        ),
    ] {
        if broken {
            causes.push(Cause::invalid(format!("{path}.{field}"), value, &rule));
        }
    }
    for (i, server) in servers.iter().enumerate() {
        address::ip(causes, &format!("{path}.nameservers[{i}]"), server);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        // Underscores are allowed here, as resolvers do.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        checks::name(causes, &format!("{path}.searches[{i}]"), &name, NameForm::Subdomain);
    }
    for (i, option) in items(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            causes.push(Cause::required(format!("{path}.options[{i}]"), "must not be empty"));
        }
    }
}

fn validate_affinity(causes: &mut Vec<Cause>, path: &str, affinity: &Affinity) {
    if let Some(node) = &affinity.node_affinity
        && let Some(required) = &node.required_during_scheduling_ignored_during_execution
        && required.node_selector_terms.is_empty()
    {
        let field = "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let rule = "must have at least one node selector term";
        causes.push(Cause::required(format!("{path}.{field}"), rule));
    }
    let terms = |required: &Option<Vec<PodAffinityTerm>>| required.clone().unwrap_or_default();
    let near = affinity.pod_affinity.as_ref();
    let near = near.map(|a| terms(&a.required_during_scheduling_ignored_during_execution));
    let far = affinity.pod_anti_affinity.as_ref();
    let far = far.map(|a| terms(&a.required_during_scheduling_ignored_during_execution));
    for (field, terms) in [("podAffinity", near), ("podAntiAffinity", far)] {
        for (i, term) in terms.iter().flatten().enumerate() {
            let field =
                format!("{path}.{field}.requiredDuringSchedulingIgnoredDuringExecution[{i}]");
            if let Some(selector) = &term.label_selector {
                checks::selector(causes, &format!("{field}.labelSelector"), selector);
            }
            topology_key(causes, &format!("{field}.topologyKey"), &term.topology_key);
        }
    }
}

fn topology_key(causes: &mut Vec<Cause>, path: &str, key: &str) {
    if key.is_empty() {
        causes.push(Cause::required(path, "can not be empty"));
    } else {
        checks::qualified_name(causes, path, key);
    }
}

fn spread_constraints(
    causes: &mut Vec<Cause>,
    path: &str,
    constraints: &[TopologySpreadConstraint],
) {
    let mut seen = BTreeSet::new();
    for (i, constraint) in constraints.iter().enumerate() {
        let field = format!("{path}.topologySpreadConstraints[{i}]");
        if constraint.max_skew <= 0 {
            let field = format!("{field}.maxSkew");
            causes.push(Cause::invalid(field, constraint.max_skew, "must be greater than zero"));
        }
        topology_key(causes, &format!("{field}.topologyKey"), &constraint.topology_key);
        let (key, action) = (&constraint.topology_key, &constraint.when_unsatisfiable);
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        checks::one_of(causes, &format!("{field}.whenUnsatisfiable"), action, &actions);
        if !seen.insert((key, action)) {
            let field = format!("{field}.{{topologyKey, whenUnsatisfiable}}");
            causes.push(Cause::duplicate(field, format!("{{{key}, {action}}}")));
        }
        if let Some(selector) = &constraint.label_selector {
            checks::selector(causes, &format!("{field}.labelSelector"), selector);
        }
    }
}

fn validate_toleration(causes: &mut Vec<Cause>, path: &str, toleration: &Toleration) {
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    let operator_field = format!("{path}.operator");
    let effect_field = format!("{path}.effect");
    if !key.is_empty() {
        checks::qualified_name(causes, &format!("{path}.key"), key);
    } else if operator != "Exists" {
        let rule = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        causes.push(Cause::invalid(operator_field.as_str(), operator, rule));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        causes.push(Cause::invalid(effect_field.as_str(), effect, rule));
    }
    match operator {
        "" | "Equal" => checks::label_value(causes, &operator_field, value),
        "Exists" if !value.is_empty() => {
            let rule = "value must be empty when `operator` is 'Exists'";
            causes.push(Cause::invalid(operator_field, value, rule));
        }
        "Exists" => {}
        other => checks::one_of(causes, &operator_field, other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        checks::one_of(causes, &effect_field, effect, TAINT_EFFECTS);
    }
}
