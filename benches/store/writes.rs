//! Durable creates a second beside etcd, on the same disk, through the same contract.

use std::{process, sync::Arc, time::Duration};

use bytes::Bytes;
use snowglobe::store::{Expect, Revision, Sled, Store, Write};
use tokio::{task::JoinSet, time::Instant};

use crate::{cpu_us, directory, etcd::Server, median, value};

const ROUNDS: u64 = 5;
const ROUND: Duration = Duration::from_secs(3);
const WRITERS: [u64; 3] = [1, 16, 256];

/// One contestant in one round.
struct Round {
    writes_per_second: f64,
    /// What the storing process used; with sled that is this process, clients included.
    cpu_us_per_write: f64,
}

pub(crate) async fn run() {
    let dir = directory();
    let sled: Arc<dyn Store> = Arc::new(Sled::open(&dir.path().join("sled")).unwrap());
    let server = Server::start(&dir.path().join("etcd"));
    let etcd = server.open().await;
    println!(
        "durable creates a second, objects of 1.5 KB, {ROUNDS} rounds of {} s in turn",
        ROUND.as_secs()
    );
    println!("  writers  snowglobe on sled  {:<18}  ratio   CPU us a write", Server::version());
    for writers in WRITERS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let name = format!("{writers}/{round}");
            ours.push(measure(&sled, writers, &name, process::id()).await);
            theirs.push(measure(&etcd, writers, &name, server.pid()).await);
        }
        let rate = |rounds: &[Round]| median(rounds.iter().map(|r| r.writes_per_second).collect());
        let cpu = |rounds: &[Round]| median(rounds.iter().map(|r| r.cpu_us_per_write).collect());
        let ratios =
            ours.iter().zip(&theirs).map(|(o, t)| o.writes_per_second / t.writes_per_second);
        println!(
            "  {writers:7}  {:17.0}  {:18.0}  {:5.1}   {:.0} and {:.0}",
            rate(&ours),
            rate(&theirs),
            median(ratios.collect()),
            cpu(&ours),
            cpu(&theirs),
        );
    }
}

async fn measure(store: &Arc<dyn Store>, writers: u64, name: &str, pid: u32) -> Round {
    let (begun, cpu_before) = (Instant::now(), cpu_us(pid));
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (store, name) = (Arc::clone(store), name.to_owned());
        tasks.spawn(async move {
            let mut written = 0;
            while begun.elapsed() < ROUND {
                create(&*store, format!("writes/{name}/{writer}/{written}"), value(written)).await;
                written += 1;
            }
            written
        });
    }
    let written: u64 = tasks.join_all().await.into_iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of writes is small")]
    let written = written as f64;
    Round {
        writes_per_second: written / begun.elapsed().as_secs_f64(),
        cpu_us_per_write: (cpu_us(pid) - cpu_before) / written,
    }
}

pub(crate) async fn create(store: &dyn Store, key: String, value: Bytes) -> Revision {
    put(store, key, Expect::Absent, value).await
}

pub(crate) async fn put(store: &dyn Store, key: String, expect: Expect, value: Bytes) -> Revision {
    let write = Write { key: key.into(), expect, value: Some(value) };
    store.commit(vec![write]).await.unwrap()
}
