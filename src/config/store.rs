//! Which object store, and how to be let in: `--store` and the flags of etcd.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::store::{EtcdOptions, EtcdTls, EtcdUser};

/// Flags that say where objects are kept.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreFlags {
    /// Object store: sled (in the data directory), memory (nothing is kept), or an etcd of version 3.4 or later
    ///
    /// etcd://HOST:PORT,HOST:PORT/PREFIX is an etcd without TLS, etcds:// one with TLS. One member is enough; all keys
    /// begin with the prefix, /snowglobe unless named, which one process at a time uses. The start waits 30 s for an etcd.
    /// While etcd is away, traffic, DNS and reads go on, and writes are refused.
    #[arg(long, env = "SNOWGLOBE_STORE", value_name = "STORE")]
    pub store: Option<Store>,
    /// Certificate authority of etcd, PEM (with etcds://) [default: those that this machine trusts]
    #[arg(long, env = "SNOWGLOBE_ETCD_CACERT", value_name = "FILE")]
    pub etcd_cacert: Option<PathBuf>,
    /// Client certificate for etcd, PEM (with etcds://)
    #[arg(long, env = "SNOWGLOBE_ETCD_CERT", value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,
    /// Key of the client certificate, PEM
    #[arg(long, env = "SNOWGLOBE_ETCD_KEY", value_name = "FILE")]
    pub etcd_key: Option<PathBuf>,
    /// User of an etcd with authentication; the password is in --etcd-password-file or SNOWGLOBE_ETCD_PASSWORD
    #[arg(long, env = "SNOWGLOBE_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,
    /// File with the password of --etcd-user
    #[arg(long, env = "SNOWGLOBE_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,
}

/// The password, where no file has it. Not a flag: everybody on a machine can see the arguments of a process.
const PASSWORD: &str = "SNOWGLOBE_ETCD_PASSWORD";
/// Who starts etcd and this program together need not put them in order.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the last revision in etcd is remembered, in the data directory.
const MARK: &str = "etcd-revision";

/// `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// On disk.
    Sled,
    /// Gone with the process.
    Memory,
    /// In an etcd.
    Etcd(Box<EtcdOptions>),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sled" => Ok(Self::Sled),
            "memory" => Ok(Self::Memory),
            etcd if etcd.starts_with("etcd") => etcd.parse().map(Box::new).map(Self::Etcd),
            other => {
                Err(format!("there is no store {other:?}: choose sled, memory or etcd://HOST:PORT"))
            }
        }
    }
}

/// As given, with what was left out of a location.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sled => f.write_str("sled"),
            Self::Memory => f.write_str("memory"),
            Self::Etcd(options) => options.fmt(f),
        }
    }
}

impl StoreFlags {
    /// The store, with everything that is needed to open it.
    pub fn resolve(self, default: &Store, data_dir: &Path) -> anyhow::Result<Store> {
        let store = self.store.clone().unwrap_or_else(|| default.clone());
        let Store::Etcd(mut options) = store else {
            // Set in the environment, they may be meant for another time.
            return Ok(store);
        };
        options.user = self.user()?;
        options.mark = Some(data_dir.join(MARK));
        options.patience = PATIENCE;
        if self.etcd_cert.is_some() != self.etcd_key.is_some() {
            bail!("--etcd-cert and --etcd-key are of use only together");
        }
        let identity = self.etcd_cert.zip(self.etcd_key);
        match &mut options.tls {
            Some(tls) => *tls = EtcdTls { authority: self.etcd_cacert, identity },
            None if self.etcd_cacert.is_some() || identity.is_some() => {
                bail!("--store {options} has no TLS, but certificates are given: write etcds://")
            }
            None => {}
        }
        Ok(Store::Etcd(options))
    }

    fn user(&self) -> anyhow::Result<Option<EtcdUser>> {
        let Some(name) = self.etcd_user.clone() else {
            if let Some(file) = &self.etcd_password_file {
                bail!("--etcd-password-file {} needs --etcd-user", file.display());
            }
            return Ok(None);
        };
        let password = match &self.etcd_password_file {
            Some(file) => {
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read the password in {}", file.display()))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => std::env::var(PASSWORD).ok().with_context(|| {
                format!("--etcd-user {name} needs a password: give --etcd-password-file FILE, or set {PASSWORD}")
            })?,
        };
        Ok(Some(EtcdUser { name, password }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(flags: StoreFlags) -> anyhow::Result<Store> {
        flags.resolve(&Store::Sled, Path::new("/data"))
    }

    #[test]
    fn flags_of_etcd() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "two words\n").unwrap();
        let flags = StoreFlags {
            store: Some("etcds://a:1/p".parse().unwrap()),
            etcd_cacert: Some("ca.pem".into()),
            etcd_user: Some("root".into()),
            etcd_password_file: Some(file),
            ..StoreFlags::default()
        };
        let Store::Etcd(options) = resolved(flags.clone()).unwrap() else { panic!("etcd") };
        assert_eq!(options.user.unwrap().password, "two words");
        assert_eq!(options.tls.unwrap().authority.unwrap(), Path::new("ca.pem"));
        assert_eq!(options.mark.unwrap(), Path::new("/data/etcd-revision"));
        let plain = StoreFlags { store: Some("etcd://a:1".parse().unwrap()), ..flags.clone() };
        let refused = resolved(plain).unwrap_err().to_string();
        assert!(refused.contains("write etcds://"), "{refused}");
        let nobody = StoreFlags { etcd_user: None, ..flags.clone() };
        assert!(resolved(nobody).unwrap_err().to_string().contains("--etcd-user"));
        assert_eq!(resolved(StoreFlags { store: None, ..flags }).unwrap(), Store::Sled);
        let unknown = "redis://a".parse::<Store>().unwrap_err();
        assert!(unknown.contains("etcd://HOST:PORT"), "{unknown}");
    }
}
