//! The policies of `policies/*.c`: each pick against a plain model, shares and disruption by counting; each set of endpoints
//! likewise.

mod hashing;
mod latency;
mod least;
mod size;
mod topologies;
mod turns;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use crate::policy::{
    Candidate, Candidates, Flow, Picker, Policy, UNKNOWN, identity,
    wasm::{Engine, Environment, WasmPolicy, trial_flow},
};

/// Failed connects in a row after which an endpoint has its smallest chance, one in 64.
const FAILED: u32 = 6;

/// One instance of a built-in scheduler, in a simulation.
struct Scheduler {
    guest: Box<dyn Picker>,
    candidates: Candidates,
    generation: u64,
    clock: Arc<AtomicU64>,
}

impl Scheduler {
    fn new(name: &str, candidates: Candidates) -> Self {
        let engine = Engine::new(None).unwrap();
        let program = Arc::new(Engine::builtin_program(name).unwrap());
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let environment = Environment::Simulated { clock: Arc::clone(&clock), seed: 1 };
        let policy = WasmPolicy::new(&engine, program, Arc::from(""), Arc::new(|_, _| ()));
        let policy = policy.in_environment(environment, Arc::new(|_, _| ()));
        let guest = policy.instance().unwrap();
        let mut scheduler = Self { guest, candidates: Arc::new([]), generation: 0, clock };
        scheduler.configure(candidates);
        scheduler
    }

    fn configure(&mut self, candidates: Candidates) {
        self.generation += 1;
        self.guest.configure(self.generation, &candidates).unwrap();
        self.candidates = candidates;
    }

    fn answer(&mut self, flow: &Flow) -> Option<usize> {
        self.guest.pick(flow).unwrap()
    }

    fn pick(&mut self) -> usize {
        self.answer(&trial_flow(40_000)).unwrap()
    }

    /// The endpoint of a client's connection.
    fn pick_for(&mut self, client: u32) -> usize {
        self.answer(&flow_of(client)).unwrap()
    }

    fn picks(&mut self, count: usize) -> Vec<usize> {
        (0..count).map(|_| self.pick()).collect()
    }

    /// How many of so many picks each endpoint gets; none is held open.
    fn shares(&mut self, count: u32) -> Vec<u32> {
        let mut shares = vec![0; self.candidates.len()];
        for _ in 0..count {
            shares[self.pick()] += 1;
        }
        shares
    }
}

/// A connection of the client of that number, with the address 10.x.y.z.
fn flow_of(client: u32) -> Flow {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + client);
    Flow { source: (address, 40_000).into(), ..trial_flow(40_000) }
}

/// The endpoint of that number, without load.
fn endpoint(number: u32, weight: u32) -> Candidate {
    let address = SocketAddr::from((Ipv4Addr::from_bits(0xac10_0000 + number), 8080));
    Candidate {
        address,
        zone: UNKNOWN,
        node: UNKNOWN,
        weight,
        identity: identity(address),
        load: Arc::default(),
    }
}

fn endpoints(weights: &[u32]) -> Candidates {
    (0..).zip(weights).map(|(number, weight)| endpoint(number, *weight)).collect()
}

fn equal(count: u32) -> Candidates {
    (0..count).map(|number| endpoint(number, 1)).collect()
}

fn active(candidate: &Candidate) -> u32 {
    candidate.load.active.load(Relaxed)
}

fn set(figures: impl Fn(&Candidate) -> &AtomicU32, candidates: &Candidates, values: &[u32]) {
    for (candidate, value) in candidates.iter().zip(values) {
        figures(candidate).store(*value, Relaxed);
    }
}

fn set_active(candidates: &Candidates, values: &[u32]) {
    set(|candidate| &candidate.load.active, candidates, values);
}

fn set_failures(candidates: &Candidates, values: &[u32]) {
    set(|candidate| &candidate.load.failures, candidates, values);
}

/// Whether each share is what its weight makes of the sum, but for a fraction.
fn check_shares(scheduler: &str, shares: &[u32], weights: &[u32], tolerance: f64) {
    let sum = f64::from(shares.iter().sum::<u32>());
    let total = f64::from(weights.iter().sum::<u32>());
    for (share, weight) in shares.iter().zip(weights) {
        let expected = sum * f64::from(*weight) / total;
        let off = (f64::from(*share) - expected).abs();
        assert!(off <= expected * tolerance, "{scheduler}: {shares:?} for weights {weights:?}");
    }
}

#[test]
fn weight_zero_gets_nothing() {
    for name in ["wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "maglev", "ewma", "prequal", "ring"] {
        let mut scheduler = Scheduler::new(name, endpoints(&[0, 1, 0]));
        for client in 0..50 {
            assert_eq!(scheduler.pick_for(client), 1, "{name}");
        }
        scheduler.configure(endpoints(&[0, 0]));
        assert_eq!(scheduler.answer(&flow_of(1)), None, "{name}: no opinion");
    }
}

#[test]
fn endpoints_that_fail_are_avoided_and_tried() {
    for name in ["wrr", "lc", "wlc", "sh", "sed", "nq", "maglev", "ewma", "prequal", "ring"] {
        let mut scheduler = Scheduler::new(name, equal(4));
        set_failures(&scheduler.candidates, &[0, FAILED, 0, 0]);
        let mut failing = 0;
        for client in 0..4_000 {
            failing += u32::from(scheduler.pick_for(client) == 1);
        }
        assert!((1..200).contains(&failing), "{name}: {failing} of 4000");

        // When all fail, any is right.
        set_failures(&scheduler.candidates, &[FAILED; 4]);
        for client in 0..200 {
            scheduler.pick_for(client);
        }
    }
}
