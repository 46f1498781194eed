//! What an ordinary user meets below port 1024. All other tests run as one too (`tests/run` runs everything again with
//! `setpriv`); these are about the difference alone, and hold for a privileged user as the opposite.

use crate::{
    cluster::Cluster,
    http::{ask, curl},
    tools::{Tool, can_use, eventually, wanted},
};

#[test]
fn low_service_ports() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let address = cluster.cluster_ip("production/payment-service");
    if cluster.place.low_ports_allowed() {
        assert_eq!(ask(&format!("http://{address}:80/"))["port"], 8080);
        let events = cluster.kubectl("get events -A");
        assert!(!events.contains("PortNotBound"), "{events}");
        return;
    }
    let message = cluster.event("production", "payment-service", "PortNotBound");
    for part in [
        "port 80/TCP cannot be served",
        "use a port above 1023",
        "sysctl net.ipv4.ip_unprivileged_port_start=0",
        "setcap cap_net_bind_service=+ep",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let described = cluster.kubectl("describe service payment-service -n production");
    assert!(described.contains("Warning  PortNotBound"), "{described}");
    assert_eq!(ask(&format!("http://{address}:9000/"))["port"], 9000, "the other port is served");
    cluster.kubectl("wait pods --all -n production --for=condition=Ready --timeout=20s");
}

#[test]
fn services_reach_pods_whose_ports_moved() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("create deployment web --image=nginx --port=80 --replicas=2");
    cluster.kubectl("expose deployment web --port=8000 --target-port=80");
    cluster.endpoints_ready("web", 2);
    let address = cluster.cluster_ip("web");
    let url = format!("http://{address}:8000/");
    let pods: Vec<_> = (0..4).map(|_| ask(&url)).collect();
    assert!(pods.iter().all(|answer| answer["port"] == 80), "{pods:?}");
    assert_ne!(pods[0]["pod"], pods[1]["pod"]);
    let slices = cluster.json("get endpointslices -l kubernetes.io/service-name=web");
    assert_eq!(slices["items"][0]["ports"][0]["port"], 80, "advertised as declared");
}

#[test]
fn cluster_dns_is_there_on_its_own_port() {
    if !can_use(&[Tool::Kubectl, Tool::Dig]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("wait pods -n kube-system --all --for=condition=Ready --timeout=20s");
    let api = cluster.place.service_address(1).to_string();
    assert_eq!(
        cluster.addresses_of("kubernetes.default.svc.cluster.local"),
        std::slice::from_ref(&api)
    );
    if cluster.place.low_ports_allowed() {
        let server = cluster.place.service_address(10);
        for transport in ["+notcp", "+tcp"] {
            let question = format!("{transport} +short kubernetes.default.svc.cluster.local");
            eventually("DNS answers at its Service's address", || {
                let mut dig = Tool::Dig.command();
                dig.arg(format!("@{server}"))
                    .args(question.split(' '))
                    .args(["+tries=1", "+time=2"]);
                let ran = crate::tools::run(dig);
                wanted(ran.stdout.trim() == api, ran.stdout + &ran.stderr)
            });
        }
    } else {
        let message = cluster.event("kube-system", "kube-dns", "PortNotBound");
        assert!(message.contains("port 53/"), "{message}");
    }
    let metrics = format!("http://{}:9153/metrics", cluster.place.service_address(10));
    let text = curl(&metrics).succeeded();
    assert!(text.contains("coredns_dns_requests_total"), "{text}");
}
