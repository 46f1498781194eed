//! kubectl as people use it, in the version of this machine and in 1.37. Each kind by itself: `kinds`.

use std::process::Stdio;

use rustix::process::Signal;

use crate::{
    cluster::{Cluster, items, names},
    tools::{self, Tool, can_use, eventually, wanted},
};

/// The tests of this module, once for each version.
macro_rules! with_each_kubectl {
    ($($name:ident),* $(,)?) => {
        mod installed {
            $(#[test] fn $name() { super::on(super::Tool::Kubectl, super::$name); })*
        }
        mod v1_37 {
            $(#[test] fn $name() { super::on(super::Tool::Kubectl137, super::$name); })*
        }
    };
}

with_each_kubectl!(
    manifests_apply_unchanged,
    migration_in_place,
    server_side_apply_reports_conflicts,
    watch,
    scale,
    edit,
    wait_and_rollout,
    rollouts_are_paused_and_undone,
    changes_of_every_form,
    nodes_are_tainted_and_drained,
    questions,
    replacements,
    autoscaling_is_stored,
    strict_decoding,
    help_from_the_server,
);

fn on(kubectl: Tool, test: fn(&Cluster)) {
    if can_use(&[kubectl]) {
        let mut cluster = Cluster::start();
        cluster.kubectl = kubectl;
        test(&cluster);
    }
}

const MANIFESTS: [&str; 4] =
    ["01-clusterip", "02-service-types", "03-statefulset", "05-multi-port"];

fn manifests_apply_unchanged(cluster: &Cluster) {
    for name in MANIFESTS {
        let first = cluster.kubectl(&format!("apply -f tests/manifests/{name}.yaml"));
        let made =
            |line: &str| line.ends_with(" created") || line == "namespace/production unchanged";
        assert!(first.lines().all(made), "{first}");
    }
    for name in MANIFESTS {
        let again = cluster.kubectl(&format!("apply -f tests/manifests/{name}.yaml"));
        assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
        let difference = cluster.try_kubectl(&format!("diff -f tests/manifests/{name}.yaml"));
        assert_eq!(difference.code, Some(0), "{}{}", difference.stdout, difference.stderr);
    }
    cluster.kubectl("rollout status deployment/payment-deployment -n production --timeout=20s");
    cluster.kubectl("rollout status statefulset/postgres --timeout=20s");
    cluster.endpoints_ready("production/payment-service", 3);
    cluster.endpoints_ready("postgres", 3);
    reads_as_on_a_real_cluster(cluster);
    for name in MANIFESTS {
        cluster.kubectl(&format!("delete -f tests/manifests/{name}.yaml --ignore-not-found"));
    }
    eventually("pods go after their owner", || {
        let left = names(&cluster.json("get services,pods,deployments,statefulsets -n default"));
        wanted(left == ["kubernetes"], format!("{left:?}"))
    });
    let gone = cluster.try_kubectl("get namespace production").failed();
    assert!(gone.contains("NotFound"), "{gone}");
}

fn reads_as_on_a_real_cluster(cluster: &Cluster) {
    let table = cluster.kubectl("get svc,endpoints,endpointslices,pods,deploy,sts -A");
    let rows: Vec<String> =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for header in [
        "NAMESPACE NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE",
        "NAMESPACE NAME ENDPOINTS AGE",
        "NAMESPACE NAME ADDRESSTYPE PORTS ENDPOINTS AGE",
        "NAMESPACE NAME READY STATUS RESTARTS AGE",
        "NAMESPACE NAME READY UP-TO-DATE AVAILABLE AGE",
        "NAMESPACE NAME READY AGE",
    ] {
        assert!(rows.iter().any(|row| row == header), "{header}\n{table}");
    }
    let load_balancer = cluster.place.address(129, 1);
    let payment = cluster.cluster_ip("production/payment-service");
    for (name, cells) in [
        (
            "service/auth-service",
            "ExternalName <none> auth.legacy-datacenter.company.com <none>".to_owned(),
        ),
        ("service/database-headless", "ClusterIP None <none> 5432/TCP".to_owned()),
        ("service/payment-service", format!("ClusterIP {payment} <none> 80/TCP,9000/TCP")),
        ("endpoints/database-headless", "<none>".to_owned()),
        ("pod/postgres-0", "1/1 Running 0".to_owned()),
        ("deployment.apps/payment-deployment", "3/3 3 3".to_owned()),
        ("statefulset.apps/postgres", "3/3".to_owned()),
    ] {
        let start = format!(" {name} {cells} ");
        assert!(rows.iter().any(|row| row.contains(&start)), "{start}\n{table}");
    }
    let of = |name: &str| rows.iter().find(|row| row.contains(name)).cloned().unwrap_or_default();
    assert!(of("service/nodeport-api").contains(" 80:30080/TCP "), "{table}");
    assert!(of("service/public-api").contains(&format!(" {load_balancer} 443:3")), "{table}");
    assert!(of("endpoints/payment-service").contains(" + 3 more... "), "{table}");
    let wide = cluster.kubectl("get pods -n production -o wide");
    assert!(wide.lines().next().is_some_and(|header| header.contains("NOMINATED NODE")), "{wide}");
    for node in ["node-1", "node-2", "node-3"] {
        assert!(wide.contains(node), "one pod on each node:\n{wide}");
    }
    let described = cluster.kubectl("describe service payment-service -n production");
    assert!(described.contains(&format!("IP:                       {payment}")), "{described}");
    assert_eq!(described.matches(":8080").count(), 3, "{described}");
}

fn migration_in_place(cluster: &Cluster) {
    cluster.kubectl("apply -f tests/manifests/02-service-types.yaml");
    let before = cluster.json("get service auth-service");
    assert_eq!(before["spec"]["type"], "ExternalName");
    let output = cluster.kubectl("apply -f tests/manifests/02b-migration.yaml");
    assert_eq!(output, "service/auth-service configured\n");
    let after = cluster.json("get service auth-service");
    assert_eq!(after["spec"]["type"], "ClusterIP");
    assert!(
        after["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.starts_with("127.")),
        "{after}"
    );
    assert!(after["spec"]["externalName"].is_null(), "{after}");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    let output = cluster.kubectl("apply -f tests/manifests/02-service-types.yaml");
    assert!(output.contains("service/auth-service configured"), "{output}");
    let back = cluster.json("get service auth-service");
    assert_eq!(back["spec"]["externalName"], "auth.legacy-datacenter.company.com");
    assert!(back["spec"]["clusterIP"].is_null(), "{back}");
}

fn server_side_apply_reports_conflicts(cluster: &Cluster) {
    let apply = |manager: &str, force: &str, value: &str| {
        let manifest = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shared}}\ndata: {{key: {value}}}\n"
        );
        let manager = format!("--field-manager={manager}");
        let mut arguments = vec!["apply", "--server-side", &manager, "-f", "-"];
        arguments.extend(Some(force).filter(|force| !force.is_empty()));
        tools::run_with_input(cluster.kubectl_command(&arguments), &manifest)
    };
    assert_eq!(apply("one", "", "a").succeeded(), "configmap/shared serverside-applied\n");
    let conflict = apply("two", "", "b").failed();
    assert!(conflict.contains("conflict") && conflict.contains("\"one\""), "{conflict}");
    apply("two", "--force-conflicts", "b").succeeded();
    assert_eq!(cluster.kubectl("get configmap shared -o jsonpath={.data.key}"), "b");
    let managed = cluster.kubectl("get configmap shared -o yaml --show-managed-fields");
    assert!(managed.contains("manager: two"), "{managed}");
}

fn watch(cluster: &Cluster) {
    let mut command = cluster.kubectl_command(&["get", "configmaps", "-w", "--no-headers"]);
    let output = cluster.place.home().join("watch");
    command.stdout(std::fs::File::create(&output).expect("a file of the test"));
    let mut watching = command.stdin(Stdio::null()).spawn().expect("kubectl starts");
    let seen = |row: &str| {
        eventually(row, || {
            let text = std::fs::read_to_string(&output).expect("UTF-8");
            let rows =
                text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            wanted(rows.filter(|text| text.starts_with(row)).count() == 1, text)
        });
    };
    seen("kube-root-ca.crt");
    cluster.kubectl("create configmap watched");
    seen("watched 0 ");
    cluster.kubectl("patch configmap watched -p {\"data\":{\"a\":\"b\"}}");
    seen("watched 1 ");
    tools::signal(watching.id(), Signal::TERM);
    watching.wait().expect("kubectl ends");
}

fn scale(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=nginx --port=8080 --replicas=2");
    cluster.kubectl("apply -f tests/manifests/03-statefulset.yaml");
    for (resource, app) in [("deployment/web", "web"), ("statefulset/postgres", "postgres")] {
        for count in [4, 1, 0] {
            let output = cluster.kubectl(&format!("scale {resource} --replicas={count}"));
            assert!(output.ends_with(" scaled\n"), "{output}");
            eventually(&format!("{count} pods of {resource}"), || {
                let pods = cluster.json(&format!("get pods -l app={app}"));
                wanted(items(&pods).count() == count, pods)
            });
        }
    }
    let set = names(&cluster.json("get replicasets -l app=web"))[0].clone();
    let stale = format!("scale replicaset/{set} --current-replicas=7 --replicas=3");
    let complaint = cluster.try_kubectl(&stale).failed();
    assert!(complaint.contains("Expected replicas to be 7, was 0"), "{complaint}");
}

fn edit(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=nginx --replicas=1");
    let mut edit = cluster.kubectl_command(&["edit", "deployment", "web"]);
    edit.env("KUBE_EDITOR", "sed -i s/replicas:.1/replicas:\\ 2/");
    let output = tools::run(edit).succeeded();
    assert_eq!(output, "deployment.apps/web edited\n");
    assert_eq!(cluster.kubectl("get deployment web -o jsonpath={.spec.replicas}"), "2");

    let mut edit = cluster.kubectl_command(&["edit", "deployment", "web"]);
    edit.env("KUBE_EDITOR", "true");
    let output = tools::run(edit).succeeded();
    assert!(!output.contains("edited"), "{output}");
}

fn wait_and_rollout(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=nginx:1 --replicas=3");
    cluster.kubectl("wait deployment/web --for=condition=Available --timeout=20s");
    let first = names(&cluster.json("get replicasets"));
    cluster.kubectl("set image deployment/web nginx=nginx:2");
    let status = cluster.kubectl("rollout status deployment/web --timeout=20s");
    assert!(status.contains("deployment \"web\" successfully rolled out"), "{status}");
    assert_eq!(names(&cluster.json("get replicasets")).len(), 2);
    let history = cluster.kubectl("rollout history deployment/web");
    assert!(history.contains("\n2 "), "{history}");
    cluster.kubectl("rollout undo deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=20s");
    eventually("the first ReplicaSet serves again", || {
        let replicas = cluster
            .kubectl(&format!("get replicaset {} -o jsonpath={{.status.readyReplicas}}", first[0]));
        wanted(replicas == "3", replicas)
    });
    cluster.kubectl("rollout restart deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=20s");
    cluster.kubectl("delete deployment web");
    cluster.kubectl("wait pods -l app=web --for=delete --timeout=20s");
}

fn strict_decoding(cluster: &Cluster) {
    let unknown = cluster.try_apply("{apiVersion: v1, kind: Gizmo, metadata: {name: a}}").failed();
    assert!(unknown.contains("no matches for kind \"Gizmo\" in version \"v1\""), "{unknown}");
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{prot: 80}]}}";
    let complaint = cluster.try_apply(service).failed();
    assert!(
        complaint.contains("strict decoding error: unknown field \"spec.ports[0].prot\""),
        "{complaint}"
    );
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 70000}]}}";
    let complaint = cluster.try_apply(service).failed();
    assert!(complaint.contains("spec.ports[0].port: Invalid value: 70000"), "{complaint}");
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: http}]}}";
    cluster.try_apply(service).failed();
    let nothing = cluster.try_kubectl("get service a").failed();
    assert!(nothing.contains("services \"a\" not found"), "{nothing}");
    let two = "{apiVersion: v1, kind: ConfigMap, metadata: {name: good}}\n---\n\
               {apiVersion: v1, kind: ConfigMap, metadata: {name: BAD}}\n";
    let half = cluster.try_apply(two);
    assert_eq!(half.code, Some(1), "{half:?}");
    assert_eq!(half.stdout, "configmap/good created\n");
    assert!(half.stderr.contains("metadata.name: Invalid value: \"BAD\""), "{}", half.stderr);
}

fn help_from_the_server(cluster: &Cluster) {
    let version = cluster.kubectl("version");
    assert!(version.contains("Server Version: v1.36"), "{version}");
    let explained = cluster.kubectl("explain service.spec.sessionAffinity");
    assert!(explained.contains("ClientIP"), "{explained}");
    let resources = cluster.kubectl("api-resources --no-headers");
    for kind in ["Service", "EndpointSlice", "Deployment", "LoadBalancerPolicy", "RuntimeClass"] {
        assert!(resources.contains(kind), "{resources}");
    }
    let versions = cluster.kubectl("api-versions");
    for version in ["v1", "apps/v1", "discovery.k8s.io/v1", "snowglobe.dev/v1alpha1"] {
        assert!(versions.lines().any(|line| line == version), "{versions}");
    }
    let info = cluster.kubectl("cluster-info");
    assert!(info.contains(&cluster.line.api), "{info}");
    let pod = cluster.kubectl("run lonely --image=app --port=8080 --dry-run=server -o name");
    assert_eq!(pod, "pod/lonely\n");
    assert!(cluster.try_kubectl("get pod lonely").failed().contains("not found"));
}

fn rollouts_are_paused_and_undone(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=web:1 --port=8080 --replicas=2");
    let done = || cluster.kubectl("rollout status deployment/web --timeout=30s");
    let image = || {
        let template = "jsonpath={.spec.template.spec.containers[0].image}";
        cluster.kubectl(&format!("get deployment web -o {template}"))
    };
    done();
    cluster.kubectl("set image deployment/web web=web:2");
    done();
    let history = cluster.kubectl("rollout history deployment/web");
    let revisions: Vec<&str> =
        history.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(revisions[1..], ["REVISION", "1", "2"], "{history}");
    cluster.kubectl("rollout undo deployment/web");
    done();
    assert_eq!(image(), "web:1");
    cluster.kubectl("rollout pause deployment/web");
    cluster.kubectl("set image deployment/web web=web:3");
    let refused = cluster.try_kubectl("rollout undo deployment/web").failed();
    assert!(refused.contains("cannot rollback a paused deployment"), "{refused}");
    let sets = cluster.json("get replicasets -l app=web");
    assert_eq!(items(&sets).count(), 2, "a paused deployment starts no new replica set: {sets}");
    cluster.kubectl("rollout resume deployment/web");
    done();
    cluster.kubectl("rollout restart deployment/web");
    done();
    cluster.kubectl("rollout undo deployment/web --to-revision=2");
    done();
    assert_eq!(image(), "web:2");
    let pods = cluster.json("get pods -l app=web");
    let images: Vec<_> =
        items(&pods).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
    assert!(images.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "web:2"), "{pods}");
}

fn changes_of_every_form(cluster: &Cluster) {
    cluster.kubectl("create configmap settings --from-literal=a=1");
    cluster.kubectl("label configmap settings tier=front");
    cluster.kubectl("annotate configmap settings note=x");
    for (form, patch) in [
        ("strategic", r#"{"data":{"b":"2"}}"#),
        ("merge", r#"{"data":{"c":"3"}}"#),
        ("json", r#"[{"op":"add","path":"/data/d","value":"4"}]"#),
    ] {
        cluster.kubectl(&format!("patch configmap settings --type={form} -p {patch}"));
    }
    let map = cluster.json("get configmap settings");
    assert_eq!(map["data"], serde_json::json!({"a": "1", "b": "2", "c": "3", "d": "4"}));
    assert_eq!(map["metadata"]["labels"]["tier"], "front");
    assert_eq!(map["metadata"]["annotations"]["note"], "x");
    let replaced = map.to_string().replace(r#""a":"1""#, r#""a":"5""#);
    tools::run_with_input(cluster.kubectl_command(&["replace", "-f", "-"]), &replaced).succeeded();
    assert_eq!(cluster.json("get configmap settings")["data"]["a"], "5");
    let stale = tools::run_with_input(cluster.kubectl_command(&["replace", "-f", "-"]), &replaced);
    let stale = stale.failed();
    assert!(stale.contains("the object has been modified"), "{stale}");
    cluster.kubectl("create deployment web --image=web --replicas=1");
    let scale = r#"{"spec":{"replicas":2}}"#;
    cluster.kubectl(&format!("patch deployment web --subresource=scale --type=merge -p {scale}"));
    cluster.kubectl("rollout status deployment/web --timeout=30s");
    let deployment = cluster.json("get deployment web --show-managed-fields");
    assert_eq!(deployment["status"]["readyReplicas"], 2);
    let managers = deployment["metadata"]["managedFields"].as_array().expect("managers");
    let owners: Vec<_> = managers
        .iter()
        .filter(|entry| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null())
        .collect();
    assert_eq!(owners.len(), 1, "{managers:?}");
    let expected = serde_json::json!({"manager": "kubectl-patch", "operation": "Update", "subresource": "scale",
        "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}});
    assert_eq!(*owners[0], expected);
    // Whoever applied the number before has lost it.
    let applied = |replicas: u8, arguments: &str| {
        let config = format!(
            r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "web"}}, "spec": {{"replicas": {replicas}}}}}"#
        );
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let command = [&["apply", "--server-side", "-f", "-"], arguments.as_slice()].concat();
        tools::run_with_input(cluster.kubectl_command(&command), &config)
    };
    let conflict = applied(3, "--field-manager=applier").failed();
    assert!(
        conflict.contains("conflict with \"kubectl-patch\" with subresource \"scale\""),
        "{conflict}"
    );
    applied(3, "--field-manager=applier --force-conflicts").succeeded();
    cluster.kubectl("scale deployment web --replicas=1");
    let conflict = applied(3, "--field-manager=applier").failed();
    assert!(
        // Its name is that of the program's file.
        conflict.contains("conflict with \"kubectl") && conflict.contains("subresource \"scale\""),
        "{conflict}"
    );
}

fn nodes_are_tainted_and_drained(cluster: &Cluster) {
    cluster.kubectl("taint nodes node-1 key=value:NoSchedule");
    cluster.kubectl("cordon node-2");
    cluster.kubectl("create deployment web --image=web --replicas=4");
    cluster.kubectl("rollout status deployment/web --timeout=30s");
    let nodes_of = || {
        let pods = cluster.json("get pods -l app=web");
        let live = items(&pods).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let mut nodes: Vec<String> =
            live.filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    };
    assert_eq!(nodes_of(), ["node-3"]);
    cluster.kubectl("uncordon node-2");
    let drained = cluster.kubectl("drain node-3 --ignore-daemonsets --force --timeout=30s");
    assert!(drained.contains("node/node-3 drained"), "{drained}");
    cluster.kubectl("rollout status deployment/web --timeout=30s");
    assert_eq!(nodes_of(), ["node-2"]);
    cluster.kubectl("taint nodes node-1 key-");
    let table = cluster.kubectl("get nodes");
    assert!(table.contains("Ready,SchedulingDisabled"), "{table}");
}

fn questions(cluster: &Cluster) {
    assert_eq!(cluster.kubectl("auth can-i create pods"), "yes\n");
    let all = cluster.kubectl("auth can-i --list");
    assert!(all.contains("*.*"), "{all}");
    let who = cluster.kubectl("auth whoami -o jsonpath={.status.userInfo.groups}");
    assert!(who.contains("system:masters"), "{who}");
    let raw = cluster.kubectl("get --raw /apis/discovery.k8s.io/v1/endpointslices?limit=1");
    assert!(raw.contains(r#""kind":"EndpointSliceList""#), "{raw}");
    let resources = cluster.kubectl("api-resources --no-headers");
    for name in ["ingresses", "cronjobs", "serviceimports", "poddisruptionbudgets"] {
        assert!(resources.contains(name), "{resources}");
    }
    cluster.kubectl("create deployment web --image=web");
    cluster.event("default", "web", "ScalingReplicaSet");
    let events = cluster.kubectl("events");
    assert!(events.contains("Deployment/web"), "{events}");
    let fields = cluster.kubectl("explain deployment --recursive");
    assert!(fields.contains("maxUnavailable"), "{fields}");
}

fn autoscaling_is_stored(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=web");
    let cpu = if cluster.kubectl == Tool::Kubectl137 { "--cpu=50%" } else { "--cpu-percent=50" };
    cluster.kubectl(&format!("autoscale deployment web --max=3 {cpu}"));
    let table = cluster.kubectl("get hpa web");
    assert!(table.contains("Deployment/web   cpu: <unknown>/50%   1         3"), "{table}");
}

/// Which kinds `replace` creates, and which it replaces only for who knows the revision, are Kubernetes' rules.
fn replacements(cluster: &Cluster) {
    let replace = |manifest: &str| {
        let command = cluster.kubectl_command(&["replace", "-f", "-"]);
        tools::run_with_input(command, &format!("---\n{manifest}"))
    };
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {ports: [{port: 80}]}\n";
    replace(service).succeeded();
    cluster.kubectl("get service shop");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n";
    let refused = replace(map).failed();
    assert!(refused.contains("configmaps \"shop\" not found"), "{refused}");
    let lease = "{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{\"name\":\"shop\"}}";
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/shop";
    let raw = || {
        let command = cluster.kubectl_command(&["replace", "--raw", path, "-f", "-"]);
        tools::run_with_input(command, lease)
    };
    raw().succeeded();
    let refused = raw().failed();
    assert!(
        refused.contains(
            "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
        ),
        "{refused}"
    );
}
