//! Disk space. It is reserved before each batch, so that sled never gets the error of a full disk. It is also filled
//! with zeros in advance, so that a sync writes only data and no metadata.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

/// The bytes that sled may write for a group besides its chunks: a few segments, and pages of keys.
const MARGIN_BYTES: u64 = 4 * 1024 * 1024;
/// How many bytes sled writes for each byte of a group: the chunk, and its page after it has got ten chunks.
const AMPLIFICATION: u64 = 4;
/// Additional reserved bytes, so that most batches need no system call for it.
const AHEAD_BYTES: u64 = 2 * 1024 * 1024;

/// The size of the segments of sled's log. Each begins with a header and is written to a free segment or to the end
/// of the file.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
const SEGMENT_STEP: u64 = SEGMENT_BYTES as u64;
const SEGMENT_HEADER_BYTES: usize = 20;
/// How many bytes of zeros are kept after sled's data.
const ZEROED_AHEAD_BYTES: u64 = 2 * SEGMENT_STEP;

/// The space at the end of sled's file. The length of the file is found by seeking: after a `stat`, Linux would give
/// the next write a new timestamp, and each sync would write one more block.
#[derive(Clone, Copy, Default)]
pub(super) struct FreeSpace {
    /// Blocks are allocated up to this position, also beyond the length of the file.
    allocated: u64,
    /// The length of the file after the last change here.
    length: u64,
    /// The beginning of the last segments that contain only zeros, which sled treats as free. A sync of bytes beyond
    /// the length, or in blocks that were never written, must also write metadata of the file.
    unused: u64,
}

impl FreeSpace {
    /// Ensures that a batch can be written to the end of `file`. If the file system supports it, blocks after the end
    /// are allocated in advance; if not, this many bytes must be free. [`io::ErrorKind::StorageFull`] if there is not
    /// enough room.
    pub(super) fn reserve(&mut self, file: &File, batch_bytes: usize) -> io::Result<()> {
        let batch_bytes = u64::try_from(batch_bytes).unwrap_or(u64::MAX);
        let need = batch_bytes.saturating_mul(AMPLIFICATION).saturating_add(MARGIN_BYTES);
        let length = self.note_length(file)?;
        let end = length.saturating_add(need);
        if end <= self.allocated {
            return Ok(());
        }
        // Begin at offset 0, so that holes are filled too.
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

    /// Writes a segment of zeros if sled's data has come close to the end. sled must not be writing at the same time.
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

    /// The bytes of the file without the zeros at its end.
    pub(super) fn used(&mut self, file: &File) -> io::Result<u64> {
        self.note_length(file).map(|length| length.min(self.unused))
    }

    /// Detects whether sled has extended or truncated the file.
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

/// Checks that this many bytes are free on the disk of `file`; [`io::ErrorKind::StorageFull`] if not.
pub(super) fn require_free(file: &File, bytes: u64) -> io::Result<()> {
    let disk = fstatvfs(file)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
        return Err(io::ErrorKind::StorageFull.into());
    }
    Ok(())
}

/// Whether an error means that the disk is full, or the quota of the user is exhausted.
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
