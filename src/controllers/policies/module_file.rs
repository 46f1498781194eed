//! The files of `path` modules: regular files below one directory, whatever the links in it say, and read without
//! waiting for anybody. Blocking: call it away from the runtime's workers.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2},
    io::Errno,
};

use crate::policy::wasm::MODULE_BYTES_MAX;

/// A larger file is refused unread.
const BYTES_MAX: u64 = MODULE_BYTES_MAX as u64;
/// openat2(2) asks for another try when a directory was renamed meanwhile.
const TRIES: usize = 8;

/// Where module files are.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

/// What tells that a file was written or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    kind: FileType,
    device: u64,
    inode: u64,
    size: i64,
    /// Seconds and nanoseconds.
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file as it is now, or why it cannot be had.
    pub(super) fn look(&self, path: &str) -> Result<Stamp, String> {
        let file = self.open(path, OFlags::PATH)?;
        Ok(Stamp::of(&self.status(path, &file)?))
    }

    /// The file's bytes, or why they cannot be had.
    pub(super) fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let name = self.0.join(path);
        let name = name.display();
        // Looked at first: opening a device can do something.
        refuse_irregular(self.look(path)?.kind).map_err(|kind| format!("{name} is {kind}"))?;
        // Without waiting, should it be a FIFO by now.
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let kind = FileType::from_raw_mode(self.status(path, &file)?.st_mode);
        refuse_irregular(kind).map_err(|kind| format!("{name} is {kind}"))?;
        let mut bytes = Vec::new();
        let read = File::from(file).take(BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read {name}: {error}"))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(format!("{name} has more than {BYTES_MAX} bytes, which is the limit"));
        }
        Ok(bytes)
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, String> {
        self.open_beneath(Path::new(path), flags | OFlags::CLOEXEC).map_err(|error| {
            let (name, directory) = (self.0.join(path), self.0.display());
            let name = name.display();
            match error {
                Errno::XDEV => format!("{name} leads out of {directory}"),
                Errno::LOOP => format!("{name} is behind a symbolic link that leads to no file"),
                error => format!("cannot read {name}: {}", io::Error::from(error)),
            }
        })
    }

    fn open_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&self.0, directory, Mode::empty())?;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut opened = Err(Errno::AGAIN);
        for _ in 0..TRIES {
            opened = openat2(&directory, path, flags, Mode::empty(), within);
            if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        opened
    }

    fn status(&self, path: &str, file: &OwnedFd) -> Result<Stat, String> {
        fstat(file).map_err(|error| {
            format!("cannot read {}: {}", self.0.join(path).display(), io::Error::from(error))
        })
    }
}

impl Stamp {
    fn of(status: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(status.st_mode),
            device: status.st_dev,
            inode: status.st_ino,
            size: status.st_size,
            modified: (status.st_mtime, status.st_mtime_nsec),
            changed: (status.st_ctime, status.st_ctime_nsec),
        }
    }
}

/// What it is, if it is no regular file.
fn refuse_irregular(kind: FileType) -> Result<(), &'static str> {
    Err(match kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory, not a file",
        FileType::Fifo => "a FIFO, not a regular file",
        FileType::Socket => "a socket, not a regular file",
        FileType::CharacterDevice | FileType::BlockDevice => "a device, not a regular file",
        FileType::Symlink | FileType::Unknown => "not a regular file",
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, mknodat};

    use super::*;

    #[test]
    fn reads_regular_files_below_the_directory_only() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("policies"), place.path().join("outside"));
        fs::create_dir_all(inside.join("team")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(inside.join("team/one.wat"), "one").unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(inside.join("large"), "").unwrap();
        File::options().write(true).open(inside.join("large")).unwrap().set_len(1 << 30).unwrap();
        mknodat(CWD, inside.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket")).unwrap();
        for (link, target) in [
            ("within", "team/one.wat"),
            ("back", "team/../team/one.wat"),
            ("out", "../outside/secret"),
            ("absolute", outside.join("secret").to_str().unwrap()),
            ("up", ".."),
            ("device", "/dev/zero"),
            ("magic", "/proc/self/root"),
            ("round", "round"),
            ("to-fifo", "fifo"),
            ("nowhere", "team/none"),
        ] {
            symlink(target, inside.join(link)).unwrap();
        }
        let directory = Directory::new(inside.clone());
        for path in ["team/one.wat", "within", "back", "./team//one.wat"] {
            assert_eq!(directory.read(path), Ok(b"one".to_vec()), "{path}");
        }
        let text = |name: &str, end: &str| format!("{}{end}", inside.join(name).display());
        for (path, end) in [
            ("fifo", " is a FIFO, not a regular file"),
            ("to-fifo", " is a FIFO, not a regular file"),
            ("socket", " is a socket, not a regular file"),
            ("team", " is a directory, not a file"),
            ("large", " has more than 67108864 bytes, which is the limit"),
            ("round", " is behind a symbolic link that leads to no file"),
        ] {
            assert_eq!(directory.read(path), Err(text(path, end)));
        }
        for path in ["out", "absolute", "up/outside/secret", "device", "magic/etc/passwd"] {
            let end = format!(" leads out of {}", inside.display());
            assert_eq!(directory.read(path), Err(text(path, &end)));
        }
        for path in ["none", "nowhere", "team/one.wat/more"] {
            let reason = directory.read(path).unwrap_err();
            assert!(reason.starts_with(&format!("cannot read {}", text(path, ": "))), "{reason}");
        }
    }

    #[test]
    fn a_replaced_file_has_another_stamp() {
        let place = tempfile::tempdir().unwrap();
        let (file, other) = (place.path().join("a"), place.path().join("b"));
        let directory = Directory::new(place.path().to_owned());
        assert!(directory.look("a").is_err());
        fs::write(&file, "one").unwrap();
        let first = directory.look("a").unwrap();
        assert_eq!(directory.look("a").unwrap(), first);
        fs::write(&file, "three").unwrap();
        let second = directory.look("a").unwrap();
        assert_ne!(second, first);
        // The same size and time.
        fs::write(&other, "seven").unwrap();
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &file).unwrap();
        assert_ne!(directory.look("a").unwrap(), second);
    }
}
