//! The contract of [`Store`]: one suite of tests that runs for each backend.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::store::{
    Change, Commit, Error, Etcd, Expect, Memory, Record, Revision, Sled, Store, Watch, Write,
    etcd::server::Server,
};

/// A new store, and what must live as long as it does.
struct Opened {
    store: Arc<dyn Store>,
    _server: Option<Server>,
}

impl Opened {
    fn embedded(store: impl Store) -> Option<Self> {
        Some(Self { store: Arc::new(store), _server: None })
    }

    /// `None` if the machine has no etcd.
    async fn etcd() -> Option<Self> {
        let server = Server::start()?;
        let store = Arc::new(Etcd::open(server.options()).await.unwrap());
        Some(Self { store, _server: Some(server) })
    }
}

/// Runs every test with a new store.
macro_rules! suite {
    ($backend:ident, $open:expr, $($case:ident),+ $(,)?) => {
        mod $backend {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let dir = TempDir::new().unwrap();
                    let open = $open;
                    let opened: Option<Opened> = open(dir.path()).await;
                    let Some(Opened { store, _server }) = opened else { return };
                    super::$case(store).await;
                }
            )+
        }
    };
    ($backend:ident, $open:expr) => {
        suite!(
            $backend,
            $open,
            get_and_list,
            commits_are_all_or_nothing,
            expectations,
            invalid_commits,
            empty_commits,
            revisions_have_no_gap,
            watch_from_the_past,
            watch_from_now,
            watch_keeps_commits_whole,
            compacted_history,
            reads_of_the_past,
            reads_outside_the_kept_history,
            slow_watcher,
            one_winner_per_expectation,
            watchers_see_everything_in_order,
            list_then_watch_misses_nothing,
            large_values,
        );
    };
}

suite!(memory, async |_: &Path| Opened::embedded(Memory::new()));
suite!(sled, async |dir: &Path| Opened::embedded(Sled::open(dir).unwrap()));
suite!(etcd, async |_: &Path| Opened::etcd().await);

fn create(key: &str, value: &str) -> Write {
    put(key, Expect::Absent, value)
}

fn put(key: &str, expect: Expect, value: &str) -> Write {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Write { key: Bytes::copy_from_slice(key.as_bytes()), expect, value }
}

fn delete(key: &str, revision: Revision) -> Write {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Write { key, expect: Expect::At(revision), value: None }
}

async fn value(store: &dyn Store, key: &str) -> Option<(String, u64)> {
    let record = store.get(key.as_bytes(), None).await.unwrap()?;
    assert_eq!(record.key, key);
    Some((String::from_utf8(record.value.to_vec()).unwrap(), record.revision.0))
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let (records, _) = store.list(prefix.as_bytes(), None).await.unwrap();
    records.iter().map(|r| String::from_utf8(r.key.to_vec()).unwrap()).collect()
}

async fn next(watch: &mut Watch) -> Commit {
    watch.next().await.unwrap().unwrap()
}

async fn fill(store: &dyn Store, count: u64) {
    for i in 0..count {
        store.commit(vec![create(&format!("fill/{i:06}"), "x")]).await.unwrap();
    }
}

async fn get_and_list(store: Arc<dyn Store>) {
    assert_eq!(store.list(b"", None).await.unwrap(), (Vec::new(), Revision(0)));
    for key in ["b/2", "a/1", "b/10", "b/1", "b0", "b"] {
        store.commit(vec![create(key, &format!("value of {key}"))]).await.unwrap();
    }
    assert_eq!(value(&*store, "b/10").await, Some(("value of b/10".to_owned(), 3)));
    assert_eq!(value(&*store, "b/").await, None);
    let cases: &[(&str, &[&str])] = &[
        ("", &["a/1", "b", "b/1", "b/10", "b/2", "b0"]),
        ("b/", &["b/1", "b/10", "b/2"]),
        ("b/1", &["b/1", "b/10"]),
        ("b/2", &["b/2"]),
        ("c", &[]),
    ];
    for (prefix, expected) in cases {
        assert_eq!(&keys(&*store, prefix).await, expected, "prefix {prefix}");
    }
    store.commit(vec![delete("b/10", Revision(3))]).await.unwrap();
    assert_eq!(value(&*store, "b/10").await, None);
    assert_eq!(keys(&*store, "b/").await, ["b/1", "b/2"]);
    assert_eq!(store.list(b"b/", None).await.unwrap().1, Revision(7));
}

async fn commits_are_all_or_nothing(store: Arc<dyn Store>) {
    let first = store.commit(vec![create("a", "1"), create("b", "1")]).await.unwrap();
    let refused = store
        .commit(vec![put("a", Expect::At(first), "2"), create("c", "2"), create("b", "2")])
        .await;
    assert!(
        matches!(&refused, Err(Error::Conflict { key, found }) if key == "b" && *found == Some(first)),
        "{refused:?}"
    );
    assert_eq!(store.current(), first);
    assert_eq!(value(&*store, "a").await, Some(("1".to_owned(), 1)));
    assert_eq!(keys(&*store, "").await, ["a", "b"]);
    let second = store
        .commit(vec![put("a", Expect::At(first), "2"), delete("b", first), create("c", "2")])
        .await
        .unwrap();
    assert_eq!(second, Revision(2));
    assert_eq!(keys(&*store, "").await, ["a", "c"]);
}

async fn expectations(store: Arc<dyn Store>) {
    let absent = store.commit(vec![put("k", Expect::At(Revision(1)), "x")]).await;
    assert!(matches!(absent, Err(Error::Conflict { found: None, .. })), "{absent:?}");
    let first = store.commit(vec![create("k", "1")]).await.unwrap();
    let exists = store.commit(vec![create("k", "2")]).await;
    assert!(matches!(exists, Err(Error::Conflict { found: Some(r), .. }) if r == first));
    let second = store.commit(vec![put("k", Expect::At(first), "2")]).await.unwrap();
    for stale in [put("k", Expect::At(first), "3"), delete("k", first), create("k", "3")] {
        let refused = store.commit(vec![stale]).await;
        assert!(matches!(refused, Err(Error::Conflict { found: Some(r), .. }) if r == second));
    }
    let third = store.commit(vec![delete("k", second)]).await.unwrap();
    let gone = store.commit(vec![delete("k", third)]).await;
    assert!(matches!(gone, Err(Error::Conflict { found: None, .. })), "{gone:?}");
    assert_eq!(store.commit(vec![create("k", "4")]).await.unwrap(), Revision(4));
}

async fn invalid_commits(store: Arc<dyn Store>) {
    let long = "k".repeat(1025);
    let huge = "v".repeat(2 * 1024 * 1024 + 1);
    let big = &huge[..2 * 1024 * 1024];
    let cases = [
        ("a key twice", vec![create("a", "1"), create("b", "1"), create("a", "2")]),
        ("delete of nothing", vec![Write { value: None, ..create("a", "") }]),
        ("long key", vec![create(&long, "1")]),
        ("huge value", vec![create("a", &huge)]),
        ("huge commit", (0..5).map(|i| create(&format!("{i}"), big)).collect()),
        ("many writes", (0..4097).map(|i| create(&format!("{i}"), "")).collect()),
    ];
    for (name, writes) in cases {
        let refused = store.commit(writes).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name}: {refused:?}");
    }
    assert_eq!(store.current(), Revision(0));
    assert!(keys(&*store, "").await.is_empty());
}

async fn empty_commits(store: Arc<dyn Store>) {
    assert_eq!(store.commit(Vec::new()).await.unwrap(), Revision(0));
    fill(&*store, 2).await;
    assert_eq!(store.commit(Vec::new()).await.unwrap(), Revision(2));
    assert_eq!(store.current(), Revision(2));
    store.commit(vec![create("", "")]).await.unwrap();
    assert_eq!(value(&*store, "").await, Some((String::new(), 3)));
}

async fn revisions_have_no_gap(store: Arc<dyn Store>) {
    let mut last = None;
    for i in 1..=20 {
        let expect = last.map_or(Expect::Absent, Expect::At);
        let revision = store.commit(vec![put("k", expect, "v")]).await.unwrap();
        assert_eq!(revision, Revision(i));
        assert_eq!(store.current(), revision);
        let refused = store.commit(vec![create("k", "w")]).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })));
        last = Some(revision);
    }
}

async fn watch_from_the_past(store: Arc<dyn Store>) {
    fill(&*store, 5).await;
    store.commit(vec![delete("fill/000001", Revision(2))]).await.unwrap();
    for after in 0..=6 {
        let watch = store.watch(Revision(after)).await.unwrap();
        let count = usize::try_from(6 - after).unwrap();
        let commits: Vec<_> = watch.take(count).map(Result::unwrap).collect().await;
        let revisions: Vec<_> = commits.iter().map(|commit| commit[0].revision.0).collect();
        assert_eq!(revisions, (after + 1..=6).collect::<Vec<_>>());
        if let Some(commit) = commits.last() {
            let key = Bytes::from_static(b"fill/000001");
            assert_eq!(**commit, [Change { revision: Revision(6), key, value: None }]);
        }
    }
}

async fn watch_from_now(store: Arc<dyn Store>) {
    fill(&*store, 3).await;
    let mut watch = store.watch(store.current()).await.unwrap();
    let mut ahead = store.watch(Revision(5)).await.unwrap();
    let mut pending = Box::pin(next(&mut watch));
    assert!(futures::poll!(&mut pending).is_pending(), "nothing has happened yet");
    store.commit(vec![create("a", "1")]).await.unwrap();
    assert_eq!(pending.await[0].key, "a");
    store.commit(vec![create("b", "1")]).await.unwrap();
    store.commit(vec![create("c", "1")]).await.unwrap();
    assert_eq!(next(&mut watch).await[0].key, "b");
    assert_eq!(next(&mut ahead).await[0].revision, Revision(6), "from a revision to come");
}

async fn watch_keeps_commits_whole(store: Arc<dyn Store>) {
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let first = store.commit(vec![create("z", "1"), create("a", "1")]).await.unwrap();
    store
        .commit(vec![delete("z", first), create("m", "2"), put("a", Expect::At(first), "2")])
        .await
        .unwrap();
    let as_text = |commit: Commit| -> Vec<_> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        commit.iter().map(|c| (c.revision.0, text(&c.key), c.value.as_ref().map(text))).collect()
    };
    let change = |revision, key: &str, value: Option<&str>| {
        (revision, key.to_owned(), value.map(str::to_owned))
    };
    let expected = [change(1, "z", Some("1")), change(1, "a", Some("1"))];
    assert_eq!(as_text(next(&mut watch).await), expected);
    let expected = [change(2, "z", None), change(2, "m", Some("2")), change(2, "a", Some("2"))];
    assert_eq!(as_text(next(&mut watch).await), expected, "in the order of the writes");
}

async fn compacted_history(store: Arc<dyn Store>) {
    fill(&*store, 10).await;
    store.compact(Revision(6)).await.unwrap();
    store.compact(Revision(3)).await.unwrap();
    let oldest = match store.watch(Revision(4)).await {
        Err(Error::Compacted { oldest }) => oldest,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a watch of compacted history"),
    };
    assert_eq!(oldest, Revision(5));
    let mut watch = store.watch(oldest).await.unwrap();
    assert_eq!(next(&mut watch).await[0].revision, Revision(6));
    assert_eq!(keys(&*store, "").await.len(), 10, "current values stay");
    store.compact(Revision(1000)).await.unwrap();
    assert!(matches!(store.watch(Revision(8)).await, Err(Error::Compacted { .. })));
    let mut watch = store.watch(Revision(10)).await.unwrap();
    store.commit(vec![create("a", "1")]).await.unwrap();
    assert_eq!(next(&mut watch).await[0].revision, Revision(11));
}

/// All records at a revision. Checks that `get` and `list` agree.
async fn state_at(store: &dyn Store, at: Revision) -> BTreeMap<String, (String, Revision)> {
    let (records, listed) = store.list(b"", Some(at)).await.unwrap();
    assert_eq!(listed, at);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let mut state = BTreeMap::new();
    for record in records {
        let got = store.get(&record.key, Some(at)).await.unwrap();
        assert_eq!(got.as_ref(), Some(&record), "at {at}");
        state.insert(text(&record.key), (text(&record.value), record.revision));
    }
    state
}

/// Writes a changing set of keys. Returns the revision of each commit and the state after it.
async fn write_history(store: &dyn Store) -> Vec<(Revision, BTreeMap<String, (String, Revision)>)> {
    let mut state: BTreeMap<String, (String, Revision)> = BTreeMap::new();
    let mut history = Vec::new();
    for round in 0..24_u32 {
        let mut writes = Vec::new();
        for name in [format!("a/{}", round % 5), format!("b/{}", round % 3), "c".to_owned()] {
            let at = state.get(&name).map(|(_, revision)| *revision);
            let expect = at.map_or(Expect::Absent, Expect::At);
            match at {
                Some(at) if (round + u32::from(name.as_bytes()[0])) % 4 == 0 => {
                    writes.push((name.clone(), None, delete(&name, at)));
                }
                _ => {
                    let value = format!("{round} of {name}");
                    writes.push((name.clone(), Some(value.clone()), put(&name, expect, &value)));
                }
            }
        }
        let commit = writes.iter().map(|(_, _, write)| write.clone()).collect();
        let revision = store.commit(commit).await.unwrap();
        for (name, value, _) in writes {
            match value {
                Some(value) => state.insert(name, (value, revision)),
                None => state.remove(&name),
            };
        }
        history.push((revision, state.clone()));
    }
    history
}

async fn reads_of_the_past(store: Arc<dyn Store>) {
    let history = write_history(&*store).await;
    let mut deleted = 0;
    for (revision, state) in &history {
        assert_eq!(&state_at(&*store, *revision).await, state, "at {revision}");
        for key in ["a/0", "a/4", "b/2", "c", "never"] {
            let record = store.get(key.as_bytes(), Some(*revision)).await.unwrap();
            deleted += usize::from(record.is_none() && key != "never");
            assert_eq!(record.map(|r| r.revision), state.get(key).map(|(_, at)| *at));
        }
        let (below, _) = store.list(b"b/", Some(*revision)).await.unwrap();
        let expected = state.keys().filter(|key| key.starts_with("b/"));
        assert!(below.iter().map(|r| &r.key[..]).eq(expected.map(String::as_bytes)));
    }
    assert!(deleted > 0, "some reads found what was deleted or not there yet");
    let (now, _) = store.list(b"", None).await.unwrap();
    let (last, _) = store.list(b"", Some(store.current())).await.unwrap();
    assert_eq!(now, last);
}

async fn reads_outside_the_kept_history(store: Arc<dyn Store>) {
    let history = write_history(&*store).await;
    let ahead = Revision(store.current().0 + 100);
    let future = |result: Option<Error>| match result {
        Some(Error::Future { current }) => assert_eq!(current, store.current()),
        other => panic!("{other:?}"),
    };
    future(store.list(b"", Some(ahead)).await.err());
    future(store.get(b"c", Some(ahead)).await.err());
    let (before, _) = history[12];
    store.compact(before).await.unwrap();
    let (long_ago, _) = history[4];
    for error in [
        store.list(b"", Some(long_ago)).await.err(),
        store.get(b"c", Some(long_ago)).await.err(),
        store.get(b"never", Some(long_ago)).await.err(),
    ] {
        let Some(Error::Compacted { oldest }) = error else { panic!("{error:?}") };
        assert!(oldest > long_ago && oldest <= before, "{long_ago} < {oldest} <= {before}");
        let (_, state) = history.iter().rev().find(|(revision, _)| *revision <= oldest).unwrap();
        assert_eq!(&state_at(&*store, oldest).await, state, "the oldest that is kept");
    }
    for (revision, state) in &history[12..] {
        assert_eq!(&state_at(&*store, *revision).await, state, "at {revision}");
    }
}

async fn slow_watcher(store: Arc<dyn Store>) {
    fill(&*store, 1).await;
    let mut watch = store.watch(Revision(0)).await.unwrap();
    assert_eq!(next(&mut watch).await[0].revision, Revision(1));
    for i in 0..20 {
        store.commit(vec![create(&format!("{i}"), "x")]).await.unwrap();
    }
    store.compact(Revision(20)).await.unwrap();
    let lagged = watch.next().await.unwrap();
    assert!(matches!(lagged, Err(Error::Lagged)), "{lagged:?}");
    assert!(watch.next().await.is_none());
}

/// Many writers increment one counter. Only one of them wins each revision.
async fn one_winner_per_expectation(store: Arc<dyn Store>) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 15;
    store.commit(vec![create("counter", "0")]).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut won = Vec::new();
            while won.len() < usize::try_from(ROUNDS).unwrap() {
                let (count, at) = value(&*store, "counter").await.unwrap();
                let count = count.parse::<u64>().unwrap() + 1;
                let write = put("counter", Expect::At(Revision(at)), &count.to_string());
                match store.commit(vec![write]).await {
                    Ok(revision) => won.push((revision, count)),
                    Err(Error::Conflict { found, .. }) => assert!(found > Some(Revision(at))),
                    Err(other) => panic!("{other:?}"),
                }
            }
            won
        });
    }
    let mut won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    won.sort_unstable();
    let expected: Vec<_> = (1..=WRITERS * ROUNDS).map(|i| (Revision(i + 1), i)).collect();
    assert_eq!(won, expected);
}

async fn watchers_see_everything_in_order(store: Arc<dyn Store>) {
    const WRITERS: u64 = 16;
    const COMMITS: u64 = 25;
    let mut watchers = JoinSet::new();
    for _ in 0..4 {
        let watch = store.watch(Revision(0)).await.unwrap();
        let count = usize::try_from(WRITERS * COMMITS).unwrap();
        watchers.spawn(watch.take(count).map(Result::unwrap).collect::<Vec<_>>());
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for i in 0..COMMITS {
                let name = format!("{writer}/{i}");
                let writes =
                    vec![create(&format!("a/{name}"), ""), create(&format!("b/{name}"), "")];
                let revision = store.commit(writes).await.unwrap();
                assert_eq!(value(&*store, &format!("a/{name}")).await.unwrap().1, revision.0);
            }
        });
    }
    writers.join_all().await;
    let seen = watchers.join_all().await;
    for commits in &seen {
        let revisions: Vec<_> = commits.iter().map(|commit| commit[0].revision.0).collect();
        assert_eq!(revisions, (1..=WRITERS * COMMITS).collect::<Vec<_>>());
        assert!(commits.iter().all(|c| c.len() == 2 && c[0].key[1..] == c[1].key[1..]));
        assert_eq!(commits, &seen[0]);
    }
}

/// Caches depend on this rule: a list, and a watch from its revision, together give the current state.
async fn list_then_watch_misses_nothing(store: Arc<dyn Store>) {
    const KEYS: u64 = 8;
    let mut tasks = JoinSet::new();
    for key in 0..KEYS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let key = format!("key/{key}");
            let mut at = store.commit(vec![create(&key, "0")]).await.unwrap();
            for i in 1..30 {
                at = store.commit(vec![put(&key, Expect::At(at), &i.to_string())]).await.unwrap();
                if i % 10 == 0 {
                    store.commit(vec![delete(&key, at)]).await.unwrap();
                    at = store.commit(vec![create(&key, &i.to_string())]).await.unwrap();
                }
            }
        });
    }
    let mut readers = Vec::new();
    for _ in 0..10 {
        let (records, revision) = store.list(b"key/", None).await.unwrap();
        let watch = store.watch(revision).await.unwrap();
        readers.push((records, revision, watch));
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    let (expected, last) = store.list(b"key/", None).await.unwrap();
    let replay = readers.into_iter().map(async |(records, revision, watch)| {
        let mut state: BTreeMap<Bytes, Record> =
            records.into_iter().map(|r| (r.key.clone(), r)).collect();
        let count = usize::try_from(last.0 - revision.0).unwrap();
        let commits: Vec<_> = watch.take(count).map(Result::unwrap).collect().await;
        for Change { revision, key, value } in commits.iter().flat_map(|c| c.iter().cloned()) {
            match value {
                Some(value) => state.insert(key.clone(), Record { key, value, revision }),
                None => state.remove(&key),
            };
        }
        state.into_values().collect::<Vec<_>>()
    });
    for state in join_all(replay).await {
        assert_eq!(state, expected);
    }
}

async fn large_values(store: Arc<dyn Store>) {
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let sizes = [4000, 4078, 4079, 4080, 4096, 8192, 100_000, 1024 * 1024, 1536 * 1024];
    for size in sizes {
        let value: Bytes = (0..size).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
        let key = Bytes::from(format!("large/{size:08}"));
        let write = Write { key: key.clone(), expect: Expect::Absent, value: Some(value.clone()) };
        store.commit(vec![write]).await.unwrap();
        assert_eq!(store.get(&key, None).await.unwrap().unwrap().value, value);
        assert_eq!(next(&mut watch).await[0].value, Some(value));
    }
    assert_eq!(keys(&*store, "large/").await.len(), sizes.len());
}
