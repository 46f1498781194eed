//! One writer's median latency beside a bare write of the same size and `fdatasync`.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
};

use snowglobe::store::Sled;
use tokio::time::Instant;

use crate::{directory, median, ms, value, writes::create};

const ROUNDS: u64 = 5;
const WRITES_PER_ROUND: u64 = 1000;

pub(crate) async fn run() {
    let dir = directory();
    let store = Sled::open(&dir.path().join("sled")).unwrap();
    let file = OpenOptions::new().append(true).create(true).open(dir.path().join("raw"));
    let mut file = file.unwrap();
    let (mut ours, mut raw, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Turn by turn, so that both meet the same disk.
        let (mut our_times, mut raw_times) = (Vec::new(), Vec::new());
        for write in 0..WRITES_PER_ROUND {
            let nth = round * WRITES_PER_ROUND + write;
            let value = value(nth);
            let begun = Instant::now();
            append(&mut file, &value);
            raw_times.push(ms(begun.elapsed()));
            let begun = Instant::now();
            create(&store, format!("latency/{nth}"), value).await;
            our_times.push(ms(begun.elapsed()));
        }
        let (our, bare) = (median(our_times), median(raw_times));
        ours.push(our);
        raw.push(bare);
        ratios.push(our / bare);
    }
    println!("\none writer, median latency, {ROUNDS} rounds of {WRITES_PER_ROUND} writes in turn");
    println!("  snowglobe on sled    {:7.3} ms", median(ours));
    println!("  write and fdatasync  {:7.3} ms", median(raw));
    println!("  ratio                {:7.2}", median(ratios));
}

fn append(file: &mut File, value: &[u8]) {
    file.write_all(value).unwrap();
    file.sync_data().unwrap();
}
