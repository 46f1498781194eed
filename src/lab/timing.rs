//! How long a policy takes, in real time: the one thing here that another run does not repeat exactly.

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

const ZONES: u32 = 3;
/// Calls that are not counted: the first ones find cold caches.
const WARM_UP: u32 = 50;
/// Calls that are counted, if all take no longer than [`TIME_MAX`].
const CALLS: u32 = 20_000;
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
    /// Half of the picks, or scores, took less.
    pub median: Duration,
    /// One in a hundred took longer.
    pub p99: Duration,
}

/// Times a scheduler with so many endpoints.
pub fn of_scheduler(policy: &WasmPolicy, endpoints: usize) -> Result<Timing, Failure> {
    let policy = in_simulation(policy);
    let candidates = candidates(&vec![1; endpoints], ZONES);
    let started = Instant::now();
    let mut guest = policy.instance()?;
    let start = started.elapsed();
    let started = Instant::now();
    guest.configure(1, &candidates)?;
    let configure = started.elapsed();
    let (median, p99) = of_calls(|call| {
        let flow = flow(call, 40_000, ZONES);
        let started = Instant::now();
        guest.pick(&flow)?;
        Ok(started.elapsed())
    })?;
    Ok(Timing { endpoints, start, configure, median, p99 })
}

/// Times a topology policy with so many endpoints, of which one is scored at a time.
pub fn of_topology(policy: &WasmPolicy, endpoints: u32) -> Result<Timing, Failure> {
    let policy = in_simulation(policy);
    let candidates = candidates(&vec![1; endpoints as usize], ZONES);
    let started = Instant::now();
    let mut guest = policy.scorer()?;
    let start = started.elapsed();
    let started = Instant::now();
    guest.configure(1, &candidates)?;
    let configure = started.elapsed();
    let (median, p99) = of_calls(|call| {
        let started = Instant::now();
        guest.score(call % ZONES, call % ZONES, call % endpoints)?;
        Ok(started.elapsed())
    })?;
    Ok(Timing { endpoints: endpoints as usize, start, configure, median, p99 })
}

fn in_simulation(policy: &WasmPolicy) -> WasmPolicy {
    let environment = Environment::Simulated { clock: Arc::new(AtomicU64::new(1)), seed: 1 };
    policy.in_environment(environment, Arc::new(|_, _| ()))
}

/// Median and 99th percentile of calls, which are numbered.
fn of_calls(
    mut call: impl FnMut(u32) -> Result<Duration, Failure>,
) -> Result<(Duration, Duration), Failure> {
    for number in 0..WARM_UP {
        call(number)?;
    }
    let (begin, mut times) = (Instant::now(), Vec::new());
    for number in 0..CALLS {
        times.push(call(number)?);
        if begin.elapsed() > TIME_MAX {
            break;
        }
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
