//! What pods do that have commands, and what is said of pods that are hardly meant.

use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    tools::{Tool, can_use, eventually, wanted},
};

#[test]
fn pods_follow_their_commands() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&[]);
    cluster.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {GREETING: hello}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 8080}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: endless}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: pause, command: [/pause]}]
---
apiVersion: v1
kind: Pod
metadata: {name: speaks}
spec:
  restartPolicy: Always
  containers:
  - name: main
    image: busybox
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [7]}}]
    terminationMessagePolicy: FallbackToLogsOnError
    envFrom: [{configMapRef: {name: settings}}]
    env: [{name: WHO, value: "$(GREETING) from $(WEB_SERVICE_PORT)"}]
    command: [sh, -c]
    args: ['if [ -n "$GREETING" ]; then echo "$WHO"; exit 3; fi']
---
apiVersion: v1
kind: Pod
metadata: {name: lingers}
spec:
  containers:
  - {name: main, image: web, lifecycle: {preStop: {sleep: {seconds: 3}}}}
"#,
    );
    let end = "get pod speaks -o jsonpath={.status.phase},{.status.containerStatuses[0].restartCount},\
               {.status.containerStatuses[0].state.terminated.message}";
    eventually("the pod has spoken", || {
        let seen = cluster.kubectl(end);
        wanted(seen.trim() == "Failed,0,hello from 8080", seen)
    });
    cluster.kubectl("wait pod/lingers --for=condition=Ready --timeout=20s");
    let begun = Instant::now();
    cluster.kubectl("delete pod lingers");
    assert!(begun.elapsed().as_secs() >= 3, "the hook is waited for");
    let active = "get job endless -o jsonpath={.status.active},{.status.succeeded}";
    eventually("the job's pod runs", || {
        let seen = cluster.kubectl(active);
        wanted(seen == "1,", seen)
    });
    let running = "wait pod -l job-name=endless --for=condition=Ready --timeout=20s";
    cluster.kubectl(running);
}

#[test]
fn a_rule_starts_all_containers_again() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&[]);
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: anew}
spec:
  restartPolicy: Never
  initContainers:
  - {name: prepare, image: busybox, command: ["true"]}
  - name: watcher
    image: busybox
    restartPolicy: Always
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]
    command: [sh, -c, "sleep 2; exit 88"]
  containers:
  - {name: main, image: web}
"#,
    );
    cluster.kubectl("wait pod/anew --for=condition=AllContainersRestarting --timeout=20s");
    let counts = "get pod anew -o jsonpath={.status.containerStatuses[0].restartCount},\
                  {.status.initContainerStatuses[*].restartCount},\
                  {.status.containerStatuses[0].lastState.terminated.exitCode}";
    eventually("all containers of the pod have started again", || {
        let seen = cluster.kubectl(counts);
        let (main, rest) = seen.split_once(',').unwrap();
        let again = main != "0" && rest == format!("{main} {main},137");
        wanted(again, seen)
    });
}

#[test]
fn what_is_hardly_meant_is_said() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&[]);
    let told = cluster.try_apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: twice}
spec:
  selector: {matchLabels: {app: twice}}
  template:
    metadata: {labels: {app: twice}}
    spec:
      containers:
      - {name: main, image: web, env: [{name: A, value: "1"}, {name: A, value: "2"}]}
"#,
    );
    let expected =
        "Warning: spec.template.spec.containers[0].env[1]: hides previous definition of \"A\"";
    assert!(told.stderr.contains(expected), "{}", told.stderr);
    let refused = cluster.try_apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: odd}, spec: {containers: [{name: main, image: web, \
         resources: {limits: {gpu: 1}}}]}}",
    );
    assert!(
        refused.stderr.contains("must be a standard resource for containers"),
        "{}",
        refused.stderr
    );
}
