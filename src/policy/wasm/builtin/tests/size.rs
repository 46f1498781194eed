//! Any number of endpoints works.

use super::{Scheduler, equal, flow_of};

const ALL: [&str; 11] =
    ["wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "maglev", "ewma", "prequal", "ring"];

#[test]
fn few_and_many_endpoints_are_served() {
    let sizes = [1, 3, 1_000, 3_000, 2, 10].map(equal);
    for name in ALL {
        let mut scheduler = Scheduler::new(name, equal(1));
        for candidates in &sizes {
            scheduler.configure(candidates.clone());
            let picks = (0..50).map(|client| scheduler.pick_for(client)).collect::<Vec<_>>();
            assert!(picks.iter().all(|pick| *pick < candidates.len()), "{name}: {picks:?}");
            if candidates.len() >= 1_000 && name != "dh" {
                assert!(picks.iter().max() != picks.iter().min(), "{name}: {picks:?}");
            }
        }
    }
}

/// Where state per endpoint would not fit, the host's round robin picks.
#[test]
fn too_many_endpoints_are_left_to_round_robin() {
    let many = equal(66_000);
    for name in ["wrr", "wlc", "maglev", "ewma", "prequal"] {
        let mut scheduler = Scheduler::new(name, many.clone());
        assert_eq!(scheduler.answer(&flow_of(1)), None, "{name}");
        scheduler.configure(equal(2));
        assert!(scheduler.answer(&flow_of(1)).is_some(), "{name}");
    }
}
