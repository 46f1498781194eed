//! [`PickTimes`]: how long the picks of a policy took, as a histogram of those that were timed.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bound of the first bucket in nanoseconds. Reading the clock takes longer than that.
const FIRST: f64 = 16.0;
/// So many buckets until the bound has doubled: a figure read from them is at most 9 % off.
const PER_DOUBLING: usize = 4;
/// Up to 33 ms: a call is ended after 20.
const DOUBLINGS: usize = 21;
const BUCKETS: usize = DOUBLINGS * PER_DOUBLING + 2;

/// A histogram that many write at a time.
#[derive(Debug)]
pub(super) struct PickTimes {
    nanoseconds: AtomicU64,
    /// By upper bound; the last has none.
    counts: [AtomicU64; BUCKETS],
}

/// What is known of the time that picks take. Of one pick in some, or of those that were slow.
#[derive(Clone, Debug, PartialEq)]
pub struct PickTime {
    /// The mean in nanoseconds.
    pub mean_ns: f64,
    /// Half took at most so long.
    pub p50_ns: f64,
    /// 99 of 100 took at most so long.
    pub p99_ns: f64,
    /// How many there are.
    pub count: u64,
    /// How many took at most so many seconds. The last bound is infinite.
    pub within: Vec<(f64, u64)>,
}

impl Default for PickTimes {
    fn default() -> Self {
        Self { nanoseconds: AtomicU64::default(), counts: array::from_fn(|_| AtomicU64::default()) }
    }
}

impl PickTimes {
    pub(super) fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        self.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// `None` if there is no pick.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(super) fn read(&self) -> Option<PickTime> {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let count = counts.iter().sum::<u64>();
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        (count > 0).then(|| PickTime {
            mean_ns: nanoseconds as f64 / count as f64,
            p50_ns: quantile(&counts, count.div_ceil(2)),
            p99_ns: quantile(&counts, count - count / 100),
            count,
            within: within(&counts),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small positive number"
)]
fn bucket(took: Duration) -> usize {
    let doublings = (took.as_nanos() as f64 / FIRST).max(1.0).log2();
    ((doublings * PER_DOUBLING as f64).ceil() as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket in nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn bound(bucket: usize) -> f64 {
    FIRST * (bucket as f64 / PER_DOUBLING as f64).exp2()
}

/// The middle of the bucket in which the pick of that rank is.
#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn quantile(counts: &[u64; BUCKETS], rank: u64) -> f64 {
    let mut below = 0;
    let found = counts.iter().position(|count| {
        below += count;
        below >= rank
    });
    bound(found.unwrap_or(BUCKETS - 1)) / (0.5 / PER_DOUBLING as f64).exp2()
}

/// With one bound per doubling: whoever collects them keeps a series for each.
fn within(counts: &[u64; BUCKETS]) -> Vec<(f64, u64)> {
    let up_to = |bucket: usize| counts[..=bucket].iter().sum();
    let bounded = (0..=DOUBLINGS).map(|doubling| doubling * PER_DOUBLING);
    let bounded = bounded.map(|bucket| (bound(bucket) / 1e9, up_to(bucket)));
    bounded.chain([(f64::INFINITY, up_to(BUCKETS - 1))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_close_to_those_of_the_times() {
        let times = PickTimes::default();
        assert_eq!(times.read(), None);
        for nanoseconds in 1..=1_000 {
            times.observe(Duration::from_nanos(nanoseconds * 100));
        }
        let read = times.read().unwrap();
        assert_eq!((read.count, read.mean_ns), (1_000, 50_050.0));
        for (found, exact) in [(read.p50_ns, 50_000.0), (read.p99_ns, 99_000.0)] {
            assert!((found / exact - 1.0_f64).abs() < 0.1, "{found} for {exact}");
        }
    }

    #[test]
    fn every_time_has_its_bucket() {
        let times = PickTimes::default();
        let all = [0, 16, 17, 32, 33_554_432, 33_554_433, u64::MAX];
        for nanoseconds in all {
            times.observe(Duration::from_nanos(nanoseconds));
        }
        let within = times.read().unwrap().within;
        let count_within = |seconds: f64| {
            within.iter().find(|(bound, _)| *bound >= seconds).map(|(_, count)| *count)
        };
        let seconds = [16e-9, 32e-9, 0.033_554_432, f64::INFINITY];
        assert_eq!(seconds.map(|s| count_within(s * 0.999)), [2, 4, 5, 7].map(Some));
    }
}
