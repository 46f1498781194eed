//! Deletion of namespaces: everything in a Terminating one is deleted, then its own finalizer, and with it the rest.

use std::time::Duration;

use serde_json::json;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, document, itself},
    model::{Object, ObjectKey, kind},
    registry::{Propagation, View},
};

/// The only finalizer of `spec.finalizers` that is ours.
const FINALIZER: &str = "kubernetes";
/// When it is looked whether what cannot be read is deleted.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) static CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    workers: WORKERS,
    triggers: &Trigger::on_all(concerned),
    plan,
};

/// The namespace itself, and one that is ending when something in it changes.
fn concerned(view: &View, object: &Object) -> Vec<ObjectKey> {
    if *object.key.kind == kind::NAMESPACE {
        return itself(view, object);
    }
    let key = ObjectKey::cluster(&kind::NAMESPACE, object.key.namespace.as_str());
    let ending = view.get(&key).is_some_and(|namespace| namespace.is_terminating());
    ending.then_some(key).into_iter().collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key).filter(|namespace| namespace.is_terminating()) else {
        return Plan::nothing();
    };
    let contents: Vec<_> = kind::stored()
        .filter(|kind| kind.namespaced)
        .flat_map(|kind| world.view.list(kind, Some(&key.name)))
        .collect();
    if !contents.is_empty() {
        let deletable = contents.into_iter().filter(|object| !object.is_terminating());
        return Plan::all(deletable.map(|object| Step::delete(object)).collect());
    }
    let unreadable =
        world.view.unreadable().filter(|(unreadable, _)| unreadable.namespace == key.name);
    let deletions: Vec<_> = unreadable
        .map(|(key, _)| Step::Delete {
            key: key.clone(),
            uid: String::new(),
            propagation: Propagation::Background,
        })
        .collect();
    if !deletions.is_empty() {
        // Nobody is told when they are gone.
        return Plan { requeue: Some(AGAIN), ..Plan::all(deletions) };
    }
    let mut document = document(object);
    let finalizers = document["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    let left: Vec<_> = finalizers.iter().filter(|f| **f != FINALIZER).cloned().collect();
    if left.len() == finalizers.len() {
        return Plan::nothing();
    }
    document["spec"]["finalizers"] = json!(left);
    vec![Step::Update(key.clone(), document)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::testing::Cluster;

    #[test]
    fn a_namespace_goes_with_its_contents() {
        let mut cluster = Cluster::of(
            "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
spec: {finalizers: [kubernetes]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec: {nodeName: n1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: other}
",
        );
        let key = ObjectKey::cluster(&kind::NAMESPACE, "shop");
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::CONFIG_MAP).len(), 2, "it is not being deleted");
        cluster.delete(&key);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::CONFIG_MAP).len(), 1);
        assert!(!cluster.get(&key).is_null(), "the pod still has its grace period");
        cluster.run_pods(1);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key).is_null());
    }
}
