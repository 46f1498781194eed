//! The bounds of connections, over real sockets: who is slow is cut off, who is not goes on.

use std::time::Duration;

use axum::{Extension, body::Body, middleware, response::Response, routing::get};
use futures::{FutureExt as _, stream};
use http::Request;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    api::panics,
    http_server::{
        sending::{Held, send},
        transfers::Transfer,
    },
    pki::certificates::Authority,
};

/// So short that a test does not wait, so long that a busy machine does not count as slow.
const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(60);
/// The server must have acted by then.
const PATIENCE: Duration = Duration::from_secs(30);

type Requests = h2::client::SendRequest<bytes::Bytes>;
type Http2 = h2::client::Connection<TlsStream<TcpStream>>;

fn get_http2(requests: &mut Requests, path: &str) -> h2::client::ResponseFuture {
    let request = Request::get(format!("https://localhost{path}")).body(()).unwrap();
    requests.send_request(request, true).unwrap().0
}

struct Server {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    token: CancellationToken,
    tasks: TaskTracker,
    /// Ends when the endless answer is dropped.
    endless: CancellationToken,
}

impl Server {
    async fn start(connections: usize, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path()).unwrap();
        let identity = authority.server(&["localhost".to_owned()], &[]).unwrap();
        let config = configuration(authority.certificate(), &identity).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (token, endless) = (CancellationToken::new(), CancellationToken::new());
        let dropped = endless.clone();
        let endless_body = move || {
            let guard = dropped.clone().drop_guard();
            Body::from_stream(stream::repeat_with(move || {
                let _held = &guard;
                Ok::<_, std::convert::Infallible>(vec![0_u8; 64 * 1024])
            }))
        };
        let answer = endless_body.clone();
        // As the gate sends what must end soon.
        let sent_in = |limit| {
            let endless_body = endless_body.clone();
            move |Extension(transfer): Extension<Arc<Transfer>>| {
                transfer.end_in(limit);
                let held = Held { transfer: Some(transfer), ..Held::default() };
                std::future::ready(send(Response::new(endless_body()), false, held))
            }
        };
        let router = Router::new()
            .route("/", get(|| async { "fine" }))
            .route("/endless", get(move || std::future::ready(answer())))
            .route("/working", get(working))
            .route(
                "/bug",
                get(|| async {
                    if true {
                        panic!("a bug")
                    }
                }),
            )
            .route("/late-bug", get(late_bug))
            .route("/short", get(sent_in(SHORT)))
            .route("/long", get(sent_in(LONG)))
            .layer(middleware::from_fn(panics::contain));
        let address = listener.local_addr().unwrap();
        let tasks = TaskTracker::new();
        let places = Places::new(Budget::of_this_process(), Purpose::Api, connections, 1);
        let entrance = places.entrance(listener);
        tasks.spawn(server(config, router, limits).serve(entrance, token.clone()));
        Self { address, client: Arc::new(client), token, tasks, endless }
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.client.clone()).connect(name, stream).await
    }

    /// A client that behaves is served.
    async fn is_fine(&self) {
        let mut stream = self.connect().await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("fine"), "{answer}");
    }

    /// A connection of HTTP/2 by a client that gives the server so much room for an answer.
    async fn connect_http2(&self, window: u32) -> (Requests, Http2) {
        let mut config = ClientConfig::clone(&self.client);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        h2::client::Builder::new().initial_window_size(window).handshake(stream).await.unwrap()
    }

    /// A request over HTTP/2 by a client that gives the server so much room for its answer, and more
    /// as it takes it, or never. Ends when the server has cut it off.
    async fn http2(&self, path: &str, window: u32, takes: bool) {
        let (mut requests, connection) = self.connect_http2(window).await;
        let answer = get_http2(&mut requests, path);
        let client = async {
            let mut body = answer.await.unwrap().into_body();
            while let Some(Ok(data)) = body.data().await {
                if takes {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
            }
        };
        let both = async { tokio::join!(client, connection) };
        let ((), _cut_off) = tokio::time::timeout(PATIENCE, both).await.expect("it is cut off");
    }

    /// The endless answer has ended.
    async fn gave_up(&self) {
        let freed = tokio::time::timeout(PATIENCE, self.endless.cancelled()).await;
        freed.expect("the answer is given up");
    }

    async fn stop(self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An answer that goes on, as the gate sends it.
async fn working(Extension(transfer): Extension<Arc<Transfer>>) -> Response {
    let piece = stream::iter([Ok::<_, std::convert::Infallible>("begun")]);
    let body = Body::from_stream(futures::StreamExt::chain(piece, stream::pending()));
    let held = Held { _work: Some(transfer.work()), ..Held::default() };
    send(Response::new(body), false, held)
}

/// An answer that panics when it is sent.
async fn late_bug() -> Response {
    let body = Body::from_stream(stream::once(async {
        if true {
            panic!("a bug");
        }
        Ok::<_, std::convert::Infallible>("")
    }));
    send(Response::new(body), false, Held::default())
}

fn lenient() -> Limits {
    Limits { handshake: LONG, head: LONG, write: LONG, idle: LONG }
}

/// Reads until the server has closed.
async fn ended(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    // Closed without a word of TLS is closed too.
    reading.expect("the server closes the connection").ok();
}

#[tokio::test]
async fn a_handshake_has_an_end() {
    let server = Server::start(16, Limits { handshake: SHORT, ..lenient() }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    server.is_fine().await;
    ended(&mut silent).await;
    server.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_begins_and_its_head_ends() {
    let server = Server::start(16, Limits { head: SHORT, ..lenient() }).await;
    let (mut silent, mut half) = (server.connect().await.unwrap(), server.connect().await.unwrap());
    half.write_all(b"GET / HTTP/1.1\r\nHost: loc").await.unwrap();
    server.is_fine().await;
    ended(&mut silent).await;
    ended(&mut half).await;
    server.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off() {
    let server = Server::start(16, Limits { write: SHORT, ..lenient() }).await;
    let mut lazy = server.connect().await.unwrap();
    lazy.write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    server.is_fine().await;
    server.gave_up().await;
    server.is_fine().await;
    drop(lazy);
    server.stop().await;
}

#[tokio::test]
async fn who_gives_no_room_for_an_answer_is_cut_off() {
    for window in [0, 1, 65_535] {
        let server = Server::start(16, Limits { write: SHORT, ..lenient() }).await;
        server.http2("/long", window, false).await;
        server.gave_up().await;
        server.is_fine().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn an_answer_ends_in_time_however_much_is_taken() {
    let server = Server::start(16, lenient()).await;
    server.http2("/short", 65_535, true).await;
    server.gave_up().await;
    server.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn a_panic_ends_nothing_but_its_request() {
    let server = Server::start(16, lenient()).await;
    let (mut requests, connection) = server.connect_http2(65_535).await;
    let client = async {
        let mut working = get_http2(&mut requests, "/working").await.unwrap().into_body();
        assert_eq!(working.data().await.unwrap().unwrap(), "begun");
        for _ in 0..3 {
            let answer = get_http2(&mut requests, "/bug").await.unwrap();
            assert_eq!(answer.status(), 500);
            let late = async {
                let answer = get_http2(&mut requests, "/late-bug").await?;
                answer.into_body().data().await.expect("no end")
            };
            assert!(late.await.is_err(), "the answer is cut off");
        }
        assert_eq!(get_http2(&mut requests, "/").await.unwrap().status(), 200);
        assert!(working.data().now_or_never().is_none(), "another one goes on");
    };
    tokio::select! {
        () = client => {}
        ended = connection => panic!("the connection ended: {ended:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("it takes too long"),
    }
    server.stop().await;
}

#[tokio::test]
async fn silent_connections_make_room() {
    let server = Server::start(4, lenient()).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut idle = server.connect().await.unwrap();
    for _ in 0..8 {
        server.is_fine().await;
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    ended(&mut idle).await;
    for silent in &mut silent[..7] {
        ended(silent).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_that_are_at_work_keep_their_places() {
    let server = Server::start(1, lenient()).await;
    let mut first = server.connect().await.unwrap();
    first.write_all(b"GET /working HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut begun = [0; 12];
    first.read_exact(&mut begun).await.unwrap();
    assert!(server.connect().await.is_err(), "there is room for one");
    drop(first);
    let free = async {
        while server.connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the place is free again");
    server.stop().await;
}
