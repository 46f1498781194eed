//! Objects that a cluster always has: the system namespaces, the Services `kubernetes` and `kube-dns`, and the endpoints of
//! the API server. When somebody deletes one, through the API or in the store, it is created again at once.
//!
//! As with kube-apiserver's reconcilers, a changed Service stays changed, but changed endpoints of the API server are set
//! again.

use serde_json::Value;

use crate::{
    controllers::{Controller, Plan, Step, Trigger, World, document},
    model::{Kind, Object, ObjectKey, kind},
    registry::{Propagation, View},
};

pub(crate) static CONTROLLER: Controller = Controller {
    name: "kept-objects-controller",
    workers: 1,
    triggers: &[
        Trigger { kind: Some(&kind::NAMESPACE), keys: concerned },
        Trigger { kind: Some(&kind::SERVICE), keys: concerned },
        Trigger { kind: Some(&kind::ENDPOINT_SLICE), keys: concerned },
        Trigger { kind: Some(&kind::ENDPOINTS), keys: concerned },
    ],
    plan,
};

/// Every object that is kept: kind, namespace, name. What they say is told by [`World::options`].
const KEPT: [(&Kind, &str, &str); 8] = [
    (&kind::NAMESPACE, "", "default"),
    (&kind::NAMESPACE, "", "kube-system"),
    (&kind::NAMESPACE, "", "kube-public"),
    (&kind::NAMESPACE, "", "kube-node-lease"),
    (&kind::SERVICE, "default", "kubernetes"),
    (&kind::SERVICE, "kube-system", "kube-dns"),
    (&kind::ENDPOINT_SLICE, "default", "kubernetes"),
    (&kind::ENDPOINTS, "default", "kubernetes"),
];

/// The object itself, and what is kept in a namespace when that comes back.
fn concerned(_: &View, object: &Object) -> Vec<ObjectKey> {
    let key = &object.key;
    let within = |namespace: &str| key.kind == kind::NAMESPACE && key.name == namespace;
    let kept = KEPT.iter().filter(|(kind, namespace, name)| {
        within(namespace) || **kind == key.kind && *namespace == key.namespace && *name == key.name
    });
    kept.map(|(kind, namespace, name)| ObjectKey::new(kind, *namespace, *name)).collect()
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(wanted) = world.options.kept.get(key) else { return Plan::nothing() };
    let Some(found) = world.view.get(key) else {
        let mut steps: Vec<_> = stale_addresses(world.view, key, wanted).collect();
        if world.view.is_unreadable(key) {
            let propagation = Propagation::default();
            steps.push(Step::Delete { key: key.clone(), uid: String::new(), propagation });
        }
        steps.push(Step::Create(key.kind.clone(), wanted.clone()));
        return steps.into();
    };
    let is_ours = key.kind == kind::ENDPOINT_SLICE || key.kind == kind::ENDPOINTS;
    let mut now = document(found);
    if !is_ours || found.is_terminating() || contains(&now, wanted) {
        return Plan::nothing();
    }
    put(&mut now, wanted);
    vec![Step::Update(key.clone(), now)].into()
}

/// The address of a Service that was deleted without it, in the store itself.
fn stale_addresses<'a>(
    view: &'a View,
    service: &'a ObjectKey,
    wanted: &'a Value,
) -> impl Iterator<Item = Step> + 'a {
    let addresses = wanted["spec"]["clusterIPs"].as_array().into_iter().flatten();
    let keys = addresses
        .filter_map(Value::as_str)
        .map(|address| ObjectKey::cluster(&kind::IP_ADDRESS, address));
    keys.filter_map(|key| view.get(&key))
        .filter(|address| {
            let parent = &document(address)["spec"]["parentRef"];
            parent["resource"] == *service.kind.plural
                && parent["namespace"] == *service.namespace
                && parent["name"] == *service.name
        })
        .map(|address| Step::delete(address))
}

/// Whether a document says all that is wanted; it may say more (defaults, what the server fills in).
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| contains(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| contains(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Maps are merged, all else is replaced.
fn put(document: &mut Value, wanted: &Value) {
    let (Value::Object(map), Value::Object(wanted)) = (&mut *document, wanted) else {
        *document = wanted.clone();
        return;
    };
    for (key, value) in wanted {
        put(map.entry(key).or_insert(Value::Null), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::testing::Cluster;

    const NAMESPACES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
";

    fn cluster() -> Cluster {
        let mut cluster = Cluster::of(NAMESPACES);
        let service = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "127.96.0.1", "clusterIPs": ["127.96.0.1"]}});
        let slice = json!({"metadata": {"name": "kubernetes", "namespace": "default", "labels": {"a": "b"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]});
        let namespace = json!({"metadata": {"name": "default"}});
        let documents = [
            (ObjectKey::new(&kind::SERVICE, "default", "kubernetes"), service),
            (ObjectKey::new(&kind::ENDPOINT_SLICE, "default", "kubernetes"), slice),
            (ObjectKey::cluster(&kind::NAMESPACE, "default"), namespace),
        ];
        cluster.options.kept = std::sync::Arc::new(documents.into());
        cluster
    }

    /// What is planned when an object has changed or gone.
    fn steps(cluster: &Cluster, object: &Object) -> Vec<Step> {
        let keys = concerned(&cluster.view, object);
        keys.iter().flat_map(|key| cluster.plan(&CONTROLLER, key).steps).collect()
    }

    fn object(cluster: &mut Cluster, document: &Value) -> std::sync::Arc<Object> {
        let key = cluster.insert(document);
        cluster.view.get(&key).unwrap().clone()
    }

    #[test]
    fn what_is_missing_is_made_with_its_namespace() {
        let mut cluster = cluster();
        let default = ObjectKey::cluster(&kind::NAMESPACE, "default");
        let namespace = cluster.view.get(&default).unwrap().clone();
        let kinds = |steps: Vec<Step>| -> Vec<String> {
            steps
                .iter()
                .map(|step| match step {
                    Step::Create(kind, _) => kind.kind.to_string(),
                    _ => "other".to_owned(),
                })
                .collect()
        };
        assert_eq!(kinds(steps(&cluster, &namespace)), ["Service", "EndpointSlice"]);
        cluster.view.remove(&default);
        assert_eq!(kinds(steps(&cluster, &namespace))[0], "Namespace");
        let other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "namespace": "shop"}, "spec": {"ports": [{"port": 443}]}});
        let other = object(&mut cluster, &other);
        assert_eq!(steps(&cluster, &other), []);
    }

    #[test]
    fn an_address_that_was_left_behind_is_freed_first() {
        let key = ObjectKey::new(&kind::SERVICE, "default", "kubernetes");
        for (owner, count) in [("kubernetes", 2), ("other", 1)] {
            let mut cluster = cluster();
            cluster.insert(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": "127.96.0.1"},
                "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": owner}}}));
            assert_eq!(cluster.plan(&CONTROLLER, &key).steps.len(), count, "{owner}");
        }
    }

    #[test]
    fn services_stay_changed_and_endpoints_are_put_right() {
        let mut cluster = cluster();
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"type": "NodePort", "selector": {"a": "b"}, "clusterIP": "127.96.0.1",
                "clusterIPs": ["127.96.0.1"], "ports": [{"port": 443}]}});
        let service = object(&mut cluster, &service);
        assert_eq!(steps(&cluster, &service), []);
        let slice = |address: &str| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"a": "b", "c": "d"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}]})
        };
        let right = object(&mut cluster, &slice("127.0.0.1"));
        assert_eq!(steps(&cluster, &right), []);
        let wrong = object(&mut cluster, &slice("127.0.0.9"));
        let planned = steps(&cluster, &wrong);
        let [Step::Update(_, document)] = &planned[..] else { panic!("{planned:?}") };
        assert_eq!(document["endpoints"], json!([{"addresses": ["127.0.0.1"]}]));
        assert_eq!(document["metadata"]["labels"], json!({"a": "b", "c": "d"}));
    }
}
