//! PodDisruptionBudgets: how many of the selected pods may go now. Evictions (`api/subresources/eviction`) ask.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{self as meta, Condition, Time},
        util::intstr::IntOrString,
    },
};
use serde::Deserialize;

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, earlier, itself, ownership, pod::Pod,
    },
    model::{
        LabelSelector, Object, ObjectKey, OwnerReference, conditions,
        kind::{self, Identity},
    },
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
        Trigger { kind: Some(&kind::POD_DISRUPTION_BUDGET), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: budgets },
        Trigger { kind: Some(&kind::DEPLOYMENT), keys: budgets },
        Trigger { kind: Some(&kind::REPLICA_SET), keys: budgets },
        Trigger { kind: Some(&kind::STATEFUL_SET), keys: budgets },
        Trigger { kind: Some(&kind::REPLICATION_CONTROLLER), keys: budgets },
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
    let pods: Vec<_> = selected.collect();
    let Bounds { expected, desired, unmanaged } = match bounds(world.view, &spec, &pods) {
        Ok(bounds) => bounds,
        Err(reason) => {
            // Nothing may go as long as that is so.
            let mut status =
                PodDisruptionBudgetStatus { disruptions_allowed: Some(0), ..old.clone() };
            set_condition(&mut status, world, object, false, "SyncFailed", &reason);
            let told = status != old;
            let message = format!("Failed to calculate the number of expected pods: {reason}");
            let note = Step::warning(object, "CalculateExpectedPodCountFailed", message);
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
        if unmanaged {
            let selector = spec.selector.as_ref().map(printed).unwrap_or_default();
            steps.push(Step::warning(object, "UnmanagedPods", unmanaged_pods(&selector)));
        }
        steps.extend(Step::status(object, &status));
    }
    Plan { steps, requeue: wait }
}

/// How many pods there should be, how many of them must stay healthy, and whether some have no controller that would tell.
#[derive(Debug, Default, PartialEq)]
struct Bounds {
    expected: i32,
    desired: i32,
    unmanaged: bool,
}

fn bounds(view: &View, spec: &PodDisruptionBudgetSpec, pods: &[Pod<'_>]) -> Result<Bounds, String> {
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => {
            let (expected, unmanaged) = expected(view, pods)?;
            let desired = expected.saturating_sub(scaled(unavailable, expected)).max(0);
            Ok(Bounds { expected, desired, unmanaged })
        }
        (None, Some(IntOrString::Int(available))) => {
            Ok(Bounds { expected: count, desired: *available, unmanaged: false })
        }
        (None, Some(available)) => {
            let (expected, unmanaged) = expected(view, pods)?;
            Ok(Bounds { expected, desired: scaled(available, expected), unmanaged })
        }
        (None, None) => Ok(Bounds::default()),
    }
}

fn unmanaged_pods(selector: &str) -> String {
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status \
         of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
         please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

/// A selector as Kubernetes prints it into messages.
fn printed(selector: &meta::LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.as_deref().unwrap_or_default().join(" ");
        let (key, operator) = (&expression.key, &expression.operator);
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
    });
    let expressions: String = expressions.collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
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

/// The wanted replicas of all that manages the pods, and whether nothing manages some. Those do not count.
fn expected(view: &View, pods: &[Pod<'_>]) -> Result<(i32, bool), String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    let mut unmanaged = false;
    for pod in pods {
        let Some(owner) = pod.object.controller() else {
            unmanaged = true;
            continue;
        };
        let manager = manager(view, pod.object).filter(|manager| manager.key.kind.has_scale);
        let Some(manager) = manager else {
            return Err(why_unscaled(view, &pod.object.key.name, owner));
        };
        let replicas = manager.parse::<Scaled>().unwrap_or_default().spec.replicas.unwrap_or(1);
        scales.insert(manager.metadata.uid.clone(), replicas);
    }
    Ok((scales.values().fold(0_i32, |sum, replicas| sum.saturating_add(*replicas)), unmanaged))
}

/// The last one in the row of controllers: a ReplicaSet's scale is decided by its Deployment.
fn manager<'a>(view: &'a View, object: &'a Object) -> Option<&'a Object> {
    let mut manager = None;
    let mut next = object;
    for _hop in 0..OWNERS_MAX {
        let Some(owner) = next.controller() else { break };
        let found = ownership::owner_key(view, next, owner).and_then(|key| view.get(&key));
        let Some(found) = found.filter(|found| found.metadata.uid == owner.uid) else { break };
        manager = Some(found.as_ref());
        next = found;
    }
    manager
}

/// Why nothing tells how many pods there should be.
fn why_unscaled(view: &View, pod: &str, owner: &OwnerReference) -> String {
    let OwnerReference { api_version, kind: name, .. } = owner;
    match view.kinds().by_api_version(api_version, name) {
        None => format!("no matches for kind {name:?} in version {api_version:?}"),
        Some(kind) if !kind.has_scale => {
            let Identity { group, version, plural, .. } = &**kind;
            format!("{group}/{version}, Resource={plural} does not implement the scale subresource")
        }
        Some(_) => format!("found no controllers for pod {pod:?}"),
    }
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
            wait = earlier(wait, left);
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
    let condition = Condition {
        type_: KIND.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(world.now),
        observed_generation: Some(object.metadata.generation),
    };
    conditions::set_condition(status.conditions.get_or_insert_default(), condition);
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

    /// A budget over the four ready pods of a ReplicaSet and a ready one of this owner.
    fn with_another(spec: &Value, owner: &Value) -> (Value, Vec<String>) {
        let mut cluster = Cluster::of(WEB);
        let key = ObjectKey::new(&kind::POD_DISRUPTION_BUDGET, "default", "web");
        cluster.edit(&key, |budget| json_patch::merge(&mut budget["spec"], spec));
        cluster.settle(&[&replica_set::CONTROLLER], |_| {});
        cluster.run_pods(4);
        let another = cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "i"}]},
            "metadata": {"name": "another", "labels": {"app": "web"}, "ownerReferences": owner}}));
        cluster.ready(&another);
        cluster.settle(&[&CONTROLLER], |_| {});
        (cluster.get(&key)["status"].clone(), cluster.events)
    }

    #[test]
    fn pods_without_a_controller_are_told_and_do_not_count() {
        let told = "UnmanagedPods Pods selected by this PodDisruptionBudget (selector: &LabelSelector{MatchLabels:\
            map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged. ";
        for (spec, (expected, desired, allowed), unmanaged) in [
            (json!({"maxUnavailable": 1}), (4, 3, 2), true),
            (json!({"minAvailable": "50%"}), (4, 2, 3), true),
            (json!({"minAvailable": 3}), (5, 3, 2), false),
        ] {
            let (status, events) = with_another(&spec, &json!([]));
            let counts =
                ["expectedPods", "desiredHealthy", "disruptionsAllowed"].map(|f| &status[f]);
            assert_eq!(counts, [&json!(expected), &json!(desired), &json!(allowed)], "{spec}");
            assert_eq!(status["currentHealthy"], 5);
            assert_eq!(status["conditions"][0]["reason"], "SufficientPods");
            assert_eq!(events.iter().any(|event| event.starts_with(told)), unmanaged, "{events:?}");
        }
    }

    #[test]
    fn selectors_in_messages() {
        let selector: meta::LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["x", "y"]},
                                 {"key": "d", "operator": "Exists"}]}))
            .unwrap();
        assert_eq!(
            printed(&selector),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:c,Operator:In,Values:[x y],},\
             LabelSelectorRequirement{Key:d,Operator:Exists,Values:[],},},}"
        );
    }

    #[test]
    fn controllers_without_a_scale_are_an_error() {
        for (version, name, why) in [
            ("batch/v1", "Job", "batch/v1, Resource=jobs does not implement the scale subresource"),
            ("example.com/v1", "Web", "no matches for kind \"Web\" in version \"example.com/v1\""),
            ("apps/v1", "ReplicaSet", "found no controllers for pod \"another\""),
        ] {
            let owner = json!([{"apiVersion": version, "kind": name, "name": "gone", "uid": "gone",
                "controller": true}]);
            let (status, events) = with_another(&json!({"maxUnavailable": 1}), &owner);
            let condition = &status["conditions"][0];
            assert_eq!(
                (&condition["reason"], &condition["message"]),
                (&json!("SyncFailed"), &json!(why))
            );
            assert_eq!(status["disruptionsAllowed"], 0);
            let event = format!(
                "CalculateExpectedPodCountFailed Failed to calculate the number of expected pods: {why}"
            );
            assert!(events.contains(&event), "{events:?}");
        }
    }
}
