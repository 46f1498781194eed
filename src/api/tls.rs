//! HTTPS: accepts connections, verifies client certificates, hands requests to the router with their `Peer`, and ends
//! connections whose client is slow: with its handshake, a request's head, or taking an answer. When there are too
//! many, those make room that do nothing.

pub(crate) mod timed;
pub(crate) mod transfers;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    admission::{Admission, Bounds, Place},
    api::{
        authentication::Caller,
        certificates::Identity,
        tls::{timed::Timed, transfers::Transfers},
        unread,
    },
};

/// How long requests may still run after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests at once on one HTTP/2 connection, as Go's server has it; each may hold one piece of its answer.
const STREAMS_MAX: u32 = 250;
/// How often a connection is looked at: stalls are seen this much late at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What clients may take. A client that takes longer is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; each costs a TLS session of some 30 KB. A further one takes the place of one that has
    /// no request that is worked on.
    pub connections: Bounds,
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
            // Behind one source may be the network of containers of a whole machine.
            connections: Bounds { total: 4096, per_source: 2048 },
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            write: Duration::from_secs(30),
            idle: Duration::from_secs(90),
        }
    }
}

/// The other side of a connection; every request carries it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Whom its certificate names.
    pub(crate) certificate: Option<Caller>,
    pub(crate) address: Option<SocketAddr>,
}

/// Why certificates cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not PEM.
    #[error("a certificate or key is not PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The authority cannot verify clients.
    #[error("the certificate authority cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Refused by the TLS library.
    #[error("the certificates cannot be used for TLS")]
    Tls(#[from] rustls::Error),
}

/// TLS settings: this identity, and clients that show a certificate of the authority, or none.
pub fn configuration(authority: &str, server: &Identity) -> Result<ServerConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain = vec![CertificateDer::from_pem_slice(server.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves until the token is cancelled, then lets running requests end.
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    router: Router,
    limits: Limits,
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = router.layer(middleware::from_fn(unread::take));
    let admission = Admission::new(limits.connections);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match admission.admit(peer.ip()) {
                Some(place) => {
                    let connection = Connection {
                        acceptor: acceptor.clone(),
                        router: router.clone(),
                        limits,
                        token: token.clone(),
                        place,
                    };
                    connections.spawn(connection.run(stream, peer));
                }
                None => tracing::warn!("too many API connections are in use; one was closed"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept an API connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let drained = tokio::time::timeout(DRAIN_MAX, connections.wait()).await;
    if drained.is_err() {
        tracing::debug!("API connections were still open at the end");
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    token: CancellationToken,
    place: Arc<Place>,
}

impl Connection {
    /// Serves until the connection ends, or its place is given to another.
    async fn run(self, stream: TcpStream, address: SocketAddr) {
        let place = self.place.clone();
        tokio::select! {
            () = self.serve(stream, address) => {}
            () = place.lost() => {
                tracing::debug!(%address, "an API connection made room for another");
            }
        }
    }

    async fn serve(self, stream: TcpStream, address: SocketAddr) {
        let limits = self.limits;
        // Latency matters more than packets here; a failure only costs speed.
        stream.set_nodelay(true).ok();
        let unread = Arc::default();
        let timed = Timed::new(stream, limits.write, Arc::clone(&unread));
        let accepting = self.acceptor.accept(timed);
        let stream = match tokio::time::timeout(limits.handshake, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                return;
            }
            Err(_slow) => return,
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate =
            certificates.and_then(<[_]>::first).and_then(|c| Caller::from_certificate(c));
        let peer = Peer { certificate, address: Some(address) };
        let transfers = Transfers::new(self.place.clone(), unread);
        let requests = transfers.clone();
        let service = self.router.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
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
                        tracing::trace!(%error, "API connection ended");
                    }
                    return;
                }
                () = self.token.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = looks.tick() => {
                    if transfers.is_stalled(limits.write) {
                        tracing::debug!(%address, "a client that does not take its answers was cut off");
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
    }
}

#[cfg(test)]
mod tests;
