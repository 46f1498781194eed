use serde_json::{Value, json};

use super::*;
use crate::controllers::{endpoint_slices, replica_set, scheduler, testing::Cluster};

const WEB: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 127.96.0.10, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {note: x, deployment.kubernetes.io/revision: '0'}}
spec:
  replicas: 10
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: v1}]}
";
const ALL: &[&Controller] =
    &[&CONTROLLER, &replica_set::CONTROLLER, &scheduler::CONTROLLER, &endpoint_slices::CONTROLLER];

fn key() -> ObjectKey {
    ObjectKey::new(&kind::DEPLOYMENT, "default", "web")
}

fn image(cluster: &mut Cluster, image: &str) {
    cluster.edit(&key(), |d| {
        d["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}

/// Pods that count, and those of them that are ready.
fn pods(cluster: &Cluster) -> (usize, usize) {
    let active: Vec<_> =
        cluster.view.list(&kind::POD, None).map(Pod::of).filter(Pod::is_active).collect();
    (active.len(), active.iter().filter(|pod| pod.is_ready()).count())
}

fn images(cluster: &Cluster) -> Vec<String> {
    let of = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let mut images: Vec<_> = cluster.list(&kind::POD).iter().map(of).collect();
    images.dedup();
    images
}

/// Controllers and pods in turn, until nothing moves; pods turn ready or vanish one after the other.
fn rest(cluster: &mut Cluster, check: impl Fn(&Cluster)) {
    loop {
        cluster.settle(ALL, &check);
        if !cluster.run_pods(1) {
            return;
        }
        check(cluster);
    }
}

fn running() -> Cluster {
    let mut cluster = Cluster::of(WEB);
    rest(&mut cluster, |_| {});
    assert_eq!(pods(&cluster), (10, 10));
    cluster.events.clear();
    cluster
}

fn sets(cluster: &Cluster) -> Vec<(i64, i64)> {
    let number = |set: &Value| -> i64 {
        set["metadata"]["annotations"][REVISION].as_str().unwrap().parse().unwrap()
    };
    let mut sets: Vec<_> = cluster
        .list(&kind::REPLICA_SET)
        .iter()
        .map(|set| (number(set), set["spec"]["replicas"].as_i64().unwrap()))
        .collect();
    sets.sort_unstable();
    sets
}

fn progressing(cluster: &Cluster) -> (String, String) {
    let status = cluster.get(&key())["status"].clone();
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|c| c["type"] == "Progressing").unwrap();
    let text = |field: &str| condition[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn a_first_rollout() {
    let cluster = running();
    let set = &cluster.list(&kind::REPLICA_SET)[0];
    let hash = set["metadata"]["labels"][HASH_LABEL].as_str().unwrap();
    assert_eq!(set["metadata"]["name"], format!("web-{hash}"));
    assert_eq!(
        set["metadata"]["annotations"],
        json!({"note": "x", REVISION: "1", DESIRED_REPLICAS: "10", MAX_REPLICAS: "13"})
    );
    assert_eq!(set["spec"]["selector"]["matchLabels"][HASH_LABEL], hash);
    let deployment = cluster.get(&key());
    assert_eq!(deployment["metadata"]["annotations"][REVISION], "1");
    for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(deployment["status"][count], 10, "{count}");
    }
    assert_eq!(deployment["status"]["conditions"][0]["reason"], "MinimumReplicasAvailable");
    assert_eq!(progressing(&cluster), ("True".into(), "NewReplicaSetAvailable".into()));
    let slices = cluster.list(&kind::ENDPOINT_SLICE);
    assert_eq!(slices[0]["endpoints"].as_array().unwrap().len(), 10);
}

#[test]
fn a_rolling_update_keeps_its_limits() {
    let mut cluster = running();
    image(&mut cluster, "v2");
    rest(&mut cluster, |cluster| {
        let (active, ready) = pods(cluster);
        assert!(active <= 13, "surge: {active} pods");
        assert!(ready >= 8, "unavailable: {ready} ready");
    });
    assert_eq!(images(&cluster), ["v2"]);
    assert_eq!(sets(&cluster), [(1, 0), (2, 10)]);
    assert!(
        cluster
            .events
            .iter()
            .any(|e| e.starts_with("ScalingReplicaSet Scaled up replica set web-")
                && e.ends_with("from 0 to 3"))
    );
    assert_eq!(progressing(&cluster), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn a_rollback_revives_the_old_set() {
    let mut cluster = running();
    image(&mut cluster, "v2");
    rest(&mut cluster, |_| {});
    image(&mut cluster, "v1");
    rest(&mut cluster, |_| {});
    assert_eq!(images(&cluster), ["v1"]);
    assert_eq!(sets(&cluster), [(2, 0), (3, 10)]);
    assert_eq!(cluster.get(&key())["metadata"]["annotations"][REVISION], "3");
    let revived = cluster
        .list(&kind::REPLICA_SET)
        .into_iter()
        .find(|set| set["spec"]["replicas"] == 10)
        .unwrap();
    assert_eq!(revived["metadata"]["annotations"][REVISION_HISTORY], "1");
}

#[test]
fn recreate_never_mixes() {
    let mut cluster = running();
    cluster.edit(&key(), |d| d["spec"]["strategy"] = json!({"type": "Recreate"}));
    image(&mut cluster, "v2");
    rest(&mut cluster, |cluster| assert!(images(cluster).len() <= 1));
    assert_eq!((images(&cluster), pods(&cluster)), (vec!["v2".to_owned()], (10, 10)));
}

#[test]
fn pause_scale_resume() {
    let mut cluster = running();
    cluster.edit(&key(), |d| d["spec"]["paused"] = true.into());
    image(&mut cluster, "v2");
    rest(&mut cluster, |_| {});
    assert_eq!(images(&cluster), ["v1"]);
    assert_eq!(progressing(&cluster), ("Unknown".into(), "DeploymentPaused".into()));
    cluster.edit(&key(), |d| d["spec"]["replicas"] = 4.into());
    rest(&mut cluster, |_| {});
    assert_eq!(pods(&cluster), (4, 4));
    cluster.edit(&key(), |d| d["spec"]["paused"] = false.into());
    rest(&mut cluster, |_| {});
    assert_eq!((images(&cluster), pods(&cluster)), (vec!["v2".to_owned()], (4, 4)));
}

#[test]
fn scaling_in_the_middle_is_proportional() {
    let mut cluster = running();
    image(&mut cluster, "broken");
    // No new pod turns ready: the rollout stops at 8 old and 5 new.
    cluster.settle(ALL, |_| {});
    while cluster
        .list(&kind::POD)
        .iter()
        .any(|pod| pod["metadata"]["deletionTimestamp"].is_string())
    {
        for pod in cluster.list(&kind::POD) {
            if pod["metadata"]["deletionTimestamp"].is_string() {
                let name = pod["metadata"]["name"].as_str().unwrap();
                cluster.remove(&ObjectKey::new(&kind::POD, "default", name));
            }
        }
        cluster.settle(ALL, |_| {});
    }
    assert_eq!(sets(&cluster), [(1, 8), (2, 5)]);
    cluster.edit(&key(), |d| d["spec"]["replicas"] = 15.into());
    let plan = cluster.plan(&CONTROLLER, &key());
    plan.steps.into_iter().for_each(|step| cluster.apply(step));
    assert_eq!(sets(&cluster), [(1, 11), (2, 7)], "the documentation's example");
}

#[test]
fn old_sets_are_forgotten_beyond_the_limit() {
    let mut cluster = running();
    cluster.edit(&key(), |d| d["spec"]["revisionHistoryLimit"] = 1.into());
    for version in ["v2", "v3", "v4"] {
        image(&mut cluster, version);
        rest(&mut cluster, |_| {});
    }
    assert_eq!(sets(&cluster), [(3, 0), (4, 10)]);
}

#[test]
fn a_stuck_rollout_is_noticed() {
    let mut cluster = Cluster::of(WEB);
    cluster.edit(&key(), |d| d["spec"]["progressDeadlineSeconds"] = 60.into());
    cluster.settle(ALL, |_| {});
    let wait = cluster.plan(&CONTROLLER, &key()).requeue.unwrap();
    assert_eq!(wait.as_secs(), 61);
    cluster.now += wait;
    cluster.settle(ALL, |_| {});
    assert_eq!(progressing(&cluster), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert_eq!(cluster.plan(&CONTROLLER, &key()).requeue, None);
    rest(&mut cluster, |_| {});
    assert_eq!(progressing(&cluster), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn a_name_that_another_has_is_avoided() {
    let mut cluster = Cluster::of(WEB);
    let deployment: Deployment = serde_json::from_value(cluster.get(&key())).unwrap();
    let hash = template::hash(&deployment.spec.unwrap().template, 0);
    cluster.insert(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("web-{hash}")},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "other"}}, "template": {
            "metadata": {"labels": {"app": "other"}},
            "spec": {"containers": [{"name": "a", "image": "i"}]}}}}));
    rest(&mut cluster, |_| {});
    assert_eq!(cluster.get(&key())["status"]["collisionCount"], 1);
    assert_eq!(pods(&cluster), (10, 10));
}
