//! What picking an endpoint costs: `cargo bench --bench policies`.
//!
//! Picks go through the very function that the proxy asks, `Scheduler::pick` of a `Library`: the look-up of the
//! instance, its locks, the check of the generation and the deadline are part of every figure. A cycle is a pick, one
//! more open connection at the endpoint, and one less where the oldest connection is. Figures are CPU time, except for
//! failures, in which several threads have a part.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at a failure")]

mod cpu_time;
mod modules;
mod service;

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use criterion::{BatchSize, Criterion};
use snowglobe::policy::{By, wasm::Engine};

use self::{
    cpu_time::CpuTime,
    service::{Policies, Service, candidates},
};

fn main() {
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    picks(&mut criterion);
    configure(&mut criterion);
    compile(&mut criterion);
    criterion.final_summary();
    // Several threads have a part in these.
    let mut criterion = Criterion::default().configure_from_args();
    failures(&mut criterion);
    criterion.final_summary();
}

fn picks(criterion: &mut Criterion<CpuTime>) {
    let policies = Policies::new();
    policies.load("component-lc", modules::COMPONENT_LC.as_bytes());
    let mut group = criterion.benchmark_group("pick");
    for (name, count) in [("rr", 10), ("maglev", 1_000)] {
        let mut service = Service::new(&policies, name, count);
        group.bench_function(format!("{name}, {count} endpoints"), |bench| {
            bench.iter(|| service.pick());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("cycle");
    for (name, count) in [
        ("lc", 10),
        ("lc", 1_000),
        ("component-lc", 10),
        ("wlc", 10),
        ("ewma", 10),
        ("prequal", 10),
    ] {
        let mut service = Service::new(&policies, name, count);
        // Nobody is idle, so that a search for the least cannot end early.
        service.open(2 * count);
        group.bench_function(format!("{name}, {count} endpoints"), |bench| {
            bench.iter(|| service.cycle());
        });
    }
}

fn configure(criterion: &mut Criterion<CpuTime>) {
    let policies = Policies::new();
    let mut group = criterion.benchmark_group("configure");
    for (name, count) in [("maglev", 1_000), ("wrr", 1_000)] {
        let policy = policies.library.simulated(name, Arc::default(), 1).unwrap();
        let (mut guest, candidates) = (policy.instance().unwrap(), candidates(count));
        let mut generation = 0;
        group.bench_function(format!("{name}, {count} endpoints"), |bench| {
            bench.iter(|| {
                generation += 1;
                guest.configure(generation, &candidates).unwrap();
            });
        });
    }
}

fn compile(criterion: &mut Criterion<CpuTime>) {
    let engine = Engine::new(None).unwrap();
    let large = modules::large();
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(20);
    group.bench_function(format!("{} bytes", large.len()), |bench| {
        bench.iter(|| black_box(engine.compile(&large).unwrap()));
    });
    let maglev = Engine::builtin("maglev").unwrap();
    group.bench_function("maglev", |bench| {
        bench.iter(|| black_box(engine.compile(maglev).unwrap()));
    });
}

/// Each at a service of its own: one that fails again is made to wait.
fn failures(criterion: &mut Criterion) {
    let policies = Policies::new();
    policies.load("traps", modules::turns_bad("(unreachable)").as_bytes());
    policies.load("loops", modules::turns_bad("(loop $forever (br $forever))").as_bytes());
    let mut group = criterion.benchmark_group("failure");
    group.sample_size(50).measurement_time(Duration::from_secs(3));
    let started = |name| {
        let mut service = Service::new(&policies, name, 3);
        service.pick();
        service.candidates[0].load.failures.store(1, Ordering::Relaxed);
        service
    };
    group.bench_function("trap to healthy", |bench| {
        bench.iter_batched_ref(
            || started("traps"),
            |service| {
                assert_eq!(service.decide().by, By::Fallback);
                service.candidates[0].load.failures.store(0, Ordering::Relaxed);
                assert_eq!(service.decide().by, By::Policy);
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("endless loop stopped", |bench| {
        bench.iter_batched_ref(
            || started("loops"),
            |service| assert_eq!(service.decide().by, By::Fallback),
            BatchSize::PerIteration,
        );
    });
}

/// A number that no service had.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
