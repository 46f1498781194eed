//! The checks of schedulers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    lab::{
        conformance::{Check, Found, check},
        timing::Timing,
        workload::{self, candidates, flow},
    },
    policy::{
        Candidate, Candidates, Flow, Load, Picker, Policy, UNKNOWN,
        wasm::{Environment, WasmPolicy},
    },
    route::Protocol,
};

/// A pick that takes longer has a thread of its own under traffic, and picks one connection at a time.
const SLOW: Duration = Duration::from_millis(1);

/// Runs all checks of a scheduler. Takes a second or so: not for an async task.
pub fn check_all(policy: &WasmPolicy, seed: u64) -> Vec<Check> {
    let subject = Subject { policy, seed };
    vec![
        check("one endpoint", one_endpoint(&subject)),
        check("1,000 endpoints", many_endpoints(&subject)),
        check("endpoints come and go", growth_and_shrink(&subject)),
        check("configured often", configured_often(&subject)),
        check("extreme figures", extreme_figures(&subject)),
        check("all sorts of connections", all_connections(&subject)),
        check("same seed, same picks", determinism(&subject)),
    ]
}

/// Judges times of picks, by the median: a machine that is busy otherwise delays single ones.
pub fn check_times(timings: &[Timing]) -> Check {
    let slow: Vec<String> = timings
        .iter()
        .filter(|timing| timing.median > SLOW)
        .map(|timing| format!("with {} endpoints", timing.endpoints))
        .collect();
    let found = match slow.is_empty() {
        true => Found::Fine("most picks take less than 1 ms".to_owned()),
        false => Found::Doubtful(format!(
            "more than 1 ms {}: under traffic, one connection at a time waits for it",
            slow.join(" and ")
        )),
    };
    check("fast enough", Ok(found))
}

/// Where instances come from.
struct Subject<'a> {
    policy: &'a WasmPolicy,
    seed: u64,
}

/// An instance from its start on.
struct Life {
    guest: Box<dyn Picker>,
    clock: Arc<AtomicU64>,
    candidates: Candidates,
    generation: u64,
    /// Picks since the last `configure`.
    picks: u32,
    abstentions: u32,
    /// For messages: how many endpoints there were before.
    before: Option<usize>,
}

impl Subject<'_> {
    fn start(&self) -> Result<Life, String> {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let environment = Environment::Simulated { clock: Arc::clone(&clock), seed: self.seed };
        let policy = self.policy.in_environment(environment, Arc::new(|_, _| ()));
        let guest = policy.instance().map_err(|failure| failure.to_string())?;
        let candidates = Candidates::from([]);
        let (generation, picks, abstentions) = (0, 0, 0);
        Ok(Life { guest, clock, candidates, generation, picks, abstentions, before: None })
    }

    fn start_with(&self, candidates: Candidates) -> Result<Life, String> {
        let mut life = self.start()?;
        life.configure(candidates)?;
        Ok(life)
    }
}

impl Life {
    fn configure(&mut self, candidates: Candidates) -> Result<(), String> {
        self.before = (self.generation > 0).then_some(self.candidates.len());
        self.candidates = candidates;
        self.generation += 1;
        self.picks = 0;
        let configured = self.guest.configure(self.generation, &self.candidates);
        configured.map_err(|failure| format!("{failure} ({})", self.endpoints()))
    }

    /// Picks for a connection, which stays open.
    fn pick(&mut self, flow: &Flow) -> Result<Option<usize>, String> {
        self.clock.fetch_add(1_000, Relaxed);
        self.picks += 1;
        let picked = self.guest.pick(flow).map_err(|failure| {
            format!("{failure} (at pick {} of {})", self.picks, self.endpoints())
        })?;
        match picked {
            Some(index) => {
                let active = &self.candidates[index].load.active;
                active.store(active.load(Relaxed).saturating_add(1), Relaxed);
            }
            None => self.abstentions += 1,
        }
        Ok(picked)
    }

    /// Picks for connections of different clients.
    fn picks(&mut self, count: u32) -> Result<Vec<Option<usize>>, String> {
        (0..count).map(|client| self.pick(&flow(client, 40_000, 3))).collect()
    }

    fn endpoints(&self) -> String {
        let count = match self.candidates.len() {
            1 => "1 endpoint".to_owned(),
            count => format!("{count} endpoints"),
        };
        self.before.map_or(count.clone(), |before| format!("{count}, {before} before"))
    }
}

fn equal(count: usize) -> Candidates {
    candidates(&vec![1; count], 3)
}

fn one_endpoint(subject: &Subject<'_>) -> Result<Found, String> {
    let mut life = subject.start_with(equal(1))?;
    life.picks(100)?;
    Ok(match life.abstentions {
        0 => Found::Fine("100 picks of it".to_owned()),
        100 => Found::Doubtful("it has no opinion, ever: round robin picks".to_owned()),
        some => Found::Fine(format!("{} picks of it, {some} times no opinion", 100 - some)),
    })
}

fn many_endpoints(subject: &Subject<'_>) -> Result<Found, String> {
    let mut life = subject.start_with(equal(1_000))?;
    let mut picked: Vec<usize> = life.picks(1_000)?.into_iter().flatten().collect();
    picked.sort_unstable();
    picked.dedup();
    Ok(Found::Fine(format!("1,000 picks went to {} of them", picked.len())))
}

fn growth_and_shrink(subject: &Subject<'_>) -> Result<Found, String> {
    let counts = [3, 4, 100, 1, 1_000, 2, 10];
    let mut life = subject.start()?;
    for count in counts {
        life.configure(equal(count))?;
        life.picks(50)?;
    }
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    Ok(Found::Fine(format!("{}; 50 picks each", counts.join(", "))))
}

fn configured_often(subject: &Subject<'_>) -> Result<Found, String> {
    let mut life = subject.start()?;
    for count in [2, 2, 5] {
        life.configure(equal(count))?;
    }
    life.picks(20)?;
    let same = Arc::clone(&life.candidates);
    life.configure(same)?;
    life.picks(20)?;
    Ok(Found::Fine("no pick between, and again with the same endpoints".to_owned()))
}

fn extreme_figures(subject: &Subject<'_>) -> Result<Found, String> {
    let loaded = |weight: u32, active: u32, failures: u32, latency: u64| {
        let load = Load::default();
        load.active.store(active, Relaxed);
        load.failures.store(failures, Relaxed);
        load.latency.store(latency, Relaxed);
        let one = equal(1)[0].clone();
        Candidate { weight, load: Arc::new(load), ..one }
    };
    let all = [0, 1, u32::MAX];
    let mut mixed = Vec::new();
    for weight in all {
        for active in all {
            for failures in all {
                let latencies = [0, 1, u64::MAX];
                mixed.extend(latencies.map(|latency| loaded(weight, active, failures, latency)));
            }
        }
    }
    let sets: [(&str, Candidates); 5] = [
        ("weights 0", vec![loaded(0, 0, 0, 0); 5].into()),
        ("the highest weights", vec![loaded(u32::MAX, 0, 0, 0); 5].into()),
        ("the highest loads", vec![loaded(1, u32::MAX, u32::MAX, u64::MAX); 5].into()),
        ("zones and nodes unknown", workload::of_unknown_place(&equal(5))),
        ("all figures mixed", mixed.into()),
    ];
    for (what, candidates) in sets {
        let mut life = subject.start_with(candidates).map_err(|why| format!("{what}: {why}"))?;
        life.picks(100).map_err(|why| format!("{what}: {why}"))?;
    }
    Ok(Found::Fine("weights, connections, failures and latencies from 0 to the highest".to_owned()))
}

fn all_connections(subject: &Subject<'_>) -> Result<Found, String> {
    let mut life = subject.start_with(equal(5))?;
    let usual = flow(1, 40_000, 3);
    let (v6, v6_service) = (([0xfd00, 0, 0, 0, 0, 0, 0, 7], 40_000), ([0xfd00; 8], 80));
    let flows = [
        usual,
        Flow { protocol: Protocol::Udp, ..usual },
        Flow { protocol: Protocol::Sctp, ..usual },
        Flow { source: v6.into(), destination: v6_service.into(), ..usual },
        Flow { client_zone: UNKNOWN, client_node: UNKNOWN, ..usual },
        Flow { client_zone: 1_000_000, client_node: 1_000_000, ..usual },
    ];
    for flow in &flows {
        for _ in 0..10 {
            life.pick(flow)?;
        }
    }
    Ok(Found::Fine("TCP, UDP, SCTP, IPv6, clients in known and unknown zones".to_owned()))
}

fn determinism(subject: &Subject<'_>) -> Result<Found, String> {
    let run = || -> Result<Vec<Option<usize>>, String> {
        let mut life = subject.start_with(candidates(&[1, 2, 3, 4, 5], 3))?;
        let mut picks = life.picks(250)?;
        life.configure(equal(4))?;
        picks.extend(life.picks(250)?);
        Ok(picks)
    };
    let (first, second) = (run()?, run()?);
    match first.iter().zip(&second).position(|(one, other)| one != other) {
        None => Ok(Found::Fine("500 picks twice".to_owned())),
        Some(at) => Err(format!(
            "pick {} was {} and, run again, {}",
            at + 1,
            in_words(first[at]),
            in_words(second[at])
        )),
    }
}

fn in_words(pick: Option<usize>) -> String {
    pick.map_or("no opinion".to_owned(), |index| format!("endpoint {index}"))
}
