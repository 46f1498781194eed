//! Authentication: finds out who sent a request. It tries a client certificate of the cluster's CA (CN is the user, O are
//! the groups), then the token of a ServiceAccount, then a token of `--token-auth-file`. `impersonation` reads as whom the
//! client acts.
//!
//! Enter at [`Authenticator`]. `authorization` decides what the caller may do.

pub mod account_tokens;
pub(crate) mod impersonation;
pub mod static_tokens;

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use account_tokens::AccountTokens;
use static_tokens::StaticTokens;

/// The group of all authenticated users.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of all others. Their requests are refused, but reviews may ask about them.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user name of unauthenticated requests.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// The key of `extra` that names the caller's credential: `X509SHA256=...` or `JTI=...`.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// An authenticated client (Kubernetes' `UserInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name.
    pub name: Arc<str>,
    /// Distinguishes users of the same name. May be empty.
    pub uid: Arc<str>,
    /// Groups.
    pub groups: Arc<[String]>,
    /// What else the authenticator knows.
    pub extra: Arc<BTreeMap<String, Vec<String>>>,
}

impl Caller {
    /// A user in these groups, and in the group of all authenticated users.
    pub fn new(name: &str, uid: &str, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), uid: uid.into(), groups: groups.into(), extra: Arc::default() }
    }

    /// The user that a certificate names, `None` if it names none. The TLS layer has verified the certificate already.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_rest, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let groups = subject.iter_organization();
        let groups = groups.filter_map(|group| group.as_str().ok().map(str::to_owned));
        let digest: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
        let caller = Self::new(name, "", groups);
        Some(caller.with_extra([(CREDENTIAL_ID, format!("X509SHA256={digest}"))]))
    }

    pub(crate) fn with_extra<'a>(self, extra: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let extra = extra.into_iter().map(|(key, value)| (key.to_owned(), vec![value])).collect();
        Self { extra: Arc::new(extra), ..self }
    }
}

/// Finds the caller by certificate or token.
pub struct Authenticator {
    /// `--token-auth-file`.
    pub static_tokens: StaticTokens,
    /// Tokens of ServiceAccounts.
    pub accounts: AccountTokens,
}

impl Authenticator {
    /// The caller of a request: the user of the connection's certificate, else that of the bearer token.
    pub(crate) fn caller(
        &self,
        certificate: Option<&Caller>,
        headers: &HeaderMap,
    ) -> Option<Caller> {
        if let Some(caller) = certificate {
            return Some(caller.clone());
        }
        let audience = [self.accounts.issuer().to_owned()];
        match self.by_token(bearer(headers)?, &audience) {
            Ok((caller, _audiences)) => Some(caller),
            Err(reason) => {
                tracing::debug!(reason, "a bearer token was refused");
                None
            }
        }
    }

    /// The user of a token, and those of the audiences for which it is valid. The error says why it is not valid.
    pub(crate) fn by_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), &'static str> {
        let Some(caller) = self.static_tokens.caller(token) else {
            return self.accounts.verify(token, audiences);
        };
        // A static token is meant for this API server.
        let own = self.accounts.issuer();
        if audiences.iter().any(|audience| audience == own) {
            Ok((caller.clone(), vec![own.to_owned()]))
        } else {
            Err("the token is not meant for these audiences")
        }
    }
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) =
        headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;
    use crate::pki::certificates::Authority;

    #[test]
    fn the_administrators_certificate_names_the_administrator() {
        let directory = tempfile::tempdir().unwrap();
        let administrator = Authority::open(directory.path()).unwrap().administrator().unwrap();
        let der = CertificateDer::from_pem_slice(administrator.certificate.as_bytes()).unwrap();
        let caller = Caller::from_certificate(&der).unwrap();
        assert_eq!(&*caller.name, "kubernetes-admin");
        assert_eq!(*caller.groups, ["system:masters", AUTHENTICATED]);
    }
}
