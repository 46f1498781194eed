//! Damaged files. Opening either returns an error that says what is lost, or all data is there. It never panics and
//! never creates a new store.

mod harm;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::store::{
    Error, Record, Revision, Store,
    sled::{
        Sled,
        high_water::HighWater,
        record,
        tests::{SMALL, everything, open_error, put, write},
    },
};

use harm::Harm;

/// The number of damages, for longer campaigns.
const COUNT: &str = "SNOWGLOBE_STORE_TEST_DAMAGES";
const COUNT_DEFAULT: u64 = 150;
/// Tells a child how many damages to make.
const HARMS: &str = "SNOWGLOBE_STORE_TEST_HARMS";
/// The memory limit of the child. Most of it is address space that its threads never use.
const MEMORY_KIB: u64 = 4 * 1024 * 1024;
/// How long one damage may take.
const PATIENCE: Duration = Duration::from_secs(60);

async fn filled() -> (TempDir, Vec<Record>) {
    let dir = TempDir::new().unwrap();
    let store = Sled::open(dir.path()).unwrap();
    for i in 0..60_u8 {
        put(&store, &[&format!("a/{i}"), "b"], &vec![i; 9000]).await.unwrap();
    }
    let records = everything(&store).await.0;
    store.close();
    (dir, records)
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn assert_damaged(dir: &Path, name: &str) {
    let error = open_error(dir);
    let text = error.to_string();
    assert!(matches!(error, Error::Damaged(_)), "{name}: {text}");
    assert!(text.contains("snapshot restore"), "{name}: {text}");
}

/// A store that will be damaged, with its content at two moments.
struct Victim {
    dir: TempDir,
    older: TempDir,
    records: Vec<Record>,
    revision: Revision,
}

/// A store that was closed.
async fn closed() -> Victim {
    let (dir, older) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut records = Vec::new();
    for round in 0..2_u8 {
        let store = Sled::open_tuned(dir.path(), SMALL).unwrap();
        for i in 0..30_u8 {
            put(&store, &[&format!("a/{round}/{i}"), "b"], &vec![i; 9000]).await.unwrap();
        }
        records = everything(&store).await.0;
        store.close();
        if round == 0 {
            copy(dir.path(), older.path());
        }
    }
    Victim { dir, older, records, revision: Revision(60) }
}

/// A store whose process died after large values, deletions and moves to other generations.
async fn died() -> Victim {
    let (place, dir, older) =
        (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Sled::open_tuned(place.path(), SMALL).unwrap();
    for i in 0..250_u32 {
        let length = if i % 50 == 7 { 1024 * 1024 } else { 6000 };
        let value = vec![i.to_le_bytes()[0]; length];
        let revision = put(&store, &[&format!("a/{}", i % 40), "b"], &value).await.unwrap();
        if i % 9 == 0 {
            store.commit(vec![write("b", Some(revision), None)]).await.unwrap();
        }
        if i == 200 {
            copy(place.path(), older.path());
        }
    }
    let (records, revision, _) = everything(&store).await;
    copy(place.path(), dir.path());
    Victim { dir, older, records, revision }
}

impl Victim {
    /// Damages a copy. Returns whether it can be opened, and then all data must be there. Otherwise the error must
    /// say what to do.
    async fn survives(&self, harm: &Harm) -> bool {
        let dir = TempDir::new().unwrap();
        copy(self.dir.path(), dir.path());
        harm.inflict(&dir.path().join("store"), &self.older.path().join("store"));
        let mut revision = self.revision;
        for attempt in 0..2 {
            let store = match Sled::open_tuned(dir.path(), SMALL) {
                Ok(store) => store,
                Err(error) => {
                    assert_eq!(revision, self.revision, "{harm:?}: once open, then {error}");
                    let text = error.to_string();
                    let place = dir.path().join("store").display().to_string();
                    let remedy = format!("restore FILE --data-dir {}`", dir.path().display());
                    assert!(text.contains(&place) && text.contains(&remedy), "{harm:?}: {text}");
                    // A store with damage must not be accepted when it is opened again.
                    if let Ok(store) = Sled::open_tuned(dir.path(), SMALL) {
                        assert!(everything(&store).await.0 == self.records, "{harm:?}, later");
                    }
                    return false;
                }
            };
            let (mut records, found, _) = everything(&store).await;
            records.retain(|record| record.key != "new");
            assert!(records == self.records && found == revision, "{harm:?}, {attempt}");
            revision = put(&store, &["new"], b"1").await.unwrap();
        }
        true
    }
}

/// The child: damages one store after another and reports its progress.
#[tokio::test]
async fn harming_child() {
    let Some(count) = env::var(HARMS).ok().map(|text| text.parse::<u64>().unwrap()) else {
        return;
    };
    let victims = [closed().await, died().await];
    let mut random = StdRng::seed_from_u64(count);
    let mut survived = 0;
    for nth in 0..count {
        let victim = &victims[usize::from(random.random_bool(0.3))];
        let [dir, older] = [&victim.dir, &victim.older].map(|dir| dir.path().join("store"));
        let harm = Harm::choose(&dir, &older, &mut random);
        println!("\n{nth} {harm:?}");
        survived += u64::from(victim.survives(&harm).await);
    }
    println!("\n{survived} of {count} survived");
}

/// Any damage to any file leaves all data or gives a clear error, without a panic and in bounded time and memory.
#[test]
fn damage_is_never_passed_over() {
    if env::var_os(HARMS).is_some() {
        return;
    }
    let count = env::var(COUNT).ok().map_or(COUNT_DEFAULT, |text| text.parse().unwrap());
    let script = format!(
        "ulimit -v {MEMORY_KIB}; exec \"$0\" --exact --nocapture store::sled::tests::damage::harming_child"
    );
    let log = tempfile::tempfile().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .arg(env::current_exe().unwrap())
        .env(HARMS, count.to_string())
        .stdout(Stdio::piped())
        .stderr(log.try_clone().unwrap())
        .spawn()
        .unwrap();
    let (told, heard) = mpsc::sync_channel(1);
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        output.lines().map(Result::unwrap).filter(|line| !line.is_empty()).for_each(|line| {
            told.send(line).ok();
        });
    });
    let mut last = String::new();
    let mut summary = None;
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok(line) if line.ends_with("survived") => summary = Some(line),
            Ok(line) => last = line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("hangs: {last}");
            }
        }
    }
    let status = child.wait().unwrap();
    reader.join().unwrap();
    let mut errors = Vec::new();
    (&log).rewind().and_then(|()| (&log).read_to_end(&mut errors)).unwrap();
    let errors = String::from_utf8_lossy(&errors);
    let tail = errors.get(errors.len().saturating_sub(4000)..).unwrap_or_default();
    assert!(status.success(), "{last}\n{tail}");
    println!("{}", summary.unwrap());
}

#[tokio::test]
async fn missing_and_spoiled_files_are_errors() {
    let (dir, _) = filled().await;
    type Damage = fn(&Path);
    let cases: &[(&str, Damage)] = &[
        ("no CURRENT", |root| fs::remove_file(root.join("CURRENT")).unwrap()),
        ("empty CURRENT", |root| fs::write(root.join("CURRENT"), "").unwrap()),
        ("odd CURRENT", |root| fs::write(root.join("CURRENT"), "gen-01\n").unwrap()),
        ("CURRENT of nothing", |root| fs::write(root.join("CURRENT"), "gen-7\n").unwrap()),
        ("no mark", |root| fs::remove_file(root.join("high-water")).unwrap()),
        ("empty mark", |root| fs::write(root.join("high-water"), "").unwrap()),
        ("neither mark nor CURRENT", |root| {
            fs::remove_file(root.join("high-water")).unwrap();
            fs::remove_file(root.join("CURRENT")).unwrap();
        }),
        ("no database", |root| fs::remove_dir_all(root.join("gen-1")).unwrap()),
        ("empty database", |root| fs::write(root.join("gen-1/db"), "").unwrap()),
        ("database of zeros", |root| {
            let path: PathBuf = root.join("gen-1/db");
            fs::write(&path, vec![0; 1024 * 1024]).unwrap();
        }),
        ("mark beyond the end", |root| {
            let mut mark = HighWater::open(&root.join("high-water")).unwrap().unwrap();
            mark.write(Revision(61)).unwrap();
        }),
    ];
    for (name, damage) in cases {
        let copied = TempDir::new().unwrap();
        copy(dir.path(), copied.path());
        damage(&copied.path().join("store"));
        assert_damaged(copied.path(), name);
        assert_damaged(copied.path(), name);
    }
}

#[tokio::test]
async fn lost_revisions_are_named() {
    let (dir, _) = filled().await;
    let root = dir.path().join("store");
    let mut mark = HighWater::open(&root.join("high-water")).unwrap().unwrap();
    mark.write(Revision(64)).unwrap();
    let text = open_error(dir.path()).to_string();
    assert!(text.contains("revisions 61 to 64 are missing"), "{text}");
}

#[tokio::test]
async fn another_format_is_not_touched() {
    let (dir, _) = filled().await;
    let database = ::sled::open(dir.path().join("store/gen-1")).unwrap();
    database.insert(record::FORMAT_KEY, b"2").unwrap();
    drop(database);
    let error = open_error(dir.path());
    assert!(matches!(&error, Error::Unsupported(what) if what.contains("has format 2")), "{error}");
}

/// Remains of a process that died while it created a store or a new generation.
#[tokio::test]
async fn unfinished_work_is_cleared_away() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("store");
    fs::create_dir_all(root.join("gen-1/blobs")).unwrap();
    fs::write(root.join("gen-1/db"), "unfinished").unwrap();
    let mark = root.join("high-water");
    HighWater::create(&mark).unwrap();
    fs::File::options().write(true).open(&mark).unwrap().write_all(b"spoiled").unwrap();
    let before = fs::read(&mark).unwrap();
    let store = Sled::open(dir.path()).unwrap();
    // If the mark were written again, a second crash could leave a database without a mark.
    assert_eq!(fs::read(&mark).unwrap(), before);
    put(&store, &["a"], b"1").await.unwrap();
    drop(store);
    copy(&root.join("gen-1"), &root.join("gen-2"));
    fs::write(root.join("CURRENT.next"), "gen-2\n").unwrap();
    fs::write(root.join("gen-1/snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    let store = Sled::open(dir.path()).unwrap();
    assert_eq!(store.current(), Revision(1));
    assert!(!root.join("gen-2").exists());
}
