//! Few file descriptors: what pods and clients take leaves enough for the API, DNS, the dashboard and the store, and
//! what finds none waits until there is one.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::{
    cluster::{Cluster, items},
    http::{pod_at, status_of},
    place::Place,
    tools::{Tool, can_use, eventually, wanted},
};

/// Far fewer than the pods of [`many_ports`] want.
const LIMIT: u32 = 700;
const REPLICAS: usize = 12;
const PORTS_PER_POD: u16 = 60;

/// `up` as a process that may have so many descriptors and no more.
fn limited(place: &Place, limit: u32) -> Command {
    let up = place.snowglobe("up");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()]);
    shell.arg(up.get_program()).args(up.get_args());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Pods that each listen on many ports, and a Service in front of them.
fn many_ports() -> String {
    let ports: Vec<String> =
        (0..PORTS_PER_POD).map(|nth| format!("{{containerPort: {}}}", 20_000 + nth)).collect();
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: greedy}}
spec:
  replicas: {REPLICAS}
  selector: {{matchLabels: {{app: greedy}}}}
  template:
    metadata: {{labels: {{app: greedy}}}}
    spec: {{containers: [{{name: web, image: web, ports: [{}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: greedy}}
spec: {{selector: {{app: greedy}}, ports: [{{port: 8080, targetPort: 20000}}]}}
",
        ports.join(", ")
    )
}

/// The condition `Ready` of each pod.
fn readiness(cluster: &Cluster, selector: &str) -> Vec<Value> {
    let pods = cluster.json(&format!("get pods -l {selector}"));
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == "Ready").cloned()
    };
    items(&pods).filter_map(ready).collect()
}

/// Some pods are ready, and the others say why they are not.
fn pods_wait(cluster: &Cluster) {
    eventually("some pods are ready, the others wait", || {
        let all = readiness(cluster, "app=greedy");
        let (ready, waiting): (Vec<&Value>, Vec<&Value>) =
            all.iter().partition(|condition| condition["status"] == "True");
        let explained = waiting.iter().all(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["reason"] == "PortNotBound" && message.contains("file descriptors")
        });
        let fine = all.len() == REPLICAS && !ready.is_empty() && !waiting.is_empty() && explained;
        wanted(fine, format!("{all:?}"))
    });
    let events = cluster.json("get events --field-selector reason=PortNotBound");
    let told = items(&events)
        .any(|event| event["message"].as_str().unwrap_or_default().contains("file descriptors"));
    assert!(told, "{events}");
}

/// kubectl, dig, the dashboard, metrics and Services answer.
fn others_answer(cluster: &Cluster) {
    cluster.kubectl("get nodes");
    cluster.kubectl("create configmap one --from-literal=a=b");
    cluster.kubectl("delete configmap one");
    let address = cluster.cluster_ip("greedy");
    for transport in ["+notcp", "+tcp"] {
        let answer = cluster.dig(&format!("+short {transport} greedy.default.svc.cluster.local"));
        assert_eq!(answer.trim(), address);
    }
    assert_eq!(status_of(&cluster.line.dashboard), "303");
    assert_eq!(status_of(&format!("{}/metrics", cluster.line.metrics)), "200");
    eventually("the Service has an endpoint", || {
        wanted(TcpStream::connect((address.as_str(), 8080)).is_ok(), "refused")
    });
    assert!(pod_at(&address, 8080).starts_with("greedy-"));
}

#[test]
fn pods_leave_descriptors_for_others_and_wait_for_theirs() {
    if !can_use(&[Tool::Kubectl, Tool::Dig, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let up = limited(&place, LIMIT);
    let mut cluster = Cluster::by_command(place, up);
    cluster.apply(&many_ports());
    pods_wait(&cluster);
    others_answer(&cluster);

    cluster.stop();
    assert!(cluster.log().lines().count() < 20, "{}", cluster.log());
    let up = limited(&cluster.place, LIMIT);
    cluster.start_again_by(up);
    pods_wait(&cluster);
    others_answer(&cluster);

    cluster.kubectl("run late --image=web --port=8080 --labels=app=late");
    eventually("one more pod waits", || {
        let late = readiness(&cluster, "app=late");
        let waits = late.iter().any(|ready| ready["reason"] == "PortNotBound");
        wanted(waits, format!("{late:?}"))
    });
    cluster.kubectl("delete deployment greedy");
    cluster.kubectl("wait pod/late --for=condition=Ready --timeout=30s");
    cluster.stop();
    assert!(cluster.log().lines().count() < 20, "{}", cluster.log());
}

/// Clients that connect and say nothing, or begin a request and never end it, do not keep others out.
#[test]
fn silent_clients_make_room() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let up = limited(&place, LIMIT);
    let cluster = Cluster::by_command(place, up);
    let metrics = format!("{}/metrics", cluster.line.metrics);
    let hosts = [&cluster.line.dashboard, &metrics, &cluster.line.api];
    let hosts = hosts.map(|url| url.split('/').nth(2).expect("a host").to_owned());
    let silent: Vec<TcpStream> = (0..300)
        .map(|nth: usize| {
            let mut stream = TcpStream::connect(&hosts[nth % 3]).expect("the server listens");
            if nth.is_multiple_of(2) {
                // It may have been closed already.
                stream.write_all(b"GET / HTTP/1.1\r\nHost:").ok();
            }
            stream
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(status_of(&cluster.line.dashboard), "303");
        assert_eq!(status_of(&metrics), "200");
        cluster.kubectl("get nodes");
    }
    drop(silent);
}

/// Whatever took the descriptors: who cannot be accepted waits, and neither the log nor the processor is busy with it.
#[test]
fn connections_wait_while_there_is_no_descriptor() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("apply -f tests/manifests/01-clusterip.yaml");
    cluster.endpoints_ready("production/payment-service", 3);
    let address = cluster.cluster_ip("production/payment-service");
    let pid = i32::try_from(cluster.line.pid).ok().and_then(Pid::from_raw);
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(20_000) };
        prlimit(pid, Resource::Nofile, limit).expect("it is our child")
    };
    let dns = cluster.line.dns.clone();
    let api = cluster.line.api.trim_start_matches("https://").to_owned();
    let dashboard = cluster.line.dashboard.split('/').nth(2).expect("a host").to_owned();
    let before = limit(3);
    let connect = |address: &str| TcpStream::connect(address).expect("the kernel accepts");
    let mut clients: Vec<TcpStream> =
        (0..20).map(|_| connect(&format!("{address}:9000"))).collect();
    let others: Vec<TcpStream> = [&dns, &api, &dashboard].map(|address| connect(address)).into();
    eventually("it was noticed", || {
        let log = cluster.log();
        wanted(log.contains("cannot be accepted"), log)
    });
    let spent = processor_time(cluster.line.pid);
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the kernel takes it");
    }
    limit(before.current.expect("there is a limit"));
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("payment"), "{answer}");
    }
    drop(others);
    let spent = processor_time(cluster.line.pid) - spent;
    assert!(spent < 50, "{spent} ticks of processor time");
    let log = cluster.log();
    assert_eq!(log.matches("cannot be accepted").count(), 1, "{log}");
}

/// In ticks of 10 ms.
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>());
    ticks.map(|ticks| ticks.expect("a number")).sum()
}
