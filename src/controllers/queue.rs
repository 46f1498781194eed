//! [`Queue`]: the keys that one controller must plan. A key waits at most once, is planned by one worker at a time,
//! and comes back by itself after a failure or when its plan asked for it. An idle queue costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::model::ObjectKey;

/// How planning a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done; to be planned again after the given time.
    Planned(Option<Duration>),
    /// Another writer was faster: plan again at once.
    Conflict,
    /// Plan again after a while that doubles with each failure.
    Failed,
    /// The store takes no writes now: plan again soon.
    Unavailable,
}

const BACK_OFF_MIN: Duration = Duration::from_millis(5);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// The back-off while the store is away. A user who has brought it back should not wait longer.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(3);
/// The longest delay of a plan. A key that is due later is planned more often than needed.
const LATER_MAX: Duration = Duration::from_hours(24);
/// After so many conflicts in a row, two writers change the object against each other: back off.
const CONFLICTS_MAX: u32 = 8;

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<ObjectKey>,
    /// The keys in `ready`, and the `active` keys that changed again.
    dirty: BTreeSet<ObjectKey>,
    active: BTreeSet<ObjectKey>,
    /// The `active` keys whose plan is done, and until when they rest.
    resting: BTreeSet<(Instant, ObjectKey)>,
    failures: BTreeMap<ObjectKey, u32>,
    timers: BTreeSet<(Instant, ObjectKey)>,
    due: BTreeMap<ObjectKey, Instant>,
}

impl Queue {
    /// The key must be planned (again).
    pub(crate) fn add(&self, key: ObjectKey) {
        self.state.lock().add(key);
        self.changed.notify_one();
    }

    /// The next key; it is the caller's until [`Queue::done`]. Cancel-safe: it takes a key only when it returns.
    pub(crate) async fn next(&self) -> ObjectKey {
        loop {
            let changed = self.changed.notified();
            let timer = {
                let mut state = self.state.lock();
                if let Some(key) = state.take(Instant::now()) {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.next_timer()
            };
            match timer {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Gives a key back, which then rests so long before it is planned again. Returns how often in a row it has failed.
    pub(crate) fn done(&self, key: &ObjectKey, outcome: Outcome, rest: Duration) -> u32 {
        let failures = {
            let mut state = self.state.lock();
            state.done(key, outcome, rest, Instant::now());
            state.failures.get(key).copied().unwrap_or(0)
        };
        self.changed.notify_one();
        failures
    }
}

impl State {
    fn add(&mut self, key: ObjectKey) {
        if self.dirty.insert(key.clone()) && !self.active.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<ObjectKey> {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, key)) = self.timers.pop_first()
        {
            self.due.remove(&key);
            self.add(key);
        }
        while let Some((at, _)) = self.resting.first()
            && *at <= now
            && let Some((_, key)) = self.resting.pop_first()
        {
            self.release(&key);
        }
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.active.insert(key.clone());
        // A plan looks at everything: what was to be looked at later is looked at now.
        self.set_timer(&key, None);
        Some(key)
    }

    fn next_timer(&self) -> Option<Instant> {
        let first = [self.timers.first(), self.resting.first()];
        first.into_iter().flatten().map(|(at, _)| *at).min()
    }

    fn done(&mut self, key: &ObjectKey, outcome: Outcome, rest: Duration, now: Instant) {
        match outcome {
            Outcome::Planned(again) => {
                self.failures.remove(key);
                let later = again.and_then(|after| now.checked_add(after.min(LATER_MAX)));
                self.set_timer(key, later);
            }
            Outcome::Conflict if self.count_failure(key) <= CONFLICTS_MAX => {
                self.dirty.insert(key.clone());
            }
            Outcome::Conflict | Outcome::Failed => self.back_off(key, BACK_OFF_MAX, now),
            Outcome::Unavailable => self.back_off(key, UNAVAILABLE_MAX, now),
        }
        match now.checked_add(rest) {
            Some(until) if until > now => drop(self.resting.insert((until, key.clone()))),
            _ => self.release(key),
        }
    }

    fn back_off(&mut self, key: &ObjectKey, max: Duration, now: Instant) {
        let doublings = self.count_failure(key).saturating_sub(1).min(16);
        let pause = BACK_OFF_MIN.saturating_mul(1 << doublings).min(max);
        self.set_timer(key, now.checked_add(pause));
    }

    /// The key may be planned again.
    fn release(&mut self, key: &ObjectKey) {
        self.active.remove(key);
        if self.dirty.contains(key) {
            self.ready.push_back(key.clone());
        }
    }

    fn count_failure(&mut self, key: &ObjectKey) -> u32 {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    fn set_timer(&mut self, key: &ObjectKey, at: Option<Instant>) {
        if let Some(old) = self.due.remove(key) {
            self.timers.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.due.insert(key.clone(), at);
            self.timers.insert((at, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(&kind::POD, "default", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_active_once() {
        let (mut state, now) = (State::default(), Instant::now());
        state.add(key("a"));
        state.add(key("a"));
        state.add(key("b"));
        assert_eq!(state.take(now), Some(key("a")));
        state.add(key("a"));
        assert_eq!(state.take(now), Some(key("b")));
        assert_eq!(state.take(now), None, "a is being planned");
        state.done(&key("a"), Outcome::Planned(None), Duration::ZERO, now);
        assert_eq!(state.take(now), Some(key("a")));
        state.done(&key("a"), Outcome::Planned(None), Duration::ZERO, now);
        assert_eq!(state.take(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_and_conflicts_do_not() {
        let (mut state, now) = (State::default(), Instant::now());
        let mut expected = Duration::from_millis(5);
        for _ in 0..20 {
            state.add(key("a"));
            assert_eq!(state.take(now), Some(key("a")));
            state.done(&key("a"), Outcome::Failed, Duration::ZERO, now);
            assert_eq!(state.timers.first(), Some(&(now + expected, key("a"))));
            expected = (expected * 2).min(BACK_OFF_MAX);
        }
        state.take(now + BACK_OFF_MAX);
        state.done(&key("a"), Outcome::Unavailable, Duration::ZERO, now);
        assert_eq!(state.timers.first(), Some(&(now + UNAVAILABLE_MAX, key("a"))));
        state.take(now + UNAVAILABLE_MAX);
        state.done(&key("a"), Outcome::Planned(None), Duration::ZERO, now);
        state.add(key("a"));
        for _ in 0..CONFLICTS_MAX {
            assert_eq!(state.take(now), Some(key("a")));
            state.done(&key("a"), Outcome::Conflict, Duration::ZERO, now);
        }
        assert_eq!(state.take(now), Some(key("a")));
        state.done(&key("a"), Outcome::Conflict, Duration::ZERO, now);
        assert_eq!(state.take(now), None, "a quarrel backs off");
    }

    #[tokio::test(start_paused = true)]
    async fn timers_fire() {
        let queue = Queue::default();
        queue.add(key("a"));
        let a = queue.next().await;
        let start = Instant::now();
        queue.done(&a, Outcome::Planned(Some(Duration::from_secs(60))), Duration::ZERO);
        assert_eq!(queue.next().await, a);
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_rests() {
        let (queue, rest) = (Queue::default(), Duration::from_millis(40));
        let start = Instant::now();
        for nth in 0..3 {
            queue.add(key("a"));
            assert_eq!(queue.next().await, key("a"));
            assert_eq!(start.elapsed(), rest * nth, "the first time at once");
            queue.add(key("b"));
            assert_eq!(queue.next().await, key("b"), "others go on");
            queue.done(&key("b"), Outcome::Planned(None), Duration::ZERO);
            queue.done(&key("a"), Outcome::Planned(None), rest);
        }
        tokio::time::sleep(rest).await;
        queue.add(key("a"));
        let at = Instant::now();
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(at.elapsed(), Duration::ZERO, "it has rested");
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_is_too_long() {
        let (mut state, now) = (State::default(), Instant::now());
        for later in [Duration::MAX, Duration::from_secs(u64::MAX >> 1), LATER_MAX] {
            state.add(key("a"));
            state.take(now);
            state.done(&key("a"), Outcome::Planned(Some(later)), Duration::ZERO, now);
            assert_eq!(state.timers.first(), Some(&(now + LATER_MAX, key("a"))));
        }
    }
}
