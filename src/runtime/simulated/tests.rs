mod containers;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use super::*;
use crate::descriptors::Purpose;
use crate::runtime::{
    Activity, Container, ContainerState, ExitCodes, PodState, Port, RestartOverrides,
    RestartPolicy, RestartRule, Role, Stage,
};

const LONG: Duration = Duration::from_secs(20);

/// A PodSpec with an address that no other test uses, also in other processes, so that tests do not disturb each
/// other.
fn spec(last: u8, ports: &[Port]) -> PodSpec {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    PodSpec {
        uid: format!("uid-{last}"),
        namespace: "default".to_owned(),
        name: format!("web-{last}"),
        node: "node-1".to_owned(),
        zone: "a".to_owned(),
        ip: IpAddr::from([127, 200 + last, high, low]),
        ports: ports.to_vec(),
        containers: Vec::new(),
        restart: RestartPolicy::Always,
        runs_to_completion: false,
    }
}

/// A container that runs a script, or the program of its image.
fn scripted(role: Role, name: &str, script: &str) -> Container {
    let command = if script.is_empty() { vec![] } else { vec!["sh", "-c", script] };
    let command = command.into_iter().map(str::to_owned).collect();
    Container {
        name: name.to_owned(),
        command,
        env: BTreeMap::new(),
        ports: Vec::new(),
        role,
        fault: None,
        restart: RestartOverrides::default(),
        pre_stop: None,
        message_path: "/dev/termination-log".to_owned(),
        message_from_log: false,
    }
}

async fn free_port(spec: &PodSpec) -> u16 {
    TcpListener::bind((spec.ip, 0)).await.unwrap().local_addr().unwrap().port()
}

fn tcp(number: u16) -> Port {
    Port { number, udp: false }
}

async fn started(last: u8) -> (Simulated, PodSpec, SocketAddr) {
    let mut spec = spec(last, &[]);
    let port = free_port(&spec).await;
    spec.ports.push(tcp(port));
    spec.containers.push(scripted(Role::Main, "main", ""));
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    runtime.ensure(spec.clone()).await;
    let address = (spec.ip, port).into();
    (runtime, spec, address)
}

/// Sends a request and reads until the other side closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

/// Reads one response with a Content-Length.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_lowercase();
            let (_, length) = lower.split_once("content-length: ").unwrap();
            if body.len() == length.lines().next().unwrap().parse::<usize>().unwrap() {
                return text;
            }
        }
        let read = timeout(LONG, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "ended after {text:?}");
    }
}

fn body(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn http_says_who_answered() {
    let (runtime, spec, address) = started(1).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let client = stream.local_addr().unwrap();
    // Two requests on one connection. The first is sent in pieces.
    for piece in ["G", "ET /a?b HTT", "P/1.1\r\nHost: web\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = one_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    let expected = serde_json::json!({
        "pod": "web-1", "namespace": "default", "node": "node-1", "zone": "a",
        "ip": spec.ip, "port": address.port(), "client": client.to_string(),
        "method": "GET", "path": "/a",
    });
    assert_eq!(body(&answer), expected);
    let chunked = "POST /status/503 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\n";
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let answer = one_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(body(&answer)["method"], "POST");
    let container = runtime.container(&spec.uid, "main").unwrap();
    let log = container.log(0);
    assert!(log.lines[0].1.ends_with(&format!("{client} GET /a 200")), "{log:?}");
    assert_eq!(container.log(log.written - 1).lines.len(), 1);
    assert!(container.log(log.written).lines.is_empty());
    assert!(runtime.container(&spec.uid, "other").is_none());
}

#[tokio::test]
async fn http_ends_connections_as_asked() {
    let (_runtime, _, address) = started(2).await;
    for (request, status, has_body) in [
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 ", true),
        ("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 ", true),
        ("HEAD / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 ", false),
        ("GET /status/204 HTTP/1.0\r\n\r\n", "HTTP/1.0 204 ", false),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.0 200 ", true),
    ] {
        let answer = exchange(address, request).await;
        assert!(answer.starts_with(status), "{request:?}: {answer}");
        assert_eq!(!answer.ends_with("\r\n\r\n"), has_body, "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn other_bytes_are_echoed_and_silence_is_no_reason_to_hang_up() {
    let (_runtime, _, address) = started(3).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(timeout(Duration::from_millis(50), stream.read_u8()).await.is_err());
    let mut echoed = [0; 5];
    for word in ["hello", "GET k", "G\r\n\r\n"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        timeout(LONG, stream.read_exact(&mut echoed)).await.unwrap().unwrap();
        assert_eq!(&echoed, word.as_bytes());
    }
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    timeout(LONG, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "last");
}

#[tokio::test]
async fn udp_answers_with_the_pods_name() {
    let mut spec = spec(4, &[]);
    let port = free_port(&spec).await;
    spec.ports.push(Port { number: port, udp: true });
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    runtime.ensure(spec.clone()).await;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.connect((spec.ip, port)).await.unwrap();
    for payload in ["hello", ""] {
        client.send(payload.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let length = timeout(LONG, client.recv(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer[..length], format!("web-4: {payload}").as_bytes());
    }
}

#[tokio::test]
async fn ports_come_and_go_without_touching_open_connections() {
    let (runtime, mut spec, first) = started(5).await;
    let mut open = TcpStream::connect(first).await.unwrap();
    open.write_all(b"x").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'x');
    let port = free_port(&spec).await;
    spec.ports = vec![tcp(port)];
    runtime.ensure(spec.clone()).await;
    assert!(TcpStream::connect(first).await.is_err());
    assert!(TcpStream::connect((spec.ip, port)).await.is_ok());
    open.write_all(b"y").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'y');
    spec.ports = vec![tcp(port), tcp(first.port())];
    runtime.ensure(spec.clone()).await;
    assert!(TcpStream::connect(first).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_keeps_the_pod_unready_until_it_is_free() {
    let mut spec = spec(6, &[]);
    let holder = TcpListener::bind((spec.ip, 0)).await.unwrap();
    let port = tcp(holder.local_addr().unwrap().port());
    spec.ports.push(port);
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    let event = events.next().await.unwrap();
    assert_eq!(event.uid, spec.uid);
    assert_eq!(event.state.failed[0].0, port);
    drop(holder);
    assert_eq!(events.next().await.unwrap().state, PodState::running());
}

#[tokio::test]
async fn a_pod_waits_until_there_are_descriptors_for_it() {
    let descriptors = Budget::new(64);
    let most = descriptors.most(Purpose::PodPort);
    let runtime = Simulated::new(descriptors, CancellationToken::new());
    let mut events = runtime.events();
    let mut pods = [spec(30, &[]), spec(31, &[])];
    for pod in &mut pods {
        let mut ports = BTreeSet::new();
        while ports.len() < most {
            ports.insert(tcp(free_port(pod).await));
        }
        pod.ports = ports.into_iter().collect();
        runtime.ensure(pod.clone()).await;
    }
    let mut states = BTreeMap::new();
    while states.len() < 2 {
        let PodEvent { uid, state } = timeout(LONG, events.next()).await.unwrap().unwrap();
        states.insert(uid, state);
    }
    assert_eq!(states[&pods[0].uid], PodState::running());
    let waiting = &states[&pods[1].uid];
    assert_eq!(waiting.failed.len(), most, "{waiting:?}");
    assert!(waiting.failed[0].1.contains("file descriptors"), "{waiting:?}");
    runtime.stop(&pods[0].uid, LONG).await;
    loop {
        let PodEvent { uid, state } = timeout(LONG, events.next()).await.unwrap().unwrap();
        if uid == pods[1].uid && state.failed.is_empty() {
            break;
        }
    }
    assert!(TcpStream::connect((pods[1].ip, pods[1].ports[0].number)).await.is_ok());
}

#[tokio::test]
async fn low_ports_work_for_everybody() {
    let spec = spec(7, &[tcp(80)]);
    let runtime = Simulated::new(Budget::of_this_process(), CancellationToken::new());
    let mut events = runtime.events();
    runtime.ensure(spec.clone()).await;
    let state = events.next().await.unwrap().state;
    assert!(state.failed.is_empty(), "{state:?}");
    // Privileged users may bind port 80.
    let bound = state.moved.first().map_or(80, |moved| moved.bound);
    let answer = exchange((spec.ip, bound).into(), "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(body(&answer)["port"], 80);
}

#[tokio::test]
async fn stop_closes_listeners_first_and_connections_when_grace_is_over() {
    let (runtime, spec, address) = started(8).await;
    let runtime = Arc::new(runtime);
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"x").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'x');
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /delay/60000 HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    let stopping = {
        let (runtime, uid) = (Arc::clone(&runtime), spec.uid.clone());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { runtime.stop(&uid, Duration::from_millis(300)).await });
        tasks
    };
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    open.write_all(b"y").await.unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'y');
    assert!(runtime.container(&spec.uid, "main").is_some());
    timeout(LONG, stopping.join_all()).await.unwrap();
    assert!(matches!(open.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    assert!(matches!(slow.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    assert!(runtime.container(&spec.uid, "main").is_none());
}

#[tokio::test]
async fn a_stopping_pod_answers_what_is_open_and_hangs_up() {
    let (runtime, spec, address) = started(9).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    one_answer(&mut open).await;
    let client = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        open.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        open.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = timeout(LONG, async {
        tokio::join!(runtime.stop(&spec.uid, Duration::from_secs(60)), client)
    })
    .await
    .unwrap();
    assert!(answer.contains("connection: close"), "{answer}");
}
