//! The object store: keys and values under one revision that increases with each commit.
//!
//! Enter at [`Store`], the contract of all backends (`contract.rs` tests it for each). The store knows neither
//! Kubernetes nor the network. The registry gives keys and values their meaning.

#[cfg(test)]
mod contract;
mod etcd;
mod index;
mod memory;
#[cfg(test)]
mod requirements;
mod sled;
pub mod snapshot;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::watch;

pub use etcd::{Etcd, Options as EtcdOptions, Tls as EtcdTls, User as EtcdUser};
pub use memory::Memory;
pub use sled::Sled;

/// A revision of the store. Zero is the empty store, and each commit has a higher one. Backends that are not shared
/// count without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The current value of a key and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision of the commit that wrote it.
    pub revision: Revision,
}

/// One write of a commit. There are no unconditional writes: each says what it expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// The condition for the commit.
    pub expect: Expect,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
}

/// The state of a key that a [`Write`] expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key's last write was this revision.
    At(Revision),
}

/// The change of one key by a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of the commit.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// The new value; `None` when deleted.
    pub value: Option<Bytes>,
}

/// All changes of one commit, in the order of its writes. Watches return whole commits.
pub type Commit = Arc<[Change]>;

/// Commits in the order of revisions. No commit is missing, although revisions may be (see [`Revision`]). The stream
/// ends with an error if the watch fell too far behind or the store failed. Then a new watch can resume after the
/// last revision.
pub type Watch = BoxStream<'static, Result<Commit, Error>>;

/// The contract of an object store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value of a key, at the current revision or `at` a revision in the history.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Record>, Error>;

    /// All records with a prefix in key order, at the current revision or `at` a revision in the history, and that
    /// revision. [`Error::Compacted`] if the revision is older than the history, [`Error::Future`] if it does not
    /// exist yet.
    async fn list(
        &self,
        prefix: &[u8],
        at: Option<Revision>,
    ) -> Result<(Vec<Record>, Revision), Error>;

    /// Makes all writes or none, at one new revision. Returns the revision when the writes are durable. A key may
    /// occur only once in a commit, and a deletion must expect a revision. A commit that violates this or a size
    /// limit gives [`Error::Invalid`]. A commit without writes does nothing and returns the current revision.
    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error>;

    /// All commits after a revision, from the history on; [`Error::Compacted`] if the revision is older than the
    /// history.
    async fn watch(&self, after: Revision) -> Result<Watch, Error>;

    /// Removes the history before a revision. This revision and all later ones can still be read.
    async fn compact(&self, before: Revision) -> Result<(), Error>;

    /// The last durable revision.
    fn current(&self) -> Revision;

    /// Why nothing can be written until a restart; `None` while writes work.
    fn stopped(&self) -> watch::Receiver<Option<Error>> {
        watch::Sender::new(None).subscribe()
    }

    /// Releases the store, so that another process can open it at once. This must be the last call, because nothing
    /// can be written afterwards.
    async fn release(&self) {}
}

/// The errors of a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An expectation does not hold. Nothing was written.
    #[error("key {} is at revision {found:?}", String::from_utf8_lossy(key))]
    Conflict {
        /// The first key whose expectation does not hold.
        key: Bytes,
        /// The revision of the key; `None` if it does not exist.
        found: Option<Revision>,
    },
    /// The requested history was removed.
    #[error("history before revision {oldest} was compacted")]
    Compacted {
        /// The oldest revision that can be read and after which a watch can start.
        oldest: Revision,
    },
    /// The requested revision does not exist yet.
    #[error("revision {current} is the last one so far")]
    Future {
        /// The last revision.
        current: Revision,
    },
    /// A watch fell too far behind.
    #[error("the watch fell behind")]
    Lagged,
    /// The commit violates a rule that does not depend on the content of the store. Nothing was written.
    #[error("the commit is not valid: {0}")]
    Invalid(String),
    /// There is no space left. The write did not happen.
    #[error("no space is left for the object store in {0}")]
    Full(String),
    /// Another process uses the data directory.
    #[error(
        "the object store in {0} is in use by another process: stop it, or choose another --data-dir"
    )]
    InUse(String),
    /// Another process owns the store. The text says which one, and what to do.
    #[error("the object store is in use by another process: {0}")]
    Owned(String),
    /// The place for a restore is not empty. The text names the place.
    #[error(
        "{0} already contains an object store or a part of one; a snapshot can be restored only to an empty place"
    )]
    NotEmpty(String),
    /// Stored data is damaged. The text names the file and the damage.
    #[error("the object store is damaged: {0}")]
    Damaged(String),
    /// Another version of the program wrote the data in another format.
    #[error("the object store cannot be read: {0}")]
    Unsupported(String),
    /// A remote store cannot be reached. Nothing was written. The text says where it is, what is wrong and what to
    /// do.
    #[error("the object store is not available: {0}")]
    Unavailable(String),
    /// Nothing can be written until a restart, and nothing was written. Reads continue to work. The text says what
    /// happened and what to do.
    #[error("the object store takes no more writes: {0}")]
    Stopped(String),
    /// The connection was lost, or no answer came, during a write. The write may have happened.
    #[error("it is not known whether the write happened: {0}")]
    Unknown(String),
    /// The backend failed. The result of a write is unknown, and nothing can be written until a restart.
    #[error("the object store failed: {context}")]
    Failed {
        /// The operation that failed.
        context: String,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The store was closed.
    #[error("the object store is closed")]
    Closed,
}

impl Error {
    /// The error and its causes in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
