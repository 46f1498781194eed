//! What workloads share: the pod template, its selector, and status counts.

use k8s_openapi::{
    api::core::v1::PodTemplateSpec,
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use crate::{
    model::Cause,
    registry::strategy::{
        checks,
        fields::{is_empty, text},
        pod_defaults, pod_validation,
    },
};

/// Defaults of `spec.template`.
pub(super) fn default_template(template: &mut PodTemplateSpec) {
    pod_defaults::default_spec(template.spec.get_or_insert_default());
}

/// `spec.selector` and `spec.template`, which must fit together.
pub(super) fn selector_and_template(
    causes: &mut Vec<Cause>,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    kind: &str,
) {
    const TEMPLATE: &str = "spec.template";
    if selector.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && is_empty(&selector.match_expressions)
    {
        causes.push(Cause::required("spec.selector", ""));
    }
    checks::selector(causes, "spec.selector", selector);
    pod_validation::template(causes, TEMPLATE, template, selector);
    let deadline = template.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    if deadline.is_some() {
        // kube-apiserver speaks of ReplicaSets when it means Deployments.
        let kind = if kind == "Deployment" { "ReplicaSet" } else { kind };
        let rule = format!("activeDeadlineSeconds in {kind} is not Supported");
        let field = format!("{TEMPLATE}.spec.activeDeadlineSeconds");
        causes.push(Cause::forbidden(field, &rule));
    }
}

/// The counts of ReplicaSets and ReplicationControllers: all, then those that are fully labeled, ready and available.
pub(super) fn validate_replicas(causes: &mut Vec<Cause>, all: i32, parts: [Option<i32>; 3]) {
    let [labeled, ready, available] = parts;
    let counts = [
        ("replicas", Some(all)),
        ("fullyLabeledReplicas", labeled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ];
    validate_counts(causes, &counts);
}

/// Counts in a status are not negative. Of those that are parts, none is larger than `replicas`, the first count, and there
/// are no more available than ready ones.
pub(super) fn validate_counts(causes: &mut Vec<Cause>, counts: &[(&str, Option<i32>)]) {
    for (field, count) in counts {
        checks::not_negative(causes, &format!("status.{field}"), *count);
    }
    let count = |name: &str| counts.iter().find(|(field, _)| *field == name)?.1;
    let all = count("replicas").unwrap_or_default();
    let mut not_above = |field: &str, bound: i32, rule: &str| {
        if let Some(count) = count(field).filter(|count| *count > bound) {
            causes.push(Cause::invalid(format!("status.{field}"), count, rule));
        }
    };
    const PARTS: [&str; 5] = [
        "updatedReplicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "currentReplicas",
        "availableReplicas",
    ];
    for (field, _) in counts.iter().filter(|(field, _)| PARTS.contains(field)) {
        not_above(field, all, "cannot be greater than status.replicas");
    }
    let ready = count("readyReplicas").unwrap_or_default();
    not_above("availableReplicas", ready, "cannot be greater than readyReplicas");
}

/// A `spec.serviceName`, when there is one.
pub(super) fn service_name(causes: &mut Vec<Cause>, name: &Option<String>) {
    if !text(name).is_empty() {
        checks::label(causes, "spec.serviceName", text(name));
    }
}

/// Whether a count or percentage is zero.
pub(super) fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(number) => *number == 0,
        // Go takes a text that is no number for zero.
        IntOrString::String(text) => {
            let number = text.strip_suffix('%').unwrap_or(text);
            number.parse::<i64>().unwrap_or_default() == 0
        }
    }
}
