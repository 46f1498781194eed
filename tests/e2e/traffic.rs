//! From a client on this machine through a virtual IP to a pod.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::{Cluster, names},
    http::{ask, curl, pod_at},
    pods::{tcp_echo, udp_ask, udp_ask_from},
    tools::{self, Tool, can_use, eventually, wanted},
};

/// The payment pods behind their Service.
struct Payment {
    cluster: Cluster,
    address: String,
    /// Port of the Service: 80 where this process may bind it.
    port: u16,
}

impl Payment {
    fn start() -> Self {
        let cluster = Cluster::start();
        cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
        cluster.endpoints_ready("production/payment-service", 3);
        let address = cluster.cluster_ip("production/payment-service");
        let port = if cluster.place.low_ports_allowed() { 80 } else { 9000 };
        Self { cluster, address, port }
    }

    fn pod(&self) -> String {
        pod_at(&self.address, self.port)
    }

    fn picks(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.pod()).collect()
    }

    fn annotate(&self, pod: &str, annotation: &str) {
        self.cluster.kubectl(&format!("annotate pod {pod} -n production {annotation} --overwrite"));
    }
}

/// How often each occurs.
pub(crate) fn tally(picks: &[String]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for pick in picks {
        *tally.entry(pick.as_str()).or_insert(0) += 1;
    }
    tally
}

#[test]
fn three_pods_are_picked_in_turn() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let payment = Payment::start();
    let picks = payment.picks(30);
    let tally = tally(&picks);
    assert_eq!(tally.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{tally:?}");
    assert!(picks.windows(2).all(|pair| pair[0] != pair[1]), "no pod twice in a row: {picks:?}");
    let answer = ask(&format!("http://{}:{}/", payment.address, payment.port));
    assert_eq!(answer["port"], if payment.port == 80 { 8080 } else { 9000 }, "the target port");
}

#[test]
fn a_pod_that_is_not_ready_gets_nothing() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let payment = Payment::start();
    let pods = names(&payment.cluster.json("get pods -n production"));
    payment.annotate(&pods[0], "snowglobe.dev/ready=false");
    payment.cluster.endpoints_ready("production/payment-service", 2);
    let picks = payment.picks(20);
    let tally = tally(&picks);
    assert!(!tally.contains_key(pods[0].as_str()), "{tally:?}");
    assert_eq!(tally.values().copied().collect::<Vec<_>>(), [10, 10], "{tally:?}");
    payment.annotate(&pods[0], "snowglobe.dev/ready=true");
    payment.cluster.endpoints_ready("production/payment-service", 3);
    assert!(payment.picks(3).contains(&pods[0]), "it is back");
}

#[test]
fn without_a_ready_pod_connections_are_refused() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let payment = Payment::start();
    let connect = || TcpStream::connect((payment.address.as_str(), payment.port));
    drop(connect().expect("there are pods"));
    payment.cluster.kubectl("annotate pods --all -n production snowglobe.dev/ready=false");
    payment.cluster.endpoints_ready("production/payment-service", 0);
    let begun = Instant::now();
    let error = connect().expect_err("no pod is ready");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(begun.elapsed() < Duration::from_millis(500), "at once: {:?}", begun.elapsed());
    payment.cluster.kubectl("annotate pods --all -n production snowglobe.dev/ready-");
    payment.cluster.endpoints_ready("production/payment-service", 3);
    assert_eq!(tally(&payment.picks(6)).len(), 3, "traffic flows again");
    payment.cluster.kubectl("scale deployment payment-deployment -n production --replicas=0");
    // Pods that are ending serve to their end when there are no others.
    payment.cluster.kubectl("wait pods --all -n production --for=delete --timeout=30s");
    eventually("without pods connections are refused", || {
        let kind = connect().map(drop).map_err(|error| error.kind());
        wanted(kind == Err(ErrorKind::ConnectionRefused), format!("{kind:?}"))
    });
    let unused = payment.cluster.place.service_address(250);
    let error = TcpStream::connect((unused, payment.port)).expect_err("no service has it");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_write_is_answered_when_traffic_follows() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("run backend --image=app --port=8080");
    cluster.kubectl("wait pod/backend --for=condition=Ready --timeout=20s");
    cluster.kubectl("expose pod backend --port=8000 --target-port=8080");
    cluster.endpoints_ready("backend", 1);
    // No waiting from here on: read your writes.
    let address = cluster.cluster_ip("backend");
    assert_eq!(pod_at(&address, 8000), "backend");
    cluster.kubectl("patch service backend -p {\"spec\":{\"ports\":[{\"port\":8000,\"$patch\":\"delete\"},{\"port\":8001,\"targetPort\":8080}]}}");
    assert_eq!(pod_at(&address, 8001), "backend");
    TcpStream::connect((address.as_str(), 8000)).expect_err("the port has gone");
    cluster.kubectl("delete service backend");
    TcpStream::connect((address.as_str(), 8001)).expect_err("the service has gone");
}

#[test]
fn a_pod_s_address_makes_the_client_that_pod() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let payment = Payment::start();
    let cluster = &payment.cluster;
    let url = format!("http://{}:{}/", payment.address, payment.port);
    let outside = ask(&url);
    let client = outside["client"].as_str().expect("a client");
    assert!(client.starts_with("127.0.0.1:"), "{client}");
    cluster.kubectl("run client --image=app");
    cluster.kubectl("wait pod/client --for=condition=Ready --timeout=20s");
    let ip = cluster.kubectl("get pod client -o jsonpath={.status.podIP}");
    let answer = ask(&format!("--interface {ip} {url}"));
    let seen = answer["client"].as_str().expect("a client");
    assert!(seen.starts_with(&format!("{ip}:")), "{seen} is not {ip}");
    let free = cluster.place.free_address();
    let answer = ask(&format!("--interface {free} {url}"));
    assert!(
        answer["client"].as_str().is_some_and(|c| c.starts_with(&format!("{free}:"))),
        "{answer}"
    );
}

#[test]
fn bytes_pass_in_both_directions() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let payment = Payment::start();
    let mut stream = TcpStream::connect((payment.address.as_str(), payment.port)).expect("pods");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid time");
    stream.write_all(b"\x01hello").expect("open");
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).expect("an echo");
    assert_eq!(&answer, b"\x01hello");
    drop(stream);
    let large: Vec<u8> =
        (0..1_000_000_u32).map(|i| u8::try_from(i % 251).expect("small")).collect();
    let address = payment.address.clone();
    let port = payment.port;
    // Reading and writing at once: an echo of a megabyte does not fit into buffers.
    let mut reader = TcpStream::connect((address.as_str(), port)).expect("pods");
    let mut writer = reader.try_clone().expect("a second handle");
    let sent = large.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).expect("open");
        writer.shutdown(std::net::Shutdown::Write).expect("open");
    });
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).expect("an echo");
    writing.join().expect("all was sent");
    assert!(echoed == large, "{} of {} bytes, or other ones", echoed.len(), large.len());
    assert_eq!(tcp_echo(&payment.address, payment.port, b"\x02end"), b"\x02end");
}

#[test]
fn udp_is_balanced_too() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: names}
spec:
  selector: {app: names}
  ports: [{name: udp, port: 5353, protocol: UDP, targetPort: 5300}, {name: tcp, port: 5353, targetPort: 5300}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: names}
spec:
  replicas: 3
  selector: {matchLabels: {app: names}}
  template:
    metadata: {labels: {app: names}}
    spec: {containers: [{name: names, image: names, ports: [{containerPort: 5300, protocol: UDP}]}]}
",
    );
    cluster.endpoints_ready("names", 3);
    let address = cluster.cluster_ip("names");
    // Each client is a session of its own.
    let picks: Vec<String> = (0..9)
        .map(|_| {
            let answer = udp_ask(&address, 5353, b"who");
            answer.strip_suffix(": who").expect("an echo with a name").to_owned()
        })
        .collect();
    assert_eq!(tally(&picks).values().copied().collect::<Vec<_>>(), [3, 3, 3], "{picks:?}");
    let pod = names(&cluster.json("get pods -l app=names"))[0].clone();
    let ip = cluster.kubectl(&format!("get pod {pod} -o jsonpath={{.status.podIP}}"));
    udp_ask_from(&ip, &address, 5353, b"from a pod");
    eventually("a pod saw the client's own address", || {
        let logs = cluster.kubectl("logs -l app=names --tail=-1");
        wanted(logs.contains(&format!("{ip}:")), logs)
    });
    assert!(pod_at(&address, 5353).starts_with("names-"), "TCP on the same port");
}

#[test]
fn a_udp_node_port_is_free_when_its_service_gives_it_up() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&[]);
    cluster.kubectl("create deployment echo --image=echo --port=5300");
    let service = |name: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: NodePort, \
             selector: {{app: echo}}, ports: [{{port: 5300, protocol: UDP, nodePort: 30053}}]}}}}"
        ));
    };
    service("before");
    cluster.endpoints_ready("before", 1);
    let node_port = cluster.place.nodeport_address();
    let ask = || udp_ask(&node_port.to_string(), 30_053, b"who");
    assert!(ask().starts_with("echo-"));
    let change =
        r#"{"spec":{"type":"ClusterIP","ports":[{"port":5300,"protocol":"UDP","nodePort":null}]}}"#;
    let patch = ["patch", "service", "before", "--type=merge", "-p", change];
    tools::run(cluster.kubectl_command(&patch)).succeeded();
    // Sessions used to keep it for minutes.
    eventually("the port is free", || {
        UdpSocket::bind((node_port, 30_053)).map_err(|error| error.to_string())
    });
    service("after");
    cluster.endpoints_ready("after", 1);
    assert!(ask().starts_with("echo-"));
    // Without privilege there is one for another Service, too.
    let events = cluster.kubectl("get events --field-selector involvedObject.name=after");
    assert!(!events.contains("PortNotBound"), "{events}");
}

#[test]
fn node_ports_and_load_balancers() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  type: LoadBalancer
  selector: {app: front}
  ports: [{port: 8000, targetPort: 8080, nodePort: 30999}]
---
apiVersion: v1
kind: Service
metadata: {name: guarded}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [10.0.0.0/8]
  selector: {app: front}
  ports: [{port: 8000, targetPort: 8080}]
",
    );
    cluster.kubectl("create deployment front --image=front --port=8080 --replicas=3");
    cluster.endpoints_ready("front", 3);
    for node in 1..=3 {
        let address = cluster.place.node_address(node).to_string();
        assert!(pod_at(&address, 30_999).starts_with("front-"), "{address}");
    }
    let address = cluster.place.nodeport_address().to_string();
    assert!(pod_at(&address, 30_999).starts_with("front-"));
    let address = |name: &str| {
        cluster.kubectl(&format!(
            "get service {name} -o jsonpath={{.status.loadBalancer.ingress[0].ip}}"
        ))
    };
    let url = format!("http://{}:8000/", address("front"));
    eventually("the load balancer is served", || {
        let served = curl(&url);
        wanted(served.stdout.contains("\"pod\":\"front-"), served.stderr)
    });

    cluster.endpoints_ready("guarded", 3);
    let url = format!("http://{}:8000/", address("guarded"));
    eventually("the load balancer accepts, then resets", || {
        let refused = curl(&url);
        wanted(refused.code == Some(56), refused.stderr)
    });
    let message = cluster.event("default", "guarded", "SourceRefused");
    assert!(message.contains("127.0.0.1"), "{message}");
    assert!(
        pod_at(&cluster.cluster_ip("guarded"), 8000).starts_with("front-"),
        "the ranges guard the load balancer"
    );
}

#[test]
fn a_taken_port_is_told_and_harms_nothing_else() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    let taken = TcpListener::bind((cluster.place.service_address(77), 8000)).expect("it is free");
    let address = cluster.place.service_address(77);
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: taken}}, spec: {{clusterIP: {address}, \
         selector: {{app: web}}, ports: [{{name: a, port: 8000, targetPort: 8080}}, {{name: b, port: 8001, targetPort: 8080}}]}}}}"
    ));
    cluster.kubectl("create deployment web --image=web --port=8080");
    cluster.endpoints_ready("taken", 1);
    let message = cluster.event("default", "taken", "PortNotBound");
    let process = std::process::id().to_string();
    for part in ["port 8000/TCP", &process, "another port"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(pod_at(&address.to_string(), 8001).starts_with("web-"));
    drop(taken);
    eventually("the port is served once it is free", || {
        let ran = curl(&format!("http://{address}:8000/"));
        wanted(ran.code == Some(0), ran.stderr)
    });
}
