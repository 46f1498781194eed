//! Simulated pods are real servers on their own address.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    http::{ask, curl, status_of},
    tools::{Tool, can_use, eventually, wanted},
};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers:
  - name: echo
    image: example/echo:3
    ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]
";

/// A cluster with the pod above, and that pod's address.
fn with_pod() -> (Cluster, String) {
    let cluster = Cluster::start();
    cluster.apply(POD);
    cluster.kubectl("wait pod/echo --for=condition=Ready --timeout=20s");
    let ip = cluster.kubectl("get pod echo -o jsonpath={.status.podIP}");
    (cluster, ip)
}

#[test]
fn http_tells_who_answers() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, ip) = with_pod();
    let answer = ask(&format!("http://{ip}:8080/"));
    let node = cluster.kubectl("get pod echo -o jsonpath={.spec.nodeName}");
    for (field, value) in [
        ("pod", "echo"),
        ("namespace", "default"),
        ("node", &node),
        ("ip", &ip),
        (
            "zone",
            &node
                .replace("node-1", "zone-a")
                .replace("node-2", "zone-b")
                .replace("node-3", "zone-c"),
        ),
    ] {
        assert_eq!(answer[field], value, "{answer}");
    }
    assert_eq!(answer["port"], 8080);
    assert!(answer["client"].as_str().is_some_and(|c| c.starts_with("127.0.0.1:")), "{answer}");
    for status in ["200", "404", "418", "503"] {
        assert_eq!(status_of(&format!("http://{ip}:8080/status/{status}")), status);
    }
    let begun = Instant::now();
    ask(&format!("http://{ip}:8080/delay/300"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let twice = curl(&format!("http://{ip}:8080/ http://{ip}:8080/ --write-out %{{num_connects}}"));
    assert!(twice.succeeded().ends_with('0'), "connections are kept");
    let logs = cluster.kubectl("logs echo");
    assert!(logs.contains("GET /status/418 418"), "{logs}");
}

#[test]
fn tcp_and_udp_echo() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let (_cluster, ip) = with_pod();
    assert_eq!(tcp_echo(&ip, 8080, b"\x00no HTTP\r\n"), b"\x00no HTTP\r\n");
    assert_eq!(udp_ask(&ip, 5353, b"ping"), "echo: ping");
}

#[test]
fn listeners_follow_services() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, ip) = with_pod();
    let refused = |port: u16| {
        let error = TcpStream::connect((ip.as_str(), port)).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "port {port}");
    };
    refused(7070);
    let service = |target: u16| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: echo}}, spec: {{selector: {{app: echo}}, \
             ports: [{{name: web, port: 8000, targetPort: {target}}}, \
             {{name: dns, port: 8000, targetPort: {target}, protocol: UDP}}]}}}}"
        ));
    };
    service(7070);
    eventually("the pod listens on the target port", || {
        TcpStream::connect((ip.as_str(), 7070)).map(drop).map_err(|error| error.to_string())
    });
    assert_eq!(ask(&format!("http://{ip}:7070/"))["port"], 7070);
    assert_eq!(udp_ask(&ip, 7070, b"ping"), "echo: ping");
    cluster.endpoints_ready("echo", 1);
    assert_eq!(ask(&format!("http://{}:8000/", cluster.cluster_ip("echo")))["port"], 7070);

    service(7071);
    eventually("the pod listens on the new target port", || {
        TcpStream::connect((ip.as_str(), 7071)).map(drop).map_err(|error| error.to_string())
    });
    eventually("the old port is closed", || {
        wanted(TcpStream::connect((ip.as_str(), 7070)).is_err(), "it is open")
    });
    cluster.kubectl("delete service echo");
    eventually("the port is closed without the service", || {
        wanted(TcpStream::connect((ip.as_str(), 7071)).is_err(), "it is open")
    });
    assert_eq!(status_of(&format!("http://{ip}:8080/")), "200", "the declared port stays");
    cluster.kubectl("delete pod echo");
    refused(8080);
}

#[test]
fn readiness_is_asked_for() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let (cluster, ip) = with_pod();
    let ready = "get pod echo -o jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    cluster.kubectl("annotate pod echo snowglobe.dev/ready=false");
    eventually("the pod is not ready", || {
        let status = cluster.kubectl(ready);
        wanted(status == "False", status)
    });
    assert!(cluster.kubectl("get pod echo").contains("0/1"));
    assert_eq!(status_of(&format!("http://{ip}:8080/")), "200", "not ready is not dead");
    cluster.kubectl("annotate pod echo snowglobe.dev/ready-");
    eventually("the pod is ready again", || {
        let status = cluster.kubectl(ready);
        wanted(status == "True", status)
    });
}

#[test]
fn an_event_says_that_it_is_simulated() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let (cluster, ip) = with_pod();
    let message = cluster.event("default", "echo", "Simulated");
    for part in ["image example/echo:3 is not run", &ip, "8080/TCP", "5353/UDP", "HTTP", "echoes"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let described = cluster.kubectl("describe pod echo");
    assert!(described.contains("is not run: the pod is simulated"), "{described}");
}

#[test]
fn a_taken_port_keeps_the_pod_from_ready() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start_with(&["--store=memory"]);
    // The first pods get the first addresses of the node's range; none of them can have this port.
    let taken: Vec<_> = (2..10)
        .map(|last| std::net::TcpListener::bind((cluster.place.address(64, last), 8080)))
        .collect();
    cluster.apply(POD);
    eventually("the reason why it is not ready", || {
        let pod =
            cluster.kubectl("get pod echo -o jsonpath={.status.conditions[?(@.type==\"Ready\")]}");
        wanted(pod.contains("PortNotBound") && pod.contains("8080"), pod)
    });
    drop(taken);
    cluster.kubectl("wait pod/echo --for=condition=Ready --timeout=40s");
}

#[test]
fn a_low_port_is_served() {
    if !can_use(&[Tool::Kubectl, Tool::Curl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.kubectl("run web --image=nginx --port=80");
    cluster.kubectl("wait pod/web --for=condition=Ready --timeout=20s");
    let pod = cluster.json("get pod web");
    let ip = pod["status"]["podIP"].as_str().expect("an address");
    let moved = pod["metadata"]["annotations"]["snowglobe.dev/bound-ports"].as_str();
    if cluster.place.low_ports_allowed() {
        assert_eq!(moved, None);
        assert_eq!(ask(&format!("http://{ip}/"))["port"], 80);
    } else {
        let moved: serde_json::Value =
            serde_json::from_str(moved.expect("the port has moved")).expect("JSON");
        let answer = ask(&format!("http://{ip}:{}/", moved["80/TCP"]));
        assert_eq!(answer["port"], 80, "the pod knows its port as declared");
        let message = cluster.event("default", "web", "PortMoved");
        assert!(message.contains("80"), "{message}");
    }
}

/// Sends bytes, ends, and gives what comes back.
pub(crate) fn tcp_echo(ip: &str, port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((ip, port)).expect("it listens");
    stream.write_all(bytes).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    answer
}

/// Sends a datagram from this machine and gives the answer.
pub(crate) fn udp_ask(ip: &str, port: u16, payload: &[u8]) -> String {
    udp_ask_from("127.0.0.1", ip, port, payload)
}

/// Sends a datagram from an address and gives the answer; datagrams may be lost.
pub(crate) fn udp_ask_from(source: &str, ip: &str, port: u16, payload: &[u8]) -> String {
    let socket = UdpSocket::bind((source, 0)).expect("a free port");
    let to = SocketAddr::new(ip.parse().expect("an address"), port);
    socket.connect(to).expect("UDP connects to anything");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a valid time");
    let mut buffer = [0; 2048];
    eventually("an answer to a datagram", || {
        socket.send(payload).map_err(|error| error.to_string())?;
        let length = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

#[test]
fn init_containers_come_first() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    let pod = |name: &str, restart: &str, init: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: {restart}, \
             initContainers: [{init}], containers: [{{name: main, image: 'main:1', ports: [{{containerPort: 8080}}]}}]}}}}"
        ));
    };
    let init = |name: &str, script: &str| {
        format!("{{name: {name}, image: busybox, command: [sh, -c, '{script}']}}")
    };
    let row = |name: &str| cluster.kubectl(&format!("get pod {name} --no-headers"));
    let shows = |name: &str, status: &str| {
        eventually("the status of a pod", || {
            let row = row(name);
            wanted(row.split_whitespace().nth(2) == Some(status), row)
        });
    };
    let sidecar = "{name: beside, image: 'b:1', restartPolicy: Always}";
    pod(
        "fine",
        "Always",
        &format!("{}, {sidecar}, {}", init("one", "true"), init("two", "sleep 3")),
    );
    pod("waits", "Always", &format!("{}, {}", init("one", "true"), init("two", "sleep infinity")));
    pod("never", "Never", &init("one", "exit 4"));
    pod("again", "Always", &init("one", "exit 4"));
    shows("waits", "Init:1/2");
    shows("never", "Init:Error");
    shows("again", "Init:CrashLoopBackOff");
    cluster.kubectl("wait pod/fine --for=condition=Ready --timeout=30s");
    assert!(row("fine").contains("2/2"), "{}", row("fine"));
    let fine = cluster.json("get pod fine");
    let statuses = &fine["status"]["initContainerStatuses"];
    assert_eq!(statuses[0]["state"]["terminated"]["reason"], "Completed");
    assert!(statuses[1]["state"]["running"].is_object(), "{statuses}");
    let never = cluster.json("get pod never");
    assert_eq!(never["status"]["phase"], "Failed");
    assert_eq!(never["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 4);
    let waiting = &never["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "PodInitializing");
    let waits = cluster.json("get pod waits");
    assert_eq!(waits["status"]["phase"], "Pending");
    let ip = waits["status"]["podIP"].as_str().expect("it has an address");
    assert!(TcpStream::connect((ip, 8080)).is_err(), "nobody listens yet");
    cluster.kubectl("delete pod --all --timeout=60s");
}

#[test]
fn a_deadline_ends_a_pod() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let cluster = Cluster::start();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: brief}, spec: {activeDeadlineSeconds: 2, \
         terminationGracePeriodSeconds: 1, containers: [{name: a, image: 'a:1', ports: [{containerPort: 8080}]}]}}",
    );
    cluster.kubectl("wait pod/brief --for=jsonpath={.status.phase}=Failed --timeout=30s");
    let status = cluster.json("get pod brief")["status"].clone();
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    let ip = status["podIP"].as_str().expect("it had an address");
    assert!(TcpStream::connect((ip, 8080)).is_err(), "nobody listens any more");
    cluster.kubectl("delete pod brief --timeout=20s");
}

#[test]
fn debug_adds_an_ephemeral_container() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let (cluster, _) = with_pod();
    cluster.kubectl("debug echo --image=busybox --container=look --attach=false");
    cluster.kubectl("debug echo --image=busybox --container=quick --attach=false -- sh -c true");
    eventually("both containers are told", || {
        let statuses = &cluster.json("get pod echo")["status"]["ephemeralContainerStatuses"];
        let runs = statuses[0]["name"] == "look" && statuses[0]["state"]["running"].is_object();
        let done = &statuses[1]["state"]["terminated"]["reason"] == "Completed";
        wanted(runs && done, statuses)
    });
    assert!(cluster.kubectl("get pod echo").contains("1/1"));
    let read =
        cluster.kubectl("get --raw /api/v1/namespaces/default/pods/echo/ephemeralcontainers");
    assert!(read.contains("\"look\""), "{read}");
    let patch = "patch pod echo --subresource=status --type=json -p \
        [{\"op\":\"remove\",\"path\":\"/spec/ephemeralContainers\"}]";
    cluster.kubectl(patch);
    let kept = cluster.kubectl("get pod echo -o jsonpath={.spec.ephemeralContainers[*].name}");
    assert_eq!(kept, "look quick", "only the subresource touches them");
}
