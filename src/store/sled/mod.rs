//! The object store on sled: durable, in one directory, for one process.
//!
//! Enter at [`Sled`]. Reads come from memory (`index`); one thread (`committer`) writes. `record` is the format,
//! `generation` one database and the rules that make sled safe, `directory` their place on disk, `high_water` the
//! mark that tells loss from emptiness, `space` what keeps a full disk away from sled.

mod committer;
mod directory;
mod generation;
mod high_water;
mod record;
mod restore;
mod space;
#[cfg(test)]
mod tests;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc::sync_channel},
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Error, Record, Revision, Store, Watch, Write,
    index::{self, Index},
};

use committer::{Committer, Request, Tuning};

/// Commits that may wait for the committer: a few groups, so that a sync always finds company.
const QUEUE_LENGTH: usize = 512;

/// An object store in a directory. Dropping it closes it.
pub struct Sled {
    index: Arc<Index>,
    queue: mpsc::Sender<Request>,
    closing: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sled {
    /// Opens the store below a data directory, or makes an empty one. Blocks until everything is read and checked.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when a process has it open, [`Error::Damaged`] when anything that was acknowledged is
    /// missing or unreadable, [`Error::Unsupported`] when a newer version wrote it, [`Error::Full`] when opening
    /// needs space that the disk does not have.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_tuned(dir, Tuning::default())
    }

    /// Makes a store below a data directory that has none, out of records of a snapshot: a store that is at
    /// `revision`, which is none of the records' or a later one, and has no history before it. Blocks. What an
    /// interrupted attempt leaves can neither be opened nor filled again.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] when there is a store, or a part of one.
    pub fn restore(dir: &Path, records: Vec<Record>, revision: Revision) -> Result<(), Error> {
        restore::restore(dir, records, revision)
    }

    fn open_tuned(dir: &Path, tuning: Tuning) -> Result<Self, Error> {
        let (queue, requests) = mpsc::channel(QUEUE_LENGTH);
        let closing = CancellationToken::new();
        let (opened, answer) = sync_channel(1);
        let dir = dir.to_owned();
        let work = {
            let closing = closing.clone();
            move || {
                let started = runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .map_err(|e| failed("starting its thread", e))
                    .and_then(|runtime| Ok((Committer::open(&dir, tuning)?, runtime)));
                let (committer, runtime) = match started {
                    Ok(started) => started,
                    // The receiver waits for this or for the end of the thread.
                    Err(error) => return drop(opened.send(Err(error))),
                };
                let index = Arc::clone(committer.index());
                drop(opened.send(Ok(Arc::clone(&index))));
                let run = || runtime.block_on(committer.run(requests, closing));
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    index.end(failed("writing", io::Error::other("the committer panicked")));
                }
            }
        };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(work)
            .map_err(|e| failed("starting its thread", e))?;
        let index =
            answer.recv().unwrap_or_else(|e| Err(failed("opening", io::Error::other(e))))?;
        Ok(Self { index, queue, closing, thread: Mutex::new(Some(thread)) })
    }

    /// Finishes the commits that wait, closes the files and gives back the lock. Blocks; reads go on working.
    pub fn close(&self) {
        self.closing.cancel();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }

    /// Why the committer does not answer any more.
    fn ended(&self) -> Error {
        self.index.ended().unwrap_or(Error::Closed)
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for Sled {
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
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Request { writes, reply }).await.is_err() {
            return Err(self.ended());
        }
        answer.await.unwrap_or_else(|_closed| Err(self.ended()))
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

fn failed(context: &str, error: io::Error) -> Error {
    Error::Failed { context: context.to_owned(), source: Arc::new(error) }
}
