//! Controllers: Deployments, StatefulSets, scheduling, EndpointSlices, Endpoints, garbage collection.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    cluster::{Cluster, items, names},
    http::{ask, pod_at},
    place::Place,
    tools::{self, Tool, can_use, eventually, wanted},
};

#[test]
fn deployment_makes_a_replica_set_makes_pods() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let deployment = cluster.json("get deployment payment-deployment -n production");
    let sets = cluster.json("get replicasets -n production");
    let set = &sets["items"][0];
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], deployment["metadata"]["uid"]);
    let pods = cluster.json("get pods -n production");
    let nodes: BTreeSet<_> = items(&pods)
        .map(|pod| {
            assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], set["metadata"]["uid"]);
            assert_eq!(pod["status"]["phase"], "Running");
            pod["spec"]["nodeName"].to_string()
        })
        .collect();
    assert_eq!(nodes.len(), 3, "spread over the nodes: {nodes:?}");

    let victim = names(&pods)[0].clone();
    cluster.kubectl(&format!("delete pod {victim} -n production"));
    eventually("another pod in its place", || {
        let pods = cluster.json("get pods -n production");
        let ready = items(&pods).filter(|pod| condition(pod, "Ready") == "True").count();
        wanted(ready == 3 && !names(&pods).contains(&victim), pods)
    });
    cluster.kubectl("delete deployment payment-deployment -n production");
    eventually("nothing of it is left", || {
        let left = cluster.json("get replicasets,pods -n production");
        wanted(items(&left).count() == 0, left)
    });
}

#[test]
fn rolling_update_keeps_serving() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create deployment web --image=web:1 --port=8080 --replicas=3");
    cluster.kubectl("expose deployment web");
    cluster.endpoints_ready("web", 3);
    let address = cluster.cluster_ip("web");
    let old: BTreeSet<String> = names(&cluster.json("get pods")).into_iter().collect();
    cluster.kubectl("set image deployment/web web=web:2");
    let mut served = 0;
    eventually("all pods are new", || {
        // Every connection during the update is answered.
        pod_at(&address, 8080);
        served += 1;
        let pods = names(&cluster.json("get pods"));
        wanted(pods.len() == 3 && pods.iter().all(|pod| !old.contains(pod)), format!("{pods:?}"))
    });
    assert!(served > 0);
    cluster.endpoints_ready("web", 3);
    assert!(!old.contains(&pod_at(&address, 8080)));
}

#[test]
fn stateful_sets_have_stable_names() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/03-statefulset.yaml");
    cluster.endpoints_ready("postgres", 3);
    let pods = cluster.json("get pods -l app=postgres");
    assert_eq!(names(&pods), ["postgres-0", "postgres-1", "postgres-2"]);
    let ordered: Vec<&str> =
        items(&pods).filter_map(|pod| pod["metadata"]["creationTimestamp"].as_str()).collect();
    assert!(ordered.is_sorted(), "one after the other: {ordered:?}");
    let before = cluster.json("get pod postgres-1");
    assert_eq!(before["spec"]["hostname"], "postgres-1");
    assert_eq!(before["spec"]["subdomain"], "postgres");
    let name = "postgres-1.postgres.default.svc.cluster.local";
    let ip = |pod: &Value| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    assert_eq!(cluster.addresses_of(name), [ip(&before)]);

    cluster.kubectl("delete pod postgres-1");
    let after = eventually("postgres-1 is back", || {
        let pod = cluster.try_kubectl("get pod postgres-1 -o json");
        let pod: Value = serde_json::from_str(&pod.stdout).map_err(|_none| pod.stderr)?;
        let back = pod["metadata"]["uid"] != before["metadata"]["uid"];
        wanted(back && condition(&pod, "Ready") == "True", &pod)?;
        Ok(pod)
    });
    cluster.endpoints_ready("postgres", 3);
    assert_eq!(cluster.addresses_of(name), [ip(&after)]);

    cluster.kubectl("scale statefulset postgres --replicas=2");
    eventually("the last one goes first", || {
        let pods = names(&cluster.json("get pods -l app=postgres"));
        wanted(pods == ["postgres-0", "postgres-1"], format!("{pods:?}"))
    });
}

#[test]
fn slices_and_endpoints_tell_the_same() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let slices = "get endpointslices -n production -l kubernetes.io/service-name=payment-service";
    let slice = cluster.json(slices)["items"][0].clone();
    assert_eq!(slice["addressType"], "IPv4");
    let labels = &slice["metadata"]["labels"];
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["name"], "payment-service");
    let mut ports: Vec<String> = slice["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|p| format!("{} {}", p["name"], p["port"]))
        .collect();
    ports.sort();
    assert_eq!(ports, ["\"grpc\" 9000", "\"http\" 8080"]);
    let mut from_slice = BTreeSet::new();
    for endpoint in slice["endpoints"].as_array().expect("endpoints") {
        let conditions = &endpoint["conditions"];
        assert_eq!(conditions["ready"], true);
        assert_eq!(conditions["serving"], true);
        assert_eq!(conditions["terminating"], false);
        assert_eq!(endpoint["targetRef"]["kind"], "Pod");
        let node = endpoint["nodeName"].as_str().expect("a node");
        let zone = node
            .replace("node-1", "zone-a")
            .replace("node-2", "zone-b")
            .replace("node-3", "zone-c");
        assert_eq!(endpoint["zone"], zone);
        from_slice.insert(endpoint["addresses"][0].clone().to_string());
    }
    // Two controllers write them, each in its own time.
    eventually("the Endpoints tell the same addresses", || {
        let endpoints = cluster.json("get endpoints payment-service -n production");
        let addresses = endpoints["subsets"][0]["addresses"].as_array().cloned();
        let from_endpoints: BTreeSet<String> =
            addresses.iter().flatten().map(|address| address["ip"].to_string()).collect();
        wanted(from_slice == from_endpoints, endpoints)
    });

    let pod = names(&cluster.json("get pods -n production"))[0].clone();
    cluster.kubectl(&format!("annotate pod {pod} -n production snowglobe.dev/ready=false"));
    cluster.endpoints_ready("production/payment-service", 2);
    eventually("one address that is not ready", || {
        let endpoints = cluster.json("get endpoints payment-service -n production");
        let count = endpoints["subsets"][0]["notReadyAddresses"].as_array().map_or(0, Vec::len);
        wanted(count == 1, endpoints)
    });
    cluster.kubectl("delete service payment-service -n production");
    eventually("slices and endpoints go with their service", || {
        let left = cluster.json("get endpoints,endpointslices -n production");
        wanted(items(&left).count() == 0, left)
    });
}

#[test]
fn hand_made_endpoints_are_mirrored() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("run backend --image=app --port=8080");
    cluster.kubectl("wait pod/backend --for=condition=Ready --timeout=20s");
    let ip = cluster.kubectl("get pod backend -o jsonpath={.status.podIP}");
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: manual}}, spec: {{ports: [{{port: 8000}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Endpoints, metadata: {{name: manual}}, \
         subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 8080}}]}}]}}\n"
    ));
    cluster.endpoints_ready("manual", 1);
    assert_eq!(pod_at(&cluster.cluster_ip("manual"), 8000), "backend");
    cluster.kubectl("delete endpoints manual");
    cluster.endpoints_ready("manual", 0);
}

#[test]
fn create_and_expose_give_a_working_service() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create deployment web --image=nginx --port=80");
    assert_eq!(cluster.kubectl("expose deployment web"), "service/web exposed\n");
    cluster.endpoints_ready("web", 1);
    let address = cluster.cluster_ip("web");
    assert_eq!(
        cluster.addresses_of("web.default.svc.cluster.local"),
        std::slice::from_ref(&address)
    );
    if cluster.place.low_ports_allowed() {
        let answer = ask(&format!("http://{address}/"));
        assert_eq!(answer["port"], 80);
        assert!(answer["pod"].as_str().is_some_and(|pod| pod.starts_with("web-")), "{answer}");
    } else {
        let message = cluster.event("default", "web", "PortNotBound");
        assert!(message.contains("port 80/TCP cannot be served"), "{message}");
        // The remedy that needs no privilege: another port of the Service. The pod's own port has moved already.
        cluster.kubectl("patch service web -p {\"spec\":{\"ports\":[{\"port\":80,\"$patch\":\"delete\"},{\"port\":8080,\"targetPort\":80}]}}");
        eventually("the other port answers", || {
            let ran = crate::http::curl(&format!("http://{address}:8080/"));
            wanted(
                ran.code == Some(0) && ran.stdout.contains("\"port\":80"),
                ran.stderr + &ran.stdout,
            )
        });
    }
}

#[test]
fn a_namespace_takes_everything_with_it() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    cluster.kubectl("delete namespace production --timeout=30s");
    let left = cluster.json("get svc,pods,deploy,rs,endpoints,endpointslices,cm -A");
    let namespaces: BTreeSet<String> =
        items(&left).map(|object| object["metadata"]["namespace"].to_string()).collect();
    assert!(!namespaces.contains("\"production\""), "{namespaces:?}");
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
}

#[test]
fn pods_wait_for_a_node_that_fits() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: picky}, spec: {nodeSelector: {disk: fast}, \
         containers: [{name: app, image: app}]}}",
    );
    let message = cluster.event("default", "picky", "FailedScheduling");
    assert!(message.contains("0/3 nodes are available"), "{message}");
    assert_eq!(cluster.kubectl("get pod picky -o jsonpath={.status.phase}"), "Pending");
    cluster.kubectl("label node node-2 disk=fast");
    cluster.kubectl("wait pod/picky --for=condition=Ready --timeout=20s");
    assert_eq!(cluster.kubectl("get pod picky -o jsonpath={.spec.nodeName}"), "node-2");

    cluster.kubectl("cordon node-1");
    cluster.kubectl("create deployment web --image=app --replicas=4");
    cluster.kubectl("rollout status deployment/web --timeout=20s");
    let nodes = cluster.kubectl("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
    assert!(!nodes.contains("node-1"), "{nodes}");
    cluster.kubectl("uncordon node-1");
}

/// The status of a condition.
fn condition(object: &Value, name: &str) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let condition = conditions.into_iter().flatten().find(|condition| condition["type"] == name);
    condition.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn nodes_offer_what_they_are_told_to() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let place = Place::new();
    let file = |text: &str| place.file("config.yaml", text);
    let path = file("nodes: 2\nnode-cpu: 32\nnode-overrides: {node-2: {memory: much}}\n");
    let config = format!("--config={}", path.display());
    let refused = tools::run({
        let mut up = place.snowglobe("up");
        up.arg(&config);
        up
    });
    assert!(
        refused.code != Some(0) && refused.stderr.contains("node-2.memory: \"much\""),
        "{}",
        refused.stderr
    );
    file(
        "nodes: 2\nnode-cpu: 32\nnode-overrides: {node-2: {cpu: 48, pods: 5, labels: {disk: ssd}}}\n",
    );
    let cluster = Cluster::start_at(place, &[&config]);
    let offered = "get nodes -o jsonpath={range.items[*]}{.status.allocatable.cpu},\
                   {.status.capacity.memory},{.status.allocatable.pods},{.metadata.labels.disk};{end}";
    let offered = offered.replace("{range.", "{range .");
    let shown = tools::run(cluster.kubectl_command(&offered.splitn(4, ' ').collect::<Vec<_>>()));
    assert_eq!(shown.succeeded(), "32,256Gi,110,;48,256Gi,5,ssd;");

    let patch = "patch node node-1 --subresource=status --type=json --patch";
    let mut command: Vec<&str> = patch.split(' ').collect();
    command.push(r#"[{"op":"add","path":"/status/capacity/example.com~1gpu","value":"2"}]"#);
    tools::run(cluster.kubectl_command(&command)).succeeded();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: both}, spec: {containers: [{name: app, image: app, \
         resources: {limits: {cpu: 20, example.com/gpu: 2}}}]}}",
    );
    cluster.kubectl("wait pod/both --for=condition=Ready --timeout=20s");
    assert_eq!(cluster.kubectl("get pod both -o jsonpath={.spec.nodeName}"), "node-1");
    let gpu = "get node node-1 -o jsonpath={.status.allocatable.example\\.com/gpu}";
    assert_eq!(cluster.kubectl(gpu), "2");
}
