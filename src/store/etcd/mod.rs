//! The object store on etcd, for clusters of several machines and for users who run an etcd anyway.
//!
//! Enter at [`Etcd`]. `options` describes the connection, `layout` the keys and values, `epochs` the translation of
//! revisions. `core` keeps the `connection`. `commit`, `read` and `watch` are the operations. `upkeep` does periodic
//! work. `restore` fills an empty store. `failure` says why a call failed, `explain` turns that into messages,
//! `diagnose` finds out which server answers. `proto` has etcd's messages. `mark` keeps the last revision outside
//! etcd. `owner` makes sure that only one process writes, and `lease` keeps it the owner.
//!
//! Others may use the same etcd; then the revisions of the store have gaps. A commit is one transaction of etcd and
//! as fast as that. Nothing is kept in memory here.

mod commit;
mod connection;
mod core;
mod diagnose;
mod epochs;
mod explain;
mod failure;
mod layout;
mod lease;
mod mark;
mod options;
mod owner;
mod process;
mod proto;
mod read;
mod restore;
#[cfg(test)]
pub(in crate::store) mod server;
#[cfg(test)]
mod tests;
mod upkeep;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{sync::watch::Receiver, task::JoinSet};

use crate::store::{Error, Record, Revision, Store, Watch, Write, index};

use self::core::Core;
pub use options::{Options, Tls, User};

/// An object store in etcd. Dropping it closes it.
pub struct Etcd {
    core: Arc<Core>,
    /// The tasks end when the store is dropped.
    _tasks: JoinSet<()>,
}

impl Etcd {
    /// Connects to etcd, becomes the owner of the store below the prefix, and creates an empty store if there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`Error::Owned`] if another process has the store, [`Error::Unavailable`] if etcd cannot be reached within
    /// `options.patience` or refuses the user, [`Error::Damaged`] if the store is incomplete or missing,
    /// [`Error::Unsupported`] if a newer version wrote it.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let core = Core::open(options).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&core).keep());
        tasks.spawn(lease::keep(Arc::clone(&core)));
        tasks.spawn(upkeep::run(Arc::clone(&core)));
        Ok(Self { core, _tasks: tasks })
    }

    /// Fills the empty prefix in the options with these records. They get new revisions above `revision`, as all
    /// later ones; the last one is returned. The remains of an interrupted restore are removed first. Until a restore
    /// is finished, [`Etcd::open`] refuses the store.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if there is a store, else as [`Etcd::open`] and [`Store::commit`].
    pub async fn restore(
        options: Options,
        records: Vec<Record>,
        revision: Revision,
    ) -> Result<Revision, Error> {
        restore::restore(options, records, revision).await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.core.closing.cancel();
        if let Err(error) = self.core.mark.write(self.core.current()) {
            tracing::warn!(%error, "cannot remember the last revision");
        }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Record>, Error> {
        read::get(&self.core, key, at).await
    }

    async fn list(
        &self,
        prefix: &[u8],
        at: Option<Revision>,
    ) -> Result<(Vec<Record>, Revision), Error> {
        read::list(&self.core, prefix, at).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error> {
        index::validate(&writes)?;
        if writes.is_empty() {
            return Ok(self.core.current());
        }
        commit::commit(&self.core, &writes).await
    }

    async fn watch(&self, after: Revision) -> Result<Watch, Error> {
        watch::watch(&self.core, after).await
    }

    async fn compact(&self, before: Revision) -> Result<(), Error> {
        // etcd keeps the state of the revision that it compacts.
        let last = Revision(before.min(self.core.current()).0.saturating_sub(1));
        match self.core.epochs().etcd(last) {
            Some(revision) => upkeep::compact(&self.core, revision).await,
            None => Ok(()),
        }
    }

    fn current(&self) -> Revision {
        self.core.current()
    }

    fn stopped(&self) -> Receiver<Option<Error>> {
        self.core.ownership.stopped()
    }

    async fn release(&self) {
        lease::release(&self.core).await;
    }
}
