//! One database directory `gen-N/`, and the only file that calls sled.
//!
//! sled 0.34 is used by three rules, without which it loses acknowledged writes at power loss: each flush is
//! followed by an `fdatasync` of its file through a descriptor of our own; everything is synced once after open;
//! no page grows into a blob (see `record`). It may panic on bytes that it does not expect: nothing gets out of here.

use std::{
    any::Any,
    fs::{self, File, OpenOptions},
    io, mem,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    slice, thread,
    time::Duration,
};

use crate::store::{
    Error, Revision,
    index::Image,
    sled::{
        disk::{damaged, failure, sync_file, sync_tree},
        page_table,
        record::{self, Compaction, Entry, Group, Log, Pair, Reader, Rest},
        space::{self, Room},
    },
};

/// sled's page cache. The index has every value, so pages are read again only when the log is cleaned.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How much of an image becomes one group of a new generation.
const COPY_BYTES: usize = 1024 * 1024;
/// How much of the log is cleaned at once, about.
pub(super) const CLEAN_BYTES: usize = 1024 * 1024;
/// For so many chunks the tree is prepared at once (see [`Generation::write_in_order`]): each ninth key splits a leaf,
/// and each split makes sled write an old page anew, mostly of 54 KiB; together less than a segment.
const PREPARED_AT_ONCE: u64 = 48;
/// After so many chunks, which are less than a segment, a group is synced.
const SYNCED_CHUNKS: usize = 80;
/// So many keys are prepared ahead: mostly no group has to wait for its own.
const PREPARED_AHEAD: u64 = 256;
/// Keys of one leaf, at most. The last leaf is split when more come.
const LEAF_KEYS_MAX: u64 = 17;
/// After closing, sled's own threads may hold its lock for a moment.
const LOCK_RETRIES: u32 = 100;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// An open database.
pub(super) struct Generation {
    number: u64,
    path: PathBuf,
    /// The data directory, for errors.
    dir: String,
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    file: File,
    /// The chunks of the log, and how many bytes they have.
    log: Range<u64>,
    log_bytes: usize,
    /// The keys of all chunks before this one are in the tree.
    prepared_to: u64,
    /// The leaves of all chunks before this one are older than this process: they may have links already.
    inherited_to: u64,
    room: Room,
    /// Whether sled panicked: closing the database could then wait for ever.
    broken: bool,
}

/// What becomes of a group at the end that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unacknowledged {
    /// It stays if it is whole.
    Kept,
    /// It goes.
    Removed,
}

impl Generation {
    /// The directory of a generation.
    pub(super) fn path(root: &Path, number: u64) -> PathBuf {
        root.join(format!("gen-{number}"))
    }

    /// Makes a durable database that holds an image. What an interrupted attempt left is removed first.
    pub(super) fn create(
        root: &Path,
        dir: &str,
        number: u64,
        image: &Image,
    ) -> Result<Self, Error> {
        let path = Self::path(root, number);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure(dir, format!("removing {}", path.display()), error));
            }
            _ => {}
        }
        let mut generation = Self::open_files(path, dir, number)?;
        generation.fill(image)?;
        Ok(generation)
    }

    fn fill(&mut self, image: &Image) -> Result<(), Error> {
        let mut group = Vec::new();
        let mut bytes = 0;
        for entry in record::image_entries(image) {
            bytes += record::group_bytes(slice::from_ref(&entry));
            group.push(entry);
            if bytes >= COPY_BYTES {
                self.copy(&mem::take(&mut group))?;
                bytes = 0;
            }
        }
        self.copy(&group)?;
        let compaction = Compaction { revision: image.compacted, chunks: self.log.clone() };
        let pairs = [
            (record::FORMAT_KEY.to_vec(), record::FORMAT.to_vec()),
            (record::COMPACTION_KEY.to_vec(), compaction.encode()),
        ];
        self.write_at_once(&pairs, &[])?;
        self.sync_all()
    }

    /// Writes a group to a database of which nothing needs to be durable yet.
    fn copy(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let pairs = record::encode(entries, self.log.end);
        let end = self.end_after(&pairs);
        while self.prepared_to < end {
            self.write_in_order(&self.unprepared(end))?;
        }
        self.write_at_once(&pairs, &[])?;
        self.log.end = end;
        self.log_bytes += record::group_bytes(entries);
        Ok(())
    }

    /// Opens an existing database and makes all of it durable.
    pub(super) fn open(root: &Path, dir: &str, number: u64) -> Result<Self, Error> {
        let path = Self::path(root, number);
        let existing = fs::metadata(path.join("db")).map(|status| status.len()).unwrap_or(0);
        if existing == 0 {
            return Err(damaged(&path, "its file `db` is missing or empty"));
        }
        let generation = Self::open_files(path, dir, number)?;
        generation.sync_all()?;
        page_table::forget(&generation.path);
        Ok(generation)
    }

    fn open_files(path: PathBuf, dir: &str, number: u64) -> Result<Self, Error> {
        let db = Some(open_database(&path, dir)?);
        let file = OpenOptions::new().read(true).write(true).open(path.join("db"));
        let file = file.map_err(|e| failure(dir, format!("opening {}", path.display()), e))?;
        Ok(Self {
            number,
            path,
            dir: dir.to_owned(),
            db,
            file,
            log: record::FIRST_CHUNK..record::FIRST_CHUNK,
            log_bytes: 0,
            prepared_to: record::FIRST_CHUNK,
            inherited_to: record::FIRST_CHUNK,
            room: Room::default(),
            broken: false,
        })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("open until dropped")
    }

    /// Which generation it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the database file that are in use.
    pub(super) fn size(&mut self) -> u64 {
        self.room.used(&self.file).unwrap_or(0)
    }

    /// Bytes of the log.
    pub(super) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Makes sure that a group of so many bytes finds room.
    pub(super) fn reserve(&mut self, group_bytes: usize) -> Result<(), Error> {
        let reserved = self.room.reserve(&self.file, group_bytes);
        reserved.map_err(|e| self.failure("reserving space", e))
    }

    /// Whether so many bytes are free on the disk.
    pub(super) fn require_free(&self, bytes: u64) -> Result<(), Error> {
        space::require_free(&self.file, bytes).map_err(|e| self.failure("asking for free space", e))
    }

    /// Writes a group; durable when this returns. A crash may leave only the first few of its chunks. After
    /// [`Error::Full`] the database must be opened anew, after any other error it must not be used.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), Error> {
        self.extend()?;
        let mut pairs = record::encode(entries, self.log.end);
        let end = self.end_after(&pairs);
        self.prepare(end)?;
        if self.log.end < self.inherited_to {
            self.write_at_once(&pairs, &[])?;
            self.sync()?;
        } else {
            while pairs.len() > SYNCED_CHUNKS {
                let rest = pairs.split_off(SYNCED_CHUNKS);
                self.write_in_order(&mem::replace(&mut pairs, rest))?;
                self.sync()?;
            }
            pairs.extend(self.unprepared(end + PREPARED_AHEAD));
            self.write_in_order(&pairs)?;
            self.sync()?;
        }
        self.log.end = end;
        self.log_bytes += record::group_bytes(entries);
        Ok(())
    }

    /// Where the log ends when these chunks have been appended.
    fn end_after(&self, pairs: &[Pair]) -> u64 {
        self.log.end + u64::try_from(pairs.len()).unwrap_or(u64::MAX)
    }

    /// Removes some of the oldest groups that hold no history, and first copies to the end of the log what is still
    /// needed of them, atomically and durably. Fails as [`Self::append`] does.
    pub(super) fn clean(&mut self, image: &Image) -> Result<(), Error> {
        let mut survivors = Vec::new();
        let mut start = self.log.start;
        let mut removed_bytes = 0;
        for group in self.oldest_groups()? {
            let Some(entries) = record::survivors(group.entries, image) else {
                break;
            };
            survivors.extend(entries);
            start = group.chunks.end;
            removed_bytes += group.bytes;
        }
        let removed: Vec<_> = (self.log.start..start).map(record::chunk_key).collect();
        if removed.is_empty() {
            return Ok(());
        }
        self.extend()?;
        let mut pairs = record::encode(&survivors, self.log.end);
        let chunks = start..self.end_after(&pairs);
        self.prepare(chunks.end)?;
        let compaction = Compaction { revision: image.compacted, chunks: chunks.clone() };
        pairs.push((record::COMPACTION_KEY.to_vec(), compaction.encode()));
        self.write_at_once(&pairs, &removed)?;
        self.log = chunks;
        self.log_bytes += record::group_bytes(&survivors);
        self.log_bytes -= removed_bytes;
        self.sync()
    }

    fn oldest_groups(&self) -> Result<Vec<Group>, Error> {
        let mut groups = Vec::new();
        let mut bytes = 0;
        self.scan(self.log.start, |group| {
            bytes += group.bytes;
            groups.push(group);
            bytes < CLEAN_BYTES
        })?;
        Ok(groups)
    }

    fn extend(&mut self) -> Result<(), Error> {
        let extended = self.room.extend(&self.file);
        extended.map_err(|e| self.failure("extending", e))
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| self.failure("syncing", e))
    }

    /// Adds the keys of the chunks up to `end` to the tree without a value, durably, if that was not done before. A
    /// leaf is written anew whenever it has grown by ten links or is split; it costs nothing as long as it is empty.
    /// Each value is then written once, as a link: keys that come in order make leaves of nine.
    fn prepare(&mut self, end: u64) -> Result<(), Error> {
        while self.prepared_to < end {
            self.write_in_order(&self.unprepared(end))?;
            // Not before this is durable may anything be built upon it.
            self.sync()?;
        }
        Ok(())
    }

    /// The keys of the next chunks that are not prepared yet, up to `end`, without a value.
    fn unprepared(&self, end: u64) -> Vec<Pair> {
        let end = end.min(self.prepared_to + PREPARED_AT_ONCE);
        (self.prepared_to..end).map(record::prepared_pair).collect()
    }

    /// Writes pairs one after the other: chunks to keys that this process has prepared, then prepared keys. A torn group
    /// is recognised (see `record::Torn`), as sled's log keeps the order.
    ///
    /// To sled the end of a write is as good as a sync: it may write one segment, find that an older one is needed no
    /// more, and write over that one, all before we sync. It does not before a whole segment was written after the one
    /// with the newer page; so between two syncs must lie less than that. Chunks are mere links, and prepared keys so few
    /// that what sled writes anew for them is less than a segment too. Anything else must be a batch.
    fn write_in_order(&mut self, pairs: &[Pair]) -> Result<(), Error> {
        let written = guarded(|| {
            for (key, value) in pairs {
                drop(self.db().insert(key.as_slice(), value.as_slice())?);
            }
            self.db().flush()
        });
        self.written(written)?;
        let prepared = pairs.iter().filter(|(_, value)| value == record::PREPARED).count();
        self.prepared_to += u64::try_from(prepared).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Writes pairs and removes others as a batch of sled's: atomically, at the price of one more write to the disk, and
    /// in no order.
    fn write_at_once(&mut self, pairs: &[Pair], removed: &[Vec<u8>]) -> Result<(), Error> {
        let written = guarded(|| {
            self.db().apply_batch(batch(pairs, removed))?;
            self.db().flush()
        });
        self.written(written)
    }

    fn written(&mut self, result: Result<usize, Cause>) -> Result<(), Error> {
        result.map(|_bytes| ()).map_err(|cause| match cause {
            Cause::Sled(sled::Error::Io(error)) => self.failure("writing", plain(error)),
            other => {
                self.broken = true;
                self.failure("writing", io::Error::other(other))
            }
        })
    }

    /// Reads everything and checks that it is complete, given the last acknowledged revision. A group at the end
    /// that was cut off is emptied.
    pub(super) fn contents(
        &mut self,
        acknowledged: Revision,
        unacknowledged: Unacknowledged,
    ) -> Result<Image, Error> {
        let compaction = self.compaction()?;
        let mut log = Log::new(compaction.chunks.start);
        let Rest { torn, end } = self.scan(compaction.chunks.start, |group| {
            log.push(group);
            true
        })?;
        log.verify(torn.as_ref(), &compaction, acknowledged).map_err(|what| self.damaged(&what))?;
        let whole = log.chunks.end;
        if unacknowledged == Unacknowledged::Removed {
            log.cut(acknowledged);
        }
        if torn.is_some() || log.chunks.end < whole {
            let emptied: Vec<_> = (log.chunks.end..end).map(record::prepared_pair).collect();
            self.write_at_once(&emptied, &[])?;
            self.sync()?;
        }
        self.log = log.chunks.clone();
        self.log_bytes = log.bytes;
        self.prepared_to = end;
        self.inherited_to = end + LEAF_KEYS_MAX;
        Ok(log.into_image(compaction.revision))
    }

    fn compaction(&self) -> Result<Compaction, Error> {
        let (format, compaction) = self.read(|| {
            Ok((self.db().get(record::FORMAT_KEY)?, self.db().get(record::COMPACTION_KEY)?))
        })?;
        let format = format.ok_or_else(|| self.damaged("the name of its format is missing"))?;
        if format != record::FORMAT {
            return Err(Error::Unsupported(format!(
                "{} has format {}, this version reads format {}; save a snapshot with the version \
                 that wrote it, and restore that",
                self.path.display(),
                String::from_utf8_lossy(&format),
                String::from_utf8_lossy(record::FORMAT)
            )));
        }
        compaction
            .ok_or_else(|| "the compaction point is missing".to_owned())
            .and_then(|value| Compaction::decode(&value))
            .map_err(|what| self.damaged(&what))
    }

    /// Reads groups from one with this first chunk on, as long as `take` wants more.
    fn scan(&self, first: u64, mut take: impl FnMut(Group) -> bool) -> Result<Rest, Error> {
        let rest = self.read(|| {
            let mut reader = Reader::new(first);
            for pair in self.db().range(record::chunk_key(first)..=record::chunk_key(u64::MAX)) {
                let (key, value) = pair?;
                // sled looks at the size of its cache each 64th time that one of 256 groups of pages is used. A scan
                // uses a page but once: without these looks all of them would stay in memory.
                drop(self.db().get(&key)?);
                match reader.feed(&key, &value) {
                    Ok(None) => {}
                    Ok(Some(group)) => {
                        if !take(group) {
                            break;
                        }
                    }
                    Err(what) => return Ok(Err(what)),
                }
            }
            Ok(Ok(reader.into_rest()))
        })?;
        rest.map_err(|what| self.damaged(&what))
    }

    fn read<T>(&self, work: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        guarded(work).map_err(|cause| unreadable(&self.path, &self.dir, cause))
    }

    fn sync_all(&self) -> Result<(), Error> {
        let root = self.path.parent().expect("a generation lies in the store's directory");
        sync_tree(&self.path).and_then(|()| sync_file(root)).map_err(|e| self.failure("syncing", e))
    }

    fn failure(&self, action: &str, error: io::Error) -> Error {
        failure(&self.dir, format!("{action} {}", self.path.display()), error)
    }

    fn damaged(&self, what: &str) -> Error {
        damaged(&self.path, what)
    }
}

impl Drop for Generation {
    /// Closes the database and gives back the lock on its files.
    fn drop(&mut self) {
        let db = self.db.take();
        if self.broken {
            mem::forget(db);
        } else if guarded(|| {
            drop(db);
            Ok(())
        })
        .is_err()
        {
            tracing::warn!(path = %self.path.display(), "the database did not close cleanly");
        }
    }
}

fn batch(pairs: &[Pair], removed: &[Vec<u8>]) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for key in removed {
        batch.remove(key.as_slice());
    }
    for (key, value) in pairs {
        batch.insert(key.as_slice(), value.as_slice());
    }
    batch
}

/// sled hands over some errors of the system as their debug text.
fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text.strip_prefix("Os { code: ").and_then(|rest| rest.split_once(','));
    match code.and_then(|(code, _)| code.parse().ok()) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}

fn open_database(path: &Path, dir: &str) -> Result<sled::Db, Error> {
    page_table::keep(path).map_err(|e| failure(dir, format!("preparing {}", path.display()), e))?;
    let mut retries = LOCK_RETRIES;
    loop {
        // No thread of sled's: nothing is written but what a batch writes.
        let config = sled::Config::new()
            .path(path)
            .segment_size(space::SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        match guarded(|| config.open()) {
            Ok(db) => return Ok(db),
            Err(Cause::Sled(error)) if is_locked(&error) && retries > 0 => {
                retries -= 1;
                thread::park_timeout(LOCK_RETRY_PAUSE);
            }
            Err(Cause::Sled(error)) if is_locked(&error) => {
                return Err(Error::InUse(dir.to_owned()));
            }
            Err(cause) => return Err(unreadable(path, dir, cause)),
        }
    }
}

/// sled names a held lock only in the text of its error.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// Why sled could not read: an I/O error is one, whatever else it trips over is damage.
fn unreadable(path: &Path, dir: &str, cause: Cause) -> Error {
    match cause {
        Cause::Sled(sled::Error::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            failure(dir, format!("reading {}", path.display()), error)
        }
        other => damaged(path, &other.to_string()),
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Sled(sled::Error),
    #[error("sled panicked: {0}")]
    Panic(String),
}

/// Runs work inside sled and turns a panic into an error.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Cause> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Cause::Sled),
        Err(panic) => Err(Cause::Panic(text(&*panic))),
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()))
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_readable() {
        let system = io::Error::from_raw_os_error(30);
        let wrapped = io::Error::new(system.kind(), format!("{system:?}"));
        assert_eq!(plain(wrapped).to_string(), system.to_string());
        assert_eq!(plain(io::Error::other("Os { x")).to_string(), "Os { x");
    }
}
