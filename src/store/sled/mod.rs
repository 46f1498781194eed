//! The object store on sled: durable, in one directory, for one process.
//!
//! Enter at [`Sled`]. Reads come from memory (`index`); one thread (`committer`) writes. `record` is the format.
//! `generation` is a database, with the rules that make sled safe. `directory` is its place. `disk` makes files
//! durable. `high_water` is the mark that reveals lost commits. `page_table` protects a file that sled may lose.
//! `space` ensures that sled never gets the error of a full disk. `file_identities` detects removed files.

mod committer;
mod directory;
mod disk;
mod file_identities;
mod generation;
mod high_water;
mod page_table;
mod record;
mod restore;
mod space;
#[cfg(test)]
mod tests;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    runtime, select,
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Error, Record, Revision, Store, Watch, Write,
    index::{self, Index},
};

use committer::{Committer, Request, Tuning};

/// How many commits may wait for the committer. These are several groups, so that each sync serves many commits.
const QUEUE_LENGTH: usize = 512;
/// A waiting commit checks this often whether other commits were completed. Checks are counted instead of time,
/// because the whole process may have been suspended.
const LOOK: Duration = Duration::from_secs(5);
/// After this many checks without a completed commit, the disk (or sled, whose threads can die) is considered to
/// hang.
const STALLED_LOOKS: u32 = 6;
/// After this time, the log says that the store is still being opened.
const OPEN_NOTICE: Duration = Duration::from_secs(10);
/// What the user can do when nothing can be written any more.
const STOPPED: &str = "reads, DNS and traffic go on; keep what is there with `snowglobe snapshot save FILE`, mend the \
                       cause and start again (should the store not be whole then, `snowglobe snapshot restore FILE` \
                       makes a new one)";
/// How long closing may take. Its longest part is the move of the data to a new file.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// An object store in a directory. Dropping it closes it.
pub struct Sled {
    /// The data directory.
    dir: PathBuf,
    index: Arc<Index>,
    queue: mpsc::Sender<Request>,
    closing: CancellationToken,
    /// Why nothing can be written any more.
    stopped: Arc<watch::Sender<Option<Error>>>,
    /// Cancelled when the committer hangs.
    stalled: CancellationToken,
    /// Ends with the committer's thread.
    thread: Mutex<Receiver<()>>,
}

impl Sled {
    /// Opens the store in a data directory, or creates an empty one. Blocks until all data is read and checked.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if a process has it open, [`Error::Damaged`] if acknowledged data is missing or unreadable,
    /// [`Error::Unsupported`] if a newer version wrote it, [`Error::Full`] if opening needs more space than the disk
    /// has.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_tuned(dir, Tuning::default())
    }

    /// Creates a store in a data directory from the records of a snapshot. The store is at `revision`, which is above
    /// the revisions of the records, and has no history before it. Blocks. After an interruption, the directory can
    /// neither be opened nor restored to.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if there is a store, also an unfinished one.
    pub fn restore(dir: &Path, records: Vec<Record>, revision: Revision) -> Result<(), Error> {
        restore::restore(dir, records, revision)
    }

    fn open_tuned(dir: &Path, tuning: Tuning) -> Result<Self, Error> {
        let (queue, requests) = mpsc::channel(QUEUE_LENGTH);
        let closing = CancellationToken::new();
        let (opened, answer) = sync_channel(1);
        let (alive, thread_ended) = sync_channel(0);
        let work = {
            let dir = dir.to_owned();
            let closing = closing.clone();
            move || {
                let _alive = alive;
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
                let (index, stopped) = (committer.index(), Arc::clone(committer.stopped()));
                drop(opened.send(Ok((Arc::clone(index), Arc::clone(&stopped)))));
                let run = || runtime.block_on(committer.run(requests, closing));
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    let cause = io::Error::other("the committer panicked");
                    stop(&stopped, &failed("writing", cause));
                }
            }
        };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(work)
            .map_err(|e| failed("starting its thread", e))?;
        let opened = loop {
            match answer.recv_timeout(OPEN_NOTICE) {
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!(dir = %dir.display(), "the object store is still being opened");
                }
                Err(ended) => return Err(failed("opening", io::Error::other(ended))),
                Ok(opened) => break opened,
            }
        };
        let (dir, (index, stopped)) = (dir.to_owned(), opened?);
        let (stalled, thread) = (CancellationToken::new(), Mutex::new(thread_ended));
        Ok(Self { dir, index, queue, closing, stopped, stalled, thread })
    }

    /// Completes the commits in the queue, closes the files and releases the lock. Blocks, but not if the disk hangs.
    /// Reads continue to work.
    pub fn close(&self) {
        self.closing.cancel();
        let wait = if self.stalled.is_cancelled() { Duration::ZERO } else { CLOSE_MAX };
        if self.thread.lock().recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the object store was not closed: its disk hangs");
        }
    }

    /// Waits for the answer of the committer while commits are completed. If the committer hangs, the store has
    /// failed.
    async fn unless_stalled<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let mut answer = pin!(answer);
        let (mut looks, mut seen) = (0, self.index.revision());
        while looks < STALLED_LOOKS {
            select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = self.stalled.cancelled() => return Err(self.stalled_error()),
                () = sleep(LOOK) => {}
            }
            let now = self.index.revision();
            looks = if now == seen { looks + 1 } else { 0 };
            seen = now;
        }
        let error = self.stalled_error();
        stop(&self.stopped, &error);
        self.stalled.cancel();
        Err(error)
    }

    fn stalled_error(&self) -> Error {
        let waited = LOOK.saturating_mul(STALLED_LOOKS).as_secs();
        self.unanswered(&format!("no commit was finished within {waited} s"))
    }

    /// The error for a commit that the committer did not answer.
    fn unanswered(&self, what: &str) -> Error {
        let cause = io::Error::other(what.to_owned());
        failed(&format!("writing in {}", self.dir.display()), cause)
    }

    /// Why the committer has ended.
    fn ended(&self) -> Error {
        let stopped = self.stopped.borrow().clone();
        stopped.or_else(|| self.index.ended()).unwrap_or(Error::Closed)
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
        if let Some(error) = self.stopped.borrow().clone() {
            return Err(error);
        }
        let (reply, answer) = oneshot::channel();
        let answer = async {
            if self.queue.send(Request { writes, reply }).await.is_err() {
                return Err(self.ended());
            }
            answer.await.unwrap_or_else(|_dropped| Err(self.unanswered("it has ended")))
        };
        self.unless_stalled(answer).await?
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

    fn stopped(&self) -> watch::Receiver<Option<Error>> {
        self.stopped.subscribe()
    }
}

/// Stops all writes for this reason, unless they are stopped already.
fn stop(stopped: &watch::Sender<Option<Error>>, error: &Error) {
    let what = match error {
        Error::Failed { context, source } => format!("{context}: {source}"),
        other => other.with_causes(),
    };
    let text = format!("{what}; {STOPPED}");
    stopped.send_if_modified(|reason| {
        let first = reason.is_none();
        reason.get_or_insert(Error::Stopped(text));
        first
    });
}

fn failed(context: &str, error: io::Error) -> Error {
    Error::Failed { context: context.to_owned(), source: Arc::new(error) }
}
