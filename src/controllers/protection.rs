//! Finalizers that keep PersistentVolumeClaims while a pod uses them, and PersistentVolumes while they are bound.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod as Typed, Volume};

use crate::{
    controllers::{
        Controller, Plan, Trigger, WORKERS, World,
        finalizers::{with_finalizer, without_finalizer},
        itself,
    },
    model::{Object, ObjectKey, kind},
    registry::{CLAIM_PROTECTION, VOLUME_PROTECTION, View},
};

pub(crate) static CLAIMS: Controller = Controller {
    name: "persistentvolumeclaim-protection-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: &kind::PERSISTENT_VOLUME_CLAIM, keys: itself },
        Trigger { kind: &kind::POD, keys: claims_of },
    ],
    plan: plan_claim,
};

pub(crate) static VOLUMES: Controller = Controller {
    name: "persistentvolume-protection-controller",
    workers: WORKERS,
    triggers: &[Trigger { kind: &kind::PERSISTENT_VOLUME, keys: itself }],
    plan: plan_volume,
};

/// The claims that a pod has.
fn claims_of(view: &View, pod: &Object) -> Vec<ObjectKey> {
    if view.count(&kind::PERSISTENT_VOLUME_CLAIM) == 0 {
        return Vec::new();
    }
    let names = volumes(pod).into_iter().filter_map(|volume| claim(pod, &volume));
    let key =
        |name: String| ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, &*pod.key.namespace, name);
    names.map(key).collect()
}

fn volumes(pod: &Object) -> Vec<Volume> {
    let typed = pod.parse::<Typed>().ok();
    typed.and_then(|pod| pod.spec?.volumes).unwrap_or_default()
}

/// The name of the claim behind a volume. That of an ephemeral one is made for the pod.
fn claim(pod: &Object, volume: &Volume) -> Option<String> {
    let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    named.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.key.name, volume.name)))
}

fn plan_claim(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(claim) = world.view.get(key) else { return Plan::nothing() };
    let is_used = || {
        let mut pods = world.view.list(&kind::POD, Some(&key.namespace));
        pods.any(|pod| uses(pod, claim))
    };
    protect(claim, CLAIM_PROTECTION, is_used)
}

/// Whether a pod holds a claim. One without a node does not: no node starts it once the claim is being deleted.
fn uses(pod: &Arc<Object>, owned: &Object) -> bool {
    let bound = crate::controllers::pod::Pod::of(pod);
    if bound.facts.spec.node_name.is_empty() {
        return false;
    }
    let shut_down = pod.is_terminating() && pod.metadata.deletion_grace_period_seconds == Some(0);
    let is_for = owned.metadata.owner_references.iter().any(|owner| owner.uid == pod.metadata.uid);
    volumes(pod).iter().any(|volume| {
        let ephemeral = volume.ephemeral.is_some();
        claim(pod, volume).as_ref() == Some(&owned.key.name) && (!ephemeral || !shut_down && is_for)
    })
}

fn plan_volume(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let is_bound = || {
        let typed = object.parse::<PersistentVolume>().ok();
        typed.and_then(|volume| volume.status?.phase).as_deref() == Some("Bound")
    };
    protect(object, VOLUME_PROTECTION, is_bound)
}

/// Removes the finalizer of an object that is being deleted and not used. Adds it to all objects that are not deleted.
fn protect(object: &Object, finalizer: &str, is_used: impl Fn() -> bool) -> Plan {
    let protected = object.has_finalizer(finalizer);
    if object.is_terminating() != protected || object.is_terminating() && is_used() {
        return Plan::nothing();
    }
    let step = match protected {
        true => without_finalizer(object, finalizer),
        false => with_finalizer(object, finalizer),
    };
    vec![step].into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::testing::Cluster;

    fn settled(objects: &[Value]) -> Cluster {
        let mut cluster = Cluster::default();
        for object in objects {
            cluster.insert(object);
        }
        cluster.settle(&[&CLAIMS, &VOLUMES], |_| {});
        cluster
    }

    #[test]
    fn claims_stay_while_a_pod_on_a_node_has_them() {
        let by_name = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        let ephemeral = json!({"name": "v", "ephemeral": {}});
        let other = json!({"name": "v", "persistentVolumeClaim": {"claimName": "other"}});
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p-uid"}]);
        for (volume, node, owners, grace, stays) in [
            (&by_name, "n1", json!([]), None, true),
            (&by_name, "n1", json!([]), Some(0), true),
            (&by_name, "", json!([]), None, false),
            (&other, "n1", json!([]), None, false),
            (&ephemeral, "n1", owner.clone(), None, true),
            (&ephemeral, "n1", owner, Some(0), false),
            (&ephemeral, "n1", json!([]), None, false),
        ] {
            let deletion = grace.map(|_| "2026-01-01T00:00:00Z");
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "p-uid",
                "deletionTimestamp": deletion, "deletionGracePeriodSeconds": grace},
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]}});
            let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "p-v", "ownerReferences": owners}});
            let mut cluster = settled(&[pod, claim]);
            let key = ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, "default", "p-v");
            assert_eq!(cluster.get(&key)["metadata"]["finalizers"], json!([CLAIM_PROTECTION]));
            cluster.delete(&key);
            cluster.settle(&[&CLAIMS, &VOLUMES], |_| {});
            assert_eq!(!cluster.get(&key).is_null(), stays, "{volume} {node} {grace:?}");
            cluster.remove(&ObjectKey::new(&kind::POD, "default", "p"));
            cluster.settle(&[&CLAIMS], |_| {});
            assert!(cluster.get(&key).is_null(), "the pod is gone");
        }
    }

    #[test]
    fn pods_wake_their_claims() {
        let mut cluster = settled(&[json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "a"}})]);
        let key = cluster.insert(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [], "volumes": [{"name": "x", "emptyDir": {}}, {"name": "y", "ephemeral": {}},
                {"name": "z", "persistentVolumeClaim": {"claimName": "a"}}]}}));
        let pod = cluster.view.get(&key).unwrap().clone();
        let names = claims_of(&cluster.view, &pod).into_iter().map(|key| key.name);
        assert_eq!(names.collect::<Vec<_>>(), ["p-y", "a"]);
    }

    #[test]
    fn volumes_stay_while_they_are_bound() {
        for (phase, stays) in [("Bound", true), ("Available", false), ("Released", false)] {
            let mut cluster = settled(&[json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v"}, "status": {"phase": phase}})]);
            let key = ObjectKey::cluster(&kind::PERSISTENT_VOLUME, "v");
            assert_eq!(cluster.get(&key)["metadata"]["finalizers"], json!([VOLUME_PROTECTION]));
            cluster.delete(&key);
            cluster.settle(&[&VOLUMES], |_| {});
            assert_eq!(!cluster.get(&key).is_null(), stays, "{phase}");
        }
    }
}
