//! Who is asking. A client certificate of the cluster's CA names the user (CN) and the groups (O), as in Kubernetes.

use std::sync::Arc;

use x509_parser::prelude::{FromDer, X509Certificate};

/// An authenticated client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name.
    pub name: Arc<str>,
    /// Groups.
    pub groups: Arc<[String]>,
}

impl Caller {
    /// Reads the subject of a certificate that the TLS layer has already verified; `None` when it names nobody.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject
            .iter_organization()
            .filter_map(|group| group.as_str().ok().map(str::to_owned))
            .collect();
        Some(Self { name: name.into(), groups })
    }
}
