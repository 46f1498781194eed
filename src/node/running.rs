//! [`Table`]: the pods that run here, found by uid, by name and by address without looking at the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch::Sender;

use crate::{
    model::ObjectKey,
    node::{
        drain::{Place, Watched},
        worker::{Orders, Stop},
    },
    runtime::{PodRuntime, PodSpec, PodState, Stage},
};

/// One pod that runs here.
pub(crate) struct Running {
    pub(crate) key: ObjectKey,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    orders: Sender<Orders>,
    /// Where its traffic is watched.
    pub(crate) place: Option<Place>,
}

impl Running {
    pub(crate) fn new(
        key: ObjectKey,
        runtime: Arc<dyn PodRuntime>,
        orders: Sender<Orders>,
    ) -> Self {
        Self { key, runtime, orders, place: None }
    }

    pub(crate) fn spec(&self) -> Option<Arc<PodSpec>> {
        self.orders.borrow().spec.clone()
    }

    /// The address that it needs: who has ended needs none any more.
    fn address(&self) -> Option<IpAddr> {
        let orders = self.orders.borrow();
        let has_ended = orders.state.as_ref().is_some_and(|state| state.stage == Stage::Ended);
        orders.spec.as_ref().filter(|_| !has_ended).map(|spec| spec.ip)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Table {
    pods: BTreeMap<String, Running>,
    uids: BTreeSet<(ObjectKey, String)>,
    /// How many pods have an address; on the host's network they share their node's.
    addresses: BTreeMap<IpAddr, usize>,
}

impl Table {
    pub(crate) fn get(&self, uid: &str) -> Option<&Running> {
        self.pods.get(uid)
    }

    pub(crate) fn get_mut(&mut self, uid: &str) -> Option<&mut Running> {
        self.pods.get_mut(uid)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Running)> {
        self.pods.iter()
    }

    /// The names of all pods.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.uids.iter().map(|(key, _)| key)
    }

    /// The uids of pods with this name: one, and those before it that are being stopped.
    pub(crate) fn uids_of<'a>(&'a self, key: &'a ObjectKey) -> impl Iterator<Item = &'a String> {
        let all = self.uids.range((key.clone(), String::new())..);
        all.take_while(move |(own, _)| own == key).map(|(_, uid)| uid)
    }

    /// Adds a pod; its uid is new here.
    pub(crate) fn insert(&mut self, uid: String, running: Running) {
        self.uids.insert((running.key.clone(), uid.clone()));
        self.count(None, running.address());
        self.pods.insert(uid, running);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Running> {
        let running = self.pods.remove(uid)?;
        self.uids.remove(&(running.key.clone(), uid.to_owned()));
        self.count(running.address(), None);
        Some(running)
    }

    /// Changes the orders of a pod; its worker hears of it if the change says so.
    pub(crate) fn give(&mut self, uid: &str, change: impl FnOnce(&mut Orders) -> bool) {
        let Some(running) = self.pods.get(uid) else { return };
        let before = running.address();
        running.orders.send_if_modified(change);
        let now = running.address();
        self.count(before, now);
    }

    pub(crate) fn set_spec(&mut self, uid: &str, spec: Arc<PodSpec>) {
        self.give(uid, |orders| {
            orders.spec = Some(spec);
            true
        });
    }

    /// Notes the newest state of a pod.
    pub(crate) fn set_state(&mut self, uid: &str, state: PodState) {
        self.give(uid, |orders| {
            let is_new = orders.state.as_deref() != Some(&state);
            orders.state = Some(Arc::new(state));
            is_new
        });
    }

    /// Lets a pod end once its traffic has, or gives one that ends already less time. Whether it was not ending before.
    pub(crate) fn stop(
        &mut self,
        uid: &str,
        grace: Duration,
        traffic: impl FnOnce() -> Option<Watched>,
    ) -> bool {
        let mut begins = false;
        self.give(uid, |orders| match &mut orders.stop {
            Some(stop) => {
                let is_shorter = grace < stop.grace;
                stop.grace = stop.grace.min(grace);
                is_shorter
            }
            None => {
                begins = true;
                orders.stop = Some(Stop { grace, traffic: traffic() });
                true
            }
        });
        begins
    }

    /// Whether a pod that has not ended has this address.
    pub(crate) fn is_used(&self, address: &IpAddr) -> bool {
        self.addresses.contains_key(address)
    }

    fn count(&mut self, before: Option<IpAddr>, now: Option<IpAddr>) {
        if before == now {
            return;
        }
        if let Some(ip) = before
            && let Some(count) = self.addresses.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&ip);
            }
        }
        if let Some(ip) = now {
            *self.addresses.entry(ip).or_default() += 1;
        }
    }
}
