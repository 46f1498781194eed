//! Only one process writes. In these tests, the others are stores in the same process, or keys written by hand.

use serde_json::{Value, json};

use super::*;

/// How long it may take until another owner's lease has expired and etcd has removed its key.
const TAKE_OVER_MAX: Duration = Duration::from_secs(12);
/// How long a start may take to see that the owner renews its lease.
const REFUSAL_MAX: Duration = Duration::from_secs(5);

fn owner(server: &Server) -> Value {
    let text = server.etcdctl(&["get", "--print-value-only", "/tests/owner"]);
    serde_json::from_str(&text).unwrap_or_default()
}

/// The value of another owner: that of this process with some other fields.
fn other_owner(mut owner: Value, fields: &[(&str, Value)]) -> String {
    owner["id"] = "another".into();
    for (field, value) in fields {
        owner[*field] = value.clone();
    }
    owner.to_string()
}

fn lease(server: &Server) -> String {
    let text = server.etcdctl(&["get", "/tests/owner", "--write-out", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    format!("{:x}", answer["kvs"][0]["lease"].as_i64().unwrap())
}

async fn refusal(server: &Server) -> String {
    let began = Instant::now();
    let refused = Etcd::open(server.options()).await.err().expect("it has an owner");
    assert!(began.elapsed() < REFUSAL_MAX, "{:?}", began.elapsed());
    assert!(matches!(refused, Error::Owned(_)), "{refused:?}");
    refused.to_string()
}

#[tokio::test]
async fn the_second_is_refused_and_the_first_goes_on() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let at = store.commit(vec![create("a", "1")]).await.unwrap();
    let said = refusal(&server).await;
    let (pid, host) = (std::process::id(), owner(&server)["host"].as_str().unwrap().to_owned());
    for part in [&format!("process {pid} on host {host}"), "since 20", "/tests-2", "stop that"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let restored = Etcd::restore(server.options(), Vec::new(), Revision(9)).await;
    assert!(matches!(restored, Err(Error::NotEmpty(_))), "{restored:?}");
    store.commit(vec![put("a", Expect::At(at), "2")]).await.unwrap();
    // A released store can be opened at once.
    store.release().await;
    let late = store.commit(vec![create("late", "1")]).await.unwrap_err();
    assert!(matches!(late, Error::Closed), "{late:?}");
    let began = Instant::now();
    let next = Etcd::open(server.options()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(keys(&next).await, ["a"]);
}

#[tokio::test]
async fn a_lost_lease_is_taken_again() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    for round in 0..3 {
        server.etcdctl(&["lease", "revoke", &lease(&server)]);
        // Many commits at the same time must regain the ownership only once, also a commit with several transactions.
        let big = store.commit(vec![create(&format!("big/{round}"), noise(1_600_000, 3))]);
        let small = (0..20).map(|i| store.commit(vec![create(&format!("{round}/{i}"), "1")]));
        let (small, big) = tokio::join!(futures::future::join_all(small), big);
        assert!(small.iter().all(Result::is_ok), "{small:?}");
        big.unwrap();
    }
    // The ownership is also regained without a commit.
    server.etcdctl(&["lease", "revoke", &lease(&server)]);
    let until = Instant::now() + REFUSAL_MAX;
    while owner(&server).is_null() {
        assert!(Instant::now() < until, "it is not taken again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refusal(&server).await;
    assert!(store.stopped().borrow().is_none());
}

#[tokio::test]
async fn who_was_replaced_never_writes_again() {
    let Some(mut server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    let mut watch = store.watch(store.current()).await.unwrap();
    let mine = owner(&server);
    let fields = [("pid", json!(1)), ("machine", json!("another"))];
    server.etcdctl(&["put", "/tests/owner", &other_owner(mine, &fields)]);
    for key in ["a", "b"] {
        let refused = store.commit(vec![create(key, noise(1_600_000, 1))]).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, Error::Stopped(_)), "{text}");
        for part in ["process 1 on host", "/tests", "start this one again"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(chunks(&server), 0);
    assert!(matches!(*store.stopped().borrow(), Some(Error::Stopped(_))));
    // Its watch follows the writes of the other owner, also after etcd was unavailable.
    server.etcdctl(&["put", "/tests/data/theirs", "1"]);
    assert_eq!(next(&mut watch).await[0].key, "theirs");
    server.kill();
    server.start_again();
    let until = Instant::now() + Duration::from_secs(30);
    while store.list(b"", None).await.is_err() {
        assert!(Instant::now() < until, "reads go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.etcdctl(&["put", "/tests/data/more", "1"]);
    assert_eq!(next(&mut watch).await[0].key, "more");
    server.etcdctl(&["del", "/tests/owner"]);
    let refused = store.commit(vec![create("c", "1")]).await.unwrap_err();
    assert!(matches!(refused, Error::Stopped(_)), "{refused:?}");
    assert_eq!(keys(&store).await, ["more", "theirs"]);
}

#[tokio::test]
async fn a_dead_owner_is_replaced() {
    let Some(server) = Server::start() else { return };
    let store = Etcd::open(server.options()).await.unwrap();
    store.commit(vec![create("a", "1")]).await.unwrap();
    let mine = owner(&server);
    store.release().await;
    drop(store);
    // A process of this machine that has ended is detected.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let dead = [("pid", json!(child.id())), ("started", json!(1))];
    let grant = |owner: &str| {
        let granted = server.etcdctl(&["lease", "grant", "6"]);
        let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
        server.etcdctl(&["put", "--lease", &lease, "/tests/owner", owner]);
    };
    grant(&other_owner(mine.clone(), &dead));
    let began = Instant::now();
    let store = Etcd::open(server.options()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    store.release().await;
    // For a process of another machine, the start waits for the end of its lease.
    grant(&other_owner(mine.clone(), &[("machine", json!("another"))]));
    let began = Instant::now();
    let store = Etcd::open(server.options()).await.unwrap();
    assert!(began.elapsed() < TAKE_OVER_MAX, "{:?}", began.elapsed());
    assert_eq!(keys(&store).await, ["a"]);
    store.release().await;
    // A key without a lease, written by hand, stays until somebody removes it.
    for foreign in ["x", &other_owner(mine, &[("machine", json!("another"))])] {
        server.etcdctl(&["put", "/tests/owner", foreign]);
        refusal(&server).await;
        server.etcdctl(&["del", "/tests/owner"]);
    }
}
