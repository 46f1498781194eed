//! ReplicaSets: as many pods as `spec.replicas` says, made from the template.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use serde_json::Value;

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership, pod::Pod, template,
        to_value,
    },
    model::{LabelSelector, Object, ObjectKey, kind},
    registry::View,
};

/// Pods that one plan creates or deletes at most, as in Kubernetes.
const BURST: usize = 500;
/// The condition of one that could not have its pods.
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Pods with a higher cost are deleted later.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::REPLICA_SET), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: sets_of_pod },
    ],
    plan,
};

fn sets_of_pod(view: &View, pod: &Object) -> Vec<ObjectKey> {
    ownership::managers(view, &kind::REPLICA_SET, pod)
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(set) = world.view.parse::<ReplicaSet>(key) else { return Plan::nothing() };
    plan_set(world, object, &set, to_value)
}

/// Plans a ReplicaSet, or what can be read as one; `shown` is how its kind writes the status.
pub(crate) fn plan_set(
    world: &World<'_>,
    object: &Object,
    set: &ReplicaSet,
    shown: impl FnOnce(&ReplicaSetStatus) -> Value,
) -> Plan {
    let Some(spec) = &set.spec else { return Plan::nothing() };
    let selected = ownership::selected(world.view, &kind::POD, object, &spec.selector);
    let (_selector, claimed) = match selected {
        Ok(selected) => selected,
        Err(plan) => return plan,
    };
    let pods: Vec<_> = claimed.into_iter().map(Pod::of).collect();
    let mut steps = Vec::new();
    if !object.is_terminating() {
        let active: Vec<_> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        if active.len() < wanted {
            steps = create(world, object, spec, wanted - active.len());
        } else if active.len() > wanted {
            steps = delete(world, object, &active, wanted);
        }
    }
    let mut status = status(world, object, set, spec, &pods);
    if steps.is_empty()
        && let Some(conditions) = &mut status.conditions
    {
        conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    if set.status.as_ref() != Some(&status) {
        steps.splice(0..0, Step::status(object, &shown(&status)));
    }
    Plan { steps, requeue: next_available(world.now, spec, &pods) }
}

fn create(world: &World<'_>, object: &Object, spec: &ReplicaSetSpec, count: usize) -> Vec<Step> {
    let Some(template) = &spec.template else { return Vec::new() };
    let base = format!("{}-", object.key.name);
    let free = |name: &String| {
        world.view.get(&ObjectKey::new(&kind::POD, &*object.key.namespace, name.as_str())).is_none()
    };
    let names = (0_u32..)
        .map(|n| template::generated_name(&base, &(&object.metadata.uid, world.now, n)))
        .filter(free)
        .take(count.min(BURST));
    let (mut pods, mut notes) = (Vec::new(), Vec::new());
    for name in names {
        let mut pod = template::pod(template, object);
        pod["metadata"]["generateName"] = base.as_str().into();
        pod["metadata"]["name"] = name.as_str().into();
        notes.push(Step::note(object, "SuccessfulCreate", format!("Created pod: {name}")));
        pods.push(Step::Create(kind::POD.clone(), pod));
    }
    vec![Step::All(pods), Step::All(notes)]
}

fn delete(world: &World<'_>, object: &Object, active: &[Pod<'_>], wanted: usize) -> Vec<Step> {
    let count = (active.len() - wanted).min(BURST);
    let neighbours = pods_per_node(world.view, object);
    let mut ranked: Vec<_> =
        active.iter().map(|pod| (deletion_rank(pod, &neighbours, world.now), pod)).collect();
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut pods, mut notes) = (Vec::new(), Vec::new());
    for (_, pod) in ranked.into_iter().take(count) {
        let message = format!("Deleted pod: {}", pod.object.key.name);
        notes.push(Step::note(object, "SuccessfulDelete", message));
        pods.push(Step::delete(pod.object));
    }
    vec![Step::All(pods), Step::All(notes)]
}

/// Active pods of all ReplicaSets that belong to the same owner, by node.
fn pods_per_node(view: &View, set: &Object) -> BTreeMap<String, usize> {
    let owner = set.controller().map(|owner| owner.uid.as_str());
    let siblings = owner.into_iter().flat_map(|uid| {
        view.controlled_by(&kind::REPLICA_SET, &set.key.namespace, uid)
            .map(|sibling| sibling.metadata.uid.as_str())
    });
    let mut uids: Vec<_> = siblings.collect();
    if uids.is_empty() {
        uids.push(&set.metadata.uid);
    }
    let mut count = BTreeMap::new();
    for uid in uids {
        let pods = view.controlled_by(&kind::POD, &set.key.namespace, uid).map(Pod::of);
        for pod in pods.filter(Pod::is_active) {
            *count.entry(pod.facts.spec.node_name.clone()).or_default() += 1;
        }
    }
    count
}

/// The smaller, the sooner deleted: Kubernetes' order of `ActivePodsWithRanks`.
fn deletion_rank(
    pod: &Pod<'_>,
    neighbours: &BTreeMap<String, usize>,
    now: Timestamp,
) -> impl Ord + use<> {
    let phase = match pod.facts.status.phase.as_str() {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let ready = pod.is_ready();
    let cost = pod.object.metadata.annotations.get(DELETION_COST);
    let cost = cost.and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    let node = &pod.facts.spec.node_name;
    let doubled = neighbours.get(node).copied().unwrap_or(0);
    let ready_age = pod.ready_since().map_or(0, |since| magnitude(now, since));
    let age = pod.created().map_or(0, |created| magnitude(now, created));
    (
        (!node.is_empty(), phase, ready, cost),
        (Reverse(doubled), ready_age, Reverse(pod.restarts()), age),
        pod.object.metadata.uid.clone(),
    )
}

/// Ages count by their order of magnitude, so that equally old pods are chosen among at random (by uid).
fn magnitude(now: Timestamp, since: Timestamp) -> u32 {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    u64::BITS - seconds.leading_zeros()
}

fn status(
    world: &World<'_>,
    object: &Object,
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    pods: &[Pod<'_>],
) -> ReplicaSetStatus {
    let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let fully_labeled = LabelSelector::from_map(&labels);
    let minimum = spec.min_ready_seconds.unwrap_or(0);
    let active: Vec<_> = pods.iter().filter(|pod| pod.is_active()).collect();
    let count = |holds: &dyn Fn(&Pod<'_>) -> bool| some(active.iter().filter(|p| holds(p)).count());
    let ending = pods.iter().filter(|pod| pod.object.is_terminating() && !pod.is_finished());
    ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: count(&|pod| fully_labeled.matches(&pod.object.metadata.labels)),
        ready_replicas: count(&|pod| pod.is_ready()),
        available_replicas: count(&|pod| pod.is_available(minimum, world.now)),
        terminating_replicas: some(ending.count()),
        observed_generation: Some(object.metadata.generation),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

/// A count as Kubernetes writes it: zero is left out.
pub(crate) fn some(count: usize) -> Option<i32> {
    (count > 0).then(|| i32::try_from(count).unwrap_or(i32::MAX))
}

/// When the next ready pod will have been ready long enough.
fn next_available(
    now: Timestamp,
    spec: &ReplicaSetSpec,
    pods: &[Pod<'_>],
) -> Option<std::time::Duration> {
    let seconds = spec.min_ready_seconds.filter(|seconds| *seconds > 0)?;
    next_available_in(now, seconds, pods)
}

/// The same for any set of pods.
pub(crate) fn next_available_in(
    now: Timestamp,
    seconds: i32,
    pods: &[Pod<'_>],
) -> Option<std::time::Duration> {
    let minimum = jiff::SignedDuration::from_secs(seconds.into());
    let waiting = pods.iter().filter(|pod| pod.is_active() && !pod.is_available(seconds, now));
    let left = waiting
        .filter_map(|pod| Some(minimum.saturating_sub(now.duration_since(pod.ready_since()?))));
    left.min().map(|left| std::time::Duration::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    const SET: &str = "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {a: b}}
    spec: {containers: [{name: a, image: i}]}
";

    fn key() -> ObjectKey {
        ObjectKey::new(&kind::REPLICA_SET, "default", "web")
    }

    fn pod(cluster: &mut Cluster, name: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
                "uid": cluster.uid(&key()), "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "i"}]}, "status": {"phase": "Running", "conditions":
                [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-12-01T00:00:00Z"}]}});
        change(&mut pod);
        cluster.insert(&pod);
    }

    #[test]
    fn pods_come_from_the_template() {
        let mut cluster = Cluster::of(SET);
        cluster.settle(&[&CONTROLLER], |_| {});
        let pods = cluster.list(&kind::POD);
        assert_eq!(pods.len(), 3);
        let metadata = &pods[0]["metadata"];
        assert_eq!(metadata["generateName"], "web-");
        assert_eq!(metadata["annotations"]["a"], "b");
        assert_eq!(metadata["ownerReferences"][0]["uid"], cluster.uid(&key()));
        let status = &cluster.get(&key())["status"];
        assert_eq!((&status["replicas"], &status["observedGeneration"]), (&json!(3), &json!(1)));
        assert_eq!(cluster.events.len(), 3);
        assert!(cluster.events[0].starts_with("SuccessfulCreate Created pod: web-"));
    }

    #[test]
    fn finished_and_terminating_pods_do_not_count() {
        let mut cluster = Cluster::of(SET);
        pod(&mut cluster, "failed", |pod| pod["status"]["phase"] = "Failed".into());
        pod(&mut cluster, "going", |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        });
        pod(&mut cluster, "orphan", |pod| pod["metadata"]["ownerReferences"] = json!([]));
        pod(&mut cluster, "strange", |pod| pod["metadata"]["labels"] = json!({"app": "other"}));
        cluster.settle(&[&CONTROLLER], |_| {});
        let uid = cluster.uid(&key());
        let owned = cluster.view.controlled_by(&kind::POD, "default", &uid);
        let names: Vec<_> = owned.map(|pod| pod.key.name.clone()).collect();
        assert_eq!(names.len(), 5, "failed, going, the adopted orphan and two new ones: {names:?}");
        assert!(names.contains(&"orphan".to_owned()) && !names.contains(&"strange".to_owned()));
        assert_eq!(cluster.get(&key())["status"]["terminatingReplicas"], 1);
    }

    #[test]
    fn the_right_ones_are_deleted_first() {
        let mut cluster = Cluster::of(SET);
        cluster.edit(&key(), |set| set["spec"]["replicas"] = 0.into());
        pod(&mut cluster, "old", |pod| pod["spec"]["nodeName"] = "n2".into());
        pod(&mut cluster, "costly", |pod| {
            pod["metadata"]["annotations"] = json!({DELETION_COST: "10"});
        });
        pod(&mut cluster, "doubled", |_| {});
        pod(&mut cluster, "young", |pod| {
            pod["spec"]["nodeName"] = "n3".into();
            pod["status"]["conditions"][0]["lastTransitionTime"] = "2025-12-31T23:59:00Z".into();
        });
        pod(&mut cluster, "unready", |pod| {
            pod["status"]["conditions"][0]["status"] = "False".into();
        });
        pod(&mut cluster, "unbound", |pod| pod["spec"]["nodeName"] = Value::Null);
        let plan = cluster.plan(&CONTROLLER, &key());
        let Some(Step::All(steps)) = plan.steps.get(1) else { panic!("{plan:?}") };
        let names: Vec<_> = steps
            .iter()
            .map(|step| match step {
                Step::Delete { key, .. } => key.name.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["unbound", "unready", "doubled", "young", "old", "costly"]);
    }

    #[test]
    fn availability_takes_time() {
        let mut cluster = Cluster::of(SET);
        cluster.edit(&key(), |set| {
            set["spec"]["minReadySeconds"] = 10.into();
            set["spec"]["replicas"] = 1.into();
        });
        pod(&mut cluster, "a", |pod| {
            pod["status"]["conditions"][0]["lastTransitionTime"] = "2025-12-31T23:59:57Z".into();
        });
        let plan = cluster.plan(&CONTROLLER, &key());
        assert_eq!(plan.requeue, Some(std::time::Duration::from_secs(7)));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key())["status"]["availableReplicas"].is_null());
        cluster.now = "2026-01-01T00:00:07Z".parse().unwrap();
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key())["status"]["availableReplicas"], 1);
    }
}
