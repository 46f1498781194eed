//! Detects that files of the store were removed or replaced. Writes to a removed file succeed, but they are lost.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// The paths and identities of files.
pub(super) struct FileIdentities {
    files: Vec<(PathBuf, Identity)>,
}

/// The device and the inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u32, u32, u64);

impl FileIdentities {
    /// The identities of the files at these paths. The error names the path.
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

    /// Checks that the paths still lead to the same files. The error names the path that does not.
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

/// Requests no timestamps: after a request for them, Linux would give the next write a new timestamp, which costs a
/// write (see `space`).
fn identity(path: &Path) -> io::Result<Identity> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok(Identity(found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}
