//! Compiled code on disk, so that a module is compiled once and not at every start. One file per module and engine.
//!
//! Compiled code is machine code, and running what is not ours would be fatal. So a file counts only if it is a regular
//! file of this user that no other user can write, in such a directory, and its header has the digest of the module, the
//! engine and a digest of the code; all else is compiled anew and replaced. This is against damage, not against whoever
//! can write here as this user: that is the user. Enter at [`Cache::load`] and [`Cache::store`]; neither ever fails a
//! module.

use std::{
    fs::{self, DirBuilder, File},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{CWD, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, futimens, openat},
    process::geteuid,
};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;

/// How a file begins: what it is, and the version of this layout.
const MAGIC: &[u8; 24] = b"snowglobe policy code 1\n";

/// [`MAGIC`], the engine's tag, the module's digest, and the SHA-256 of the code.
const HEADER_BYTES: usize = MAGIC.len() + 8 + DIGEST_CHARACTERS + 32;

/// `sha256:` and hexadecimal digits.
const DIGEST_CHARACTERS: usize = 7 + 64;

/// All files together; the least recently used are removed. A component with a language's runtime takes up to 100 MB.
const BYTES_MAX: u64 = 512 << 20;

/// What group and others must not be able to do.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A directory with compiled code, or none.
pub(super) struct Cache {
    directory: Option<PathBuf>,
    engine_tag: u64,
    bytes_max: u64,
    /// It was said that nothing can be written.
    complained: AtomicBool,
}

/// Code that this program compiled: the only input that is safe for the engine.
pub(super) struct OwnCode(Vec<u8>);

impl OwnCode {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Cache {
    /// The cache in that directory, which is made when something is stored.
    pub(super) fn new(directory: Option<PathBuf>, engine: &wasmtime::Engine) -> Self {
        let mut hasher = SipHasher13::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let complained = AtomicBool::new(false);
        Self { directory, engine_tag: hasher.finish(), bytes_max: BYTES_MAX, complained }
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        self.directory.is_some()
    }

    /// The code of the module with that digest, if it is there and in order.
    pub(super) fn load(&self, digest: &str) -> Option<OwnCode> {
        let directory = self.directory.as_ref()?;
        match self.read(directory, digest) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::info!(digest, %error, "compiled code in the cache is not used");
                None
            }
        }
    }

    /// Keeps the code of a module.
    pub(super) fn store(&self, digest: &str, code: &[u8]) {
        let Some(directory) = &self.directory else { return };
        let stored = self.write(directory, digest, code).and_then(|()| self.prune(directory));
        if let Err(error) = stored
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "cannot keep compiled policies; each start compiles them anew");
        }
    }

    fn path(&self, directory: &Path, digest: &str) -> PathBuf {
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
        directory.join(format!("{digits}-{:016x}", self.engine_tag))
    }

    fn header(&self, digest: &str, code: &[u8]) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.engine_tag.to_be_bytes());
        header.extend_from_slice(digest.as_bytes());
        header.extend_from_slice(&Sha256::digest(code));
        header
    }

    fn read(&self, directory: &Path, digest: &str) -> io::Result<OwnCode> {
        refuse_foreign(&fs::symlink_metadata(directory)?, "the directory")?;
        // Without following a link, and without waiting, should it be a FIFO.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(CWD, self.path(directory, digest), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        refuse_foreign(&metadata, "the file")?;
        if !metadata.is_file() || metadata.len() > self.bytes_max {
            return Err(io::Error::other("it is no regular file of a sensible size"));
        }
        let mut bytes = Vec::new();
        (&mut file).take(self.bytes_max).read_to_end(&mut bytes)?;
        let code = bytes.split_off(HEADER_BYTES.min(bytes.len()));
        if bytes != self.header(digest, &code) {
            return Err(io::Error::other("it is damaged"));
        }
        used_now(&file);
        Ok(OwnCode(code))
    }

    /// All at once, for whoever reads meanwhile. Not synced: a torn file is found out by its header.
    fn write(&self, directory: &Path, digest: &str, code: &[u8]) -> io::Result<()> {
        let size = u64::try_from(HEADER_BYTES + code.len()).unwrap_or(u64::MAX);
        if size > self.bytes_max {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        refuse_foreign(&fs::symlink_metadata(directory)?, "the directory")?;
        // Mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&self.header(digest, code))?;
        file.write_all(code)?;
        file.persist(self.path(directory, digest)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what was least recently used until the rest fits, with what a killed process may have left.
    fn prune(&self, directory: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            if metadata.is_file() {
                files.push(((metadata.mtime(), metadata.mtime_nsec()), metadata.len(), path));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }
}

/// Refuses what another user owns or could have written.
fn refuse_foreign(metadata: &fs::Metadata, what: &str) -> io::Result<()> {
    if metadata.is_symlink() {
        return Err(io::Error::other(format!("{what} is a symbolic link")));
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("{what} belongs to another user")));
    }
    if metadata.permissions().mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(format!("{what} can be written by other users")));
    }
    Ok(())
}

/// Marks a file as used. If that fails, it is removed early, no more.
fn used_now(file: &File) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(file, &Timestamps { last_access: now, last_modification: now }).ok();
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DIGEST: &str = "sha256:aa23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "sha256:bb23456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn cache(place: &Path) -> Cache {
        Cache::new(Some(place.join("cache/policies")), &wasmtime::Engine::default())
    }

    fn loaded(cache: &Cache, digest: &str) -> Option<Vec<u8>> {
        cache.load(digest).map(|code| code.bytes().to_vec())
    }

    #[test]
    fn gives_back_what_was_stored_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path());
        assert_eq!(loaded(&cache, DIGEST), None);
        cache.store(DIGEST, b"code");
        assert_eq!(loaded(&cache, DIGEST), Some(b"code".to_vec()));
        assert_eq!(loaded(&cache, OTHER), None);
        let directory = cache.directory.clone().unwrap();
        let path = cache.path(&directory, DIGEST);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);

        let good = fs::read(&path).unwrap();
        let mut damages = vec![Vec::new(), b"x".to_vec(), good[..good.len() - 1].to_vec()];
        damages.push([&good[..], b"x"].concat());
        for at in [0, 24, 40, HEADER_BYTES - 1, HEADER_BYTES] {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            damages.push(damaged);
        }
        for damaged in damages {
            fs::write(&path, &damaged).unwrap();
            assert_eq!(loaded(&cache, DIGEST), None, "{damaged:?}");
        }
        // Of another module, and of another engine.
        fs::write(&path, &good).unwrap();
        fs::rename(&path, cache.path(&directory, OTHER)).unwrap();
        assert_eq!(loaded(&cache, OTHER), None);
        fs::rename(cache.path(&directory, OTHER), &path).unwrap();
        let other =
            Cache { engine_tag: 1, ..Cache::new(Some(directory), &wasmtime::Engine::default()) };
        assert_eq!(loaded(&other, DIGEST), None);
        assert_eq!(loaded(&cache, DIGEST), Some(b"code".to_vec()), "it is not removed");
    }

    #[test]
    fn refuses_links_and_what_others_can_write() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path());
        cache.store(DIGEST, b"code");
        let directory = cache.directory.clone().unwrap();
        let path = cache.path(&directory, DIGEST);
        let chmod = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (target, bad, good) in [(&path, 0o620, 0o600), (&directory, 0o777, 0o700)] {
            chmod(target, bad);
            assert_eq!(loaded(&cache, DIGEST), None, "{bad:o}");
            chmod(target, good);
            assert!(loaded(&cache, DIGEST).is_some());
        }
        let elsewhere = place.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(loaded(&cache, DIGEST), None);
        cache.store(DIGEST, b"new");
        assert_eq!(loaded(&cache, DIGEST), Some(b"new".to_vec()), "the link is replaced");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(loaded(&cache, DIGEST), None);
    }

    #[test]
    fn keeps_what_was_used_last_within_its_bound() {
        let place = tempfile::tempdir().unwrap();
        let mut cache = cache(place.path());
        let bytes = u64::try_from(HEADER_BYTES + 100).unwrap();
        cache.bytes_max = 2 * bytes;
        let digests = ["1", "2", "3"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        let code = [7; 100];
        let directory = cache.directory.clone().unwrap();
        let age = |digest: &str, seconds| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = File::open(cache.path(&directory, digest)).unwrap();
            file.set_modified(time).unwrap();
        };
        for digest in &digests[..2] {
            cache.store(digest, &code);
            age(digest, 1);
        }
        assert!(cache.load(&digests[0]).is_some(), "used now");
        cache.store(&digests[2], &code);
        let left = digests.each_ref().map(|digest| cache.load(digest).is_some());
        assert_eq!(left, [true, false, true]);
        cache.store(DIGEST, &[7; 1000]);
        assert!(cache.load(DIGEST).is_none() && cache.load(&digests[0]).is_some(), "too large");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_failure() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("cache"), "a file, not a directory").unwrap();
        let cache = cache(place.path());
        cache.store(DIGEST, b"code");
        assert!(cache.complained.load(Ordering::Relaxed));
        assert_eq!(loaded(&cache, DIGEST), None);
    }
}
