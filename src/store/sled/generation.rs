//! One database directory `gen-N/`. No other file calls sled.
//!
//! sled 0.34 loses acknowledged writes at power loss unless three rules are kept: after each flush the file is synced
//! by `fdatasync` through a descriptor of our own; after opening, everything is synced once; no page becomes a blob
//! (see `record`). sled may panic on damaged files. All panics are caught here.

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
        record::{self, Compaction, Entry, Group, Log, Pair, Reader, Tail},
        space::{self, FreeSpace},
    },
};

/// The size of sled's page cache. The index has all values, so pages are read again only when the log is cleaned.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How many bytes of an image become a group of a new generation.
const COPY_BYTES: usize = 1024 * 1024;
/// About how many bytes of the log are cleaned at a time.
pub(super) const CLEAN_BYTES: usize = 1024 * 1024;
/// The tree is prepared for this many chunks at a time (see [`Generation::write_in_order`]). Every ninth key splits a
/// leaf, and for each split sled writes an old page again, mostly of 54 KiB. Together this is less than a segment.
const PREPARED_AT_ONCE: u64 = 48;
/// A group is synced after this many chunks, which are less than a segment.
const SYNCED_CHUNKS: usize = 80;
/// How many keys are prepared in advance, so that groups rarely wait for a preparation.
const PREPARED_AHEAD: u64 = 256;
/// The largest number of keys in a leaf. After that the last leaf is split.
const LEAF_KEYS_MAX: u64 = 17;
/// How often opening is retried: after closing, sled's threads may hold its lock for a moment.
const LOCK_RETRIES: u32 = 100;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// An open database.
pub(super) struct Generation {
    number: u64,
    path: PathBuf,
    /// The data directory, for error messages.
    dir: String,
    /// `None` only during drop.
    db: Option<sled::Db>,
    file: File,
    /// The numbers of the chunks in the log, and their bytes.
    log: Range<u64>,
    log_bytes: usize,
    /// The keys of all chunks before this one are in the tree.
    prepared_to: u64,
    /// The leaves of all chunks before this one were written by an earlier process. They may have links already.
    inherited_to: u64,
    room: FreeSpace,
    /// Whether sled has panicked. Then closing the database could hang.
    broken: bool,
}

/// What to do with a last group that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unacknowledged {
    /// Keep it if it is complete.
    Kept,
    /// Remove it.
    Removed,
}

impl Generation {
    /// The directory of a generation.
    pub(super) fn path(root: &Path, number: u64) -> PathBuf {
        root.join(format!("gen-{number}"))
    }

    /// Creates a durable database with the data of an image. First removes the remains of an interrupted attempt.
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

    /// Writes a group to a database that need not be durable yet.
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
            room: FreeSpace::default(),
            broken: false,
        })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("open until dropped")
    }

    /// The number of the generation.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The used bytes of the database file.
    pub(super) fn size(&mut self) -> u64 {
        self.room.used(&self.file).unwrap_or(0)
    }

    /// The bytes of the log.
    pub(super) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Reserves disk space for a group of this many bytes.
    pub(super) fn reserve(&mut self, group_bytes: usize) -> Result<(), Error> {
        let reserved = self.room.reserve(&self.file, group_bytes);
        reserved.map_err(|e| self.failure("reserving space", e))
    }

    /// Checks that this many bytes of the disk are free.
    pub(super) fn require_free(&self, bytes: u64) -> Result<(), Error> {
        space::require_free(&self.file, bytes).map_err(|e| self.failure("asking for free space", e))
    }

    /// Writes a group. It is durable when this returns. A crash may leave only its first chunks. After
    /// [`Error::Full`] the database must be opened again. After any other error it must not be used any more.
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

    /// The end of the log after these chunks are appended.
    fn end_after(&self, pairs: &[Pair]) -> u64 {
        self.log.end + u64::try_from(pairs.len()).unwrap_or(u64::MAX)
    }

    /// Removes some of the oldest groups that contain no history. Entries that are still needed are copied to the end
    /// of the log first, atomically and durably. It fails as [`Self::append`] does.
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

    /// Adds the keys of the chunks up to `end` to the tree, without values and durably, unless they are there
    /// already. sled writes a leaf again whenever it has got ten links or is split, but an empty leaf costs nothing.
    /// So each value is written only once, as a link. Keys that are added in order make leaves of nine keys.
    fn prepare(&mut self, end: u64) -> Result<(), Error> {
        while self.prepared_to < end {
            self.write_in_order(&self.unprepared(end))?;
            // Nothing may be written on top of this before it is durable.
            self.sync()?;
        }
        Ok(())
    }

    /// The pairs without values for the keys up to `end` that are not prepared yet.
    fn unprepared(&self, end: u64) -> Vec<Pair> {
        let end = end.min(self.prepared_to + PREPARED_AT_ONCE);
        (self.prepared_to..end).map(record::prepared_pair).collect()
    }

    /// Writes pairs one after another: chunks to keys that this process has prepared, or prepared keys. sled's log
    /// keeps the order, so that a torn group can be recognised (see `record::Torn`).
    ///
    /// sled treats a completed write as if it were synced: it may write a segment, find that this makes an older
    /// segment unused, and overwrite that one, all before our sync. It never does so before it has written a whole
    /// segment after the one with the newer page. So less than a segment may be written between two syncs. Chunks are
    /// only links, and so few keys are prepared that sled writes less than a segment for them. All other writes must
    /// be a batch.
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

    /// Writes and removes pairs in one batch of sled: atomically and in no order. It costs one more write to the
    /// disk.
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

    /// Reads all data and checks that it is complete up to the last acknowledged revision. An incomplete last group
    /// is emptied.
    pub(super) fn contents(
        &mut self,
        acknowledged: Revision,
        unacknowledged: Unacknowledged,
    ) -> Result<Image, Error> {
        let compaction = self.compaction()?;
        let mut log = Log::new(compaction.chunks.start);
        let Tail { torn, end } = self.scan(compaction.chunks.start, |group| {
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

    /// Reads groups, beginning with the one with this first chunk, until `take` returns false.
    fn scan(&self, first: u64, mut take: impl FnMut(Group) -> bool) -> Result<Tail, Error> {
        let rest = self.read(|| {
            let mut reader = Reader::new(first);
            for pair in self.db().range(record::chunk_key(first)..=record::chunk_key(u64::MAX)) {
                let (key, value) = pair?;
                // sled checks the size of its cache at every 64th use of one of 256 groups of pages. A scan uses each
                // page only once. Without these reads all pages would stay in memory.
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
            Ok(Ok(reader.into_tail()))
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
    /// Closes the database and releases the lock on its files.
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

/// Restores an error of the operating system that sled returns as debug text.
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
        // No background thread of sled: only batches may write.
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

/// sled reports a held lock only in the text of its error.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// The error for a failed read of sled: an I/O error, or damage in all other cases.
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

/// Calls sled and turns a panic into an error.
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
