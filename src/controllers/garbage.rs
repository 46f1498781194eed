//! Garbage collection by owner references. It deletes objects whose owners are gone, lets foreground deletion wait for
//! dependents, and removes the references of orphaned dependents.

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, document,
        finalizers::without_finalizer,
        ownership::{self, owner_key},
    },
    model::{
        Object, ObjectKey, OwnerReference, kind,
        well_known::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER},
    },
    registry::{Propagation, View},
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "garbage-collector-controller",
    workers: WORKERS,
    triggers: &[Trigger { kind: None, keys: concerned }],
    plan,
};

/// The object, when there may be something to do about it; and when it goes (or is gone), its dependents and the
/// owners that wait for it.
fn concerned(view: &View, object: &Object) -> Vec<ObjectKey> {
    let current = view.get(&object.key).filter(|now| now.metadata.uid == object.metadata.uid);
    let mut keys = Vec::new();
    let going = current.is_none_or(|current| current.is_terminating());
    if current.is_some() && (going || !object.metadata.owner_references.is_empty()) {
        keys.push(object.key.clone());
    }
    if going {
        keys.extend(view.dependents(&object.metadata.uid).map(|dependent| dependent.key.clone()));
    }
    if current.is_none() {
        let owners = object.metadata.owner_references.iter();
        keys.extend(owners.filter_map(|owner| owner_key(view, object, owner)));
    }
    keys
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    if object.is_terminating() {
        let has = |finalizer: &str| object.has_finalizer(finalizer);
        if has(ORPHAN_FINALIZER) {
            return orphan_dependents(world.view, object);
        }
        if has(FOREGROUND_FINALIZER) {
            return finish_foreground(world.view, object);
        }
        return Plan::nothing();
    }
    judge(world.view, object)
}

fn orphan_dependents(view: &View, owner: &Object) -> Plan {
    let uid = &owner.metadata.uid;
    let strip = |object| ownership::without_owner(object, uid);
    let dependents: Vec<_> = view.dependents(uid).map(|object| strip(object)).collect();
    let mut steps = Plan::all(dependents).steps;
    steps.push(without_finalizer(owner, ORPHAN_FINALIZER));
    steps.into()
}

fn finish_foreground(view: &View, owner: &Object) -> Plan {
    let uid = &owner.metadata.uid;
    let blocks = |object: &Object| {
        let mut references = object.metadata.owner_references.iter();
        references.any(|owner| owner.uid == *uid && owner.block_owner_deletion)
    };
    if view.dependents(uid).any(|object| blocks(object)) {
        return Plan::nothing();
    }
    vec![without_finalizer(owner, FOREGROUND_FINALIZER)].into()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Present,
    /// Absent, or another object has its name now.
    Gone,
    /// It is deleted in the foreground and waits for its dependents.
    Waiting,
}

/// Decides about an object by the state of its owners, as Kubernetes' collector does. A cluster-scoped object that names
/// an owner with a namespace stays: where that owner is cannot be known.
fn judge(view: &View, object: &Object) -> Plan {
    let references = &object.metadata.owner_references;
    if !object.key.kind.namespaced
        && let Some(owner) = references.iter().find(|owner| has_namespace(view, owner))
    {
        return vec![not_in_namespace(object, owner)].into();
    }
    let states: Vec<_> = references.iter().map(|owner| state(view, object, owner)).collect();
    if references.is_empty() || states.iter().all(|state| *state == Owner::Present) {
        return Plan::nothing();
    }
    if states.contains(&Owner::Present) {
        let mut document = document(object);
        let lost: Vec<_> = references
            .iter()
            .zip(&states)
            .filter(|(_, state)| **state != Owner::Present)
            .map(|(owner, _)| owner.uid.as_str())
            .collect();
        if let Some(owners) = document["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|owner| !owner["uid"].as_str().is_some_and(|uid| lost.contains(&uid)));
        }
        return vec![Step::Update(object.key.clone(), document)].into();
    }
    let elsewhere = references.iter().find(|owner| is_elsewhere(view, object, owner));
    let mut steps: Vec<_> =
        elsewhere.into_iter().map(|owner| not_in_namespace(object, owner)).collect();
    let (key, uid) = (object.key.clone(), object.metadata.uid.clone());
    let propagation = propagation(view, object, &states);
    steps.push(Step::Delete { key, uid, propagation });
    steps.into()
}

/// What becomes of the dependents of an object that is deleted. Its finalizers may say so already.
fn propagation(view: &View, object: &Object, owners: &[Owner]) -> Propagation {
    let has = |finalizer: &str| object.has_finalizer(finalizer);
    let mut dependents = view.dependents(&object.metadata.uid);
    if owners.contains(&Owner::Waiting) && dependents.next().is_some() {
        Propagation::Foreground
    } else if has(ORPHAN_FINALIZER) {
        Propagation::Orphan
    } else if has(FOREGROUND_FINALIZER) {
        Propagation::Foreground
    } else {
        Propagation::Background
    }
}

fn has_namespace(view: &View, owner: &OwnerReference) -> bool {
    let kind = view.kinds().by_api_version(&owner.api_version, &owner.kind);
    kind.is_some_and(|kind| kind.namespaced)
}

/// Whether the owner is there, but in another namespace than the object, which counts as absent.
fn is_elsewhere(view: &View, object: &Object, owner: &OwnerReference) -> bool {
    let Some(key) = owner_key(view, object, owner).filter(|key| key.kind.namespaced) else {
        return false;
    };
    let namespaces = view.list(&kind::NAMESPACE, None).map(|namespace| namespace.key.name.clone());
    namespaces.filter(|namespace| *namespace != key.namespace).any(|namespace| {
        let there = ObjectKey { namespace, ..key.clone() };
        view.get(&there).is_some_and(|found| found.metadata.uid == owner.uid)
    })
}

fn not_in_namespace(object: &Object, owner: &OwnerReference) -> Step {
    let OwnerReference { api_version, kind, name, uid, .. } = owner;
    let namespace = &object.key.namespace;
    let message = format!(
        "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}] does not exist in \
         namespace {namespace:?}"
    );
    Step::warning(object, "OwnerRefInvalidNamespace", message)
}

/// An owner of a kind that is not served here counts as present, and so does one that cannot be read: nothing is known
/// about it.
fn state(view: &View, object: &Object, owner: &OwnerReference) -> Owner {
    let Some(key) = owner_key(view, object, owner) else { return Owner::Present };
    match view.get(&key).filter(|found| found.metadata.uid == owner.uid) {
        None if view.is_unreadable(&key) => Owner::Present,
        None => Owner::Gone,
        Some(found) => {
            let waits = found.is_terminating() && found.has_finalizer(FOREGROUND_FINALIZER);
            if waits { Owner::Waiting } else { Owner::Present }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    /// Makes an object with these owners, of which one may be of a kind that is not served.
    fn insert(cluster: &mut Cluster, kind: &str, name: &str, owners: &[(&str, &str)]) {
        let owners: Vec<_> = owners
            .iter()
            .map(|(kind, name)| {
                let served = kind::built_in("apps/v1", kind);
                let key = served.map(|kind| ObjectKey::new(kind, "default", *name));
                let uid = key.map_or_else(|| "gone".to_owned(), |key| cluster.uid(&key));
                json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid,
                       "blockOwnerDeletion": true})
            })
            .collect();
        let metadata = json!({"name": name, "ownerReferences": owners});
        let pod = json!({"containers": [{"name": "a", "image": "i"}]});
        cluster.insert(&if kind == "Pod" {
            json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": pod})
        } else {
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod}}})
        });
    }

    fn family() -> Cluster {
        let mut cluster = Cluster::default();
        insert(&mut cluster, "Deployment", "d", &[]);
        insert(&mut cluster, "ReplicaSet", "r", &[("Deployment", "d")]);
        insert(&mut cluster, "ReplicaSet", "other", &[]);
        insert(&mut cluster, "Pod", "p", &[("ReplicaSet", "r")]);
        insert(&mut cluster, "Pod", "q", &[("ReplicaSet", "r"), ("ReplicaSet", "other")]);
        insert(&mut cluster, "Pod", "foreign", &[("Other", "x")]);
        cluster
    }

    fn names(cluster: &Cluster) -> Vec<String> {
        let pods = cluster.view.list(&kind::POD, None);
        let sets = cluster.view.list(&kind::REPLICA_SET, None);
        pods.chain(sets).map(|object| object.key.name.clone()).collect()
    }

    #[test]
    fn background() {
        let mut cluster = family();
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(names(&cluster), ["foreign", "p", "q", "other", "r"]);
        cluster.remove(&ObjectKey::new(&kind::DEPLOYMENT, "default", "d"));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(names(&cluster), ["foreign", "q", "other"], "q still has an owner");
    }

    #[test]
    fn foreground() {
        let mut cluster = family();
        let key = ObjectKey::new(&kind::DEPLOYMENT, "default", "d");
        cluster.edit(&key, |document| {
            document["metadata"]["finalizers"] = json!([FOREGROUND_FINALIZER]);
        });
        cluster.delete(&key);
        let plan = cluster.plan(&CONTROLLER, &ObjectKey::new(&kind::REPLICA_SET, "default", "r"));
        assert!(matches!(
            plan.steps.as_slice(),
            [Step::Delete { propagation: Propagation::Foreground, .. }]
        ));
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key).is_null());
        assert_eq!(names(&cluster), ["foreign", "q", "other"]);
    }

    #[test]
    fn orphan() {
        let mut cluster = family();
        let key = ObjectKey::new(&kind::DEPLOYMENT, "default", "d");
        cluster
            .edit(&key, |document| document["metadata"]["finalizers"] = json!([ORPHAN_FINALIZER]));
        cluster.delete(&key);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert!(cluster.get(&key).is_null());
        assert_eq!(names(&cluster), ["foreign", "p", "q", "other", "r"]);
    }

    /// What is left, and the Events, when an object of a kind names an owner that stands in namespace `default`.
    fn named(kind: &str, namespace: Option<&str>, owner: &str, uid: &str) -> (bool, Vec<String>) {
        let mut cluster = Cluster::of(
            "{apiVersion: v1, kind: Namespace, metadata: {name: default}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: other}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s}}
---
{apiVersion: v1, kind: Node, metadata: {name: n}}
",
        );
        let named = match owner {
            "Node" => ObjectKey::cluster(&kind::NODE, "n"),
            _ => ObjectKey::new(&kind::SECRET, "default", "s"),
        };
        let own = cluster.uid(&named);
        let uid = if uid == "gone" { uid } else { &own };
        let group = if kind == "ClusterRole" { "rbac.authorization.k8s.io/v1" } else { "v1" };
        let spec = (kind == "PersistentVolume").then(|| {
            json!({"hostPath": {"path": "/v"}, "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"}})
        });
        let key = cluster.insert(&json!({"apiVersion": group, "kind": kind, "spec": spec,
            "metadata": {"name": "x", "namespace": namespace, "ownerReferences": [
                {"apiVersion": "v1", "kind": owner, "name": named.name, "uid": uid}]}}));
        let plan = cluster.plan(&CONTROLLER, &key);
        plan.steps.into_iter().for_each(|step| cluster.apply(step));
        let events = cluster.events.iter().map(|event| event.replace(&own, "s-uid"));
        (!cluster.get(&key).is_null(), events.collect())
    }

    #[test]
    fn owners_in_the_wrong_place() {
        let told = |namespace: &str| {
            vec![format!(
                "OwnerRefInvalidNamespace ownerRef [v1/Secret, namespace: {namespace}, name: s, uid: s-uid] does not \
                 exist in namespace \"{namespace}\""
            )]
        };
        for (kind, namespace, owner, uid, stays, events) in [
            ("Namespace", None, "Secret", "s-uid", true, told("")),
            ("PersistentVolume", None, "Secret", "s-uid", true, told("")),
            ("ClusterRole", None, "Node", "n-uid", true, Vec::new()),
            ("ClusterRole", None, "Node", "gone", false, Vec::new()),
            ("ConfigMap", Some("default"), "Secret", "s-uid", true, Vec::new()),
            ("ConfigMap", Some("default"), "Node", "n-uid", true, Vec::new()),
            ("ConfigMap", Some("other"), "Secret", "s-uid", false, told("other")),
            ("ConfigMap", Some("other"), "Secret", "gone", false, Vec::new()),
        ] {
            assert_eq!(
                named(kind, namespace, owner, uid),
                (stays, events),
                "{kind} of {owner} {uid}"
            );
        }
    }
}
