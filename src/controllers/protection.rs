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
        Trigger { kind: Some(&kind::PERSISTENT_VOLUME_CLAIM), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: claims_of },
    ],
    plan: plan_claim,
};

pub(crate) static VOLUMES: Controller = Controller {
    name: "persistentvolume-protection-controller",
    workers: WORKERS,
    triggers: &[Trigger { kind: Some(&kind::PERSISTENT_VOLUME), keys: itself }],
    plan: plan_volume,
};

/// The claims that a pod has.
pub(crate) fn claims_of(view: &View, pod: &Object) -> Vec<ObjectKey> {
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

    fn claim(name: &str, owners: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "ownerReferences": owners}, "spec": claim_spec()})
    }

    fn claim_spec() -> Value {
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
    }

    fn pod(node: Option<&str>, volumes: &[&Value]) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": node,
            "containers": [{"name": "a", "image": "i"}], "volumes": volumes}})
    }

    #[test]
    fn claims_stay_while_a_pod_on_a_node_has_them() {
        let by_name = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        let template = json!({"spec": claim_spec()});
        let ephemeral = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": template}});
        let other = json!({"name": "v", "persistentVolumeClaim": {"claimName": "other"}});
        let node = Some("n1");
        for (volume, node, is_owner, grace, stays) in [
            (&by_name, node, false, None, true),
            (&by_name, node, false, Some(0), true),
            (&by_name, None, false, None, false),
            (&other, node, false, None, false),
            (&ephemeral, node, true, None, true),
            (&ephemeral, node, true, Some(0), false),
            (&ephemeral, node, false, None, false),
        ] {
            let mut cluster = Cluster::default();
            let mut document = pod(node, &[volume]);
            if grace.is_some() {
                let metadata = &mut document["metadata"];
                metadata["finalizers"] = json!(["example.com/wait"]);
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                metadata["deletionGracePeriodSeconds"] = grace.into();
            }
            let pod = cluster.insert(&document);
            let owner =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": cluster.uid(&pod)});
            let owners = if is_owner { json!([owner]) } else { json!([]) };
            let key = cluster.insert(&claim("p-v", &owners));
            cluster.settle(&[&CLAIMS, &VOLUMES], |_| {});
            assert_eq!(cluster.get(&key)["metadata"]["finalizers"], json!([CLAIM_PROTECTION]));
            cluster.delete(&key);
            cluster.settle(&[&CLAIMS, &VOLUMES], |_| {});
            assert_eq!(!cluster.get(&key).is_null(), stays, "{volume} {node:?} {grace:?}");
            cluster.remove(&pod);
            cluster.settle(&[&CLAIMS], |_| {});
            assert!(cluster.get(&key).is_null(), "the pod is gone");
        }
    }

    #[test]
    fn pods_wake_their_claims() {
        let mut cluster = Cluster::default();
        cluster.insert(&claim("a", &json!([])));
        let template = json!({"spec": claim_spec()});
        let key = cluster.insert(&pod(
            None,
            &[
                &json!({"name": "x", "emptyDir": {}}),
                &json!({"name": "y", "ephemeral": {"volumeClaimTemplate": template}}),
                &json!({"name": "z", "persistentVolumeClaim": {"claimName": "a"}}),
            ],
        ));
        let pod = cluster.view.get(&key).unwrap().clone();
        let names = claims_of(&cluster.view, &pod).into_iter().map(|key| key.name);
        assert_eq!(names.collect::<Vec<_>>(), ["p-y", "a"]);
    }

    #[test]
    fn volumes_stay_while_they_are_bound() {
        for (phase, stays) in [("Bound", true), ("Available", false), ("Released", false)] {
            let mut cluster = Cluster::default();
            let key = cluster.insert(&json!({"apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": "v"}, "status": {"phase": phase}, "spec": {"hostPath": {"path": "/v"},
                    "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}));
            cluster.settle(&[&CLAIMS, &VOLUMES], |_| {});
            assert_eq!(cluster.get(&key)["metadata"]["finalizers"], json!([VOLUME_PROTECTION]));
            cluster.delete(&key);
            cluster.settle(&[&VOLUMES], |_| {});
            assert_eq!(!cluster.get(&key).is_null(), stays, "{phase}");
        }
    }
}
