//! Where picks happen: one [`Place`] per service port and view, with the scheduler instance that serves it, and
//! [`Places`], the bounded set of them. Decides what happens when a scheduler fails; reports, but tells nobody.
//! Enter at [`Places::find_or_make`], then [`State::pick`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::{
    policy::{Candidates, Failure, Flow, Picker, Policy, fallback::Fallback, wasm::WasmPolicy},
    route::RouteName,
};

/// Places with an instance at one time. A process can map about 32,000 guest memories (4 GiB of address space
/// each); a place has at most two instances with two memories each.
pub(super) const PLACES_MAX: usize = 4096;

/// Pause after the second failure in a row; doubles with each further one. After the first there is none.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Without a failure for so long, the next one counts as the first. More than the longest pause.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Which scheduler instance: each service port has one per view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceKey {
    /// The service port.
    pub route: RouteName,
    /// The node whose view it is; empty when all nodes share one.
    pub view: Arc<str>,
}

/// What a service port does when its policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The native round robin picks.
    #[default]
    Fallback,
    /// Nothing is picked: the connection is reset.
    Reject,
    /// The last module before this one that worked picks; without one, or if that fails too, the fallback.
    LastGood,
}

/// One loaded module under a name. A reload makes a new version.
pub(super) struct Version {
    pub(super) name: Arc<str>,
    /// Rises with every compilation.
    pub(super) number: u64,
    pub(super) policy: Arc<WasmPolicy>,
    pub(super) on_failure: OnFailure,
    pub(super) last_good: Option<Arc<WasmPolicy>>,
    /// It failed at least once under traffic.
    pub(super) failed: AtomicBool,
    /// Shared by all versions of the name.
    pub(super) counters: Arc<Counters>,
}

/// What a policy did so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) picks: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) fallbacks: AtomicU64,
    pub(super) timed_picks: AtomicU64,
    pub(super) timed_nanoseconds: AtomicU64,
    pub(super) last_failure: Mutex<Option<String>>,
}

/// The result of one pick.
pub(super) struct Picked {
    /// The chosen index; `None` resets the connection.
    pub(super) index: Option<usize>,
    /// It was not the policy that chose.
    pub(super) fell_back: bool,
    /// The policy failed just now.
    pub(super) failure: Option<Failure>,
}

/// All places in use.
pub(super) struct Places {
    places_max: usize,
    /// Rises with each new place: "recently used" means used since the last few new ones.
    clock: AtomicU64,
    by_key: RwLock<BTreeMap<InstanceKey, Arc<Place>>>,
}

/// One service port in one view.
pub(super) struct Place {
    used: AtomicU64,
    /// Held for one pick, since a scheduler instance does one thing at a time.
    pub(super) state: Mutex<State>,
}

/// What serves a place now.
#[derive(Default)]
pub(super) struct State {
    version: Option<Arc<Version>>,
    current: Seat,
    last_good: Seat,
    fallback: Seat,
}

/// A scheduler instance, or the memory of why there is none.
#[derive(Default)]
struct Seat {
    picker: Option<Box<dyn Picker>>,
    /// What the picker was configured with last.
    generation: Option<u64>,
    failures_in_a_row: u32,
    failed_at: Option<Instant>,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Self {
        Self { places_max, clock: AtomicU64::default(), by_key: RwLock::default() }
    }

    /// The place of that name. A new one may push out the one that was used least recently.
    pub(super) fn find_or_make(&self, key: &InstanceKey) -> Arc<Place> {
        let now = self.clock.load(Ordering::Relaxed);
        if let Some(place) = self.by_key.read().get(key) {
            place.used.store(now, Ordering::Relaxed);
            return Arc::clone(place);
        }
        let mut by_key = self.by_key.write();
        if let Some(place) = by_key.get(key) {
            return Arc::clone(place);
        }
        let evicted = if by_key.len() < self.places_max { None } else { evict(&mut by_key) };
        let used = AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed) + 1);
        let place = Arc::new(Place { used, state: Mutex::default() });
        by_key.insert(key.clone(), Arc::clone(&place));
        drop(by_key);
        // Unmapping a guest's memory takes a while: not under the lock.
        drop(evicted);
        place
    }

    /// Drops the places of a route.
    pub(super) fn forget(&self, route: &RouteName) {
        let first = InstanceKey { route: route.clone(), view: Arc::from("") };
        let mut by_key = self.by_key.write();
        let keys = by_key.range(first..).map(|(key, _)| key);
        let keys = keys.take_while(|key| key.route == *route).cloned().collect::<Vec<_>>();
        let gone = keys.iter().map(|key| by_key.remove(key)).collect::<Vec<_>>();
        drop(by_key);
        drop(gone);
    }

    /// Drops the instances of versions that `is_stale` names; their places get new ones at the next pick.
    pub(super) fn release(&self, is_stale: impl Fn(&Version) -> bool) {
        let places = self.by_key.read().values().cloned().collect::<Vec<_>>();
        for place in places {
            place.state.lock().release(&is_stale);
        }
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<InstanceKey> {
        self.by_key.read().keys().cloned().collect()
    }
}

fn evict(by_key: &mut BTreeMap<InstanceKey, Arc<Place>>) -> Option<Arc<Place>> {
    let oldest = by_key.iter().min_by_key(|(_, place)| place.used.load(Ordering::Relaxed));
    let key = oldest.map(|(key, _)| key.clone())?;
    by_key.remove(&key)
}

impl State {
    /// Picks with `version`; without one (an unknown policy), with the fallback.
    pub(super) fn pick(
        &mut self,
        version: Option<&Arc<Version>>,
        generation: u64,
        candidates: &Candidates,
        flow: &Flow,
    ) -> Picked {
        let Some(version) = version.map(|version| self.adopt(version)) else {
            let index = self.fallback.pick_native(generation, candidates, flow);
            return Picked { index, fell_back: true, failure: None };
        };
        let failure = match self.current.pick(&*version.policy, generation, candidates, flow) {
            Ok(Some(index)) => {
                return Picked { index: Some(index), fell_back: false, failure: None };
            }
            Ok(None) => {
                let index = self.fallback.pick_native(generation, candidates, flow);
                return Picked { index, fell_back: true, failure: None };
            }
            Err(failure) => failure,
        };
        if version.on_failure == OnFailure::Reject {
            return Picked { index: None, fell_back: true, failure };
        }
        let last_good =
            version.last_good.as_ref().filter(|_| version.on_failure == OnFailure::LastGood);
        let picked = last_good.and_then(|last_good| {
            self.last_good.pick(&**last_good, generation, candidates, flow).ok().flatten()
        });
        let index = picked.or_else(|| self.fallback.pick_native(generation, candidates, flow));
        Picked { index, fell_back: true, failure }
    }

    /// Changes over to `version` and returns what now serves. A thread that still brings an older version of the
    /// same policy does not change back.
    fn adopt(&mut self, version: &Arc<Version>) -> Arc<Version> {
        match &self.version {
            Some(now) if now.name == version.name && now.number >= version.number => {
                Arc::clone(now)
            }
            _ => {
                self.version = Some(Arc::clone(version));
                self.current = Seat::default();
                self.last_good = Seat::default();
                Arc::clone(version)
            }
        }
    }

    fn release(&mut self, is_stale: impl Fn(&Version) -> bool) {
        if self.version.as_ref().is_some_and(|version| is_stale(version)) {
            self.version = None;
            self.current = Seat::default();
            self.last_good = Seat::default();
        }
    }
}

impl Seat {
    /// Picks with an instance of `policy`, which it makes and configures as needed. A failed instance is dropped;
    /// `Err(None)` is the pause before the next attempt.
    fn pick(
        &mut self,
        policy: &dyn Policy,
        generation: u64,
        candidates: &Candidates,
        flow: &Flow,
    ) -> Result<Option<usize>, Option<Failure>> {
        if self.picker.is_none() && self.pauses() {
            return Err(None);
        }
        let result = self.try_pick(policy, generation, candidates, flow);
        result.map_err(|failure| {
            self.picker = None;
            let now = Instant::now();
            let again = self.failed_at.is_some_and(|at| now - at < FORGIVEN_AFTER);
            self.failures_in_a_row =
                if again { self.failures_in_a_row.saturating_add(1) } else { 1 };
            self.failed_at = Some(now);
            Some(failure)
        })
    }

    fn try_pick(
        &mut self,
        policy: &dyn Policy,
        generation: u64,
        candidates: &Candidates,
        flow: &Flow,
    ) -> Result<Option<usize>, Failure> {
        let picker = match &mut self.picker {
            Some(picker) => picker,
            none => {
                self.generation = None;
                none.insert(policy.instance()?)
            }
        };
        // Not only a newer one: a thread may still hold the table before.
        if self.generation != Some(generation) {
            picker.configure(generation, candidates)?;
            self.generation = Some(generation);
        }
        picker.pick(flow)
    }

    fn pick_native(
        &mut self,
        generation: u64,
        candidates: &Candidates,
        flow: &Flow,
    ) -> Option<usize> {
        self.pick(&Fallback, generation, candidates, flow).ok().flatten()
    }

    fn pauses(&self) -> bool {
        let Some(failed_at) = self.failed_at else { return false };
        let Some(doublings) = self.failures_in_a_row.checked_sub(2) else { return false };
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX);
        failed_at.elapsed() < pause
    }
}
