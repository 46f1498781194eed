//! Rows as kube-apiserver prints them.

use serde_json::{Value, json};

use crate::{
    model::{
        Kind, Object, ObjectKey,
        kind::{
            self,
            extension::{HORIZONTAL_POD_AUTOSCALER, HORIZONTAL_POD_AUTOSCALER_V1},
        },
        object::to_stored,
    },
    registry::strategy::{BUILT_IN, BuiltIn, tests::built_in},
};

const NOW: &str = "2026-01-01T01:00:00Z";

fn object(kind: &Kind, mut document: Value) -> Object {
    document["metadata"]["name"] = "x".into();
    document["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let key = ObjectKey::new(kind, if kind.namespaced { "default" } else { "" }, "x");
    Object::from_stored(key, 7, to_stored(kind, document)).unwrap()
}

/// One for each column.
#[track_caller]
fn cells(object: &Object) -> Vec<Value> {
    let BuiltIn { kind, columns, cells, .. } = built_in(&object.key.kind);
    let cells = cells(object, NOW.parse().unwrap()).unwrap();
    assert_eq!(cells.len(), columns.len(), "{kind:?}: one cell per column");
    cells
}

/// Renders one object and compares the cells between name and age with the expected ones.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the call sites are literals")]
fn check(kind: &Kind, document: Value, expected: Value) {
    assert_eq!(Value::Array(cells(&object(kind, document))), expected);
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    for BuiltIn { kind, .. } in BUILT_IN {
        let mut document = json!({"spec": {}, "status": {}});
        match &*kind.kind {
            "EndpointSlice" => document["addressType"] = "IPv4".into(),
            "RuntimeClass" => document["handler"] = "h".into(),
            "Event" if kind.group.is_empty() => document["involvedObject"] = json!({}),
            "RoleBinding" | "ClusterRoleBinding" => document["roleRef"] = json!({}),
            _ => {}
        }
        cells(&object(kind, document));
    }
}

#[test]
fn services() {
    let service = |spec: Value, status: Value, expected: [&str; 5]| {
        let [kind, cluster, external, ports, selector] = expected;
        check(
            &kind::SERVICE,
            json!({"spec": spec, "status": status}),
            json!(["x", kind, cluster, external, ports, "60m", selector]),
        );
    };
    service(
        json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "selector": {"b": "2", "a": "1"},
               "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
        json!({}),
        ["ClusterIP", "10.0.0.1", "<none>", "80/TCP,53/UDP", "a=1,b=2"],
    );
    service(
        json!({"type": "NodePort", "clusterIPs": ["None"], "externalIPs": ["1.2.3.4"],
               "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}),
        json!({}),
        ["NodePort", "None", "1.2.3.4", "80:30080/TCP", "<none>"],
    );
    service(
        json!({"type": "LoadBalancer"}),
        json!({}),
        ["LoadBalancer", "<none>", "<pending>", "<none>", "<none>"],
    );
    service(
        json!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}),
        json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "lb.example"}]}}),
        ["LoadBalancer", "<none>", "5.6.7.8,lb.example,9.9.9.9", "<none>", "<none>"],
    );
    service(
        json!({"type": "ExternalName", "externalName": "db.example"}),
        json!({}),
        ["ExternalName", "<none>", "db.example", "<none>", "<none>"],
    );
}

#[test]
fn endpoints_and_slices() {
    let endpoints = |subsets: Value, expected: &str| {
        check(&kind::ENDPOINTS, json!({"subsets": subsets}), json!(["x", expected, "60m"]));
    };
    endpoints(json!([]), "<none>");
    endpoints(json!([{"addresses": [{"ip": "1.1.1.1"}]}]), "1.1.1.1");
    let addresses = json!([{"ip": "1.1.1.1"}, {"ip": "fd::2"}, {"ip": "1.1.1.3"}]);
    endpoints(
        json!([{"addresses": addresses, "ports": [{"port": 80}]}]),
        "1.1.1.1:80,[fd::2]:80,1.1.1.3:80",
    );
    endpoints(
        json!([{"addresses": addresses, "ports": [{"port": 80}, {"port": 81}]}]),
        "1.1.1.1:80,[fd::2]:80,1.1.1.3:80 + 3 more...",
    );
    let slice = |document: Value, ports: &str, endpoints: &str| {
        check(&kind::ENDPOINT_SLICE, document, json!(["x", "IPv4", ports, endpoints, "60m"]));
    };
    slice(json!({"addressType": "IPv4", "endpoints": []}), "<unset>", "<unset>");
    slice(
        json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "a"}, {}],
               "endpoints": [{"addresses": ["1"]}, {"addresses": ["2", "3"]}, {"addresses": ["4"]}]}),
        "80,a,*",
        "1,2,3 + 1 more...",
    );
}

#[test]
fn workloads() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}});
    check(
        &kind::DEPLOYMENT,
        json!({"spec": {"replicas": 3, "template": template, "selector": {"matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "aa", "operator": "In", "values": ["2", "1"]}]}},
            "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}),
        json!(["x", "1/3", 2, 1, "60m", "a,b", "i,j", "aa in (1,2),app=web"]),
    );
    check(
        &kind::REPLICA_SET,
        json!({"spec": {"replicas": 3, "template": template, "selector": {}},
               "status": {"replicas": 2, "readyReplicas": 1}}),
        json!(["x", 3, 2, 1, "60m", "a,b", "i,j", "<none>"]),
    );
    check(
        &kind::STATEFUL_SET,
        json!({"spec": {"template": template, "selector": {}}, "status": {"replicas": 1}}),
        json!(["x", "0/1", "60m", "a,b", "i,j"]),
    );
}

#[test]
fn nodes() {
    check(
        &kind::NODE,
        json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}],
                "addresses": [{"type": "InternalIP", "address": "127.64.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux", "kernelVersion": ""}}}),
        json!([
            "x",
            "NotReady,SchedulingDisabled",
            "edge,worker",
            "60m",
            "v1.36.0",
            "127.64.0.1",
            "<none>",
            "Linux",
            "<unknown>",
            "<unknown>"
        ]),
    );
}

#[test]
fn events() {
    check(
        &kind::EVENT,
        json!({"involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "type": "Warning",
            "reason": "BackOff", "message": " m\n", "count": 4, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T00:59:00Z", "lastTimestamp": "2026-01-01T00:59:50Z"}),
        json!(["10s", "Warning", "BackOff", "pod/p", "spec", "kubelet, n", "m", "60s", 4, "x"]),
    );
    check(
        &kind::EVENT,
        json!({"involvedObject": {"kind": "Node"}, "eventTime": "2026-01-01T00:59:00.000000Z",
               "reportingComponent": "c", "firstTimestamp": null, "lastTimestamp": null}),
        json!(["60s", "", "", "node", "", "c", "", "60s", 1, "x"]),
    );
}

#[test]
fn volumes() {
    let modes = json!(["ReadWriteMany", "ReadWriteOnce"]);
    check(
        &kind::PERSISTENT_VOLUME,
        json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": modes, "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
                "claimRef": {"namespace": "a", "name": "b"}}, "status": {"phase": "Bound"}}),
        json!([
            "x",
            "1Gi",
            "RWO,RWX",
            "Retain",
            "Bound",
            "a/b",
            "fast",
            "<unset>",
            "",
            "60m",
            "Filesystem"
        ]),
    );
    let mut claim = json!({"spec": {"accessModes": modes, "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"}});
    check(
        &kind::PERSISTENT_VOLUME_CLAIM,
        claim.clone(),
        json!(["x", "Pending", "", "", "", "", "<unset>", "60m", "<unset>"]),
    );
    claim["spec"]["volumeName"] = "pv".into();
    claim["status"] =
        json!({"phase": "Bound", "accessModes": modes, "capacity": {"storage": "2Gi"}});
    check(
        &kind::PERSISTENT_VOLUME_CLAIM,
        claim,
        json!(["x", "Bound", "pv", "2Gi", "RWO,RWX", "", "<unset>", "60m", "<unset>"]),
    );
}

#[test]
fn network_kinds() {
    let rule = |host: &str| json!({"host": host});
    let ingress = |rules: Value, hosts: &str| {
        check(
            &kind::INGRESS,
            json!({"spec": {"ingressClassName": "front", "rules": rules, "tls": [{}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "a.b"}]}}}),
            json!(["x", "front", hosts, "2.2.2.2,a.b", "80, 443", "60m"]),
        );
    };
    ingress(json!([]), "*");
    ingress(json!([rule("a"), rule("b")]), "a,b");
    ingress(json!([rule("a"), rule("b"), rule("c"), rule("d")]), "a,b,c + 1 more...");
    check(
        &kind::INGRESS_CLASS,
        json!({"spec": {"controller": "a.b/c", "parameters": {"apiGroup": "g.h", "kind": "K", "name": "n"}}}),
        json!(["x", "a.b/c", "K.g.h/n", "60m"]),
    );
    check(
        &kind::NETWORK_POLICY,
        json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}}),
        json!(["x", "app=web", "60m"]),
    );
    check(
        &kind::SERVICE_CIDR,
        json!({"spec": {"cidrs": ["10.0.0.0/16", "fd::/112"]}}),
        json!(["x", "10.0.0.0/16,fd::/112", "60m"]),
    );
    check(
        &kind::SERVICE_IMPORT_ALPHA,
        json!({"spec": {"type": "ClusterSetIP", "ips": ["1.2.3.4"]}}),
        json!(["x", "ClusterSetIP", "[\"1.2.3.4\"]", "60m"]),
    );
    check(&kind::SERVICE_EXPORT, json!({}), json!(["x", "60m"]));
}

#[test]
fn access_and_priority() {
    check(&kind::ROLE, json!({}), json!(["x", "2026-01-01T00:00:00Z"]));
    check(
        &kind::CLUSTER_ROLE_BINDING,
        json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "a"},
            {"kind": "User", "name": "b"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        json!(["x", "ClusterRole/r", "60m", "a, b", "", "n/s"]),
    );
    check(
        &kind::PRIORITY_CLASS,
        json!({"value": 5, "globalDefault": true, "preemptionPolicy": "Never"}),
        json!(["x", 5, true, "60m", "Never"]),
    );
    check(
        &kind::NEW_EVENT,
        json!({"regarding": {"kind": "Pod", "name": "p"}, "note": "m", "type": "Normal", "reason": "r",
            "eventTime": "2026-01-01T00:59:00.000000Z", "reportingController": "c"}),
        json!(["60s", "Normal", "r", "pod/p", "", "c", "m", "60s", 1, "x"]),
    );
}

#[test]
fn small_kinds() {
    check(&kind::NAMESPACE, json!({"status": {"phase": "Active"}}), json!(["x", "Active", "60m"]));
    check(
        &kind::CONFIG_MAP,
        json!({"data": {"a": "1"}, "binaryData": {"b": "MQ=="}}),
        json!(["x", 2, "60m"]),
    );
    check(
        &kind::SECRET,
        json!({"type": "Opaque", "data": {"a": "MQ=="}}),
        json!(["x", "Opaque", 1, "60m"]),
    );
    check(&kind::SERVICE_ACCOUNT, json!({}), json!(["x", 0, "60m"]));
    check(&kind::LEASE, json!({"spec": {"holderIdentity": "n"}}), json!(["x", "n", "60m"]));
    check(
        &kind::IP_ADDRESS,
        json!({"spec": {"parentRef": {"group": "", "resource": "services", "namespace": "default", "name": "web"}}}),
        json!(["x", "services/default/web"]),
    );
    check(&kind::RUNTIME_CLASS, json!({"handler": "process"}), json!(["x", "process", "60m"]));
    for policy in [&kind::LOAD_BALANCER_POLICY, &kind::TOPOLOGY_POLICY] {
        check(
            policy,
            json!({"spec": {"module": {"builtin": "p2c"}},
                   "status": {"digest": "sha256:1", "conditions": [{"type": "Ready", "status": "True", "message": "in use"}]}}),
            json!(["x", "p2c", "True", "60m", "sha256:1", "in use"]),
        );
    }
}

/// Checks READY, STATUS and RESTARTS.
#[track_caller]
fn check_pod(document: Value, expected: [&str; 3]) {
    let cells = cells(&object(&kind::POD, document));
    assert_eq!(cells[1..4], expected.map(Value::from));
}

#[test]
fn pods() {
    let spec = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n",
                      "readinessGates": [{"conditionType": "g"}]});
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let mut restarted = running.clone();
    restarted["restartCount"] = 2.into();
    restarted["lastState"] =
        json!({"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:00Z"}});
    let status = |statuses: Value| json!({"phase": "Running", "containerStatuses": statuses});
    check(
        &kind::POD,
        json!({"spec": spec, "status": {"phase": "Running", "podIPs": [{"ip": "1.1.1.1"}],
            "conditions": [{"type": "g", "status": "True"}], "containerStatuses": [restarted, running]}}),
        json!(["x", "2/2", "Running", "2 (60s ago)", "60m", "1.1.1.1", "n", "<none>", "1/1"]),
    );
    let waiting = json!({"name": "b", "ready": false, "restartCount": 0,
                         "state": {"waiting": {"reason": "ContainerCreating"}}});
    check_pod(json!({"spec": spec, "status": {"phase": "Pending"}}), ["0/2", "Pending", "0"]);
    check_pod(
        json!({"spec": spec, "status": status(json!([running, waiting]))}),
        ["1/2", "ContainerCreating", "0"],
    );
    check_pod(
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec,
               "status": status(json!([running]))}),
        ["1/2", "Terminating", "0"],
    );
    let ended = |reason: &str| {
        json!({"name": "b", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 3, "reason": reason}}})
    };
    check_pod(
        json!({"spec": spec, "status": status(json!([ended("")]))}),
        ["0/2", "ExitCode:3", "0"],
    );
    check_pod(
        json!({"spec": spec, "status": status(json!([running, ended("Completed")]))}),
        ["1/2", "NotReady", "0"],
    );
    check_pod(
        json!({"spec": spec, "status": {"phase": "Pending", "conditions":
            [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
        ["0/2", "SchedulingGated", "0"],
    );
}

#[test]
fn pods_with_init_containers() {
    let spec = json!({"containers": [{"name": "a"}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let init = |statuses: Value| json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": statuses}});
    let done = json!({"name": "i", "ready": true, "restartCount": 1, "state": {"terminated": {"exitCode": 0}}});
    let sidecar = json!({"name": "s", "ready": true, "started": true, "restartCount": 2, "state": {"running": {}}});
    let failed = json!({"name": "i", "ready": false, "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    check_pod(init(json!([failed])), ["0/2", "Init:CrashLoopBackOff", "1"]);
    check_pod(
        init(json!([done, {"name": "s", "ready": false, "restartCount": 0}])),
        ["0/2", "Init:1/2", "1"],
    );
    check_pod(init(json!([done, sidecar])), ["1/2", "Pending", "2"]);
}

#[test]
fn every_kind_has_a_row_for_a_bookmark() {
    for BuiltIn { kind, .. } in BUILT_IN {
        let key = ObjectKey::new(kind, "", "");
        cells(&Object::from_stored(key, 7, to_stored(kind, json!({}))).unwrap());
    }
}

#[test]
fn autoscalers_of_both_versions() {
    let cells = json!(["x", "Deployment/web", "cpu: <unknown>/50%", "<unset>", 3, 2, "60m"]);
    let target = json!({"kind": "Deployment", "name": "web"});
    let status = json!({"currentReplicas": 2});
    let utilization = json!({"type": "Resource", "resource":
        {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    check(
        &HORIZONTAL_POD_AUTOSCALER,
        json!({"spec": {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [utilization]}, "status": status}),
        cells.clone(),
    );
    check(
        &HORIZONTAL_POD_AUTOSCALER_V1,
        json!({"spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
            "status": status}),
        cells,
    );
}
