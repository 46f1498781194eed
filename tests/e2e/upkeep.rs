//! What is cleaned up and what stays: owners, finalizers, namespaces, pods of nodes that are gone, storage in use; with
//! kubectl.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, items},
    tools::{self, Tool, can_use, eventually, wanted},
};

#[test]
fn what_nobody_needs_goes_and_the_rest_stays() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    owners(&cluster);
    finalizers(&cluster);
    namespaces(&cluster);
    storage(&cluster);
    nodes(&cluster);
}

#[track_caller]
fn gone(cluster: &Cluster, what: &str) {
    eventually(&format!("{what} is gone"), || {
        let found = cluster.kubectl(&format!("get {what} --ignore-not-found -o yaml"));
        wanted(found.is_empty(), found)
    });
}

fn owners(cluster: &Cluster) {
    cluster.kubectl("create configmap owner");
    let uid = cluster.kubectl("get configmap owner -o jsonpath={.metadata.uid}");
    let owned = |api: &str, kind: &str, place: &str| {
        format!(
            "{{apiVersion: {api}, kind: {kind}, metadata: {{name: owned{place}, ownerReferences: \
             [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}\n---\n"
        )
    };
    let role = owned("rbac.authorization.k8s.io/v1", "ClusterRole", "");
    let all = [
        role.as_str(),
        &owned("v1", "Namespace", ""),
        &owned("v1", "Secret", ""),
        &owned("v1", "Secret", ", namespace: kube-public"),
    ];
    cluster.apply(&all.concat());
    let told = cluster.event("default", "owned", "OwnerRefInvalidNamespace");
    let why = format!(
        "ownerRef [v1/ConfigMap, namespace: , name: owner, uid: {uid}] does not exist in namespace \"\""
    );
    assert_eq!(told, why);
    // An owner in another namespace is no owner.
    cluster.event("kube-public", "owned", "OwnerRefInvalidNamespace");
    gone(cluster, "secret owned -n kube-public");
    cluster.kubectl("delete configmap owner");
    gone(cluster, "secret owned");
    cluster.kubectl("get clusterrole owned");
    assert_eq!(cluster.kubectl("get namespace owned -o jsonpath={.status.phase}"), "Active");

    // Who does not say it leaves the pods of a Job alone.
    cluster.kubectl("create job sleeper --image=busybox -- sleep 1000");
    let pod = eventually("the Job has its pod", || {
        let pods = cluster.json("get pods -l job-name=sleeper");
        items(&pods).next().cloned().ok_or_else(|| pods.to_string())
    });
    cluster.kubectl("delete --raw /apis/batch/v1/namespaces/default/jobs/sleeper");
    gone(cluster, "job sleeper");
    let orphan = cluster.json("get pods -l job-name=sleeper");
    let orphan = items(&orphan).next().expect("the pod stays");
    assert_eq!(orphan["metadata"]["uid"], pod["metadata"]["uid"]);
    let owners = orphan["metadata"]["ownerReferences"].as_array();
    assert!(owners.is_none_or(Vec::is_empty), "{owners:?}");
}

fn finalizers(cluster: &Cluster) {
    cluster.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, finalizers: [example.com/a]}}",
    );
    cluster.kubectl("delete configmap kept --wait=false --cascade=orphan");
    let finalizers = || {
        let found = cluster.json("get configmap kept");
        found["metadata"]["finalizers"].clone()
    };
    cluster.kubectl("delete --raw /api/v1/namespaces/default/configmaps/kept");
    assert_eq!(finalizers(), json!(["example.com/a"]), "the dependents are orphaned by now");
    let more = "patch configmap kept --type=merge -p {\"metadata\":{\"finalizers\":[\"example.com/a\",\"example.com/b\"]}}";
    let refused = cluster.try_kubectl(more).failed();
    let rule = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
                finalizers []string{\"example.com/b\"}";
    assert!(refused.contains(rule), "{refused}");
    cluster.kubectl("patch configmap kept --type=merge -p {\"metadata\":{\"finalizers\":[]}}");
    gone(cluster, "configmap kept");
}

fn namespaces(cluster: &Cluster) {
    let finalize = |finalizers: &Value| {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"},
            "spec": {"finalizers": finalizers}});
        let arguments = ["replace", "--raw", "/api/v1/namespaces/shop/finalize", "-f", "-"];
        tools::run_with_input(cluster.kubectl_command(&arguments), &body.to_string()).succeeded();
    };
    cluster.kubectl("create namespace shop");
    finalize(&json!(["kubernetes", "example.com/hold"]));
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: last, namespace: shop, finalizers: [example.com/look]}, \
         spec: {nodeName: nowhere, containers: [{name: a, image: i}]}}",
    );
    cluster.kubectl("create configmap settings -n shop");
    cluster.kubectl("delete namespace shop --wait=false");
    let told = |kind: &str, status: &str, message: &str| {
        eventually(&format!("{kind} {status} {message}"), || {
            let found = cluster.json("get namespace shop");
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let fits =
                |c: &Value| c["type"] == kind && c["status"] == status && c["message"] == message;
            wanted(conditions.len() == 5 && conditions.iter().any(fits), found)
        });
    };
    told(
        "NamespaceContentRemaining",
        "True",
        "Some resources are remaining: pods. has 1 resource instances",
    );
    told(
        "NamespaceFinalizersRemaining",
        "True",
        "Some content in the namespace has finalizers remaining: example.com/look in 1 resource instances",
    );
    cluster.kubectl("get configmap settings -n shop");
    let pod = cluster.kubectl("get pod last -n shop -o jsonpath={.status.phase}");
    assert_eq!(pod, "Failed", "no node would end it");
    cluster.kubectl("patch pod last -n shop --type=merge -p {\"metadata\":{\"finalizers\":null}}");
    told("NamespaceContentRemaining", "False", "All content successfully removed");
    eventually("only the foreign finalizer is left", || {
        let left = cluster.kubectl("get namespace shop -o jsonpath={.spec.finalizers}");
        wanted(left == "[\"example.com/hold\"]", left)
    });
    finalize(&json!([]));
    gone(cluster, "namespace shop");
}

fn storage(cluster: &Cluster) {
    cluster.apply(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], \
         resources: {requests: {storage: 1Gi}}}}\n---\n\
         {apiVersion: v1, kind: Pod, metadata: {name: reader}, spec: {terminationGracePeriodSeconds: 0, \
         containers: [{name: a, image: i}], volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}}\n---\n\
         {apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {accessModes: [ReadWriteOnce], \
         capacity: {storage: 1Gi}, hostPath: {path: /data}}}",
    );
    let finalizers =
        |what: &str| cluster.kubectl(&format!("get {what} -o jsonpath={{.metadata.finalizers}}"));
    assert_eq!(finalizers("pvc data"), "[\"kubernetes.io/pvc-protection\"]");
    assert_eq!(finalizers("pv disk"), "[\"kubernetes.io/pv-protection\"]");
    eventually("the pod has a node", || {
        let node = cluster.kubectl("get pod reader -o jsonpath={.spec.nodeName}");
        wanted(!node.is_empty(), node)
    });
    cluster.kubectl("delete pv disk --timeout=30s");
    cluster.kubectl("delete pvc data --wait=false");
    let listed = cluster.kubectl("get pvc data --no-headers");
    assert!(listed.contains("Terminating"), "{listed}");
    cluster.kubectl("delete pod reader --timeout=30s");
    gone(cluster, "pvc data");
}

fn nodes(cluster: &Cluster) {
    cluster.kubectl("create deployment web --image=web --replicas=3 --port=80");
    cluster.kubectl("expose deployment web");
    cluster.endpoints_ready("web", 3);
    cluster.kubectl("delete node node-3");
    eventually("the node's pods are replaced elsewhere", || {
        let pods = cluster.json("get pods -l app=web");
        let nodes: Vec<_> = items(&pods).map(|pod| pod["spec"]["nodeName"].clone()).collect();
        wanted(nodes.len() == 3 && !nodes.contains(&json!("node-3")), pods)
    });
    cluster.endpoints_ready("web", 3);
}
