use serde_json::{Value, json};

use super::*;
use crate::controllers::testing::Cluster;

fn node(name: &str, zone: &str, spec: &Value, allocatable: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "disk": name}},
        "spec": spec, "status": {"allocatable": allocatable}})
}

fn pod(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": spec})
}

fn placed(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for pod in cluster.list(&kind::POD) {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or("-").to_owned();
        *count.entry(node).or_default() += 1;
    }
    count
}

#[test]
fn pods_spread_over_zones_then_nodes() {
    let mut cluster = Cluster::default();
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        cluster.insert(&node(name, zone, &json!({}), &json!({"pods": "110"})));
    }
    for n in 0..8 {
        cluster.insert(&pod(&format!("p{n}"), &json!({})));
    }
    cluster.settle(&[&CONTROLLER], |_| {});
    let expected = [("n1", 2), ("n2", 2), ("n3", 4)].map(|(node, n)| (node.to_owned(), n));
    assert_eq!(placed(&cluster), BTreeMap::from(expected));
    let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p0"));
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(pod["status"]["conditions"][0]["status"], "True");
    assert!(
        cluster.events.contains(&"Scheduled Successfully assigned default/p0 to n1".to_owned())
    );
}

#[test]
fn more_than_one_batch() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "1000"})));
    for n in 0..600 {
        cluster.insert(&pod(&format!("p{n}"), &json!({})));
    }
    assert_eq!(cluster.plan(&CONTROLLER, &everything()).requeue, Some(std::time::Duration::ZERO));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(placed(&cluster)["n1"], 600);
}

#[test]
fn what_does_not_fit_is_told() {
    let requests =
        |cpu: &str| json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
    let term = |operator: &str, values: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "disk", "operator": operator, "values": values}]}]}}}})
    };
    let tainted = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
    for (spec, node_spec, expected) in [
        (json!({}), json!({}), "n1"),
        (requests("2"), json!({}), "n1"),
        (requests("2500m"), json!({}), "0/1 nodes are available: 1 Insufficient cpu."),
        (json!({"nodeSelector": {"disk": "n1"}}), json!({}), "n1"),
        (
            json!({"nodeSelector": {"disk": "x"}}),
            json!({}),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        (term("In", json!(["n1", "n2"])), json!({}), "n1"),
        (
            term("NotIn", json!(["n1"])),
            json!({}),
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            json!({}),
            json!({"unschedulable": true}),
            "0/1 nodes are available: 1 node(s) were unschedulable.",
        ),
        (
            json!({}),
            tainted.clone(),
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
        ),
        (json!({"tolerations": [{"operator": "Exists"}]}), tainted.clone(), "n1"),
        (json!({"tolerations": [{"key": "gpu", "value": "yes"}]}), tainted.clone(), "n1"),
        (
            json!({"tolerations": [{"key": "gpu", "value": "no"}]}),
            tainted,
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
        ),
    ] {
        let mut cluster = Cluster::default();
        cluster.insert(&node("n1", "a", &node_spec, &json!({"pods": "1", "cpu": "2"})));
        cluster.insert(&pod("p", &spec));
        cluster.settle(&[&CONTROLLER], |_| {});
        let pod = cluster.get(&ObjectKey::new(&kind::POD, "default", "p"));
        let told = match pod["spec"]["nodeName"].as_str() {
            Some(node) => node,
            None => pod["status"]["conditions"][0]["message"].as_str().unwrap(),
        };
        assert_eq!(told, expected, "{spec}");
    }
}

#[test]
fn a_full_node_takes_no_more_until_a_pod_ends() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1", "a", &json!({}), &json!({"pods": "1"})));
    cluster.insert(&pod("p1", &json!({})));
    cluster.settle(&[&CONTROLLER], |_| {});
    cluster.insert(&pod("p2", &json!({})));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert!(
        cluster
            .events
            .contains(&"FailedScheduling 0/1 nodes are available: 1 Too many pods.".to_owned())
    );
    cluster.remove(&ObjectKey::new(&kind::POD, "default", "p1"));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(placed(&cluster), BTreeMap::from([("n1".to_owned(), 1)]));
}
