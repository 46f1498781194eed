//! The topology policies of `policies/*.c`, each against a plain model.

use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::endpoint;
use crate::policy::{
    Candidate, Candidates, Failure, ModuleError, PolicyKind, UNKNOWN, highest,
    wasm::{Engine, WasmPolicy},
};

/// Where an endpoint is, zone and node, and its weight.
type Row = (u32, u32, u32);

struct Topology {
    policy: WasmPolicy,
}

impl Topology {
    fn new(name: &str, config: &str) -> Self {
        let engine = Engine::new(None).unwrap();
        let program = Engine::builtin_program_of(PolicyKind::Topology, name).unwrap();
        let silent = Arc::new(|_, _| ());
        Self { policy: WasmPolicy::new(&engine, Arc::new(program), Arc::from(config), silent) }
    }

    fn choose(&self, rows: &[Row], client: (u32, u32)) -> Vec<usize> {
        let mut guest = self.policy.scorer().unwrap();
        guest.configure(1, &candidates(rows)).unwrap();
        let mut scores = |(zone, node): (u32, u32)| -> Result<Vec<u32>, Failure> {
            (0..).take(rows.len()).map(|index| guest.score(zone, node, index)).collect()
        };
        // What it keeps of another client must not matter.
        scores((client.0 ^ 1, client.1)).unwrap();
        highest(&scores(client).unwrap())
    }
}

fn candidates(rows: &[Row]) -> Candidates {
    let place = |(number, (zone, node, weight)): (u32, &Row)| Candidate {
        zone: *zone,
        node: *node,
        ..endpoint(number, *weight)
    };
    (0..).zip(rows).map(place).collect()
}

/// The indices of those for which it holds; all if there is none.
fn those_or_all(rows: &[Row], holds: impl Fn(&Row) -> bool) -> Vec<usize> {
    let those: Vec<_> = (0..rows.len()).filter(|index| holds(&rows[*index])).collect();
    if those.is_empty() { (0..rows.len()).collect() } else { those }
}

fn same_zone(rows: &[Row], (zone, _): (u32, u32)) -> Vec<usize> {
    those_or_all(rows, |row| zone != UNKNOWN && row.0 == zone)
}

fn same_node(rows: &[Row], client: (u32, u32)) -> Vec<usize> {
    let on_node = |row: &&Row| client.1 != UNKNOWN && row.1 == client.1;
    match rows.iter().any(|row| on_node(&row)) {
        true => those_or_all(rows, |row| on_node(&row)),
        false => same_zone(rows, client),
    }
}

/// Zones join the client's, strongest first, until each endpoint of the group has at most `overload` times the mean load
/// when every zone brings as many clients.
fn spread(rows: &[Row], zone: u32, overload: f64, minimum: usize) -> Vec<usize> {
    let mut zones = Vec::new();
    for row in rows.iter().filter(|row| row.0 != UNKNOWN) {
        if !zones.contains(&row.0) {
            zones.push(row.0);
        }
    }
    let Some(own) = zones.iter().position(|known| *known == zone) else {
        return (0..rows.len()).collect();
    };
    let of = |zone: u32| rows.iter().filter(move |row| row.0 == zone);
    let capacity = |zone: u32| of(zone).map(|row| f64::from(row.2)).sum::<f64>();
    let count = |zone: u32| of(zone).filter(|row| row.2 > 0).count();
    let total = zones.iter().map(|zone| capacity(*zone)).sum::<f64>();
    let minimum = minimum.min(zones.iter().map(|zone| count(*zone)).sum());
    zones.rotate_left(own);
    // Stable, so that of equals the next one behind the client's comes first.
    zones[1..].sort_by(|a, b| capacity(*b).total_cmp(&capacity(*a)));
    let all = zones.len();
    let is_enough = |group: &[u32]| {
        let capacity = group.iter().map(|zone| capacity(*zone)).sum::<f64>();
        let load = group.len() as f64 / all as f64 * total / capacity;
        capacity > 0.0
            && load <= overload
            && group.iter().map(|zone| count(*zone)).sum::<usize>() >= minimum
    };
    let size = (1..all).find(|size| is_enough(&zones[..*size])).unwrap_or(all);
    let group = &zones[..size];
    (0..rows.len()).filter(|index| group.contains(&rows[*index].0)).collect()
}

#[test]
fn places() {
    const U: u32 = UNKNOWN;
    let rows = [(0, 0, 1), (0, 1, 1), (1, 2, 1), (U, U, 1)];
    for (client, zone, node) in [
        ((0, 0), &[0, 1][..], &[0][..]),
        ((0, 9), &[0, 1], &[0, 1]),
        ((1, 2), &[2], &[2]),
        ((7, 7), &[0, 1, 2, 3], &[0, 1, 2, 3]),
        ((U, U), &[0, 1, 2, 3], &[0, 1, 2, 3]),
    ] {
        assert_eq!(Topology::new("same-zone", "").choose(&rows, client), zone, "{client:?}");
        assert_eq!(Topology::new("same-node", "").choose(&rows, client), node, "{client:?}");
    }
}

#[test]
fn short_zones_share() {
    let cluster = |counts: &[usize]| -> Vec<Row> {
        let zones = (0..).zip(counts);
        zones.flat_map(|(zone, count)| vec![(zone, zone, 1); *count]).collect()
    };
    // Endpoints per zone; of which zones a client of zone 0 uses those.
    for (config, counts, expected) in [
        ("", &[2, 2, 2][..], &[0][..]),
        // 7 in 3 zones: 2 would carry 1.17 times the mean load.
        ("", &[2, 2, 3], &[0]),
        ("overload=1.1", &[2, 2, 3], &[0, 2]),
        // 1 would carry twice the mean load, and so would, of the equals, not the second one.
        ("", &[1, 3, 3], &[0, 1]),
        ("overload=2.4", &[1, 3, 3], &[0]),
        ("", &[1, 1, 10], &[0, 2]),
        ("overload=1", &[1, 2, 3], &[0, 2]),
        ("minimum=3", &[2, 2, 2], &[0, 1]),
        (" minimum=5\noverload=1.5 ", &[2, 2, 2], &[0, 1, 2]),
        ("minimum=100", &[2, 2], &[0, 1]),
        ("", &[0, 2, 2], &[1, 2]),
        ("", &[3], &[0]),
    ] {
        let rows = cluster(counts);
        let chosen = Topology::new("spread", config).choose(&rows, (0, 0));
        let mut zones: Vec<_> = chosen.iter().map(|index| rows[*index].0).collect();
        zones.dedup();
        assert_eq!(zones, expected, "{config} {counts:?}");
    }
    // By weight: one that can do as much as two.
    let rows = [(0, 0, 2), (1, 1, 1), (1, 1, 1), (1, 1, 0)];
    assert_eq!(Topology::new("spread", "").choose(&rows, (0, 0)), [0]);
    assert_eq!(Topology::new("spread", "").choose(&rows, (1, 0)), [1, 2, 3]);
}

#[test]
fn random_clusters_are_as_the_models_say() {
    let mut random = StdRng::seed_from_u64(7);
    let policies = [
        ("same-zone", ""),
        ("same-node", ""),
        ("spread", ""),
        ("spread", "overload=1.7 minimum=3"),
    ];
    for (name, config) in policies {
        let topology = Topology::new(name, config);
        for _ in 0..200 {
            let mut place = |most: u32| match random.random_range(0..=most) {
                0 => UNKNOWN,
                place => place - 1,
            };
            let client = (place(5), place(8));
            let rows: Vec<Row> =
                (0..1 + place(30) % 31).map(|_| (place(4), place(8), place(4) % 5)).collect();
            let expected = match (name, config) {
                ("same-zone", _) => same_zone(&rows, client),
                ("same-node", _) => same_node(&rows, client),
                (_, "") => spread(&rows, client.0, 1.2, 1),
                _ => spread(&rows, client.0, 1.7, 3),
            };
            let chosen = topology.choose(&rows, client);
            assert_eq!(chosen, expected, "{name} {config}: {client:?} {rows:?}");
        }
    }
}

#[test]
fn a_wrong_configuration_is_refused() {
    for (config, position) in [
        ("overload=0.9", 0),
        ("minimum=2 overload=", 19),
        ("minimum=2, overload=2", 8),
        ("  strict", 2),
        ("overload=1.2.3", 9),
    ] {
        let tried = Topology::new("spread", config).policy.try_out();
        let ModuleError(reason) = tried.expect_err(config);
        assert!(reason.contains("failed when tried: configure: "), "{config}: {reason}");
        let logged = format!("the last it logged is code 1, value {position}");
        assert!(reason.contains(&logged), "{config}: {reason}");
    }
}

/// More zones than have groups, and endpoints as in a large Service, within the time of a call.
#[test]
fn large_clusters() {
    let rows: Vec<Row> = (0..5_000).map(|i| (i % 100, i, 1)).collect();
    let topology = Topology::new("spread", "");
    assert_eq!(topology.choose(&rows, (3, 3)).len(), 50);
    assert_eq!(topology.choose(&rows, (99, 0)).len(), 5_000, "one of those without a group");
}
