//! Disk space: kept in reserve before each batch, so that sled itself never meets a full disk, and written ahead, so
//! that a sync is a write of the data alone.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

/// What sled may write for a group beyond its chunks: a few segments, and pages of keys.
const MARGIN_BYTES: u64 = 4 * 1024 * 1024;
/// How much sled writes for each byte of a group: the chunk, and its page when it has grown by ten.
const AMPLIFICATION: u64 = 4;
/// Reserved on top, so that most batches find enough without asking.
const AHEAD_BYTES: u64 = 2 * 1024 * 1024;

/// sled writes its log in segments of this size: each begins with a header and goes where one was freed, or to the
/// end of the file.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
const SEGMENT_STEP: u64 = SEGMENT_BYTES as u64;
const SEGMENT_HEADER_BYTES: usize = 20;
/// How much is kept ahead of sled.
const ZEROED_AHEAD_BYTES: u64 = 2 * SEGMENT_STEP;

/// The room at the end of sled's file. Its length is asked by seeking: after a `stat`, Linux gives the next write a
/// time stamp of its own, and each sync has one more block to write.
#[derive(Clone, Copy, Default)]
pub(super) struct Room {
    /// Up to where blocks are allocated, beyond the length too.
    allocated: u64,
    /// The length of the file when it was last changed here.
    length: u64,
    /// Where its last segments begin that are zeros, which is how a free one looks to sled. A sync of bytes that lie
    /// beyond the length, or in blocks that were never written, has to write the file's metadata too.
    unused: u64,
}

impl Room {
    /// Makes sure that a batch can be written to the end of `file`: blocks behind its end are allocated ahead, where
    /// the file system can; elsewhere that much must be free. [`io::ErrorKind::StorageFull`] when there is no room.
    pub(super) fn reserve(&mut self, file: &File, batch_bytes: usize) -> io::Result<()> {
        let batch_bytes = u64::try_from(batch_bytes).unwrap_or(u64::MAX);
        let need = batch_bytes.saturating_mul(AMPLIFICATION).saturating_add(MARGIN_BYTES);
        let length = self.note_length(file)?;
        let end = length.saturating_add(need);
        if end <= self.allocated {
            return Ok(());
        }
        // From offset 0, so that holes are filled too.
        let ahead = end.saturating_add(AHEAD_BYTES);
        self.allocated = match allocate(file, ahead).map(|()| ahead) {
            Err(_) => allocate(file, end).map(|()| end),
            allocated => allocated,
        }
        .or_else(|error| match error {
            Errno::NOSPC | Errno::DQUOT => Err(io::ErrorKind::StorageFull.into()),
            Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => require_free(file, need).map(|()| 0),
            other => Err(other.into()),
        })?;
        Ok(())
    }

    /// Writes a segment of zeros if sled has come close to the end. There must be no write of sled's under way.
    pub(super) fn extend(&mut self, file: &File) -> io::Result<()> {
        let end = self.note_length(file)?.next_multiple_of(SEGMENT_STEP);
        self.unused = self.unused.min(end);
        while self.unused < end && is_used(file, self.unused)? {
            self.unused += SEGMENT_STEP;
        }
        if end - self.unused < ZEROED_AHEAD_BYTES {
            file.write_all_at(&vec![0; SEGMENT_BYTES], end)?;
            self.length = end + SEGMENT_STEP;
        }
        Ok(())
    }

    /// Bytes of the file without the zeros at its end.
    pub(super) fn used(&mut self, file: &File) -> io::Result<u64> {
        self.note_length(file).map(|length| length.min(self.unused))
    }

    /// Finds out whether sled has grown or cut the file meanwhile.
    fn note_length(&mut self, mut file: &File) -> io::Result<u64> {
        let length = file.seek(SeekFrom::End(0))?;
        if length != self.length {
            self.unused = length.next_multiple_of(SEGMENT_STEP);
            self.allocated = if length < self.length { 0 } else { self.allocated };
            self.length = length;
        }
        Ok(length)
    }
}

fn is_used(file: &File, segment: u64) -> io::Result<bool> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut header, segment)?;
    Ok(header != [0; SEGMENT_HEADER_BYTES])
}

/// Whether so much is free on the disk of `file`; [`io::ErrorKind::StorageFull`] when not.
pub(super) fn require_free(file: &File, bytes: u64) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Whether an error says that no space is left, or none of the user's quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn allocate(file: &File, end: u64) -> Result<(), Errno> {
    loop {
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, end) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
