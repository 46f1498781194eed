//! [`Health`]: at how many places a policy is out of use, since it failed there again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// The shortest pause after failures in a row. It doubles with each further failure.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);

/// After so many failures in a row, some seconds after the first if it fails at once each time, a policy is out of use
/// at that place: people are told, and it is tried only so often.
pub(super) const FAILURES_MAX: u32 = 8;
pub(super) const OUT_OF_USE: Duration = Duration::from_secs(60);

/// The health of one version of a policy.
#[derive(Debug)]
pub(super) struct Health {
    places: AtomicUsize,
    changed: watch::Sender<()>,
}

/// A place where the policy is out of use, until this is dropped.
#[derive(Debug)]
pub(super) struct OutOfUse(Arc<Health>);

impl Health {
    /// Of a version that serves everywhere. Changes are told there.
    pub(super) fn new(changed: watch::Sender<()>) -> Self {
        Self { places: AtomicUsize::new(0), changed }
    }

    /// Whether it is out of use somewhere.
    pub(super) fn is_out_of_use(&self) -> bool {
        self.places.load(Ordering::Relaxed) > 0
    }

    /// Takes it out of use at one more place.
    pub(super) fn take_out_of_use(self: &Arc<Self>) -> OutOfUse {
        self.places.fetch_add(1, Ordering::Relaxed);
        self.changed.send_replace(());
        OutOfUse(Arc::clone(self))
    }
}

impl Drop for OutOfUse {
    fn drop(&mut self) {
        self.0.places.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.send_replace(());
    }
}
