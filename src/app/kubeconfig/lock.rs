//! kubectl's lock of a kubeconfig: the file `FILE.lock` is there while somebody changes FILE (client-go's `lockFile`).

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

/// Who changes a kubeconfig is done in milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// In our own lock files, which are also locked as the kernel does it: such a file that nobody has locked was left behind by
/// a process that was killed.
const MARK: &str = "snowglobe\n";

/// Held until dropped.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock of a file, a bounded time.
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
        // Nobody else may remove it; if somebody did, it is gone as it should be.
        fs::remove_file(&self.path).ok();
    }
}

/// The lock file, unless there is one.
fn create(path: &Path) -> std::io::Result<Option<File>> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            // Locked before it is marked: what is marked and not locked has lost its owner. Where a file system has no such
            // locks, it is not marked, and is like kubectl's.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                file.write_all(MARK.as_bytes())?;
            }
            Ok(Some(file))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a lock file of ours whose process is gone. One that cannot be read is kubectl's.
fn remove_abandoned(path: &Path) -> std::io::Result<()> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut mark = String::new();
    let marked = (&file).take(64).read_to_string(&mut mark).is_ok() && mark == MARK;
    if !marked || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    // Another one may have removed it meanwhile, and made its own.
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
        // kubectl's own lock has neither content nor permissions.
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
        // As a killed process leaves it.
        let lock = directory.path().join("config.lock");
        fs::write(&lock, MARK).unwrap();
        drop(Lock::take(&file).await.unwrap());
        assert!(!lock.exists());
        // One without the mark is somebody's.
        fs::write(&lock, "").unwrap();
        assert!(Lock::take(&file).await.is_err());
    }
}
