use serde_json::{Value, json};

use super::*;
use crate::controllers::testing::Cluster;

mod hints;

const BASE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: x}}
spec:
  clusterIP: 127.96.0.10
  ipFamilies: [IPv4]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, appProtocol: h2c}]
";

fn pod(name: &str, port: i32, ready: bool) -> Value {
    let address = format!("10.1.0.{}", name.len() * 10);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "hostname": name, "subdomain": "web",
            "containers": [{"name": "a", "image": "i", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                            "lastTransitionTime": "2025-12-31T00:00:00Z"}]}})
}

fn service() -> ObjectKey {
    ObjectKey::new(&kind::SERVICE, "default", "web")
}

fn settled(pods: &[Value]) -> Cluster {
    let mut cluster = Cluster::of(BASE);
    pods.iter().for_each(|pod| drop(cluster.insert(pod)));
    cluster.settle(&[&CONTROLLER], |_| {});
    cluster
}

#[test]
fn an_endpoint_tells_all_about_its_pod() {
    let cluster = settled(&[pod("a", 8080, true)]);
    let slices = cluster.list(&kind::ENDPOINT_SLICE);
    assert_eq!(slices.len(), 1);
    let slice = &slices[0];
    assert_eq!(slice["metadata"]["generateName"], "web-");
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"team": "x", SERVICE_NAME_LABEL: "web", MANAGED_BY_LABEL: NAME})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert!(slice["metadata"]["annotations"][TRIGGER_TIME_ANNOTATION].is_string());
    assert_eq!(
        slice["ports"],
        json!([{"protocol": "TCP", "name": "http", "port": 8080, "appProtocol": "h2c"}])
    );
    let endpoint = &slice["endpoints"][0];
    assert_eq!(endpoint["addresses"], json!(["10.1.0.10"]));
    assert_eq!(
        endpoint["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );
    assert_eq!(endpoint["hostname"], "a");
    assert_eq!(endpoint["nodeName"], "n1");
    assert_eq!(endpoint["zone"], "a");
    assert_eq!(endpoint["targetRef"]["name"], "a");
}

#[test]
fn conditions_follow_the_pod() {
    let conditions = |pod: &Value, publish: bool| {
        let mut cluster = Cluster::of(BASE);
        cluster.edit(&service(), |s| s["spec"]["publishNotReadyAddresses"] = publish.into());
        cluster.insert(pod);
        cluster.settle(&[&CONTROLLER], |_| {});
        let slices = cluster.list(&kind::ENDPOINT_SLICE);
        let c = slices[0]["endpoints"][0]["conditions"].clone();
        ["ready", "serving", "terminating"].map(|name| c[name].as_bool())
    };
    let ending = |ready| {
        let mut pod = pod("a", 80, ready);
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod
    };
    let some = |values: [bool; 3]| values.map(Some);
    assert_eq!(conditions(&pod("a", 80, true), false), some([true, true, false]));
    assert_eq!(conditions(&pod("a", 80, false), false), some([false, false, false]));
    assert_eq!(conditions(&pod("a", 80, false), true), some([true, false, false]));
    assert_eq!(conditions(&ending(true), false), some([false, true, true]));
    assert_eq!(conditions(&ending(true), true), some([true, true, true]));
    let mut failed = pod("a", 80, true);
    failed["status"]["phase"] = "Failed".into();
    assert_eq!(conditions(&failed, false), [None; 3]);
}

#[test]
fn named_ports_differ_by_pod() {
    let cluster = settled(&[pod("a", 8080, true), pod("bb", 9090, true), pod("ccc", 9090, true)]);
    let slices = cluster.list(&kind::ENDPOINT_SLICE);
    let mut seen: Vec<_> = slices
        .iter()
        .map(|s| {
            (s["ports"][0]["port"].as_i64().unwrap(), s["endpoints"].as_array().unwrap().len())
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [(8080, 1), (9090, 2)]);
}

#[test]
fn slices_come_and_go_with_type_and_family() {
    let mut cluster = settled(&[pod("a", 80, true)]);
    let count = |cluster: &mut Cluster, change: &dyn Fn(&mut Value)| {
        cluster.edit(&service(), change);
        cluster.settle(&[&CONTROLLER], |_| {});
        cluster.list(&kind::ENDPOINT_SLICE).len()
    };
    let change = |fields: Value| move |s: &mut Value| json_patch::merge(&mut s["spec"], &fields);
    let dual = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
    assert_eq!(count(&mut cluster, &change(dual)), 2);
    let single = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"],
        "clusterIPs": ["127.96.0.10"]});
    assert_eq!(count(&mut cluster, &change(single)), 1);
    let external = json!({"type": "ExternalName", "externalName": "example.com",
        "clusterIP": null, "clusterIPs": null});
    assert_eq!(count(&mut cluster, &change(external)), 0);
    let internal = json!({"type": "ClusterIP", "externalName": null});
    assert_eq!(count(&mut cluster, &change(internal)), 1);
    assert_eq!(count(&mut cluster, &|s| s["spec"]["selector"] = json!({})), 0);
}

#[test]
fn slices_of_others_are_left_alone() {
    let mut cluster = Cluster::of(BASE);
    cluster.insert(
        &json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": [],
        "metadata": {"name": "mine", "labels": {SERVICE_NAME_LABEL: "web"}}}),
    );
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(cluster.list(&kind::ENDPOINT_SLICE).len(), 2, "it and our placeholder");
    cluster.edit(&service(), |s| s["spec"]["selector"] = json!({}));
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(cluster.list(&kind::ENDPOINT_SLICE)[0]["metadata"]["name"], "mine");
}

#[test]
fn a_node_that_changes_its_zone_is_noticed() {
    let mut cluster = settled(&[pod("a", 80, true)]);
    let node = ObjectKey::cluster(&kind::NODE, "n1");
    let before = cluster.view.get(&node).unwrap().clone();
    cluster.edit(&node, |node| node["metadata"]["labels"][ZONE_LABEL] = "b".into());
    assert_eq!(service::selecting_on_node(&cluster.view, &before), [service()]);
    let now = cluster.view.get(&node).unwrap().clone();
    assert!(service::selecting_on_node(&cluster.view, &now).is_empty());
    cluster.settle(&[&CONTROLLER], |_| {});
    assert_eq!(cluster.list(&kind::ENDPOINT_SLICE)[0]["endpoints"][0]["zone"], "b");
}
