//! Keys and certificates of the cluster: [its authority](certificates), and [the key that signs tokens](jwt). They are kept
//! in one directory, readable by their owner only. Nothing here knows who may do what, or how connections are made.

pub mod certificates;
pub mod jwt;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key could not be made or read.
    #[error(
        "cannot make or read the certificates in {path}; remove that directory to get new ones"
    )]
    Certificate {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// Replaces a file in one step, readable by its owner only.
fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let write = || {
        // A left-over of a crash could have another mode; `mode` only counts for new files.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}
