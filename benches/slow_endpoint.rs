//! How long clients wait if one of ten endpoints is twenty times as slow: `cargo bench --bench slow_endpoint`. The real
//! modules in virtual time, so that the figures are the same on every machine; connections arrive whatever became of
//! those before them. The slow endpoint can serve a twentieth of its share: in turn, its queue grows without end.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and ends at a failure"
)]

use std::sync::{Arc, atomic::AtomicU64};

use snowglobe::{
    lab::{simulation, workload::Workload},
    policy::library::Library,
    route::notice::NOTICES_MAX,
};
use tokio::{runtime::Builder, sync::mpsc};

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let (sender, _notices) = mpsc::channel(NOTICES_MAX);
    let library = Library::new(sender, None).unwrap();
    library.load_builtins();
    println!(
        "{:>7}  {:<8} {:>9} {:>9} {:>6} {:>9}",
        "workers", "policy", "median", "p99", "of rr", "slow gets"
    );
    for workers in [1, 10, 100] {
        let workload = Workload::one_slow(workers, 1);
        let mut turns = None;
        for name in ["rr", "random", "p2c", "lc", "wlc", "ewma", "prequal"] {
            let clock = Arc::new(AtomicU64::new(0));
            let policy = library.simulated(name, Arc::clone(&clock), 1).unwrap();
            let outcome =
                simulation::run(&workload, &mut *policy.instance().unwrap(), &clock).unwrap();
            let [median, p99] =
                [outcome.times.median, outcome.times.p99].map(|time| time.as_secs_f64());
            let ratio = p99 / *turns.get_or_insert(p99);
            let slow = outcome.endpoints.last().unwrap().picks as f64 / workload.connections as f64;
            println!(
                "{workers:>7}  {name:<8} {median:>8.3}s {p99:>8.3}s {ratio:>6.3} {:>8.1}%",
                slow * 100.0
            );
        }
    }
}
