//! What a cluster always has comes back, whoever deletes it.

use std::collections::BTreeMap;

use crate::{
    cluster::{Cluster, items, names},
    http::status_of,
    tools::{Tool, can_use, eventually, wanted},
};

/// Address and uid of the Services that a cluster has from its start.
fn services(cluster: &Cluster) -> Result<BTreeMap<String, [String; 2]>, String> {
    let list = cluster.json("get services -A");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all: BTreeMap<_, _> = items(&list)
        .map(|service| {
            let own = [text(&service["spec"]["clusterIP"]), text(&service["metadata"]["uid"])];
            (text(&service["metadata"]["name"]), own)
        })
        .collect();
    wanted(all.contains_key("kubernetes") && all.contains_key("kube-dns"), list).map(|()| all)
}

#[test]
fn everything_may_be_deleted_and_the_cluster_stays() {
    if !can_use(&[Tool::Kubectl, Tool::Dig, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let error = cluster.try_kubectl(&format!("delete namespace {name}")).failed();
        let expected = format!(
            "Error from server (Forbidden): namespaces \"{name}\" is forbidden: this namespace may not be deleted\n"
        );
        assert_eq!(error, expected);
    }
    let before = services(&cluster).expect("they are there from the start");
    cluster.kubectl("create deployment web --image=nginx --port=8080");
    cluster.kubectl("delete all --all -A");
    let after = eventually("the Services are back", || services(&cluster));
    assert_eq!(after.len(), 2, "what users made is gone: {after:?}");
    for (name, [address, uid]) in &before {
        assert_eq!(after[name][0], *address);
        assert_ne!(after[name][1], *uid, "{name} was deleted");
    }
    cluster.kubectl("delete endpointslices,endpoints --all -A");
    eventually("the endpoints of the API server are back", || {
        let slices = cluster.json("get endpointslices,endpoints -n default");
        wanted(names(&slices) == ["kubernetes", "kubernetes"], slices)
    });
    // A Service that somebody changed stays so; its endpoints do not.
    cluster.kubectl("label service kubernetes mine=yes");
    cluster.kubectl(
        "patch endpointslice kubernetes --type=json -p [{\"op\":\"remove\",\"path\":\"/endpoints/0\"}]",
    );
    cluster.endpoints_ready("kubernetes", 1);
    assert!(cluster.kubectl("get service kubernetes --show-labels").contains("mine=yes"));
    cluster.endpoints_ready("kube-system/kube-dns", 1);
    eventually("the pods of the parts are back", || {
        let pods = cluster.json("get pods -A");
        let living = items(&pods).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        wanted(living.count() == 4, pods)
    });
    let address = &before["kubernetes"][0];
    let found = cluster.addresses_of("kubernetes.default.svc.cluster.local");
    assert_eq!(found, std::slice::from_ref(address));
    if cluster.place.low_ports_allowed() {
        eventually("the API answers at its Service's address", || {
            let status = status_of(&format!("-k https://{address}/readyz"));
            wanted(status == "200", status)
        });
    }
}

#[test]
fn nodes_and_configuration_come_back_at_the_next_start() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.kubectl("delete node node-3");
    cluster.kubectl("delete configmap coredns kube-proxy -n kube-system");
    // The controllers are through with it once the lease has gone with its node.
    eventually("the lease of the node is gone", || {
        let leases = names(&cluster.json("get leases -n kube-node-lease"));
        wanted(leases == ["node-1", "node-2"], leases.join(" "))
    });
    assert_eq!(names(&cluster.json("get nodes")), ["node-1", "node-2"]);
    assert!(!cluster.addresses_of("kubernetes.default.svc.cluster.local").is_empty());
    let maps = cluster.json("get configmaps -n kube-system");
    assert_eq!(names(&maps), ["kube-root-ca.crt"]);
    cluster.stop();
    cluster.start_again();
    assert_eq!(names(&cluster.json("get nodes")), ["node-1", "node-2", "node-3"]);
    let maps = cluster.json("get configmaps -n kube-system");
    assert_eq!(names(&maps), ["coredns", "kube-proxy", "kube-root-ca.crt"]);
}
