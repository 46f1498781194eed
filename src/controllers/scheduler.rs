//! The scheduler: chooses a virtual node for each pod that has none, filtered as Kubernetes does, spread evenly.
//!
//! One key stands for "everything that waits", so that each choice sees the former ones.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::json;

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document, pod::Pod,
        volume_binding::select_node,
    },
    model::{
        Object, ObjectKey, conditions::put_condition, kind, time::time_text,
        well_known::POD_SCHEDULED,
    },
    registry::View,
};

mod neighbours;
pub(crate) mod node;
mod preemption;
mod volumes;

use neighbours::{Neighbours, Rules};
use node::{FilterFailure, Node};
use preemption::{Preemption, PreemptionError, Snapshot};

/// Pods that one plan binds; the rest follows at once, on a newer view.
const BATCH: usize = 256;

pub(crate) static CONTROLLER: Controller = Controller {
    name: "default-scheduler",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::POD), keys: on_pod },
        Trigger { kind: Some(&kind::NODE), keys: on_any },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: on_any },
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME), keys: on_any },
    ],
    plan,
};

/// The one key of this controller.
fn everything() -> ObjectKey {
    ObjectKey::cluster(&kind::NODE, "")
}

/// A pod wakes the scheduler when it waits for a node, was just bound, or frees its place.
fn on_pod(view: &View, pod: &Object) -> Vec<ObjectKey> {
    let current = view.get(&pod.key).map(Pod::of);
    let settled = current.is_some_and(|pod| {
        !pod.facts.spec.node_name.is_empty() && !pod.is_finished() && is_marked_scheduled(&pod)
    });
    if settled { Vec::new() } else { vec![everything()] }
}

fn on_any(_: &View, _: &Object) -> Vec<ObjectKey> {
    vec![everything()]
}

fn is_marked_scheduled(pod: &Pod<'_>) -> bool {
    pod.condition(POD_SCHEDULED).is_some_and(|condition| condition.status == "True")
}

fn waits(pod: &Pod<'_>) -> bool {
    let spec = &pod.facts.spec;
    spec.node_name.is_empty()
        && pod.is_active()
        && spec.scheduling_gates.is_empty()
        && matches!(spec.scheduler_name.as_str(), "" | "default-scheduler")
}

fn plan(world: &World<'_>, _: &ObjectKey) -> Plan {
    let pods = || world.view.list(&kind::POD, None).map(Pod::of);
    let mut waiting: Vec<_> = pods().filter(waits).collect();
    let unmarked = pods().filter(|pod| {
        !pod.facts.spec.node_name.is_empty() && pod.is_active() && !is_marked_scheduled(pod)
    });
    let mut writes: Vec<_> =
        unmarked.take(BATCH).map(|pod| mark(&pod, world.now, None, "")).collect();
    if !waiting.is_empty() {
        let mut nodes = node::nodes(world.view);
        let all = pods().filter(|pod| !pod.facts.spec.node_name.is_empty() && !pod.is_finished());
        let mut neighbours = Neighbours::default();
        for pod in all {
            let name = pod.facts.spec.node_name.as_str();
            if let Some(node) = nodes.get_mut(name) {
                node.take(&pod);
                neighbours.add(name, &pod);
            }
        }
        // The most important first, then those for whom others went, then the oldest; names decide among equal ones.
        waiting.sort_by_key(|pod| {
            let claims = !pod.facts.status.nominated_node_name.is_empty();
            (Reverse(pod.facts.spec.priority), !claims, pod.created())
        });
        let more = waiting.len() > BATCH;
        for pod in waiting.into_iter().take(BATCH) {
            schedule(world, &pod, &mut nodes, &mut neighbours, &mut writes);
        }
        if more && !writes.is_empty() {
            return Plan { requeue: Some(std::time::Duration::ZERO), ..Plan::all(writes) };
        }
    }
    Plan::all(writes)
}

fn schedule<'a>(
    world: &World<'_>,
    pod: &Pod<'a>,
    nodes: &mut BTreeMap<String, Node>,
    neighbours: &mut Neighbours<'a>,
    writes: &mut Vec<Step>,
) {
    let Ok(typed) = pod.object.parse::<core::Pod>() else { return };
    let spec = typed.spec.unwrap_or_default();
    let rules = neighbours.rules(world.view, pod, &spec, nodes);
    match choose(pod, &spec, &rules, nodes) {
        Ok(name) if !rules.volumes.unbound.is_empty() => {
            // The volumes come first. The pod keeps its place meanwhile.
            writes.extend(rules.volumes.unbound.iter().filter_map(|c| select_node(c, &name)));
            if let Some(node) = nodes.get_mut(&name) {
                node.take(pod);
                neighbours.add(&name, pod);
            }
        }
        Ok(name) => {
            let mut document = document(pod.object);
            document["spec"]["nodeName"] = name.as_str().into();
            let (namespace, own) = (&pod.object.key.namespace, &pod.object.key.name);
            let message = format!("Successfully assigned {namespace}/{own} to {name}");
            let note = Step::note(pod.object, "Scheduled", message);
            let bind = Step::Bind(pod.object.key.clone(), document);
            // One pod that changed meanwhile is no reason to be silent about the others.
            writes.push(Step::Chain(vec![bind, note]));
            if let Some(node) = nodes.get_mut(&name) {
                node.take(pod);
                neighbours.add(&name, pod);
            }
        }
        Err(fit_error) => {
            let snapshot = Snapshot { world, nodes, neighbours };
            let refused = preemption::preempt(&snapshot, pod, &spec, &fit_error);
            let mut message = fit_error.message;
            let claim = match refused {
                Ok(Preemption { node, victims }) => {
                    let evict = |victim| preemption::evict(world, victim, pod, &node);
                    writes.extend(victims.iter().map(evict));
                    node
                }
                Err(PreemptionError { message: why, waits }) => {
                    if !nodes.is_empty() {
                        message = format!("{message} preemption: {why}");
                    }
                    let claim = &pod.facts.status.nominated_node_name;
                    if waits { claim.clone() } else { String::new() }
                }
            };
            // Nobody less important takes the place that becomes free.
            if let Some(node) = nodes.get_mut(&claim) {
                node.take(pod);
                neighbours.add(&claim, pod);
            }
            let condition = pod.condition(POD_SCHEDULED);
            let known = condition.is_some_and(|c| c.status == "False" && c.message == message);
            if !known || pod.facts.status.nominated_node_name != claim {
                let mark = mark(pod, world.now, Some(&message), &claim);
                let note = Step::warning(pod.object, "FailedScheduling", message);
                writes.push(Step::Chain(vec![mark, note]));
            }
        }
    }
}

/// Why a pod fits nowhere.
struct FitError {
    /// In Kubernetes' words.
    message: String,
    /// Nodes where the pod would fit if other pods were not there.
    resolvable: BTreeSet<String>,
    /// How many other nodes there are. Preemption does not help there.
    unresolvable: usize,
}

/// The best node, or why there is none.
fn choose(
    pod: &Pod<'_>,
    spec: &core::PodSpec,
    rules: &Rules,
    nodes: &BTreeMap<String, Node>,
) -> Result<String, FitError> {
    if nodes.is_empty() {
        let message = "no nodes available to schedule pods".to_owned();
        return Err(FitError { message, resolvable: BTreeSet::new(), unresolvable: 0 });
    }
    if let Some(reason) = &rules.volumes.unready {
        let message = format!("0/{} nodes are available: {reason}.", nodes.len());
        return Err(FitError { message, resolvable: BTreeSet::new(), unresolvable: nodes.len() });
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut fitting, mut resolvable) = (Vec::new(), BTreeSet::new());
    for node in nodes.values() {
        let failures = filter_failures(node, pod, spec, rules);
        if failures.is_empty() {
            fitting.push(node);
        } else if !failures.iter().any(|failure| failure.unresolvable) {
            resolvable.insert(node.name.clone());
        }
        for FilterFailure { reason, .. } in failures {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let group = node::group(pod);
    let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes.values() {
        *in_zone.entry(&node.zone).or_default() += node.count_of(&group);
    }
    let claim = &pod.facts.status.nominated_node_name;
    let crowding = |node: &&Node| {
        let wishes = node.preference(spec).saturating_add(rules.score(node));
        let crowd = (in_zone.get(&*node.zone).copied(), node.count_of(&group), node.pods);
        (node.name != *claim, Reverse(wishes), rules.crowding(node), crowd, node.name.clone())
    };
    if let Some(best) = fitting.into_iter().min_by_key(crowding) {
        return Ok(best.name.clone());
    }
    let unresolvable = nodes.len() - resolvable.len();
    Err(FitError { message: unavailable(nodes.len(), reasons), resolvable, unresolvable })
}

/// All reasons against a node. The affinity rules of other pods are checked only if there is no other reason.
fn filter_failures(
    node: &Node,
    pod: &Pod<'_>,
    spec: &core::PodSpec,
    rules: &Rules,
) -> Vec<FilterFailure> {
    let mut failures = node.filter_failures(spec, &pod.facts);
    if failures.is_empty() {
        failures.extend(rules.volumes.filter_failure(node));
    }
    if failures.is_empty() {
        failures.extend(rules.filter_failure(node));
    }
    failures
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 Too many pods.`
fn unavailable(all: usize, reasons: BTreeMap<String, usize>) -> String {
    let mut reasons: Vec<_> =
        reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{all} nodes are available: {}.", reasons.join(", "))
}

/// Sets the pod's PodScheduled condition, `False` with a message, and the node that it claims.
fn mark(pod: &Pod<'_>, now: Timestamp, message: Option<&str>, claim: &str) -> Step {
    let status = if message.is_none() { "True" } else { "False" };
    let mut document = document(pod.object);
    let old = pod.condition(POD_SCHEDULED).filter(|condition| condition.status == status);
    let since = old.and_then(|condition| condition.last_transition_time).unwrap_or(now);
    let mut condition =
        json!({"type": POD_SCHEDULED, "status": status, "lastTransitionTime": time_text(since)});
    if let Some(message) = message {
        condition["reason"] = "Unschedulable".into();
        condition["message"] = message.into();
    }
    put_condition(&mut document, condition);
    if document["status"]["phase"].is_null() {
        document["status"]["phase"] = "Pending".into();
    }
    if claim.is_empty() {
        document["status"].as_object_mut().and_then(|status| status.remove("nominatedNodeName"));
    } else {
        document["status"]["nominatedNodeName"] = claim.into();
    }
    Step::UpdateStatus(pod.object.key.clone(), document)
}

#[cfg(test)]
mod tests;
