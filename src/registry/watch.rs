//! [`Subscription`]: the changes of some kinds after a revision, without gap and in order.

use std::sync::Arc;

use tokio::sync::watch as channel;

use crate::{
    model::Status,
    registry::{
        Event,
        cache::{Cache, Watched},
    },
};

/// A position in the history of some kinds. Holds no queue: a slow reader costs nothing, and is told to list again
/// (410) once the kept history has passed it.
pub struct Subscription {
    cache: Arc<Cache>,
    kinds: Watched,
    position: u64,
    batch_bytes: usize,
    changed: channel::Receiver<u64>,
}

impl Subscription {
    pub(crate) fn new(cache: Arc<Cache>, kinds: Watched, after: u64) -> Self {
        let changed = match &kinds {
            Watched::These(kinds) if let [kind] = kinds.as_slice() => cache.revisions_of(kind),
            _ => cache.revisions(),
        };
        Self { cache, kinds, position: after, batch_bytes: usize::MAX, changed }
    }

    /// Hands over no more documents at once than about these bytes, and always whole revisions.
    pub fn in_batches_of(self, bytes: usize) -> Self {
        Self { batch_bytes: bytes, ..self }
    }

    /// The revision up to which everything was handed over.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What happened since the last call, perhaps nothing, or as much of it as one batch holds; never waits. 410 when
    /// too far behind, 404 when a kind is not served any more.
    pub fn take(&mut self) -> Result<Vec<Arc<Event>>, Status> {
        let (events, revision) =
            self.cache.events_after(&self.kinds, self.position, self.batch_bytes)?;
        self.position = self.position.max(revision);
        Ok(events)
    }

    /// Waits for at least one event. Cancel-safe: nothing is taken before it returns.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Status> {
        loop {
            self.changed.mark_unchanged();
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.changed.changed().await.is_err() {
                // The kind is gone, or came anew, or all is.
                self.take()?;
                return Err(Status::unavailable("the server is shutting down"));
            }
        }
    }
}
