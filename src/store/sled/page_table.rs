//! The file in which sled keeps its page table (it calls it a snapshot), and without which it loses pages.
//!
//! Opening a database replaces that file: sled writes and syncs a new one, renames it into its place and removes the
//! old one, all without a sync of the directory. A power cut can leave neither, and then sled takes for the whole log
//! what follows the first segment that it has used again. So the old file is kept under a name of our own until the
//! new one is durable.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use crate::store::sled::disk::sync_file;

/// What sled's names for it begin with; the log position follows.
const PREFIX: &str = "snap.";
/// What its names for an unfinished one end with.
const UNFINISHED: &str = ".generating";
/// What comes before sled's name when it is ours.
const KEPT: &str = "kept.";

/// Before sled opens a database: clears away what it had not finished, for it would take that for the newest one, and
/// keeps a durable copy of the newest finished one.
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
    // Not before: the newest one, left by a process that died, may itself not be durable yet.
    for name in kept.iter().filter(|name| **name != copied) {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Once everything is durable: removes the copy. One that cannot be removed is found by the next [`keep`].
pub(super) fn forget(directory: &Path) {
    for name in names(directory).unwrap_or_default() {
        if name.starts_with(KEPT) {
            fs::remove_file(directory.join(name)).ok();
        }
    }
}

/// The names of all of sled's and ours; none when there is no such directory.
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
