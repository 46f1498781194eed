//! `NoExecute` taints: pods that do not tolerate them are deleted, at once or after `tolerationSeconds`.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1 as core;

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, earlier, itself, pod::Pod,
        scheduler::node::tolerates,
    },
    model::{Object, ObjectKey, kind, well_known::PART_ANNOTATION},
    registry::View,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "taint-eviction-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::POD), keys: itself },
        Trigger { kind: Some(&kind::NODE), keys: pods_on },
    ],
    plan,
};

fn has_no_execute(node: &Object) -> bool {
    let node: Option<core::Node> = node.parse().ok();
    let taints = node.and_then(|node| node.spec?.taints).unwrap_or_default();
    taints.iter().any(|taint| taint.effect == "NoExecute")
}

fn pods_on(view: &View, node: &Object) -> Vec<ObjectKey> {
    if !has_no_execute(node) {
        return Vec::new();
    }
    let pods = view.list(&kind::POD, None).map(Pod::of);
    let here = pods.filter(|pod| pod.facts.spec.node_name == node.key.name);
    here.map(|pod| pod.object.key.clone()).collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let pod = world.view.get(key).map(Pod::of);
    let bound = |pod: &Pod<'_>| pod.is_active() && !pod.facts.spec.node_name.is_empty();
    let Some(pod) = pod.filter(bound) else { return Plan::nothing() };
    if pod.object.metadata.annotations.contains_key(PART_ANNOTATION) {
        return Plan::nothing();
    }
    let node = ObjectKey::cluster(&kind::NODE, pod.facts.spec.node_name.as_str());
    let Some(node) = world.view.parse::<core::Node>(&node) else { return Plan::nothing() };
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let mut taints = taints.iter().filter(|taint| taint.effect == "NoExecute").peekable();
    if taints.peek().is_none() {
        return Plan::nothing();
    }
    let Ok(typed) = pod.object.parse::<core::Pod>() else { return Plan::nothing() };
    let tolerations = typed.spec.and_then(|spec| spec.tolerations).unwrap_or_default();
    let mut wait: Option<SignedDuration> = None;
    for taint in taints {
        let Some(left) = left(world, taint, &tolerations) else { continue };
        wait = earlier(wait, left);
    }
    match wait {
        None => Plan::nothing(),
        Some(left) if left.is_positive() => {
            Plan { requeue: Duration::try_from(left).ok(), ..Plan::nothing() }
        }
        Some(_now) => {
            let name = format!("{}/{}", key.namespace, key.name);
            let message = format!("Marking for deletion Pod {name}");
            let note = Step::note(pod.object, "TaintManagerEviction", message);
            vec![note, Step::delete(pod.object)].into()
        }
    }
}

/// How long a taint is still tolerated: for ever (`None`), for a while, or not at all.
fn left(
    world: &World<'_>,
    taint: &core::Taint,
    tolerations: &[core::Toleration],
) -> Option<SignedDuration> {
    let fitting: Vec<_> =
        tolerations.iter().filter(|t| tolerates(std::slice::from_ref(*t), taint)).collect();
    if fitting.is_empty() {
        return Some(SignedDuration::ZERO);
    }
    let seconds = fitting.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    let since = taint.time_added.as_ref().map_or(world.now, |time| time.0);
    let tolerated = SignedDuration::from_secs(seconds.max(0));
    Some(tolerated.saturating_sub(world.now.duration_since(since)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn pods_go_when_they_must() {
        let mut cluster = Cluster::default();
        cluster.insert(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "spec": {"taints": [{"key": "broken", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]}}));
        let tolerations = [
            ("strict", json!([])),
            (
                "patient",
                json!([{"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]),
            ),
            ("brave", json!([{"operator": "Exists"}])),
        ];
        for (name, tolerations) in tolerations {
            cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"nodeName": "n1", "tolerations": tolerations,
                    "containers": [{"name": "a", "image": "i"}]}}));
        }
        let going = |cluster: &Cluster| -> Vec<String> {
            let going = cluster.view.list(&kind::POD, None).filter(|pod| pod.is_terminating());
            going.map(|pod| pod.key.name.clone()).collect()
        };
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(going(&cluster), ["strict"]);
        let patient = ObjectKey::new(&kind::POD, "default", "patient");
        assert_eq!(cluster.plan(&CONTROLLER, &patient).requeue, Some(Duration::from_mins(1)));
        cluster.now += SignedDuration::from_secs(60);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(going(&cluster), ["patient", "strict"]);
    }
}
