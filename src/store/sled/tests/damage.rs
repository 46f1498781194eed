//! Damaged files: an error that says what is lost, or everything is there; never a panic, never a fresh start.

use std::{
    env,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::store::{
    Error, Record, Revision, Store,
    sled::{
        Sled,
        generation::Generation,
        high_water::HighWater,
        record,
        tests::{everything, open_error, put},
    },
};

/// At how many places the database is damaged, for longer campaigns.
const STEPS: &str = "SNOWGLOBE_STORE_TEST_DAMAGES";
const STEPS_DEFAULT: u64 = 24;

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

#[tokio::test]
async fn damage_to_the_database_is_never_passed_over() {
    let (dir, records) = filled().await;
    let size = fs::metadata(dir.path().join("store/gen-1/db")).unwrap().len();
    let mut opened = 0;
    let mut refused = 0;
    let steps = env::var(STEPS).ok().map_or(STEPS_DEFAULT, |text| text.parse().unwrap());
    for step in 0..steps {
        let offset = (size * step / steps + step * 97).min(size - 1);
        for kind in ["flipped", "zeroed", "truncated"] {
            let copied = TempDir::new().unwrap();
            copy(dir.path(), copied.path());
            let path = copied.path().join("store/gen-1/db");
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            match kind {
                "flipped" => {
                    let mut byte = [0];
                    file.read_exact_at(&mut byte, offset).unwrap();
                    file.write_all_at(&[!byte[0]], offset).unwrap();
                }
                "zeroed" => {
                    let zeros = vec![0; usize::try_from((size - offset).min(4096)).unwrap()];
                    file.write_all_at(&zeros, offset).unwrap();
                }
                _ => file.set_len(offset).unwrap(),
            }
            match Sled::open(copied.path()) {
                Ok(store) => {
                    let (read, revision, _) = everything(&store).await;
                    assert!(read == records && revision == Revision(60), "{kind} at {offset}");
                    put(&store, &["c"], b"1").await.unwrap();
                    opened += 1;
                }
                Err(Error::Damaged(text)) => {
                    assert!(text.contains("gen-1"), "{text}");
                    drop(open_error(copied.path()));
                    refused += 1;
                }
                Err(other) => panic!("{kind} at {offset}: {other}"),
            }
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} refused, {opened} opened");
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
    {
        let generation = Generation::open(&dir.path().join("store"), "", 1).unwrap();
        generation.apply(&[(record::FORMAT_KEY.to_vec(), b"3".to_vec())], &[]).unwrap();
    }
    let error = open_error(dir.path());
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

/// What a process leaves that dies while it makes a store, or a new generation of one.
#[tokio::test]
async fn unfinished_work_is_cleared_away() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("store");
    fs::create_dir_all(root.join("gen-1/blobs")).unwrap();
    fs::write(root.join("gen-1/db"), "unfinished").unwrap();
    HighWater::create(&root.join("high-water")).unwrap();
    let store = Sled::open(dir.path()).unwrap();
    put(&store, &["a"], b"1").await.unwrap();
    drop(store);
    copy(&root.join("gen-1"), &root.join("gen-2"));
    fs::write(root.join("CURRENT.next"), "gen-2\n").unwrap();
    fs::write(root.join("gen-1/snap.FFFFFFFFFFFFFFFF.generating"), "").unwrap();
    let store = Sled::open(dir.path()).unwrap();
    assert_eq!(store.current(), Revision(1));
    assert!(!root.join("gen-2").exists());
}
