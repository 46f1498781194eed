//! The cluster's certificate authority, the API server's certificate and the administrator's, and the kubeconfig
//! that carries the latter. The authority is made on first start and kept in `DATA-DIR/pki`, so that a kubeconfig stays
//! valid across restarts; the leaf certificates are made anew at each start.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

/// Certificates are valid for ten years: nobody rotates a sandbox.
const VALID: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How far behind the clock of a client may be.
const BEHIND_MAX: SignedDuration = SignedDuration::from_hours(1);
/// The administrator's user name and group, as kubeadm has them.
const ADMINISTRATOR: &str = "kubernetes-admin";
const ADMINISTRATORS: &str = "system:masters";

/// A certificate with its private key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// The cluster's own certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key could not be made or read.
    #[error(
        "cannot make or read the certificates in {path}; remove that directory to get new ones"
    )]
    Certificate {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

impl Authority {
    /// Reads the authority below `directory`, or makes one there.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let (certificate_path, key_path) = (directory.join("ca.crt"), directory.join("ca.key"));
        let broken = |source| Error::Certificate { path: directory.to_owned(), source };
        if !certificate_path.exists() {
            fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
            let key = KeyPair::generate().map_err(broken)?;
            let certificate = authority_parameters().self_signed(&key).map_err(broken)?;
            // The key first: a certificate without its key would look like a finished authority.
            write_private(&key_path, key.serialize_pem().as_bytes())?;
            write_private(&certificate_path, certificate.pem().as_bytes())?;
        }
        let certificate = fs::read_to_string(&certificate_path)
            .map_err(|source| file_error(&certificate_path, source))?;
        let key = fs::read_to_string(&key_path).map_err(|source| file_error(&key_path, source))?;
        let key = KeyPair::from_pem(&key).map_err(broken)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(broken)?;
        Ok(Self { certificate, issuer })
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A server certificate for these names and addresses.
    pub fn server(&self, names: &[String], addresses: &[IpAddr]) -> Result<Identity, rcgen::Error> {
        let mut parameters = CertificateParams::new(names)?;
        parameters.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        parameters.distinguished_name = name("kube-apiserver", None);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(parameters)
    }

    /// The administrator's client certificate.
    pub fn administrator(&self) -> Result<Identity, rcgen::Error> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name = name(ADMINISTRATOR, Some(ADMINISTRATORS));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters)
    }

    fn sign(&self, mut parameters: CertificateParams) -> Result<Identity, rcgen::Error> {
        let (from, to) = validity();
        (parameters.not_before, parameters.not_after) = (from, to);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// What a kubeconfig says of a cluster: how to reach and trust its API.
pub fn kubeconfig_cluster(server: &str, authority: &str) -> Value {
    json!({"certificate-authority-data": STANDARD.encode(authority), "server": server})
}

/// What a kubeconfig says of a user: the credentials.
pub fn kubeconfig_user(identity: &Identity) -> Value {
    json!({"client-certificate-data": STANDARD.encode(&identity.certificate),
           "client-key-data": STANDARD.encode(&identity.key)})
}

/// Replaces a file in one step, readable by its owner only.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || {
        // A left-over of a crash could have another mode; `mode` only counts for new files.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = name("snowglobe-ca", None);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    (parameters.not_before, parameters.not_after) = validity();
    parameters
}

fn validity<T: From<std::time::SystemTime>>() -> (T, T) {
    let now = Timestamp::now();
    let from = now.checked_sub(BEHIND_MAX).unwrap_or(Timestamp::MIN);
    let to = now.checked_add(VALID).unwrap_or(Timestamp::MAX);
    (std::time::SystemTime::from(from).into(), std::time::SystemTime::from(to).into())
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authentication::Caller;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    #[test]
    fn authority_survives_and_names_the_administrator() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path()).unwrap();
        let again = Authority::open(directory.path()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        let administrator = again.administrator().unwrap();
        let der = CertificateDer::from_pem_slice(administrator.certificate.as_bytes()).unwrap();
        let caller = Caller::from_certificate(&der).unwrap();
        assert_eq!(&*caller.name, ADMINISTRATOR);
        assert_eq!(*caller.groups, [ADMINISTRATORS, "system:authenticated"]);
    }
}
