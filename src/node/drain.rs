//! When a terminating pod may stop to accept: once no proxy sends it traffic any more.
//!
//! [`Slices`] knows which traffic the EndpointSlices give to which address; only those wake up whose address a change
//! touches.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    model::{Object, ObjectKey, kind, well_known::SERVICE_NAME_LABEL},
    registry::Registry,
};

/// So long may a pod be all that a Service has, until its successor is ready.
const LAST_MAX: Duration = Duration::from_secs(1);
/// So long may a slice call a pod ready, if its grace period is not over: the slices' controller has much to do, or
/// somebody made the slice by hand.
const READY_MAX: Duration = Duration::from_secs(10);

/// An address in a namespace.
pub(crate) type Place = (String, String);
/// The namespace of slices, and the Service that their label names.
type Service = (String, Option<String>);

/// What the slices say of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    /// No proxy picks it.
    #[default]
    None,
    /// It serves, and its Service has no ready endpoint.
    Last,
    /// Some slice calls it ready.
    Ready,
}

/// The traffic of a place as it changes, and the newest revision of a slice by then.
pub(crate) type Watched = watch::Receiver<(Traffic, u64)>;

/// All EndpointSlices, as far as they decide about traffic.
#[derive(Default)]
pub(crate) struct Slices {
    slices: BTreeMap<ObjectKey, Slice>,
    /// Which slices name an address.
    users: BTreeSet<(Place, ObjectKey)>,
    /// The slices of a Service.
    services: BTreeSet<(Service, ObjectKey)>,
    /// How many ready endpoints a Service has, if any.
    ready: BTreeMap<Service, usize>,
    watched: BTreeMap<Place, watch::Sender<(Traffic, u64)>>,
    newest: u64,
}

struct Slice {
    service: Service,
    parsed: Arc<EndpointSlice>,
}

impl Slices {
    /// Takes in all slices that there are; the others are gone.
    pub(crate) fn replace<'a>(&mut self, all: impl Iterator<Item = &'a Arc<Object>>) {
        let mut gone: BTreeSet<ObjectKey> = self.slices.keys().cloned().collect();
        for slice in all {
            gone.remove(&slice.key);
            self.apply(&slice.key, Some(slice), slice.revision);
        }
        for key in gone {
            self.apply(&key, None, self.newest);
        }
    }

    /// Takes in a slice as it is since `revision`; `None` when it is gone.
    pub(crate) fn apply(&mut self, key: &ObjectKey, object: Option<&Object>, revision: u64) {
        self.newest = self.newest.max(revision);
        let (old, new) = (self.slices.remove(key), object.map(Slice::new));
        let services: BTreeSet<_> =
            old.iter().chain(&new).map(|slice| slice.service.clone()).collect();
        let has_ready = |all: &Self, service| all.ready.contains_key(service);
        let had_ready: Vec<_> = services.iter().map(|service| has_ready(self, service)).collect();
        let mut places = BTreeSet::new();
        for (slice, is_new) in
            old.iter().map(|old| (old, false)).chain(new.iter().map(|new| (new, true)))
        {
            self.index(key, slice, is_new);
            places.extend(slice.places());
        }
        if let Some(new) = new {
            self.slices.insert(key.clone(), new);
        }
        for (service, had_ready) in services.iter().zip(had_ready) {
            // What it has besides ready endpoints gets traffic, or no longer.
            if has_ready(self, service) != had_ready {
                places.extend(self.slices_of(service).flat_map(Slice::places));
            }
        }
        places.iter().for_each(|place| self.tell(place));
    }

    /// Puts a slice into the indexes, or takes it out.
    fn index(&mut self, key: &ObjectKey, slice: &Slice, is_new: bool) {
        let user = (slice.service.clone(), key.clone());
        if is_new {
            self.services.insert(user)
        } else {
            self.services.remove(&user)
        };
        for place in slice.places() {
            let user = (place, key.clone());
            if is_new {
                self.users.insert(user)
            } else {
                self.users.remove(&user)
            };
        }
        let count = slice.endpoints().filter(|endpoint| is_ready(endpoint)).count();
        let total = self.ready.get(&slice.service).copied().unwrap_or_default();
        match if is_new { total + count } else { total.saturating_sub(count) } {
            0 => self.ready.remove(&slice.service),
            total => self.ready.insert(slice.service.clone(), total),
        };
    }

    fn tell(&self, place: &Place) {
        let Some(watched) = self.watched.get(place) else { return };
        let now = self.traffic(place);
        watched.send_if_modified(|(traffic, revision)| {
            let changed = *traffic != now;
            (*traffic, *revision) = (now, self.newest);
            changed
        });
    }

    fn slices_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Slice> {
        let first = (service.clone(), ObjectKey::new(&kind::ENDPOINT_SLICE, "", ""));
        let keys = self.services.range(first..).take_while(move |(of, _)| of == service);
        keys.filter_map(|(_, key)| self.slices.get(key))
    }

    fn users_of<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a ObjectKey> {
        let first = (place.clone(), ObjectKey::new(&kind::ENDPOINT_SLICE, "", ""));
        self.users.range(first..).take_while(move |(used, _)| used == place).map(|(_, key)| key)
    }

    fn traffic(&self, place: &Place) -> Traffic {
        let slices = self.users_of(place).filter_map(|key| self.slices.get(key));
        let of = |slice: &Slice| {
            let own = slice.endpoints().filter(|e| e.addresses.contains(&place.1));
            let traffic = own.map(|endpoint| {
                if is_ready(endpoint) {
                    Traffic::Ready
                } else if serves(endpoint) && !self.ready.contains_key(&slice.service) {
                    Traffic::Last
                } else {
                    Traffic::None
                }
            });
            traffic.max()
        };
        slices.filter_map(of).max().unwrap_or_default()
    }

    /// Follows the traffic of a place.
    pub(crate) fn watch(&mut self, place: &Place) -> Watched {
        let now = (self.traffic(place), self.newest);
        let watched = self.watched.entry(place.clone());
        watched.or_insert_with(|| watch::Sender::new(now)).subscribe()
    }

    /// Forgets a place unless somebody watches it.
    pub(crate) fn unwatch(&mut self, place: &Place) {
        if self.watched.get(place).is_some_and(|watched| watched.receiver_count() == 0) {
            self.watched.remove(place);
        }
    }
}

impl Slice {
    fn new(object: &Object) -> Self {
        let label = object.metadata.labels.get(SERVICE_NAME_LABEL).cloned();
        let service = (object.key.namespace.clone(), label);
        Self { service, parsed: object.digest() }
    }

    fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.parsed.endpoints.iter().flatten()
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let addresses = self.endpoints().flat_map(|endpoint| &endpoint.addresses);
        addresses.map(|address| (self.service.0.clone(), address.clone()))
    }
}

/// Absent conditions mean yes.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
}

fn serves(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.serving) != Some(false)
}

/// Waits until no Service sends traffic to a pod and the data half knows, or it has waited long enough; tells which.
pub(crate) async fn drained(registry: &Registry, mut watched: Watched, grace: Duration) -> bool {
    let began = Instant::now();
    let no_longer_ready = watched.wait_for(|(traffic, _)| *traffic != Traffic::Ready);
    if !matches!(timeout(READY_MAX.min(grace), no_longer_ready).await, Ok(Ok(_))) {
        return false;
    }
    let unused = watched.wait_for(|(traffic, _)| *traffic == Traffic::None);
    let unused = timeout(LAST_MAX.saturating_sub(began.elapsed()), unused).await;
    let Ok(Ok(revision)) = unused.map(|unused| unused.map(|unused| unused.1)) else {
        return false;
    };
    registry.wait_routed(&kind::ENDPOINT_SLICE, revision).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::object::to_stored;

    fn slice(key: &ObjectKey, service: &str, endpoints: &[(&str, bool, bool)]) -> Object {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, ready, serving)| {
                json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving}})
            })
            .collect();
        let metadata = json!({"name": key.name, "labels": {SERVICE_NAME_LABEL: service}});
        let document = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints});
        Object::from_stored(key.clone(), 1, to_stored(&kind::ENDPOINT_SLICE, document)).unwrap()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(&kind::ENDPOINT_SLICE, "default", name)
    }

    #[test]
    fn the_last_serving_endpoints_get_traffic_until_a_successor_is_ready() {
        let (dying, dead) = (("127.0.0.2", false, true), ("127.0.0.2", false, false));
        let (new, other) = (("127.0.0.3", true, true), ("127.0.0.9", true, true));
        type Case<'a> = (&'a [(&'a str, &'a [(&'a str, bool, bool)])], Traffic);
        let cases: &[Case<'_>] = &[
            (&[], Traffic::None),
            (&[("a", &[dying])], Traffic::Last),
            (&[("a", &[dead])], Traffic::None),
            (&[("a", &[dying, new])], Traffic::None),
            (&[("a", &[dying]), ("a", &[new])], Traffic::None),
            (&[("a", &[dying]), ("b", &[other])], Traffic::Last),
            (&[("a", &[("127.0.0.2", true, true), new])], Traffic::Ready),
            (&[("b", &[other])], Traffic::None),
        ];
        let place = ("default".to_owned(), "127.0.0.2".to_owned());
        for (all, expected) in cases {
            let mut slices = Slices::default();
            let watched = slices.watch(&place);
            for (nth, (service, endpoints)) in (1..).zip(*all) {
                let key = key(&nth.to_string());
                slices.apply(&key, Some(&slice(&key, service, endpoints)), nth);
            }
            assert_eq!(watched.borrow().0, *expected, "{all:?}");
            assert_eq!(slices.watch(&place).borrow().0, *expected, "{all:?}");
            for nth in 1..=all.len() {
                slices.apply(&key(&nth.to_string()), None, 9);
            }
            assert_eq!(watched.borrow().0, Traffic::None);
            assert!(slices.users.is_empty() && slices.services.is_empty());
            assert!(slices.ready.is_empty() && slices.slices.is_empty());
            slices.unwatch(&place);
            assert_eq!(slices.watched.len(), 1, "somebody watches it");
            drop(watched);
            slices.unwatch(&place);
            assert!(slices.watched.is_empty());
        }
    }

    #[test]
    fn only_those_wake_whom_a_change_touches() {
        let place = |nth: usize| ("default".to_owned(), format!("127.0.0.{nth}"));
        let mut slices = Slices::default();
        let endpoints: Vec<_> = (0..9).map(|nth| format!("127.0.0.{nth}")).collect();
        let as_given = |ready: usize| -> Vec<(&str, bool, bool)> {
            let endpoints = endpoints.iter().enumerate();
            endpoints.map(|(nth, ip)| (ip.as_str(), nth >= ready, true)).collect()
        };
        let key = key("a");
        slices.apply(&key, Some(&slice(&key, "web", &as_given(0))), 1);
        let mut watched: Vec<_> = (0..9).map(|nth| slices.watch(&place(nth))).collect();
        for nth in 0..8 {
            slices.apply(&key, Some(&slice(&key, "web", &as_given(nth + 1))), 2);
            let awake = watched.iter_mut().map(|w| w.has_changed().unwrap());
            assert_eq!(awake.filter(|awake| *awake).count(), 1, "{nth}");
            assert_eq!(*watched[nth].borrow_and_update(), (Traffic::None, 2));
        }
        slices.apply(&key, Some(&slice(&key, "web", &as_given(9))), 3);
        assert!(watched.iter_mut().all(|w| w.borrow_and_update().0 == Traffic::Last));
    }
}
