//! Hints through the whole controller: what stands in slices and Events after nodes, pods and Services change.

use serde_json::{Value, json};

use super::*;
use crate::model::well_known::{
    HINTS_ANNOTATION, TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION,
};

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 127.96.0.10, ipFamilies: [IPv4], selector: {app: web}, ports: [{port: 80}]}
";
const NODES_UNKNOWN: &str = "TopologyAwareHintsDisabled Insufficient Node information: allocatable CPU or zone not \
                             specified on one or more nodes, addressType: IPv4";
const ENABLED: &str =
    "TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4";
const DISABLED: &str =
    "TopologyAwareHintsDisabled Topology Aware Hints has been disabled, addressType: IPv4";

fn node(name: &str, zone: &str, cpu: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {ZONE_LABEL: zone}},
        "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn node_key(name: &str) -> ObjectKey {
    ObjectKey::cluster(&kind::NODE, name)
}

/// A pod on a node, the last part of whose address is `number`.
fn pod(number: usize, node: &str) -> Value {
    let address = format!("10.1.{}.{}", number / 200, number % 200 + 1);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("p{number}"), "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "a", "image": "i"}]},
        "status": {"phase": "Running", "podIP": address,
            "podIPs": [{"ip": address}, {"ip": format!("fd00::{}", number + 1)}],
            "conditions": [{"type": "Ready", "status": "True",
                            "lastTransitionTime": "2025-12-31T00:00:00Z"}]}})
}

/// Nodes `a` and `b`, each in the zone of its name, with these numbers of pods.
fn cluster(pods: [usize; 2]) -> Cluster {
    let mut cluster = Cluster::of(WEB);
    let mut number = 0;
    for (name, pods) in ["a", "b"].into_iter().zip(pods) {
        cluster.insert(&node(name, name, "4"));
        for _ in 0..pods {
            cluster.insert(&pod(number, name));
            number += 1;
        }
    }
    settle(&mut cluster);
    cluster
}

fn settle(cluster: &mut Cluster) {
    cluster.settle(&[&CONTROLLER], |_| {});
}

/// `ZONE` for each endpoint, followed by `>ZONES` and `@NODES` of its hints; sorted.
fn hints(cluster: &Cluster) -> String {
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten().map(|one| one["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    };
    let text = |endpoint: &Value| {
        let hints = &endpoint["hints"];
        let (zones, nodes) = (names(&hints["forZones"]), names(&hints["forNodes"]));
        let mut text = endpoint["zone"].as_str().unwrap_or("-").to_owned();
        for (sign, names) in [('>', zones), ('@', nodes)] {
            if !names.is_empty() {
                text.push(sign);
                text.push_str(&names.join("+"));
            }
        }
        text
    };
    let slices = cluster.list(&kind::ENDPOINT_SLICE);
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap());
    let mut all: Vec<_> = endpoints.map(text).collect();
    all.sort();
    all.join(" ")
}

fn annotate(cluster: &mut Cluster, name: &str, value: Option<&str>) {
    cluster.edit(&service(), |s| s["metadata"]["annotations"] = json!({name: value}));
    settle(cluster);
}

fn distribute(cluster: &mut Cluster, distribution: Option<&str>) {
    cluster.edit(&service(), |s| s["spec"]["trafficDistribution"] = distribution.into());
    settle(cluster);
}

/// The Events since the last call, each once.
fn events(cluster: &mut Cluster) -> Vec<String> {
    let mut events = std::mem::take(&mut cluster.events);
    events.dedup();
    events
}

#[test]
fn distribution_becomes_hints() {
    let mut cluster = cluster([1, 1]);
    for (distribution, expected) in [
        (Some("PreferClose"), "a>a b>b"),
        (Some("PreferSameNode"), "a>a@a b>b@b"),
        (Some("PreferSameZone"), "a>a b>b"),
        (None, "a b"),
    ] {
        distribute(&mut cluster, distribution);
        assert_eq!(hints(&cluster), expected, "{distribution:?}");
    }
    assert!(cluster.events.is_empty(), "{:?}", cluster.events);
}

#[test]
fn distribution_skips_what_is_not_ready_or_has_no_zone() {
    let mut cluster = cluster([2, 1]);
    let status = |s: &mut Value| s["status"]["conditions"][0]["status"] = "False".into();
    cluster.edit(&ObjectKey::new(&kind::POD, "default", "p0"), status);
    cluster.edit(&node_key("b"), |node| node["metadata"]["labels"][ZONE_LABEL] = "".into());
    distribute(&mut cluster, Some("PreferSameNode"));
    assert_eq!(hints(&cluster), "-@b a a>a@a");
    distribute(&mut cluster, Some("PreferSameZone"));
    assert_eq!(hints(&cluster), "- a a>a");
}

#[test]
fn headless_services_get_hints_too() {
    let mut cluster = Cluster::of(&WEB.replace("127.96.0.10", "None"));
    cluster.insert(&node("a", "a", "4"));
    cluster.insert(&pod(0, "a"));
    distribute(&mut cluster, Some("PreferSameZone"));
    assert_eq!(hints(&cluster), "a>a");
}

#[test]
fn mode_auto_comes_and_goes() {
    let mut cluster = cluster([3, 1]);
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    assert_eq!(hints(&cluster), "a>a a>a a>b b>b");
    assert_eq!(events(&mut cluster), [ENABLED], "told once");
    let slice = &cluster.list(&kind::ENDPOINT_SLICE)[0];
    assert_eq!(slice["metadata"]["annotations"][HINTS_ANNOTATION], "Auto");
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Disabled"));
    assert_eq!(hints(&cluster), "a a a b");
    assert_eq!(events(&mut cluster), [DISABLED]);
    let slice = &cluster.list(&kind::ENDPOINT_SLICE)[0];
    assert!(slice["metadata"]["annotations"].get(HINTS_ANNOTATION).is_none());
    annotate(&mut cluster, TOPOLOGY_HINTS_ANNOTATION, Some("auto"));
    assert_eq!(hints(&cluster), "a>a a>a a>b b>b");
    assert_eq!(events(&mut cluster), [ENABLED]);
}

#[test]
fn mode_auto_goes_before_distribution() {
    let mut cluster = cluster([3, 1]);
    distribute(&mut cluster, Some("PreferSameNode"));
    assert_eq!(hints(&cluster), "a>a@a a>a@a a>a@a b>b@b");
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    assert_eq!(hints(&cluster), "a>a a>a a>b b>b");
    assert_eq!(events(&mut cluster), [ENABLED]);
    cluster.edit(&node_key("b"), |node| node["status"]["allocatable"]["cpu"] = "0".into());
    settle(&mut cluster);
    assert_eq!(hints(&cluster), "a a a b", "the field does not stand in");
    assert_eq!(events(&mut cluster), [NODES_UNKNOWN]);
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, None);
    assert_eq!(hints(&cluster), "a>a@a a>a@a a>a@a b>b@b");
    assert!(events(&mut cluster).is_empty(), "there were no hints by the mode");
}

/// The same hints of another origin are written once more, or their end could not be told.
#[test]
fn the_origin_of_hints_is_kept_apart() {
    let mut cluster = cluster([1, 1]);
    distribute(&mut cluster, Some("PreferClose"));
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    assert_eq!((hints(&cluster).as_str(), events(&mut cluster)), ("a>a b>b", vec![ENABLED.into()]));
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, None);
    assert_eq!(
        (hints(&cluster).as_str(), events(&mut cluster)),
        ("a>a b>b", vec![DISABLED.into()])
    );
    distribute(&mut cluster, None);
    assert_eq!((hints(&cluster).as_str(), events(&mut cluster)), ("a b", vec![]));
}

#[test]
fn mode_auto_follows_the_nodes() {
    const KEPT: &str = "a>a a>a b>b b>b";
    let check = |change: &dyn Fn(&mut Value), expected: &str, event: &str| {
        let mut cluster = cluster([2, 2]);
        annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
        assert_eq!(
            (hints(&cluster).as_str(), events(&mut cluster)),
            ("a>a a>a b>b b>b", vec![ENABLED.into()])
        );
        let before = cluster.view.get(&node_key("b")).unwrap().clone();
        cluster.edit(&node_key("b"), change);
        let woken = capacity::services_in_mode_auto(&cluster.view, &before);
        assert_eq!(!woken.is_empty(), expected != KEPT || !event.is_empty(), "{expected}");
        settle(&mut cluster);
        assert_eq!(hints(&cluster), expected);
        assert_eq!(events(&mut cluster).concat(), event);
    };
    let status =
        |status: Value| move |node: &mut Value| json_patch::merge(&mut node["status"], &status);
    let labels = |labels: Value| {
        move |node: &mut Value| json_patch::merge(&mut node["metadata"]["labels"], &labels)
    };
    check(&status(json!({"allocatable": {"memory": "1Gi"}})), KEPT, "");
    check(&labels(json!({"x": "y"})), KEPT, "");
    let unready = json!({"conditions": [{"type": "Ready", "status": "Unknown"}]});
    check(&status(unready), "a a b b", NODES_UNKNOWN);
    check(&labels(json!({ZONE_LABEL: ""})), "- - a a", NODES_UNKNOWN);
    let control_plane = json!({"node-role.kubernetes.io/control-plane": ""});
    check(&labels(control_plane), "a a b b", NODES_UNKNOWN);
    check(&status(json!({"allocatable": {"cpu": "12"}})), "a>a a>b b>b b>b", "");
    check(
        &status(json!({"allocatable": {"cpu": "8"}})),
        "a a b b",
        "TopologyAwareHintsDisabled Unable to allocate minimum required endpoints to each zone without exceeding \
         overload threshold (4 endpoints, 2 zones), addressType: IPv4",
    );
}

#[test]
fn a_new_node_wakes_services_in_mode_auto() {
    let mut cluster = cluster([2, 2]);
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    let managers = |times: &[&str]| {
        let manager = |time| {
            json!({"manager": "m", "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": {}, "time": time})
        };
        times.iter().map(manager).collect::<Value>()
    };
    let created = "2026-01-01T01:00:00Z";
    cluster.now = created.parse().unwrap();
    let mut new = node("new", "b", "4");
    new["metadata"]["managedFields"] = managers(&[created]);
    let key = cluster.insert(&new);
    let woken = |cluster: &Cluster| {
        capacity::services_in_mode_auto(&cluster.view, cluster.view.get(&key).unwrap())
    };
    assert_eq!(woken(&cluster), [service()]);
    cluster.edit(&key, |node| {
        node["metadata"]["managedFields"] = managers(&[created, "2026-01-01T02:00:00Z"]);
    });
    assert!(woken(&cluster).is_empty());
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Disabled"));
    let gone = cluster.view.get(&key).unwrap().clone();
    cluster.remove(&key);
    assert!(capacity::services_in_mode_auto(&cluster.view, &gone).is_empty());
}

#[test]
fn mode_auto_needs_enough_endpoints_with_zones() {
    let mut cluster = cluster([1, 0]);
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    assert_eq!(
        events(&mut cluster),
        [
            "TopologyAwareHintsDisabled Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"
        ]
    );
    cluster.insert(&pod(8, "b"));
    settle(&mut cluster);
    assert_eq!((hints(&cluster).as_str(), events(&mut cluster)), ("a>a b>b", vec![ENABLED.into()]));
    // A node of the control plane needs no zone, but its endpoints do.
    let mut control_plane = node("c", "", "4");
    control_plane["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
    cluster.insert(&control_plane);
    cluster.insert(&pod(9, "c"));
    cluster.insert(&pod(10, "b"));
    settle(&mut cluster);
    assert_eq!(hints(&cluster), "- a b b");
    assert_eq!(
        events(&mut cluster),
        [
            "TopologyAwareHintsDisabled One or more endpoints do not have a zone specified, addressType: IPv4"
        ]
    );
}

#[test]
fn families_are_hinted_each_by_itself() {
    let mut cluster = cluster([1, 1]);
    cluster.edit(&service(), |s| {
        s["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        s["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    });
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    assert_eq!(hints(&cluster), "a>a a>a b>b b>b");
    assert_eq!(events(&mut cluster), [ENABLED]);
    cluster.edit(&ObjectKey::new(&kind::POD, "default", "p0"), |pod| {
        pod["status"]["podIPs"].as_array_mut().unwrap().pop();
    });
    settle(&mut cluster);
    assert_eq!(hints(&cluster), "a>a b b>b");
    assert_eq!(
        events(&mut cluster),
        [
            "TopologyAwareHintsDisabled Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv6"
        ]
    );
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, None);
    assert_eq!((hints(&cluster).as_str(), events(&mut cluster)), ("a b b", vec![DISABLED.into()]));
}

/// One pod more touches one slice; the hints of the others stay.
#[test]
fn few_slices_change() {
    let mut cluster = cluster([150, 150]);
    annotate(&mut cluster, TOPOLOGY_MODE_ANNOTATION, Some("Auto"));
    let all = ["a>a "; 150].concat() + &["b>b"; 150].join(" ");
    assert_eq!(hints(&cluster), all);
    assert!(cluster.plan(&CONTROLLER, &service()).steps.is_empty(), "nothing is left to write");
    cluster.insert(&pod(300, "b"));
    let plan = cluster.plan(&CONTROLLER, &service());
    assert!(matches!(plan.steps.as_slice(), [Step::Create(..) | Step::Update(..)]), "{plan:?}");
    settle(&mut cluster);
    assert_eq!(hints(&cluster), all + " b>b");
}
