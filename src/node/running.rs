//! [`Table`]: the pods that run here, found by uid, by name, by address and by deadline without looking at the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    model::ObjectKey,
    node::NodeOptions,
    registry::Note,
    runtime::{PodSpec, PodState, Stage},
};

/// One pod that runs here.
pub(crate) struct Running {
    pub(crate) key: ObjectKey,
    pub(crate) node: NodeOptions,
    pub(crate) spec: PodSpec,
    pub(crate) state: Option<PodState>,
    /// The state whose ports the newest Events tell of.
    pub(crate) noted: Option<PodState>,
    /// A status write is under way.
    pub(crate) writing: bool,
    /// `state` changed since the last write began.
    pub(crate) unwritten: bool,
    /// Cancelled when the pod is being stopped: what is still being written about it matters no more.
    pub(crate) stopping: CancellationToken,
    /// What a pod that is being stopped has left for it.
    pub(crate) grace: Duration,
    /// When `activeDeadlineSeconds` is over.
    deadline: Option<Instant>,
    /// To be recorded with the first status.
    pub(crate) announcement: Option<Note>,
}

impl Running {
    pub(crate) fn new(key: ObjectKey, node: NodeOptions, spec: PodSpec) -> Self {
        Self {
            key,
            node,
            spec,
            state: None,
            noted: None,
            writing: false,
            unwritten: false,
            stopping: CancellationToken::new(),
            grace: Duration::MAX,
            deadline: None,
            announcement: None,
        }
    }

    /// Who has ended needs no address any more.
    fn has_ended(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.stage == Stage::Ended)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Table {
    pods: BTreeMap<String, Running>,
    uids: BTreeSet<(ObjectKey, String)>,
    /// How many pods have an address; on the host's network they share their node's.
    addresses: BTreeMap<IpAddr, usize>,
    deadlines: BTreeSet<(Instant, String)>,
}

impl Table {
    pub(crate) fn get(&self, uid: &str) -> Option<&Running> {
        self.pods.get(uid)
    }

    pub(crate) fn get_mut(&mut self, uid: &str) -> Option<&mut Running> {
        self.pods.get_mut(uid)
    }

    pub(crate) fn uids(&self) -> impl Iterator<Item = &String> {
        self.pods.keys()
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
    pub(crate) fn insert(&mut self, running: Running) {
        let uid = running.spec.uid.clone();
        *self.addresses.entry(running.spec.ip).or_default() += 1;
        self.uids.insert((running.key.clone(), uid.clone()));
        self.pods.insert(uid, running);
    }

    pub(crate) fn remove(&mut self, uid: &str) -> Option<Running> {
        self.set_deadline(uid, None);
        let running = self.pods.remove(uid)?;
        self.uids.remove(&(running.key.clone(), uid.to_owned()));
        if !running.has_ended() {
            self.release(running.spec.ip);
        }
        Some(running)
    }

    /// Notes the newest state of a pod.
    pub(crate) fn set_state(&mut self, uid: &str, state: PodState) {
        let Some(running) = self.pods.get_mut(uid) else { return };
        let had_ended = running.has_ended();
        running.state = Some(state);
        running.unwritten = true;
        let ip = running.spec.ip;
        match (had_ended, running.has_ended()) {
            (false, true) => self.release(ip),
            (true, false) => *self.addresses.entry(ip).or_default() += 1,
            _ => {}
        }
    }

    fn release(&mut self, ip: IpAddr) {
        if let Some(count) = self.addresses.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&ip);
            }
        }
    }

    /// Whether a pod that has not ended has this address.
    pub(crate) fn is_used(&self, address: &IpAddr) -> bool {
        self.addresses.contains_key(address)
    }

    pub(crate) fn set_deadline(&mut self, uid: &str, deadline: Option<Instant>) {
        let Some(running) = self.pods.get_mut(uid) else { return };
        if let Some(old) = running.deadline.take() {
            self.deadlines.remove(&(old, uid.to_owned()));
        }
        running.deadline = deadline;
        self.deadlines.extend(deadline.map(|deadline| (deadline, uid.to_owned())));
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A pod whose deadline is over; each is told once.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Option<String> {
        let (_, uid) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?.clone();
        self.set_deadline(&uid, None);
        Some(uid)
    }
}
