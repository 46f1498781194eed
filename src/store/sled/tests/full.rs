//! A full disk and a failing disk. Both tests run this test binary again as a child, on a disk of its own.

use std::{
    env,
    process::{Command, Stdio},
};

use futures::StreamExt;
use tempfile::TempDir;

use crate::store::{
    Error, Revision, Store,
    requirements::leave_out,
    sled::{
        Sled,
        committer::Tuning,
        tests::{DIR, SMALL, dir_of_child, everything, put, write},
    },
};

/// Tells the child on a small disk to reserve no space, so that sled gets the error.
const UNRESERVED: &str = "SNOWGLOBE_STORE_TEST_UNRESERVED";
const DISK: &str = "96m";
/// How many writes are made while the small disk is filled. More would fill it themselves.
const WRITES_WHILE_FILLING: usize = 100;

/// The child on a small disk: fills it, reads from the store, frees space, and writes again.
#[tokio::test]
async fn full_disk_child() {
    let Some(dir) = dir_of_child() else {
        return;
    };
    let tuning = Tuning { reserve: env::var_os(UNRESERVED).is_none(), ..SMALL };
    let store = Sled::open_tuned(&dir, tuning).unwrap();
    put(&store, &["a"], b"1").await.unwrap();
    let ballast = dir.join("ballast");
    for round in 1..4_u64 {
        let before = everything(&store).await;
        // The writes continue while the disk is filled.
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

/// The child with a limit on file sizes, which sled gets as an I/O error.
#[tokio::test]
async fn failing_disk_child() {
    let Some(dir) = dir_of_child() else {
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
    assert!(matches!(again, Err(Error::Stopped(_))), "{again:?}");
    assert_eq!(store.list(b"", None).await.unwrap().1, last, "reads go on");
    let seen = watch.next().await.unwrap().unwrap()[0].revision;
    assert_eq!(seen, Revision(1), "and so do watches");
    println!("\nacknowledged {last}");
}

#[tokio::test]
async fn an_io_error_stops_writes_for_good() {
    if dir_of_child().is_some() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact --nocapture \
                  store::sled::tests::full::failing_disk_child";
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
    if dir_of_child().is_some() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={DISK} tmpfs \"${DIR}\" && echo mounted && \
         exec \"$0\" --exact store::sled::tests::full::full_disk_child --nocapture"
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
        other => leave_out(
            "a disk of its own, mounted in a user namespace",
            &format!("install util-linux, and let users make user namespaces: {other:?}"),
        ),
    }
}
