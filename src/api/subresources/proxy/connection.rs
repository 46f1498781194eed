//! A connection to a pod for one request: plain or over TLS, and what becomes of it when both sides agree to speak
//! something else than HTTP.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    response::Response,
};
use http_body::Frame;
use hyper::{body::Incoming, client::conn::http1::handshake, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{io::copy, net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use crate::{descriptors, model::Status};

/// A pod that takes no connection in this time, or does not agree on TLS, is not there.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// What a request to a pod takes as long as it lasts.
pub(super) struct Permit {
    pub(super) _place: OwnedSemaphorePermit,
    pub(super) _descriptor: descriptors::Held,
}

/// The answer of a pod, and the connection over which it comes.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    connection: Option<Running>,
    permit: Permit,
}

type Stream = Either<TcpStream, TlsStream<TcpStream>>;
/// What drives a connection to a pod.
type Running = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// The configuration of TLS to pods: whatever certificate they have, as kube-apiserver.
pub(super) fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of all versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// 503. There is no time after which it is worth trying again: kubectl would do so ten times.
pub(super) fn unavailable(message: String) -> Status {
    Status { retry_after_seconds: None, ..Status::unavailable(message) }
}

pub(super) fn unreachable(reason: &str) -> Status {
    unavailable(format!("error trying to reach service: {reason}"))
}

/// Sends a request, and gives the answer once its head is there.
pub(super) async fn exchange(
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    request: Request,
    permit: Permit,
) -> Result<Answer, Status> {
    let late = |_late| unreachable(&format!("dial tcp {address}: connect: connection timed out"));
    let stream = timeout(CONNECT_MAX, connect(address, tls)).await.map_err(late)??;
    let broken = |error: hyper::Error| unreachable(&error.to_string());
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection: Running = Box::pin(connection.with_upgrades());
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let mut running = true;
    let response = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer.map_err(broken)?,
            _over = &mut connection, if running => running = false,
        }
    };
    Ok(Answer { response, connection: running.then_some(connection), permit })
}

async fn connect(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<Stream, Status> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::TimedOut => "connection timed out".to_owned(),
            _ => error.to_string(),
        };
        unreachable(&format!("dial tcp {address}: connect: {reason}"))
    })?;
    // Latency matters more than packets here; a failure only costs speed.
    stream.set_nodelay(true).ok();
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let stream = TlsConnector::from(tls).connect(ServerName::from(address.ip()), stream).await;
    stream.map(Either::Right).map_err(|error| unreachable(&tls_fault(&error)))
}

/// In Go's words where it has some.
fn tls_fault(error: &io::Error) -> String {
    let fault = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match fault {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        Some(fault) => format!("tls: {fault}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

impl Answer {
    /// The answer as it is passed on.
    pub(super) fn passed_on(self) -> Response {
        let Self { response, connection, permit } = self;
        response.map(|body| Body::new(Streamed { connection, body, _permit: permit }))
    }

    /// Carries what both sides send from now on, until one of them ends.
    pub(super) async fn carry(self, client: OnUpgrade) {
        let Self { mut response, connection, permit } = self;
        let pod = hyper::upgrade::on(&mut response);
        let driven = async {
            if let Some(connection) = connection {
                // What goes wrong here, the upgrade tells.
                connection.await.ok();
            }
        };
        let (client, pod, ()) = tokio::join!(client, pod, driven);
        let (client, pod) = match (client, pod) {
            (Ok(client), Ok(pod)) => (TokioIo::new(client), TokioIo::new(pod)),
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%error, "a connection to a pod was not taken over");
                return;
            }
        };
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_pod, mut to_pod) = tokio::io::split(pod);
        // As kube-apiserver: the end of one direction is that of both.
        tokio::select! {
            _ended = copy(&mut from_client, &mut to_pod) => {}
            _ended = copy(&mut from_pod, &mut to_client) => {}
        }
        drop(permit);
    }
}

/// The body of an answer, and the connection over which it comes.
struct Streamed {
    connection: Option<Running>,
    body: Incoming,
    _permit: Permit,
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let ready = Pin::new(&mut this.body).poll_frame(context);
        if ready.is_ready() {
            return ready;
        }
        // What goes wrong here, the body tells.
        if let Some(connection) = &mut this.connection
            && connection.as_mut().poll(context).is_ready()
        {
            this.connection = None;
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Takes every certificate: a pod is known by its address.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
