use super::*;
use crate::controllers::{scheduler, testing::Cluster};

const AGENT: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {disk: fast}}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {disk: fast}}
spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}
---
apiVersion: v1
kind: Node
metadata: {name: n3, labels: {disk: fast}}
---
apiVersion: v1
kind: Node
metadata: {name: n4, labels: {disk: fast}}
spec: {taints: [{key: gpu, effect: NoSchedule}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, annotations: {deprecated.daemonset.template.generation: '1'}}
spec:
  selector: {matchLabels: {app: agent}}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: a, image: v1}]}
";
const ALL: &[&Controller] = &[&CONTROLLER, &scheduler::CONTROLLER];

fn key() -> ObjectKey {
    ObjectKey::new(&kind::DAEMON_SET, "default", "agent")
}

fn rest(cluster: &mut Cluster, check: impl Fn(&Cluster)) {
    loop {
        cluster.settle(ALL, &check);
        check(cluster);
        if !cluster.run_pods(1) {
            return;
        }
    }
}

fn running() -> Cluster {
    let mut cluster = Cluster::of(AGENT);
    rest(&mut cluster, |_| {});
    cluster
}

fn nodes(cluster: &Cluster) -> Vec<String> {
    let node = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    let mut nodes: Vec<_> = cluster.list(&kind::POD).iter().map(node).collect();
    nodes.sort();
    nodes
}

fn images(cluster: &Cluster) -> Vec<String> {
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let mut images: Vec<_> = cluster.list(&kind::POD).iter().map(image).collect();
    images.sort();
    images
}

fn set_image(cluster: &mut Cluster, image: &str) {
    cluster.edit(&key(), |set| {
        set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

fn ready(cluster: &Cluster) -> usize {
    let pods = cluster.view.list(&kind::POD, None).map(Pod::of);
    pods.filter(|pod| pod.is_active() && pod.is_ready()).count()
}

#[test]
fn one_pod_on_every_node_that_takes_it() {
    let mut cluster = running();
    assert_eq!(nodes(&cluster), ["n1", "n2", "n3"], "a cordoned node gets one, a tainted does not");
    let status = cluster.get(&key())["status"].clone();
    for (field, value) in [
        ("desiredNumberScheduled", json!(3)),
        ("currentNumberScheduled", json!(3)),
        ("numberReady", json!(3)),
        ("numberAvailable", json!(3)),
        ("updatedNumberScheduled", json!(3)),
        ("numberMisscheduled", json!(0)),
        ("numberUnavailable", Value::Null),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    cluster.edit(&key(), |set| {
        set["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "slow"});
    });
    rest(&mut cluster, |_| {});
    assert_eq!(nodes(&cluster), [""; 0]);
    cluster.edit(&ObjectKey::cluster(&kind::NODE, "n3"), |node| {
        node["metadata"]["labels"]["disk"] = "slow".into();
    });
    rest(&mut cluster, |_| {});
    assert_eq!(nodes(&cluster), ["n3"]);
    cluster.remove(&ObjectKey::cluster(&kind::NODE, "n3"));
    rest(&mut cluster, |_| {});
    assert_eq!(nodes(&cluster), [""; 0]);
}

#[test]
fn taints_keep_pods_off_or_drive_them_away() {
    let mut cluster = running();
    let taint = |effect: &str| json!([{"key": "maintenance", "effect": effect}]);
    let n1 = ObjectKey::cluster(&kind::NODE, "n1");
    cluster.edit(&n1, |node| node["spec"]["taints"] = taint("NoSchedule"));
    rest(&mut cluster, |_| {});
    assert_eq!(nodes(&cluster), ["n1", "n2", "n3"], "who is there may stay");
    let status = cluster.get(&key())["status"].clone();
    assert_eq!(
        (&status["desiredNumberScheduled"], &status["numberMisscheduled"]),
        (&json!(2), &json!(1))
    );
    cluster.edit(&n1, |node| node["spec"]["taints"] = taint("NoExecute"));
    rest(&mut cluster, |_| {});
    assert_eq!(nodes(&cluster), ["n2", "n3"]);
}

#[test]
fn updates_keep_their_limit_and_can_be_undone() {
    let mut cluster = running();
    set_image(&mut cluster, "v2");
    rest(&mut cluster, |cluster| assert!(ready(cluster) >= 2));
    assert_eq!(images(&cluster), ["v2", "v2", "v2"]);
    let revisions = |cluster: &Cluster| {
        let number = |revision: &Value| revision["revision"].as_i64().unwrap();
        let mut all: Vec<_> = cluster.list(&kind::CONTROLLER_REVISION).iter().map(number).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(revisions(&cluster), [1, 2]);
    set_image(&mut cluster, "v1");
    rest(&mut cluster, |_| {});
    assert_eq!(images(&cluster), ["v1", "v1", "v1"]);
    assert_eq!(revisions(&cluster), [2, 3], "the old one is numbered anew");
    cluster.edit(&key(), |set| set["spec"]["revisionHistoryLimit"] = 1.into());
    set_image(&mut cluster, "v3");
    rest(&mut cluster, |_| {});
    assert_eq!(revisions(&cluster), [3, 4]);
}

#[test]
fn a_surge_never_lacks_a_pod() {
    let mut cluster = running();
    cluster.edit(&key(), |set| {
        set["spec"]["updateStrategy"]["rollingUpdate"] =
            json!({"maxUnavailable": 0, "maxSurge": "34%"});
    });
    set_image(&mut cluster, "v2");
    rest(&mut cluster, |cluster| {
        assert!(ready(cluster) >= 3);
        let alive = cluster.view.list(&kind::POD, None).map(Pod::of).filter(Pod::is_active);
        assert!(alive.count() <= 5);
    });
    assert_eq!(images(&cluster), ["v2", "v2", "v2"]);
}

#[test]
fn on_delete_waits() {
    let mut cluster = running();
    cluster.edit(&key(), |set| set["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    set_image(&mut cluster, "v2");
    rest(&mut cluster, |_| {});
    assert_eq!(images(&cluster), ["v1", "v1", "v1"]);
    let name = cluster.list(&kind::POD)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.delete(&ObjectKey::new(&kind::POD, "default", name.as_str()));
    rest(&mut cluster, |_| {});
    assert_eq!(images(&cluster), ["v1", "v1", "v2"]);
}
