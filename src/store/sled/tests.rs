//! Tests of what only a store on disk does: reopening, crashes, damage, a full disk.

mod crash;
mod damage;
mod full;
mod gone;
mod history;
mod power;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc::sync_channel},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Commit, Error, Expect, Record, Revision, Store, Write,
    index::{Index, Limits},
};

use super::{LOOK, STALLED_LOOKS, Sled, committer::Tuning};

/// Low limits, so that short tests compact, clean and move data.
const SMALL: Tuning = Tuning {
    limits: Limits {
        age: Duration::from_secs(300),
        revisions_min: 20,
        revisions_max: 100,
        bytes_max: 1024 * 1024,
    },
    renew_bytes_min: 2 * 1024 * 1024,
    clean_bytes_min: 64 * 1024,
    clean_percent: 150,
    reserve: true,
};

/// Tells a child process its directory.
const DIR: &str = "SNOWGLOBE_STORE_TEST_DIR";

fn dir_of_child() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

fn write(key: &str, at: Option<Revision>, value: Option<Vec<u8>>) -> Write {
    let expect = at.map_or(Expect::Absent, Expect::At);
    Write { key: Bytes::copy_from_slice(key.as_bytes()), expect, value: value.map(Bytes::from) }
}

/// Creates or overwrites keys, in one commit.
async fn put(store: &Sled, keys: &[&str], value: &[u8]) -> Result<Revision, Error> {
    let mut writes = Vec::new();
    for key in keys {
        let at = store.get(key.as_bytes(), None).await.unwrap().map(|r| r.revision);
        writes.push(write(key, at, Some(value.to_vec())));
    }
    store.commit(writes).await
}

/// All data: current records, the revision and the history.
async fn everything(store: &Sled) -> (Vec<Record>, Revision, Vec<Commit>) {
    let (records, revision) = store.list(b"", None).await.unwrap();
    let from = match store.watch(Revision(0)).await {
        Ok(_) => Revision(0),
        Err(Error::Compacted { oldest }) => oldest,
        Err(other) => panic!("{other}"),
    };
    let count = usize::try_from(revision.0 - from.0).unwrap();
    let watch = store.watch(from).await.unwrap();
    let history: Vec<_> = watch.take(count).map(Result::unwrap).collect().await;
    for (commit, expected) in history.iter().zip(from.0 + 1..) {
        assert!(commit.iter().all(|change| change.revision == Revision(expected)));
    }
    (records, revision, history)
}

fn open_error(dir: &Path) -> Error {
    match Sled::open(dir) {
        Ok(_) => panic!("the store was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let dir = TempDir::new().unwrap();
    let mut before = (Vec::new(), Revision(0), Vec::new());
    for round in 0..4_u8 {
        let store = Sled::open(dir.path()).unwrap();
        assert_eq!(everything(&store).await, before, "round {round}");
        put(&store, &["a", "b"], &[round]).await.unwrap();
        put(&store, &[&format!("large/{round}")], &vec![round; 1_500_000]).await.unwrap();
        let gone = put(&store, &["gone"], b"x").await.unwrap();
        store.commit(vec![write("gone", Some(gone), None)]).await.unwrap();
        before = everything(&store).await;
        assert_eq!(before.1, Revision(u64::from(round + 1) * 4));
        assert_eq!(before.2.len(), usize::from(round + 1) * 4);
    }
    let blobs = dir.path().join("store/gen-1/blobs");
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 0, "no page became a blob");
}

#[tokio::test]
async fn closing_answers_what_waits() {
    let dir = TempDir::new().unwrap();
    let store = Sled::open(dir.path()).unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    put(&store, &["a"], b"1").await.unwrap();
    store.close();
    assert!(matches!(put(&store, &["b"], b"1").await, Err(Error::Closed)));
    assert_eq!(store.list(b"", None).await.unwrap().0.len(), 1, "reads go on");
    assert_eq!(watch.next().await.unwrap().unwrap()[0].key, "a");
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    let again = Sled::open(dir.path()).unwrap();
    assert_eq!(again.current(), Revision(1));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = TempDir::new().unwrap();
    let store = Sled::open(dir.path()).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, Error::InUse(_)), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    put(&store, &["a"], b"1").await.unwrap();
    drop(store);
    Sled::open(dir.path()).unwrap();
}

/// Compares random commits with a model, while history is compacted, the log cleaned and data moved many times.
#[tokio::test]
async fn churn_matches_a_model() {
    let dir = TempDir::new().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut model: BTreeMap<String, (Vec<u8>, Revision)> = BTreeMap::new();
    let mut last_history: Vec<Commit> = Vec::new();
    for round in 0..8 {
        let store = Sled::open_tuned(dir.path(), SMALL).unwrap();
        for _ in 0..30 {
            let mut batches = Vec::new();
            for worker in 0..40 {
                let mut writes = Vec::new();
                for _ in 0..random.random_range(1..4) {
                    let key = format!("{worker:02}/{}", random.random_range(0..12));
                    if writes.iter().any(|w: &Write| w.key == key) {
                        continue;
                    }
                    let at = model.get(&key).map(|(_, revision)| *revision);
                    let size = if random.random_ratio(1, 20) { 20_000 } else { 300 };
                    let value = vec![random.random(); random.random_range(0..size)];
                    let value = (at.is_none() || random.random_ratio(3, 4)).then_some(value);
                    writes.push(write(&key, at, value));
                }
                batches.push(writes);
            }
            let revisions = join_all(batches.iter().map(|b| store.commit(b.clone()))).await;
            for (writes, revision) in batches.into_iter().zip(revisions) {
                let revision = revision.unwrap();
                for Write { key, value, .. } in writes {
                    let key = String::from_utf8(key.to_vec()).unwrap();
                    match value {
                        Some(value) => model.insert(key, (value.to_vec(), revision)),
                        None => model.remove(&key),
                    };
                }
            }
        }
        if round == 5 {
            store.compact(store.current()).await.unwrap();
        }
        drop(store);
        let store = Sled::open_tuned(dir.path(), SMALL).unwrap();
        let (records, revision, history) = everything(&store).await;
        assert_eq!(revision, Revision((round + 1) * 30 * 40));
        let read: BTreeMap<_, _> = records
            .into_iter()
            .map(|r| (String::from_utf8(r.key.to_vec()).unwrap(), (r.value.to_vec(), r.revision)))
            .collect();
        assert!(read == model, "round {round}");
        assert!(history.len() <= 100 && !history.is_empty());
        assert!(
            history.first().unwrap()[0].revision
                > last_history.last().map_or(Revision(0), |c| c[0].revision)
        );
        last_history = history;
    }
    let generations: Vec<_> = fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("gen-"))
        .collect();
    assert_eq!(generations.len(), 1, "old generations are removed");
    assert_ne!(generations, ["gen-1"], "the data has moved");
    let size =
        fs::metadata(dir.path().join("store").join(&generations[0]).join("db")).unwrap().len();
    assert!(size < 16 * 1024 * 1024, "the file has {size} bytes");
}

/// If the data cannot move, the log is cleaned. The file stays small and all data can be read.
#[tokio::test]
async fn a_cleaned_log_keeps_everything() {
    let dir = TempDir::new().unwrap();
    let tuning = Tuning { renew_bytes_min: u64::MAX, ..SMALL };
    let mut random = StdRng::seed_from_u64(5);
    let key = |nth: u32| format!("{nth:03}");
    for round in 0..4 {
        let store = Sled::open_tuned(dir.path(), tuning).unwrap();
        // Some keys stay, many change, some are deleted and created again.
        for nth in 0..200 {
            if round == 0 || nth >= 100 {
                put(&store, &[&key(nth)], &[1; 2000]).await.unwrap();
            }
        }
        for _ in 0..8_000 {
            let key = key(random.random_range(100..200));
            let at = store.get(key.as_bytes(), None).await.unwrap().map(|r| r.revision);
            let value = (at.is_none() || random.random_ratio(2, 3)).then(|| vec![2; 2000]);
            store.commit(vec![write(&key, at, value)]).await.unwrap();
        }
        for nth in 100..200 {
            let at = store.get(key(nth).as_bytes(), None).await.unwrap().map(|r| r.revision);
            if let Some(at) = at {
                store.commit(vec![write(&key(nth), Some(at), None)]).await.unwrap();
            }
        }
        let before = everything(&store).await;
        assert_eq!(before.0.len(), 100);
        drop(store);
        let store = Sled::open_tuned(dir.path(), tuning).unwrap();
        assert!(everything(&store).await == before, "round {round}");
    }
    let size = fs::metadata(dir.path().join("store/gen-1/db")).unwrap().len();
    assert!(size < 32 * 1024 * 1024, "64 MB were written, the file has {size} bytes");
}

/// If the committer never answers, as when the disk hangs, all waiting commits get an error.
#[tokio::test(start_paused = true)]
async fn a_hanging_disk_stops_writes() {
    let (queue, mut requests) = mpsc::channel(1);
    let (_alive, thread) = sync_channel(0);
    let index = Arc::new(Index::new(SMALL.limits));
    let (closing, stalled) = (CancellationToken::new(), CancellationToken::new());
    let (dir, thread) = (PathBuf::from("/data"), Mutex::new(thread));
    let stopped = Arc::new(watch::Sender::new(None));
    let store = Sled { dir, index, queue, closing, stopped, stalled, thread };
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let one = |key| vec![write(key, None, Some(b"1".to_vec()))];
    let slow = async {
        // It answers slowly, and then it hangs.
        for revision in 1..=3 {
            tokio::time::sleep(LOOK * (STALLED_LOOKS - 1)).await;
            let request = requests.recv().await.unwrap();
            store.index.commit(request.writes).unwrap();
            request.reply.send(Ok(Revision(revision))).unwrap();
        }
        requests
    };
    let (requests, first, second, third) =
        tokio::join!(slow, store.commit(one("a")), store.commit(one("b")), store.commit(one("c")));
    assert!(first.is_ok() && second.is_ok() && third.is_ok(), "{first:?} {second:?} {third:?}");
    let began = tokio::time::Instant::now();
    let hanging = join_all(["d", "e", "f"].map(|key| store.commit(one(key)))).await;
    assert_eq!(began.elapsed(), LOOK * STALLED_LOOKS);
    for outcome in hanging {
        assert!(matches!(outcome, Err(Error::Failed { .. })), "{outcome:?}");
    }
    let refused = store.commit(one("g")).await;
    assert!(matches!(refused, Err(Error::Stopped(_))), "{refused:?}");
    assert!(matches!(*store.stopped().borrow(), Some(Error::Stopped(_))));
    assert_eq!(store.list(b"", None).await.unwrap().0.len(), 3, "reads go on");
    for _ in 0..3 {
        watch.next().await.unwrap().unwrap();
    }
    assert!(futures::poll!(watch.next()).is_pending(), "and so do watches");
    // Dropping the store does not wait for the thread.
    drop(store);
    drop(requests);
}
