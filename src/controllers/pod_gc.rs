//! Pods that no node will ever end: those of nodes that are gone or out of service, those that end before they had a node,
//! and ended ones beyond a number.

use std::{cmp::Reverse, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, document, pod::Pod},
    model::{
        Object, ObjectKey,
        conditions::put_condition,
        kind,
        time::time_text,
        well_known::{DISRUPTION_TARGET, NODE_READY, PART_ANNOTATION},
    },
    registry::View,
};

/// Ended pods that are kept (kube-controller-manager's default for `--terminated-pod-gc-threshold`).
const ENDED_MAX: usize = 12_500;
/// A new pod may be bound before its node is there; it gets as long as with kube-controller-manager.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::POD), keys: concerned },
        Trigger { kind: Some(&kind::NODE), keys: pods_on },
    ],
    plan,
};

/// The key of all ended pods together, which is no pod's.
fn ended() -> ObjectKey {
    ObjectKey::new(&kind::POD, "", "")
}

/// The pod, and all ended ones when there may be too many.
fn concerned(view: &View, object: &Object) -> Vec<ObjectKey> {
    let mut keys = vec![object.key.clone()];
    if view.count(&kind::POD) > ENDED_MAX {
        keys.push(ended());
    }
    keys
}

/// The pods of a node that is gone or out of service.
fn pods_on(view: &View, node: &Object) -> Vec<ObjectKey> {
    let found = view.get(&node.key);
    if found.is_some_and(|found| !is_out_of_service(found)) {
        return Vec::new();
    }
    let pods = view.list(&kind::POD, None).map(Pod::of);
    let here = pods.filter(|pod| pod.facts.spec.node_name == node.key.name);
    here.map(|pod| pod.object.key.clone()).collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    if *key == ended() {
        return Plan::all(surplus(world, ENDED_MAX));
    }
    let Some(pod) = world.view.get(key).map(Pod::of) else { return Plan::nothing() };
    if pod.object.metadata.annotations.contains_key(PART_ANNOTATION) {
        return Plan::nothing();
    }
    let node = &pod.facts.spec.node_name;
    let terminating = pod.object.is_terminating();
    if node.is_empty() {
        return if terminating { collect(&pod, None) } else { Plan::nothing() };
    }
    match world.view.get(&ObjectKey::cluster(&kind::NODE, node.as_str())) {
        Some(node) if terminating && is_out_of_service(node) => collect(&pod, None),
        Some(_) => Plan::nothing(),
        None => orphaned(world, &pod),
    }
}

/// A pod whose node does not exist (any more).
fn orphaned(world: &World<'_>, pod: &Pod<'_>) -> Plan {
    // Who has been started had a node.
    let was_there = pod.facts.status.start_time.is_some() || pod.object.is_terminating();
    let age = pod.created().map_or(QUARANTINE, |created| world.now.duration_since(created));
    let left = QUARANTINE.saturating_sub(age);
    if !was_there && left.is_positive() {
        return Plan { requeue: Duration::try_from(left).ok(), ..Plan::nothing() };
    }
    let condition = json!({"type": DISRUPTION_TARGET, "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": time_text(world.now)});
    collect(pod, Some(condition))
}

/// Says that a pod has failed, unless it has ended, and removes it at once.
fn collect(pod: &Pod<'_>, condition: Option<Value>) -> Plan {
    if pod.is_finished() && pod.object.metadata.deletion_grace_period_seconds == Some(0) {
        // Only finalizers hold it.
        return Plan::nothing();
    }
    let mut steps = Vec::new();
    if !pod.is_finished() {
        let mut document = document(pod.object);
        document["status"]["phase"] = "Failed".into();
        if let Some(condition) = condition {
            put_condition(&mut document, condition);
        }
        steps.push(Step::UpdateStatus(pod.object.key.clone(), document));
    }
    // An ended pod has no grace period.
    steps.push(Step::delete(pod.object));
    steps.into()
}

/// Deletes the ended pods beyond `most`: evicted ones first, then the oldest.
fn surplus(world: &World<'_>, most: usize) -> Vec<Step> {
    let pods = world.view.list(&kind::POD, None).map(Pod::of);
    let mut ended: Vec<_> = pods.filter(Pod::is_finished).collect();
    let count = ended.len().saturating_sub(most);
    let evicted =
        |pod: &Pod<'_>| pod.facts.status.phase == "Failed" && pod.facts.status.reason == "Evicted";
    ended.sort_by_cached_key(|pod| {
        (Reverse(evicted(pod)), pod.created(), pod.object.key.name.clone())
    });
    ended.iter().take(count).map(|pod| Step::delete(pod.object)).collect()
}

fn is_out_of_service(node: &Object) -> bool {
    let Ok(node) = node.parse::<Node>() else { return false };
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == NODE_READY && c.status == "True");
    !ready && taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {conditions: [{type: Ready, status: \"True\"}]}
---
apiVersion: v1
kind: Node
metadata: {name: down}
spec: {taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]}
status: {conditions: [{type: Ready, status: Unknown}]}
";

    fn pod(name: &str, node: &str, status: &Value, deleted: bool) -> Value {
        let deletion = deleted.then_some("2026-01-01T00:00:00Z");
        let node = Some(node).filter(|node| !node.is_empty());
        json!({"apiVersion": "v1", "kind": "Pod", "status": status,
            "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}]}, "metadata": {"name": name, "deletionTimestamp": deletion,
                "finalizers": ["example.com/look"]}})
    }

    /// What becomes of a pod of this age: whether it is being deleted, its phase, its DisruptionTarget's reason, and how many
    /// seconds the collector waits.
    #[test]
    fn pods_that_no_node_ends() {
        let started = json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z"});
        let pending = json!({"phase": "Pending"});
        let done = json!({"phase": "Succeeded"});
        let gone = "DeletionByPodGC";
        for (node, status, deleted, age, expected) in [
            ("n1", &started, false, 60, (false, "Running", "", 0)),
            ("n1", &started, true, 60, (true, "Running", "", 0)),
            ("down", &started, false, 60, (false, "Running", "", 0)),
            ("down", &started, true, 60, (true, "Failed", "", 0)),
            ("away", &started, false, 5, (true, "Failed", gone, 0)),
            ("away", &pending, false, 5, (false, "Pending", "", 35)),
            ("away", &pending, false, 40, (true, "Failed", gone, 0)),
            ("away", &pending, true, 5, (true, "Failed", gone, 0)),
            ("away", &done, false, 60, (true, "Succeeded", "", 0)),
            ("", &pending, false, 60, (false, "Pending", "", 0)),
            ("", &pending, true, 60, (true, "Failed", "", 0)),
        ] {
            let mut cluster = Cluster::of(NODES);
            let key = cluster.insert(&pod("p", node, status, deleted));
            cluster.now += SignedDuration::from_secs(age);
            let plan = cluster.plan(&CONTROLLER, &key);
            let wait = plan.requeue.map_or(0, |wait| wait.as_secs());
            plan.steps.into_iter().for_each(|step| cluster.apply(step));
            let found = cluster.get(&key);
            let reason = found["status"]["conditions"][0]["reason"].as_str().unwrap_or_default();
            let phase = found["status"]["phase"].as_str().unwrap();
            let going = found["metadata"]["deletionTimestamp"].is_string();
            assert_eq!((going, phase, reason, wait), expected, "{node} {status} {deleted} {age}");
        }
    }

    #[test]
    fn parts_of_this_process_stay() {
        let mut cluster = Cluster::of(NODES);
        let mut part = pod("part", "away", &json!({"phase": "Running"}), true);
        part["metadata"]["annotations"] = json!({PART_ANNOTATION: "dns"});
        let key = cluster.insert(&part);
        assert_eq!(cluster.plan(&CONTROLLER, &key), Plan::nothing());
    }

    #[test]
    fn a_node_that_goes_wakes_its_pods() {
        let mut cluster = Cluster::of(NODES);
        for (name, node) in [("a", "n1"), ("b", "down"), ("c", "n1")] {
            cluster.insert(&pod(name, node, &json!({}), false));
        }
        let node = ObjectKey::cluster(&kind::NODE, "n1");
        let object = cluster.view.get(&node).unwrap().clone();
        assert_eq!(pods_on(&cluster.view, &object), []);
        cluster.remove(&node);
        let woken = pods_on(&cluster.view, &object).into_iter().map(|key| key.name);
        assert_eq!(woken.collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn the_oldest_ended_pods_go() {
        let mut cluster = Cluster::default();
        for (name, created, status) in [
            ("old", "2026-01-01T01:00:00Z", json!({"phase": "Succeeded"})),
            ("runs", "2026-01-01T00:00:00Z", json!({"phase": "Running"})),
            ("older", "2026-01-01T00:30:00Z", json!({"phase": "Failed"})),
            ("young", "2026-01-01T02:00:00Z", json!({"phase": "Failed"})),
            ("evicted", "2026-01-01T03:00:00Z", json!({"phase": "Failed", "reason": "Evicted"})),
        ] {
            cluster.now = created.parse().unwrap();
            cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod", "status": status,
                "metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "i"}]}}));
        }
        let world = World { view: &cluster.view, now: cluster.now, options: &cluster.options };
        let name = |step: &Step| match step {
            Step::Delete { key, .. } => key.name.clone(),
            other => panic!("{other:?}"),
        };
        let going = |most| surplus(&world, most).iter().map(name).collect::<Vec<_>>();
        assert_eq!(going(4), [""; 0]);
        assert_eq!(going(2), ["evicted", "older"]);
        assert_eq!(going(0), ["evicted", "older", "old", "young"]);
    }
}
