//! ewma and prequal.

use std::sync::atomic::Ordering::Relaxed;

use super::{Scheduler, endpoints, equal, set_active};
use crate::policy::Candidates;

const SECOND: u64 = 1_000_000;

fn set_latency(candidates: &Candidates, values: &[u64]) {
    for (candidate, value) in candidates.iter().zip(values) {
        candidate.load.latency.store(*value, Relaxed);
    }
}

#[test]
fn ewma_takes_the_cheaper_of_two() {
    type Row = ([u32; 2], [u64; 2], [u32; 2], usize);
    let rows: &[Row] = &[
        ([1, 1], [1_000, 2_000], [0, 0], 0),
        ([1, 1], [1_000, 2_000], [2, 0], 1),
        ([1, 4], [1_000, 2_000], [0, 0], 1),
        ([0, 1], [1_000, 2_000], [0, 9], 1),
        // Not measured yet: one connection tries it.
        ([1, 1], [1_000, 0], [0, 0], 1),
        ([1, 1], [u64::MAX, 0], [0, 1], 0),
        ([1, 1], [0, 0], [2, 1], 1),
    ];
    for row @ (weights, latency, load, expected) in rows {
        let mut scheduler = Scheduler::new("ewma", endpoints(weights));
        set_latency(&scheduler.candidates, latency);
        set_active(&scheduler.candidates, load);
        assert_eq!(scheduler.picks(20), [*expected; 20], "{row:?}");
    }
}

#[test]
fn the_slowest_of_many_gets_nothing_and_the_others_share() {
    let mut scheduler = Scheduler::new("ewma", equal(10));
    set_latency(&scheduler.candidates, &[2_000, 100, 101, 102, 103, 104, 105, 106, 107, 108]);
    let shares = scheduler.shares(2_000);
    assert_eq!(shares[0], 0);
    assert!(shares[1..].iter().all(|share| (1..500).contains(share)), "{shares:?}");
}

#[test]
fn a_slow_endpoint_is_tried_again() {
    for name in ["ewma", "prequal"] {
        let mut scheduler = Scheduler::new(name, endpoints(&[2, 2]));
        let mut turn = |seconds, slow: u64| {
            for _ in 0..seconds {
                scheduler.clock.fetch_add(SECOND, Relaxed);
                let steady = 1_000 + scheduler.clock.load(Relaxed) / SECOND % 2;
                set_latency(&scheduler.candidates, &[slow, steady]);
                scheduler.pick();
            }
            scheduler.picks(5)
        };
        assert_eq!(turn(10, 64_000), [1; 5], "{name}: 64 times as slow");
        assert_eq!(turn(25, 64_000), [1; 5], "{name}: 34 s are 5 half-lives, not 6");
        assert_eq!(turn(10, 64_000), [0; 5], "{name}: 44 s");
        assert_eq!(turn(1, 56_062), [0; 5], "{name}: a good answer, an eighth of the way down");
        assert_eq!(turn(1, 56_200), [1; 5], "{name}: a bad answer");
        assert_eq!(turn(1, 56_150), [1; 5], "{name}: one that is hardly better");
    }
}

#[test]
fn what_is_known_of_an_endpoint_stays_with_it() {
    for name in ["ewma", "prequal"] {
        let mut scheduler = Scheduler::new(name, equal(2));
        let candidates = scheduler.candidates.clone();
        for round in 0..5 {
            set_latency(&candidates, &[8_000, 1_000 + round]);
            let expected = if round < 3 { candidates[1].identity } else { candidates[0].identity };
            for pick in scheduler.picks(3) {
                assert_eq!(scheduler.candidates[pick].identity, expected, "{name}, round {round}");
            }
            scheduler.clock.fetch_add(7 * SECOND, Relaxed);
            scheduler.configure(scheduler.candidates.iter().rev().cloned().collect());
        }
    }
}

#[test]
fn prequal_spares_the_hot() {
    let mut scheduler = Scheduler::new("prequal", equal(10));
    let candidates = scheduler.candidates.clone();
    set_latency(&candidates, &[10, 1_000, 1_001, 1_002, 1_003, 1_004, 1_005, 1_006, 1_007, 1_008]);
    scheduler.picks(100);
    let shares = scheduler.shares(200);
    assert!(shares[0] > 50, "nobody is hot, and the fastest wins: {shares:?}");
    set_active(&candidates, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    scheduler.picks(100);
    let shares = scheduler.shares(200);
    assert!(shares[0] < 20, "it is hot, as good as always: {shares:?}");

    let mut scheduler = Scheduler::new("prequal", equal(3));
    let candidates = scheduler.candidates.clone();
    set_latency(&candidates, &[10, 1_000, 20]);
    scheduler.picks(100);
    set_active(&candidates, &[5, 3, 4]);
    let shares = scheduler.shares(4);
    assert!(shares[1] >= 3, "all are hot, and the one with the fewest wins: {shares:?}");
}
