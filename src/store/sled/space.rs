//! Disk space: kept in reserve before each batch, so that sled itself never meets a full disk.

use std::{fs::File, io, os::unix::fs::MetadataExt};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

/// What sled may write for one batch beyond its bytes: whole pages of up to 70 KiB for each tenth record.
const MARGIN_BYTES: u64 = 16 * 1024 * 1024;
/// How much sled writes for each byte of a batch.
const AMPLIFICATION: u64 = 4;
/// Reserved on top, so that most batches find enough without asking.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Blocks as `stat` counts them.
const STAT_BLOCK_BYTES: u64 = 512;

/// Makes sure that a batch can be written to the end of `file`: blocks behind its end are allocated ahead, where
/// the file system can; elsewhere that much must be free. [`io::ErrorKind::StorageFull`] when there is no room.
pub(super) fn reserve(file: &File, batch_bytes: usize) -> io::Result<()> {
    let batch_bytes = u64::try_from(batch_bytes).unwrap_or(u64::MAX);
    let need = batch_bytes.saturating_mul(AMPLIFICATION).saturating_add(MARGIN_BYTES);
    let status = file.metadata()?;
    let allocated = status.blocks().saturating_mul(STAT_BLOCK_BYTES);
    if allocated >= status.len().saturating_add(need) {
        return Ok(());
    }
    // From offset 0, so that holes are filled too.
    let end = status.len().saturating_add(need);
    let ahead = allocate(file, end.saturating_add(AHEAD_BYTES));
    match ahead.or_else(|_| allocate(file, end)) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT) => Err(io::ErrorKind::StorageFull.into()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => require_free(file, need),
        Err(other) => Err(other.into()),
    }
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
