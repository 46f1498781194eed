//! How long a scheduler takes, in real time: the one thing here that another run does not repeat exactly.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    lab::workload::{candidates, flow},
    policy::{
        Failure, Policy,
        wasm::{Environment, WasmPolicy},
    },
};

/// Picks that are not counted: the first ones find cold caches.
const WARM_UP: u32 = 50;
/// Picks that are counted, if they take no longer than [`TIME_MAX`].
const PICKS: u32 = 20_000;
const TIME_MAX: Duration = Duration::from_millis(400);

/// Times of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Endpoints that it had.
    pub endpoints: usize,
    /// To start it.
    pub start: Duration,
    /// To tell it its endpoints.
    pub configure: Duration,
    /// Half of the picks took less.
    pub median: Duration,
    /// One pick in a hundred took longer.
    pub p99: Duration,
}

/// Times a scheduler with so many endpoints.
pub fn of_scheduler(policy: &WasmPolicy, endpoints: usize) -> Result<Timing, Failure> {
    let environment = Environment::Simulated { clock: Arc::new(AtomicU64::new(1)), seed: 1 };
    let policy = policy.in_environment(environment, Arc::new(|_, _| ()));
    let candidates = candidates(&vec![1; endpoints], 3);
    let started = Instant::now();
    let mut guest = policy.instance()?;
    let start = started.elapsed();
    let started = Instant::now();
    guest.configure(1, &candidates)?;
    let configure = started.elapsed();
    for client in 0..WARM_UP {
        guest.pick(&flow(client, 40_000, 3))?;
    }
    let (begin, mut times) = (Instant::now(), Vec::new());
    for client in 0..PICKS {
        let flow = flow(client, 40_000, 3);
        let started = Instant::now();
        guest.pick(&flow)?;
        times.push(started.elapsed());
        if begin.elapsed() > TIME_MAX {
            break;
        }
    }
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    Ok(Timing { endpoints, start, configure, median, p99 })
}
