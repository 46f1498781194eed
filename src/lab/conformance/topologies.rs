//! The checks of topology policies.

use std::sync::{Arc, atomic::AtomicU64};

use crate::{
    lab::{
        conformance::{Check, Found, check},
        workload::{self, candidates},
    },
    policy::{
        Candidate, Candidates, Scorer, UNKNOWN, highest,
        wasm::{Environment, WasmPolicy},
    },
};

/// Clients at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The place in words.
    pub name: String,
    zone: u32,
    node: u32,
    /// By endpoint.
    pub scores: Vec<u32>,
    /// The endpoints that they may see.
    pub seen: Vec<usize>,
}

/// Zones that have endpoints.
const ZONES: u32 = 3;

/// Runs all checks of a topology policy. Takes a second or so: not for an async task.
pub fn check_all(policy: &WasmPolicy, seed: u64) -> Vec<Check> {
    let subject = Subject { policy, seed };
    vec![
        check("one endpoint", any_count(&subject, &[1])),
        check("1,000 endpoints", any_count(&subject, &[1_000])),
        check("endpoints come and go", any_count(&subject, &[3, 4, 100, 1, 1_000, 2, 10])),
        check("extreme figures", extreme_figures(&subject)),
        check("same question, same score", determinism(&subject)),
        check("everybody sees an endpoint", everybody(&subject)),
    ]
}

/// Which of ten endpoints in three zones clients may see, by where they are.
pub fn places(policy: &WasmPolicy, seed: u64) -> Result<Vec<Place>, String> {
    let mut life = Subject { policy, seed }.start()?;
    life.configure(&standard())?;
    let mut places = clients();
    for place in &mut places {
        place.scores = life.scores(place)?;
        place.seen = highest(&place.scores);
    }
    Ok(places)
}

/// Ten endpoints of weight 1, in three zones in turn.
pub fn standard() -> Candidates {
    candidates(&[1; 10], ZONES)
}

/// Where clients can be.
fn clients() -> Vec<Place> {
    let place = |name: String, zone: u32, node: u32| Place {
        name,
        zone,
        node,
        scores: Vec::new(),
        seen: Vec::new(),
    };
    let mut all: Vec<Place> =
        (0..ZONES).map(|zone| place(format!("in zone {zone}"), zone, zone)).collect();
    all.push(place("in zone 0, on a node without endpoints".to_owned(), 0, ZONES));
    all.push(place("in a zone without endpoints".to_owned(), ZONES, ZONES));
    all.push(place("in an unknown zone".to_owned(), UNKNOWN, UNKNOWN));
    all
}

/// Where instances come from.
struct Subject<'a> {
    policy: &'a WasmPolicy,
    seed: u64,
}

/// An instance from its start on.
struct Life {
    guest: Box<dyn Scorer>,
    generation: u64,
    count: usize,
}

impl Subject<'_> {
    fn start(&self) -> Result<Life, String> {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let environment = Environment::Simulated { clock, seed: self.seed };
        let policy = self.policy.in_environment(environment, Arc::new(|_, _| ()));
        let guest = policy.scorer().map_err(|failure| failure.to_string())?;
        Ok(Life { guest, generation: 0, count: 0 })
    }
}

impl Life {
    fn configure(&mut self, candidates: &Candidates) -> Result<(), String> {
        self.generation += 1;
        self.count = candidates.len();
        let configured = self.guest.configure(self.generation, candidates);
        configured.map_err(|failure| format!("{failure} ({} endpoints)", self.count))
    }

    fn scores(&mut self, place: &Place) -> Result<Vec<u32>, String> {
        let count = u32::try_from(self.count).map_err(|error| error.to_string())?;
        let mut scores = Vec::new();
        for index in 0..count {
            let score = self.guest.score(place.zone, place.node, index);
            scores.push(score.map_err(|failure| {
                format!("{failure} (endpoint {index} of {count}, clients {})", place.name)
            })?);
        }
        Ok(scores)
    }
}

fn any_count(subject: &Subject<'_>, counts: &[usize]) -> Result<Found, String> {
    let mut life = subject.start()?;
    for count in counts {
        life.configure(&candidates(&vec![1; *count], ZONES))?;
        for place in clients() {
            life.scores(&place)?;
        }
    }
    let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
    Ok(Found::Fine(format!("{}; for clients at {} places", counts.join(", "), clients().len())))
}

fn extreme_figures(subject: &Subject<'_>) -> Result<Found, String> {
    let weighted = |weight: u32| -> Candidates {
        let all = standard();
        all.iter().map(|one| Candidate { weight, ..one.clone() }).collect()
    };
    let sets = [
        ("weights 0", weighted(0)),
        ("the highest weights", weighted(u32::MAX)),
        ("zones and nodes unknown", workload::of_unknown_place(&standard())),
    ];
    for (what, candidates) in sets {
        let mut life = subject.start()?;
        life.configure(&candidates).map_err(|why| format!("{what}: {why}"))?;
        for place in clients() {
            life.scores(&place).map_err(|why| format!("{what}: {why}"))?;
        }
    }
    Ok(Found::Fine("weights from 0 to the highest, zones and nodes unknown".to_owned()))
}

/// Scores are kept until the endpoints change, so another instance must give the same.
fn determinism(subject: &Subject<'_>) -> Result<Found, String> {
    let (mut one, mut other) = (subject.start()?, subject.start()?);
    for life in [&mut one, &mut other] {
        life.configure(&standard())?;
    }
    // The other one is asked in another order.
    let mut later: Vec<Vec<u32>> = Vec::new();
    for place in clients().iter().rev() {
        later.push(other.scores(place)?);
    }
    for (place, later) in clients().iter().zip(later.iter().rev()) {
        let scores = one.scores(place)?;
        let differs = scores.iter().zip(later).position(|(one, other)| one != other);
        if let Some(at) = differs {
            return Err(format!(
                "clients {} get the score {} for endpoint {at} and, asked in another order, {}; scores must depend on the \
                 question and on what is there at `configure` only",
                place.name, scores[at], later[at]
            ));
        }
    }
    Ok(Found::Fine("in another order, of another instance".to_owned()))
}

fn everybody(subject: &Subject<'_>) -> Result<Found, String> {
    let mut life = subject.start()?;
    life.configure(&standard())?;
    let mut without = Vec::new();
    for place in clients() {
        if highest(&life.scores(&place)?).is_empty() {
            without.push(place.name);
        }
    }
    Ok(match without.is_empty() {
        true => Found::Fine(format!("at {} places", clients().len())),
        false => Found::Doubtful(format!(
            "clients {} see none: all scores are 0, and their connections are reset",
            without.join(", ")
        )),
    })
}
