//! Files of an open store are removed.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;

use crate::store::{
    Error, Store,
    sled::{Sled, tests::put},
};

/// How soon the store must notice it.
const NOTICE_MAX: Duration = Duration::from_secs(1);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

type Harm = (&'static str, fn(&Path), &'static str);

/// Each change to the directory of the store, and the path that the error names.
const HARMS: [Harm; 7] = [
    ("removed", |root| fs::remove_dir_all(root).unwrap(), "store/lock: it was removed"),
    (
        "moved",
        |root| fs::rename(root, root.with_extension("away")).unwrap(),
        "was removed or moved",
    ),
    (
        "replaced",
        |root| {
            let away = root.with_extension("away");
            fs::rename(root, &away).unwrap();
            copy(&away, root);
        },
        "it was replaced by another file",
    ),
    ("database", |root| fs::remove_file(root.join("gen-1/db")).unwrap(), "gen-1/db"),
    ("mark", |root| fs::remove_file(root.join("high-water")).unwrap(), "high-water"),
    ("pointer", |root| fs::remove_file(root.join("CURRENT")).unwrap(), "CURRENT"),
    ("lock", |root| fs::remove_file(root.join("lock")).unwrap(), "lock"),
];

#[tokio::test]
async fn nothing_is_acknowledged_into_removed_files() {
    for (name, harm, named) in HARMS {
        let dir = TempDir::new().unwrap();
        let store = Sled::open(dir.path()).unwrap();
        put(&store, &["a"], b"1").await.unwrap();
        harm(&dir.path().join("store"));
        let failed = put(&store, &["b"], b"1").await.unwrap_err();
        assert!(matches!(failed, Error::Failed { .. }), "{name}: {failed:?}");
        let stopped = put(&store, &["c"], b"1").await.unwrap_err();
        let text = stopped.to_string();
        assert!(matches!(stopped, Error::Stopped(_)), "{name}: {text}");
        assert!(text.contains(named) && text.contains("snapshot save"), "{name}: {text}");
        assert_eq!(store.list(b"", None).await.unwrap().0.len(), 1, "{name}: reads go on");
    }
}

#[tokio::test]
async fn it_is_noticed_without_a_write() {
    for (name, harm, _) in HARMS {
        let dir = TempDir::new().unwrap();
        let store = Sled::open(dir.path()).unwrap();
        put(&store, &["a"], b"1").await.unwrap();
        let mut stopped = store.stopped();
        let began = Instant::now();
        harm(&dir.path().join("store"));
        stopped.wait_for(Option::is_some).await.unwrap();
        assert!(began.elapsed() < NOTICE_MAX, "{name}: {:?}", began.elapsed());
    }
}

/// After a move of its data to another file, the store checks the new file.
#[tokio::test]
async fn a_move_is_no_loss() {
    let dir = TempDir::new().unwrap();
    let store = Sled::open_tuned(dir.path(), super::SMALL).unwrap();
    let moved = || fs::read_to_string(dir.path().join("store/CURRENT")).unwrap() != "gen-1\n";
    for round in 0_u32.. {
        let key = (round % 7).to_string();
        put(&store, &[&key], &round.to_le_bytes().repeat(20_000)).await.unwrap();
        if moved() {
            break;
        }
    }
    put(&store, &["after"], b"1").await.unwrap();
    assert!(store.stopped().borrow().is_none());
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    put(&store, &["lost"], b"1").await.unwrap_err();
}
