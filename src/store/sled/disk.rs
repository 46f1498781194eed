//! Durable files, and the errors about files that cannot be written or are damaged.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use crate::store::{Error, sled::space};

/// The store's directory in the data directory.
pub(super) const STORE: &str = "store";

/// Converts an I/O error. A full disk has its own variant.
pub(super) fn failure(dir: &str, context: String, error: io::Error) -> Error {
    if space::is_full(&error) {
        return Error::Full(dir.to_owned());
    }
    Error::Failed { context, source: Arc::new(error) }
}

/// The error for damage in the directory of the store. It says what the user can do.
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

/// Syncs a file, or a directory with all its content.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    sync_file(path)
}
