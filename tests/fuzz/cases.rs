//! Runs cases one after the other and watches over time and memory.

use std::{
    env, fs,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::StdRng};

/// A case that takes longer hangs. Calls are ended after 20 ms, so that all of a case take less than a second of an idle
/// machine.
const CASE_MAX: Duration = Duration::from_secs(120);
/// Memory that may be taken between the first quarter of the cases and the end. What the allocator keeps varies by so
/// much; a case that keeps its module's memory takes it within a hundred.
const GROWTH_MAX_KIB: u64 = 96 << 10;

/// One test at a time: they share the process and so its memory.
static TURN: Mutex<()> = Mutex::new(());

/// Runs so many cases, each from a seed of its own. A case says whether its module was accepted; some must be.
pub(crate) fn run_all(what: &str, cases: u64, case: impl Fn(&mut StdRng) -> bool + Send + 'static) {
    let _turn = TURN.lock();
    let cases = number("SNOWGLOBE_FUZZ_CASES").unwrap_or(cases);
    let first = number("SNOWGLOBE_FUZZ_SEED").unwrap_or(1);
    let (begun, begins) = mpsc::channel();
    let worker = thread::spawn(move || {
        let (mut accepted, mut early) = (0, 0);
        for seed in first..first + cases {
            begun.send(seed).ok();
            accepted += u64::from(case(&mut StdRng::seed_from_u64(seed)));
            if seed == first + cases / 4 {
                early = resident_kib();
            }
        }
        (accepted, resident_kib().saturating_sub(early))
    });
    let mut seed = first;
    loop {
        match begins.recv_timeout(CASE_MAX) {
            Ok(next) => seed = next,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{what}: the case of seed {seed} hangs (SNOWGLOBE_FUZZ_SEED={seed})")
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let Ok((accepted, growth)) = worker.join() else {
        panic!("{what}: the case of seed {seed} panics (SNOWGLOBE_FUZZ_SEED={seed})")
    };
    println!("{what}: {accepted} of {cases} modules accepted, {growth} KiB more memory");
    assert!(accepted > 0 || cases < 50, "{what}: no module was accepted, nothing was tested");
    assert!(growth < GROWTH_MAX_KIB, "{what}: {growth} KiB more after {cases} cases");
}

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
