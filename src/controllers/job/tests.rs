use serde_json::{Value, json};

use super::*;
use crate::controllers::{garbage, testing::Cluster};

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: pi}
spec:
  parallelism: 2
  completions: 3
  backoffLimit: 1
  manualSelector: true
  selector: {matchLabels: {job: pi}}
  template:
    metadata: {labels: {job: pi}}
    spec: {restartPolicy: Never, nodeName: n1, containers: [{name: a, image: v1}]}
";

fn key() -> ObjectKey {
    ObjectKey::new(&kind::JOB, "default", "pi")
}

fn settle(cluster: &mut Cluster) {
    cluster.settle(&[&CONTROLLER], |_| {});
}

fn pods(cluster: &Cluster, phase: &str) -> Vec<ObjectKey> {
    let pods = cluster.view.list(&kind::POD, None).map(Pod::of);
    let chosen = pods.filter(|pod| pod.facts.status.phase == phase && !pod.object.is_terminating());
    chosen.map(|pod| pod.object.key.clone()).collect()
}

/// Lets the first running pod end with this code.
fn end(cluster: &mut Cluster, code: i32) {
    let pod = pods(cluster, "Pending").remove(0);
    let now = cluster.now;
    cluster.edit(&pod, |pod| {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        pod["status"] = json!({"phase": phase, "containerStatuses": [{"name": "a", "image": "",
            "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code, "finishedAt": now}}}]});
    });
    settle(cluster);
}

fn status(cluster: &Cluster) -> Value {
    cluster.get(&key())["status"].clone()
}

fn conditions(cluster: &Cluster) -> Vec<String> {
    let status = status(cluster);
    let text = |c: &Value| {
        let field = |name: &str| c[name].as_str().unwrap().to_owned();
        format!("{}={} {}", field("type"), field("status"), field("reason"))
    };
    status["conditions"].as_array().into_iter().flatten().map(text).collect()
}

fn with(spec: &Value) -> Cluster {
    let mut cluster = Cluster::default();
    let mut job: Value = serde_yaml::from_str(JOB).unwrap();
    json_patch::merge(&mut job["spec"], spec);
    cluster.insert(&job);
    settle(&mut cluster);
    cluster
}

#[test]
fn runs_to_completion() {
    let mut cluster = with(&json!({}));
    assert_eq!(pods(&cluster, "Pending").len(), 2);
    assert_eq!(status(&cluster)["active"], 2);
    end(&mut cluster, 0);
    assert_eq!(status(&cluster)["succeeded"], 1);
    assert_eq!(pods(&cluster, "Pending").len(), 2, "the third one");
    end(&mut cluster, 0);
    assert_eq!(pods(&cluster, "Pending").len(), 1);
    end(&mut cluster, 0);
    let status = status(&cluster);
    assert_eq!((&status["succeeded"], &status["active"]), (&json!(3), &Value::Null));
    assert_eq!(status["uncountedTerminatedPods"], json!({}));
    assert!(status["completionTime"].is_string());
    assert_eq!(
        conditions(&cluster),
        ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"]
    );
    assert!(cluster.list(&kind::POD).iter().all(|pod| pod["metadata"]["finalizers"].is_null()));
    assert!(cluster.events.contains(&"Completed Job completed".to_owned()));
}

#[test]
fn fails_beyond_the_limit_and_waits_between() {
    let mut cluster = with(&json!({"completions": 1, "parallelism": 1}));
    end(&mut cluster, 1);
    assert_eq!(status(&cluster)["failed"], 1);
    assert_eq!(pods(&cluster, "Pending").len(), 0);
    let wait = cluster.plan(&CONTROLLER, &key()).requeue.unwrap();
    assert_eq!(wait.as_secs(), 10);
    cluster.now += wait;
    settle(&mut cluster);
    end(&mut cluster, 1);
    assert_eq!(
        conditions(&cluster),
        ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"]
    );
    assert_eq!(status(&cluster)["failed"], 2);
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut cluster = with(&json!({"activeDeadlineSeconds": 30}));
    assert_eq!(cluster.plan(&CONTROLLER, &key()).requeue.unwrap().as_secs(), 30);
    cluster.now += SignedDuration::from_secs(30);
    settle(&mut cluster);
    assert_eq!(conditions(&cluster), ["FailureTarget=True DeadlineExceeded"]);
    while cluster.run_pods(1) {
        settle(&mut cluster);
    }
    assert_eq!(conditions(&cluster)[1], "Failed=True DeadlineExceeded");
    assert_eq!(cluster.list(&kind::POD).len(), 0);
}

#[test]
fn suspended_jobs_have_no_pods() {
    let mut cluster = with(&json!({"suspend": true}));
    assert_eq!(cluster.list(&kind::POD).len(), 0);
    assert_eq!(conditions(&cluster), ["Suspended=True JobSuspended"]);
    assert!(status(&cluster)["startTime"].is_null());
    cluster.edit(&key(), |job| job["spec"]["suspend"] = false.into());
    settle(&mut cluster);
    assert_eq!(conditions(&cluster), ["Suspended=False JobResumed"]);
    assert_eq!(pods(&cluster, "Pending").len(), 2);
    cluster.edit(&key(), |job| job["spec"]["suspend"] = true.into());
    settle(&mut cluster);
    assert_eq!(pods(&cluster, "Pending").len(), 0);
}

#[test]
fn each_index_succeeds_once() {
    let mut cluster =
        with(&json!({"completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 100}));
    let first = cluster.get(&pods(&cluster, "Pending")[0]);
    assert_eq!(first["metadata"]["annotations"][annotations::INDEX], "0");
    assert_eq!(first["spec"]["hostname"], "pi-0");
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with("pi-0-"));
    end(&mut cluster, 0);
    assert_eq!(status(&cluster)["completedIndexes"], "0");
    end(&mut cluster, 1);
    assert_eq!(status(&cluster)["failedIndexes"], "1");
    cluster.now += SignedDuration::from_secs(20);
    settle(&mut cluster);
    end(&mut cluster, 0);
    assert_eq!(status(&cluster)["completedIndexes"], "0,2");
    assert_eq!(conditions(&cluster)[1], "Failed=True FailedIndexes");
}

/// The annotations of the first pod that runs: failures of its index, and those that were ignored.
fn counters(cluster: &Cluster) -> (Value, Value) {
    let pod = cluster.get(&pods(cluster, "Pending")[0]);
    let annotations = &pod["metadata"]["annotations"];
    (annotations[annotations::FAILURES].clone(), annotations[annotations::IGNORED_FAILURES].clone())
}

/// Lets the back-off of an index pass, which takes this many seconds.
fn wait(cluster: &mut Cluster, seconds: u64) {
    let wait = cluster.plan(&CONTROLLER, &key()).requeue.unwrap();
    assert_eq!(wait.as_secs(), seconds);
    cluster.now += wait;
    settle(cluster);
}

#[test]
fn an_index_may_fail_for_itself() {
    let mut cluster = with(&json!({"completionMode": "Indexed", "completions": 2,
        "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX}));
    assert_eq!(counters(&cluster), (json!("0"), Value::Null));
    assert_eq!(status(&cluster)["failedIndexes"], "");
    end(&mut cluster, 1);
    let failed = pods(&cluster, "Failed").remove(0);
    assert_eq!(cluster.get(&failed)["metadata"]["finalizers"], json!([TRACKING]));
    assert_eq!(status(&cluster)["failed"], Value::Null, "its replacement must know of it first");
    assert_eq!(pods(&cluster, "Pending").len(), 1);
    wait(&mut cluster, 10);
    assert_eq!(counters(&cluster), (json!("1"), Value::Null));
    assert_eq!(status(&cluster)["failed"], 1);
    assert_eq!(cluster.get(&failed)["metadata"]["finalizers"], Value::Null);
    end(&mut cluster, 1);
    assert_eq!(
        (&status(&cluster)["failed"], &status(&cluster)["failedIndexes"]),
        (&json!(2), &json!("0"))
    );
    end(&mut cluster, 0);
    assert_eq!(status(&cluster)["completedIndexes"], "1");
    assert_eq!(conditions(&cluster)[1], "Failed=True FailedIndexes");
}

#[test]
fn failures_of_an_index_by_policy() {
    let rule = |action: &str, code: i32| json!({"action": action, "onExitCodes": {"operator": "In", "values": [code]}});
    let rules = [rule("Ignore", 7), rule("Count", 8), rule("FailIndex", 42)];
    let mut cluster =
        with(&json!({"completionMode": "Indexed", "completions": 2, "parallelism": 1,
        "backoffLimitPerIndex": 5, "backoffLimit": i32::MAX, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules}}));
    for (code, seconds, failures, ignored, failed) in [
        (7, 10, "0", json!("1"), Value::Null),
        (8, 20, "1", json!("1"), json!(1)),
        (7, 40, "1", json!("2"), json!(1)),
    ] {
        end(&mut cluster, code);
        wait(&mut cluster, seconds);
        assert_eq!(counters(&cluster), (json!(failures), ignored), "after {code}");
        assert_eq!(status(&cluster)["failed"], failed, "after {code}");
    }
    end(&mut cluster, 42);
    assert_eq!(
        (&status(&cluster)["failed"], &status(&cluster)["failedIndexes"]),
        (&json!(2), &json!("0"))
    );
}

#[test]
fn a_rule_may_fail_the_job_of_an_index() {
    let rule = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}});
    let mut cluster = with(&json!({"completionMode": "Indexed", "backoffLimitPerIndex": 5,
        "backoffLimit": i32::MAX, "podFailurePolicy": {"rules": [rule]}}));
    end(&mut cluster, 42);
    assert_eq!(conditions(&cluster)[0], "FailureTarget=True PodFailurePolicy");
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let mut cluster = with(&json!({"completionMode": "Indexed", "parallelism": 3,
        "backoffLimitPerIndex": 0, "backoffLimit": i32::MAX, "maxFailedIndexes": 1}));
    end(&mut cluster, 1);
    assert_eq!(conditions(&cluster), [""; 0]);
    end(&mut cluster, 1);
    assert_eq!(conditions(&cluster)[0], "FailureTarget=True MaxFailedIndexesExceeded");
}

#[test]
fn a_deleted_pod_of_an_index_has_failed() {
    for (policy, waits) in [("TerminatingOrFailed", false), ("Failed", true)] {
        let mut cluster =
            with(&json!({"completionMode": "Indexed", "completions": 1, "parallelism": 1,
            "backoffLimitPerIndex": 3, "backoffLimit": i32::MAX, "podReplacementPolicy": policy}));
        cluster.delete(&pods(&cluster, "Pending")[0].clone());
        settle(&mut cluster);
        cluster.now += SignedDuration::from_mins(1);
        settle(&mut cluster);
        assert_eq!(pods(&cluster, "Pending").is_empty(), waits, "{policy}");
        if !waits {
            assert_eq!(counters(&cluster), (json!("1"), Value::Null));
            assert_eq!(status(&cluster)["failed"], 1);
        }
    }
}

#[test]
fn exit_codes_decide_by_policy() {
    let rule = |action: &str, code: i32| json!({"action": action, "onExitCodes": {"operator": "In", "values": [code]}});
    let policy = json!({"rules": [rule("Ignore", 7), rule("FailJob", 42)]});
    let mut cluster = with(&json!({"podFailurePolicy": policy}));
    end(&mut cluster, 7);
    assert_eq!(status(&cluster)["failed"], Value::Null);
    end(&mut cluster, 42);
    assert_eq!(conditions(&cluster)[0], "FailureTarget=True PodFailurePolicy");
    let message = status(&cluster)["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("failed with exit code 42 matching FailJob rule at index 1"),
        "{message}"
    );
}

#[test]
fn finished_jobs_go_after_their_time() {
    let mut cluster =
        with(&json!({"completions": 1, "parallelism": 1, "ttlSecondsAfterFinished": 60}));
    end(&mut cluster, 0);
    assert_eq!(cluster.plan(&CONTROLLER, &key()).requeue.unwrap().as_secs(), 60);
    cluster.now += SignedDuration::from_secs(60);
    cluster.settle(&[&CONTROLLER, &garbage::CONTROLLER], |_| {});
    assert!(cluster.get(&key()).is_null());
}

#[test]
fn pods_of_a_deleted_job_are_let_go() {
    let mut cluster = with(&json!({}));
    cluster.remove(&key());
    for _round in 0..4 {
        cluster.settle(&[&CONTROLLER, &garbage::CONTROLLER], |_| {});
        cluster.run_pods(9);
    }
    assert_eq!(cluster.list(&kind::POD).len(), 0);
}

#[test]
fn pods_that_a_job_left_behind_are_let_go() {
    let mut cluster = with(&json!({"template": {"metadata": {"labels": {JOB_NAME_LABEL: "pi"}}}}));
    cluster.edit(&key(), |job| job["metadata"]["finalizers"] = json!(["orphan"]));
    cluster.delete(&key());
    cluster.settle(&[&CONTROLLER, &garbage::CONTROLLER], |_| {});
    let pods = cluster.list(&kind::POD);
    assert_eq!(pods.len(), 2);
    assert!(pods.iter().all(|pod| pod["metadata"]["finalizers"].is_null()));
}
