//! What pods have to tell, until it is read.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::runtime::{PodEvent, PodState};

/// The latest untold state of each pod: nothing is lost when nobody reads for a while, and no queue grows.
#[derive(Default)]
pub(super) struct News {
    states: Mutex<BTreeMap<String, PodState>>,
    arrived: Notify,
}

impl News {
    pub(super) fn tell(&self, uid: &str, state: PodState) {
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
