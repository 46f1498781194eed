//! What a pod needs before it starts and before it gets traffic: its ServiceAccount and RuntimeClass, ConfigMaps and Secrets,
//! gates; and what a status write may change besides; with kubectl.

use serde_json::json;

use crate::{
    cluster::{Cluster, items},
    tools::{Tool, can_use, eventually, wanted},
};

#[test]
fn pods_wait_for_what_they_need() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    references(&cluster);
    gates(&cluster);
    accounts(&cluster);
    statuses(&cluster);
}

fn pod(name: &str, spec: &str, container: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{{spec}containers: \
         [{{name: main, image: i, ports: [{{containerPort: 80}}]{container}}}]}}}}\n---\n"
    )
}

/// Waits until `kubectl get` shows this status of a pod.
#[track_caller]
fn shown(cluster: &Cluster, pod: &str, status: &str) {
    eventually(&format!("pod {pod} is {status}"), || {
        let line = cluster.kubectl(&format!("get pod {pod} --no-headers"));
        wanted(line.split_whitespace().nth(2) == Some(status), line)
    });
}

fn references(cluster: &Cluster) {
    let volume = |secret: &str| format!("volumes: [{{name: v, secret: {{{secret}}}}}], ");
    cluster.apply(
        &[
            pod("mounts", &volume("secretName: key"), ""),
            pod("reads", "", ", envFrom: [{configMapRef: {name: settings}}]"),
            pod("may", &volume("secretName: none, optional: true"), ""),
            pod(
                "partly",
                "",
                "}, {name: side, image: i, envFrom: [{configMapRef: {name: settings}}]",
            ),
        ]
        .concat(),
    );
    shown(cluster, "may", "Running");
    shown(cluster, "mounts", "ContainerCreating");
    shown(cluster, "reads", "CreateContainerConfigError");
    assert_eq!(
        cluster.event("default", "mounts", "FailedMount"),
        "MountVolume.SetUp failed for volume \"v\" : secret \"key\" not found"
    );
    assert_eq!(
        cluster.event("default", "reads", "Failed"),
        "Error: configmap \"settings\" not found"
    );
    shown(cluster, "partly", "CreateContainerConfigError");
    let states = "get pod partly -o jsonpath={.status.phase},{.status.containerStatuses[?(@.state.running)].name},\
                  {.status.containerStatuses[?(@.state.waiting)].name}";
    assert_eq!(cluster.kubectl(states), "Pending,main,side", "the other container runs");
    cluster.kubectl("create secret generic key --from-literal=a=b");
    cluster.kubectl("create configmap settings --from-literal=a=b");
    cluster.kubectl("wait pod/mounts pod/reads pod/partly --for=condition=Ready --timeout=30s");
}

fn gates(cluster: &Cluster) {
    cluster.apply(
        &[
            pod("gated", "readinessGates: [{conditionType: example.com/in}], ", ""),
            pod("early", "schedulingGates: [{name: example.com/later}], ", ""),
        ]
        .concat(),
    );
    cluster.kubectl("expose pod gated --port=80");
    let condition = |kind: &str| {
        let filter = format!("{{.status.conditions[?(@.type==\"{kind}\")]['reason','message']}}");
        cluster.kubectl(&format!("get pod gated -o jsonpath={filter}"))
    };
    shown(cluster, "gated", "Running");
    assert_eq!(
        condition("Ready"),
        "ReadinessGatesNotReady corresponding condition of pod readiness gate \"example.com/in\" does not exist."
    );
    cluster.endpoints_ready("gated", 0);
    let set = |status: &str| {
        let patch =
            json!({"status": {"conditions": [{"type": "example.com/in", "status": status}]}});
        cluster.kubectl(&format!("patch pod gated --subresource=status -p {patch}"));
    };
    set("True");
    cluster.endpoints_ready("gated", 1);
    set("False");
    cluster.endpoints_ready("gated", 0);
    // Neither binding nor status is a change of what is wanted.
    assert_eq!(cluster.kubectl("get pod gated -o jsonpath={.metadata.generation}"), "1");

    shown(cluster, "early", "SchedulingGated");
    cluster.kubectl(
        "patch pod early --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/schedulingGates\"}]",
    );
    shown(cluster, "early", "Running");
}

fn accounts(cluster: &Cluster) {
    let refused = cluster.try_apply(&pod("lost", "serviceAccountName: robot, ", "")).failed();
    let why = "pods \"lost\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found";
    assert!(refused.contains(why), "{refused}");
    let refused = cluster.try_apply(&pod("lost", "runtimeClassName: vm, ", "")).failed();
    let why = "pods \"lost\" is forbidden: pod rejected: RuntimeClass \"vm\" not found";
    assert!(refused.contains(why), "{refused}");
    let spec = cluster.json("get pod gated")["spec"].clone();
    let volume = spec["volumes"][0]["name"].as_str().expect("a volume for the token").to_owned();
    assert!(volume.starts_with("kube-api-access-"), "{volume}");
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);

    cluster.apply(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: robots, labels: {own: label}}, spec: {replicas: 2, \
         selector: {matchLabels: {app: robots}}, template: {metadata: {labels: {app: robots}}, \
         spec: {serviceAccountName: robot, containers: [{name: a, image: i}]}}}}",
    );
    let failure = |what: &str| {
        let found = cluster.json(what);
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "ReplicaFailure")
    };
    let told = eventually("the Deployment tells why it has no pods", || {
        failure("get deployment robots")
            .ok_or_else(|| cluster.kubectl("get deployment robots -o yaml"))
    });
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("FailedCreate")));
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.contains("serviceaccount \"robot\" not found"), "{message}");
    let sets = cluster.json("get replicasets -l app=robots");
    let set = items(&sets).next().expect("a ReplicaSet")["status"]["conditions"][0].clone();
    assert_eq!(set["type"], "ReplicaFailure");
    cluster.kubectl("create serviceaccount robot");
    cluster.kubectl("rollout status deployment/robots --timeout=60s");
    eventually("nothing fails any more", || {
        let failure = failure("get deployment robots");
        wanted(failure.is_none(), format!("{failure:?}"))
    });
}

fn statuses(cluster: &Cluster) {
    let patch = json!({"metadata": {"labels": {"own": "other"}, "annotations": {"by": "status"}}});
    cluster.kubectl(&format!(
        "patch deployment robots --subresource=status --type=merge --field-manager=teller -p {patch}"
    ));
    let found = cluster.json("get deployment robots --show-managed-fields");
    let metadata = &found["metadata"];
    assert_eq!(metadata["annotations"]["by"], "status");
    assert_eq!(
        metadata["labels"]["own"], "label",
        "a Deployment's status takes its labels nowhere"
    );
    assert_eq!(metadata["generation"], 1);
    let managers = metadata["managedFields"].as_array().expect("managers");
    let teller = managers.iter().find(|entry| entry["manager"] == "teller");
    assert_eq!(teller.map(|entry| &entry["subresource"]), Some(&json!("status")), "{managers:?}");
}
