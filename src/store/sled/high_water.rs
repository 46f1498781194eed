//! The high-water mark: the last acknowledged revision, in a file beside the database.
//!
//! sled silently ignores a damaged end of its log. The mark makes that an error. It is written after a batch is
//! durable and before it is acknowledged, so it is never too high. It is not synced with each batch. A killed process
//! loses nothing of it, and after a power cut it may be a little too low.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::store::Revision;

/// Two slots in different blocks of the disk are written in turn, so that a torn write damages only one.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const MAGIC: &[u8; 8] = b"highwatr";
const SLOT_BYTES: usize = 8 + 8 + 4;

/// The open file of the mark.
pub(super) struct HighWater {
    file: File,
    revision: Revision,
    next_slot: usize,
    synced: bool,
}

impl HighWater {
    /// Creates a durable mark of zero. The caller must sync the directory.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::create_at(path, Revision(0))
    }

    /// Creates a durable mark of a revision. The caller must sync the directory.
    pub(super) fn create_at(path: &Path, revision: Revision) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut mark = Self { file, revision, next_slot: 0, synced: false };
        for _ in SLOT_OFFSETS {
            mark.write(revision)?;
        }
        mark.sync()?;
        Ok(mark)
    }

    /// Reads the mark of an existing file; `None` if neither slot is valid.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let slots = [read_slot(&file, SLOT_OFFSETS[0])?, read_slot(&file, SLOT_OFFSETS[1])?];
        Ok(slots.into_iter().max().flatten().map(|revision| {
            let next_slot = usize::from(slots[0] == Some(revision));
            // The process that wrote it may have died before it was durable.
            Self { file, revision, next_slot, synced: false }
        }))
    }

    /// The last acknowledged revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Raises the mark.
    pub(super) fn write(&mut self, revision: Revision) -> io::Result<()> {
        self.file.write_all_at(&encode_slot(revision), SLOT_OFFSETS[self.next_slot])?;
        self.revision = revision;
        self.next_slot = 1 - self.next_slot;
        self.synced = false;
        Ok(())
    }

    /// Continues in another file. Returns the current one.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// Makes the mark durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }
}

fn encode_slot(revision: Revision) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&revision.0.to_be_bytes());
    let crc = crc32fast::hash(&slot[..16]);
    slot[16..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn read_slot(file: &File, offset: u64) -> io::Result<Option<Revision>> {
    let mut slot = [0; SLOT_BYTES];
    match file.read_exact_at(&mut slot, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let number = slot[8..16].try_into().expect("eight bytes");
    let revision = Revision(u64::from_be_bytes(number));
    Ok((slot == encode_slot(revision)).then_some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoiled_slot_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = HighWater::create(&path).unwrap();
        for revision in 1..=5 {
            mark.write(Revision(revision)).unwrap();
        }
        assert_eq!(HighWater::open(&path).unwrap().unwrap().revision(), Revision(5));
        let written_last = SLOT_OFFSETS[1 - mark.next_slot];
        mark.file.write_all_at(b"spoiled", written_last).unwrap();
        let mut again = HighWater::open(&path).unwrap().unwrap();
        assert_eq!(again.revision(), Revision(4));
        again.write(Revision(6)).unwrap();
        assert_eq!(HighWater::open(&path).unwrap().unwrap().revision(), Revision(6));
        mark.file.set_len(0).unwrap();
        assert!(HighWater::open(&path).unwrap().is_none());
    }
}
