//! The scheduler: chooses a virtual node for each pod that has none, filtered as Kubernetes does, spread evenly.
//!
//! One key stands for "everything that waits", so that each choice sees the former ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document,
        pod::{Pod, Requests},
    },
    model::{Object, ObjectKey, kind},
    registry::View,
};

pub(crate) mod node;

use node::{Misfit, Node};

/// Pods that one plan binds; the rest follows at once, on a newer view.
const BATCH: usize = 256;

pub(crate) static CONTROLLER: Controller = Controller {
    name: "default-scheduler",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: &kind::POD, keys: on_pod },
        Trigger { kind: &kind::NODE, keys: on_node },
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

fn on_node(_: &View, _: &Object) -> Vec<ObjectKey> {
    vec![everything()]
}

fn is_marked_scheduled(pod: &Pod<'_>) -> bool {
    pod.condition("PodScheduled").is_some_and(|condition| condition.status == "True")
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
        unmarked.take(BATCH).map(|pod| mark(&pod, world.now, "True", None)).collect();
    if !waiting.is_empty() {
        let mut nodes = node::nodes(world.view);
        let all = pods().filter(|pod| !pod.facts.spec.node_name.is_empty() && !pod.is_finished());
        for pod in all {
            if let Some(node) = nodes.get_mut(pod.facts.spec.node_name.as_str()) {
                node.take(&pod);
            }
        }
        // The oldest first; names decide among equally old ones.
        waiting.sort_by_key(|pod| pod.created());
        let more = waiting.len() > BATCH;
        for pod in waiting.into_iter().take(BATCH) {
            schedule(&pod, &mut nodes, world.now, &mut writes);
        }
        if more && !writes.is_empty() {
            return Plan { requeue: Some(std::time::Duration::ZERO), ..Plan::all(writes) };
        }
    }
    Plan::all(writes)
}

fn schedule(
    pod: &Pod<'_>,
    nodes: &mut BTreeMap<String, Node>,
    now: Timestamp,
    writes: &mut Vec<Step>,
) {
    let Ok(typed) = pod.object.parse::<core::Pod>() else { return };
    let spec = typed.spec.unwrap_or_default();
    let requests = pod.facts.requests();
    match choose(pod, &spec, requests, nodes) {
        Ok(name) => {
            let mut document = document(pod.object);
            document["spec"]["nodeName"] = name.as_str().into();
            let (namespace, own) = (&pod.object.key.namespace, &pod.object.key.name);
            let message = format!("Successfully assigned {namespace}/{own} to {name}");
            let note = Step::note(pod.object, "Scheduled", message);
            let bind = Step::Update(pod.object.key.clone(), document);
            // One pod that changed meanwhile is no reason to be silent about the others.
            writes.push(Step::Chain(vec![bind, note]));
            if let Some(node) = nodes.get_mut(&name) {
                node.take(pod);
            }
        }
        Err(message) => {
            let condition = pod.condition("PodScheduled");
            let known = condition.is_some_and(|c| c.status == "False" && c.message == message);
            if !known {
                let mark = mark(pod, now, "False", Some(&message));
                let note = Step::warning(pod.object, "FailedScheduling", message);
                writes.push(Step::Chain(vec![mark, note]));
            }
        }
    }
}

/// The best node, or why there is none, in Kubernetes' words.
fn choose(
    pod: &Pod<'_>,
    spec: &core::PodSpec,
    requests: Requests,
    nodes: &BTreeMap<String, Node>,
) -> Result<String, String> {
    if nodes.is_empty() {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for node in nodes.values() {
        match node.misfits(spec, requests) {
            misfits if misfits.is_empty() => fitting.push(node),
            misfits => {
                for Misfit(reason) in misfits {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    let group = node::group(pod);
    let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes.values() {
        *in_zone.entry(&node.zone).or_default() += node.count_of(&group);
    }
    let crowding = |node: &&Node| {
        (in_zone.get(&*node.zone).copied(), node.count_of(&group), node.pods, node.name.clone())
    };
    if let Some(best) = fitting.into_iter().min_by_key(crowding) {
        return Ok(best.name.clone());
    }
    let reasons: Vec<_> =
        reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
}

/// Sets the pod's PodScheduled condition.
fn mark(pod: &Pod<'_>, now: Timestamp, status: &str, message: Option<&str>) -> Step {
    let mut document = document(pod.object);
    let old = pod.condition("PodScheduled").filter(|condition| condition.status == status);
    let since = old.and_then(|condition| condition.last_transition_time).unwrap_or(now);
    let mut condition = json!({"type": "PodScheduled", "status": status,
        "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    if let Some(message) = message {
        condition["reason"] = "Unschedulable".into();
        condition["message"] = message.into();
    }
    let conditions = document["status"]["conditions"].as_array_mut().map(std::mem::take);
    let mut conditions: Vec<Value> = conditions.unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
    document["status"]["conditions"] = conditions.into();
    if document["status"]["phase"].is_null() {
        document["status"]["phase"] = "Pending".into();
    }
    Step::UpdateStatus(pod.object.key.clone(), document)
}

#[cfg(test)]
mod tests;
