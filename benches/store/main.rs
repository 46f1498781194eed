//! What the object store costs, measured beside its peers: `cargo bench --bench store`.
//!
//! Durable writes beside etcd, one writer beside a bare write and `fdatasync`, disk after many updates, and the real
//! program's start and memory on a large store. Peers take turns in one run and share the disk; a figure is the median
//! of the rounds. Arguments choose parts: `cargo bench --bench store -- writes latency disk start`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and ends at a failure"
)]

mod disk;
mod etcd;
mod latency;
mod start;
mod writes;

use std::{env, path::Path, time::Duration};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

/// A typical Pod or EndpointSlice.
const OBJECT_BYTES: usize = 1536;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|a| a == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if wanted("writes") {
        runtime.block_on(writes::run());
    }
    if wanted("latency") {
        runtime.block_on(latency::run());
    }
    if wanted("disk") {
        runtime.block_on(disk::run());
    }
    if wanted("start") {
        runtime.block_on(start::run());
    }
}

/// A directory on the disk that also has the build, not one in memory.
fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A value that does not compress, as etcd and file systems might.
fn value(seed: u64) -> Bytes {
    let mut value = vec![0; OBJECT_BYTES];
    StdRng::seed_from_u64(seed).fill(value.as_mut_slice());
    value.into()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system time of a process so far, in microseconds.
fn cpu_us(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap()) * 1e6
}

/// Bytes that a directory takes on the disk.
fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let status = std::fs::symlink_metadata(path).unwrap();
    let own = status.blocks() * 512;
    if !status.is_dir() {
        return own;
    }
    own + std::fs::read_dir(path).unwrap().map(|e| disk_bytes(&e.unwrap().path())).sum::<u64>()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
