//! The thread that writes: it gives commits their revisions, makes them durable and publishes them.
//!
//! The order of steps ensures that no acknowledged commit is lost. A group of commits is checked against the index,
//! written, flushed and synced. Then the high-water mark is raised. Then the index publishes the commits and the
//! callers get their answers. If the process dies before that, the group was not acknowledged. If it is incomplete,
//! it is removed when the store is opened.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::debug_span;

use crate::store::{
    Commit, Error, Revision, Write,
    index::{self, Index, Limits},
    sled::{
        directory::Directory,
        disk::damaged,
        file_identities::FileIdentities,
        generation::{CLEAN_BYTES, Generation, Unacknowledged},
        high_water::HighWater,
        record,
    },
};

/// The limit of bytes of a group. It is large enough to share a sync, and small enough to fit into the reserved
/// space.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// The limit of commits of a group. More commits per sync bring nothing.
const GROUP_COMMITS_MAX: usize = 1024;
/// How long a commit waits for further commits. A sync takes several times as long.
const COMPANY_WAIT: Duration = Duration::from_micros(100);
/// After the disk was full, writes resume only if there is room for the batch and this many bytes. Otherwise they
/// would fail again at once.
const RESUME_BYTES: usize = 1024 * 1024;
/// After waiting this long for a commit, the thread does its clean-up. The high-water mark on disk is at most this
/// old.
const IDLE: Duration = Duration::from_millis(250);
const HIGH_WATER_SYNC: Duration = Duration::from_secs(1);
/// If the file is larger than this percentage of the data, the data moves to a new file, which has about 110 percent.
const RENEW_PERCENT: u64 = 170;
/// The same for an idle store.
const RENEW_PERCENT_IDLE: u64 = 130;
/// The file must have grown by this fraction since the last move or failed move, because a new file of very small
/// objects may have twice the size of its data.
const RENEW_GROWTH_DIVISOR: u64 = 3;
/// The same for an idle store. It suffices if the data has shrunk by this fraction.
const RENEW_GROWTH_DIVISOR_IDLE: u64 = 8;

/// The parameters that tests change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// How much history is kept.
    pub(super) limits: Limits,
    /// A smaller database file is never moved.
    pub(super) renew_bytes_min: u64,
    /// The log is cleaned if it has this many bytes and is large compared with the data. Usually the data moves to a
    /// new file before. If the disk has no room for that, cleaning makes space in the old file free.
    pub(super) clean_bytes_min: usize,
    pub(super) clean_percent: usize,
    /// Whether disk space is reserved in advance. If not, sled itself gets the error of a full disk.
    pub(super) reserve: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            renew_bytes_min: 16 * 1024 * 1024,
            clean_bytes_min: 32 * 1024 * 1024,
            clean_percent: 200,
            reserve: true,
        }
    }
}

/// A commit in the queue. Its writes are valid.
pub(super) struct Request {
    pub(super) writes: Vec<Write>,
    pub(super) reply: oneshot::Sender<Result<Revision, Error>>,
}

/// The state of the committer thread.
pub(super) struct Committer {
    tuning: Tuning,
    index: Arc<Index>,
    high_water: HighWater,
    high_water_synced: Instant,
    /// `None` if the disk was full during a batch, until the database is opened again.
    generation: Option<Generation>,
    number: u64,
    /// The files of that generation.
    file_identities: FileIdentities,
    /// The size of the file, and of the data in it, after the last attempt to move.
    moved: (u64, u64),
    /// The log is not cleaned before it has this length, because the last time freed too little.
    clean_from: usize,
    /// Why nothing can be written any more.
    stopped: Arc<watch::Sender<Option<Error>>>,
    full: bool,
    /// It must be the last field: its lock is released after the database is closed.
    directory: Directory,
}

impl Committer {
    /// Opens the store in a data directory, or creates it.
    pub(super) fn open(dir: &Path, tuning: Tuning) -> Result<Self, Error> {
        let _phase = debug_span!("open").entered();
        let directory = Directory::lock(dir)?;
        let path = directory.high_water();
        let mark = match HighWater::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(|e| directory.failure("opening", &path, e))?),
        };
        let mut committer = match (directory.current()?, mark) {
            (Some(number), Some(Some(mark))) => Self::load(directory, tuning, number, mark)?,
            (Some(_), Some(None)) => return Err(damaged(&path, "it cannot be read")),
            (Some(_), None) => return Err(damaged(&path, "the file is missing")),
            (None, mark) => {
                let mark = mark.flatten();
                let is_used = match &mark {
                    // A restore begins with a mark above zero.
                    Some(mark) => mark.revision() > Revision(0),
                    None => !directory.generations()?.is_empty(),
                };
                if is_used {
                    let path = directory.root.join("CURRENT");
                    return Err(damaged(&path, "the file is missing, but data is there"));
                }
                Self::make(directory, tuning, mark)?
            }
        };
        committer.directory.remove_others(committer.number);
        committer.renew(false);
        Ok(committer)
    }

    /// Creates an empty store. The mark is written first and `CURRENT` last: a database without `CURRENT` but with a
    /// mark of zero is unfinished, and any other database without `CURRENT` is damaged. So a mark that an interrupted
    /// attempt left is not changed, because there may be a database.
    fn make(directory: Directory, tuning: Tuning, mark: Option<HighWater>) -> Result<Self, Error> {
        let path = directory.high_water();
        let mark = match mark {
            Some(mut mark) => mark.sync().map(|()| mark),
            None => HighWater::create(&path),
        };
        let mark = mark
            .and_then(|mark| fs::File::open(&directory.root)?.sync_all().map(|()| mark))
            .map_err(|e| directory.failure("creating", &path, e))?;
        let index = Index::new(tuning.limits);
        let generation = Generation::create(&directory.root, &directory.dir, 1, &index.image())?;
        directory.prepare_current(1)?;
        directory.switch_current()?;
        Self::new(directory, tuning, index, mark, generation)
    }

    fn load(
        directory: Directory,
        tuning: Tuning,
        number: u64,
        mut mark: HighWater,
    ) -> Result<Self, Error> {
        let mut generation = Generation::open(&directory.root, &directory.dir, number)?;
        let image = generation.contents(mark.revision(), Unacknowledged::Kept)?;
        let index = Index::restore(tuning.limits, image);
        if mark.revision() < index.revision() {
            let raised = mark.write(index.revision()).and_then(|()| mark.sync());
            raised.map_err(|e| directory.failure("writing", &directory.high_water(), e))?;
        }
        Self::new(directory, tuning, index, mark, generation)
    }

    fn new(
        directory: Directory,
        tuning: Tuning,
        index: Index,
        high_water: HighWater,
        generation: Generation,
    ) -> Result<Self, Error> {
        Ok(Self {
            file_identities: directory.file_identities(generation.number())?,
            directory,
            tuning,
            index: Arc::new(index),
            high_water,
            high_water_synced: Instant::now(),
            number: generation.number(),
            generation: Some(generation),
            moved: (0, 0),
            clean_from: 0,
            stopped: Arc::new(watch::Sender::new(None)),
            full: false,
        })
    }

    /// The index to which this thread publishes.
    pub(super) fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Says why nothing can be written any more.
    pub(super) fn stopped(&self) -> &Arc<watch::Sender<Option<Error>>> {
        &self.stopped
    }

    fn has_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    /// Processes commits until the store is closed and the queue is empty.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<Request>,
        closing: CancellationToken,
    ) {
        let mut company = 0;
        loop {
            // Both are cancel-safe: `recv` loses nothing, and `sleep` starts again.
            let request = select! {
                biased;
                () = closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
                request = queue.recv() => request,
                () = sleep(IDLE) => {
                    self.idle();
                    continue;
                }
            };
            let Some(first) = request else {
                break;
            };
            let group = gather(first, &mut queue, company);
            company = group.len();
            self.commit(group);
            self.sync_high_water(HIGH_WATER_SYNC);
            self.renew(false);
            self.clean();
        }
        self.sync_high_water(Duration::ZERO);
    }

    fn commit(&mut self, group: Vec<Request>) {
        let mut staged = BTreeMap::new();
        let mut commits: Vec<Commit> = Vec::new();
        let mut answers = Vec::new();
        let mut revision = self.index.revision();
        for Request { writes, reply } in group {
            // The caller has gone, so nothing need be written.
            if reply.is_closed() {
                continue;
            }
            let checked = self.index.check(&writes, &staged);
            let answer = checked.map(|()| {
                revision = revision.next();
                let commit = index::changes(writes, revision);
                stage(&mut staged, &commit);
                commits.push(commit);
                revision
            });
            answers.push((reply, answer));
        }
        let stored = if commits.is_empty() { Ok(()) } else { self.store(&commits) };
        if stored.is_ok() && !commits.is_empty() {
            self.index.publish(commits);
        }
        for (reply, answer) in answers {
            // The caller may have gone meanwhile. The commit is stored nevertheless.
            drop(reply.send(stored.clone().and(answer)));
        }
    }

    /// Makes commits durable.
    fn store(&mut self, commits: &[Commit]) -> Result<(), Error> {
        let entries: Vec<_> = commits.iter().flat_map(record::entries).collect();
        let stored = debug_span!("batch").in_scope(|| {
            self.write(record::group_bytes(&entries), |generation| generation.append(&entries))
        });
        self.note_space(&stored);
        stored?;
        let last = commits.last().and_then(|commit| commit.first());
        match self.high_water.write(last.map_or(Revision(0), |change| change.revision)) {
            Ok(()) => {}
            Err(error) => match self.high_water_failure(error) {
                // The commits are durable. The next batch waits until the mark could be raised.
                Error::Full(_) => {}
                other => return Err(self.fail(other)),
            },
        }
        // If the files were removed, the commits are lost and must not be acknowledged.
        self.require_files()
    }

    fn require_files(&mut self) -> Result<(), Error> {
        let gone = self.file_identities.check().map_err(|gone| self.directory.missing(gone));
        gone.map_err(|error| self.fail(error))
    }

    /// Writes to the database after reserving this many bytes.
    fn write(
        &mut self,
        bytes: usize,
        work: impl FnOnce(&mut Generation) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some(error) = self.stopped.borrow().clone() {
            return Err(error);
        }
        if self.generation.is_none() {
            self.reopen()?;
        }
        let revision = self.index.revision();
        if self.high_water.revision() < revision
            && let Err(error) = self.high_water.write(revision)
        {
            let error = self.high_water_failure(error);
            return Err(self.unless_full(error));
        }
        let generation = self.generation.as_mut().expect("it was just opened");
        let needed = if self.full { bytes + RESUME_BYTES } else { bytes };
        if self.tuning.reserve
            && let Err(error) = generation.reserve(needed)
        {
            return Err(self.unless_full(error));
        }
        match work(generation) {
            Err(Error::Full(dir)) => {
                self.generation = None;
                // The caller may learn that nothing was written only if the remains of the batch are certainly
                // removed.
                match self.reopen() {
                    Ok(()) => Err(Error::Full(dir)),
                    Err(error) => Err(Error::Failed {
                        context: format!("no space was left in {dir} while a batch was written"),
                        source: Arc::new(error),
                    }),
                }
            }
            Err(error) => Err(self.fail(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Opens the database again after a full disk interrupted a batch, and removes the remains of that batch.
    fn reopen(&mut self) -> Result<(), Error> {
        let Directory { root, dir, .. } = &self.directory;
        let published = self.index.revision();
        let reopened = Generation::open(root, dir, self.number).and_then(|mut generation| {
            let image = generation.contents(published, Unacknowledged::Removed)?;
            Ok((generation, image))
        });
        match reopened {
            Ok((generation, image)) => {
                self.index.replace(Index::restore(self.tuning.limits, image));
                self.generation = Some(generation);
                Ok(())
            }
            Err(error) => Err(self.unless_full(error)),
        }
    }

    /// Stops all writes for good, unless the disk is only full.
    fn unless_full(&mut self, error: Error) -> Error {
        if matches!(error, Error::Full(_)) { error } else { self.fail(error) }
    }

    /// Stops all writes for good. Reads continue to work. Returns the error for the callers whose writes may have
    /// happened.
    fn fail(&mut self, error: Error) -> Error {
        super::stop(&self.stopped, &error);
        error
    }

    fn high_water_failure(&self, error: io::Error) -> Error {
        self.directory.failure("writing", &self.directory.high_water(), error)
    }

    fn note_space(&mut self, result: &Result<(), Error>) {
        let full = matches!(result, Err(Error::Full(_)));
        if full && !self.full {
            tracing::error!(dir = %self.directory.dir, "the disk is full: the object store is read-only");
        } else if self.full && result.is_ok() {
            tracing::info!(dir = %self.directory.dir, "the object store accepts writes again");
        }
        self.full = full;
    }

    /// Cleans up while there are no commits.
    fn idle(&mut self) {
        if !self.has_stopped() {
            // The error was logged already.
            self.require_files().ok();
        }
        self.sync_high_water(HIGH_WATER_SYNC);
        self.index.trim();
        self.renew(true);
        self.clean();
    }

    fn sync_high_water(&mut self, age: Duration) {
        if self.high_water_synced.elapsed() < age || self.has_stopped() {
            return;
        }
        self.high_water_synced = Instant::now();
        if let Err(error) = self.high_water.sync() {
            let error = self.high_water_failure(error);
            self.unless_full(error);
        }
    }

    /// Moves the data to a new generation if the database file is far larger than the data.
    fn renew(&mut self, idle: bool) {
        let stopped = self.has_stopped();
        let Some(generation) = self.generation.as_mut().filter(|_| !stopped) else {
            return;
        };
        let size = generation.size();
        let live = u64::try_from(self.index.bytes()).unwrap_or(u64::MAX);
        let (moved_size, moved_live) = self.moved;
        let (percent, changed) = if idle {
            let part = |bytes: u64| bytes / RENEW_GROWTH_DIVISOR_IDLE;
            let shrunk = live < moved_live - part(moved_live);
            (RENEW_PERCENT_IDLE, shrunk || size >= moved_size + part(moved_size))
        } else {
            (RENEW_PERCENT, size >= moved_size + moved_size / RENEW_GROWTH_DIVISOR)
        };
        let bound = live.saturating_mul(percent) / 100;
        if !changed || size < self.tuning.renew_bytes_min || size < bound {
            return;
        }
        let moved = generation
            .require_free(live.saturating_mul(2))
            .and_then(|()| self.move_data(self.number + 1));
        let after = match moved {
            Ok(after) => {
                tracing::info!(before = size, after, "the object store moved to a smaller file");
                after
            }
            Err(error) => {
                tracing::warn!(%error, "the object store could not move to a smaller file");
                size
            }
        };
        self.moved = (after, live);
    }

    fn move_data(&mut self, number: u64) -> Result<u64, Error> {
        let _phase = debug_span!("move", number).entered();
        let Directory { root, dir, .. } = &self.directory;
        let mut generation = Generation::create(root, dir, number, &self.index.image())?;
        let size = generation.size();
        self.directory.prepare_current(number)?;
        if let Err(error) = self.directory.switch_current() {
            // It is unknown now which of the two is the current one.
            return Err(self.fail(error));
        }
        self.generation = Some(generation);
        self.number = number;
        match self.directory.file_identities(number) {
            Ok(file_identities) => self.file_identities = file_identities,
            Err(error) => return Err(self.fail(error)),
        }
        self.directory.remove_others(number);
        Ok(size)
    }

    /// Removes unused data from the beginning of the log if the log is long.
    fn clean(&mut self) {
        let able = !self.full && !self.has_stopped();
        let Some(generation) = self.generation.as_ref().filter(|_| able) else {
            return;
        };
        let before = generation.log_bytes();
        let Tuning { clean_bytes_min, clean_percent, .. } = self.tuning;
        let long = (self.index.bytes() * clean_percent / 100).max(clean_bytes_min);
        if before < long.max(self.clean_from) {
            return;
        }
        let _phase = debug_span!("clean").entered();
        let image = self.index.image();
        let cleaned = self.write(CLEAN_BYTES, |generation| generation.clean(&image));
        self.note_space(&cleaned);
        if let Err(error) = cleaned {
            tracing::warn!(%error, "old versions could not be removed from the log");
        }
        let after = self.generation.as_ref().map_or(before, Generation::log_bytes);
        let worthwhile = after + CLEAN_BYTES / 4 < before;
        self.clean_from = if worthwhile { 0 } else { after + CLEAN_BYTES };
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // After a panic nothing is written any more, but reads continue to work.
        if !thread::panicking() {
            self.index.end(Error::Closed);
        }
    }
}

/// Takes further commits from the queue, up to the limits of a group. Callers that have just been answered often
/// commit again at once, so it waits for a moment until there are as many commits as in the last group.
fn gather(first: Request, queue: &mut mpsc::Receiver<Request>, company: usize) -> Vec<Request> {
    let begun = Instant::now();
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while bytes < GROUP_BYTES_MAX && group.len() < GROUP_COMMITS_MAX {
        match queue.try_recv() {
            Ok(request) => {
                bytes += request.bytes();
                group.push(request);
            }
            Err(_) if group.len() < company && begun.elapsed() < COMPANY_WAIT => {
                thread::yield_now();
            }
            Err(_) => break,
        }
    }
    group
}

impl Request {
    fn bytes(&self) -> usize {
        self.writes.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

fn stage(staged: &mut BTreeMap<Bytes, Option<Revision>>, commit: &Commit) {
    for change in commit.iter() {
        staged.insert(change.key.clone(), change.value.as_ref().map(|_| change.revision));
    }
}
