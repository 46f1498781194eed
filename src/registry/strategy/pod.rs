//! Pods: defaults that admission adds on real clusters, quality of service, and which fields an update may change.

mod cells;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus, Toleration};

use crate::{
    model::{
        Cause, kind,
        pod::{all_containers, is_phase_terminal},
        quantity,
        well_known::POD_SCHEDULED,
    },
    registry::{
        Subresource,
        printing::Column,
        strategy::{
            BuiltIn, Context, Rules, address, as_named, checks,
            container_validation::Place,
            ephemeral_containers,
            fields::{fill, fill_text, is_empty, items, text},
            limit_ranger, pod_admission, pod_defaults, pod_validation, pod_warnings,
            priority_class::{Digest, PREEMPT, SYSTEM},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::POD,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Ready", "Containers that are ready, of all."),
        Column::text("Status", "What the pod is doing, from its phase and its containers' states."),
        Column::text("Restarts", "How often containers were restarted, and when the last one was."),
        Column::AGE,
        Column::text("IP", "First address of the pod.").wide(),
        Column::text("Node", "Node that runs the pod.").wide(),
        Column::text("Nominated Node", "Node on which others make room for the pod.").wide(),
        Column::text(
            "Readiness Gates",
            "Extra conditions that hold, of those that readiness needs.",
        )
        .wide(),
    ],
    cells: cells::cells,
    row_conditions: cells::row_conditions,
    selectable_fields: &[
        as_named("spec.nodeName"),
        as_named("spec.restartPolicy"),
        as_named("spec.schedulerName"),
        as_named("spec.serviceAccountName"),
        as_named("spec.hostNetwork"),
        as_named("status.phase"),
        as_named("status.podIP"),
        as_named("status.nominatedNodeName"),
    ],
    ..BuiltIn::STORED
};

static RULES: Rules<Pod> = Rules {
    default,
    admit: Some(admit),
    validate,
    refuse,
    warnings,
    grace_seconds,
    ..Rules::STORED
};

/// How long a pod stays on a node that is not ready or not reachable (admission plugin DefaultTolerationSeconds).
const TOLERATION_SECONDS: i64 = 300;
const NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const GRACE_SECONDS: i64 = 30;
/// The words of kube-apiserver about what an update may touch.
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
fn default(new: &mut Pod, old: Option<&Pod>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    pod_defaults::default_spec(spec);
    pod_defaults::default_pod_only(spec);
    if let Some(old) = old {
        let (new, old) = (new.status.as_mut(), old.status.as_ref());
        if let (Some(new), Some(class)) = (new, old.and_then(|old| old.qos_class.as_deref())) {
            fill_text(&mut new.qos_class, class);
        }
        return;
    }
    pod_defaults::merge_label_keys(spec, new.metadata.labels.as_ref());
    let qos_class = Some(qos_class(spec).to_owned());
    let conditions = (!is_empty(&spec.scheduling_gates)).then(|| vec![gated()]);
    new.status = Some(PodStatus {
        phase: Some("Pending".to_owned()),
        qos_class,
        conditions,
        ..PodStatus::default()
    });
}

/// What a pod says that no scheduler may look at yet.
fn gated() -> PodCondition {
    PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some("SchedulingGated".to_owned()),
        message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
        ..PodCondition::default()
    }
}

/// What the admission plugins of a real cluster add. On an update, so that one may leave it out.
fn admit(new: &mut Pod, old: Option<&Pod>, context: &Context<'_>) {
    let namespace = new.metadata.namespace.clone().unwrap_or_default();
    if old.is_none() {
        limit_ranger::add_defaults(new, context.view);
    }
    let spec = new.spec.get_or_insert_default();
    match old {
        None => {
            admit_new(spec, &namespace, context);
            let class = qos_class(spec).to_owned();
            new.status.get_or_insert_default().qos_class = Some(class);
        }
        Some(old) if context.subresource == Subresource::None => {
            tolerate_node_taints(spec);
            if let Some(old) = &old.spec {
                spec.priority = spec.priority.or(old.priority);
                spec.preemption_policy =
                    spec.preemption_policy.take().or(old.preemption_policy.clone());
            }
        }
        Some(_) => {}
    }
}

fn admit_new(spec: &mut PodSpec, namespace: &str, context: &Context<'_>) {
    fill_text(&mut spec.service_account_name, "default");
    pod_defaults::copy_service_account(spec);
    pod_admission::add_account(spec, namespace, context);
    if let Some(priority) = priority(spec, context) {
        spec.priority_class_name = Some(priority.class).filter(|name| !name.is_empty());
        fill(&mut spec.priority, priority.value);
        fill(&mut spec.preemption_policy, priority.preemption);
    }
    tolerate_node_taints(spec);
    pod_admission::add_runtime_class(spec, context);
}

fn tolerate_node_taints(spec: &mut PodSpec) {
    let tolerations = spec.tolerations.get_or_insert_default();
    for taint in NODE_TAINTS {
        if !tolerations.iter().any(|toleration| is_tolerated(toleration, taint)) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
}

/// What admission plugin Priority computes.
struct Priority {
    class: String,
    value: i32,
    preemption: String,
}

/// By the pod's class, else by the one that is the default; `None` when there is no such class.
fn priority(spec: &PodSpec, context: &Context<'_>) -> Option<Priority> {
    let name = text(&spec.priority_class_name);
    let classes = context.view.list(&kind::PRIORITY_CLASS, None);
    let mut classes = classes.map(|class| (class.key.name.clone(), class.digest::<Digest>()));
    let class = classes.find(|(own, class)| match name {
        "" => class.global_default,
        name => own == name,
    });
    let (class, value, preemption) = match class {
        Some((name, class)) => (name, class.value, class.preemption_policy.clone()),
        None if name.is_empty() => (String::new(), 0, String::new()),
        None => {
            // Every cluster has these, even before they are stored.
            let (name, value) = SYSTEM.iter().find(|(known, _)| *known == name)?;
            ((*name).to_owned(), *value, String::new())
        }
    };
    let preemption = if preemption.is_empty() { PREEMPT.to_owned() } else { preemption };
    Some(Priority { class, value, preemption })
}

/// As the admission plugins, in their order.
fn refuse(new: &Pod, old: Option<&Pod>, context: &Context<'_>) -> Option<String> {
    let spec = new.spec.as_ref().filter(|_| old.is_none())?;
    let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
    limit_ranger::refuse_pod(spec, namespace, context.view)
        .or_else(|| pod_admission::refuse_account(spec, namespace, context))
        .or_else(|| refuse_priority(spec, context))
        .or_else(|| pod_admission::refuse_node_selector(spec, context))
        .or_else(|| pod_admission::refuse_runtime_class(spec, context))
}

/// As admission plugin Priority.
fn refuse_priority(spec: &PodSpec, context: &Context<'_>) -> Option<String> {
    let Some(Priority { value, preemption, .. }) = priority(spec, context) else {
        let name = text(&spec.priority_class_name);
        return Some(format!("no PriorityClass with name {name} was found"));
    };
    let given = |what: &str, given: &str, right: &str| {
        format!(
            "the {what} ({given}) must not be provided in pod spec; priority admission controller computed {right} \
             from the given PriorityClass name"
        )
    };
    if let Some(own) = spec.priority.filter(|own| *own != value) {
        return Some(given("integer value of priority", &own.to_string(), &value.to_string()));
    }
    let own = text(&spec.preemption_policy);
    (own != preemption).then(|| given("string value of PreemptionPolicy", own, &preemption))
}

fn is_tolerated(toleration: &Toleration, taint: &str) -> bool {
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from cpu and memory of all containers, or of the pod as a whole if it says.
fn qos_class(spec: &PodSpec) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    let whole = spec.resources.as_ref();
    let whole = whole.filter(|own| {
        [&own.limits, &own.requests].into_iter().flatten().any(|amounts| !amounts.is_empty())
    });
    let all: Vec<_> = match whole {
        Some(whole) => vec![Some(whole)],
        None => all_containers(spec).map(|container| container.resources.as_ref()).collect(),
    };
    for resources in all {
        for resource in ["cpu", "memory"] {
            let amount = |limits: bool| {
                let resources = resources?;
                let map = if limits { &resources.limits } else { &resources.requests };
                quantity::nano(&map.as_ref()?.get(resource)?.0).filter(|amount| *amount > 0)
            };
            let (request, limit) = (amount(false), amount(true));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

fn validate(new: &Pod, old: Option<&Pod>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        if let Some(status) = &new.status {
            validate_status(&mut causes, status, old.and_then(|old| old.status.as_ref()));
        }
        return causes;
    }
    if context.subresource == Subresource::EphemeralContainers {
        let old = old.and_then(|old| old.spec.as_ref()).map(|old| items(&old.ephemeral_containers));
        ephemeral_containers::validate(&mut causes, spec, old.unwrap_or_default());
        return causes;
    }
    pod_validation::validate(&mut causes, "spec", spec, Place::Pod);
    match old.and_then(|old| old.spec.as_ref()) {
        Some(_) if context.subresource == Subresource::Binding => {}
        Some(old) => validate_update(&mut causes, spec, old),
        None => {
            if !is_empty(&spec.ephemeral_containers) {
                causes
                    .push(Cause::forbidden("spec.ephemeralContainers", "cannot be set on create"));
            }
            if !text(&spec.node_name).is_empty() && !is_empty(&spec.scheduling_gates) {
                let rule = "cannot be set until all schedulingGates have been cleared";
                causes.push(Cause::forbidden("spec.nodeName", rule));
            }
        }
    }
    causes
}

/// People make pods; what changes them later would not read it.
fn warnings(new: &Pod, old: Option<&Pod>) -> Vec<String> {
    if old.is_some() { Vec::new() } else { pod_warnings::of_pod(new) }
}

fn validate_status(causes: &mut Vec<Cause>, new: &PodStatus, old: Option<&PodStatus>) {
    if let Some(class) = old.and_then(|old| old.qos_class.as_ref()) {
        checks::immutable(causes, "status.qosClass", &new.qos_class, &Some(class.clone()));
    }
    for (i, ip) in items(&new.pod_ips).iter().enumerate() {
        address::ip(causes, &format!("status.podIPs[{i}]"), &ip.ip);
    }
    for (i, ip) in items(&new.host_ips).iter().enumerate() {
        address::ip(causes, &format!("status.hostIPs[{i}]"), &ip.ip);
    }
}

fn validate_update(causes: &mut Vec<Cause>, new: &PodSpec, old: &PodSpec) {
    for (field, new, old) in [
        ("spec.containers", new.containers.len(), old.containers.len()),
        (
            "spec.initContainers",
            items(&new.init_containers).len(),
            items(&old.init_containers).len(),
        ),
    ] {
        if new != old {
            causes.push(Cause::forbidden(field, "pod updates may not add or remove containers"));
            return;
        }
    }
    active_deadline(causes, new.active_deadline_seconds, old.active_deadline_seconds);
    tolerations(causes, items(&new.tolerations), items(&old.tolerations));
    let gates = items(&old.scheduling_gates);
    for (i, gate) in items(&new.scheduling_gates).iter().enumerate() {
        if !gates.contains(gate) {
            let rule =
                format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            causes.push(Cause::forbidden(format!("spec.schedulingGates[{i}].name"), &rule));
        }
    }
    let allowed = with_allowed_changes(new, old);
    if allowed != *old {
        let rule = format!("{UPDATABLE}\n{}", changed_fields(&allowed, old).join(", "));
        causes.push(Cause::forbidden("spec", &rule));
    }
}

fn active_deadline(causes: &mut Vec<Cause>, new: Option<i64>, old: Option<i64>) {
    let rule = match (new, old) {
        (Some(new), Some(old)) if new > old => "must be less than or equal to previous value",
        (None, Some(_)) => "must not update from a positive integer to nil value",
        _ => return,
    };
    causes.push(Cause::invalid("spec.activeDeadlineSeconds", new, rule));
}

fn tolerations(causes: &mut Vec<Cause>, new: &[Toleration], old: &[Toleration]) {
    let same = |a: &Toleration, b: &Toleration| {
        let toleration_seconds = b.toleration_seconds;
        Toleration { toleration_seconds, ..a.clone() } == *b
    };
    if !old.iter().all(|old| new.iter().any(|new| same(old, new))) {
        let rule = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", rule));
    }
}

/// The old spec with those changes of the new one that an update may make.
fn with_allowed_changes(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    for (new, old) in spec.containers.iter_mut().zip(&old.containers) {
        new.image.clone_from(&old.image);
    }
    for (new, old) in spec.init_containers.iter_mut().flatten().zip(items(&old.init_containers)) {
        new.image.clone_from(&old.image);
    }
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.scheduling_gates.clone_from(&old.scheduling_gates);
    spec.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && spec.termination_grace_period_seconds == Some(1)
    {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !is_empty(&old.scheduling_gates) {
        let kept = old.node_selector.iter().flatten();
        let selector = spec.node_selector.as_ref();
        if kept.into_iter().all(|(key, value)| selector.and_then(|s| s.get(key)) == Some(value)) {
            spec.node_selector.clone_from(&old.node_selector);
        }
    }
    spec
}

/// The names of the spec's fields that differ, for people who wonder what they changed.
fn changed_fields(new: &PodSpec, old: &PodSpec) -> Vec<String> {
    let (new, old) = (checks::shown(new), checks::shown(old));
    let names = new.as_object().into_iter().chain(old.as_object()).flat_map(|fields| fields.keys());
    let mut changed: Vec<String> =
        names.filter(|name| new[*name] != old[*name]).map(|name| format!("spec.{name}")).collect();
    changed.sort();
    changed.dedup();
    changed
}

/// A pod on a node ends there, in its own time; one that never ran, or is done, goes at once.
fn grace_seconds(pod: &Pod) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let phase = pod.status.as_ref().map(|status| text(&status.phase)).unwrap_or_default();
    let runs = !text(&spec.node_name).is_empty() && !is_phase_terminal(phase);
    runs.then(|| spec.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS))
}

#[cfg(test)]
mod tests;
