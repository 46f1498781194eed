//! HTTPS: the server's certificate, and the verification of clients' certificates.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use http::Extensions;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::{
    admission::Places,
    api::authentication::Caller,
    descriptors::{Budget, Purpose},
    http_server::{Limits, Server},
    pki::certificates::Identity,
};

/// How many connections there may be. Each costs a TLS session of some 30 KB.
const CONNECTIONS_MAX: usize = 4096;
/// A source outside this machine may have one in so many of them. A source may be a whole machine with a network of
/// containers.
const SOURCE_FRACTION: usize = 2;

/// The client of a connection. Every request carries it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The user that its certificate names.
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

/// TLS settings: the server's identity, and the authority that signs clients' certificates. A client may have none.
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

/// Room for the connections of the API.
pub fn places(descriptors: Budget) -> Places {
    Places::new(descriptors, Purpose::Api, CONNECTIONS_MAX, SOURCE_FRACTION)
}

/// A server whose requests carry their `Peer`.
pub fn server(config: ServerConfig, router: Router, limits: Limits) -> Server {
    Server::tls(config, introduce, router, limits)
}

fn introduce(
    client: SocketAddr,
    certificate: Option<&CertificateDer<'_>>,
    extensions: &mut Extensions,
) {
    let certificate = certificate.and_then(|certificate| Caller::from_certificate(certificate));
    extensions.insert(Peer { certificate, address: Some(client) });
}

#[cfg(test)]
mod tests;
