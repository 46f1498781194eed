//! The object store: keys and bytes under one store-wide, strictly rising revision.
//!
//! Enter at [`Store`], the contract that all backends keep (`contract.rs` tests it for each). The store knows
//! neither Kubernetes nor the network; what a key or a value means is the registry's business.

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

/// A point in the store's history. Zero is the empty store; each commit takes a higher one, in backends that are
/// not shared the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key's current value and the revision that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// One part of a commit. There is no blind put: each write says what it expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// What must be there for the commit to happen.
    pub expect: Expect,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
}

/// What a [`Write`] expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key's last write was this revision.
    At(Revision),
}

/// What one commit did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The commit's revision; all changes of one commit share it.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// The new value; `None` when deleted.
    pub value: Option<Bytes>,
}

/// All changes of one commit, in the order of its writes. A watch hands over whole commits, never a part.
pub type Commit = Arc<[Change]>;

/// Commits in order of revision; none is left out, though revisions may be (see [`Revision`]). Ends with an error when
/// the watcher fell too far behind or the store failed; resume from the last seen revision.
pub type Watch = BoxStream<'static, Result<Commit, Error>>;

/// The contract of an object store.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The value at a key, now or `at` a revision of the kept history.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Record>, Error>;

    /// Everything below a prefix in key order, now or `at` a revision of the kept history, and the revision at which
    /// this was so. [`Error::Compacted`] when the kept history begins later, [`Error::Future`] when it ends before.
    async fn list(
        &self,
        prefix: &[u8],
        at: Option<Revision>,
    ) -> Result<(Vec<Record>, Revision), Error>;

    /// Makes all writes or none, under one new revision, which is returned once it is durable.
    /// A key may occur only once in a commit, and a delete must name the revision that it deletes; a commit that
    /// breaks this or a size limit is [`Error::Invalid`]. No writes: the current revision, and nothing happens.
    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error>;

    /// Every commit after a revision, from the kept history on; [`Error::Compacted`] when it reaches further back.
    async fn watch(&self, after: Revision) -> Result<Watch, Error>;

    /// Forgets history before a revision; that revision and everything since can still be read.
    async fn compact(&self, before: Revision) -> Result<(), Error>;

    /// The last durable revision.
    fn current(&self) -> Revision;

    /// Why nothing can be written until a restart; `None` as long as that is not so.
    fn stopped(&self) -> watch::Receiver<Option<Error>> {
        watch::Sender::new(None).subscribe()
    }

    /// Lets another process have the store at once. To be called last: nothing can be written afterwards.
    async fn release(&self) {}
}

/// What can go wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An expectation did not hold; nothing was written.
    #[error("key {} is at revision {found:?}", String::from_utf8_lossy(key))]
    Conflict {
        /// The first key whose expectation failed.
        key: Bytes,
        /// The revision that was found; `None` for an absent key.
        found: Option<Revision>,
    },
    /// The asked history is gone.
    #[error("history before revision {oldest} was compacted")]
    Compacted {
        /// The oldest revision that can be read, and from which a watch can start.
        oldest: Revision,
    },
    /// The asked revision has not happened yet.
    #[error("revision {current} is the last one so far")]
    Future {
        /// The last revision.
        current: Revision,
    },
    /// A watcher did not keep up.
    #[error("the watch fell behind")]
    Lagged,
    /// The commit breaks a rule of the store, whatever it holds; nothing was written.
    #[error("the commit is not valid: {0}")]
    Invalid(String),
    /// No space is left; the write did not happen.
    #[error("no space is left for the object store in {0}")]
    Full(String),
    /// Another process uses the data directory.
    #[error(
        "the object store in {0} is in use by another process: stop it, or choose another --data-dir"
    )]
    InUse(String),
    /// Another process owns the store. The text says which, and what to do.
    #[error("the object store is in use by another process: {0}")]
    Owned(String),
    /// A snapshot can be restored only where nothing is. The text names the place.
    #[error(
        "{0} holds an object store already, or a part of one; a snapshot is only restored where nothing is"
    )]
    NotEmpty(String),
    /// Stored data is damaged. The text names the file and what is wrong.
    #[error("the object store is damaged: {0}")]
    Damaged(String),
    /// Stored data has a format of another version of the program.
    #[error("the object store cannot be read: {0}")]
    Unsupported(String),
    /// The store is somewhere else and cannot be used now; nothing was written. The text says where, why and what to do.
    #[error("the object store is not available: {0}")]
    Unavailable(String),
    /// Nothing can be written until a restart, and nothing was; reads go on. The text says what happened and what to do.
    #[error("the object store takes no more writes: {0}")]
    Stopped(String),
    /// The connection was lost, or no answer came, while a write was under way: it may have happened.
    #[error("it is not known whether the write happened: {0}")]
    Unknown(String),
    /// The backend failed; the outcome of a write is unknown, and there will be no other until a restart.
    #[error("the object store failed: {context}")]
    Failed {
        /// What was being done.
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
    /// The error and what caused it, in one line.
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
