//! [`Budget`]: the file descriptors that this process may have, and who may take how many of them.
//!
//! Each [`Purpose`] has a part of its own that no other can take, so that pods and clients of Services never shut out
//! the API, DNS, the dashboard or the store; what is left is for whoever comes first. Whoever opens a socket takes a
//! [`Held`] first and keeps it as long as the socket. One budget is made by `app` and handed down: the limit belongs to
//! the process.

mod accept;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use rustix::process::{Resource, getrlimit};
use tokio::{sync::Notify, time::Instant};

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Purpose {
    /// A connection to the API.
    Api,
    /// A TCP connection to DNS.
    Dns,
    /// A connection to the dashboard or to the metrics.
    Dashboard,
    /// A port that a pod listens on.
    PodPort,
    /// A connection that a pod has accepted.
    PodConnection,
    /// A port of a Service that the proxy listens on.
    ServicePort,
    /// A proxied connection, which takes two; or one to a pod for a client of the API, which has its own.
    Connection,
    /// A UDP session of the proxy.
    Session,
}

/// Shared by all who open sockets; clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

/// Descriptors that are in use; free again when dropped.
#[derive(Debug)]
#[must_use]
pub struct Held {
    budget: Budget,
    purpose: Purpose,
    count: usize,
}

/// What does not draw from the budget: the store, files, the listeners and threads of the process itself, and sockets
/// that are accepted only to be closed.
const FIXED: usize = 128;
/// What each purpose has for itself, in parts of [`PARTS`] of the whole; in the order of the purposes.
const OWN: [(Purpose, usize); PURPOSES] = [
    (Purpose::Api, 12),
    (Purpose::Dns, 3),
    (Purpose::Dashboard, 2),
    (Purpose::PodPort, 4),
    (Purpose::PodConnection, 8),
    (Purpose::ServicePort, 4),
    (Purpose::Connection, 16),
    (Purpose::Session, 3),
];
const PURPOSES: usize = 8;
const PARTS: usize = 128;
/// What each purpose has at least, where the whole is enough for that.
const OWN_MIN: usize = 32;
/// At most one complaint per purpose in this time.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Inner {
    limit: usize,
    total: usize,
    own: [usize; PURPOSES],
    state: Mutex<State>,
    /// Told when a purpose has room.
    room: [Notify; PURPOSES],
    used: Family<Label, Gauge>,
    used_by: [Gauge; PURPOSES],
    refused: Family<Label, Counter>,
}

#[derive(Debug, Default)]
struct State {
    held: [usize; PURPOSES],
    reported_at: [Option<Instant>; PURPOSES],
    accept_reported_at: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    purpose: Purpose,
}

impl Budget {
    /// The budget of a process that may have as many descriptors as this one may now.
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        Self::new(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
    }

    /// The budget of a process that may have `limit` descriptors.
    pub fn new(limit: usize) -> Self {
        let total = limit.saturating_sub(FIXED).max(limit / 2);
        let own = OWN.map(|(_, parts)| (total / PARTS * parts).max(OWN_MIN).min(total / PURPOSES));
        let used = Family::<Label, Gauge>::default();
        let used_by = OWN.map(|(purpose, _)| used.get_or_create_owned(&Label { purpose }));
        Self(Arc::new(Inner {
            limit,
            total,
            own,
            state: Mutex::default(),
            room: Default::default(),
            used,
            used_by,
            refused: Family::default(),
        }))
    }

    /// Why there is none, for people.
    pub fn reason(&self) -> String {
        let limit = self.0.limit;
        format!("the file descriptors of this process ({limit}, `ulimit -n`) are used up")
    }

    /// What a purpose has for itself.
    pub fn own(&self, purpose: Purpose) -> usize {
        self.0.own[purpose as usize]
    }

    /// The most that a purpose can ever have: all but what belongs to the others.
    pub fn most(&self, purpose: Purpose) -> usize {
        self.0.room(&State::default(), purpose)
    }

    /// Takes `count` descriptors; `None` when there are not so many for this purpose, which is counted and, once in a
    /// while, logged.
    pub fn take(&self, purpose: Purpose, count: usize) -> Option<Held> {
        let held = self.try_take(purpose, count);
        if held.is_none() {
            self.0.refused.get_or_create(&Label { purpose }).inc();
            if is_due(&mut self.0.state.lock().reported_at[purpose as usize]) {
                let limit = self.0.limit;
                tracing::warn!(
                    ?purpose,
                    limit,
                    "out of file descriptors; a higher limit allows more"
                );
            }
        }
        held
    }

    fn try_take(&self, purpose: Purpose, count: usize) -> Option<Held> {
        let mut state = self.0.state.lock();
        let rest = self.0.room(&state, purpose).checked_sub(count)?;
        state.held[purpose as usize] += count;
        self.0.used_by[purpose as usize].inc_by(gauged(count));
        if rest > 0 {
            // Who waits is told one at a time; this one tells the next.
            self.0.room[purpose as usize].notify_one();
        }
        Some(Held { budget: self.clone(), purpose, count })
    }

    /// Whether there is a descriptor for this purpose now.
    pub fn has_room(&self, purpose: Purpose) -> bool {
        self.0.room(&self.0.state.lock(), purpose) > 0
    }

    /// Waits until there is a descriptor for this purpose. It is not taken: another may come first.
    pub async fn room(&self, purpose: Purpose) {
        loop {
            let told = self.0.room[purpose as usize].notified();
            if self.has_room(purpose) {
                return;
            }
            told.await;
        }
    }

    /// Waits until there is a descriptor for this purpose, and takes it.
    pub async fn wait(&self, purpose: Purpose) -> Held {
        loop {
            self.room(purpose).await;
            if let Some(held) = self.try_take(purpose, 1) {
                return held;
            }
        }
    }

    /// Adds its metrics to the registry.
    pub fn register(&self, registry: &mut Registry) {
        let used = self.0.used.clone();
        registry.register("snowglobe_descriptors", "File descriptors in use, by purpose", used);
        registry.register(
            "snowglobe_descriptors_refused",
            "Times that no file descriptor was left, by purpose",
            self.0.refused.clone(),
        );
    }
}

impl Inner {
    /// How many more this purpose may take.
    fn room(&self, state: &State, purpose: Purpose) -> usize {
        let all: usize = state.held.iter().zip(&self.own).map(|(held, own)| held.max(own)).sum();
        let own = self.own[purpose as usize].saturating_sub(state.held[purpose as usize]);
        self.total.saturating_sub(all).saturating_add(own)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let inner = &self.budget.0;
        let mut state = inner.state.lock();
        state.held[self.purpose as usize] -= self.count;
        inner.used_by[self.purpose as usize].dec_by(gauged(self.count));
        for (purpose, _) in OWN {
            if inner.room(&state, purpose) > 0 {
                inner.room[purpose as usize].notify_one();
            }
        }
    }
}

/// Whether something may be said again, which is noted.
fn is_due(reported_at: &mut Option<Instant>) -> bool {
    let due = reported_at.is_none_or(|at| at.elapsed() >= REPORT_PAUSE);
    if due {
        *reported_at = Some(Instant::now());
    }
    due
}

fn gauged(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn each_purpose_has_a_part_of_its_own() {
        for limit in [64, 256, 1024, 4096, 20_000, 1 << 20, usize::MAX] {
            let budget = Budget::new(limit);
            assert!(budget.0.own.iter().sum::<usize>() <= budget.0.total, "{limit}");
            assert!(budget.0.total < limit, "{limit}");
            for (greedy, _) in OWN {
                let most = budget.most(greedy);
                let all = budget.take(greedy, most).expect("nobody else has any");
                assert!(budget.take(greedy, 1).is_none(), "{limit} {greedy:?}");
                let others = OWN.map(|(other, _)| other).into_iter().filter(|p| *p != greedy);
                let own: Vec<_> = others
                    .map(|other| budget.take(other, budget.own(other)).expect("its own"))
                    .collect();
                assert!(OWN.iter().all(|(purpose, _)| budget.take(*purpose, 1).is_none()));
                drop((all, own));
            }
            assert_eq!(budget.0.state.lock().held, [0; PURPOSES]);
        }
    }

    #[test]
    fn purposes_are_in_order() {
        for (index, (purpose, _)) in OWN.into_iter().enumerate() {
            assert_eq!(purpose as usize, index);
        }
        assert!(OWN.iter().map(|(_, parts)| parts).sum::<usize>() < PARTS);
    }

    #[tokio::test]
    async fn who_waits_is_told_in_turn() {
        let budget = Budget::new(1024);
        let most = budget.most(Purpose::PodPort);
        let all = budget.take(Purpose::PodPort, most - 1).unwrap();
        let last = budget.take(Purpose::PodPort, 1).unwrap();
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(budget.room(Purpose::PodPort))).collect();
        let mut told = || waiting.iter_mut().filter_map(|room| room.now_or_never()).count();
        assert_eq!(told(), 0);
        drop(last);
        // Told, and taken before it looked.
        let barged = budget.take(Purpose::PodPort, 1).unwrap();
        assert_eq!(told(), 0);
        // What another purpose gives back is no room if it is that one's own.
        drop(budget.take(Purpose::Api, 1).unwrap());
        assert_eq!(told(), 0);
        drop((barged, all));
        // Each takes, and so tells the next.
        drop(waiting);
        let taken = (0..3).map(|_| budget.wait(Purpose::PodPort));
        assert_eq!(futures::future::join_all(taken).await.len(), 3);
    }
}
