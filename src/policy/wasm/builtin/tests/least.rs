//! lc, wlc, sed and nq.

use std::sync::atomic::Ordering::Relaxed;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Scheduler, active, check_shares, endpoints, equal, set_active, turns::Turns};
use crate::policy::{Candidate, Candidates};

const ALL: [&str; 4] = ["lc", "wlc", "sed", "nq"];

#[test]
fn least_load_wins() {
    type Row = (&'static str, &'static [u32], &'static [u32], &'static [usize]);
    let rows: &[Row] = &[
        ("lc", &[1, 1, 1], &[2, 1, 3], &[1, 1]),
        ("lc", &[1, 9, 1], &[1, 2, 1], &[0, 2, 0, 2]),
        ("lc", &[1, 1, 1], &[0, 0, 0], &[0, 1, 2, 0]),
        ("lc", &[0, 1, 1], &[0, 4, 5], &[1, 1]),
        ("wlc", &[1, 4], &[1, 3], &[1, 1]),
        ("wlc", &[1, 4], &[1, 5], &[0, 0]),
        ("wlc", &[1, 2], &[2, 4], &[1, 0, 1, 1, 0, 1]),
        ("wlc", &[3, 1], &[0, 0], &[0, 0, 1, 0]),
        ("wlc", &[u32::MAX, 1], &[u32::MAX, 1], &[0, 0]),
        ("sed", &[1, 4], &[0, 2], &[1, 1]),
        ("sed", &[1, 4], &[0, 3], &[0, 1, 0, 1]),
        ("sed", &[1, 4], &[0, 4], &[0, 0]),
        ("sed", &[1, 1, 1], &[0, 0, 0], &[0, 1, 2, 0]),
        ("sed", &[u32::MAX, 1], &[u32::MAX, 1], &[0, 0]),
        ("nq", &[1, 4], &[0, 2], &[0, 0]),
        ("nq", &[1, 4], &[1, 2], &[1, 1]),
        ("nq", &[1, 4], &[1, 7], &[0, 1, 0, 1]),
        ("nq", &[1, 9, 1], &[0, 0, 0], &[0, 1, 2, 0]),
        ("nq", &[0, 9, 1], &[0, 5, 5], &[1, 1]),
    ];
    for (name, weights, load, expected) in rows {
        let mut scheduler = Scheduler::new(name, endpoints(weights));
        set_active(&scheduler.candidates, load);
        assert_eq!(&scheduler.picks(expected.len()), expected, "{name} {weights:?} {load:?}");
    }
}

/// Whether `one` has less load than `other`, as IPVS compares.
fn is_less(name: &str, one: &Candidate, other: &Candidate) -> bool {
    let (open, other_open) = (u64::from(active(one)), u64::from(active(other)));
    let (weight, other_weight) = (u64::from(one.weight), u64::from(other.weight));
    match name {
        "lc" => open < other_open,
        "wlc" => open * other_weight < other_open * weight,
        "nq" if open == 0 || other_open == 0 => open == 0 && other_open > 0,
        _ => (open + 1) * other_weight < (other_open + 1) * weight,
    }
}

/// Those than which no other has less load, in the order of the search.
fn equals(name: &str, candidates: &Candidates, start: usize) -> Vec<usize> {
    let order = (start..candidates.len()).chain(0..start);
    let usable = order.filter(|i| candidates[*i].weight > 0).collect::<Vec<_>>();
    let is_least = |i: &&usize| {
        usable.iter().all(|other| !is_less(name, &candidates[*other], &candidates[**i]))
    };
    usable.iter().filter(is_least).copied().collect()
}

#[test]
fn picks_are_as_the_model_while_connections_come_and_go() {
    for name in ALL {
        let mut random = StdRng::seed_from_u64(2);
        for count in [1, 2, 7, 30] {
            let mut weights = (0..count).map(|_| random.random_range(0..5)).collect::<Vec<_>>();
            weights[0] = 2;
            let mut scheduler = Scheduler::new(name, endpoints(&weights));
            let candidates = scheduler.candidates.clone();
            let (mut turns, mut start, mut open) = (Turns::default(), 0, Vec::new());
            turns.configure(&candidates);
            for step in 0..500 {
                let expected = match name {
                    "wlc" => turns.take(&candidates, &equals(name, &candidates, 0)),
                    _ => equals(name, &candidates, start)[0],
                };
                assert_eq!(scheduler.pick(), expected, "{name} {weights:?} step {step}");
                start = (expected + 1) % candidates.len();
                candidates[expected].load.active.fetch_add(1, Relaxed);
                open.push(expected);
                while open.len() > 60 || (!open.is_empty() && random.random_range(0..3) == 0) {
                    let over = open.swap_remove(random.random_range(0..open.len()));
                    candidates[over].load.active.fetch_sub(1, Relaxed);
                }
            }
        }
    }
}

#[test]
fn a_quiet_service_uses_all_endpoints() {
    for name in ALL {
        let shares = Scheduler::new(name, equal(7)).shares(700);
        assert_eq!(shares, [100; 7], "{name}");
    }
    let weights = [1, 2, 3, 0];
    check_shares("wlc", &Scheduler::new("wlc", endpoints(&weights)).shares(600), &weights, 0.0);
}

#[test]
fn open_connections_follow_the_weights() {
    let weights = [1, 2, 3, 4];
    for (name, expected) in [("lc", [1; 4]), ("wlc", weights), ("sed", weights), ("nq", weights)] {
        let mut scheduler = Scheduler::new(name, endpoints(&weights));
        for _ in 0..1_000 {
            let chosen = scheduler.pick();
            scheduler.candidates[chosen].load.active.fetch_add(1, Relaxed);
        }
        let open = scheduler.candidates.iter().map(active).collect::<Vec<_>>();
        check_shares(name, &open, &expected, 0.01);
    }
}

#[test]
fn the_turn_survives_a_change_of_endpoints() {
    for name in ["lc", "sed", "nq"] {
        let mut scheduler = Scheduler::new(name, equal(5));
        assert_eq!(scheduler.picks(4), [0, 1, 2, 3], "{name}");
        scheduler.configure(equal(6));
        assert_eq!(scheduler.picks(3), [4, 5, 0], "{name}");
        scheduler.configure(equal(1));
        assert_eq!(scheduler.picks(2), [0, 0], "{name}");
    }
}
