//! A process is killed at random moments. All acknowledged commits must be there afterwards.
//!
//! `child` is the process that is killed. Through a pipe it reports what it is going to write and what was
//! acknowledged. After the kill, `model` compares this with the store.

mod attempt;
mod child;
mod model;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::store::{
    index::Limits,
    sled::{Sled, committer::Tuning, tests::DIR},
};

use attempt::Attempt;
use model::Model;

/// The number of kills, for longer campaigns.
const KILLS: &str = "SNOWGLOBE_STORE_TEST_KILLS";
const KILLS_DEFAULT: usize = 40;
/// The seed of an earlier campaign. It gives the same moments, but the progress of the child at a moment depends on
/// the machine.
const SEED: &str = "SNOWGLOBE_STORE_TEST_SEED";
/// After this many kills, a new store is created.
const KILLS_PER_STORE: usize = 40;
/// A child is killed after at most this many acknowledged commits.
const COMMITS_MAX: u32 = 250;
/// The assumed length of a phase until it was measured.
const PHASE_GUESS: Duration = Duration::from_millis(5);

/// The log is cleaned and data moved often. The history contains every commit that may be unanswered at a kill.
const TUNING: Tuning = Tuning {
    limits: Limits {
        age: Duration::from_secs(300),
        revisions_min: 64,
        revisions_max: 150,
        bytes_max: 512 * 1024,
    },
    renew_bytes_min: 2 * 1024 * 1024,
    clean_bytes_min: 64 * 1024,
    clean_percent: 120,
    reserve: true,
};

/// The moment of a kill: in a phase of the committer, named by its span, or at any time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Any,
    In(&'static str),
}

const OPEN: Moment = Moment::In("open");
const MOVE: Moment = Moment::In("move");
/// The moments in turn. The first kill of a store happens during its creation.
const MOMENTS: [Moment; 6] =
    [OPEN, Moment::Any, MOVE, OPEN, Moment::In("clean"), Moment::In("batch")];

struct Campaign {
    dir: TempDir,
    random: StdRng,
    model: Model,
    /// The last measured length of each phase.
    durations: BTreeMap<String, Duration>,
    /// The number of kills in each phase.
    struck: BTreeMap<String, usize>,
    kills: usize,
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    if env::var_os(DIR).is_some() {
        return;
    }
    let kills = env::var(KILLS).ok().map_or(KILLS_DEFAULT, |text| text.parse().unwrap());
    let seed = env::var(SEED).ok().map_or_else(rand::random, |text| text.parse().unwrap());
    println!("{SEED}={seed}");
    let started = Instant::now();
    let mut campaign = Campaign {
        dir: new_directory(),
        random: StdRng::seed_from_u64(seed),
        model: Model::default(),
        durations: BTreeMap::new(),
        struck: BTreeMap::new(),
        kills: 0,
    };
    while campaign.kills < kills {
        if campaign.kills.is_multiple_of(KILLS_PER_STORE) {
            campaign.begin_anew();
        }
        let moment = MOMENTS[campaign.kills % KILLS_PER_STORE % MOMENTS.len()];
        campaign.kill(moment);
        let done = campaign.kills % KILLS_PER_STORE;
        let last = done == 0 || campaign.kills == kills;
        // Usually several kills happen before the store is checked.
        if last || MOMENTS[done % MOMENTS.len()] != OPEN || campaign.random.random_ratio(1, 4) {
            let store = Sled::open_tuned(campaign.dir.path(), TUNING).unwrap();
            campaign.model.check(&store).await;
        }
    }
    campaign.dir.disable_cleanup(false);
    let Campaign { model, struck, .. } = &campaign;
    println!("{kills} kills in {:?}, in phases: {struck:?}; {:?}", started.elapsed(), model.counts);
    for phase in ["open", "move", "clean"] {
        assert!(struck.contains_key(phase), "no kill struck {phase}: {struck:?}");
    }
}

/// The directory is kept if the test fails.
fn new_directory() -> TempDir {
    let mut dir = TempDir::new().unwrap();
    dir.disable_cleanup(true);
    println!("in {}", dir.path().display());
    dir
}

impl Campaign {
    fn begin_anew(&mut self) {
        self.dir.disable_cleanup(false);
        self.dir = new_directory();
        self.model.begin_anew();
    }

    /// Starts a child, kills it at a moment, and processes its reports.
    fn kill(&mut self, moment: Moment) {
        self.kills += 1;
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "store::sled::tests::crash::child::writing_child", "--nocapture"])
            .env(DIR, self.dir.path())
            .env(child::RUN, self.kills.to_string())
            .stdout(Stdio::piped());
        if moment == OPEN {
            command.env(child::IDLE, "1");
        }
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut commits =
            if moment == OPEN { 0 } else { self.random.random_range(1..=COMMITS_MAX) };
        let mut alive = true;
        let mut phases: Vec<(String, Instant)> = Vec::new();
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            let entered = self.take(line.trim_end(), &mut phases);
            if line.starts_with("done") {
                commits = commits.saturating_sub(1);
            }
            let due = match moment {
                Moment::Any => line.starts_with("done"),
                Moment::In(phase) => entered.as_deref() == Some(phase),
            };
            if alive && due && commits == 0 {
                self.wait_within(moment);
                process.kill().unwrap();
                alive = false;
            }
            line.clear();
        }
        let status = process.wait().unwrap();
        assert!(!alive, "the child ended by itself: {status}");
        let phase = phases.pop().map_or_else(|| "none".to_owned(), |(name, _)| name);
        *self.struck.entry(phase).or_default() += 1;
        if two_generations(self.dir.path()) {
            *self.struck.entry("(two generations)".to_owned()).or_default() += 1;
        }
    }

    /// Processes a line. Returns the phase that it reports.
    fn take(&mut self, line: &str, phases: &mut Vec<(String, Instant)>) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["try", ..] => self.model.attempt(Attempt::parse(&words[1..])),
            ["done", id, revision] => {
                self.model.acknowledge(id.parse().unwrap(), revision.parse().unwrap());
            }
            ["refused", id] => self.model.refuse(id.parse().unwrap()),
            ["enter", phase] => {
                phases.push((phase.to_owned(), Instant::now()));
                return Some(phase.to_owned());
            }
            ["exit", phase] => {
                let (name, since) = phases.pop().unwrap();
                assert_eq!(name, phase);
                self.durations.insert(name, since.elapsed());
            }
            _ => {}
        }
        None
    }

    /// Waits for a random part of the last measured length of the phase.
    fn wait_within(&mut self, moment: Moment) {
        let longest = match moment {
            Moment::In(phase) => self.durations.get(phase).copied().unwrap_or(PHASE_GUESS),
            Moment::Any => PHASE_GUESS,
        };
        let deadline = Instant::now() + longest.mul_f64(self.random.random());
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
    }
}

fn two_generations(dir: &Path) -> bool {
    let names = fs::read_dir(dir.join("store")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("gen-")).count() > 1
}
