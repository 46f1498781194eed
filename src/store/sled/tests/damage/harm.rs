//! Damages to files.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rand::{RngExt, rngs::StdRng};

use super::copy;

const BLOCK_BYTES: usize = 4096;

/// A damage in a directory. Paths are relative to it.
#[derive(Debug)]
pub(super) enum Harm {
    /// Some bits of a byte are flipped.
    Flip { file: PathBuf, at: usize, bits: u8 },
    /// A range is overwritten with zeros.
    Zero { file: PathBuf, at: usize, length: usize },
    /// A range is overwritten with random bytes.
    Noise { file: PathBuf, at: usize, length: usize },
    /// A block is overwritten with another block.
    Misplaced { file: PathBuf, at: usize, from: usize },
    /// The end is missing.
    Truncate { file: PathBuf, length: usize },
    /// Random bytes follow the end.
    Extend { file: PathBuf, length: usize },
    /// A file or directory is missing.
    Remove { path: PathBuf },
    /// A file or directory is replaced by an older state.
    Stale { path: PathBuf },
}

impl Harm {
    /// A random damage to any file or directory, but not to the whole store.
    pub(super) fn choose(dir: &Path, older: &Path, random: &mut StdRng) -> Self {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        list(dir, Path::new(""), &mut files, &mut directories);
        let mut file = files.swap_remove(random.random_range(0..files.len()));
        // Most bytes are in the database, and it has the most kinds of damage.
        if random.random_bool(0.5) {
            file = files.into_iter().find(|file| file.ends_with("db")).unwrap_or(file);
        }
        let size = usize::try_from(fs::metadata(dir.join(&file)).unwrap().len()).unwrap();
        let mut below = |end: usize| if end == 0 { 0 } else { random.random_range(0..end) };
        let at = below(size);
        let longest = [1, 64, 64 * BLOCK_BYTES][below(3)];
        let length = below(longest.min(size - at)) + 1;
        match below(16) {
            0..4 => Self::Flip { file, at, bits: 1 << below(8) },
            4 => Self::Flip { file, at, bits: 255 },
            5..8 => Self::Zero { file, at, length },
            8 => Self::Noise { file, at, length },
            9 | 10 => {
                let block = |byte: usize| byte / BLOCK_BYTES * BLOCK_BYTES;
                Self::Misplaced { file, at: block(at), from: block(below(size)) }
            }
            11 | 12 => Self::Truncate { file, length: at },
            13 => Self::Extend { file, length: length * 4 },
            14 => {
                directories.push(file);
                Self::Remove { path: directories.swap_remove(below(directories.len())) }
            }
            _ => {
                let mut paths = directories;
                paths.push(file);
                paths.retain(|path| older.join(path).exists());
                match paths.len() {
                    0 => Self::Flip { file: PathBuf::from("CURRENT"), at: 0, bits: 1 },
                    count => Self::Stale { path: paths.swap_remove(below(count)) },
                }
            }
        }
    }

    pub(super) fn inflict(&self, dir: &Path, older: &Path) {
        let open =
            |file: &Path| OpenOptions::new().read(true).write(true).open(dir.join(file)).unwrap();
        match self {
            Self::Flip { file, at, bits } => change(&dir.join(file), |bytes| {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte ^= bits;
                }
            }),
            Self::Zero { file, at, length } => change(&dir.join(file), |bytes| {
                bytes.iter_mut().skip(*at).take(*length).for_each(|byte| *byte = 0);
            }),
            Self::Noise { file, at, length } => change(&dir.join(file), |bytes| {
                let noise = rand::rng().random_iter::<u8>();
                let range = bytes.iter_mut().skip(*at).take(*length);
                range.zip(noise).for_each(|(byte, noise)| *byte = noise);
            }),
            Self::Misplaced { file, at, from } => change(&dir.join(file), |bytes| {
                let end = bytes.len().min(from + BLOCK_BYTES).min(bytes.len() - at + from);
                bytes.copy_within(*from..end, *at);
            }),
            Self::Truncate { file, length } => {
                open(file).set_len(u64::try_from(*length).unwrap()).unwrap();
            }
            Self::Extend { file, length } => {
                let file = open(file);
                let end = file.metadata().unwrap().len();
                file.write_all_at(&vec![7; *length], end).unwrap();
            }
            Self::Remove { path } => remove(&dir.join(path)),
            Self::Stale { path } => {
                remove(&dir.join(path));
                if older.join(path).is_dir() {
                    copy(&older.join(path), &dir.join(path));
                } else {
                    fs::copy(older.join(path), dir.join(path)).unwrap();
                }
            }
        }
    }
}

fn change(path: &Path, how: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn list(dir: &Path, below: &Path, files: &mut Vec<PathBuf>, directories: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir.join(below)).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            list(dir, &path, files, directories);
            directories.push(path);
        } else {
            files.push(path);
        }
    }
}
