//! Deletion of namespaces: everything in a Terminating one is deleted, its pods first, then its own finalizer, and with it
//! the rest. Conditions tell what remains.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    controllers::{Controller, Plan, Step, Trigger, WORKERS, World, document, itself},
    model::{Object, ObjectKey, kind},
    registry::{Propagation, View},
};

/// The only finalizer of `spec.finalizers` that is ours.
const FINALIZER: &str = "kubernetes";
/// When it is looked whether what cannot be read is deleted.
const AGAIN: Duration = Duration::from_millis(100);

const CONTENT: &str = "NamespaceContentRemaining";
const FINALIZERS: &str = "NamespaceFinalizersRemaining";
/// The conditions of a Terminating namespace, with reason and message while nothing is wrong. The first three never are:
/// every kind is known, and what cannot be deleted now is tried again.
const SOUND: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (CONTENT, "ContentRemoved", "All content successfully removed"),
    (FINALIZERS, "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

pub(crate) static CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    workers: WORKERS,
    triggers: &[Trigger { kind: None, keys: concerned }],
    plan,
};

/// The namespace itself, and one that is ending when something in it changes.
fn concerned(view: &View, object: &Object) -> Vec<ObjectKey> {
    if object.key.kind == kind::NAMESPACE {
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
    let contents = next_contents(world.view, &key.name);
    let deletable = contents.iter().filter(|object| !object.is_terminating());
    let deletions: Vec<_> = deletable.map(|object| Step::delete(object)).collect();
    // What is still to be deleted is looked at again when that is done.
    let status = deletions.is_empty().then(|| status_step(world, object, &contents)).flatten();
    if !contents.is_empty() {
        let mut steps = Plan::all(deletions).steps;
        steps.extend(status);
        return steps.into();
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
    match status {
        Some(status) => vec![status].into(),
        None => finalize(object).into_iter().collect::<Vec<_>>().into(),
    }
}

/// What goes now: pods first, so that nothing that they need goes before them.
fn next_contents<'a>(view: &'a View, namespace: &str) -> Vec<&'a Object> {
    let pods: Vec<_> = view.list(&kind::POD, Some(namespace)).map(AsRef::as_ref).collect();
    if !pods.is_empty() {
        return pods;
    }
    let kinds = view.kinds().stored().filter(|kind| kind.namespaced);
    kinds.flat_map(|kind| view.list(kind, Some(namespace))).map(AsRef::as_ref).collect()
}

/// Takes our finalizer away; `None` when it is gone.
fn finalize(namespace: &Object) -> Option<Step> {
    let mut document = document(namespace);
    let finalizers = document["spec"]["finalizers"].as_array_mut()?;
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    (finalizers.len() < before).then(|| Step::Finalize(namespace.key.clone(), document))
}

/// Tells in the conditions of a namespace what remains of it, if that is new.
fn status_step(world: &World<'_>, namespace: &Object, contents: &[&Object]) -> Option<Step> {
    let typed: Namespace = namespace.parse().ok()?;
    let mut status = typed.status.unwrap_or_default();
    let old = status.conditions.take().unwrap_or_default();
    let mut conditions = old.clone();
    for (kind, reason, message) in SOUND {
        let told = match kind {
            CONTENT => remaining_content(contents).map(|text| ("SomeResourcesRemain", text)),
            FINALIZERS => remaining_finalizers(contents).map(|text| ("SomeFinalizersRemain", text)),
            _ => None,
        };
        let (holds, (reason, message)) =
            told.map_or((false, (reason, message.to_owned())), |told| (true, told));
        let value = if holds { "True" } else { "False" };
        let before = old.iter().find(|condition| condition.type_ == kind);
        let since = before.filter(|before| before.status == value);
        let since = since.and_then(|before| before.last_transition_time.clone());
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(world.now))),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }
    let changed = conditions != old;
    status.conditions = Some(conditions);
    if changed { Step::status(namespace, &status) } else { None }
}

/// How many objects of which kind are still there.
fn remaining_content(contents: &[&Object]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for object in contents {
        let kind = &object.key.kind;
        *counts.entry(format!("{}.{}", kind.plural, kind.group)).or_default() += 1;
    }
    let lines: Vec<_> = counts
        .iter()
        .map(|(kind, count)| format!("{kind} has {count} resource instances"))
        .collect();
    (!lines.is_empty()).then(|| format!("Some resources are remaining: {}", lines.join(", ")))
}

/// Which finalizers they wait for.
fn remaining_finalizers(contents: &[&Object]) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in contents.iter().flat_map(|object| &object.metadata.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    let lines: Vec<_> = counts
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let text = lines.join(", ");
    (!lines.is_empty())
        .then(|| format!("Some content in the namespace has finalizers remaining: {text}"))
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
spec: {nodeName: n1, containers: [{name: a, image: i}]}
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
        assert!(!cluster.get(&key).is_null(), "the pod still has its grace period");
        cluster.run_pods(1);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::CONFIG_MAP).len(), 1);
        assert!(cluster.get(&key).is_null());
    }

    const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, finalizers: [example.com/wait]}
spec: {finalizers: [kubernetes]}
---
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: shop, finalizers: [example.com/keep, example.com/more]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: shop, finalizers: [example.com/keep]}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec: {containers: [{name: a, image: i}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop}
spec: {nodeName: n1, containers: [{name: a, image: i}]}
";

    #[test]
    fn pods_go_first_and_conditions_tell_what_remains() {
        let mut cluster = Cluster::of(SHOP);
        let key = ObjectKey::cluster(&kind::NAMESPACE, "shop");
        let told = |cluster: &Cluster| -> Vec<(String, String)> {
            let conditions = cluster.get(&key)["status"]["conditions"].clone();
            let conditions = conditions.as_array().cloned().unwrap_or_default();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            conditions.iter().map(|c| (text(&c["status"]), text(&c["message"]))).collect()
        };
        let sound = |n: usize| ("False".to_owned(), SOUND[n].2.to_owned());
        let wrong = |text: &str| ("True".to_owned(), text.to_owned());
        cluster.delete(&key);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::CONFIG_MAP).len(), 1, "pods go first");
        assert_eq!(
            told(&cluster),
            [
                sound(0),
                sound(1),
                sound(2),
                wrong("Some resources are remaining: pods. has 1 resource instances"),
                sound(4)
            ]
        );
        cluster.run_pods(1);
        cluster.settle(&[&CONTROLLER], |_| {});
        assert_eq!(cluster.list(&kind::CONFIG_MAP).len(), 0);
        assert_eq!(
            told(&cluster)[3..],
            [
                wrong(
                    "Some resources are remaining: deployments.apps has 1 resource instances, secrets. has 1 \
                     resource instances"
                ),
                wrong(
                    "Some content in the namespace has finalizers remaining: example.com/keep in 2 resource \
                     instances, example.com/more in 1 resource instances"
                ),
            ]
        );
        for kind in [&kind::SECRET, &kind::DEPLOYMENT] {
            let name = if *kind == kind::SECRET { "s" } else { "d" };
            cluster.remove(&ObjectKey::new(kind, "shop", name));
        }
        cluster.settle(&[&CONTROLLER], |_| {});
        let document = cluster.get(&key);
        assert_eq!(document["metadata"]["finalizers"], serde_json::json!(["example.com/wait"]));
        assert!(document["spec"]["finalizers"].is_null(), "{document}");
        assert_eq!(told(&cluster), [0, 1, 2, 3, 4].map(sound));
    }
}
