//! One database directory `gen-N/`, and the only file that calls sled.
//!
//! sled 0.34 is used by three rules, without which it loses acknowledged writes at power loss: each flush is
//! followed by an `fdatasync` of its file through a descriptor of our own; everything is synced once after open;
//! no page grows into a blob (see `record`). It may panic on bytes that it does not expect: nothing gets out of here.

use std::{
    any::Any,
    cell::Cell,
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::store::{
    Error, Revision,
    index::Image,
    sled::{
        directory::STORE,
        page_table,
        record::{self, Compaction, Pair, Reader, Stored, Verdict},
        space::{self, Room},
    },
};

/// sled's page cache. The index has every value, so pages are read again only when something on them is removed.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// How much of a new generation is given to sled at once.
const COPY_BATCH_BYTES: usize = 1024 * 1024;
/// For so many commits the tree is prepared at once: it takes a few milliseconds.
const PREPARED_REVISIONS: u64 = 512;
/// What is larger becomes a batch of sled's. Otherwise sled, to which the end of a write is as good as a sync, might
/// write one segment, find that an older one is needed no more, and write over that one, all before we sync.
const UNBATCHED_BYTES_MAX: usize = 128 * 1024;
/// A batch with so many keys beyond the first ones of its commits is prepared too; fewer fit into leaves.
const PREPARED_CHUNKS_MIN: usize = 16;
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
    /// The first keys of all revisions up to this one need not be prepared any more.
    prepared_to: Cell<Revision>,
    room: Cell<Room>,
    /// Whether sled panicked: closing the database could then wait for ever.
    broken: Cell<bool>,
}

/// What a generation holds.
pub(super) struct Contents {
    pub(super) compaction: Compaction,
    pub(super) stored: Vec<Stored>,
    /// How many of `stored` lie at or before the compaction point.
    pub(super) settled: usize,
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
    ) -> Result<(Self, Compaction), Error> {
        let path = Self::path(root, number);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure(dir, format!("removing {}", path.display()), error));
            }
            _ => {}
        }
        let generation = Self::open_files(path, dir, number)?;
        let versions = u64::try_from(image.settled.len()).unwrap_or(u64::MAX);
        let compaction = Compaction { revision: image.compacted, versions };
        generation.fill(image, compaction)?;
        Ok((generation, compaction))
    }

    fn fill(&self, image: &Image, compaction: Compaction) -> Result<(), Error> {
        let changes = record::image_changes(image);
        self.prepare(changes.iter().copied().flat_map(record::change_keys))?;
        let mut batch = vec![
            (record::FORMAT_KEY.to_vec(), record::FORMAT.to_vec()),
            (record::COMPACTION_KEY.to_vec(), compaction.encode()),
        ];
        let mut bytes = 0;
        for change in changes {
            let pairs = record::encode_alone(change);
            bytes += pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            batch.extend(pairs);
            if bytes >= COPY_BATCH_BYTES {
                self.write(&mem::take(&mut batch), &[])?;
                bytes = 0;
            }
        }
        self.write(&batch, &[])?;
        self.sync_all()
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
            prepared_to: Cell::default(),
            room: Cell::default(),
            broken: Cell::new(false),
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
    pub(super) fn size(&self) -> u64 {
        self.in_room(Room::used).unwrap_or(0)
    }

    /// Makes sure that a batch of so many bytes finds room.
    pub(super) fn reserve(&self, batch_bytes: usize) -> Result<(), Error> {
        let reserved = self.in_room(|room, file| room.reserve(file, batch_bytes));
        reserved.map_err(|e| self.failure("reserving space", e))
    }

    fn in_room<T>(&self, work: impl FnOnce(&mut Room, &File) -> T) -> T {
        let mut room = self.room.get();
        let result = work(&mut room, &self.file);
        self.room.set(room);
        result
    }

    /// Whether so many bytes are free on the disk.
    pub(super) fn require_free(&self, bytes: u64) -> Result<(), Error> {
        space::require_free(&self.file, bytes).map_err(|e| self.failure("asking for free space", e))
    }

    /// Writes pairs, and removes others atomically with them; durable when this returns. Where nothing is removed, a
    /// crash may leave only the first few of the pairs. After [`Error::Full`] the database must be opened anew, after
    /// any other error it must not be used.
    pub(super) fn apply(&self, pairs: &[Pair], removed: &[Vec<u8>]) -> Result<(), Error> {
        self.in_room(Room::extend).map_err(|e| self.failure("extending", e))?;
        self.prepare_for(pairs)?;
        self.write(pairs, removed)?;
        self.file.sync_data().map_err(|e| self.failure("syncing", e))
    }

    /// Prepares the tree for a batch, if it reaches the end of what was prepared, or has many keys of its own.
    fn prepare_for(&self, pairs: &[Pair]) -> Result<(), Error> {
        let keys = || pairs.iter().map(|(key, _)| key.as_slice());
        let Some(last) = keys().filter_map(record::revision).max() else {
            return Ok(());
        };
        let mut prepared: BTreeSet<_> =
            keys().filter(|key| !record::is_first(key)).map(<[u8]>::to_vec).collect();
        if prepared.len() < PREPARED_CHUNKS_MIN {
            prepared.clear();
        }
        let from = self.prepared_to.get();
        let to = Revision(last.0.saturating_add(PREPARED_REVISIONS));
        if last >= from {
            let first = keys().filter_map(record::revision).min().unwrap_or(last);
            prepared.extend(record::first_keys(first.max(from)..to));
        }
        if prepared.is_empty() {
            return Ok(());
        }
        self.prepare(prepared)?;
        // Not before this is durable may anything be built upon it.
        self.file.sync_data().map_err(|e| self.failure("syncing", e))?;
        self.prepared_to.set(from.max(to));
        Ok(())
    }

    /// Adds keys without a value to the tree, in order. A leaf is written anew whenever it has grown by ten links or
    /// is split; it costs nothing as long as it is empty. Each value is then written once, as a link.
    fn prepare(&self, keys: impl IntoIterator<Item = Vec<u8>>) -> Result<(), Error> {
        let absent: Option<&[u8]> = None;
        let written = guarded(|| {
            for key in keys {
                // Never over what is there.
                drop(self.db().compare_and_swap(key, absent, Some(record::PREPARED))?);
            }
            self.db().flush()
        });
        self.written(written)
    }

    fn write(&self, pairs: &[Pair], removed: &[Vec<u8>]) -> Result<(), Error> {
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.written(guarded(|| {
            if removed.is_empty() && bytes <= UNBATCHED_BYTES_MAX {
                // A batch of sled's begins with a write of its own to the disk. Without one a torn group is recognised
                // too (see `record::verify`), as sled's log keeps the order.
                for (key, value) in pairs {
                    drop(self.db().insert(key.as_slice(), value.as_slice())?);
                }
            } else {
                self.db().apply_batch(batch(pairs, removed))?;
            }
            self.db().flush()
        }))
    }

    fn written(&self, result: Result<usize, Cause>) -> Result<(), Error> {
        result.map(|_bytes| ()).map_err(|cause| match cause {
            Cause::Sled(sled::Error::Io(error)) => self.failure("writing", error),
            other => {
                self.broken.set(true);
                self.failure("writing", io::Error::other(other))
            }
        })
    }

    /// Reads everything and checks that it is complete, given the last acknowledged revision. A group at the end
    /// that was cut off is removed.
    pub(super) fn contents(&self, acknowledged: Revision) -> Result<Contents, Error> {
        let (format, compaction, mut stored) = self.scan()?;
        let Verdict { settled, whole } = record::verify(&stored, compaction, acknowledged)
            .map_err(|what| self.damaged(&what))?;
        if whole < stored.len() {
            self.remove(&stored[whole..])?;
            stored.truncate(whole);
        }
        let mut contents = Contents { compaction, stored, settled };
        if format == record::FORMAT_WITHOUT_PAST {
            self.forget_past(&mut contents)?;
        }
        Ok(contents)
    }

    /// Moves the compaction point to the last revision and writes down the current format.
    fn forget_past(&self, contents: &mut Contents) -> Result<(), Error> {
        let Contents { compaction, stored, settled } = contents;
        if let Some(last) = stored.last() {
            compaction.revision = compaction.revision.max(last.change.revision);
        }
        *settled = stored.len();
        compaction.versions = u64::try_from(stored.len()).unwrap_or(u64::MAX);
        // In this order a crash between the two leaves what can be read as before.
        let pairs = [
            (record::COMPACTION_KEY.to_vec(), compaction.encode()),
            (record::FORMAT_KEY.to_vec(), record::FORMAT.to_vec()),
        ];
        self.apply(&pairs, &[])
    }

    /// Removes versions, durably.
    pub(super) fn remove(&self, stored: &[Stored]) -> Result<(), Error> {
        let keys: Vec<_> = stored.iter().flat_map(|s| record::keys(s.version())).collect();
        self.apply(&[], &keys)
    }

    fn scan(&self) -> Result<(Vec<u8>, Compaction, Vec<Stored>), Error> {
        let (format, compaction) = self.read(|| {
            Ok((self.db().get(record::FORMAT_KEY)?, self.db().get(record::COMPACTION_KEY)?))
        })?;
        let format = format.ok_or_else(|| self.damaged("the name of its format is missing"))?;
        if format != record::FORMAT && format != record::FORMAT_WITHOUT_PAST {
            let name = String::from_utf8_lossy(&format);
            return Err(Error::Unsupported(format!(
                "{} has format {name}, this version reads format {}; use the version that wrote it",
                self.path.display(),
                String::from_utf8_lossy(record::FORMAT)
            )));
        }
        let compaction = compaction.ok_or_else(|| "the compaction point is missing".to_owned());
        let compaction = compaction
            .and_then(|value| Compaction::decode(&value))
            .map_err(|what| self.damaged(&what))?;
        let stored = self.read(|| {
            let mut reader = Reader::default();
            for pair in self.db().scan_prefix(record::RECORD_PREFIX) {
                let (key, value) = pair?;
                // sled looks at the size of its cache each 64th time that one of 256 groups of pages is used. A scan
                // uses a page but once: without these looks all of them would stay in memory.
                drop(self.db().get(&key)?);
                if let Err(what) = reader.feed(&key, &value) {
                    return Ok(Err(what));
                }
            }
            Ok(Ok(reader.into_stored()))
        })?;
        let stored = stored.map_err(|what| self.damaged(&what))?;
        Ok((format.to_vec(), compaction, stored))
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
        if self.broken.get() {
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

/// An I/O error as one of the store: a full disk has its own.
pub(super) fn failure(dir: &str, context: String, error: io::Error) -> Error {
    if space::is_full(&error) {
        return Error::Full(dir.to_owned());
    }
    Error::Failed { context, source: Arc::new(error) }
}

/// Damage to something in the store's directory or below, and what remains to be done.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    let store = path.ancestors().find(|ancestor| ancestor.ends_with(STORE)).unwrap_or(path);
    let (path, dir) = (path.display(), store.parent().unwrap_or(store).display());
    let store = store.display();
    Error::Damaged(format!(
        "{path}: {what}; move {store} away and run `snowglobe snapshot restore FILE --data-dir {dir}`"
    ))
}

/// Syncs one file or directory.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_tree(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    sync_file(path)
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
