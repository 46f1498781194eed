//! sh, dh, maglev and ring.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{FAILED, Scheduler, check_shares, endpoint, endpoints, equal, flow_of, set_failures};
use crate::policy::{Candidates, Flow, flow_hash};

const CLIENTS: u32 = 20_000;

/// The larger of the two primes is for more endpoints than a model takes.
const MAGLEV_SLOTS: u64 = 65_521;

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn source_hash(client: u32) -> u64 {
    flow_of(client).hash(flow_hash::SOURCE_ADDRESS)
}

/// Weighted rendezvous hashing, with the natural logarithm.
fn rendezvous(candidates: &Candidates, hash: u64) -> usize {
    let score = |i: &usize| {
        let drawn = mix(hash ^ candidates[*i].identity) >> 11;
        let even = (drawn as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(candidates[*i].weight) / even.ln()
    };
    (0..candidates.len()).max_by(|one, other| score(one).total_cmp(&score(other))).unwrap()
}

/// The paper's table: by turns, each takes the next free slot of its own order. Weights limit the slots of each.
fn maglev(candidates: &Candidates) -> Vec<usize> {
    let mut order = (0..candidates.len()).collect::<Vec<_>>();
    order.retain(|i| candidates[*i].weight > 0);
    order.sort_by_key(|i| candidates[*i].identity);
    let total = order.iter().map(|i| u64::from(candidates[*i].weight)).sum::<u64>();
    let mut before = 0;
    let mut takers = Vec::new();
    for i in order {
        let (identity, weight) = (candidates[i].identity, u64::from(candidates[i].weight));
        let share = (before + weight) * MAGLEV_SLOTS / total - before * MAGLEV_SLOTS / total;
        before += weight;
        let step = mix(identity) % (MAGLEV_SLOTS - 1) + 1;
        takers.push((i, share, identity % MAGLEV_SLOTS, step));
    }
    let mut table = BTreeMap::new();
    while table.len() < usize::try_from(MAGLEV_SLOTS).unwrap() {
        for (i, left, slot, step) in &mut takers {
            if *left == 0 {
                continue;
            }
            while table.contains_key(slot) {
                *slot = (*slot + *step) % MAGLEV_SLOTS;
            }
            table.insert(*slot, *i);
            *left -= 1;
        }
    }
    table.into_values().collect()
}

/// The points of a ring and whose they are.
fn ring(candidates: &Candidates) -> BTreeMap<u64, usize> {
    let total = candidates.iter().map(|one| u64::from(one.weight)).sum::<u64>();
    let mut points = BTreeMap::new();
    for (i, one) in candidates.iter().enumerate() {
        let count = 160 * candidates.len() as u64 * u64::from(one.weight) / total;
        for n in 1..=count.max(u64::from(one.weight > 0)) {
            let point = mix(one.identity.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            points.insert(point >> 32, i);
        }
    }
    points
}

#[test]
fn clients_get_the_endpoint_of_the_model() {
    for weights in [&[1][..], &[1; 10], &[3, 1, 0, 7, 2], &[500, 1, 1]] {
        let candidates = endpoints(weights);
        let (table, points) = (maglev(&candidates), ring(&candidates));
        let mut schedulers =
            ["sh", "maglev", "ring"].map(|name| Scheduler::new(name, candidates.clone()));
        for client in 0..3_000 {
            let hash = source_hash(client);
            let slot = usize::try_from(((hash >> 32) * MAGLEV_SLOTS) >> 32).unwrap();
            let after = points.range(hash >> 32..).chain(&points).next().unwrap();
            let expected = [rendezvous(&candidates, hash), table[slot], *after.1];
            let picked = schedulers.each_mut().map(|scheduler| scheduler.pick_for(client));
            assert_eq!(picked, expected, "{weights:?}, client {client}");
        }
    }
}

#[test]
fn dh_hashes_the_destination_alone() {
    let mut scheduler = Scheduler::new("dh", endpoints(&[1, 2, 1, 4]));
    for service in 0..500 {
        let destination = (Ipv4Addr::from_bits(0x7f60_0000 + service), 80).into();
        let flow = Flow { destination, ..flow_of(service % 7) };
        let hash = flow.hash(flow_hash::DESTINATION_ADDRESS);
        let expected = rendezvous(&scheduler.candidates, hash);
        assert_eq!(scheduler.answer(&flow), Some(expected), "{service}");
    }
}

#[test]
fn shares_follow_the_weights() {
    let weights = [1, 2, 3, 4, 5, 0];
    // A ring's shares are as even as its points are many.
    for (name, tolerance) in [("sh", 0.06), ("maglev", 0.06), ("ring", 0.25)] {
        let mut scheduler = Scheduler::new(name, endpoints(&weights));
        let mut shares = [0; 6];
        for client in 0..3 * CLIENTS {
            shares[scheduler.pick_for(client)] += 1;
        }
        check_shares(name, &shares, &weights, tolerance);
    }
}

#[test]
fn one_that_leaves_disturbs_few() {
    for (name, most_percent) in [("sh", 0), ("ring", 0), ("maglev", 2)] {
        let mut scheduler = Scheduler::new(name, equal(100));
        let all = scheduler.candidates.clone();
        let identity = |scheduler: &mut Scheduler, client| {
            let chosen = scheduler.pick_for(client);
            scheduler.candidates[chosen].identity
        };
        let before =
            (0..CLIENTS).map(|client| identity(&mut scheduler, client)).collect::<Vec<_>>();
        for gone in [0, 42, 99] {
            let gone = all[gone].identity;
            scheduler.configure(all.iter().filter(|one| one.identity != gone).cloned().collect());
            let (mut orphans, mut moved) = (0, 0);
            for (client, before) in (0..CLIENTS).zip(&before) {
                let differs = identity(&mut scheduler, client) != *before;
                orphans += u32::from(*before == gone);
                moved += u32::from(differs);
            }
            let most = orphans.max(CLIENTS * most_percent / 100);
            assert!((orphans..=most).contains(&moved), "{name}: {moved} moved, {orphans} had to");
        }
        // Their order does not matter.
        scheduler.configure(all.iter().rev().cloned().collect());
        for (client, before) in (0..CLIENTS).zip(before) {
            assert_eq!(identity(&mut scheduler, client), before, "{name}, client {client}");
        }
    }
}

#[test]
fn a_client_keeps_its_second_choice() {
    for name in ["sh", "maglev", "ring"] {
        let mut scheduler = Scheduler::new(name, equal(10));
        let first = scheduler.pick_for(7);
        let mut failures = [0; 10];
        failures[first] = FAILED;
        set_failures(&scheduler.candidates, &failures);
        let mut others = (0..100).map(|_| scheduler.pick_for(7)).collect::<Vec<_>>();
        others.retain(|chosen| *chosen != first);
        assert!(others.len() > 80 && others.iter().all(|one| *one == others[0]), "{name}");
        failures[first] = 0;
        set_failures(&scheduler.candidates, &failures);
        assert_eq!(scheduler.pick_for(7), first, "{name}");
    }
}

#[test]
fn great_weights_keep_their_proportion() {
    let weights = [1 << 31, 1 << 30, 1 << 30];
    let mut scheduler = Scheduler::new("sh", endpoints(&weights));
    let mut shares = [0; 3];
    for client in 0..CLIENTS {
        shares[scheduler.pick_for(client)] += 1;
    }
    check_shares("sh", &shares, &[2, 1, 1], 0.06);
    // One that is alone gets all, whatever its weight.
    for name in ["sh", "dh", "maglev", "ring"] {
        let alone = [endpoint(0, 0), endpoint(1, u32::MAX)].into_iter().collect();
        let mut scheduler = Scheduler::new(name, alone);
        assert!((0..100).all(|client| scheduler.pick_for(client) == 1), "{name}");
    }
}
