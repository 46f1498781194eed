//! The requests of one connection that are being answered, and whether their client still takes the answers. With
//! HTTP/2 a client may stop one answer while the connection lives, so the connection's own write timeout is not enough.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::{Place, Work};

/// The answers of one connection.
pub(crate) struct Transfers {
    state: Mutex<State>,
    place: Arc<Place>,
    /// Whether the client may still be sending what nobody reads.
    unread: Arc<AtomicBool>,
    /// What the connection becomes when it is no more HTTP.
    successor: Mutex<Option<Successor>>,
}

/// What goes on over a connection that was taken over (101).
pub(crate) type Successor = Pin<Box<dyn Future<Output = ()> + Send>>;

struct State {
    next: u64,
    open: BTreeMap<u64, Entry>,
    /// When the last one ended (or the connection began), and whether there was any.
    idle_since: Instant,
    any: bool,
}

#[derive(Default)]
struct Entry {
    /// A piece was handed over then, and the client has not asked for the next.
    waits_since: Option<Instant>,
    /// It must have ended by then.
    end: Option<Instant>,
}

/// One answer, from the request until all of it is sent.
pub(crate) struct Transfer {
    id: u64,
    transfers: Arc<Transfers>,
}

impl Transfers {
    /// Of the connection that has this place.
    pub(crate) fn new(place: Arc<Place>, unread: Arc<AtomicBool>) -> Arc<Self> {
        let idle_since = Instant::now();
        let state = State { next: 0, open: BTreeMap::new(), idle_since, any: false };
        Arc::new(Self { state: Mutex::new(state), place, unread, successor: Mutex::default() })
    }

    /// What the connection has become, once HTTP has ended on it. Its place counts as at work until that ends, too.
    pub(crate) fn successor(&self) -> Option<(Successor, Work)> {
        let successor = self.successor.lock().take()?;
        Some((successor, self.place.work()))
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>) -> Transfer {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.any = true;
        state.open.insert(id, Entry::default());
        Transfer { id, transfers: self.clone() }
    }

    /// Whether some client of the connection takes nothing for so long, or takes too long altogether.
    pub(crate) fn is_stalled(&self, limit: Duration) -> bool {
        let now = Instant::now();
        self.state.lock().open.values().any(|entry| {
            entry.waits_since.is_some_and(|since| now.duration_since(since) >= limit)
                || entry.end.is_some_and(|end| now >= end)
        })
    }

    /// Whether nothing is asked for since so long; a connection must begin with its first request sooner.
    pub(crate) fn is_idle(&self, first: Duration, limit: Duration) -> bool {
        let state = self.state.lock();
        let limit = if state.any { limit } else { first };
        state.open.is_empty() && state.idle_since.elapsed() >= limit
    }
}

impl Transfer {
    /// Nothing, or everything, is left to send in this time.
    pub(crate) fn end_in(&self, limit: Duration) {
        self.change(|entry| entry.end = Instant::now().checked_add(limit));
    }

    /// A piece of the answer was given to the connection.
    pub(crate) fn gave(&self) {
        self.change(|entry| entry.waits_since = Some(Instant::now()));
    }

    /// The connection has room for the next piece.
    pub(crate) fn wanted(&self) {
        let mut taken = false;
        self.change(|entry| taken = entry.waits_since.take().is_some());
        if taken {
            self.transfers.place.progress();
        }
    }

    /// The request is being worked on; until that ends, no other connection gets the place of this one.
    pub(crate) fn work(&self) -> Work {
        self.transfers.place.work()
    }

    /// The answer to the request is 101, after which the connection is this one's.
    pub(crate) fn hand_over(&self, successor: Successor) {
        *self.transfers.successor.lock() = Some(successor);
    }

    /// The client may still be sending a body that nobody reads.
    pub(crate) fn left_unread(&self) {
        self.transfers.unread.store(true, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.transfers.state.lock().open.get_mut(&self.id) {
            change(entry);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut state = self.transfers.state.lock();
        state.open.remove(&self.id);
        state.idle_since = Instant::now();
        drop(state);
        self.transfers.place.progress();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, Bounds};

    #[tokio::test(start_paused = true)]
    async fn stalls_and_idleness_are_seen() {
        let (first, limit) = (Duration::from_secs(5), Duration::from_secs(20));
        let admission = Admission::new(Bounds { total: 1, per_source: 1 });
        let place = admission.admit([127, 0, 0, 1].into()).unwrap();
        let transfers = Transfers::new(place, Arc::default());
        assert!(!transfers.is_idle(first, limit));
        tokio::time::advance(first).await;
        assert!(transfers.is_idle(first, limit), "no first request");
        let transfer = transfers.begin();
        tokio::time::advance(limit * 10).await;
        assert!(!transfers.is_idle(first, limit) && !transfers.is_stalled(limit), "it may wait");
        transfer.gave();
        tokio::time::advance(limit / 2).await;
        assert!(!transfers.is_stalled(limit));
        transfer.wanted();
        tokio::time::advance(limit).await;
        assert!(!transfers.is_stalled(limit));
        transfer.gave();
        tokio::time::advance(limit).await;
        assert!(transfers.is_stalled(limit));
        transfer.wanted();
        transfer.end_in(limit);
        assert!(!transfers.is_stalled(limit));
        tokio::time::advance(limit).await;
        assert!(transfers.is_stalled(limit), "it takes too long altogether");
        drop(transfer);
        assert!(!transfers.is_stalled(limit) && !transfers.is_idle(first, limit));
        tokio::time::advance(limit).await;
        assert!(transfers.is_idle(first, limit));
    }
}
