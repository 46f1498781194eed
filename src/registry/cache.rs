//! The cache: the whole cluster in memory, fed only by `Store::watch`, with the recent history of each kind for watches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Kind, Object, ObjectKey, Status, kind::KINDS},
    registry::View,
    store::{self, Change, Record, Revision, Store},
};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the event's object is its last state at the revision of the deletion.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// The commit that made the change.
    pub revision: u64,
    /// What happened.
    pub kind: EventKind,
    /// The new state.
    pub object: Arc<Object>,
    /// The state before, absent for `Added`.
    pub previous: Option<Arc<Object>>,
}

/// Changes kept per kind for watchers that resume. A watcher further behind gets 410 and lists again.
const HISTORY_MAX: usize = 4096;
/// How long a writer waits to see its own write; far above any healthy delay.
const CATCH_UP_WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Cache {
    state: RwLock<State>,
    revision: channel::Sender<u64>,
}

struct State {
    view: View,
    histories: BTreeMap<&'static Kind, History>,
}

struct History {
    events: VecDeque<Arc<Event>>,
    /// Every change after this revision is in `events`.
    complete_after: u64,
    latest: channel::Sender<u64>,
}

impl Cache {
    /// Reads the whole store; [`Cache::follow`] then keeps the cache current.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self, store::Error> {
        let (records, Revision(revision)) = store.list(b"", None).await?;
        let view = view_of(records, revision);
        let histories = KINDS
            .iter()
            .map(|kind| {
                let events = VecDeque::new();
                let latest = channel::Sender::new(revision);
                (*kind, History { events, complete_after: revision, latest })
            })
            .collect();
        let state = RwLock::new(State { view, histories });
        Ok(Self { state, revision: channel::Sender::new(revision) })
    }

    /// Applies every commit of the store until cancelled. An error means that the store is lost.
    pub(crate) async fn follow(
        &self,
        store: &dyn Store,
        token: &CancellationToken,
    ) -> Result<(), store::Error> {
        loop {
            let after = Revision(self.view().revision);
            let mut commits = store.watch(after).await?;
            loop {
                let next = tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    next = commits.next() => next,
                };
                match next {
                    Some(Ok(commit)) => self.apply(&commit),
                    Some(Err(store::Error::Lagged)) | None => break,
                    Some(Err(error)) => return Err(error),
                }
            }
        }
    }

    fn apply(&self, commit: &[Change]) {
        let Some(Change { revision: Revision(revision), .. }) = commit.first() else { return };
        let events: Vec<Arc<Event>> = {
            let view = self.view();
            commit.iter().filter_map(|change| event_of(&view, change)).map(Arc::new).collect()
        };
        let mut state = self.state.write();
        state.view.revision = *revision;
        for change in commit {
            state.view.allocate(&change.key, *revision, change.value.as_deref());
        }
        for event in &events {
            match event.kind {
                EventKind::Deleted => state.view.remove(&event.object.key),
                EventKind::Added | EventKind::Modified => state.view.insert(&event.object),
            }
            let Some(history) = state.histories.get_mut(&event.object.key.kind) else { continue };
            history.events.push_back(event.clone());
            if history.events.len() > HISTORY_MAX
                && let Some(dropped) = history.events.pop_front()
            {
                history.complete_after = dropped.revision;
            }
            history.latest.send_replace(*revision);
        }
        drop(state);
        self.revision.send_replace(*revision);
    }

    /// The state of everything now.
    pub(crate) fn view(&self) -> View {
        self.state.read().view.clone()
    }

    /// The newest revision, as it changes.
    pub(crate) fn revisions(&self) -> channel::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The newest revision that touched a kind, as it changes.
    pub(crate) fn revisions_of(&self, kind: &'static Kind) -> channel::Receiver<u64> {
        let state = self.state.read();
        state.histories.get(&kind).map_or_else(|| self.revisions(), |h| h.latest.subscribe())
    }

    /// The newest revision that touched any of these kinds.
    pub(crate) fn newest(&self, kinds: &[&'static Kind]) -> u64 {
        let state = self.state.read();
        let histories = kinds.iter().filter_map(|kind| state.histories.get(kind));
        histories.map(|history| *history.latest.borrow()).max().unwrap_or(0)
    }

    /// Waits until the cache contains a revision.
    pub(crate) async fn wait_for(&self, revision: u64) -> Result<(), Status> {
        let mut revisions = self.revisions();
        match tokio::time::timeout(CATCH_UP_WAIT, revisions.wait_for(|now| *now >= revision)).await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Status::timeout("the write is stored, but the cache did not catch up with it"))
            }
        }
    }

    /// The events of some kinds after a revision in order, and the revision up to which that is complete.
    pub(crate) fn events_after(
        &self,
        kinds: &[&'static Kind],
        after: u64,
    ) -> Result<(Vec<Arc<Event>>, u64), Status> {
        let state = self.state.read();
        let mut events = Vec::new();
        for kind in kinds {
            let Some(history) = state.histories.get(kind) else { continue };
            if after < history.complete_after {
                return Err(Status::expired(after, history.complete_after));
            }
            let start = history.events.partition_point(|event| event.revision <= after);
            events.extend(history.events.range(start..).cloned());
        }
        if kinds.len() > 1 {
            events.sort_by_key(|event| event.revision);
        }
        Ok((events, state.view.revision))
    }
}

/// A view of just these records, at a revision.
pub(crate) fn view_of(records: Vec<Record>, revision: u64) -> View {
    let mut view = View { revision, ..View::default() };
    for Record { key, value, revision: Revision(revision) } in records {
        if let Some(object) = decode(&key, revision, value.clone()) {
            view.insert(&Arc::new(object));
        } else {
            view.allocate(&key, revision, Some(&value));
        }
    }
    view
}

fn event_of(view: &View, change: &Change) -> Option<Event> {
    let Revision(revision) = change.revision;
    let key = ObjectKey::from_store_key(&change.key)?;
    let previous = view.get(&key).cloned();
    let (kind, object) = match &change.value {
        Some(value) => {
            let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
            (kind, decode(&change.key, revision, value.clone())?)
        }
        None => (EventKind::Deleted, previous.as_ref()?.at_revision(revision)),
    };
    Some(Event { revision, kind, object: Arc::new(object), previous })
}

fn decode(key: &[u8], revision: u64, value: Bytes) -> Option<Object> {
    let key = ObjectKey::from_store_key(key)?;
    Object::from_stored(key, revision, value)
        .inspect_err(|error| tracing::error!(%error, "a stored object cannot be read"))
        .ok()
}
