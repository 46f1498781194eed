//! [`Health`]: at how many places a policy is out of use, since it failed there again and again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

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
