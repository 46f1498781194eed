//! Where picks happen: one [`Place`] per service port and scope, with the scheduler instances that serve it, and
//! [`Places`], the bounded set of them. Decides who picks when a scheduler cannot; reports, but tells nobody.
//! Enter at [`Places::find_or_make`], then [`Place::pick_now`] and, where that has no answer, [`Place::pick`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};

use crate::{
    policy::{
        Failure, Picker,
        fallback::RoundRobin,
        instance::{Answer, Guests, Instance, Miss, Request},
        version::{OnFailure, Version},
    },
    route::RouteName,
};

/// Places with instances at one time. A process can map about 32,000 guest memories (4 GiB of address space
/// each); a place has at most three instances with two memories each.
pub(super) const PLACES_MAX: usize = 4096;

/// Which scheduler instance: each service port has one in each scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceKey {
    /// The service port.
    pub route: RouteName,
    /// The clients that share it: those of a node, or all (empty).
    pub scope: Arc<str>,
}

/// Where a scheduler instance sits. Whoever asks it often keeps this, and finds it at once.
pub struct Seat {
    key: InstanceKey,
    place: OnceLock<Arc<Place>>,
}

impl Seat {
    /// The seat of an instance that need not exist yet.
    pub fn new(key: InstanceKey) -> Self {
        Self { key, place: OnceLock::new() }
    }

    /// Whose it is.
    pub fn key(&self) -> &InstanceKey {
        &self.key
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.key).finish()
    }
}

/// Which version a request wants.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The policy that it names; `None` for the default.
    pub(super) policy: Option<&'a str>,
    /// How often the library's names have changed until now: as long as that stays, a name stands for the same version.
    pub(super) names: u64,
}

/// The result of one pick.
#[derive(Default)]
pub(super) struct Picked {
    /// The chosen index; `None` resets the connection.
    pub(super) index: Option<usize>,
    /// It was not the policy that chose.
    pub(super) fell_back: bool,
    /// The policy was asked and had no opinion.
    pub(super) abstained: bool,
    /// The policy failed just now.
    pub(super) failure: Option<Failure>,
    /// How long the policy's guest took, if it picked.
    pub(super) took: Option<Duration>,
}

/// A pick that needed no waiting.
pub(super) enum Quick {
    /// The version that was asked.
    Picked {
        version: Arc<Version>,
        index: Option<usize>,
        /// As in [`Picked`].
        fell_back: bool,
        took: Option<Duration>,
    },
    /// The guest failed just now; [`Place::pick`] tells what becomes of that.
    Failed(Failure),
}

/// All places in use.
pub(super) struct Places {
    places_max: usize,
    /// Rises with each new place: "recently used" means used since the last few new ones.
    clock: AtomicU64,
    by_key: RwLock<BTreeMap<InstanceKey, Arc<Place>>>,
}

/// One service port in one scope.
#[derive(Default)]
pub(super) struct Place {
    used: AtomicU64,
    state: Mutex<State>,
}

/// What serves a place now.
#[derive(Default)]
struct State {
    /// For what `version` is right, as in [`Asked`].
    found_for: Option<(Option<Arc<str>>, u64)>,
    version: Option<Arc<Version>>,
    current: Option<Arc<Instance>>,
    /// The guest of the version before picks until the current one has started.
    before: Option<Arc<Instance>>,
    last_good: Option<Arc<Instance>>,
    fallback: Native,
}

/// The native scheduler of a place.
#[derive(Default)]
struct Native {
    picker: RoundRobin,
    /// What it was configured with last.
    generation: Option<u64>,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Self {
        Self { places_max, clock: AtomicU64::default(), by_key: RwLock::default() }
    }

    /// The place that a seat has found before. One that was pushed out since is empty.
    pub(super) fn found<'a>(&self, seat: &'a Seat) -> Option<&'a Place> {
        let place = seat.place.get()?;
        place.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        Some(place)
    }

    /// The place of a seat. A new one may push out the one that was used least recently.
    pub(super) fn find_or_make(&self, seat: &Seat, guests: &Guests) -> Arc<Place> {
        let now = self.clock.load(Ordering::Relaxed);
        let is_same =
            |place: &Arc<Place>| seat.place.get().is_some_and(|own| Arc::ptr_eq(own, place));
        if let Some(place) = self.by_key.read().get(seat.key()).filter(|place| is_same(place)) {
            place.used.store(now, Ordering::Relaxed);
            return Arc::clone(place);
        }
        let mut by_key = self.by_key.write();
        let known = by_key.get(seat.key()).cloned();
        let place = Arc::clone(seat.place.get_or_init(|| known.clone().unwrap_or_default()));
        let mut gone = known.filter(|known| !Arc::ptr_eq(known, &place));
        if gone.is_none() && !by_key.contains_key(seat.key()) && by_key.len() >= self.places_max {
            gone = evict(&mut by_key);
        }
        place.used.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        by_key.insert(seat.key().clone(), Arc::clone(&place));
        drop(by_key);
        if let Some(gone) = gone {
            guests.discard(gone.clear());
        }
        place
    }

    /// Takes the places of a route out; the caller drops what is in them.
    pub(super) fn forget(&self, route: &RouteName) -> Vec<Arc<Place>> {
        let first = InstanceKey { route: route.clone(), scope: Arc::from("") };
        let mut by_key = self.by_key.write();
        let keys = by_key.range(first..).map(|(key, _)| key);
        let keys = keys.take_while(|key| key.route == *route).cloned().collect::<Vec<_>>();
        keys.iter().filter_map(|key| by_key.remove(key)).collect()
    }

    /// Drops the instances of versions that `is_stale` names. Takes a while.
    pub(super) fn release(&self, is_stale: impl Fn(&Version) -> bool) {
        let places = self.by_key.read().values().cloned().collect::<Vec<_>>();
        for place in places {
            // The instances are freed after the lock.
            drop(place.state.lock().release(&is_stale));
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

impl Place {
    /// Picks if the guest of the version that serves now is ready and was quick so far.
    pub(super) fn pick_now(&self, request: Request<'_>, asked: Asked<'_>) -> Option<Quick> {
        let mut state = self.state.lock();
        if !state.is_for(asked) || state.before.is_some() {
            return None;
        }
        let version = Arc::clone(state.version.as_ref()?);
        let answer = state.current.as_ref()?.pick_now(request)?;
        Some(match answer {
            Ok(Answer { index: index @ Some(_), took }) => {
                Quick::Picked { version, index, fell_back: false, took }
            }
            Ok(Answer { index: None, took }) => {
                let index = state.fallback.pick(request);
                Quick::Picked { version, index, fell_back: true, took }
            }
            Err(failure) => Quick::Failed(failure),
        })
    }

    /// Takes all instances out; the caller drops them.
    pub(super) fn clear(&self) -> impl Send + use<> {
        std::mem::take(&mut *self.state.lock())
    }

    /// Picks with `version`; without one (an unknown policy), with the fallback.
    pub(super) async fn pick(
        &self,
        version: Option<&Arc<Version>>,
        request: Request<'_>,
        asked: Asked<'_>,
        guests: &Guests,
        failed: Option<Failure>,
    ) -> Picked {
        let Some(version) = version else { return self.fall_back(request) };
        let (version, current) = self.adopt(version, asked, guests);
        let answer = match failed {
            Some(failure) => Err(Miss::Failed(failure)),
            None => current.pick(request, guests).await,
        };
        let failure = match answer {
            Ok(Answer { index: index @ Some(_), took }) => {
                return Picked { index, took, ..Picked::default() };
            }
            Ok(Answer { index: None, took }) => {
                return Picked { took, abstained: true, ..self.fall_back(request) };
            }
            Err(Miss::Away) => {
                let before = self.state.lock().before.clone();
                let index = match before {
                    Some(before) => before.pick_if_ready(request, guests).await,
                    None => None,
                };
                return match index {
                    Some(_) => Picked { index, ..Picked::default() },
                    None => self.fall_back(request),
                };
            }
            Err(Miss::Failed(failure)) => Some(failure),
            Err(Miss::Pausing) => None,
        };
        let picked = match version.on_failure {
            OnFailure::Reject => Picked { fell_back: true, ..Picked::default() },
            OnFailure::LastGood => self.pick_last_good(&version, request, guests).await,
            OnFailure::Fallback => self.fall_back(request),
        };
        Picked { failure, ..picked }
    }

    async fn pick_last_good(
        &self,
        version: &Version,
        request: Request<'_>,
        guests: &Guests,
    ) -> Picked {
        let instance = version.last_good.as_ref().map(|policy| {
            let last_good = &mut self.state.lock().last_good;
            let new = || Instance::new(policy, &version.counters, &version.health);
            Arc::clone(last_good.get_or_insert_with(new))
        });
        let answer = match instance {
            Some(instance) => instance.pick(request, guests).await.ok(),
            None => None,
        };
        match answer.and_then(|answer| answer.index) {
            Some(index) => Picked { index: Some(index), fell_back: true, ..Picked::default() },
            None => self.fall_back(request),
        }
    }

    fn fall_back(&self, request: Request<'_>) -> Picked {
        self.state.lock().fall_back(request)
    }

    /// Changes over to `version` and returns what now serves. A connection that still brings an older version of the
    /// same policy does not change back.
    fn adopt(
        &self,
        version: &Arc<Version>,
        Asked { policy, names }: Asked<'_>,
        guests: &Guests,
    ) -> (Arc<Version>, Arc<Instance>) {
        let mut state = self.state.lock();
        if !state.is_for(Asked { policy, names }) {
            state.found_for = Some((policy.map(Arc::from), names));
        }
        let is_adopted = |now: &Version| now.name == version.name && now.number >= version.number;
        let (now, gone) = match (&state.version, &state.current) {
            (Some(now), Some(current)) if is_adopted(now) => {
                let now = (Arc::clone(now), Arc::clone(current));
                let is_over = state.before.is_some() && now.1.has_guest();
                (now, if is_over { state.before.take() } else { None })
            }
            _ => {
                let (counters, health) = (&version.counters, &version.health);
                let instance = Instance::new(&version.policy, counters, health);
                let gone = state.change_to(version, &instance);
                drop(state);
                guests.discard(gone);
                return (Arc::clone(version), instance);
            }
        };
        drop(state);
        if let Some(gone) = gone {
            guests.discard(gone);
        }
        now
    }
}

impl State {
    fn is_for(&self, Asked { policy, names }: Asked<'_>) -> bool {
        let found = self.found_for.as_ref();
        found.is_some_and(|(found, at)| *at == names && found.as_deref() == policy)
    }

    fn fall_back(&mut self, request: Request<'_>) -> Picked {
        let index = self.fallback.pick(request);
        Picked { index, fell_back: true, ..Picked::default() }
    }

    /// Puts a new version in place; the caller drops the instances that are of no use any more.
    fn change_to(
        &mut self,
        version: &Arc<Version>,
        instance: &Arc<Instance>,
    ) -> Vec<Arc<Instance>> {
        let is_same_policy = self.version.as_ref().is_some_and(|now| now.name == version.name);
        self.version = Some(Arc::clone(version));
        let outgoing = self.current.replace(Arc::clone(instance));
        let mut gone = Vec::from_iter(self.last_good.take());
        if !is_same_policy {
            gone.extend(outgoing);
            gone.extend(self.before.take());
        } else if outgoing.as_ref().is_some_and(|outgoing| outgoing.has_guest()) {
            gone.extend(std::mem::replace(&mut self.before, outgoing));
        } else {
            gone.extend(outgoing);
        }
        gone
    }

    fn release(&mut self, is_stale: impl Fn(&Version) -> bool) -> Option<Self> {
        let is_stale = self.version.as_ref().is_some_and(|version| is_stale(version));
        let fallback = std::mem::take(&mut self.fallback);
        let released = is_stale.then(|| std::mem::take(self));
        self.fallback = fallback;
        released
    }
}

impl Native {
    fn pick(&mut self, request: Request<'_>) -> Option<usize> {
        if self.generation != Some(request.generation) {
            self.picker.configure(request.generation, request.candidates).ok();
            self.generation = Some(request.generation);
        }
        self.picker.pick(request.flow).ok().flatten()
    }
}
