//! The clock that bounds guests in time: a thread that raises the engine's epoch every [`TICK`] while guests are
//! being called, and sleeps otherwise, so that an idle process costs nothing.

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

/// The unit of every guest deadline.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Ticks of one call: between 10 and 20 ms.
pub(super) const CALL_TICKS: u64 = 2;

/// Ticks for the start of a guest with a language's runtime: 2 s.
pub(super) const RUNTIME_START_TICKS: u64 = 200;

/// Quiet ticks before the thread goes to sleep. More than the longest deadline, so that no call outlives the clock.
const LINGER_TICKS: u64 = RUNTIME_START_TICKS + 50;

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
    use std::sync::atomic::Ordering;

    use super::{Epochs, LINGER_TICKS, Shared};

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
