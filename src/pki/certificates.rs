//! The cluster's certificate authority, the API server's certificate and the administrator's. The authority is made at the
//! first start and kept in `DATA-DIR/pki`, so that a kubeconfig stays valid across restarts. The other certificates are
//! made at each start.

use std::{fs, net::IpAddr, path::Path};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::pki::{Error, file_error, write_private};

/// Certificates are valid for ten years: nobody rotates a sandbox.
const VALID: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// A client's clock may be this far behind.
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

    #[test]
    fn authority_survives() {
        let directory = tempfile::tempdir().unwrap();
        let first = Authority::open(directory.path()).unwrap();
        let again = Authority::open(directory.path()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
    }
}
