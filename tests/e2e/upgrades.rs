//! Connections through the API that become something else than HTTP, as WebSockets do, and pods that speak TLS. The pods'
//! ends are made here, on the address of a simulated pod.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::TcpListener,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    slow_clients::{PATIENCE, Server},
    tools::{Tool, can_use, eventually, wanted},
};

const ASKED: &str =
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: y\r\n\r\n";

/// A head of HTTP, in lower case.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("a head"));
    }
    String::from_utf8(head).expect("text").to_lowercase()
}

/// A pod's end of one connection: switches when it is asked to, and then gives back what it gets, until it gets no more.
async fn pod(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let asked = head(&mut stream).await;
    if !asked.contains("upgrade: websocket") {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        stream.write_all(answer).await.expect("it is taken");
        stream.shutdown().await.ok();
        return asked;
    }
    stream.write_all(SWITCHED.as_bytes()).await.expect("it is taken");
    let (mut from, mut to) = split(stream);
    tokio::io::copy(&mut from, &mut to).await.ok();
    asked
}

/// One that has made its own certificate.
fn acceptor() -> TlsAcceptor {
    let own = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

impl Server {
    /// Asks a port of the pod to switch, and gives what it says.
    async fn switch(&self, place: &str) -> (String, impl AsyncRead + AsyncWrite + Unpin + use<>) {
        let mut stream = self.connect("http/1.1").await;
        let head_sent = format!(
            "GET /api/v1/namespaces/default/pods/{place}/proxy/chat HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer t0ken\r\n{ASKED}\r\n"
        );
        stream.write_all(head_sent.as_bytes()).await.expect("the server reads");
        (head(&mut stream).await, stream)
    }

    async fn connections(&self) -> String {
        let (_, text) = self.get("/metrics").await;
        let text = String::from_utf8(text).expect("text");
        let line = text
            .lines()
            .find(|line| line.starts_with("snowglobe_descriptors{purpose=\"Connection\"}"));
        line.and_then(|line| line.split(' ').next_back()).unwrap_or_default().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_pods_may_become_anything() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let server = Server::start(&["--store=memory"]).await;
    server.cluster.kubectl("run web --image=web --port=8080");
    server.cluster.kubectl("wait pod/web --for=condition=Ready --timeout=20s");
    let ip = server.cluster.kubectl("get pod web -o jsonpath={.status.podIP}");
    let ip: IpAddr = ip.parse().expect("an address");
    for tls in [false, true] {
        let listener = TcpListener::bind((ip, 0)).await.expect("loopback addresses are ours");
        let port = listener.local_addr().expect("it is bound").port();
        let place = if tls { format!("https:web:{port}") } else { format!("web:{port}") };
        let mut ends = JoinSet::new();
        ends.spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.expect("a connection");
                asked.push(match tls {
                    true => pod(acceptor().accept(stream).await.expect("TLS")).await,
                    false => pod(stream).await,
                });
            }
            asked
        });
        let (told, mut stream) = server.switch(&place).await;
        assert!(told.starts_with("http/1.1 101 ") && told.contains("upgrade: websocket"), "{told}");
        assert!(told.contains("sec-websocket-accept: y"), "{told}");
        for text in ["ping", "pong"] {
            stream.write_all(text.as_bytes()).await.expect("it is taken");
            let mut given = [0; 4];
            timeout(PATIENCE, stream.read_exact(&mut given)).await.expect("in time").expect("it");
            assert_eq!(given, text.as_bytes());
        }
        assert_eq!(server.connections().await, "1", "it counts among the others");
        drop(stream);
        let (code, body) =
            server.get(&format!("/api/v1/namespaces/default/pods/{place}/proxy/x")).await;
        assert_eq!(
            (code, body.as_slice()),
            (200, &b"hello"[..]),
            "the end of one is told to the pod"
        );
        let asked = timeout(PATIENCE, ends.join_next()).await.expect("in time");
        let asked = asked.expect("it was begun").expect("no panic");
        assert!(
            asked[0].starts_with("get /chat http/1.1") && asked[0].contains("sec-websocket-key: x")
        );
        assert!(asked.iter().all(|asked| !asked.contains("t0ken")), "{asked:?}");
    }
    // A pod that does not switch is heard, too.
    let (told, _stream) = server.switch("web").await;
    assert!(told.starts_with("http/1.1 200 "), "{told}");
    let (code, body) = server.get("/api/v1/namespaces/default/pods/https:web:8080/proxy/").await;
    let body = String::from_utf8(body).expect("text");
    assert!(code == 503 && body.contains("error trying to reach service: tls: "), "{code} {body}");
    drop(_stream);
    let cluster = &server.cluster;
    eventually("all descriptors are free again", || {
        let metrics = cluster.kubectl("get --raw /metrics");
        let free = metrics.contains("snowglobe_descriptors{purpose=\"Connection\"} 0");
        wanted(free, metrics)
    });
}
