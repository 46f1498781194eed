//! The events of pods that have not been read yet.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::runtime::{PodEvent, PodState};

/// The newest state of each pod that has not been read yet. Nothing is lost if nobody reads for a while, and the
/// memory is bounded by the number of pods.
#[derive(Default)]
pub(super) struct PodEvents {
    states: Mutex<BTreeMap<String, PodState>>,
    arrived: Notify,
}

impl PodEvents {
    pub(super) fn send(&self, uid: &str, state: PodState) {
        self.states.lock().insert(uid.to_owned(), state);
        self.arrived.notify_one();
    }

    pub(super) fn forget(&self, uid: &str) {
        self.states.lock().remove(uid);
    }

    pub(super) async fn next(&self) -> PodEvent {
        loop {
            if let Some((uid, state)) = self.states.lock().pop_first() {
                return PodEvent { uid, state };
            }
            self.arrived.notified().await;
        }
    }
}
