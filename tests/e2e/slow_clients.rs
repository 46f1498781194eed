//! Clients that do not take what they asked for, or do not send what they began: by raw sockets, since no good client
//! does that. They lose their connection in the end, they never fill the memory, and others go on meanwhile.

use std::{collections::BTreeMap, fs, net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all};
use h2::client::SendRequest;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    api::{PostParams, WatchEvent, WatchParams},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    cluster::Cluster,
    place::Place,
    tools::{eventually_in, wanted},
};

/// What the server gives a client to take a piece of an answer, or to send a body.
const CLIENT_MAX: Duration = Duration::from_secs(30);
/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MIB: u64 = 1024 * 1024;

/// Objects by name, each with its revision.
type State = BTreeMap<String, u64>;

/// A cluster and how raw clients get there.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Server {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let place = Place::new();
        let tokens = place.file("tokens.csv", "t0ken,ann,u1\n");
        let tokens = format!("--token-auth-file={}", tokens.display());
        let cluster = Cluster::start_at(place, &[arguments, &[&tokens]].concat());
        let config = kube::config::Kubeconfig::read_from(&cluster.line.kubeconfig)
            .expect("the kubeconfig is valid");
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(config, &options).await;
        let config = config.expect("the kubeconfig is usable");
        let mut roots = RootCertStore::empty();
        for certificate in config.root_cert.expect("an authority") {
            roots.add(CertificateDer::from(certificate)).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = cluster.line.api.trim_start_matches("https://").parse();
        Self { cluster, address: address.expect("IP:PORT"), tls: Arc::new(tls) }
    }

    /// Takes little into its socket's buffer.
    pub(crate) async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("the kernel takes any size");
        let stream = socket.connect(self.address).await.expect("the server listens");
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("TLS")
    }

    /// Sends the head of a request of HTTP/1.0, whose answer comes as it is and ends with the connection.
    async fn begin(&self, method: &str, path: &str, headers: &str) -> TlsStream<TcpStream> {
        let mut stream = self.connect("http/1.1").await;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer t0ken\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        stream
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = self.begin("GET", path, "").await;
        split(&rest_of(&mut stream).await)
    }

    async fn post(&self, path: &str, body: &Value) -> u16 {
        let body = body.to_string();
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let mut stream = self.begin("POST", path, &headers).await;
        stream.write_all(body.as_bytes()).await.expect("the server reads");
        split(&rest_of(&mut stream).await).0
    }

    /// Begins a body of which most never comes.
    async fn begin_body(&self) -> TlsStream<TcpStream> {
        let headers = "Content-Type: application/json\r\nContent-Length: 1000\r\n";
        let mut stream = self.begin("POST", MAPS, headers).await;
        stream.write_all(b"{").await.expect("the server reads");
        stream
    }

    /// A connection of HTTP/2 that gives the server so much room for each answer, and never more.
    async fn http2(&self, window: u32, tasks: &mut JoinSet<()>) -> SendRequest<bytes::Bytes> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let stream = self.connect("h2").await;
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        tasks.spawn(async move {
            // That it is cut off is what is tested.
            connection.await.ok();
        });
        requests.ready().await.expect("room for a request")
    }

    /// The memory that the server holds, in bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.cluster.line.pid));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("the kernel tells it") * 1024
    }

    /// Whether the server still has its side of a connection open.
    fn serves(&self, client: SocketAddr) -> bool {
        let hex = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => {
                format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
            }
            SocketAddr::V6(_) => panic!("{address}"),
        };
        let (server, client) = (hex(self.address), hex(client));
        let table = fs::read_to_string("/proc/net/tcp").expect("the kernel tells it");
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let found = [fields.next(), fields.next(), fields.next()];
            found == [Some(server.as_str()), Some(client.as_str()), Some("01")]
        })
    }
}

/// Everything until the end of the connection, however it ends.
async fn rest_of(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let mut all = Vec::new();
    let reading = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    reading.expect("the connection ends").ok();
    all
}

/// The status of an answer, and its body.
fn split(answer: &[u8]) -> (u16, Vec<u8>) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end else { panic!("no answer: {:?}", String::from_utf8_lossy(answer)) };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), answer[end + 4..].to_vec())
}

fn map(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}})
}

/// A list as JSON.
async fn listed(server: &Server) -> (State, u64) {
    let (status, body) = server.get(MAPS).await;
    assert_eq!(status, 200);
    let list: Value = serde_json::from_slice(&body).expect("JSON");
    let items = list["items"].as_array().expect("items").iter().map(named).collect();
    (items, number(&list["metadata"]["resourceVersion"]))
}

fn named(object: &Value) -> (String, u64) {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("a name").to_owned();
    (name, number(&metadata["resourceVersion"]))
}

fn number(revision: &Value) -> u64 {
    revision.as_str().and_then(|text| text.parse().ok()).expect("a revision is a number")
}

/// What one watcher knows, and how far it got.
#[derive(Clone)]
struct Watcher {
    state: State,
    revision: u64,
}

impl Watcher {
    async fn begin(&self, server: &Server, seconds: u64) -> TlsStream<TcpStream> {
        let query = format!("watch=1&resourceVersion={}&timeoutSeconds={seconds}", self.revision);
        server.begin("GET", &format!("{MAPS}?{query}"), "").await
    }

    /// Takes over what a watch has told; false when it told that the revision is gone.
    fn take(&mut self, body: &[u8]) -> bool {
        // What was cut off in the midst of a line is lost.
        let end = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in body[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).expect("a line of JSON");
            if event["type"] == "ERROR" {
                assert_eq!(event["object"]["code"], 410, "{event}");
                assert_eq!(event["object"]["reason"], "Expired", "{event}");
                return false;
            }
            let (name, revision) = named(&event["object"]);
            assert!(revision > self.revision, "order is kept");
            self.revision = revision;
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => drop(self.state.insert(name, revision)),
                Some("DELETED") => drop(self.state.remove(&name)),
                other => panic!("{other:?}"),
            }
        }
        true
    }

    /// Watches on from where it was, until it knows everything; false when it has to list again.
    async fn catch_up(&mut self, server: &Server, end: u64) -> bool {
        let begun = Instant::now();
        while self.revision < end {
            assert!(begun.elapsed() < PATIENCE, "{} of {end}", self.revision);
            let mut stream = self.begin(server, 2).await;
            let (status, body) = split(&rest_of(&mut stream).await);
            assert_eq!(status, 200);
            if !self.take(&body) {
                return false;
            }
        }
        true
    }
}

const VALUE_BYTES: usize = 200_000;
const OBJECTS: usize = 10;

/// Changes one object after the other, so many in all.
async fn change(client: Client, count: usize) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for nth in 0..count {
        let name = format!("map-{}", nth % OBJECTS);
        let mut map = map(&name, VALUE_BYTES);
        map["data"]["nth"] = nth.to_string().into();
        let map: ConfigMap = serde_json::from_value(map).expect("typed");
        maps.replace(&name, &PostParams::default(), &map).await.expect("replaced");
    }
}

/// Counts the changes of one who watches as one should, until an object of this name appears.
async fn count_until(client: Client, from: u64, last: &str) -> usize {
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let watch = WatchParams::default().timeout(290);
    let mut events = maps.watch(&watch, &from.to_string()).await.expect("a watch").boxed();
    let mut count = 0;
    loop {
        match events.next().await.expect("the watch goes on").expect("an event") {
            WatchEvent::Added(map) if map.name_any() == last => return count,
            WatchEvent::Modified(_) => count += 1,
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_do_not_read_are_closed_and_catch_up() {
    let server = Server::start(&[]).await;
    let client = server.cluster.client().await;
    for nth in 0..OBJECTS {
        let created = server.post(MAPS, &map(&format!("map-{nth}"), VALUE_BYTES)).await;
        assert_eq!(created, 201);
    }
    let (state, revision) = listed(&server).await;
    let watcher = Watcher { state, revision };
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let client = client.clone();
        async move { count_until(client, revision, "last").await }
    });
    let mut slow = join_all((0..8).map(|_| watcher.begin(&server, 290))).await;
    let addresses: Vec<SocketAddr> =
        slow.iter().map(|s| s.get_ref().0.local_addr().expect("it is bound")).collect();
    assert!(addresses.iter().all(|client| server.serves(*client)));

    // Far more than sockets hold, but not more than the server remembers.
    change(client.clone(), 100).await;
    eventually_in(PATIENCE, "slow watchers are closed", || {
        let open = addresses.iter().filter(|client| server.serves(**client)).count();
        wanted(open == 0, format!("{open} are open"))
    });
    let (state, _) = listed(&server).await;
    // The list is of a later revision: other kinds change too.
    let end = *state.values().max().expect("objects");
    let mut far = Vec::new();
    for (nth, stream) in slow.iter_mut().enumerate() {
        let mut watcher = watcher.clone();
        let (status, body) = split(&rest_of(stream).await);
        assert!(status == 200 && watcher.take(&body) && watcher.revision < end, "it was cut off");
        if nth % 2 == 0 {
            far.push(watcher);
        } else {
            assert!(watcher.catch_up(&server, end).await, "nothing is gone yet");
            assert_eq!(watcher.state, state);
        }
    }

    // More than it remembers; now with watchers that are stalled all the while.
    let stalled = join_all((0..8).map(|_| watcher.begin(&server, 290))).await;
    change(client.clone(), 400).await;
    let memory = server.memory();
    drop(stalled);
    assert_eq!(server.post(MAPS, &map("last", 1)).await, 201);
    let (state, now) = listed(&server).await;
    for mut watcher in far {
        assert!(!watcher.catch_up(&server, now).await, "its revision is gone");
        (watcher.state, watcher.revision) = listed(&server).await;
        assert_eq!(watcher.state, state);
    }
    let counted = timeout(PATIENCE, tasks.join_next()).await.expect("in time").expect("a task");
    assert_eq!(counted.expect("no panic"), 500, "who reads has seen everything");
    println!("{} MiB", memory / MIB);
    // 100 MB were written, of which 64 MiB are history; eight queues of them would be far more.
    assert!(memory < 400 * MIB, "{} MiB", memory / MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_requests_give_their_places_back() {
    let server = Server::start(&[
        "--store=memory",
        "--max-requests-inflight=3",
        "--max-mutating-requests-inflight=2",
    ])
    .await;
    for nth in 0..20 {
        assert_eq!(server.post(MAPS, &map(&format!("map-{nth}"), 100_000)).await, 201);
    }
    let begun = Instant::now();
    let (mut silent, mut drips) = (server.begin_body().await, server.begin_body().await);
    let mut connections = JoinSet::new();
    let mut answers = Vec::new();
    for (window, streams) in [(0, 1), (65_535, 2)] {
        let mut requests = server.http2(window, &mut connections).await;
        for _ in 0..streams {
            let request = http::Request::get(format!("https://localhost{MAPS}"));
            let request = request.header("Authorization", "Bearer t0ken").body(()).expect("valid");
            let (answer, _) = requests.send_request(request, true).expect("room for a request");
            let answer = timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
            assert_eq!(answer.status(), 200);
            answers.push(answer);
        }
    }
    assert_eq!(server.get("/api/v1/nodes").await.0, 429, "all places for reads are taken");
    let meanwhile = server.post(MAPS, &map("meanwhile", 1)).await;
    assert_eq!(meanwhile, 201, "a body that is still to come holds no place for writes");
    assert_eq!(server.get("/readyz").await.0, 200);

    let dripping = async {
        let mut answer = [0; 64];
        loop {
            tokio::select! {
                read = drips.read(&mut answer) => {
                    let length = read.expect("an answer");
                    break String::from_utf8_lossy(&answer[..length]).into_owned();
                }
                () = sleep(Duration::from_secs(1)) => drips.write_all(b" ").await.expect("it is open"),
            }
        }
    };
    let both = async { tokio::join!(rest_of(&mut silent), dripping) };
    let (silent, drips) = timeout(PATIENCE, both).await.expect("in time");
    let silent = String::from_utf8_lossy(&silent);
    assert!(silent.contains(" 504 ") && silent.contains("did not come within 30"), "{silent}");
    assert!(drips.contains(" 504 "), "{drips}");
    assert!(begun.elapsed() >= CLIENT_MAX, "they had their time");
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        eventually_in(PATIENCE, "reads have their places again", || {
            let status = runtime.block_on(server.get("/api/v1/nodes")).0;
            wanted(status == 200, status)
        });
    });
    // Nothing of the client's was dropped meanwhile.
    assert_eq!(answers.len(), 3);
    let ended = async { while connections.join_next().await.is_some() {} };
    timeout(PATIENCE, ended).await.expect("the server has ended the connections");
}

/// A request of HTTP/2 whose body goes on.
fn begin_post(
    requests: &mut SendRequest<bytes::Bytes>,
    path: &str,
    token: &str,
) -> (h2::client::ResponseFuture, h2::SendStream<bytes::Bytes>) {
    let request = http::Request::post(format!("https://localhost{path}"))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", "application/json");
    requests.send_request(request.body(()).expect("valid"), false).expect("room for a request")
}

/// The status and the whole body of an answer of HTTP/2.
async fn answer_of(answer: h2::client::ResponseFuture) -> (u16, Vec<u8>) {
    let answer = timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
    let (status, mut body) = (answer.status().as_u16(), answer.into_body());
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.expect("the answer is whole");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        all.extend_from_slice(&data);
    }
    (status, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_is_whole_and_no_other_stream_ends() {
    let server = Server::start(&["--store=memory"]).await;
    let mut connections = JoinSet::new();
    let mut requests = server.http2(1_000_000, &mut connections).await;
    let watch = http::Request::get(format!("https://localhost{MAPS}?watch=1&timeoutSeconds=60"));
    let watch = watch.header("Authorization", "Bearer t0ken").body(()).expect("valid");
    let (watch, _) = requests.send_request(watch, true).expect("room for a request");
    let watch = timeout(PATIENCE, watch).await.expect("in time").expect("an answer");
    let mut events = watch.into_body();
    // Of the huge body more is left than the server takes; of the others the rest never comes.
    for (path, token, length, status) in [
        (MAPS, "wrong", 100_000, 401),
        ("/api/v1/nothing", "t0ken", 900_000, 404),
        ("/api/v1/nothing", "t0ken", 40_000_000, 404),
        (MAPS, "t0ken", 4_000_000, 413),
    ] {
        let (answer, mut body) = begin_post(&mut requests, path, token);
        body.send_data(vec![b' '; length].into(), false).expect("the stream is open");
        let (found, text) = answer_of(answer).await;
        assert_eq!(found, status, "{path} {length}");
        let told: Value = serde_json::from_slice(&text).expect("a whole Status");
        assert_eq!(told["code"], status);
        let reset = std::future::poll_fn(|context| body.poll_reset(context));
        let reset = timeout(PATIENCE, reset).await.expect("the stream ends").expect("a reason");
        assert_eq!(reset, h2::Reason::NO_ERROR, "{path} {length}");
    }
    let (answer, mut body) = begin_post(&mut requests, MAPS, "t0ken");
    let text = map("last", 1).to_string();
    body.send_data(text.into(), true).expect("the stream is open");
    assert_eq!(answer_of(answer).await.0, 201);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(r#""name":"last""#) {
        let data = timeout(PATIENCE, events.data()).await.expect("in time");
        let data = data.expect("the watch goes on").expect("no error");
        events.flow_control().release_capacity(data.len()).expect("it was taken");
        seen.extend_from_slice(&data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_a_long_list_share_it() {
    const COUNT: usize = 10;
    const EACH: usize = 1_000_000;
    let server = Server::start(&["--store=memory"]).await;
    for nth in 0..COUNT {
        assert_eq!(server.post(MAPS, &map(&format!("map-{nth:02}"), EACH)).await, 201);
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let forms = [
        ("", "application/json"),
        ("", "application/yaml"),
        ("?includeObject=Object", table),
        ("?watch=1&timeoutSeconds=10", "application/json"),
    ];
    let before = server.memory();
    let mut slow = Vec::new();
    for (query, accept) in forms.iter().cycle().take(12) {
        let headers = format!("Accept: {accept}\r\n");
        let mut stream = server.begin("GET", &format!("{MAPS}{query}"), &headers).await;
        let mut first = vec![0; 100_000];
        stream.read_exact(&mut first).await.expect("the answer has begun");
        slow.push((stream, first));
    }
    let after = server.memory();
    println!("{} MiB, then {} MiB", before / MIB, after / MIB);
    // Twelve copies would be 120 MB.
    assert!(after < before + 50 * MIB, "{} MiB, then {} MiB", before / MIB, after / MIB);
    // All at once: who waits for the others is cut off.
    let rest = slow.into_iter().map(|(mut stream, mut first)| async move {
        first.extend(rest_of(&mut stream).await);
        first
    });
    for (nth, answer) in join_all(rest).await.iter().enumerate() {
        let (status, body) = split(answer);
        assert_eq!(status, 200);
        let count = match nth % forms.len() {
            0 => items(serde_json::from_slice(&body).expect("JSON"), "items"),
            1 => items(serde_yaml::from_slice(&body).expect("YAML"), "items"),
            2 => items(serde_json::from_slice(&body).expect("JSON"), "rows"),
            _ => body.iter().filter(|byte| **byte == b'\n').count(),
        };
        // Besides the authority that every namespace has.
        assert_eq!(count, COUNT + 1, "{:?}", forms[nth % forms.len()]);
        assert!(body.len() > COUNT * EACH);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the call sites make it")]
fn items(list: Value, field: &str) -> usize {
    list[field].as_array().expect("a list").len()
}
