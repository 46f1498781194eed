//! HTTPS: accepts connections, verifies client certificates, hands requests to the router with their [`Caller`].

use std::{sync::Arc, time::Duration};

use axum::Router;
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
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::api::{authentication::Caller, certificates::Identity};

/// Connections at once; each costs a TLS session of some 30 KB.
const CONNECTIONS_MAX: usize = 4096;
/// A client that does not finish its handshake, or its request head, in this time is cut off.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
const HEADER_MAX: Duration = Duration::from_secs(30);
/// How long requests may still run after the server was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) if connections.len() < CONNECTIONS_MAX => {
                let connection = Connection {
                    acceptor: acceptor.clone(),
                    router: router.clone(),
                    token: token.clone(),
                };
                connections.spawn(connection.run(stream));
            }
            Ok(_too_many) => tracing::warn!("too many API connections; one was closed"),
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
    token: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Latency matters more than packets here; a failure only costs speed.
        stream.set_nodelay(true).ok();
        let stream = match tokio::time::timeout(HANDSHAKE_MAX, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                return;
            }
            Err(_slow) => return,
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let caller = certificates.and_then(<[_]>::first).and_then(|c| Caller::from_certificate(c));
        let service = self.router.map_request(move |mut request: Request<Incoming>| {
            if let Some(caller) = &caller {
                request.extensions_mut().insert(caller.clone());
            }
            request
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        tokio::pin!(connection);
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
            }
        }
    }
}
