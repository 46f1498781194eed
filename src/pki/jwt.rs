//! Signed JSON Web Tokens with one key and one algorithm (ES256, RFC 7518 section 3.4). A token must name this key and this
//! algorithm: it cannot choose how it is verified.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData as _};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::pki::{self, write_private};

const ALGORITHM: &str = "ES256";
/// kubeadm's name for it, beside the certificate authority.
const FILE: &str = "sa.key";
/// A longer token is refused before it is read: none of ours is so long, and its sender is not known yet.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] pki::Error),
    /// The file has no key that can sign.
    #[error(
        "{0} is no P-256 private key in PKCS #8; remove it to get a new one (tokens signed with the old one end)"
    )]
    Key(PathBuf),
}

/// The key that signs tokens.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl SigningKey {
    /// Reads the key below `directory`, or makes one there, readable by its owner only.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        if !path.exists() {
            let key = KeyPair::generate().map_err(|_ring| Error::Key(path.clone()))?;
            write_private(&path, key.serialize_pem().as_bytes())?;
        }
        let pem = std::fs::read_to_string(&path)
            .map_err(|source| pki::Error::File { path: path.clone(), source })?;
        Self::from_pem(&pem).ok_or(Error::Key(path))
    }

    fn from_pem(pem: &str) -> Option<Self> {
        let random = SystemRandom::new();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random).ok()?;
        let public = KeyPair::from_pem(pem).ok()?.subject_public_key_info();
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(public));
        Some(Self { pair, random, id })
    }

    /// The token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": ALGORITHM, "kid": self.id});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.pair.sign(&self.random, signed.as_bytes());
        let signature = signature.expect("signing needs random bytes only, and Linux has them");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that this key has signed. The claims themselves are not checked.
    pub fn verify(&self, token: &str) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header["alg"] != ALGORITHM || header["kid"] != self.id.as_str() {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key());
        public.verify(signed.as_bytes(), &decode(signature)?).ok()?;
        serde_json::from_slice(&decode(claims)?).ok()
    }

    /// The public key as a JSON Web Key Set (RFC 7517), so that others can verify tokens.
    pub fn key_set(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // 4 (uncompressed), then both coordinates.
        let (x, y) = point[1..].split_at(point.len() / 2);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": ALGORITHM,
                         "x": encode(x), "y": encode(y)}]})
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_signed_is_verified_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::open(directory.path()).unwrap();
        let claims = json!({"sub": "system:serviceaccount:default:web"});
        let token = key.sign(&claims);
        let again = SigningKey::open(directory.path()).unwrap();
        assert_eq!(again.verify(&token), Some(claims), "the key outlives the process");
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let other = tempfile::tempdir().unwrap();
        assert_eq!(SigningKey::open(other.path()).unwrap().verify(&token), None);
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let parts: Vec<&str> = token.split('.').collect();
        let kid = &key.id;
        for header in [
            json!({"alg": "none", "kid": kid}),
            json!({"alg": "HS256", "kid": kid}),
            json!({"alg": "es256", "kid": kid}),
            json!({"alg": "ES256"}),
            json!({"alg": "ES256", "kid": kid, "jwk": key.key_set()["keys"][0]}),
        ] {
            for signature in ["", parts[2]] {
                let forged = format!("{}.{}.{signature}", encode(&header), parts[1]);
                assert_eq!(key.verify(&forged), None, "{header}");
            }
        }
        let admin = encode(&json!({"sub": "system:serviceaccount:kube-system:admin"}));
        for forged in [
            format!("{}.{admin}.{}", parts[0], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}="),
            format!("{token}.{}", parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], "A".repeat(TOKEN_BYTES_MAX)),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(key.verify(&forged), None, "{forged}");
        }
    }

    #[test]
    fn a_broken_key_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "no key").unwrap();
        let error = SigningKey::open(directory.path()).err().unwrap().to_string();
        assert!(error.contains(FILE) && error.contains("remove it"), "{error}");
    }
}
