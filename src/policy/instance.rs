//! [`Instance`]: a scheduler instance. It starts its guest (the WASM module), asks it, and starts another after a failure.
//!
//! A guest that is ready and was quick so far picks where the connection is, under the instance's lock: that takes
//! nanoseconds. A start, a `configure`, and the picks of a guest that was slow before may take longer: [`Guests`] runs them
//! on blocking threads, without the lock. Meanwhile the guest is away. A connection that needs it waits for
//! [`Guests::patience`], then another picks.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::policy::{
    Candidates, Failure, FailureKind, Flow, Picker, Policy,
    counters::{Counters, Tallied},
    health::{FAILURES_MAX, Health, OUT_OF_USE, OutOfUse, PAUSE_MIN},
    wasm::WasmPolicy,
};

/// How long a connection waits for a guest that is away. A core module is back in a fraction of a millisecond. A guest
/// with a language's runtime takes longer to start, and clients do not wait for that.
const PATIENCE: Duration = Duration::from_millis(100);

/// After a pick that took longer, the next one runs on a blocking thread, so that it does not delay other services.
const SLOW: Duration = Duration::from_millis(1);
/// One in so many quick picks is timed: reading the clock twice takes longer than a pick.
const TIMED_EVERY: u32 = 64;

/// After so many quick picks a slow guest is trusted again. One slow pick among so many costs each less than a connect.
const TRUSTED_AFTER: u32 = 256;

/// How many guests may run `configure` or a slow pick at a time. Each has 20 ms.
const CALLS_MAX: usize = 4;
/// How many guests with a language's runtime may start at a time. Each takes up to 2 s, and the traffic needs the CPU too.
const STARTS_MAX: usize = 2;

/// A failure so long after the last one counts as the first. Longer than the longest pause before it is out of use.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// The question of one connection to a guest.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// Changes whenever the candidates do.
    pub(super) generation: u64,
    pub(super) candidates: &'a Candidates,
    pub(super) flow: &'a Flow,
}

/// The answer of a guest.
pub(super) struct Answer {
    /// `None` for no opinion.
    pub(super) index: Option<usize>,
    /// Of one in so many picks.
    pub(super) took: Option<Duration>,
}

/// Why a guest did not answer.
pub(super) enum Miss {
    /// It failed just now. No other connection has got this failure.
    Failed(Failure),
    /// It failed before, and the pause is not over.
    Pausing,
    /// It is being started or configured, or others keep it busy.
    Away,
}

/// Runs guests on threads of their own.
pub(super) struct Guests {
    /// How long a connection waits for a guest that went away.
    pub(super) patience: Duration,
    tasks: TaskTracker,
    calls: Arc<Semaphore>,
    starts: Arc<Semaphore>,
}

/// One scheduler instance of one place.
pub(super) struct Instance {
    policy: Arc<WasmPolicy>,
    tallied: Tallied,
    health: Arc<Health>,
    state: Mutex<State>,
    /// Notified when the guest is back, or was dropped.
    returned: Notify,
}

#[derive(Default)]
struct State {
    guest: Guest,
    /// The generation of candidates with which the guest was last configured.
    generation: Option<u64>,
    failures_in_a_row: u32,
    failed_at: Option<Instant>,
    /// It failed too often, and has not picked since.
    out_of_use: Option<OutOfUse>,
    /// A failure that no connection has got yet.
    untold: Option<Failure>,
    /// How many quick picks are left until the guest is trusted; 0 if it is.
    distrust: u32,
    /// How many quick picks are left until one is timed.
    untimed: u32,
}

#[derive(Default)]
enum Guest {
    #[default]
    None,
    Here(Box<dyn Picker>),
    /// Since then.
    Away(Instant),
}

/// A guest that was taken from its instance. Dropping this gives it back.
struct Checkout {
    instance: Arc<Instance>,
    /// `None` for one that is yet to be started.
    guest: Option<Box<dyn Picker>>,
    is_over: bool,
}

/// What to do about a request.
enum Step {
    /// The guest is ready.
    Ask {
        checkout: Checkout,
        is_trusted: bool,
    },
    /// It must be started or configured.
    Prepare(Checkout),
    /// It is away since then.
    Wait(Instant),
    Miss(Miss),
}

impl Default for Guests {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            tasks: TaskTracker::new(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
        }
    }
}

impl Guests {
    /// Frees the memory of guests, which takes a while.
    pub(super) fn discard<T: Send + 'static>(&self, gone: T) {
        self.tasks.spawn_blocking(move || drop(gone));
    }

    /// Waits for what runs now.
    #[cfg(test)]
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn prepare(&self, checkout: Checkout, generation: u64, candidates: Candidates) {
        let starts = checkout.guest.is_none() && checkout.instance.policy.program().starts_slowly();
        let permits = Arc::clone(if starts { &self.starts } else { &self.calls });
        self.tasks.spawn(async move {
            let permit = permits.acquire_owned().await;
            let done = spawn_blocking(move || {
                let _permit = permit;
                checkout.prepare(generation, &candidates);
            });
            // If it panics, the drop of the checkout tells the instance.
            done.await.ok();
        });
    }

    /// Lets a slow guest pick, for as long as a connection waits.
    async fn ask(&self, checkout: Checkout, flow: Flow) -> Result<Answer, Miss> {
        let permits = Arc::clone(&self.calls);
        let answer = self.tasks.spawn(async move {
            let permit = permits.acquire_owned().await;
            let asked = spawn_blocking(move || {
                let _permit = permit;
                checkout.ask(&flow)
            });
            asked.await.unwrap_or(Err(Miss::Away))
        });
        match timeout(self.patience, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(Miss::Away),
        }
    }
}

impl Instance {
    /// An instance without a guest, whose picks count in `counters`.
    pub(super) fn new(
        policy: &Arc<WasmPolicy>,
        counters: &Arc<Counters>,
        health: &Arc<Health>,
    ) -> Arc<Self> {
        let (policy, health) = (Arc::clone(policy), Arc::clone(health));
        let (tallied, returned) = (Tallied::new(counters), Notify::new());
        Arc::new(Self { policy, tallied, health, state: Mutex::default(), returned })
    }

    /// Whether its guest was started.
    pub(super) fn has_guest(&self) -> bool {
        matches!(self.state.lock().guest, Guest::Here(_))
    }

    /// Lets the guest pick if it is ready and trusted. Counts that unless it fails.
    pub(super) fn pick_now(&self, request: Request<'_>) -> Option<Result<Answer, Failure>> {
        let mut state = self.state.lock();
        if !state.is_ready(request.generation) || state.distrust > 0 {
            return None;
        }
        let timed = state.untimed == 0;
        state.untimed = if timed { TIMED_EVERY - 1 } else { state.untimed - 1 };
        let Guest::Here(guest) = &mut state.guest else { return None };
        let (tick, started) = (self.policy.ticks(), timed.then(Instant::now));
        let picked = guest.pick(request.flow);
        let took = started.map(|started| started.elapsed());
        match picked {
            Ok(index) => {
                // The clock of the guests has moved. A short pick meets one tick now and then, a long one meets many: the
                // next is timed.
                let moved = self.policy.ticks().wrapping_sub(tick);
                if moved > 1 || took > Some(SLOW) {
                    state.distrust = TRUSTED_AFTER;
                } else if moved == 1 {
                    state.untimed = 0;
                }
                self.tallied.picked(index.is_some());
                Some(Ok(Answer { index, took }))
            }
            Err(failure) => {
                let gone = std::mem::take(&mut state.guest);
                state.failed(&self.health);
                drop(state);
                drop(gone);
                Some(Err(failure))
            }
        }
    }

    /// Lets the guest pick, after starting and configuring it if needed. If that takes too long, later connections use it.
    pub(super) async fn pick(
        self: &Arc<Self>,
        request: Request<'_>,
        guests: &Guests,
    ) -> Result<Answer, Miss> {
        let mut first_since = None;
        loop {
            // Before looking, so that no return is missed.
            let returned = self.returned.notified();
            let since = match self.step(request.generation) {
                Step::Ask { checkout, is_trusted: true } => return checkout.ask(request.flow),
                Step::Ask { checkout, is_trusted: false } => {
                    return guests.ask(checkout, *request.flow).await;
                }
                Step::Prepare(checkout) => {
                    guests.prepare(checkout, request.generation, Arc::clone(request.candidates));
                    Instant::now()
                }
                Step::Wait(since) => since,
                Step::Miss(miss) => return Err(miss),
            };
            let waited = first_since.get_or_insert(since).elapsed();
            let left = guests.patience.saturating_sub(waited);
            if left.is_zero() || timeout(left, returned).await.is_err() {
                return Err(Miss::Away);
            }
        }
    }

    /// Lets the guest pick if it is ready.
    pub(super) async fn pick_if_ready(
        self: &Arc<Self>,
        request: Request<'_>,
        guests: &Guests,
    ) -> Option<usize> {
        let (checkout, is_trusted) = {
            let mut state = self.state.lock();
            if !state.is_ready(request.generation) {
                return None;
            }
            (self.take(&mut state), state.distrust == 0)
        };
        let answer = match is_trusted {
            true => checkout.ask(request.flow),
            false => guests.ask(checkout, *request.flow).await,
        };
        answer.ok()?.index
    }

    fn step(self: &Arc<Self>, generation: u64) -> Step {
        let mut state = self.state.lock();
        if let Some(failure) = state.untold.take() {
            return Step::Miss(Miss::Failed(failure));
        }
        match state.guest {
            Guest::Away(since) => return Step::Wait(since),
            Guest::None if state.pauses() => return Step::Miss(Miss::Pausing),
            Guest::None | Guest::Here(_) => {}
        }
        let (is_ready, is_trusted) = (state.is_ready(generation), state.distrust == 0);
        let checkout = self.take(&mut state);
        if is_ready { Step::Ask { checkout, is_trusted } } else { Step::Prepare(checkout) }
    }

    fn take(self: &Arc<Self>, state: &mut State) -> Checkout {
        let guest = match std::mem::replace(&mut state.guest, Guest::Away(Instant::now())) {
            Guest::Here(guest) => Some(guest),
            Guest::None | Guest::Away(_) => None,
        };
        Checkout { instance: Arc::clone(self), guest, is_over: false }
    }
}

impl State {
    /// Whether the guest is here and knows these candidates. Not only newer ones are others: a connection may still have
    /// the table before.
    fn is_ready(&self, generation: u64) -> bool {
        matches!(self.guest, Guest::Here(_)) && self.generation == Some(generation)
    }

    fn pauses(&self) -> bool {
        let Some(failed_at) = self.failed_at else { return false };
        let pause = match self.failures_in_a_row {
            0 | 1 => return false,
            FAILURES_MAX.. => OUT_OF_USE,
            failures => PAUSE_MIN * 2_u32.pow(failures - 2),
        };
        failed_at.elapsed() < pause
    }

    fn failed(&mut self, health: &Arc<Health>) {
        let now = Instant::now();
        let again = self.out_of_use.is_some()
            || self.failed_at.is_some_and(|at| now.duration_since(at) < FORGIVEN_AFTER);
        self.failures_in_a_row = if again { self.failures_in_a_row.saturating_add(1) } else { 1 };
        self.failed_at = Some(now);
        self.guest = Guest::None;
        if self.failures_in_a_row >= FAILURES_MAX {
            self.out_of_use.get_or_insert_with(|| health.take_out_of_use());
            // Its next pick is not a quick one, and so comes by where it is taken into use again.
            self.distrust = self.distrust.max(1);
        }
    }

    fn picked(&mut self) {
        if self.out_of_use.take().is_some() {
            self.failures_in_a_row = 0;
        }
    }
}

impl Checkout {
    /// Starts the guest if there is none, and tells it its endpoints.
    fn prepare(mut self, generation: u64, candidates: &Candidates) {
        let guest = match self.guest.take() {
            Some(guest) => Ok(guest),
            None => self.instance.policy.instance(),
        };
        let prepared = guest.and_then(|mut guest| {
            guest.configure(generation, candidates)?;
            Ok(guest)
        });
        self.end(|state, health| match prepared {
            Ok(guest) => {
                state.guest = Guest::Here(guest);
                state.generation = Some(generation);
            }
            Err(failure) => {
                state.failed(health);
                state.untold = Some(failure);
            }
        });
    }

    /// Lets the guest pick.
    fn ask(mut self, flow: &Flow) -> Result<Answer, Miss> {
        let Some(mut guest) = self.guest.take() else { return Err(Miss::Away) };
        let started = Instant::now();
        let picked = guest.pick(flow);
        let took = started.elapsed();
        // One that failed is freed here, not under the lock.
        let kept = picked.is_ok().then_some(guest);
        self.end(|state, health| {
            let distrust = state.distrust.saturating_sub(1);
            state.distrust = if took > SLOW { TRUSTED_AFTER } else { distrust };
            match kept {
                Some(guest) => {
                    state.guest = Guest::Here(guest);
                    state.picked();
                }
                None => state.failed(health),
            }
        });
        picked.map(|index| Answer { index, took: Some(took) }).map_err(Miss::Failed)
    }

    fn end(&mut self, change: impl FnOnce(&mut State, &Arc<Health>)) {
        self.is_over = true;
        change(&mut self.instance.state.lock(), &self.instance.health);
        self.instance.returned.notify_waiters();
    }
}

impl Drop for Checkout {
    /// A panic, or a job that was never run.
    fn drop(&mut self) {
        if !self.is_over {
            self.end(|state, health| {
                state.failed(health);
                state.untold = Some(Failure::new(FailureKind::Trap, "its host failed"));
            });
        }
    }
}
