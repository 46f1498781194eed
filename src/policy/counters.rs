//! What the policy of a name did so far: [`Counters`], and the [`Tally`] of one of its instances.
//!
//! Nearly all picks are made at once, under the lock of an instance, and counted in its tally, which costs an addition in
//! memory that no other core writes. Whoever reads adds the tallies up. All else is rare and counted in one place.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::policy::{Failure, FailureKind, pick_times::PickTimes, wasm::Usage};

/// What the policy of a name did, over all its versions.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Besides those in tallies.
    later: Picks,
    fallbacks: AtomicU64,
    failures: [AtomicU64; FailureKind::ALL.len()],
    last_failure: Mutex<Option<String>>,
    /// Its module was replaced by another.
    pub(super) reloads: AtomicU64,
    /// A module was refused.
    pub(super) refusals: AtomicU64,
    pub(super) pick_times: PickTimes,
    /// Its guests now.
    pub(super) usage: Arc<Usage>,
    tallies: Mutex<Tallies>,
}

/// Picks of one instance. Alone in its cache line, so that two cores never wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Tally(Picks);

/// The tally of an instance among those of its policy. When the instance is dropped, its figures stay.
#[derive(Debug)]
pub(super) struct Tallied {
    tally: Arc<Tally>,
    counters: Arc<Counters>,
}

/// How a pick that the policy was asked for ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its guest chose.
    Chosen,
    /// Its guest had no opinion.
    Abstained,
    /// Its guest was not there or failed.
    FellBack,
}

#[derive(Debug, Default)]
struct Picks {
    all: AtomicU64,
    abstentions: AtomicU64,
}

#[derive(Debug, Default)]
struct Tallies {
    live: Vec<Arc<Tally>>,
    /// The sum of those of instances that are gone.
    gone: Picks,
}

impl Counters {
    /// A pick that took more than asking a guest that was ready.
    pub(super) fn picked_later(&self, outcome: Outcome) {
        add(&self.later.all, 1);
        match outcome {
            Outcome::Chosen => {}
            Outcome::Abstained => add(&self.later.abstentions, 1),
            Outcome::FellBack => add(&self.fallbacks, 1),
        }
    }

    pub(super) fn failed(&self, failure: &Failure) {
        add(&self.failures[failure.kind as usize], 1);
        *self.last_failure.lock() = Some(failure.reason.clone());
    }

    /// All picks, and those of them without an opinion.
    pub(super) fn picks(&self) -> (u64, u64) {
        let tallies = self.tallies.lock();
        let parts = tallies.live.iter().map(|tally| &tally.0).chain([&self.later, &tallies.gone]);
        parts.map(Picks::read).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }

    pub(super) fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// In the order of [`FailureKind::ALL`].
    pub(super) fn failures(&self) -> [(FailureKind, u64); FailureKind::ALL.len()] {
        FailureKind::ALL.map(|kind| (kind, self.failures[kind as usize].load(Ordering::Relaxed)))
    }

    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }
}

impl Tallied {
    /// A new tally.
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        let (tally, counters) = (Arc::<Tally>::default(), Arc::clone(counters));
        counters.tallies.lock().live.push(Arc::clone(&tally));
        Self { tally, counters }
    }

    /// A pick that the guest made at once. Only under the lock of its instance: what is read here and then written, no other
    /// thread may write meanwhile.
    pub(super) fn picked(&self, has_opinion: bool) {
        let add = |count: &AtomicU64| {
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        add(&self.tally.0.all);
        if !has_opinion {
            add(&self.tally.0.abstentions);
        }
    }
}

impl Drop for Tallied {
    fn drop(&mut self) {
        let mut tallies = self.counters.tallies.lock();
        tallies.live.retain(|tally| !Arc::ptr_eq(tally, &self.tally));
        let (all, abstentions) = self.tally.0.read();
        add(&tallies.gone.all, all);
        add(&tallies.gone.abstentions, abstentions);
    }
}

impl Picks {
    fn read(&self) -> (u64, u64) {
        (self.all.load(Ordering::Relaxed), self.abstentions.load(Ordering::Relaxed))
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_instance_did_outlives_it() {
        let counters = Arc::<Counters>::default();
        let (one, other) = (Tallied::new(&counters), Tallied::new(&counters));
        one.picked(true);
        one.picked(false);
        other.picked(true);
        counters.picked_later(Outcome::Abstained);
        counters.picked_later(Outcome::FellBack);
        assert_eq!((counters.picks(), counters.fallbacks()), ((5, 2), 1));
        drop(one);
        assert_eq!(counters.picks(), (5, 2));
        other.picked(true);
        drop(other);
        assert_eq!(counters.picks(), (6, 2));
        assert!(counters.tallies.lock().live.is_empty());
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let counters = Counters::default();
        for kind in FailureKind::ALL {
            for _ in 0..=kind as usize {
                counters.failed(&Failure::new(kind, kind.word()));
            }
        }
        let counts = counters.failures().map(|(kind, count)| format!("{} {count}", kind.word()));
        assert_eq!(counts, ["trap 1", "deadline 2", "memory 3", "range 4", "start 5"]);
        assert_eq!(counters.last_failure().as_deref(), Some("start"));
    }
}
