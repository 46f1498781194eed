//! Gives memory that is not needed any more back to the system.
//!
//! The allocator of glibc keeps what was freed: after a roll-out of thousands of pods, or after thousands of connections,
//! most of the process. It is told to give that back once the process is quiet again, and now and then while it is not.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(10);
/// CPU time in one interval, from which on the process is not quiet.
const BUSY: Duration = Duration::from_millis(200);
/// While it is busy, what is free is mostly needed again at once.
const BUSY_INTERVALS_MAX: u32 = 6;

/// When memory is to be given back.
#[derive(Debug, Default)]
struct Turns {
    /// Busy intervals since the last turn.
    busy: u32,
}

/// Runs until cancelled.
pub(crate) async fn run(token: CancellationToken) {
    let mut turns = Turns::default();
    let mut before = cpu_time();
    while token.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let now = cpu_time();
        if turns.is_due(now.saturating_sub(before)) {
            // It takes some milliseconds. A panic in it would be told by the hook, and is no reason to end.
            tokio::task::spawn_blocking(give_back).await.ok();
        }
        before = now;
    }
}

impl Turns {
    /// Whether it is time, after an interval in which the process took so much CPU time.
    fn is_due(&mut self, used: Duration) -> bool {
        let is_busy = used >= BUSY;
        self.busy += u32::from(is_busy);
        let due = if is_busy { self.busy >= BUSY_INTERVALS_MAX } else { self.busy > 0 };
        if due {
            self.busy = 0;
        }
        due
    }
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate wraps this function of glibc")]
fn give_back() {
    // SAFETY: It takes a number and may be called by any thread at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators give back on their own.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_it_is_quiet_again_and_at_times_before() {
        let mut turns = Turns::default();
        let (busy, quiet) = (BUSY, BUSY / 2);
        let mut due = |used| turns.is_due(used);
        assert!(![quiet, quiet, busy, busy].into_iter().any(&mut due));
        assert!(due(quiet));
        assert!(!due(quiet), "nothing has happened since");
        let all: Vec<bool> = (0..12).map(|_| due(busy)).collect();
        let expected = [false, false, false, false, false, true];
        assert_eq!(all, [expected, expected].concat());
        assert!(!due(quiet));
    }
}
