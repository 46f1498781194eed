//! DaemonSets, Jobs, CronJobs, ReplicationControllers, disruption budgets and placement, with kubectl.

use serde_json::Value;

use crate::{
    cluster::{Cluster, items, names},
    tools::{Tool, can_use, eventually, wanted},
};

#[test]
fn daemon_sets_roll_and_can_be_undone() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: agent}}, \
         template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: agent, image: 'agent:1'}]}}}}",
    );
    cluster.kubectl("rollout status daemonset/agent --timeout=30s");
    let nodes = |cluster: &Cluster| {
        let pods = cluster.json("get pods -l app=agent");
        let mut nodes: Vec<String> =
            items(&pods).map(|pod| pod["spec"]["nodeName"].to_string()).collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&cluster), ["\"node-1\"", "\"node-2\"", "\"node-3\""]);
    cluster.kubectl("set image daemonset/agent agent=agent:2");
    cluster.kubectl("rollout status daemonset/agent --timeout=30s");
    let history = cluster.kubectl("rollout history daemonset/agent");
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl("rollout undo daemonset/agent");
    cluster.kubectl("rollout status daemonset/agent --timeout=30s");
    let image = "get daemonset agent -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(cluster.kubectl(image), "agent:1");
    cluster.kubectl("taint node node-2 maintenance=yes:NoExecute");
    eventually("the pod leaves the node", || {
        let nodes = nodes(&cluster);
        wanted(nodes == ["\"node-1\"", "\"node-3\""], format!("{nodes:?}"))
    });
    cluster.kubectl("taint node node-2 maintenance-");
    eventually("and comes back", || {
        let nodes = nodes(&cluster);
        wanted(nodes.len() == 3, format!("{nodes:?}"))
    });
    cluster.kubectl("delete daemonset agent --cascade=foreground --timeout=30s");
    assert_eq!(items(&cluster.json("get pods,controllerrevisions")).count(), 0);
}

#[test]
fn stateful_sets_keep_a_history() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 2, serviceName: db, \
         selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, \
         spec: {containers: [{name: db, image: 'db:1'}]}}}}",
    );
    cluster.kubectl("rollout status statefulset/db --timeout=30s");
    cluster.kubectl("set image statefulset/db db=db:2");
    cluster.kubectl("rollout status statefulset/db --timeout=30s");
    cluster.kubectl("rollout undo statefulset/db --to-revision=1");
    cluster.kubectl("rollout status statefulset/db --timeout=30s");
    let images = "get pods -l app=db -o jsonpath={.items[*].spec.containers[0].image}";
    assert_eq!(cluster.kubectl(images), "db:1 db:1");
    let history = cluster.kubectl("rollout history statefulset/db");
    assert!(history.contains("\n2 ") && history.contains("\n3 "), "{history}");
}

#[test]
fn jobs_run_to_completion_or_fail() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create job fine --image=busybox -- true");
    cluster.kubectl("create job slow --image=busybox -- sleep 1");
    cluster.apply(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: pi}, spec: {backoffLimit: 4, template: {spec: \
         {restartPolicy: Never, containers: [{name: pi, image: perl, \
         command: [perl, -Mbignum=bpi, -wle, print bpi(2000)]}]}}}}\n---\n\
         {apiVersion: batch/v1, kind: Job, metadata: {name: parts}, spec: {completions: 3, parallelism: 2, \
         completionMode: Indexed, template: {spec: {restartPolicy: OnFailure, containers: [{name: part, \
         image: busybox, command: [sh, -c, 'echo part $JOB_COMPLETION_INDEX']}]}}}}\n---\n\
         {apiVersion: batch/v1, kind: Job, metadata: {name: bad}, spec: {backoffLimit: 0, template: {spec: \
         {restartPolicy: Never, containers: [{name: bad, image: busybox, command: [sh, -c, exit 3]}]}}}}",
    );
    cluster
        .kubectl("wait job/fine job/slow job/pi job/parts --for=condition=Complete --timeout=30s");
    cluster.kubectl("wait job/bad --for=condition=Failed --timeout=30s");
    let bad = cluster.json("get job bad");
    assert_eq!(bad["status"]["failed"], 1);
    let pods = cluster.json("get pods -l job-name=bad");
    let pod = items(&pods).next().expect("its pod stays");
    assert_eq!(pod["status"]["phase"], "Failed");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&3.into(), &"Error".into()));
    let parts = cluster.json("get job parts");
    assert_eq!(parts["status"]["completedIndexes"], "0-2");
    let log = cluster.kubectl("logs -l batch.kubernetes.io/job-completion-index=2");
    assert_eq!(log, "part 2\n");
    cluster.kubectl("delete job fine slow pi parts bad --timeout=30s");
    eventually("their pods are gone", || {
        let pods = cluster.json("get pods");
        wanted(items(&pods).count() == 0, pods)
    });
}

#[test]
fn cron_jobs_make_jobs() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: batch/v1, kind: CronJob, metadata: {name: tick}, spec: {schedule: '@every 1s', \
         successfulJobsHistoryLimit: 2, jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, \
         containers: [{name: tick, image: busybox, command: [date]}]}}}}}}",
    );
    eventually("a job was made and done", || {
        let cron = cluster.json("get cronjob tick");
        wanted(cron["status"]["lastSuccessfulTime"].is_string(), cron)
    });
    cluster.kubectl("patch cronjob tick -p {\"spec\":{\"suspend\":true}}");
    cluster.kubectl("create job by-hand --from=cronjob/tick");
    cluster.kubectl("wait job/by-hand --for=condition=Complete --timeout=30s");
    cluster.kubectl("delete cronjob tick --cascade=foreground --timeout=30s");
    assert_eq!(items(&cluster.json("get jobs,pods")).count(), 0);
}

#[test]
fn replication_controllers_scale() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: old}, spec: {replicas: 1, template: \
         {metadata: {labels: {app: old}}, spec: {containers: [{name: app, image: app}]}}}}",
    );
    cluster.kubectl("scale rc old --replicas=3");
    eventually("three pods are ready", || {
        let controller = cluster.json("get rc old");
        wanted(controller["status"]["readyReplicas"] == 3, controller)
    });
    cluster.kubectl("delete rc old --cascade=orphan");
    let pods = cluster.json("get pods -l app=old");
    assert_eq!(items(&pods).count(), 3);
    let orphaned =
        |pod: &Value| pod["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty);
    eventually("the pods have no owner", || {
        let pods = cluster.json("get pods -l app=old");
        wanted(items(&pods).all(orphaned), &pods)
    });
}

#[test]
fn drain_waits_for_the_budget() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create deployment web --image=web --replicas=3");
    cluster.kubectl("create pdb web --selector=app=web --min-available=3");
    cluster.kubectl("rollout status deployment/web --timeout=30s");
    eventually("the budget counts three", || {
        let budget = cluster.json("get pdb web");
        wanted(budget["status"]["currentHealthy"] == 3, budget)
    });
    let drained = cluster.try_kubectl("drain node-1 --ignore-daemonsets --force --timeout=1s");
    assert!(drained.code != Some(0), "{}", drained.stdout);
    assert!(
        drained
            .stderr
            .contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{}",
        drained.stderr
    );
    assert_eq!(names(&cluster.json("get pods -l app=web")).len(), 3);
    cluster.kubectl("patch pdb web -p {\"spec\":{\"minAvailable\":2}}");
    cluster.kubectl("drain node-1 --ignore-daemonsets --force --timeout=60s");
    cluster.kubectl("rollout status deployment/web --timeout=30s");
    let nodes = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
    assert!(!nodes.contains("node-1"), "{nodes}");
}

#[test]
fn pods_keep_away_from_each_other() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: apart}, spec: {replicas: 4, \
         selector: {matchLabels: {app: apart}}, template: {metadata: {labels: {app: apart}}, spec: {affinity: \
         {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: \
         {app: apart}}, topologyKey: topology.kubernetes.io/zone}]}}, containers: [{name: app, image: app}]}}}}",
    );
    let waiting = eventually("one of four has no place", || {
        let pods = cluster.json("get pods -l app=apart");
        let waiting: Vec<String> = items(&pods)
            .filter(|pod| pod["spec"]["nodeName"].is_null())
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect();
        wanted(items(&pods).count() == 4 && waiting.len() == 1, &pods)?;
        Ok(waiting[0].clone())
    });
    let message = cluster.event("default", &waiting, "FailedScheduling");
    assert!(
        message.starts_with(
            "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
        ),
        "{message}"
    );
}

#[test]
fn important_pods_make_others_go() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create priorityclass high --value=1000");
    // A resource of which the first node alone has some.
    let raw = "patch node node-1 --subresource=status --type=merge -p \
        {\"status\":{\"capacity\":{\"example.com/slot\":\"1\"},\"allocatable\":{\"example.com/slot\":\"1\"}}}";
    cluster.kubectl(raw);
    let pod = |name: &str, more: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{more} containers: [{{name: a, \
             image: 'a:1', resources: {{limits: {{example.com/slot: '1'}}}}}}]}}}}"
        ));
    };
    pod("low", "");
    cluster.kubectl("wait pod/low --for=condition=Ready --timeout=30s");
    pod("same", "");
    pod("polite", "priorityClassName: high, preemptionPolicy: PreemptLowerPriority,");
    cluster.kubectl("wait pod/polite --for=condition=Ready --timeout=60s");
    assert_eq!(cluster.kubectl("get pod polite -o jsonpath={.spec.priority}"), "1000");
    assert!(cluster.event("default", "low", "Preempted").contains("on node node-1"));
    assert_eq!(cluster.kubectl("get pod low --ignore-not-found"), "");
    let told = cluster.event("default", "same", "FailedScheduling");
    assert!(told.contains("Insufficient example.com/slot"), "{told}");
    let refused = cluster
        .try_kubectl("run x --image=a:1 --overrides {\"spec\":{\"priorityClassName\":\"lost\"}}")
        .failed();
    assert!(refused.contains("no PriorityClass with name lost was found"), "{refused}");
}

#[test]
fn volume_claims_go_as_the_policy_says() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    for (name, deleted, scaled) in [("keep", "Retain", "Delete"), ("drop", "Delete", "Retain")] {
        cluster.apply(&format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: {name}}}, spec: {{replicas: 2, \
             podManagementPolicy: Parallel, persistentVolumeClaimRetentionPolicy: {{whenDeleted: {deleted}, \
             whenScaled: {scaled}}}, selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: \
             {{app: {name}}}}}, spec: {{containers: [{{name: a, image: 'a:1', volumeMounts: [{{name: data, \
             mountPath: /data}}]}}]}}}}, volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {{accessModes: \
             [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}]}}}}"
        ));
        cluster.kubectl(&format!("rollout status statefulset/{name} --timeout=30s"));
    }
    let are = |wanted_names: &[&str]| {
        eventually("the claims", || {
            let claims = names(&cluster.json("get persistentvolumeclaims"));
            wanted(claims == wanted_names, format!("{claims:?}"))
        });
    };
    are(&["data-drop-0", "data-drop-1", "data-keep-0", "data-keep-1"]);
    cluster.kubectl("scale statefulset keep drop --replicas=1");
    are(&["data-drop-0", "data-drop-1", "data-keep-0"]);
    cluster.kubectl("scale statefulset keep --replicas=2");
    are(&["data-drop-0", "data-drop-1", "data-keep-0", "data-keep-1"]);
    cluster.kubectl("delete statefulset keep drop");
    are(&["data-keep-0", "data-keep-1"]);
}

#[test]
fn claims_are_bound_for_their_pods() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {replicas: 2, selector: {matchLabels: \
         {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: a, image: 'a:1', \
         volumeMounts: [{name: data, mountPath: /data}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: \
         {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
    );
    cluster.kubectl("rollout status statefulset/db --timeout=30s");
    let claims = cluster.kubectl("get pvc --no-headers");
    assert_eq!(claims.lines().count(), 2, "{claims}");
    for line in claims.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            (cells[1], cells[3], cells[4], cells[5]),
            ("Bound", "1Gi", "RWO", "standard"),
            "{line}"
        );
    }
    let volumes = cluster.kubectl("get pv --no-headers");
    assert_eq!(volumes.matches(" Bound ").count(), 2, "{volumes}");
    let classes = cluster.kubectl("get sc --no-headers");
    let class: Vec<&str> = classes.split_whitespace().take(5).collect();
    let expected =
        ["standard", "(default)", "snowglobe.dev/simulated", "Delete", "WaitForFirstConsumer"];
    assert_eq!(class, expected, "{classes}");
    let more =
        "patch pvc data-db-0 -p {\"spec\":{\"resources\":{\"requests\":{\"storage\":\"3Gi\"}}}}";
    let refused = cluster.try_kubectl(more).failed();
    assert!(
        refused.contains("the storageclass that provisions the pvc must support resize"),
        "{refused}"
    );
    cluster.kubectl("patch sc standard -p {\"allowVolumeExpansion\":true}");
    cluster.kubectl(more);
    let capacity = "--for=jsonpath={.status.capacity.storage}=3Gi";
    cluster.kubectl(&format!("wait pvc/data-db-0 {capacity} --timeout=30s"));
    cluster.kubectl("delete statefulset db");
    cluster.kubectl("delete pvc --all");
    eventually("the volumes go with their claims", || {
        let left = names(&cluster.json("get persistentvolumes"));
        wanted(left.is_empty(), format!("{left:?}"))
    });
}
