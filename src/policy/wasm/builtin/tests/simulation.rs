//! ewma and prequal under load: one of ten endpoints is twenty times as slow.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Scheduler, equal};

const ENDPOINTS: u32 = 10;
const MEAN_US: f64 = 100_000.0;
const LOAD: f64 = 0.6;
const CONNECTIONS: usize = 20_000;
/// Not counted: nothing is known of the endpoints yet.
const FIRST: usize = 2_000;

/// Connections that arrive whatever happens, at random moments, at endpoints that serve `workers` each at a time.
struct Simulation {
    scheduler: Scheduler,
    random: StdRng,
    workers: usize,
    serving: Vec<usize>,
    waiting: Vec<VecDeque<u64>>,
    /// When, where, and when it arrived; an arrival has no place.
    events: BinaryHeap<Reverse<(u64, Option<usize>, u64)>>,
    took: Vec<u64>,
}

impl Simulation {
    fn new(scheduler: &str, workers: usize) -> Self {
        Self {
            scheduler: Scheduler::new(scheduler, equal(ENDPOINTS)),
            random: StdRng::seed_from_u64(3),
            workers,
            serving: vec![0; 10],
            waiting: vec![VecDeque::new(); 10],
            events: BinaryHeap::from([Reverse((0, None, 0))]),
            took: Vec::new(),
        }
    }

    /// Microseconds.
    fn exponential(&mut self, mean_us: f64) -> u64 {
        let even = self.random.random_range(f64::MIN_POSITIVE..1.0);
        let time = Duration::from_secs_f64(-even.ln() * mean_us / 1e6);
        u64::try_from(time.as_micros()).unwrap()
    }

    /// Runs it; the 99th percentile of the times that connections took.
    fn p99(mut self) -> u64 {
        let mut arrived = 0;
        while let Some(Reverse((time, place, since))) = self.events.pop() {
            self.scheduler.clock.store(time, Relaxed);
            if let Some(place) = place {
                self.finish(place, time, since);
                continue;
            }
            let place = self.scheduler.pick();
            self.scheduler.candidates[place].load.active.fetch_add(1, Relaxed);
            self.waiting[place].push_back(time);
            self.serve(place, time);
            arrived += 1;
            if arrived < CONNECTIONS {
                let rate = LOAD * f64::from(ENDPOINTS) * self.workers as f64 / MEAN_US;
                let next = time + self.exponential(1.0 / rate);
                self.events.push(Reverse((next, None, 0)));
            }
        }
        let mut took = self.took.split_off(FIRST);
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    fn serve(&mut self, place: usize, time: u64) {
        if self.serving[place] == self.workers {
            return;
        }
        let Some(since) = self.waiting[place].pop_front() else { return };
        self.serving[place] += 1;
        let slowness = if place == 0 { 20.0 } else { 1.0 };
        let end = time + self.exponential(slowness * MEAN_US);
        self.events.push(Reverse((end, Some(place), since)));
    }

    fn finish(&mut self, place: usize, time: u64, since: u64) {
        self.serving[place] -= 1;
        let load = &self.scheduler.candidates[place].load;
        load.active.fetch_sub(1, Relaxed);
        // As the proxy measures.
        let (average, sample) = (load.latency.load(Relaxed), (time - since).max(1));
        let lower = average.saturating_sub(average.saturating_sub(sample).div_ceil(8));
        load.latency.store(if sample >= average { sample } else { lower }, Relaxed);
        self.took.push(sample);
        self.serve(place, time);
    }
}

#[test]
fn a_slow_endpoint_hardly_matters() {
    for workers in [1, 10, 100] {
        let rr = Simulation::new("rr", workers).p99();
        for name in ["ewma", "prequal"] {
            let p99 = Simulation::new(name, workers).p99();
            let most = rr * 3 / 10;
            println!("{name}, {workers} workers: {p99} us, round robin {rr} us");
            assert!(p99 <= most, "{name}, {workers} workers: {p99} us, round robin {rr} us");
        }
    }
}
