//! Documents that say the same are the same: in other words they start no rollout, sent again they write nothing.

use crate::{
    cluster::{Cluster, items},
    tools::{Tool, can_use},
};

/// Each object in two spellings. The second differs by what Go's types make equal.
const SPELLINGS: [(&str, &str); 5] = [
    (
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {selector: {matchLabels: {app: agent}}, \
         template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: agent, image: 'agent:1', \
         resources: {limits: {cpu: 1500m, memory: 2Gi}, requests: {cpu: 250m}}}]}}}}",
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent}, spec: {minReadySeconds: 0, \
         selector: {matchLabels: {app: agent}, matchExpressions: []}, \
         template: {metadata: {labels: {app: agent}, finalizers: []}, spec: {hostPID: false, hostAliases: [], \
         overhead: {}, initContainers: [], containers: [{name: agent, image: 'agent:1', ports: [], tty: false, \
         workingDir: '', resources: {claims: [], limits: {cpu: '+1.5', memory: 2048Mi}, requests: {cpu: .25}}}]}}}}",
    ),
    (
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 0, \
         selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, \
         spec: {containers: [{name: db, image: 'db:1'}]}}, volumeClaimTemplates: [{metadata: {name: data}, \
         spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {serviceName: db, replicas: 0, \
         selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, \
         spec: {securityContext: {}, containers: [{name: db, image: 'db:1', resources: {}}]}}, \
         volumeClaimTemplates: [{metadata: {name: data, labels: {}}, \
         spec: {volumeName: '', accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}}]}}",
    ),
    (
        "{apiVersion: v1, kind: Pod, metadata: {name: single}, spec: {containers: [{name: main, image: 'main:1', \
         livenessProbe: {tcpSocket: {port: 80}}}]}}",
        "{apiVersion: v1, kind: Pod, metadata: {name: single}, spec: {tolerations: [], readinessGates: [], \
         subdomain: '', containers: [{name: main, image: 'main:1', args: [], stdinOnce: false, \
         livenessProbe: {initialDelaySeconds: 0, tcpSocket: {host: '', port: 80}}}]}}",
    ),
    (
        "{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {restartPolicy: Never, \
         containers: [{name: main, image: 'main:1'}]}}}}",
        "{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {restartPolicy: Never, \
         hostIPC: false, imagePullSecrets: [], containers: [{name: main, image: 'main:1', envFrom: []}]}}}}",
    ),
    (
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: b}}",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: fixed}, immutable: true, data: {a: b}, binaryData: {}}",
    ),
];

/// Kinds in which the server fills in defaults where a list is owned as a whole, or rewrites what it is sent.
const DEFAULTED: &str = r"---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: queue}, spec: {serviceName: queue, replicas: 0,
  selector: {matchLabels: {app: queue}}, template: {metadata: {labels: {app: queue}}, spec: {
  containers: [{name: a, image: 'a:1', env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}],
  volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: token}}]}}]}},
  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce],
  resources: {requests: {storage: 500Mi}}}}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: inside},
  spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: slice}, addressType: IPv4,
  ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: readers},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: jane}]}
---
{apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {a: b}}
---
{apiVersion: v1, kind: Service, metadata: {name: front}, spec: {type: NodePort, ports: [{port: 80}]}}
";
const DEFAULTED_KINDS: &str = "statefulset/queue networkpolicy/inside endpointslice/slice rolebinding/readers \
                               secret/key service/front";

#[test]
fn the_same_in_other_words_is_the_same() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    let objects = "get daemonset/agent statefulset/db pod/single job/once";
    for (first, _) in SPELLINGS {
        cluster.apply(first);
    }
    cluster.kubectl("rollout status daemonset/agent --timeout=30s");
    let generations = || -> Vec<String> {
        let list = cluster.json(objects);
        items(&list).map(|object| object["metadata"]["generation"].to_string()).collect()
    };
    let before = generations();
    for (_, second) in SPELLINGS {
        cluster.apply(second);
    }
    assert_eq!(generations(), before);
    let revisions = cluster.json("get controllerrevisions");
    assert_eq!(items(&revisions).count(), 2, "{revisions}");
    let agent = items(&revisions).find(|revision| revision["metadata"]["labels"]["app"] == "agent");
    assert_eq!(
        agent.unwrap()["data"].to_string(),
        concat!(
            r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"agent"}},"spec":{"#,
            r#""containers":[{"image":"agent:1","imagePullPolicy":"IfNotPresent","name":"agent","#,
            r#""resources":{"limits":{"cpu":"1500m","memory":"2Gi"},"requests":{"cpu":"250m"}},"#,
            r#""terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"#,
            r#""dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","#,
            r#""securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
        )
    );
}

#[test]
fn the_same_again_writes_nothing() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    let versions = || -> Vec<String> {
        let list = cluster.json(&format!("get {DEFAULTED_KINDS}"));
        items(&list).map(|object| object["metadata"]["resourceVersion"].to_string()).collect()
    };
    let file = cluster.place.home().join("defaulted.yaml");
    std::fs::write(&file, DEFAULTED).unwrap();
    let file = file.display();
    cluster.kubectl(&format!("apply --server-side -f {file}"));
    let settled = cluster.json("get statefulset/queue")["metadata"]["generation"].to_string();
    assert_eq!(settled, "1");
    let before = versions();
    // What a replacement leaves to the defaults has not changed, so it stays its applier's.
    for command in ["apply --server-side", "replace", "apply --server-side"] {
        cluster.kubectl(&format!("{command} -f {file}"));
        assert_eq!(versions(), before, "{command}");
    }
    // Nor does it stand between kubectl's two ways to apply.
    cluster.kubectl(&format!("delete {DEFAULTED_KINDS}"));
    for command in ["apply", "apply --server-side", "apply --server-side --field-manager=other"] {
        cluster.kubectl(&format!("{command} -f {file}"));
    }
}

#[test]
fn two_appliers_of_a_new_object_both_get_their_way() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    let apply = |round: usize, manager: &str| {
        let file = cluster.place.home().join(format!("{round}-{manager}.yaml"));
        let document = format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: shared-{round}}}, data: {{{manager}: x}}}}"
        );
        std::fs::write(&file, document).unwrap();
        let file = file.display();
        cluster.kubectl(&format!("apply --server-side --field-manager={manager} -f {file}"));
    };
    for round in 0..3 {
        std::thread::scope(|scope| {
            for manager in ["a", "b", "c"] {
                scope.spawn(move || apply(round, manager));
            }
        });
        let data = cluster.json(&format!("get configmap shared-{round}"))["data"].to_string();
        assert_eq!(data, r#"{"a":"x","b":"x","c":"x"}"#);
    }
}
