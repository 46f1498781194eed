//! Stored values that are no objects: they are told, stop nobody, and can be deleted.

use serde_json::Value;

use crate::{
    cluster::Cluster,
    etcd::{Etcd, TOOLS},
    place::Place,
    tools::{self, can_use, wanted},
};

fn status(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut status = tools::snowglobe();
    status.args(["status", "--kubeconfig"]).arg(&cluster.line.kubeconfig).args(arguments);
    tools::run(status).succeeded()
}

/// The keys that cannot be read.
fn listed(cluster: &Cluster) -> Vec<String> {
    let status: Value = serde_json::from_str(&status(cluster, &["-o", "json"])).expect("JSON");
    let unreadable = status["store"]["unreadable"].as_array().expect("a list");
    let key = |value: &Value| value["key"].as_str().expect("a text").to_owned();
    let mut keys: Vec<_> = unreadable.iter().map(key).collect();
    keys.sort();
    keys
}

#[test]
fn what_cannot_be_read_can_be_deleted() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let etcd = Etcd::started(&place);
    let mut cluster = Cluster::start_at(place, &["--store", &etcd.location()]);
    cluster.kubectl("create namespace shop");
    cluster.kubectl("create configmap a -n shop");
    cluster.kubectl("create service nodeport web --tcp=80 --node-port=30080 -n shop");
    cluster.kubectl("create deployment web --image=nginx --replicas=1 -n shop");
    cluster.kubectl("wait deployment web -n shop --for=condition=Available");
    let spoil = |key: &str, value: &str| {
        etcd.etcdctl(&format!("put /snowglobe/data/objects/{key} {value}")).succeeded();
    };
    assert!(listed(&cluster).is_empty());
    spoil("configmaps./shop/a", "{");
    let told = tools::eventually("it is told", || {
        let told = status(&cluster, &[]);
        wanted(told.contains("not readable"), &told).map(|()| told)
    });
    for part in ["objects/configmaps./shop/a", "kubectl delete configmaps a -n shop"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let read = cluster.try_kubectl("get configmap a -n shop").failed();
    assert!(read.contains("configmaps \"a\" cannot be read"), "{read}");
    assert!(cluster.kubectl("get configmaps -n shop").contains("kube-root-ca.crt"));
    cluster.kubectl("delete configmap a -n shop");
    assert!(listed(&cluster).is_empty());
    cluster.kubectl("create configmap a -n shop");
    // Also what the cluster finds at its start, and needs itself.
    for key in ["configmaps./shop/a", "services./shop/web"] {
        spoil(key, "none");
    }
    spoil("deployments.apps/shop/web", "[]");
    cluster.stop();
    spoil("namespaces.//default", "none");
    cluster.start_again();
    let keys = listed(&cluster);
    let expected = ["configmaps./shop/a", "deployments.apps/shop/web", "services./shop/web"];
    assert_eq!(keys, expected.map(|key| format!("objects/{key}")));
    for key in keys {
        let line = format!("key=\"{key}\"");
        let said = cluster.log().lines().any(|log| log.contains("WARN") && log.contains(&line));
        assert!(said, "{line}: {}", cluster.log());
    }
    assert_eq!(cluster.json("get pods -n shop")["items"].as_array().map(Vec::len), Some(1));
    cluster.kubectl("create configmap there");
    cluster.kubectl("delete namespace shop --timeout=20s");
    assert!(listed(&cluster).is_empty());
    // All that was held is free.
    cluster.kubectl("create namespace shop");
    cluster.kubectl("create service nodeport web --tcp=80 --node-port=30080 -n shop");
    cluster.stop();
}

#[test]
fn what_the_cluster_always_has_comes_back() {
    if !can_use(TOOLS) {
        return;
    }
    let place = Place::new();
    let etcd = Etcd::started(&place);
    let cluster = Cluster::start_at(place, &["--store", &etcd.location()]);
    let spoil = |key: &str, value: &str| {
        etcd.etcdctl(&format!("put /snowglobe/data/objects/{key} {value}")).succeeded();
    };
    // Metadata alone make no object.
    spoil("namespaces.//odd", r#"{"metadata":{"name":"odd"},"spec":"s","status":"q"}"#);
    tools::eventually("it is told", || {
        let listed = listed(&cluster);
        wanted(listed.len() == 1, format!("{listed:?}"))
    });
    cluster.kubectl("delete namespace odd");
    let services = || cluster.kubectl("get services -A -o jsonpath={.items[*].spec.clusterIP}");
    let before = services();
    for key in [
        "namespaces.//default",
        "namespaces.//kube-node-lease",
        "services./kube-system/kube-dns",
        "services./default/kubernetes",
        "configmaps./default/kube-root-ca.crt",
    ] {
        spoil(key, "none");
    }
    tools::eventually("the system's own are back", || {
        let listed = listed(&cluster);
        let root = "objects/configmaps./default/kube-root-ca.crt";
        wanted(listed == [root] && services() == before, format!("{listed:?} {}", services()))
    });
    cluster.kubectl("delete configmap kube-root-ca.crt");
    tools::eventually("it is made again", || {
        let made = cluster.try_kubectl("get configmap kube-root-ca.crt");
        wanted(made.code == Some(0), made.stderr)
    });
}
