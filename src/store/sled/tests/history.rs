//! Past revisions. They can be read after restarts and moves to other generations, as far back as history is kept.

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use imbl::OrdMap;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::store::{
    Error, Record, Revision, Store,
    sled::{
        Sled,
        committer::Tuning,
        tests::{SMALL, put, write},
    },
};

/// All records at each revision.
type States = BTreeMap<Revision, OrdMap<Bytes, Record>>;

/// One random commit of a few keys.
async fn commit(store: &Sled, states: &mut States, random: &mut StdRng) {
    let mut state = states.last_key_value().map(|(_, state)| state.clone()).unwrap_or_default();
    let mut writes = BTreeMap::new();
    for _ in 0..random.random_range(1..4) {
        let key = format!("{:02}", random.random_range(0..40));
        let at = state.get(key.as_bytes()).map(|record| record.revision);
        let size = if random.random_ratio(1, 10) { 20_000 } else { 600 };
        let value = vec![random.random(); random.random_range(0..size)];
        let value = (at.is_none() || random.random_ratio(3, 4)).then_some(value);
        writes.insert(key.clone(), write(&key, at, value));
    }
    let writes: Vec<_> = writes.into_values().collect();
    let revision = store.commit(writes.clone()).await.unwrap();
    for write in writes {
        let key = write.key;
        match write.value {
            Some(value) => state.insert(key.clone(), Record { key, value, revision }),
            None => state.remove(&key),
        };
    }
    states.insert(revision, state);
}

/// Reads every kept revision. Returns the oldest.
async fn check(store: &Sled, states: &States) -> Revision {
    let current = store.current();
    let oldest = match store.get(b"", Some(Revision(0))).await {
        Err(Error::Compacted { oldest }) => oldest,
        other => panic!("{other:?}"),
    };
    assert!(oldest < current);
    for revision in (oldest.0..=current.0).map(Revision) {
        let (records, _) = store.list(b"", Some(revision)).await.unwrap();
        assert!(records.iter().eq(states[&revision].values()), "all at {revision}");
        let (records, _) = store.list(b"1", Some(revision)).await.unwrap();
        let expected = states[&revision].values().filter(|record| record.key.starts_with(b"1"));
        assert!(records.iter().eq(expected), "some at {revision}");
    }
    let before = Revision(oldest.0 - 1);
    let error = store.list(b"", Some(before)).await.err();
    assert!(matches!(error, Some(Error::Compacted { .. })), "{error:?}");
    oldest
}

#[tokio::test]
async fn the_past_survives_restarts_and_moves() {
    let dir = TempDir::new().unwrap();
    let tuning = Tuning { renew_bytes_min: 1024 * 1024, ..SMALL };
    let mut random = StdRng::seed_from_u64(3);
    let mut states = States::from([(Revision(0), OrdMap::new())]);
    let generation = || fs::read_to_string(dir.path().join("store/CURRENT")).unwrap();
    let mut moves = 0;
    for round in 0..6 {
        let store = Sled::open_tuned(dir.path(), tuning).unwrap();
        for _ in 0..15 {
            let before = generation();
            for _ in 0..20 {
                commit(&store, &mut states, &mut random).await;
            }
            if generation() != before {
                moves += 1;
                check(&store, &states).await;
            }
        }
        if round % 3 == 2 {
            store.compact(Revision(store.current().0 - 30)).await.unwrap();
        }
        let oldest = check(&store, &states).await;
        drop(store);
        let store = Sled::open_tuned(dir.path(), tuning).unwrap();
        assert!(check(&store, &states).await <= oldest, "a restart forgets nothing");
    }
    assert!(moves > 2, "{moves} moves");
}

#[tokio::test]
async fn a_snapshot_becomes_a_store() {
    let dir = TempDir::new().unwrap();
    let store = Sled::open(&dir.path().join("old")).unwrap();
    let mut states = States::from([(Revision(0), OrdMap::new())]);
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..40 {
        commit(&store, &mut states, &mut random).await;
    }
    let (records, revision) = store.list(b"", None).await.unwrap();
    let dir = dir.path().join("new");
    let at = Revision(revision.0 + 1000);
    Sled::restore(&dir, records.clone(), at).unwrap();
    let error = Sled::restore(&dir, records.clone(), at).unwrap_err();
    assert!(matches!(error, Error::NotEmpty(_)), "{error}");
    for _ in 0..2 {
        let store = Sled::open(&dir).unwrap();
        assert_eq!(store.list(b"", None).await.unwrap(), (records.clone(), at));
        for before in [revision, Revision(at.0 - 1)] {
            let error = store.watch(before).await.err();
            assert!(matches!(error, Some(Error::Compacted { oldest }) if oldest == at));
        }
    }
    let store = Sled::open(&dir).unwrap();
    assert_eq!(put(&store, &["new"], b"1").await.unwrap(), Revision(at.0 + 1));
    assert_eq!(store.list(b"", Some(at)).await.unwrap().0, records);
}

/// A process is killed during a restore, at each step.
#[tokio::test]
async fn half_a_restore_is_refused() {
    let dir = TempDir::new().unwrap();
    let record = |i: u64| Record {
        key: Bytes::from(format!("{i:03}")),
        value: Bytes::from(vec![1; 100]),
        revision: Revision(i),
    };
    Sled::restore(dir.path(), (1..50).map(record).collect(), Revision(50)).unwrap();
    let root = dir.path().join("store");
    let refused = || {
        let error = Sled::open(dir.path()).err().expect("it is refused");
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        let error = Sled::restore(dir.path(), Vec::new(), Revision(9)).unwrap_err();
        assert!(matches!(error, Error::NotEmpty(_)), "{error}");
    };
    fs::rename(root.join("CURRENT"), root.join("CURRENT.next")).unwrap();
    refused();
    fs::remove_file(root.join("CURRENT.next")).unwrap();
    refused();
    fs::write(root.join("gen-1/db"), "begun").unwrap();
    refused();
    fs::remove_dir_all(root.join("gen-1")).unwrap();
    refused();
}
