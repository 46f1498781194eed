//! Whether the store's files are still where they were opened: a file that was removed takes writes as before, and
//! keeps none of them.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Files by path, and which they are.
pub(super) struct Presence {
    files: Vec<(PathBuf, Identity)>,
}

/// Device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u32, u32, u64);

impl Presence {
    /// What is at these paths now. On failure it tells where.
    pub(super) fn of(paths: [PathBuf; 4]) -> Result<Self, (PathBuf, io::Error)> {
        let mut files = Vec::new();
        for path in paths {
            match identity(&path) {
                Ok(identity) => files.push((path, identity)),
                Err(error) => return Err((path, error)),
            }
        }
        Ok(Self { files })
    }

    /// Whether the same files are there. On failure it tells which one is not.
    pub(super) fn check(&self) -> Result<(), (PathBuf, io::Error)> {
        for (path, opened) in &self.files {
            let error = match identity(path) {
                Ok(found) if found == *opened => continue,
                Ok(_other) => io::Error::other("it was replaced by another file"),
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    io::Error::new(error.kind(), "it was removed or moved away")
                }
                Err(error) => error,
            };
            return Err((path.clone(), error));
        }
        Ok(())
    }
}

/// Asks for no times: after that, Linux would give the next write a time stamp of its own (see `space`).
fn identity(path: &Path) -> io::Result<Identity> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok(Identity(found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}
