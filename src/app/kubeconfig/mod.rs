//! Adds a cluster to a kubeconfig, which may be the user's own. It adds or replaces the cluster, the user and the
//! context with one name, and keeps everything else.
//!
//! Enter at `merge`. `check` says beforehand whether a file can be used. The file is replaced in one step, and under
//! the lock that kubectl uses.

mod lock;
mod merge;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value as Json, json};
use serde_yaml::Value;

use crate::{app::kubeconfig::lock::Lock, pki::certificates::Identity};

/// A cluster and its user.
pub(crate) struct Entry {
    /// The name of the cluster, the user and the context.
    pub(crate) name: String,
    /// The URL of the API and the certificate authority that signs for it.
    pub(crate) cluster: Json,
    /// The user's credentials.
    pub(crate) user: Json,
}

/// Largest file that is read.
const SIZE_MAX: u64 = 16 << 20;
/// How many symbolic links are followed. Linux has the same limit.
const LINKS_MAX: usize = 40;
/// Only the owner may read the file, because it contains a private key.
const NEW_MODE: u32 = 0o600;

impl Entry {
    /// The items that the entry adds to the three lists.
    fn items(&self) -> [(&'static str, Value); 3] {
        let Self { name, cluster, user } = self;
        let context = json!({"cluster": name, "namespace": "default", "user": name});
        [
            ("clusters", "cluster", cluster),
            ("contexts", "context", &context),
            ("users", "user", user),
        ]
        .map(|(list, key, value)| {
            let value = serde_yaml::to_value(value).expect("JSON has a YAML form");
            // kubectl writes the fields in this order.
            let mut fields = [(key, value), ("name", name.as_str().into())];
            fields.sort_by_key(|(key, _)| *key);
            let item = fields.map(|(key, value)| (key.into(), value)).into_iter().collect();
            (list, Value::Mapping(item))
        })
    }
}

/// The `cluster` of an entry: the URL of the API and its certificate authority.
pub(crate) fn cluster(server: &str, authority: &str) -> Json {
    json!({"certificate-authority-data": STANDARD.encode(authority), "server": server})
}

/// The `user` of an entry: the credentials.
pub(crate) fn user(identity: &Identity) -> Json {
    json!({"client-certificate-data": STANDARD.encode(&identity.certificate),
           "client-key-data": STANDARD.encode(&identity.key)})
}

/// Returns an error if the file exists and is not a kubeconfig. It changes nothing.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let text = read(&target(path)?).map_err(|why| refused(path, &why))?;
    match text.as_deref().and_then(merge::refusal) {
        Some(why) => Err(refused(path, &why)),
        None => Ok(()),
    }
}

/// Adds or replaces the entry. Returns the current context of the file.
pub(crate) async fn merge(path: &Path, entry: &Entry, switch: bool) -> anyhow::Result<String> {
    let path = std::path::absolute(path)?;
    let target = target(&path)?;
    let directory = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    // kubectl locks the path that it is given. For a symbolic link it would lock another name than for the file
    // itself.
    let _lock = Lock::take(&path).await?;
    let _other = if target == path { None } else { Some(Lock::take(&target).await?) };
    let old = read(&target).map_err(|why| refused(&path, &why))?;
    let merged = merge::merged(old.as_deref().unwrap_or_default(), entry, switch)
        .map_err(|why| refused(&path, &why))?;
    if merged.rewritten {
        tracing::warn!(path = %path.display(), "the kubeconfig's comments and layout could not be kept");
    }
    if old.as_deref() != Some(&merged.text) {
        replace(&target, directory, &merged.text)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(merged.current)
}

fn refused(path: &Path, why: &str) -> anyhow::Error {
    anyhow!(
        "{} is no kubeconfig and was left as it is: {why}; choose another file with --kubeconfig FILE",
        path.display()
    )
}

/// The file at the end of symbolic links. It need not exist.
fn target(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS_MAX {
        let Ok(link) = fs::read_link(&path) else { return Ok(path) };
        path = path.parent().unwrap_or(Path::new("/")).join(link);
    }
    bail!("{} is one of too many symbolic links", path.display())
}

/// The text of the file; empty if the file does not exist. The error says why it is not a text.
fn read(path: &Path) -> Result<Option<String>, String> {
    let metadata = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        found => found.map_err(|error| error.to_string())?,
    };
    if metadata.is_dir() {
        return Err("it is a directory".into());
    }
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    if metadata.len() > SIZE_MAX {
        return Err(format!("it has more than {} MiB", SIZE_MAX >> 20));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map(Some).map_err(|_binary| "it is not text in UTF-8".into())
}

/// Replaces the file in one step. Keeps its mode and owner.
fn replace(path: &Path, directory: &Path, text: &str) -> std::io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".kubeconfig-")
        .permissions(Permissions::from_mode(NEW_MODE))
        .tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(path) {
        // Only root may change the owner of a file, and only for root the owner can differ.
        fchown(new.as_file(), Some(old.uid()), Some(old.gid())).ok();
        new.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    new.as_file().sync_all()?;
    new.persist(path)?;
    Ok(())
}
