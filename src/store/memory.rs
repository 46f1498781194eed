//! The object store in memory, for tests, demos and temporary clusters.

use std::sync::Arc;

use async_trait::async_trait;

use crate::store::{
    Error, Record, Revision, Store, Watch, Write,
    index::{self, Index, Limits},
};

/// An object store that exists as long as the process.
pub struct Memory {
    index: Arc<Index>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { index: Arc::new(Index::new(Limits::default())) }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.index.end(Error::Closed);
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Record>, Error> {
        self.index.get(key, at)
    }

    async fn list(
        &self,
        prefix: &[u8],
        at: Option<Revision>,
    ) -> Result<(Vec<Record>, Revision), Error> {
        self.index.list(prefix, at)
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error> {
        index::validate(&writes)?;
        if writes.is_empty() {
            return Ok(self.index.revision());
        }
        self.index.commit(writes)
    }

    async fn watch(&self, after: Revision) -> Result<Watch, Error> {
        self.index.watch(after)
    }

    async fn compact(&self, before: Revision) -> Result<(), Error> {
        self.index.compact(before);
        Ok(())
    }

    fn current(&self) -> Revision {
        self.index.revision()
    }
}
