//! What is kept when a cluster stops, in order or not.

use std::{collections::BTreeMap, fs};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    cluster::{Cluster, items},
    http::pod_at,
    tools::{self, Tool, can_use},
};

/// Kinds that nobody but their user writes to once things are quiet.
const KEPT: &str = "get svc,cm,secrets,deploy,rs,sts,ns,runtimeclasses,lbp,endpointslices -A";

/// What must not change: uid, address and content of each object.
fn kept(cluster: &Cluster) -> BTreeMap<String, Value> {
    let list = cluster.json(KEPT);
    let identity = |object: &Value| {
        let metadata = &object["metadata"];
        let name = format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"]);
        let own = serde_json::json!({"uid": metadata["uid"], "created": metadata["creationTimestamp"],
            "labels": metadata["labels"], "spec": object["spec"], "data": object["data"]});
        // Who is not written to by any part of the cluster keeps its version too.
        let own = match object["kind"].as_str() {
            Some("ConfigMap" | "Secret" | "Namespace" | "RuntimeClass") => {
                serde_json::json!([own, metadata["resourceVersion"]])
            }
            _ => own,
        };
        (name, own)
    };
    items(&list).map(identity).collect()
}

fn revision(object: &Value) -> u64 {
    let text = object["metadata"]["resourceVersion"].as_str().expect("a resourceVersion");
    text.parse().expect("a number")
}

fn newest_revision(cluster: &Cluster) -> u64 {
    let list = cluster.json("get svc,cm,secrets,deploy,rs,sts,ns,pods,endpointslices,events -A");
    items(&list).map(revision).max().expect("there are objects")
}

fn with_objects() -> Cluster {
    let cluster = Cluster::start();
    for name in ["01-clusterip", "02-service-types", "03-statefulset", "05-multi-port"] {
        cluster.kubectl(&format!("apply -f tests/manifests/{name}.yaml"));
    }
    cluster.kubectl("create secret generic password --from-literal=a=b");
    cluster.kubectl("label service postgres kept=yes");
    cluster.endpoints_ready("production/payment-service", 3);
    cluster.endpoints_ready("postgres", 3);
    cluster
}

#[test]
fn everything_is_there_after_a_restart() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Dig]) {
        return;
    }
    let mut cluster = with_objects();
    let before = kept(&cluster);
    let newest = newest_revision(&cluster);
    let kubeconfig = fs::read_to_string(&cluster.line.kubeconfig).expect("UTF-8");
    let old_kubeconfig = cluster.place.file("old-kubeconfig", &kubeconfig);
    let payment = cluster.cluster_ip("production/payment-service");
    for signal in [Signal::TERM, Signal::INT] {
        let status = cluster.end(signal);
        assert!(status.success(), "{status}");
        cluster.start_again();
        // Existing Services have their addresses from the first moment on.
        assert_eq!(
            cluster.addresses_of("payment-service.production.svc.cluster.local"),
            std::slice::from_ref(&payment)
        );
        let after = kept(&cluster);
        let differing: Vec<_> =
            before.iter().filter(|(name, own)| after.get(*name) != Some(own)).collect();
        assert!(differing.is_empty(), "{differing:#?}");
        cluster.endpoints_ready("production/payment-service", 3);
        cluster.endpoints_ready("postgres", 3);
        assert!(pod_at(&payment, 9000).starts_with("payment-deployment-"));
    }
    cluster.kubectl("create configmap after");
    let map = cluster.json("get configmap after");
    assert!(revision(&map) > newest, "revisions go on rising");
    // Who watched before the restart goes on, or is told to list again.
    let path = format!("/api/v1/configmaps?watch=1&resourceVersion={newest}&timeoutSeconds=1");
    let watched = cluster.kubectl(&format!("get --raw {path}"));
    let resumed = watched.contains("\"ADDED\"") && watched.contains("\"after\"");
    assert!(resumed || watched.contains("\"code\":410"), "{watched}");
    // The identity of the cluster is kept: a copied kubeconfig needs its new address only.
    let mut kubectl =
        cluster.kubectl_command(&["get", "namespaces", "--server", &cluster.line.api]);
    kubectl.env("KUBECONFIG", &old_kubeconfig);
    assert!(tools::run(kubectl).succeeded().contains("production"));
}

#[test]
fn the_address_in_the_kubeconfig_holds_on_a_fixed_port() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let place = crate::place::Place::new();
    // Nobody else uses this address.
    let listen = format!("--api-listen={}:6443", place.free_address());
    let mut cluster = Cluster::start_at(place, &[&listen]);
    let before = fs::read_to_string(&cluster.line.kubeconfig).expect("UTF-8");
    let old = cluster.place.file("old-kubeconfig", &before);
    cluster.stop();
    cluster.start_again();
    let mut kubectl = cluster.kubectl_command(&["get", "namespaces"]);
    kubectl.env("KUBECONFIG", &old);
    assert!(tools::run(kubectl).succeeded().contains("kube-system"));
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let mut cluster = with_objects();
    let before = kept(&cluster);
    for turn in 0..3 {
        let names: Vec<String> = (0..10).map(|i| format!("map-{turn}-{i}")).collect();
        for name in &names {
            cluster.kubectl(&format!("create configmap {name} --from-literal=turn={turn}"));
        }
        let status = cluster.end(Signal::KILL);
        assert_eq!(status.code(), None, "killed");
        cluster.start_again();
        let after = kept(&cluster);
        for (name, own) in &before {
            assert_eq!(after.get(name), Some(own), "{name}");
        }
        let maps = cluster.kubectl("get configmaps -o name");
        for name in names {
            assert!(maps.contains(&format!("configmap/{name}\n")), "{name} of turn {turn}: {maps}");
        }
    }
    cluster.endpoints_ready("production/payment-service", 3);
    assert!(
        pod_at(&cluster.cluster_ip("production/payment-service"), 9000).starts_with("payment-")
    );
}

#[test]
fn memory_keeps_nothing() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let mut cluster = Cluster::start_with(&["--store=memory"]);
    cluster.kubectl("create configmap gone");
    cluster.stop();
    cluster.start_again();
    cluster.try_kubectl("get configmap gone").failed();
}
