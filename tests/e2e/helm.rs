//! A chart's life with helm.

use serde_json::Value;

use crate::{
    cluster::{Cluster, names},
    tools::{self, Tool, can_use, eventually, wanted},
};

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_uninstalled() {
    if !can_use(&[Tool::Kubectl, Tool::Helm]) {
        return;
    }
    let cluster = Cluster::start();
    let helm = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        tools::run(cluster.client_command(Tool::Helm, &arguments)).succeeded()
    };
    let state = |greeting: &str, replicas: u64, revision: &str| {
        let deployment = cluster.json("get deployment shop-web");
        assert_eq!(deployment["status"]["readyReplicas"], replicas, "helm has waited");
        assert_eq!(cluster.json("get configmap shop-settings")["data"]["greeting"], greeting);
        assert_eq!(cluster.json("get configmap shop-hook")["data"]["revision"], revision);
        let shelf = cluster.json("get shelf shop-shelf");
        assert_eq!(
            (&shelf["spec"]["label"], &shelf["spec"]["boards"]),
            (&greeting.into(), &3.into())
        );
        cluster.endpoints_ready("shop-web", replicas.try_into().expect("a few"));
    };
    let chart = "tests/clients/chart";
    helm(&format!("install shop {chart} --wait --timeout 30s"));
    state("hello", 2, "1");
    helm(&format!("upgrade shop {chart} --set greeting=hi,replicas=3 --wait --timeout 30s"));
    state("hi", 3, "2");
    helm("rollback shop 1 --wait --timeout 30s");
    state("hello", 2, "2");
    let history: Value =
        serde_json::from_str(&helm("history shop -o json")).expect("helm prints JSON");
    let statuses: Vec<_> = history.as_array().into_iter().flatten().map(|r| &r["status"]).collect();
    assert_eq!(statuses, ["superseded", "superseded", "deployed"]);
    let broken = format!("upgrade shop {chart} --set replicas=-1 --wait --timeout 30s");
    let arguments: Vec<&str> = broken.split_whitespace().collect();
    let refused = tools::run(cluster.client_command(Tool::Helm, &arguments)).failed();
    assert!(refused.contains("spec.replicas: Invalid value: -1"), "{refused}");
    let broken = format!("upgrade shop {chart} --set greeting=good-morning");
    let arguments: Vec<&str> = broken.split_whitespace().collect();
    let refused = tools::run(cluster.client_command(Tool::Helm, &arguments)).failed();
    assert!(refused.contains("spec.label: Too long: may not be more than 10 bytes"), "{refused}");
    helm("uninstall shop --wait --timeout 30s");
    eventually("all of the release is gone", || {
        let left =
            names(&cluster.json("get deployments,replicasets,pods,services,secrets -n default"));
        wanted(left == ["kubernetes"], format!("{left:?}"))
    });
    assert_eq!(names(&cluster.json("get shelves")), [""; 0]);
    // Helm never takes away what a chart has in `crds`.
    cluster.kubectl("get crd shelves.example.com");
}
