//! PodDisruptionBudgets: how many of the selected pods may go now. Evictions (`api/subresources/eviction`) ask.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use serde::Deserialize;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership, pod::Pod},
    model::{LabelSelector, Object, ObjectKey, kind},
    registry::View,
};

/// Owners of owners that are looked at: clients may write references that lead in a circle.
const OWNERS_MAX: usize = 8;
/// An evicted pod that is still not terminating after this time was not evicted after all.
const DISRUPTION_MAX: SignedDuration = SignedDuration::from_mins(2);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "controllermanager",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: &kind::POD_DISRUPTION_BUDGET, keys: itself },
        Trigger { kind: &kind::POD, keys: budgets },
        Trigger { kind: &kind::DEPLOYMENT, keys: budgets },
        Trigger { kind: &kind::REPLICA_SET, keys: budgets },
        Trigger { kind: &kind::STATEFUL_SET, keys: budgets },
        Trigger { kind: &kind::REPLICATION_CONTROLLER, keys: budgets },
    ],
    plan,
};

/// All budgets of the namespace: there are few, and a budget depends on the scale of its pods' owners.
fn budgets(view: &View, object: &Object) -> Vec<ObjectKey> {
    let budgets = view.list(&kind::POD_DISRUPTION_BUDGET, Some(&object.key.namespace));
    budgets.map(|budget| budget.key.clone()).collect()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scaled {
    spec: ScaledSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScaledSpec {
    replicas: Option<i32>,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|object| !object.is_terminating()) else {
        return Plan::nothing();
    };
    let Some(budget) = world.view.parse::<PodDisruptionBudget>(key) else {
        return Plan::nothing();
    };
    let spec = budget.spec.unwrap_or_default();
    let old = budget.status.unwrap_or_default();
    let selector = spec.selector.as_ref().and_then(|s| LabelSelector::from_object(s).ok());
    let selected = selector.iter().flat_map(|selector| {
        world.view.matching(&kind::POD, &key.namespace, selector).map(Pod::of)
    });
    let pods: Vec<_> = selected.filter(|pod| !pod.is_finished()).collect();
    let (expected, desired) = match bounds(world.view, &spec, &pods) {
        Ok(bounds) => bounds,
        Err(reason) => {
            // Nothing may go as long as that is so.
            let mut status =
                PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..old.clone() };
            set_condition(&mut status, world, object, false, "SyncFailed", &reason);
            let told = status != old;
            let note = Step::warning(object, "CalculateExpectedPodCountFailed", reason);
            let steps = if told {
                Step::status(object, &status).into_iter().chain([note]).collect()
            } else {
                Vec::new()
            };
            return steps.into();
        }
    };
    let (disrupted, wait) = disrupted(world, &old, &pods);
    let healthy = |pod: &&Pod<'_>| {
        pod.is_ready()
            && !pod.object.is_terminating()
            && !disrupted.contains_key(&pod.object.key.name)
    };
    let healthy = i32::try_from(pods.iter().filter(healthy).count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        conditions: old.conditions.clone(),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: Some(object.metadata.generation),
    };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    set_condition(&mut status, world, object, allowed > 0, reason, "");
    let mut steps = Vec::new();
    if pods.is_empty() && old.observed_generation.is_none() {
        let message = "No matching pods found".to_owned();
        steps.push(Step::note(object, "NoPods", message));
    }
    if status != old {
        steps.extend(Step::status(object, &status));
    }
    Plan { steps, requeue: wait }
}

/// How many pods there should be, and how many of them must stay healthy.
fn bounds(
    view: &View,
    spec: &PodDisruptionBudgetSpec,
    pods: &[Pod<'_>],
) -> Result<(i32, i32), String> {
    let count = || i32::try_from(pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let expected = expected(view, pods)?;
            let unavailable = scaled(unavailable, expected);
            Ok((expected, expected.saturating_sub(unavailable).max(0)))
        }
        (None, Some(IntOrString::Int(available))) => Ok((count(), *available)),
        (None, Some(available)) => {
            let expected = expected(view, pods)?;
            Ok((expected, scaled(available, expected)))
        }
        (None, None) => Ok((count(), 0)),
    }
}

/// A count, or a percentage rounded up.
fn scaled(value: &IntOrString, of: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or(0);
            let product = percent.saturating_mul(of.into()).saturating_add(99);
            i32::try_from(product.div_euclid(100)).unwrap_or(i32::MAX)
        }
    }
}

/// The wanted replicas of all that manages the pods.
fn expected(view: &View, pods: &[Pod<'_>]) -> Result<i32, String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for pod in pods {
        let mut manager = None;
        let mut next = pod.object.as_ref();
        // A ReplicaSet's scale is decided by its Deployment.
        for _hop in 0..OWNERS_MAX {
            let Some(owner) = next.controller() else { break };
            let key = ownership::owner_key(next, owner);
            let found = key.and_then(|key| view.get(&key));
            let Some(found) = found.filter(|found| found.metadata.uid == owner.uid) else { break };
            manager = Some(found);
            next = found;
        }
        let Some(manager) = manager.filter(|manager| manager.key.kind.has_scale) else {
            let name = &pod.object.key.name;
            return Err(match pod.object.controller() {
                None => format!("found no controller ref for pod \"{name}\""),
                Some(owner) => {
                    format!(
                        "{}.{} does not implement the scale subresource",
                        owner.kind, owner.api_version
                    )
                }
            });
        };
        let replicas = manager.parse::<Scaled>().unwrap_or_default().spec.replicas.unwrap_or(1);
        scales.insert(manager.metadata.uid.clone(), replicas);
    }
    Ok(scales.values().fold(0_i32, |sum, replicas| sum.saturating_add(*replicas)))
}

/// Pods whose eviction was granted and whose deletion is still to be seen.
fn disrupted(
    world: &World<'_>,
    old: &PodDisruptionBudgetStatus,
    pods: &[Pod<'_>],
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut kept = BTreeMap::new();
    let mut wait: Option<Duration> = None;
    for (name, since) in old.disrupted_pods.iter().flatten() {
        let there =
            pods.iter().any(|pod| pod.object.key.name == *name && !pod.object.is_terminating());
        let left = DISRUPTION_MAX.saturating_sub(world.now.duration_since(since.0));
        if there && left.is_positive() {
            kept.insert(name.clone(), since.clone());
            let left = Duration::try_from(left).unwrap_or_default();
            wait = Some(wait.map_or(left, |sooner| sooner.min(left)));
        }
    }
    (kept, wait)
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    world: &World<'_>,
    object: &Object,
    holds: bool,
    reason: &str,
    message: &str,
) {
    const KIND: &str = "DisruptionAllowed";
    let value = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().find(|condition| condition.type_ == KIND);
    let since = old.filter(|old| old.status == value).map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: KIND.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(world.now)),
        observed_generation: Some(object.metadata.generation),
    };
    conditions.retain(|condition| condition.type_ != KIND);
    conditions.push(condition);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::{replica_set, testing::Cluster};

    const WEB: &str = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {nodeName: n1, containers: [{name: a, image: i}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}}
";

    fn status(spec: &Value, ready: usize) -> Value {
        let key = ObjectKey::new(&kind::POD_DISRUPTION_BUDGET, "default", "web");
        let mut cluster = Cluster::of(WEB);
        cluster.edit(&key, |budget| json_patch::merge(&mut budget["spec"], spec));
        cluster.settle(&[&replica_set::CONTROLLER], |_| {});
        cluster.run_pods(ready);
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.get(&key)["status"].clone()
    }

    #[test]
    fn counts() {
        for (spec, ready, (expected, desired, healthy, allowed)) in [
            (json!({"minAvailable": 3}), 4, (4, 3, 4, 1)),
            (json!({"minAvailable": 3}), 3, (4, 3, 3, 0)),
            (json!({"minAvailable": "50%"}), 4, (4, 2, 4, 2)),
            (json!({"maxUnavailable": 1}), 4, (4, 3, 4, 1)),
            (json!({"maxUnavailable": "30%"}), 4, (4, 2, 4, 2)),
            (json!({"maxUnavailable": 0}), 4, (4, 4, 4, 0)),
        ] {
            let status = status(&spec, ready);
            assert_eq!(
                (
                    &status["expectedPods"],
                    &status["desiredHealthy"],
                    &status["currentHealthy"],
                    &status["disruptionsAllowed"]
                ),
                (&json!(expected), &json!(desired), &json!(healthy), &json!(allowed)),
                "{spec}"
            );
            let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!(status["conditions"][0]["reason"], reason);
        }
    }

    #[test]
    fn owners_in_a_circle() {
        let key = ObjectKey::new(&kind::POD_DISRUPTION_BUDGET, "default", "web");
        let mut cluster = Cluster::of(WEB);
        cluster.edit(&key, |budget| budget["spec"]["maxUnavailable"] = 1.into());
        cluster.settle(&[&replica_set::CONTROLLER], |_| {});
        cluster.edit(&ObjectKey::new(&kind::REPLICA_SET, "default", "web"), |set| {
            set["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1",
                "kind": "ReplicaSet", "name": "web", "uid": set["metadata"]["uid"],
                "controller": true}]);
        });
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key)["status"]["expectedPods"], 4);
    }

    #[test]
    fn pods_without_a_scale() {
        let mut cluster = Cluster::of(WEB);
        let key = ObjectKey::new(&kind::POD_DISRUPTION_BUDGET, "default", "web");
        cluster.edit(&key, |budget| budget["spec"]["maxUnavailable"] = 1.into());
        cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "bare", "labels": {"app": "web"}}}));
        cluster.settle(&[&CONTROLLER], |_| {});
        let status = cluster.get(&key)["status"].clone();
        assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
        assert_eq!(status["disruptionsAllowed"], 0);
    }
}
