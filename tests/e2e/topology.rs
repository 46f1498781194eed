//! Which endpoints a client gets depends on its node and zone, when a Service asks for that.

use std::collections::BTreeSet;

use crate::{
    cluster::{Cluster, items},
    http::ask,
    tools::{Tool, can_use, eventually, wanted},
};

/// Six pods on three nodes, one node in each zone.
pub(crate) const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8000, targetPort: 8080}]}
";

/// The nodes whose pods answer a client on each node.
pub(crate) fn answering(cluster: &Cluster) -> Vec<(String, BTreeSet<String>)> {
    let address = cluster.cluster_ip("web");
    let pods = cluster.json("get pods -l app=web");
    let place = |pod: &serde_json::Value| {
        let text = |field: &serde_json::Value| field.as_str().expect("text").to_owned();
        let name = text(&pod["metadata"]["name"]);
        (name, (text(&pod["spec"]["nodeName"]), text(&pod["status"]["podIP"])))
    };
    let pods: std::collections::BTreeMap<_, _> = items(&pods).map(place).collect();
    let of_client = |(node, ip): &(String, String)| {
        let answers = (0..6).map(|_| ask(&format!("--interface {ip} http://{address}:8000/")));
        let nodes = answers.map(|answer| {
            let pod = answer["pod"].as_str().expect("the pod's name");
            pods[pod].0.clone()
        });
        (node.clone(), nodes.collect())
    };
    pods.values().map(of_client).collect()
}

pub(crate) fn each_stays_at_home(cluster: &Cluster) {
    eventually("each client is served by its own zone", || {
        let answering = answering(cluster);
        let at_home = |(client, nodes): &(String, BTreeSet<String>)| {
            nodes.len() == 1 && nodes.contains(client)
        };
        wanted(answering.iter().all(at_home), format!("{answering:?}"))
    });
}

pub(crate) fn everybody_gets_all(cluster: &Cluster) {
    eventually("each client is served by all", || {
        let answering = answering(cluster);
        let all: BTreeSet<String> = answering.iter().map(|(node, _)| node.clone()).collect();
        wanted(answering.iter().all(|(_, nodes)| *nodes == all), format!("{answering:?}"))
    });
}

#[test]
fn traffic_stays_in_the_zone_of_who_asks() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    for view in ["per-node", "global"] {
        let cluster = Cluster::start_with(&["--nodes=3", "--zones=a,b,c", "--proxy-view", view]);
        cluster.apply(WEB);
        cluster.endpoints_ready("web", 6);
        everybody_gets_all(&cluster);
        for distribution in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
            let patch = format!("{{\"spec\":{{\"trafficDistribution\":\"{distribution}\"}}}}");
            cluster.kubectl(&format!("patch service web --type=merge -p {patch}"));
            each_stays_at_home(&cluster);
        }
        cluster
            .kubectl("patch service web --type=merge -p {\"spec\":{\"trafficDistribution\":null}}");
        everybody_gets_all(&cluster);

        cluster.kubectl("annotate service web service.kubernetes.io/topology-mode=Auto");
        each_stays_at_home(&cluster);
        let message = cluster.event("default", "web", "TopologyAwareHintsEnabled");
        assert_eq!(message, "Topology Aware Hints has been enabled, addressType: IPv4");
        // Too few for all zones: nobody is cut off.
        cluster.kubectl("scale deployment web --replicas=2");
        cluster.endpoints_ready("web", 2);
        let message = cluster.event("default", "web", "TopologyAwareHintsDisabled");
        assert!(message.contains("addressType: IPv4"), "{message}");
        everybody_gets_all(&cluster);
    }
}
