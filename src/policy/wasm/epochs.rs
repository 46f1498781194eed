//! The clock that bounds guests in time: a thread that raises the engine's epoch every [`TICK`] while guests are
//! being called, and sleeps otherwise, so that an idle process costs nothing. At each tick that a call meets, it is
//! looked whether its [`Budget`] is used up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};

/// The unit of every guest deadline.
const TICK: Duration = Duration::from_millis(10);

/// Ticks of one call: between 10 and 20 ms of CPU time.
pub(super) const CALL_TICKS: u32 = 2;

/// Ticks for the start of a guest with a language's runtime: 2 s.
pub(super) const RUNTIME_START_TICKS: u32 = 200;

/// How many times as long as its CPU time a call may take, so that none holds up others for ever on a machine that does
/// not let it run.
const WALL_FACTOR: u32 = 20;

/// A tick may come so much too early.
const EARLY: Duration = Duration::from_millis(1);

/// Quiet ticks before the thread goes to sleep. A call that goes on wakes it at each tick.
const LINGER_TICKS: u64 = 100;

/// What one call of a guest may use: CPU time of its thread, since a machine that is busy with something else must not
/// make a guest look like one that loops. Nothing is read before the first tick, so that what a call used until then, less
/// than a tick, is not known; it counts as one.
#[derive(Debug, Default)]
pub(super) struct Budget {
    ticks: u32,
    first_tick: Option<Times>,
}

/// Clocks of the current thread.
#[derive(Clone, Copy, Debug)]
struct Times {
    cpu: Duration,
    wall: Duration,
}

/// The clock. Stops and joins its thread when dropped.
pub(super) struct Epochs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// A guest was called since the last tick.
    called: AtomicBool,
    ticks: AtomicU64,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Budget {
    pub(super) fn of(ticks: u32) -> Self {
        Self { ticks, first_tick: None }
    }

    /// The clock has ticked during the call: why that must end, if so.
    pub(super) fn ticked(&mut self) -> Option<String> {
        self.ticked_at(Times::now())
    }

    fn ticked_at(&mut self, now: Times) -> Option<String> {
        let first = *self.first_tick.get_or_insert(now);
        let left = TICK * self.ticks.saturating_sub(1);
        let limit = TICK * self.ticks;
        if now.cpu.saturating_sub(first.cpu).saturating_add(EARLY) >= left {
            return Some(format!("ran longer than {} ms", limit.as_millis()));
        }
        let wall_limit = limit * WALL_FACTOR;
        (now.wall.saturating_sub(first.wall) >= wall_limit).then(|| {
            let (limit, wall_limit) = (limit.as_millis(), wall_limit.as_millis());
            format!("not done after {wall_limit} ms, though it ran less than {limit} ms: this machine is too busy")
        })
    }
}

impl Times {
    fn now() -> Self {
        Self { cpu: time(ClockId::ThreadCPUTime), wall: time(ClockId::Monotonic) }
    }
}

/// The time of a clock of the system, which no test can stop.
pub(in crate::policy) fn time(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

impl Epochs {
    pub(super) fn start(engine: wasmtime::Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let run = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("policy-epochs".to_owned())
            .spawn(move || run.tick(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Ticks so far. It stands still while the clock sleeps.
    pub(super) fn ticks(&self) -> u64 {
        self.shared.ticks.load(Ordering::Relaxed)
    }

    /// Must come before every entry into a guest. Costs one load while the clock runs.
    pub(super) fn guest_called(&self) {
        // A thread that still reads `true` just after the clock took it is covered by the lingering ticks.
        let called = &self.shared.called;
        if !called.load(Ordering::Relaxed) && !called.swap(true, Ordering::SeqCst) {
            // Taken while the caller holds the lock of its guest: safe, since the clock knows no guest.
            let _stopped = self.shared.stopped.lock();
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        *self.shared.stopped.lock() = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the clock does not panic");
        }
    }
}

impl Shared {
    fn tick(&self, engine: &wasmtime::Engine) {
        let mut quiet_ticks = LINGER_TICKS;
        let mut stopped = self.stopped.lock();
        while !*stopped {
            if quiet_ticks >= LINGER_TICKS {
                let quiet = |stopped: &mut bool| !*stopped && !self.called.load(Ordering::SeqCst);
                self.wake.wait_while(&mut stopped, quiet);
            }
            self.wake.wait_while_for(&mut stopped, |stopped| !*stopped, TICK);
            engine.increment_epoch();
            self.ticks.fetch_add(1, Ordering::Relaxed);
            let called = self.called.swap(false, Ordering::SeqCst);
            quiet_ticks = if called { 0 } else { quiet_ticks + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use super::{Budget, CALL_TICKS, Epochs, LINGER_TICKS, RUNTIME_START_TICKS, Shared, Times};

    #[test]
    fn a_call_may_use_its_cpu_time_and_twenty_times_as_long() {
        // Limit in ticks, share of a CPU in percent, and the tick at which it ends.
        let rows = [
            (CALL_TICKS, 100, Ok(1)),
            (CALL_TICKS, 50, Ok(2)),
            (CALL_TICKS, 10, Ok(9)),
            (CALL_TICKS, 0, Err(40)),
            (RUNTIME_START_TICKS, 100, Ok(199)),
            (RUNTIME_START_TICKS, 30, Ok(663)),
            (RUNTIME_START_TICKS, 2, Err(4000)),
        ];
        for (limit, share, expected) in rows {
            let mut budget = Budget::of(limit);
            let ended = (0..).find_map(|tick: u32| {
                let now = Times {
                    cpu: Duration::from_secs(9) + Duration::from_micros(100) * tick * share,
                    wall: Duration::from_secs(90) + Duration::from_millis(10) * tick,
                };
                budget.ticked_at(now).map(|why| (tick, why))
            });
            let (tick, why) = ended.unwrap();
            match expected {
                Ok(at) => {
                    assert_eq!((tick, why), (at, format!("ran longer than {} ms", limit * 10)));
                }
                Err(at) => {
                    assert_eq!(tick, at);
                    assert!(
                        why.starts_with(&format!("not done after {} ms", limit * 200)),
                        "{why}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_wakes_the_clock_and_dropping_stops_it() {
        let engine = wasmtime::Engine::default();
        let epochs = Epochs::start(engine).unwrap();
        epochs.guest_called();
        assert!(eventually(&epochs.shared, false), "the clock took the mark within some ticks");
        epochs.guest_called();
        drop(epochs);
    }

    fn eventually(shared: &Shared, called: bool) -> bool {
        (0..LINGER_TICKS).any(|_| {
            std::thread::park_timeout(super::TICK);
            shared.called.load(Ordering::SeqCst) == called
        })
    }
}
