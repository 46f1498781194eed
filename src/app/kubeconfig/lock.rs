//! kubectl's lock of a kubeconfig. While a process changes FILE, the file `FILE.lock` exists (`lockFile` in
//! client-go).

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

/// A process that changes a kubeconfig needs only milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// The content of the lock files that this program creates. It also locks them with `flock`. If such a file is not
/// locked, the process that created it was killed.
const MARK: &str = "snowglobe\n";

/// The lock. It is held until it is dropped.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock of a file, at most for `WAIT_MAX`.
    pub(super) async fn take(file: &Path) -> anyhow::Result<Self> {
        let mut path = file.to_owned().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let began = Instant::now();
        loop {
            let tried = create(&path).and_then(|made| {
                if made.is_none() {
                    remove_abandoned(&path)?;
                }
                Ok(made)
            });
            if let Some(file) = tried.with_context(|| format!("cannot lock {}", path.display()))? {
                return Ok(Self { path, _file: file });
            }
            if began.elapsed() >= WAIT_MAX {
                bail!(
                    "{} has been locked for {} s: another program (kubectl, kind, ...) is changing it; if none is, one was \
                     killed while it did: remove {}",
                    file.display(),
                    WAIT_MAX.as_secs(),
                    path.display()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody else may remove the file. If somebody did, there is nothing left to do.
        fs::remove_file(&self.path).ok();
    }
}

/// Creates the lock file. `None` if it exists already.
fn create(path: &Path) -> std::io::Result<Option<File>> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            // Lock first, then write the mark: a file with the mark and without a lock was left by a killed process.
            // On a file system without `flock` the file gets no mark, like kubectl's.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                file.write_all(MARK.as_bytes())?;
            }
            Ok(Some(file))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a lock file of this program whose process was killed. A file that cannot be read belongs to kubectl.
fn remove_abandoned(path: &Path) -> std::io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut mark = String::new();
    let marked = (&file).take(64).read_to_string(&mut mark).is_ok() && mark == MARK;
    if !marked || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    // Another process may have removed the file meanwhile and created its own.
    let same = fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
        == file.metadata().ok().map(|m| (m.dev(), m.ino()));
    if same { fs::remove_file(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_others_and_says_how_to_mend() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let lock = directory.path().join("config.lock");
        // kubectl creates the lock file without content and without permissions.
        OpenOptions::new().write(true).create_new(true).mode(0o000).open(&lock).unwrap();
        let error = Lock::take(&file).await.err().unwrap().to_string();
        assert!(error.contains("has been locked for 5 s"), "{error}");
        assert!(error.contains(&format!("remove {}", lock.display())), "{error}");
        assert!(lock.exists());
        let (taken, ()) = tokio::join!(Lock::take(&file), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fs::remove_file(&lock).unwrap();
        });
        drop(taken.unwrap());
        assert!(!lock.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn own_locks_exclude_each_other_and_do_not_outlive_their_process() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let held = Lock::take(&file).await.unwrap();
        assert!(Lock::take(&file).await.is_err());
        drop(held);
        // A killed process leaves the file like this.
        let lock = directory.path().join("config.lock");
        fs::write(&lock, MARK).unwrap();
        drop(Lock::take(&file).await.unwrap());
        assert!(!lock.exists());
        // A file without the mark belongs to another program.
        fs::write(&lock, "").unwrap();
        assert!(Lock::take(&file).await.is_err());
    }
}
