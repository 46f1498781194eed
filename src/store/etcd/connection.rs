//! A connection to one member of etcd: authentication and calls.

use std::{fs, future::ready, io, path::Path, time::Duration};

use futures::{StreamExt, stream};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tonic::{
    Request, Streaming,
    client::Grpc,
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::store::etcd::{
    explain::{self, Cause},
    failure::{self, Failure},
    options::{Options, Tls},
    proto::{
        AuthenticateRequest, AuthenticateResponse, TxnRequest, TxnResponse, WatchRequest,
        WatchResponse, path,
    },
};

/// A member that takes longer to accept a connection or to authenticate is skipped.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long a write or a read may take. etcd answers in milliseconds unless its disk or its cluster is in trouble.
pub(super) const CALL_MAX: Duration = Duration::from_secs(4);
/// How often a connection with open streams is checked, and how long the answer may take. etcd closes connections of
/// clients that check more often than every 5 s (`--grpc-keepalive-min-time`).
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const ALIVE_MAX: Duration = Duration::from_secs(5);
/// Largest message that is accepted. Pages and fragments of watches have a few MiB; a value has at most 2 MiB.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An authenticated connection to a member.
pub(super) struct Connection {
    channel: Channel,
    pub(super) url: String,
    token: RwLock<Option<MetadataValue<Ascii>>>,
}

impl Connection {
    /// Connects to a member and authenticates.
    pub(super) async fn open(options: &Options, endpoint: &str) -> Result<Self, Cause> {
        let url = options.url(endpoint);
        let mut target = Endpoint::from_shared(url.clone())
            .map_err(|error| Cause::fatal(failure::chain(&error)))?
            .http2_keep_alive_interval(ALIVE_INTERVAL)
            .keep_alive_timeout(ALIVE_MAX);
        if let Some(tls) = &options.tls {
            let config = tls_config(tls).map_err(Cause::fatal)?;
            target = target.tls_config(config).map_err(|error| {
                let what = failure::chain(&error);
                Cause::fatal(format!("the certificates for etcd cannot be used: {what}"))
            })?;
        }
        let stream = match timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(explain::unreachable(&url, &error)),
            Err(_elapsed) => return Err(explain::slow(&url)),
        };
        let channel = match timeout(CONNECT_MAX, over(&target, stream)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(explain::connecting(&url, &error)),
            Err(_elapsed) => return Err(explain::slow(&url)),
        };
        let connection = Self { channel, url, token: RwLock::new(None) };
        match timeout(CONNECT_MAX, connection.authenticate(options)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(failure)) => Err(explain::entering(&connection.url, options, &failure)),
            Err(_elapsed) => Err(explain::slow(&connection.url)),
        }
    }

    async fn authenticate(&self, options: &Options) -> Result<(), Failure> {
        let Some(user) = &options.user else { return Ok(()) };
        self.token.write().take();
        let (name, password) = (user.name.clone(), user.password.clone());
        let answer: Result<AuthenticateResponse, Failure> =
            self.unary_once(path::AUTHENTICATE, AuthenticateRequest { name, password }).await;
        let token = match answer {
            Ok(AuthenticateResponse { token }) => token,
            // This etcd has no authentication, so it accepts every user.
            Err(Failure::Refused(status)) if failure::authentication_is_off(&status) => {
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let token = token
            .parse()
            .map_err(|_invalid| Failure::Lost("etcd gave a token that is none".to_owned()))?;
        *self.token.write() = Some(token);
        Ok(())
    }

    /// Calls a method with one request and one response. Authenticates again if etcd has lost the token.
    pub(super) async fn unary<Q, R>(
        &self,
        options: &Options,
        path: &'static str,
        request: Q,
    ) -> Result<R, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        match self.unary_once(path, request.clone()).await {
            Err(Failure::Refused(status)) if failure::token_is_stale(&status) => {
                self.authenticate(options).await?;
                self.unary_once(path, request).await
            }
            other => other,
        }
    }

    /// Runs a transaction, with a deadline.
    pub(super) async fn txn(
        &self,
        options: &Options,
        request: TxnRequest,
    ) -> Result<TxnResponse, Failure> {
        match timeout(CALL_MAX, self.unary(options, path::TXN, request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Failure::Lost("no answer to the first question".to_owned())),
        }
    }

    async fn unary_once<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Failure>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        // The channel has a bound on requests. The bound on calls is lower, so the channel is always ready.
        grpc.ready().await.map_err(|error| Failure::Lost(failure::chain(&error)))?;
        let mut request = Request::new(request);
        self.add_token(request.metadata_mut());
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(request, path, ProstCodec::<Q, R>::default()).await;
        answer.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// Sends one request to a method with a stream of requests, and returns the first response.
    pub(super) async fn first<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Failure>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Failure::Lost(failure::chain(&error)))?;
        let mut request = Request::new(stream::iter([request]));
        self.add_token(request.metadata_mut());
        let path = PathAndQuery::from_static(path);
        let answers = grpc.streaming(request, path, ProstCodec::<Q, R>::default()).await;
        let mut answers = answers.map_err(Failure::from)?.into_inner();
        let first = answers.message().await.map_err(Failure::from)?;
        first.ok_or_else(|| Failure::Lost("etcd ended a stream without an answer".to_owned()))
    }

    /// Opens a watch stream. etcd closes it if its member loses the connection to the other members.
    pub(super) async fn watch(
        &self,
        request: WatchRequest,
    ) -> Result<Streaming<WatchResponse>, Failure> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Failure::Lost(failure::chain(&error)))?;
        // The stream of requests must stay open as long as the watch.
        let mut request = Request::new(stream::iter([request]).chain(stream::pending()));
        self.add_token(request.metadata_mut());
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let path = PathAndQuery::from_static(path::WATCH);
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let answer = grpc.streaming(request, path, codec).await;
        answer.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    /// Replaces a token that etcd does not know any more.
    pub(super) async fn renew(&self, options: &Options) -> Result<(), Failure> {
        self.authenticate(options).await
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn add_token(&self, metadata: &mut MetadataMap) {
        if let Some(token) = &*self.token.read() {
            metadata.insert("token", token.clone());
        }
    }
}

/// A channel over this connection only. A default channel would silently reconnect, perhaps to an etcd with other
/// data.
async fn over(target: &Endpoint, stream: TcpStream) -> Result<Channel, transport::Error> {
    // Without it the connection is only slower.
    stream.set_nodelay(true).ok();
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_uri: http::Uri| {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the connection was closed");
        ready(stream.take().ok_or_else(closed))
    });
    target.connect_with_connector(connector).await
}

fn tls_config(tls: &Tls) -> Result<ClientTlsConfig, String> {
    let read = |path: &Path, flag: &str| {
        fs::read(path).map_err(|error| format!("cannot read --{flag} {}: {error}", path.display()))
    };
    let mut config = ClientTlsConfig::new();
    config = match &tls.authority {
        Some(path) => config.ca_certificate(Certificate::from_pem(read(path, "etcd-cacert")?)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        let (certificate, key) = (read(certificate, "etcd-cert")?, read(key, "etcd-key")?);
        config = config.identity(Identity::from_pem(certificate, key));
    }
    Ok(config)
}
