//! [`Load`]: the live figures of an endpoint, and how its latency is averaged.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A sample below the average moves it by this fraction; one above replaces it at once, so that a slow endpoint is
/// noticed by the next pick and forgiven slowly. `policies/latency.h` works out from it what the sample was.
const DECAY: u64 = 8;

/// Live figures of one endpoint in one view. The host counts; guests only read.
#[derive(Debug, Default)]
pub struct Load {
    /// Connections open now.
    pub active: AtomicU32,
    /// Consecutive failed connects.
    pub failures: AtomicU32,
    /// First bytes sent up to first byte back, peak-sensitive EWMA, microseconds; 0 = none yet.
    pub latency: AtomicU64,
    /// Connections ever given to it, for people.
    pub picks: AtomicU64,
}

impl Load {
    /// Counts one more time from first bytes sent up to first byte back.
    pub fn sample_latency(&self, took: Duration) {
        let sample = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latency.store(smooth(self.latency.load(Relaxed), sample), Relaxed);
    }
}

/// Peak-sensitive moving average; 0 means no sample yet.
fn smooth(average: u64, sample: u64) -> u64 {
    if sample >= average { sample } else { average - (average - sample).div_ceil(DECAY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_jumps_up_and_sinks_slowly() {
        for (average, sample, expected) in
            [(0, 5, 5), (100, 900, 900), (900, 100, 800), (2, 1, 1), (7, 7, 7)]
        {
            assert_eq!(smooth(average, sample), expected, "{average} {sample}");
        }
    }
}
