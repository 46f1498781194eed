//! Protects the file of sled's page table (sled calls it a snapshot). Without it sled loses pages.
//!
//! When sled opens a database, it replaces that file: it writes and syncs a new one, renames it and removes the old
//! one, without a sync of the directory. After a power cut both may be missing. Then sled ignores everything after
//! the first segment that it has reused. So the old file is kept under another name until the new one is durable.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::store::sled::disk::sync_file;

/// The prefix of sled's file names. The position in the log follows.
const PREFIX: &str = "snap.";
/// The suffix of unfinished files.
const UNFINISHED: &str = ".generating";
/// The prefix of our copies.
const KEPT: &str = "kept.";

/// Before sled opens a database: removes unfinished files, which sled would take for the newest one, and keeps a
/// durable copy of the newest finished file.
pub(super) fn keep(directory: &Path) -> io::Result<()> {
    let mut names = names(directory)?;
    for name in names.extract_if(.., |name| name.ends_with(UNFINISHED)) {
        fs::remove_file(directory.join(name))?;
    }
    let (mut finished, kept): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with(PREFIX));
    if finished.is_empty() {
        for name in &kept {
            let own = name[KEPT.len()..].to_owned();
            fs::rename(directory.join(name), directory.join(&own))?;
            finished.push(own);
        }
    }
    let Some(newest) = finished.iter().max() else {
        return Ok(());
    };
    let copied = format!("{KEPT}{newest}");
    let bytes = fs::read(directory.join(newest))?;
    let mut copy = File::create(directory.join(&copied))?;
    copy.write_all(&bytes)?;
    copy.sync_all()?;
    sync_file(directory)?;
    // Only now: the newest file may come from a process that died before it was durable.
    for name in kept.iter().filter(|name| **name != copied) {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// After everything is durable: removes the copy. If that fails, the next [`keep`] finds it.
pub(super) fn forget(directory: &Path) {
    for name in names(directory).unwrap_or_default() {
        if name.starts_with(KEPT) {
            fs::remove_file(directory.join(name)).ok();
        }
    }
}

/// The names of all files of sled's and of our copies; none if the directory does not exist.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let own = name
            .to_str()
            .filter(|name| name.strip_prefix(KEPT).unwrap_or(name).starts_with(PREFIX));
        names.extend(own.map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &[&str], after: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for name in before {
            fs::write(dir.path().join(name), name.trim_start_matches(KEPT)).unwrap();
        }
        keep(dir.path()).unwrap();
        let mut found = names(dir.path()).unwrap();
        found.sort();
        assert_eq!(found, after, "{before:?}");
        for name in &found {
            let text = fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(text, name.trim_start_matches(KEPT));
        }
        forget(dir.path());
        assert!(names(dir.path()).unwrap().iter().all(|name| name.starts_with(PREFIX)));
    }

    #[test]
    fn one_is_always_kept() {
        check(&[], &[]);
        check(&["snap.1.generating"], &[]);
        check(&["snap.1"], &["kept.snap.1", "snap.1"]);
        check(&["snap.1", "snap.2", "snap.3.generating"], &["kept.snap.2", "snap.1", "snap.2"]);
        check(&["kept.snap.1", "snap.2"], &["kept.snap.2", "snap.2"]);
        check(&["kept.snap.1", "snap.2.generating"], &["kept.snap.1", "snap.1"]);
    }
}
