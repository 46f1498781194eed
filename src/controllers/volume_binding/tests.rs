use super::*;
use crate::controllers::{scheduler, testing::Cluster};

const ALL: [&Controller; 3] = [&CLAIMS, &VOLUMES, &scheduler::CONTROLLER];

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "volumeBindingMode": mode})
}

fn claim(name: &str, class: &Value, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": size}}}})
}

fn volume(name: &str, class: &str, size: &str, more: &Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
        "storageClassName": class, "hostPath": {"path": "/v"}});
    json_patch::merge(&mut spec, more);
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
}

fn pod(claim: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "a", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"disk": name}},
        "status": {"allocatable": {"pods": "10"}}})
}

fn message(pod: &Value) -> &str {
    pod["status"]["conditions"][0]["message"].as_str().unwrap_or_default()
}

#[test]
fn the_smallest_volume_that_fits() {
    let mut cluster = Cluster::default();
    for (name, class, size, more) in [
        ("small", "", "1Gi", json!({})),
        ("large", "", "9Gi", json!({})),
        ("right", "", "3Gi", json!({})),
        ("other", "fast", "2Gi", json!({})),
        ("shared", "", "2Gi", json!({"accessModes": ["ReadOnlyMany"]})),
    ] {
        cluster.insert(&volume(name, class, size, &more));
    }
    let key = cluster.insert(&claim("c", &json!(""), "2Gi"));
    cluster.settle(&ALL, |_| {});
    let bound = cluster.get(&key);
    assert_eq!(bound["spec"]["volumeName"], "right");
    assert_eq!(
        bound["status"],
        json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "3Gi"}})
    );
    let volume = cluster.get(&volume_key("right"));
    assert_eq!(volume["status"]["phase"], "Bound");
    assert_eq!(volume["spec"]["claimRef"]["uid"], cluster.uid(&key));
    assert_eq!(cluster.get(&volume_key("large"))["status"]["phase"], "Available");

    cluster.remove(&key);
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&volume_key("right"))["status"]["phase"], "Released");
    let again = cluster.insert(&claim("c", &json!(""), "2Gi"));
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&again)["spec"]["volumeName"], "large");
}

#[test]
fn volumes_are_made_at_once_or_for_a_pod() {
    for (mode, phase) in [("Immediate", "Bound"), ("WaitForFirstConsumer", "Pending")] {
        let mut cluster = Cluster::default();
        cluster.insert(&node("n1"));
        cluster.insert(&class("c", PROVISIONER, mode));
        let key = cluster.insert(&claim("c", &json!("c"), "2Gi"));
        cluster.settle(&ALL, |_| {});
        assert_eq!(cluster.get(&key)["status"]["phase"], phase);
        let pod = cluster.insert(&pod("c"));
        cluster.settle(&ALL, |_| {});
        let bound = cluster.get(&key);
        assert_eq!(bound["status"]["phase"], "Bound");
        assert_eq!(cluster.get(&pod)["spec"]["nodeName"], "n1");
        let name = format!("pvc-{}", cluster.uid(&key));
        assert_eq!(bound["spec"]["volumeName"], name.as_str());
        let done = format!("ProvisioningSucceeded Successfully provisioned volume {name}");
        assert!(cluster.events.contains(&done), "{:?}", cluster.events);
        if phase == "Pending" {
            assert_eq!(bound["metadata"]["annotations"][claims::SELECTED_NODE], "n1");
            assert!(
                cluster.events[0].starts_with("WaitForFirstConsumer waiting for first consumer")
            );
        }
        cluster.remove(&pod);
        cluster.remove(&key);
        cluster.settle(&ALL, |_| {});
        let left = cluster.get(&volume_key(&name));
        assert!(left.is_null() || left["metadata"]["deletionTimestamp"].is_string(), "{left}");
    }
}

#[test]
fn a_volume_grows_with_its_claim() {
    let mut cluster = Cluster::default();
    let mut growing = class("c", PROVISIONER, "Immediate");
    growing["allowVolumeExpansion"] = true.into();
    cluster.insert(&growing);
    let key = cluster.insert(&claim("c", &json!("c"), "2Gi"));
    cluster.settle(&ALL, |_| {});
    cluster.edit(&key, |claim| claim["spec"]["resources"]["requests"]["storage"] = "5Gi".into());
    cluster.settle(&ALL, |_| {});
    let name = format!("pvc-{}", cluster.uid(&key));
    assert_eq!(cluster.get(&volume_key(&name))["spec"]["capacity"], json!({"storage": "5Gi"}));
    assert_eq!(cluster.get(&key)["status"]["capacity"], json!({"storage": "5Gi"}));
    let done = "VolumeResizeSuccessful Resize volume succeeded".to_owned();
    assert!(cluster.events.contains(&done), "{:?}", cluster.events);
}

#[test]
fn one_pod_at_a_time_has_a_claim_that_is_for_one() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1"));
    cluster.insert(&class("c", PROVISIONER, "Immediate"));
    let mut alone = claim("c", &json!("c"), "2Gi");
    alone["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    cluster.insert(&alone);
    cluster.settle(&ALL, |_| {});
    let first = cluster.insert(&pod("c"));
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&first)["spec"]["nodeName"], "n1");
    let mut other = pod("c");
    other["metadata"]["name"] = "other".into();
    let second = cluster.insert(&other);
    cluster.settle(&ALL, |_| {});
    let waiting = cluster.get(&second);
    let expected = "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and \
                    ReadWriteOncePod access mode.";
    assert!(message(&waiting).starts_with(expected), "{waiting}");
    cluster.remove(&first);
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&second)["spec"]["nodeName"], "n1");
}

#[test]
fn pods_wait_for_their_claims() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1"));
    let pod = cluster.insert(&pod("c"));
    cluster.settle(&ALL, |_| {});
    let unavailable =
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!(
        message(&cluster.get(&pod)),
        format!("0/1 nodes are available: persistentvolumeclaim \"c\" not found. {unavailable}")
    );
    cluster.insert(&claim("c", &json!("later"), "1Gi"));
    cluster.settle(&ALL, |_| {});
    assert_eq!(
        message(&cluster.get(&pod)),
        format!(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. {unavailable}"
        )
    );
    let missing = "ProvisioningFailed storageclass.storage.k8s.io \"later\" not found".to_owned();
    assert!(cluster.events.contains(&missing), "{:?}", cluster.events);
    cluster.insert(&class("later", PROVISIONER, "Immediate"));
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&pod)["spec"]["nodeName"], "n1");
}

#[test]
fn claims_without_class_get_the_default_one() {
    let mut cluster = Cluster::default();
    let early = cluster.insert(&claim("early", &Value::Null, "1Gi"));
    let mut default = class("c", PROVISIONER, "Immediate");
    default["metadata"]["annotations"] =
        json!({"storageclass.kubernetes.io/is-default-class": "true"});
    cluster.insert(&default);
    let late = cluster.insert(&claim("late", &Value::Null, "1Gi"));
    assert_eq!(cluster.get(&late)["spec"]["storageClassName"], "c");
    cluster.settle(&ALL, |_| {});
    for key in [early, late] {
        assert_eq!(cluster.get(&key)["spec"]["storageClassName"], "c");
        assert_eq!(cluster.get(&key)["status"]["phase"], "Bound");
    }
}

#[test]
fn local_volumes_attract_their_pods() {
    let mut cluster = Cluster::default();
    cluster.insert(&node("n1"));
    cluster.insert(&node("n2"));
    cluster.insert(&class("local", NO_PROVISIONER, "WaitForFirstConsumer"));
    let key = cluster.insert(&claim("c", &json!("local"), "1Gi"));
    let pod = cluster.insert(&pod("c"));
    cluster.settle(&ALL, |_| {});
    assert!(
        message(&cluster.get(&pod))
            .contains("2 node(s) didn't find available persistent volumes to bind")
    );
    let only = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["n2"]}]}]}}});
    cluster.insert(&volume("v", "local", "1Gi", &only));
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&key)["spec"]["volumeName"], "v");
    assert_eq!(cluster.get(&pod)["spec"]["nodeName"], "n2");
}

#[test]
fn what_is_left_of_a_claim_or_volume() {
    let mut cluster = Cluster::default();
    for (name, policy) in [("deleted", "Delete"), ("recycled", "Recycle"), ("lost", "Retain")] {
        let more = json!({"persistentVolumeReclaimPolicy": policy});
        cluster.insert(&volume(name, "", "1Gi", &more));
        let mut claim = claim(name, &json!(""), "1Gi");
        claim["spec"]["volumeName"] = name.into();
        cluster.insert(&claim);
    }
    cluster.settle(&ALL, |_| {});
    let claim = |name: &str| ObjectKey::new(&kind::PERSISTENT_VOLUME_CLAIM, "default", name);
    for name in ["deleted", "recycled", "lost"] {
        assert_eq!(cluster.get(&claim(name))["status"]["phase"], "Bound", "{name}");
    }
    cluster.remove(&claim("deleted"));
    cluster.remove(&claim("recycled"));
    cluster.remove(&volume_key("lost"));
    cluster.settle(&ALL, |_| {});
    assert_eq!(cluster.get(&volume_key("deleted"))["status"]["phase"], "Failed");
    assert_eq!(cluster.get(&volume_key("recycled"))["status"]["phase"], "Available");
    assert_eq!(cluster.get(&claim("lost"))["status"]["phase"], "Lost");
}
