//! Runs a policy on a [`Workload`] in virtual time. Each endpoint has a queue and so many workers; the host's figures
//! (open connections, latency) are counted as the proxy counts them. Where the policy has no opinion, the native round
//! robin picks, as under live traffic.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    lab::workload::{Arrival, Arrivals, Backend, Workload, exponential_us},
    policy::{Candidates, Failure, Picker, fallback::RoundRobin},
};

/// What became of the connections.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By endpoint.
    pub endpoints: Vec<EndpointOutcome>,
    /// Of all connections.
    pub times: Times,
    /// Connections of which the policy had no opinion.
    pub abstentions: usize,
}

/// What one endpoint did.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOutcome {
    /// Connections that it got.
    pub picks: usize,
    /// The most that were open at one time.
    pub most_active: u32,
    /// Of its connections.
    pub times: Times,
}

/// From the arrival of a connection to its end. Zero where there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Half of them took less.
    pub median: Duration,
    /// One in a hundred took longer.
    pub p99: Duration,
}

/// Runs a workload to its end. `clock` is what the policy sees as the time, microseconds; it must not be past
/// [`START_US`](crate::lab::workload::START_US). Fails if the policy does.
pub fn run(
    workload: &Workload,
    picker: &mut dyn Picker,
    clock: &AtomicU64,
) -> Result<Outcome, Failure> {
    let mut simulation = Simulation::new(workload);
    picker.configure(1, &simulation.candidates)?;
    simulation.fallback.configure(1, &simulation.candidates)?;
    let mut arrivals = workload.arrivals();
    simulation.expect(&mut arrivals);
    while let Some(Reverse(event)) = simulation.events.pop() {
        clock.store(event.time_us, Relaxed);
        match event.what {
            What::Ends { endpoint, arrived_us } => {
                simulation.ended(endpoint, event.time_us, arrived_us);
            }
            What::Arrives => {
                let arrival = simulation.next.take().expect("an arrival is expected");
                let index = simulation.pick(picker, &arrival)?;
                simulation.arrived(index, arrival.time_us);
                simulation.expect(&mut arrivals);
            }
        }
    }
    Ok(simulation.outcome())
}

struct Simulation {
    candidates: Candidates,
    endpoints: Vec<Endpoint>,
    events: BinaryHeap<Reverse<Event>>,
    next: Option<Arrival>,
    service: StdRng,
    fallback: RoundRobin,
    abstentions: usize,
    /// Numbers events, so that those of one moment have an order.
    event_number: u64,
}

struct Endpoint {
    workers: usize,
    mean_us: f64,
    serving: usize,
    /// When those that wait have arrived, microseconds.
    waiting: VecDeque<u64>,
    most_active: u32,
    took_us: Vec<u64>,
    picks: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    time_us: u64,
    number: u64,
    what: What,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives,
    Ends { endpoint: usize, arrived_us: u64 },
}

impl Simulation {
    fn new(workload: &Workload) -> Self {
        let endpoint = |backend: &Backend| Endpoint {
            workers: backend.workers,
            mean_us: backend.mean.as_secs_f64() * 1e6,
            serving: 0,
            waiting: VecDeque::new(),
            most_active: 0,
            took_us: Vec::new(),
            picks: 0,
        };
        Self {
            candidates: workload.candidates(),
            endpoints: workload.backends.iter().map(endpoint).collect(),
            events: BinaryHeap::new(),
            next: None,
            // Others than those of the arrivals.
            service: StdRng::seed_from_u64(!workload.seed),
            fallback: RoundRobin::default(),
            abstentions: 0,
            event_number: 0,
        }
    }

    /// Arranges the next arrival, if there is one.
    fn expect(&mut self, arrivals: &mut Arrivals) {
        self.next = arrivals.next();
        if let Some(arrival) = self.next {
            self.at(arrival.time_us, What::Arrives);
        }
    }

    fn at(&mut self, time_us: u64, what: What) {
        self.event_number += 1;
        self.events.push(Reverse(Event { time_us, number: self.event_number, what }));
    }

    fn pick(&mut self, picker: &mut dyn Picker, arrival: &Arrival) -> Result<usize, Failure> {
        if let Some(index) = picker.pick(&arrival.flow)? {
            return Ok(index);
        }
        self.abstentions += 1;
        let instead = self.fallback.pick(&arrival.flow)?;
        Ok(instead.expect("round robin always has an opinion"))
    }

    fn arrived(&mut self, index: usize, time_us: u64) {
        let active = self.candidates[index].load.active.fetch_add(1, Relaxed) + 1;
        let endpoint = &mut self.endpoints[index];
        endpoint.picks += 1;
        endpoint.most_active = endpoint.most_active.max(active);
        endpoint.waiting.push_back(time_us);
        self.serve(index, time_us);
    }

    /// Takes one that waits, if a worker is free.
    fn serve(&mut self, index: usize, time_us: u64) {
        let endpoint = &mut self.endpoints[index];
        if endpoint.serving == endpoint.workers {
            return;
        }
        let Some(arrived_us) = endpoint.waiting.pop_front() else { return };
        endpoint.serving += 1;
        let end = time_us + exponential_us(&mut self.service, endpoint.mean_us);
        self.at(end, What::Ends { endpoint: index, arrived_us });
    }

    fn ended(&mut self, index: usize, time_us: u64, arrived_us: u64) {
        let took_us = time_us - arrived_us;
        let endpoint = &mut self.endpoints[index];
        endpoint.serving -= 1;
        endpoint.took_us.push(took_us);
        let load = &self.candidates[index].load;
        load.active.fetch_sub(1, Relaxed);
        load.sample_latency(Duration::from_micros(took_us));
        self.serve(index, time_us);
    }

    fn outcome(self) -> Outcome {
        let all: Vec<u64> =
            self.endpoints.iter().flat_map(|endpoint| &endpoint.took_us).copied().collect();
        let outcome = |endpoint: Endpoint| EndpointOutcome {
            picks: endpoint.picks,
            most_active: endpoint.most_active,
            times: Times::of(endpoint.took_us),
        };
        Outcome {
            endpoints: self.endpoints.into_iter().map(outcome).collect(),
            times: Times::of(all),
            abstentions: self.abstentions,
        }
    }
}

impl Times {
    fn of(mut took_us: Vec<u64>) -> Self {
        took_us.sort_unstable();
        let at = |percent: usize| {
            let index = took_us.len() * percent / 100;
            Duration::from_micros(took_us.get(index).copied().unwrap_or_default())
        };
        Self { median: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{
        Policy,
        wasm::{Engine, Environment, WasmPolicy},
    };

    fn run_builtin(name: &str, workload: &Workload) -> Outcome {
        let engine = Engine::new(None).unwrap();
        let program = Arc::new(Engine::builtin_program(name).unwrap());
        let clock = Arc::new(AtomicU64::new(0));
        let environment = Environment::Simulated { clock: Arc::clone(&clock), seed: workload.seed };
        let policy = WasmPolicy::new(&engine, program, Arc::from(""), Arc::new(|_, _| ()));
        let policy = policy.in_environment(environment, Arc::new(|_, _| ()));
        run(workload, &mut *policy.instance().unwrap(), &clock).unwrap()
    }

    fn picks(outcome: &Outcome) -> Vec<usize> {
        outcome.endpoints.iter().map(|endpoint| endpoint.picks).collect()
    }

    #[test]
    fn every_connection_is_served() {
        let workload = Workload::standard(1);
        let mut round_robin = RoundRobin::default();
        let outcome = run(&workload, &mut round_robin, &AtomicU64::new(0)).unwrap();
        assert_eq!(picks(&outcome), [workload.connections / 10; 10], "in turn");
        assert!(outcome.endpoints.iter().all(|endpoint| endpoint.most_active > 0));
        assert!(outcome.times.p99 > outcome.times.median);
    }

    #[test]
    fn a_scheduler_that_looks_beats_one_that_does_not() {
        let workload = Workload::standard(1);
        let round_robin = run_builtin("rr", &workload);
        for name in ["wlc", "ewma"] {
            let outcome = run_builtin(name, &workload);
            let (p99, turns) = (outcome.times.p99, round_robin.times.p99);
            assert!(p99 < turns / 4, "{name}: {p99:?}, round robin {turns:?}");
            let share =
                |range: std::ops::Range<usize>| picks(&outcome)[range].iter().sum::<usize>();
            assert!(share(7..9) > share(0..4), "{name}: the large get more: {:?}", picks(&outcome));
            assert!(
                share(9..10) < share(0..1),
                "{name}: the slow gets less: {:?}",
                picks(&outcome)
            );
        }
    }

    #[test]
    fn a_slow_endpoint_hardly_matters() {
        for workers in [1, 10, 100] {
            let workload = Workload::one_slow(workers, 3);
            let p99 = |name| run_builtin(name, &workload).times.p99;
            let turns = p99("rr");
            for name in ["ewma", "prequal"] {
                let own = p99(name);
                let most = turns * 3 / 10;
                assert!(own <= most, "{name}, {workers} workers: {own:?}, round robin {turns:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        let run = |seed| picks(&run_builtin("random", &Workload::standard(seed)));
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
