//! ReplicationControllers: ReplicaSets by an older name. The work is done in [`replica_set`].

use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::{
            ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use crate::{
    controllers::{Controller, Plan, Trigger, WORKERS, World, itself, replica_set, to_value},
    model::{LabelSelector as Selector, Object, ObjectKey, kind},
    registry::View,
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "replication-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::REPLICATION_CONTROLLER), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: controllers_of_pod },
    ],
    plan,
};

/// The manager of a pod, or all that would adopt it. The selector is a plain map here.
fn controllers_of_pod(view: &View, pod: &Object) -> Vec<ObjectKey> {
    let namespace = pod.key.namespace.as_str();
    let kind = &kind::REPLICATION_CONTROLLER;
    match pod.controller() {
        Some(owner) if owner.kind == kind.kind && owner.api_version == "v1" => {
            vec![ObjectKey::new(kind, namespace, owner.name.as_str())]
        }
        Some(_) => Vec::new(),
        None => {
            let selects = |controller: &&std::sync::Arc<Object>| {
                let parsed = controller.parse::<ReplicationController>().ok();
                let selector = parsed.and_then(|parsed| parsed.spec?.selector);
                selector.is_some_and(|selector| {
                    !selector.is_empty()
                        && Selector::from_map(&selector).matches(&pod.metadata.labels)
                })
            };
            let controllers = view.list(kind, Some(namespace)).filter(selects);
            controllers.map(|controller| controller.key.clone()).collect()
        }
    }
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(parsed) = world.view.parse::<ReplicationController>(key) else {
        return Plan::nothing();
    };
    let spec = parsed.spec.unwrap_or_default();
    let selector = LabelSelector { match_labels: spec.selector, ..<_>::default() };
    let spec = ReplicaSetSpec {
        min_ready_seconds: spec.min_ready_seconds,
        replicas: spec.replicas,
        selector,
        template: spec.template,
    };
    let old = parsed.status.unwrap_or_default();
    let status = ReplicaSetStatus {
        available_replicas: old.available_replicas,
        conditions: old
            .conditions
            .clone()
            .map(|all| all.into_iter().map(as_set_condition).collect()),
        fully_labeled_replicas: old.fully_labeled_replicas,
        observed_generation: old.observed_generation,
        ready_replicas: old.ready_replicas,
        replicas: old.replicas,
        terminating_replicas: None,
    };
    let set = ReplicaSet { metadata: parsed.metadata, spec: Some(spec), status: Some(status) };
    replica_set::plan_set(world, object, &set, |status| {
        let own = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.as_ref().and(old.conditions.clone()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        to_value(&own)
    })
}

fn as_set_condition(own: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: own.type_,
        status: own.status,
        reason: own.reason,
        message: own.message,
        last_transition_time: own.last_transition_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn keeps_its_replicas() {
        let mut cluster = Cluster::of(
            "
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 3
  selector: {app: old}
  template:
    metadata: {labels: {app: old}}
    spec: {nodeName: n1, containers: [{name: a, image: i}]}
",
        );
        let key = ObjectKey::new(&kind::REPLICATION_CONTROLLER, "default", "old");
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.run_pods(9);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key)["status"]["readyReplicas"], 3);
        let owner = cluster.list(&kind::POD)[0]["metadata"]["ownerReferences"][0].clone();
        assert_eq!(
            (owner["kind"].as_str(), owner["apiVersion"].as_str()),
            (Some("ReplicationController"), Some("v1"))
        );
        cluster.edit(&key, |controller| controller["spec"]["replicas"] = 1.into());
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.run_pods(9);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.get(&key)["status"]["replicas"], 1);
    }
}
