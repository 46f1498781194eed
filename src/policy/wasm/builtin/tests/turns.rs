//! wrr, and the model of smooth weighted round robin, which wlc has too.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Scheduler, check_shares, endpoint, endpoints, equal};
use crate::policy::Candidates;

/// nginx's algorithm, with each endpoint's credit by its identity.
#[derive(Default)]
pub(super) struct Turns {
    credit: BTreeMap<u64, i64>,
}

impl Turns {
    pub(super) fn configure(&mut self, candidates: &Candidates) {
        let before = |identity| self.credit.get(&identity).copied().unwrap_or(0);
        let credit = candidates.iter().map(|one| (one.identity, before(one.identity)));
        let mut credit = credit.collect::<BTreeMap<_, _>>();
        let round = candidates.iter().map(|one| i64::from(one.weight)).sum::<i64>();
        let mean = credit.values().sum::<i64>() / i64::try_from(candidates.len()).unwrap();
        for credit in credit.values_mut() {
            *credit = (*credit - mean).clamp(-round, round);
        }
        self.credit = credit;
    }

    /// Whose turn it is among those of `part`.
    pub(super) fn take(&mut self, candidates: &Candidates, part: &[usize]) -> usize {
        let earned = part.iter().map(|i| i64::from(candidates[*i].weight)).sum::<i64>();
        for i in part {
            let one = &candidates[*i];
            *self.credit.get_mut(&one.identity).unwrap() += i64::from(one.weight);
        }
        let credit = |i: &usize| self.credit[&candidates[*i].identity];
        let most = part.iter().map(credit).max().unwrap();
        let first = *part.iter().find(|i| credit(i) == most).unwrap();
        *self.credit.get_mut(&candidates[first].identity).unwrap() -= earned;
        first
    }
}

#[test]
fn turns_are_spread_over_the_round() {
    let rows: &[(&[u32], &[usize])] = &[
        (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
        (&[3, 1], &[0, 0, 1, 0, 0, 0, 1, 0]),
        (&[5, 1, 1], &[0, 0, 1, 0, 2, 0, 0]),
        (&[0, 2, 1], &[1, 2, 1, 1, 2, 1]),
        (&[300, 100], &[0, 0, 1, 0]),
        (&[7], &[0, 0, 0]),
    ];
    for (weights, expected) in rows {
        let picks = Scheduler::new("wrr", endpoints(weights)).picks(expected.len());
        assert_eq!(&picks, expected, "{weights:?}");
    }
}

#[test]
fn wrr_is_as_the_model_while_endpoints_change() {
    let mut random = StdRng::seed_from_u64(1);
    let mut scheduler = Scheduler::new("wrr", equal(1));
    let mut model = Turns::default();
    model.configure(&scheduler.candidates);
    for round in 0..100 {
        let first = random.random_range(0..20);
        let numbers = first..first + random.random_range(1..12);
        let mut now = numbers.map(|i| endpoint(i, random.random_range(0..9))).collect::<Vec<_>>();
        now.push(endpoint(99, 3));
        if round % 3 == 0 {
            now.reverse();
        }
        let now = Candidates::from(now);
        scheduler.configure(now.clone());
        model.configure(&now);
        let part = (0..now.len()).filter(|i| now[*i].weight > 0).collect::<Vec<_>>();
        for pick in 0..random.random_range(0..40) {
            let expected = model.take(&now, &part);
            assert_eq!(scheduler.pick(), expected, "round {round}, pick {pick}");
        }
    }
}

#[test]
fn a_round_gives_each_its_weight() {
    for weights in [&[1, 2, 3, 4][..], &[1; 50], &[1000, 1, 10], &[0, 3, 0, 5]] {
        let round = weights.iter().sum::<u32>();
        let shares = Scheduler::new("wrr", endpoints(weights)).shares(3 * round);
        check_shares("wrr", &shares, weights, 0.0);
    }
}

#[test]
fn a_change_of_endpoints_gives_nobody_a_run() {
    let mut scheduler = Scheduler::new("wrr", endpoints(&[1000, 999, 1]));
    scheduler.picks(1_500);
    scheduler.configure(equal(3));
    let shares = scheduler.shares(30);
    assert!(shares.iter().all(|share| (7..=13).contains(share)), "{shares:?}");

    // New ones at each pick: nobody is left out, nobody gets all.
    let mut picks = [0; 4];
    for newcomer in 100..500 {
        let changed = [0, 1, 2].map(|number| endpoint(number, 1)).into_iter();
        scheduler.configure(changed.chain([endpoint(newcomer, 1)]).collect());
        picks[scheduler.pick()] += 1;
    }
    check_shares("wrr", &picks[..3], &[1; 3], 0.1);
}
