//! The directory of the store: its lock, and the current generation of the database.
//!
//! `DIR/store/` contains `lock`, `high-water` (see `high_water`), a directory `gen-N/`, and `CURRENT`, which contains
//! its name.

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
        file_identities::FileIdentities,
        generation::Generation,
    },
};

const CURRENT: &str = "CURRENT";
const CURRENT_NEXT: &str = "CURRENT.next";
const GENERATION_PREFIX: &str = "gen-";
const HIGH_WATER: &str = "high-water";
const LOCK: &str = "lock";
/// Only the owner may read it, because objects include Secrets.
const DIRECTORY_MODE: u32 = 0o700;

/// The locked directory. The lock is released when this is dropped.
pub(super) struct Directory {
    /// The data directory as the user wrote it.
    pub(super) dir: String,
    /// `DIR/store`.
    pub(super) root: PathBuf,
    lock: File,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file would release the lock too, but a child process that another thread is forking has a copy
        // of the file until its exec. If this fails, the file is closed anyway.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

impl Directory {
    /// Creates the directory if it does not exist, and locks it.
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

    /// The path of the high-water mark.
    pub(super) fn high_water(&self) -> PathBuf {
        self.root.join(HIGH_WATER)
    }

    /// The files that are necessary to read a generation again.
    pub(super) fn file_identities(&self, number: u64) -> Result<FileIdentities, Error> {
        let in_root = |name| self.root.join(name);
        let database = Generation::path(&self.root, number).join("db");
        let files = [in_root(LOCK), self.high_water(), in_root(CURRENT), database];
        FileIdentities::of(files).map_err(|gone| self.missing(gone))
    }

    /// The error for a file that was removed or replaced.
    pub(super) fn missing(&self, (path, error): (PathBuf, io::Error)) -> Error {
        self.failure("looking for", &path, error)
    }

    /// The current generation; `None` if the store is unfinished.
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

    /// Writes the number of a durable generation into a new file, which [`Directory::switch_current`] makes
    /// `CURRENT`.
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

    /// The numbers of the existing generations.
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

    /// Removes all generations but one. Those that cannot be removed now are removed at the next start.
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

/// Creates a directory and its missing parents durably.
fn make_durable_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents.filter(|parent| parent.exists()).try_for_each(sync_file)
}

/// The number in `gen-N`, if it has the canonical form.
fn generation_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(GENERATION_PREFIX)?.parse().ok()?;
    (format!("{GENERATION_PREFIX}{number}") == name).then_some(number)
}
