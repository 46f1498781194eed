//! The contract of `snowglobe up`: the JSON line, signals, flags, and the objects that exist from the start.

use std::{net::TcpStream, os::unix::fs::PermissionsExt};

use rustix::process::Signal;

use crate::{
    cluster::{Cluster, items, names},
    http::{curl, pod_at, status_of},
    place::Place,
    tools::{self, Tool, can_use},
};

#[test]
fn one_json_line_tells_where_everything_is() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let mut cluster = Cluster::start_with(&["--store=memory"]);
        let line = cluster.line.clone();
        assert!(line.ready_ms < 30_000, "{line:?}");
        assert!(line.api.starts_with("https://127.0.0.1:"), "{line:?}");
        let (dashboard, token) = line.dashboard.split_once("/?token=").expect("URL with token");
        assert!(dashboard.starts_with("http://127.0.0.1:") && token.len() >= 32, "{line:?}");
        assert!(line.metrics.starts_with("http://127.0.0.1:"), "{line:?}");
        assert_eq!(line.kubeconfig, cluster.place.data().join("kubeconfig"));
        assert_eq!(status_of(&format!("-k {}/readyz", line.api)), "200", "ready means ready");
        assert!(curl(&format!("{}/metrics", line.metrics)).succeeded().contains("# TYPE "));

        let status = cluster.end(signal);
        assert!(status.success(), "{status}");
        assert_eq!(cluster.stdout().lines().count(), 1, "nothing but the line is on stdout");
        let addresses = [
            line.api.trim_start_matches("https://"),
            dashboard.trim_start_matches("http://"),
            line.metrics.trim_start_matches("http://"),
            &line.dns,
        ];
        for address in addresses {
            TcpStream::connect(address).expect_err("nothing listens after the end");
        }
    }
}

#[test]
fn the_kubeconfig_is_private_and_elsewhere_on_demand() {
    let place = Place::new();
    let elsewhere = place.home().join("elsewhere");
    let cluster = Cluster::start_at(
        place,
        &["--store=memory", "--kubeconfig", elsewhere.to_str().expect("UTF-8")],
    );
    assert_eq!(cluster.line.kubeconfig, elsewhere);
    let mode = std::fs::metadata(&elsewhere).expect("it was written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&elsewhere).expect("it is UTF-8");
    let config: serde_json::Value = serde_yaml::from_str(&text).expect("it is YAML");
    assert_eq!(config["current-context"], "snowglobe");
    assert_eq!(config["clusters"][0]["cluster"]["server"], cluster.line.api);
}

#[test]
fn objects_exist_from_the_start() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    let namespaces = names(&cluster.json("get namespaces"));
    assert_eq!(namespaces, ["default", "kube-node-lease", "kube-public", "kube-system"]);

    let api = cluster.json("get service kubernetes");
    assert_eq!(api["spec"]["clusterIP"], cluster.place.service_address(1).to_string());
    assert_eq!(api["spec"]["ports"][0]["port"], 443);
    let listen = cluster.line.api.trim_start_matches("https://");
    assert!(cluster.kubectl("get endpoints kubernetes").contains(listen));
    assert_eq!(items(&cluster.json("get endpointslices -n default")).count(), 1);

    let dns = cluster.json("get service kube-dns -n kube-system");
    assert_eq!(dns["spec"]["clusterIP"], cluster.place.service_address(10).to_string());
    let ports: Vec<String> = dns["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(ports, ["53/UDP", "53/TCP", "9153/TCP"]);
    cluster.endpoints_ready("kube-system/kube-dns", 1);

    cluster.kubectl("wait pods -n kube-system --all --for=condition=Ready --timeout=20s");
    let dns_pods = cluster.json("get pods -n kube-system -l k8s-app=kube-dns");
    assert_eq!(items(&dns_pods).count(), 1);
    let proxies = cluster.json("get pods -n kube-system -l k8s-app=kube-proxy");
    let mut nodes: Vec<_> = items(&proxies).map(|pod| pod["spec"]["nodeName"].clone()).collect();
    nodes.sort_by_key(ToString::to_string);
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);

    let corefile = cluster.json("get configmap coredns -n kube-system");
    assert!(
        corefile["data"]["Corefile"].as_str().expect("text").contains("kubernetes cluster.local")
    );
    let proxy = cluster.json("get configmap kube-proxy -n kube-system");
    assert!(
        proxy["data"]["config.conf"].as_str().expect("text").contains("KubeProxyConfiguration")
    );

    let zones = cluster.json("get nodes");
    let zones: Vec<_> = items(&zones)
        .map(|node| node["metadata"]["labels"]["topology.kubernetes.io/zone"].clone())
        .collect();
    assert_eq!(zones, ["zone-a", "zone-b", "zone-c"]);
    let address = cluster.place.service_address(1).to_string();
    assert_eq!(cluster.addresses_of("kubernetes.default.svc.cluster.local"), [address]);
}

#[test]
fn a_part_s_pod_comes_back_when_deleted() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("delete pods -n kube-system --all --wait=false");
    tools::eventually("four pods of the cluster's parts", || {
        let pods = cluster.json("get pods -n kube-system");
        let living = items(&pods).filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        tools::wanted(living.count() == 4, pods)
    });
    cluster.endpoints_ready("kube-system/kube-dns", 1);
    assert!(!cluster.addresses_of("kubernetes.default.svc.cluster.local").is_empty());
}

#[test]
fn the_certificate_names_the_service() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let ca = cluster.kubectl("get configmap kube-root-ca.crt -o jsonpath={.data.ca\\.crt}");
    let ca = cluster.place.file("ca.crt", &ca);
    let port = cluster.line.api.rsplit(':').next().expect("a port").to_owned();
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        let url = format!("--resolve {name}:{port}:127.0.0.1 https://{name}:{port}/version");
        let version = curl(&format!("--cacert {} {url}", ca.display())).succeeded();
        assert!(version.contains("snowglobe"), "{name}: {version}");
    }
    if cluster.place.low_ports_allowed() {
        let address = cluster.place.service_address(1);
        let url = format!("--cacert {} https://{address}/readyz", ca.display());
        assert_eq!(curl(&url).succeeded(), "ok", "through the API's own VIP");
    }
}

#[test]
fn the_api_is_never_open() {
    if !can_use(&[Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    let api = &cluster.line.api;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(status_of(&format!("-k {api}{path}")), "200", "{path}");
    }
    for path in ["/api", "/api/v1/secrets", "/apis", "/openapi/v2", "/metrics"] {
        let status = status_of(&format!("-k {api}{path}"));
        assert!(status == "401" || status == "403", "{path}: {status}");
    }
    let rebound = format!("-k -H Host:evil.example {api}/version");
    assert_eq!(status_of(&rebound), "403", "another name");
    let rebound = format!("-H Host:evil.example {}/metrics", cluster.line.metrics);
    assert_eq!(status_of(&rebound), "403", "another name");
}

#[test]
fn two_run_side_by_side() {
    if !can_use(&[Tool::Kubectl, Tool::Curl, Tool::Dig]) {
        return;
    }
    let clusters = [Cluster::start(), Cluster::start()];
    for (cluster, name) in clusters.iter().zip(["left", "right"]) {
        cluster.kubectl(&format!("create deployment {name} --image=app --port=8080"));
        cluster.kubectl(&format!(
            "expose deployment {name} --name=app --port=8000 --target-port=8080"
        ));
    }
    for (cluster, name) in clusters.iter().zip(["left", "right"]) {
        cluster.endpoints_ready("app", 1);
        let address = cluster.cluster_ip("app");
        assert!(pod_at(&address, 8000).starts_with(name));
        assert_eq!(cluster.addresses_of("app.default.svc.cluster.local"), [address]);
        let deployments = names(&cluster.json("get deployments"));
        assert_eq!(deployments, [name]);
    }
}

#[test]
fn flag_beats_environment_beats_file() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let configuration = "nodes: 2\nzones: [east, west]\ncluster-domain: file.test\nstore: memory\n";
    for (environment, flag, expected) in
        [(None, None, 2), (Some("3"), None, 3), (Some("3"), Some("--nodes=4"), 4)]
    {
        let place = Place::new();
        let file = place.file("snowglobe.yaml", configuration);
        let mut up = place.snowglobe("up");
        up.arg("--config").arg(file).args(flag);
        if let Some(nodes) = environment {
            up.env("SNOWGLOBE_NODES", nodes);
        }
        let cluster = Cluster::by_command(place, up);
        let nodes = cluster.json("get nodes");
        assert_eq!(items(&nodes).count(), expected, "{environment:?} {flag:?}");
        let zones: Vec<_> = items(&nodes)
            .map(|node| node["metadata"]["labels"]["topology.kubernetes.io/zone"].clone())
            .take(2)
            .collect();
        assert_eq!(zones, ["east", "west"]);
        let address = cluster.place.service_address(1).to_string();
        assert_eq!(cluster.addresses_of("kubernetes.default.svc.file.test"), [address]);
    }
}

#[test]
fn up_applies_files_and_directories() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let directory = place.home().join("manifests");
    std::fs::create_dir(&directory).expect("a directory of the test");
    let manifest = |name: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{from: up}}\n")
    };
    for name in ["b.yaml", "a.yml"] {
        let text = manifest(name.split('.').next().expect("a stem"));
        std::fs::write(directory.join(name), text).expect("a file of the test");
    }
    let shop = tools::root().join("tests/manifests/01-clusterip.yaml");
    let directory = directory.display().to_string();
    let cluster =
        Cluster::start_at(place, &["--store=memory", &directory, shop.to_str().expect("UTF-8")]);
    let maps = names(&cluster.json("get configmaps"));
    assert_eq!(maps, ["a", "b", "kube-root-ca.crt"]);
    cluster.kubectl("rollout status deployment/payment-deployment -n production --timeout=20s");
    let address = cluster.cluster_ip("production/payment-service");
    assert!(pod_at(&address, 9000).starts_with("payment-deployment-"));
}

#[test]
fn client_commands_stand_in_for_kubectl() {
    let mut cluster = Cluster::start_with(&["--store=memory"]);
    let shop = tools::root().join("tests/manifests/03-statefulset.yaml").display().to_string();
    let snowglobe = |arguments: &str| {
        let mut command = tools::snowglobe();
        command.args(arguments.split_whitespace()).env_remove("KUBECONFIG");
        command.env("SNOWGLOBE_DATA_DIR", cluster.place.data());
        tools::run(command)
    };
    let applied = snowglobe(&format!("apply -f {shop}")).succeeded();
    assert_eq!(applied.lines().count(), 2, "{applied}");
    tools::eventually("three pods", || {
        let table = snowglobe("get pods").succeeded();
        tools::wanted(table.matches("1/1").count() == 3, table)
    });
    assert!(snowglobe("get svc -A").succeeded().starts_with("NAMESPACE"));
    let pod = snowglobe("get pod postgres-1 -o json").succeeded();
    let pod: serde_json::Value = serde_json::from_str(&pod).expect("JSON");
    assert_eq!(pod["spec"]["hostname"], "postgres-1");
    let status = snowglobe("status -o json").succeeded();
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["objects"]["statefulsets"], 1);
    snowglobe(&format!("delete -f {shop}")).succeeded();
    let complaint = snowglobe("get service postgres").failed();
    assert!(complaint.contains("not found"), "{complaint}");
    let complaint = snowglobe("get gizmos").failed();
    assert!(complaint.contains("gizmos") && complaint.contains("services"), "{complaint}");
    assert!(snowglobe("completion bash").succeeded().contains("snowglobe"));

    cluster.stop();
    let mut orphan = tools::snowglobe();
    orphan.args(["get", "pods", "--data-dir"]).arg(cluster.place.data()).env_remove("KUBECONFIG");
    let complaint = tools::run(orphan).failed();
    assert!(complaint.contains("snowglobe up"), "what to do is told: {complaint}");
}
