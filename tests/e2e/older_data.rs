//! A data directory that an older version wrote.

use std::process::Command;

use crate::{
    cluster::{Cluster, names},
    place::Place,
    tools::{self, Tool, can_use, eventually, run, wanted},
};

#[test]
fn the_store_of_an_older_version_opens() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.data()).expect("the test's directory is writable");
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(tools::root().join("tests/fixtures/store.tar.gz"));
    unpack.arg("-C").arg(place.data());
    run(unpack).succeeded();
    let cluster = Cluster::start_at(place, &["--nodes", "3"]);

    let read = |what: &str, path: &str| cluster.kubectl(&format!("get {what} -o jsonpath={path}"));
    assert_eq!(read("configmap settings -n shop", "{.data.colour}"), "blue");
    assert_eq!(read("secret password -n shop", "{.data.word}"), "c2VzYW1l");
    assert_eq!(read("flake six -n shop", "{.spec.arms}"), "6", "a custom object, with its default");
    assert_eq!(read("loadbalancerpolicy mine", "{.spec.module.builtin}"), "p2c");
    let service = "service web -n shop";
    assert_eq!(read(service, "{.spec.trafficDistribution}"), "PreferSameZone");
    assert_eq!(read("pvc data-db-0 -n shop", "{.status.phase}"), "Bound");
    cluster.kubectl("rollout status deployment/web -n shop --timeout=60s");
    cluster.kubectl("rollout status statefulset/db -n shop --timeout=60s");

    // What that version did not have is there, and its objects can be written.
    eventually("the new kinds have their objects", || {
        let policies = names(&cluster.json("get topologypolicies"));
        wanted(policies.contains(&"same-zone".to_owned()), format!("{policies:?}"))
    });
    cluster.kubectl("scale deployment/web -n shop --replicas=3");
    cluster.kubectl("rollout status deployment/web -n shop --timeout=60s");
    cluster.apply(
        "{apiVersion: example.com/v1, kind: Flake, metadata: {name: other, namespace: shop}}",
    );
    assert_eq!(names(&cluster.json("get flakes -n shop")), ["other", "six"]);
}
