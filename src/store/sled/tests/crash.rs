//! A process that is killed while it writes, and a disk that is full. Both run this test binary again as a child.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use futures::StreamExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::store::{
    Error, Revision, Store,
    sled::{
        Sled,
        committer::Tuning,
        tests::{SMALL, everything, put, write},
    },
};

/// Tells a child what to work on.
const DIR: &str = "SNOWGLOBE_STORE_TEST_DIR";
/// How often the writing child is killed, for longer campaigns.
const KILLS: &str = "SNOWGLOBE_STORE_TEST_KILLS";
/// Tells the child on a small disk to let sled meet its end.
const UNRESERVED: &str = "SNOWGLOBE_STORE_TEST_UNRESERVED";
const KILLS_DEFAULT: u64 = 8;
const WRITERS: u64 = 8;
const DISK: &str = "96m";
/// Writes that go on while the small disk fills; more would fill it themselves.
const WRITES_WHILE_FILLING: usize = 100;

fn child_dir() -> Option<PathBuf> {
    env::var_os(DIR).map(PathBuf::from)
}

/// A writer's keys, written together; all have the same value, the writer's count.
fn keys(writer: u64) -> [String; 3] {
    ["a", "b", "c"].map(|name| format!("{name}/{writer}"))
}

async fn count(store: &Sled, key: &str) -> u64 {
    let record = store.get(key.as_bytes(), None).await.unwrap();
    record.map_or(0, |r| u64::from_be_bytes(r.value[..8].try_into().unwrap()))
}

/// The child: writes without end and tells each acknowledged commit.
#[tokio::test]
async fn writing_child() {
    let Some(dir) = child_dir() else {
        return;
    };
    let store = Arc::new(Sled::open_tuned(&dir, SMALL).unwrap());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let keys = keys(writer);
            for count in count(&store, &keys[0]).await + 1.. {
                let mut value = count.to_be_bytes().to_vec();
                value.resize(if count % 16 == writer { 30_000 } else { 200 }, 7);
                let revision = put(&store, &keys.each_ref().map(String::as_str), &value).await;
                println!("\nacknowledged {writer} {count} {}", revision.unwrap());
            }
        });
    }
    writers.join_all().await;
}

fn start_child(dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "store::sled::tests::crash::writing_child", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge so many commits (none: kills it while it opens the store), kills it, and returns all that it acknowledged:
/// each writer's last count, and the last revision.
fn run_and_kill(dir: &Path, commits: usize) -> ([u64; 8], u64) {
    let mut child = start_child(dir);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut counts = [0; 8];
    let mut last = 0;
    let mut seen = 0;
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        if commits == 0 && words[0] == "running" {
            child.kill().unwrap();
        }
        let ["acknowledged", writer, count, revision] = words[..] else {
            continue;
        };
        counts[writer.parse::<usize>().unwrap()] = count.parse().unwrap();
        last = last.max(revision.parse().unwrap());
        seen += 1;
        if seen == commits {
            child.kill().unwrap();
        }
    }
    assert!(seen >= commits, "the child ended by itself: {:?}", child.wait());
    child.wait().unwrap();
    (counts, last)
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    if child_dir().is_some() {
        return;
    }
    let kills = env::var(KILLS).ok().map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    let dir = TempDir::new().unwrap();
    let mut random = StdRng::seed_from_u64(kills);
    let mut before = Revision(0);
    for kill in 0..kills {
        let commits = if kill % 4 == 3 { 0 } else { random.random_range(1..600) };
        let (counts, last) = run_and_kill(dir.path(), commits);
        let store = Sled::open_tuned(dir.path(), SMALL).unwrap();
        let (_, revision, history) = everything(&store).await;
        assert!(commits == 0 || Revision(last) > before, "revisions are not used again");
        assert!(revision >= Revision(last), "kill {kill}: {last} of {revision}");
        assert!(history.iter().all(|commit| commit.len() == 3));
        for (writer, acknowledged) in (0..).zip(counts) {
            let [a, b, c] = keys(writer);
            let found = (count(&store, &a).await, count(&store, &b).await, count(&store, &c).await);
            assert!(found.0 == found.1 && found.1 == found.2, "half a commit: {found:?}");
            assert!(found.0 >= acknowledged, "kill {kill}: {acknowledged} of {found:?}");
        }
        before = revision;
    }
}

/// The child on a small disk: fills it, finds the store readable, makes room, writes again.
#[tokio::test]
async fn full_disk_child() {
    let Some(dir) = child_dir() else {
        return;
    };
    let tuning = Tuning { reserve: env::var_os(UNRESERVED).is_none(), ..SMALL };
    let store = Sled::open_tuned(&dir, tuning).unwrap();
    put(&store, &["a"], b"1").await.unwrap();
    let ballast = dir.join("ballast");
    for round in 1..4_u64 {
        let before = everything(&store).await;
        // The writes go on while the disk fills up.
        let mut filling = tokio::task::spawn_blocking({
            let ballast = ballast.clone();
            move || {
                let mut file = std::fs::File::create(ballast).unwrap();
                while std::io::Write::write_all(&mut file, &[0; 65536]).is_ok() {}
            }
        });
        let mut written = 0;
        let refused = loop {
            if written == WRITES_WHILE_FILLING {
                (&mut filling).await.unwrap();
            }
            let value = vec![1; 20_000];
            let key = format!("{round}/{written}");
            match store.commit(vec![write(&key, None, Some(value))]).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Full(_)) || !tuning.reserve, "{refused:?}");
        if written < WRITES_WHILE_FILLING {
            filling.await.unwrap();
        }
        let again = put(&store, &["a"], b"2").await;
        assert!(matches!(again, Err(Error::Full(_))), "{refused:?}, then {again:?}");
        let (records, revision, _) = everything(&store).await;
        assert_eq!(records.len(), before.0.len() + written);
        assert_eq!(revision.0, before.1.0 + u64::try_from(written).unwrap());
        std::fs::remove_file(&ballast).unwrap();
        assert_eq!(put(&store, &["a"], b"3").await.unwrap(), Revision(revision.0 + 1));
        for i in 0..written {
            let key = format!("{round}/{i}");
            let at = store.get(key.as_bytes(), None).await.unwrap().map(|r| r.revision);
            store.commit(vec![write(&key, at, None)]).await.unwrap();
        }
    }
    let before = everything(&store).await;
    drop(store);
    assert_eq!(everything(&Sled::open_tuned(&dir, SMALL).unwrap()).await, before);
    println!("\nsurvived");
}

/// The child whose files may not grow beyond a limit, which sled meets as an I/O error.
#[tokio::test]
async fn failing_disk_child() {
    let Some(dir) = child_dir() else {
        return;
    };
    let store = Sled::open_tuned(&dir, Tuning { reserve: false, ..SMALL }).unwrap();
    let mut watch = store.watch(Revision(0)).await.unwrap();
    let mut last = Revision(0);
    let failed = loop {
        match put(&store, &["a", "b"], &[1; 50_000]).await {
            Ok(revision) => last = revision,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, Error::Failed { .. }), "{failed:?}");
    let again = put(&store, &["small"], b"1").await;
    assert!(matches!(again, Err(Error::Failed { .. })), "{again:?}");
    assert_eq!(store.list(b"", None).await.unwrap().1, last, "reads go on");
    while let Some(Ok(commit)) = watch.next().await {
        assert!(commit[0].revision <= last);
    }
    println!("\nacknowledged {last}");
}

#[tokio::test]
async fn an_io_error_stops_writes_for_good() {
    if child_dir().is_some() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact --nocapture \
                  store::sled::tests::crash::failing_disk_child";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .env(DIR, dir.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().find_map(|line| line.strip_prefix("acknowledged "));
    let last: u64 = last.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    let store = Sled::open(dir.path()).unwrap();
    assert!(last > 0 && store.current() >= Revision(last), "{last} of {}", store.current());
    put(&store, &["small"], b"1").await.unwrap();
}

#[test]
fn a_full_disk_makes_the_store_read_only() {
    on_a_small_disk(false);
}

#[test]
fn sled_survives_a_full_disk() {
    on_a_small_disk(true);
}

fn on_a_small_disk(unreserved: bool) {
    if child_dir().is_some() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={DISK} tmpfs \"${DIR}\" && echo mounted && \
         exec \"$0\" --exact store::sled::tests::crash::full_disk_child --nocapture"
    );
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env::current_exe().unwrap())
        .env(DIR, dir.path())
        .stderr(Stdio::inherit());
    if unreserved {
        command.env(UNRESERVED, "1");
    }
    match command.output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()) {
        Ok(text) if text.contains("mounted") => assert!(text.contains("survived"), "{text}"),
        other => println!("skipped: a small disk cannot be mounted here: {other:?}"),
    }
}
