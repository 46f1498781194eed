use std::{os::unix::ffi::OsStrExt, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use rustix::process::Signal;
use tokio::{io::AsyncWriteExt, net::TcpListener, time::Instant};

use super::{server::Server, *};
use crate::store::{Commit, Expect};

mod owners;

fn create(key: &str, value: impl Into<Bytes>) -> Write {
    put(key, Expect::Absent, value)
}

fn put(key: &str, expect: Expect, value: impl Into<Bytes>) -> Write {
    Write { key: Bytes::copy_from_slice(key.as_bytes()), expect, value: Some(value.into()) }
}

async fn next(watch: &mut Watch) -> Commit {
    watch.next().await.unwrap().unwrap()
}

async fn keys(store: &Etcd) -> Vec<Bytes> {
    store.list(b"", None).await.unwrap().0.into_iter().map(|record| record.key).collect()
}

/// Retries a write until etcd is available again.
async fn until_written(store: &Etcd, key: &str) -> Revision {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match store.commit(vec![create(key, "1")]).await {
            Ok(revision) => return revision,
            Err(error) => assert!(Instant::now() < until, "{key}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Bytes that do not repeat.
fn noise(bytes: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..bytes).map(|_| next()).collect()
}

fn chunks(server: &Server) -> usize {
    server.etcdctl(&["get", "--prefix", "--keys-only", "/tests/chunk/"]).split_whitespace().count()
}

#[tokio::test]
async fn large_values_leave_nothing_behind() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let (first, second) = (noise(1_600_000, 1), noise(2 * 1024 * 1024, 2));
    let at = store
        .commit(vec![create("big", first.clone()), create("small", "1"), create("big2", first)])
        .await
        .unwrap();
    assert_eq!(chunks(&server), 8);
    let seen = next(&mut watch).await;
    assert_eq!(
        seen.iter().map(|change| &change.key[..]).collect::<Vec<_>>(),
        [&b"big"[..], b"small", b"big2"]
    );
    // A refused commit leaves no chunks. A value can be replaced without reading it.
    let refused = store.commit(vec![create("big", second.clone()), create("other", "")]).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert_eq!(chunks(&server), 8);
    let at2 = store.commit(vec![put("big", Expect::At(at), second.clone())]).await.unwrap();
    assert_eq!(chunks(&server), 8, "four of each");
    assert_eq!(next(&mut watch).await[0].value, Some(second.clone()));
    assert_eq!(store.get(b"big", None).await.unwrap().unwrap().value, second);
    assert_eq!(store.list(b"big", Some(at)).await.unwrap().0[0].value.len(), 1_600_000);
    let key = Bytes::from_static(b"big2");
    store
        .commit(vec![
            put("big", Expect::At(at2), "now small"),
            Write { key, expect: Expect::At(at), value: None },
        ])
        .await
        .unwrap();
    assert_eq!(chunks(&server), 0);
    // One lease of the owner and one for each commit, which expire by themselves.
    assert_eq!(server.etcdctl(&["lease", "list"]).lines().count(), 4);
}

#[tokio::test]
async fn it_goes_on_after_etcd_was_killed() {
    let Some(mut server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    store.commit(vec![create("a", "1")]).await.unwrap();
    assert_eq!(next(&mut watch).await[0].key, "a");
    store.commit(vec![create("b", "1")]).await.unwrap();
    server.kill();
    let began = Instant::now();
    for _ in 0..20 {
        let refused = store.commit(vec![create("c", "1")]).await.unwrap_err();
        let expected = matches!(refused, Error::Unavailable(_) | Error::Unknown(_));
        assert!(expected, "{refused:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let refused = store.commit(vec![create("c", "1")]).await.unwrap_err();
    assert!(refused.to_string().contains(&server.options().urls()), "{refused}");
    server.start_again();
    until_written(&store, "d").await;
    assert_eq!(next(&mut watch).await[0].key, "b");
    assert_eq!(next(&mut watch).await[0].key, "d");
}

#[tokio::test]
async fn an_etcd_that_hangs_is_given_up() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    server.signal(Signal::STOP);
    // Some of etcd's threads may run for a moment after the signal.
    let (began, mut i) = (Instant::now(), 0);
    let unknown = loop {
        match store.commit(vec![create(&format!("a{i}"), "1")]).await {
            Ok(_) => i += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(unknown, Error::Unknown(_)), "{unknown:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let began = Instant::now();
    let refused = store.commit(vec![create("b", "1")]).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    server.signal(Signal::CONT);
    until_written(&store, "c").await;
    // A commit with an unknown result either happened or did not.
    while next(&mut watch).await[0].key.starts_with(b"a") {}
    let last = until_written(&store, "d").await;
    assert_eq!(store.current(), last);
    assert_eq!(next(&mut watch).await[0].key, "d");
}

#[tokio::test]
async fn others_write_too() {
    let Some(server) = Server::start() else { return };
    let one = Etcd::open(server.options()).await.unwrap();
    let mut watch = one.watch(one.current()).await.unwrap();
    let first = one.commit(vec![create("k", "1")]).await.unwrap();
    for key in ["/other", "/testsabc", "/tests"] {
        server.etcdctl(&["put", key, "x"]);
    }
    let second = one.commit(vec![put("k", Expect::At(first), "2")]).await.unwrap();
    assert!(second > Revision(first.0 + 3), "{second}: revisions of others lie between");
    let stale = one.commit(vec![put("k", Expect::At(first), "3")]).await.unwrap_err();
    assert!(matches!(stale, Error::Conflict { found, .. } if found == Some(second)), "{stale:?}");
    for expected in [first, second] {
        assert_eq!(next(&mut watch).await[0].revision, expected);
    }
    assert_eq!(one.current(), second);
    assert_eq!(keys(&one).await, ["k"]);
    let neighbour = Options { prefix: "/tests/inner".into(), ..server.options() };
    assert!(keys(&Etcd::open(neighbour).await.unwrap()).await.is_empty());
}

#[tokio::test]
async fn history_that_others_compacted_is_told() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    for key in ["a", "b", "c"] {
        store.commit(vec![create(key, "1")]).await.unwrap();
    }
    let status = server.etcdctl(&["get", "/tests/meta", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let revision = status["header"]["revision"].as_i64().unwrap();
    let mut watch = store.watch(Revision(3)).await.unwrap();
    server.etcdctl(&["compact", &revision.to_string()]);
    let Err(Error::Compacted { oldest }) = store.watch(Revision(1)).await else {
        panic!("a watch of what was compacted")
    };
    assert_eq!(oldest, Revision(3));
    let at = store.get(b"a", Some(Revision(1))).await;
    assert!(matches!(at, Err(Error::Compacted { oldest }) if oldest == Revision(3)), "{at:?}");
    store.compact(Revision(3)).await.unwrap();
    store.commit(vec![create("d", "1")]).await.unwrap();
    assert_eq!(next(&mut watch).await[0].key, "d");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut expected = Vec::new();
    for page in 0..12 {
        let keys: Vec<_> = (0..100).map(|i| format!("{page:02}/{i:03}")).collect();
        let value = |i: usize| noise(if i < 50 { 18_000 } else { 10 }, 7);
        let writes = keys.iter().enumerate().map(|(i, key)| create(key, value(i))).collect();
        store.commit(writes).await.unwrap();
        expected.extend(keys);
    }
    for i in 0..30 {
        let key = format!("99/{i:03}");
        store.commit(vec![create(&key, noise(1024 * 1024 - 100, 3))]).await.unwrap();
        expected.push(key);
    }
    let (records, revision) = store.list(b"", None).await.unwrap();
    assert_eq!(revision, Revision(42));
    assert!(records.iter().map(|record| &record.key[..]).eq(expected.iter().map(String::as_bytes)));
    let bytes: usize = records.iter().map(|record| record.value.len()).sum();
    assert_eq!(bytes, 12 * (50 * 18_000 + 50 * 10) + 30 * (1024 * 1024 - 100));
}

#[tokio::test]
async fn what_etcd_does_not_take_is_explained() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let many = (0..128).map(|i| create(&i.to_string(), "")).collect();
    let refused = store.commit(many).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Invalid(text) if text.contains("--max-txn-ops")),
        "{refused}"
    );
    let most = (0..127).map(|i| create(&i.to_string(), "")).collect();
    assert_eq!(store.commit(most).await.unwrap(), Revision(1));
}

#[tokio::test]
async fn snapshots_are_restored_above_their_revision() {
    let Some(server) = Server::start() else { return };
    let record = |i: u64| Record {
        key: format!("key/{i:04}").into(),
        value: noise(if i == 7 { 2_000_000 } else { 1000 }, 5),
        revision: Revision(i + 1),
    };
    let records: Vec<_> = (0..350).map(record).collect();
    // As if the first restore had been interrupted.
    server.etcdctl(&[
        "--dial-timeout",
        "20s",
        "--command-timeout",
        "20s",
        "put",
        "/tests/restoring",
        "",
    ]);
    server.etcdctl(&["put", "/tests/data/rest", "x"]);
    let refused = Etcd::open(server.options()).await.err().unwrap();
    assert!(refused.to_string().contains("interrupted"), "{refused}");
    let last = Etcd::restore(server.options(), records.clone(), Revision(5000)).await.unwrap();
    assert!(last > Revision(5000));
    let store = Etcd::open(server.options()).await.unwrap();
    let (found, at) = store.list(b"", None).await.unwrap();
    let pair = |r: &Record| (r.key.clone(), r.value.clone());
    assert!(found.iter().map(pair).eq(records.iter().map(pair)));
    assert!(at >= last && found.iter().all(|record| record.revision > Revision(5000)));
    let next = store.commit(vec![create("later", "1")]).await.unwrap();
    assert!(next > at);
    let again = Etcd::restore(server.options(), records, Revision(9000)).await.unwrap_err();
    assert!(matches!(again, Error::NotEmpty(_)), "{again:?}");
    assert_eq!(keys(&store).await.len(), 351);
    let before = store.list(b"", Some(Revision(4999))).await;
    assert!(matches!(before, Err(Error::Compacted { .. })), "{before:?}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}

#[tokio::test]
async fn revisions_never_run_backwards() {
    let Some(mut server) = Server::start() else { return };
    let (data, backup) = (server.data(), server.dir.path().join("backup"));
    let mark = Some(server.dir.path().join("mark"));
    let options = Options { mark, ..server.options() };
    let store = Etcd::open(options.clone()).await.unwrap();
    store.commit(vec![create("a", "1")]).await.unwrap();
    server.kill();
    copy(&data, &backup);
    server.start_again();
    let lost = until_written(&store, "lost").await;
    let mut watch = store.watch(lost).await.unwrap();
    let set_back = |server: &mut Server| {
        server.kill();
        std::fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);
        server.start_again();
    };
    // While the store is connected.
    set_back(&mut server);
    let ended = watch.next().await.unwrap();
    assert!(matches!(ended, Err(Error::Compacted { .. })), "{ended:?}");
    let (records, at) = store.list(b"", None).await.unwrap();
    assert!(at > lost && records.len() == 1, "{at} {records:?}");
    assert_eq!(records[0].revision, Revision(1), "what stayed keeps its revision");
    assert!(store.watch(lost).await.is_err(), "that revision is not part of this history");
    let after = store.commit(vec![put("a", Expect::At(Revision(1)), "2")]).await.unwrap();
    assert!(after > at);
    drop(store);
    // While the store is not connected.
    set_back(&mut server);
    let store = Etcd::open(options.clone()).await.unwrap();
    assert!(store.current() > after, "{}", store.current());
    assert_eq!(store.get(b"a", None).await.unwrap().unwrap().value, "1");
    drop(store);
    // Now the whole database is gone.
    server.kill();
    std::fs::remove_dir_all(&data).unwrap();
    server.start_again();
    let refused = Etcd::open(options).await.err().unwrap().to_string();
    assert!(refused.contains("snapshot restore"), "{refused}");
    assert_eq!(Etcd::open(server.options()).await.unwrap().current(), Revision(0));
}

#[tokio::test]
async fn what_is_no_etcd_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options: Options = format!("etcd://{}", closed.local_addr().unwrap()).parse().unwrap();
    drop(closed);
    let refused = Etcd::open(options.clone()).await.err().unwrap().to_string();
    for part in ["cannot reach etcd at http://127.0.0.1:", "refused", "--store"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options: Options = format!("etcd://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut web = JoinSet::new();
    web.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.ok();
        }
    });
    let patient =
        |options: &Options| Options { patience: Duration::from_secs(60), ..options.clone() };
    let began = Instant::now();
    let refused = Etcd::open(patient(&options)).await.err().unwrap().to_string();
    assert!(refused.contains("is not an etcd"), "{refused}");
    let tls = Options { tls: Some(Tls::default()), ..patient(&options) };
    let refused = Etcd::open(tls).await.err().unwrap().to_string();
    assert!(refused.contains("does not speak TLS"), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(20), "waiting would not help");
}

#[tokio::test]
async fn values_that_are_not_whole_stop_nobody() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    store.commit(vec![create("big", noise(1_600_000, 1))]).await.unwrap();
    server.etcdctl(&["del", "--prefix", "/tests/chunk/"]);
    assert_eq!(next(&mut watch).await[0].value.as_ref().unwrap().len(), 1_600_000);
    // A value that is not a valid reference, written by another user of etcd.
    let mut etcdctl = std::process::Command::new("etcdctl");
    etcdctl.args(["--endpoints", &server.options().endpoints[0], "put", "/tests/data/none"]);
    etcdctl.arg(std::ffi::OsStr::from_bytes(b"\xff?")).env("ETCDCTL_API", "3");
    assert!(etcdctl.output().unwrap().status.success());
    assert_eq!(next(&mut watch).await[0].value.as_ref().unwrap(), &b"\xff?"[..]);
    let (found, _) = store.list(b"", None).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    for record in found {
        assert_eq!(record.value[0], 0xff, "{record:?}");
        assert_eq!(store.get(&record.key, None).await.unwrap().unwrap().value, record.value);
        let Record { key, revision, .. } = record;
        store.commit(vec![Write { key, expect: Expect::At(revision), value: None }]).await.unwrap();
    }
    assert!(keys(&store).await.is_empty());
}
