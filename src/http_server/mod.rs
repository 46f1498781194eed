//! The HTTP servers of this process: for clients that may be slow, silent or many. A connection is ended when its client
//! is slow with the handshake, with a request's head, or with taking an answer; when there are too many, those make room
//! that do nothing.
//!
//! Enter at [`Server`]. What is served is a [`Router`]. With each request it gets what is known of the connection, and a
//! `Transfer`, by which the answer tells how it gets on. [`hosts`] finds out whether a web page of another site asks.
//! Nothing here knows Kubernetes, or who may ask for what.

pub(crate) mod headers;
pub mod hosts;
pub(crate) mod sending;
mod timed;
pub(crate) mod transfers;
pub(crate) mod unread;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware};
use http::{Extensions, Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    admission::{Admitted, Entrance, Place},
    http_server::{timed::Timed, transfers::Transfers},
};

/// How long requests may still run after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Requests at once on one HTTP/2 connection, as Go's server has it; each may hold one piece of its answer.
const STREAMS_MAX: u32 = 250;
/// How often a connection is checked. A stall is noticed at most this late.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// An answer that is no stream must be taken in this time, as with kube-apiserver's `--request-timeout`.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What clients may take. A client that takes longer is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request, and until the first request of a connection.
    pub head: Duration,
    /// For taking a piece of an answer.
    pub write: Duration,
    /// Without any request, as kube-apiserver has it.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            write: Duration::from_secs(30),
            idle: Duration::from_secs(90),
        }
    }
}

/// What each request of a connection carries: made of the client's address and its certificate, once.
pub type Introduce = fn(SocketAddr, Option<&CertificateDer<'_>>, &mut Extensions);

/// How a port is served.
#[derive(Clone)]
pub struct Server {
    tls: Option<TlsAcceptor>,
    introduce: Introduce,
    router: Router,
    limits: Limits,
}

impl Server {
    /// Over HTTP/1.1, or over HTTP/2 if the client begins with it.
    pub fn plain(router: Router, limits: Limits) -> Self {
        Self { tls: None, introduce: |_, _, _| {}, router: taking_bodies(router), limits }
    }

    /// Over HTTPS.
    pub fn tls(config: ServerConfig, introduce: Introduce, router: Router, limits: Limits) -> Self {
        let tls = Some(TlsAcceptor::from(Arc::new(config)));
        Self { tls, introduce, router: taking_bodies(router), limits }
    }

    /// Serves until the token is cancelled, then lets running requests end.
    pub async fn serve(self, entrance: Entrance, token: CancellationToken) {
        let connections = TaskTracker::new();
        while let Some(admitted) = token.run_until_cancelled(entrance.next(|_any| true)).await {
            let Admitted { stream, client, place, descriptor } = admitted;
            let connection =
                Connection { server: self.clone(), client, place, token: token.clone() };
            connections.spawn(async move {
                connection.run(stream).await;
                drop(descriptor);
            });
        }
        drop(entrance);
        connections.close();
        if timeout(DRAIN_MAX, connections.wait()).await.is_err() {
            tracing::debug!("HTTP connections were still open at the end");
        }
    }
}

fn taking_bodies(router: Router) -> Router {
    router.layer(middleware::from_fn(unread::take))
}

struct Connection {
    server: Server,
    client: SocketAddr,
    place: Arc<Place>,
    token: CancellationToken,
}

type Stream = Either<Timed<TcpStream>, TlsStream<Timed<TcpStream>>>;

impl Connection {
    /// Serves until the connection ends, or its place is given to another.
    async fn run(self, stream: TcpStream) {
        let (place, client) = (self.place.clone(), self.client);
        tokio::select! {
            () = self.begin(stream) => {}
            () = place.lost() => {
                tracing::debug!(%client, "a connection made room for another");
            }
        }
    }

    async fn begin(self, stream: TcpStream) {
        // Latency matters more than packets here; a failure only costs speed.
        stream.set_nodelay(true).ok();
        let unread = Arc::default();
        let transfers = Transfers::new(self.place.clone(), Arc::clone(&unread));
        let stream = Timed::new(stream, self.server.limits.write, unread);
        let mut extensions = Extensions::new();
        let Some(acceptor) = &self.server.tls else {
            (self.server.introduce)(self.client, None, &mut extensions);
            return self.serve(Either::Left(stream), extensions, transfers).await;
        };
        match timeout(self.server.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                (self.server.introduce)(self.client, certificate, &mut extensions);
                self.serve(Either::Right(stream), extensions, transfers).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_slow) => {}
        }
    }

    async fn serve(self, stream: Stream, extensions: Extensions, transfers: Arc<Transfers>) {
        let limits = self.server.limits;
        let requests = transfers.clone();
        let service = self.server.router.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(extensions.clone());
            request.extensions_mut().insert(Arc::new(requests.begin()));
            request
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut looks = interval(LOOK_INTERVAL.min(limits.write / 2).min(limits.head / 2));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::trace!(%error, "an HTTP connection ended");
                    }
                    break;
                }
                () = self.token.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = looks.tick() => {
                    if transfers.is_stalled(limits.write) {
                        let client = self.client;
                        tracing::debug!(%client, "a client that does not take its answers was cut off");
                        return;
                    }
                    if transfers.is_idle(limits.head, limits.idle) {
                        if stopping {
                            return;
                        }
                        stopping = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
        // The place and the descriptor are kept as long as this.
        if let Some((successor, _work)) = transfers.successor() {
            self.token.run_until_cancelled(successor).await;
        }
    }
}
