//! The store's directory: its lock, and which generation of the database is the current one.
//!
//! `DIR/store/` holds `lock`, `high-water` (see `high_water`), `CURRENT`, which names `gen-N/`, and that directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::store::{
    Error,
    sled::{
        disk::{STORE, damaged, failure, sync_file},
        generation::Generation,
        presence::Presence,
    },
};

const CURRENT: &str = "CURRENT";
const CURRENT_NEXT: &str = "CURRENT.next";
const GENERATION_PREFIX: &str = "gen-";
const HIGH_WATER: &str = "high-water";
const LOCK: &str = "lock";
/// Objects include secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// The locked directory; the lock is given back when this is dropped.
pub(super) struct Directory {
    /// The data directory as the user named it.
    pub(super) dir: String,
    /// `DIR/store`.
    pub(super) root: PathBuf,
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file would do, were it not for a child that another thread is just forking: until its exec it
        // holds a copy. If this fails, closing still follows.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

impl Directory {
    /// Makes the directory if need be, and locks it.
    pub(super) fn lock(dir: &Path) -> Result<Self, Error> {
        let root = dir.join(STORE);
        let name = dir.display().to_string();
        let fail = |error| failure(&name, format!("preparing {}", root.display()), error);
        make_durable_directory(&root).map_err(fail)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join(LOCK))
            .map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::InUse(name)),
            Err(errno) => return Err(fail(errno.into())),
        }
        Ok(Self { dir: name, root, lock })
    }

    /// Where the high-water mark is.
    pub(super) fn high_water(&self) -> PathBuf {
        self.root.join(HIGH_WATER)
    }

    /// The files without which what is written to a generation could not be read again.
    pub(super) fn presence(&self, number: u64) -> Result<Presence, Error> {
        let in_root = |name| self.root.join(name);
        let database = Generation::path(&self.root, number).join("db");
        let files = [in_root(LOCK), self.high_water(), in_root(CURRENT), database];
        Presence::of(files).map_err(|gone| self.missing(gone))
    }

    /// A file that is not where it was.
    pub(super) fn missing(&self, (path, error): (PathBuf, io::Error)) -> Error {
        self.failure("looking for", &path, error)
    }

    /// The current generation; `None` when the store has never been completed.
    pub(super) fn current(&self) -> Result<Option<u64>, Error> {
        let path = self.root.join(CURRENT);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failure("reading", &path, error)),
        };
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| generation_number(text.strip_suffix('\n')?))
            .map(Some)
            .ok_or_else(|| damaged(&path, "it does not name a generation"))
    }

    /// Writes down which generation, durable already, [`Directory::switch_current`] makes the current one.
    pub(super) fn prepare_current(&self, number: u64) -> Result<(), Error> {
        let path = self.root.join(CURRENT_NEXT);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(format!("{GENERATION_PREFIX}{number}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| self.failure("writing", &path, e))
    }

    /// Makes the prepared generation the current one.
    pub(super) fn switch_current(&self) -> Result<(), Error> {
        let path = self.root.join(CURRENT);
        fs::rename(self.root.join(CURRENT_NEXT), &path)
            .and_then(|()| sync_file(&self.root))
            .map_err(|e| self.failure("replacing", &path, e))
    }

    /// The generations that exist.
    pub(super) fn generations(&self) -> Result<Vec<u64>, Error> {
        let list = || {
            let mut numbers = Vec::new();
            for entry in fs::read_dir(&self.root)? {
                numbers.extend(entry?.file_name().to_str().and_then(generation_number));
            }
            Ok(numbers)
        };
        list().map_err(|e| self.failure("listing", &self.root, e))
    }

    /// Removes all generations but one; what cannot be removed now is removed at the next start.
    pub(super) fn remove_others(&self, keep: u64) {
        for number in self.generations().unwrap_or_default() {
            let path = self.root.join(format!("{GENERATION_PREFIX}{number}"));
            if number == keep {
                continue;
            }
            if let Err(error) = fs::remove_dir_all(&path) {
                let path = path.display();
                tracing::warn!(%path, %error, "an old generation of the store was not removed");
            }
        }
    }

    /// An I/O error on a file of this directory.
    pub(super) fn failure(&self, action: &str, path: &Path, error: io::Error) -> Error {
        failure(&self.dir, format!("{action} {}", path.display()), error)
    }
}

/// Makes a directory and what is missing above it; a power cut does not take them away again.
fn make_durable_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents.filter(|parent| parent.exists()).try_for_each(sync_file)
}

/// The number in `gen-N`, written as we write it.
fn generation_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(GENERATION_PREFIX)?.parse().ok()?;
    (format!("{GENERATION_PREFIX}{number}") == name).then_some(number)
}
