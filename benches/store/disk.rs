//! Disk use after many random updates, beside the data that is live.

use std::{path::Path, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use snowglobe::store::{Expect, Revision, Sled, Store};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{OBJECT_BYTES, directory, disk_bytes, value, writes::put};

const KEYS: u64 = 20_000;
const UPDATES: u64 = 300_000;
const WRITERS: u64 = 100;
/// Long enough for the store to tidy up.
const REST: Duration = Duration::from_secs(2);
const SAMPLE: Duration = Duration::from_millis(200);

pub(crate) async fn run() {
    let dir = directory();
    let path = dir.path().join("sled");
    let store = Arc::new(Sled::open(&path).unwrap());
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(&store), writer));
    }
    let highest = sample(&path, &mut writers).await;
    let seconds = begun.elapsed().as_secs();
    let at_end = disk_bytes(&path);
    let (records, _) = store.list(b"", None).await.unwrap();
    let live: u64 = records.iter().map(|r| (r.key.len() + r.value.len()) as u64).sum();
    sleep(REST).await;
    let rested = disk_bytes(&path);
    drop(store);
    println!("\ndisk after {UPDATES} random updates of {KEYS} objects, in {seconds} s");
    println!("  live: {:.1} MiB ({OBJECT_BYTES} bytes and a key each)", mib(live));
    for (name, bytes) in
        [("highest on the way", highest), ("at the end", at_end), ("after a rest", rested)]
    {
        println!("  {name:<20} {:7.1} MiB  {:5.2} times live", mib(bytes), mib(bytes) / mib(live));
    }
}

async fn write(store: Arc<Sled>, writer: u64) {
    let mut random = StdRng::seed_from_u64(writer);
    let mut revisions: Vec<Revision> = Vec::new();
    let key = |nth: usize| format!("disk/{writer}/{nth}");
    for nth in 0..usize::try_from(KEYS / WRITERS).unwrap() {
        revisions.push(put(&*store, key(nth), Expect::Absent, value(random.random())).await);
    }
    for _ in 0..UPDATES / WRITERS {
        let nth = random.random_range(0..revisions.len());
        let expect = Expect::At(revisions[nth]);
        revisions[nth] = put(&*store, key(nth), expect, value(random.random())).await;
    }
}

/// The most that the directory took until all writers ended.
async fn sample(path: &Path, writers: &mut JoinSet<()>) -> u64 {
    let mut highest = 0;
    while !writers.is_empty() {
        tokio::select! {
            ended = writers.join_next() => ended.unwrap().unwrap(),
            () = sleep(SAMPLE) => highest = highest.max(disk_bytes(path)),
        }
    }
    highest
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
