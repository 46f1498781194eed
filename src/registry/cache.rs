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
    model::{Kind, Object, ObjectKey, Status, wording},
    registry::{Kinds, Unreadable, View, unreadable::remains},
    store::{self, Change, Expect, Record, Revision, Store},
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
/// Bytes of superseded objects that the histories of all kinds keep: large objects that change often would fill the
/// memory. The kind with the most of them loses its oldest changes first.
const HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a writer waits to see its own write; far above any healthy delay.
const CATCH_UP_WAIT: Duration = Duration::from_secs(10);

/// Pauses between attempts to follow a store that is not available.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The kinds of a subscription.
pub(crate) enum Watched {
    /// These, as they are stored.
    These(Vec<Kind>),
    /// All that are served, also those to come.
    All,
}

pub(crate) struct Cache {
    state: RwLock<State>,
    revision: channel::Sender<u64>,
}

struct State {
    view: View,
    histories: BTreeMap<Kind, History>,
    /// Of all histories.
    history_bytes: usize,
}

struct History {
    events: VecDeque<Arc<Event>>,
    /// Of the documents that only the events hold.
    bytes: usize,
    /// Every change after this revision is in `events`.
    complete_after: u64,
    /// The revision from which on the kind is served.
    since: u64,
    latest: channel::Sender<u64>,
}

impl Cache {
    /// Reads the whole store; [`Cache::follow`] then keeps the cache current.
    pub(crate) async fn load(store: &dyn Store) -> Result<Self, store::Error> {
        let view = read(store).await?;
        let revision = view.revision;
        let histories =
            view.kinds.stored().map(|kind| (kind.clone(), History::new(revision))).collect();
        let state = RwLock::new(State { view, histories, history_bytes: 0 });
        Ok(Self { state, revision: channel::Sender::new(revision) })
    }

    /// Applies every commit of the store until cancelled. An error means that the store is lost.
    pub(crate) async fn follow(
        &self,
        store: &dyn Store,
        token: &CancellationToken,
    ) -> Result<(), store::Error> {
        let mut pause = PAUSE_MIN;
        loop {
            let ended = tokio::select! {
                () = token.cancelled() => return Ok(()),
                ended = self.follow_once(store) => ended,
            };
            match ended {
                Ok(()) | Err(store::Error::Lagged) => pause = PAUSE_MIN,
                Err(store::Error::Unavailable(_)) => {
                    tokio::select! {
                        () = token.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE_MAX),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Applies commits until the watch ends; reads everything again when the store has forgotten what comes next.
    async fn follow_once(&self, store: &dyn Store) -> Result<(), store::Error> {
        let mut watch = store.watch(Revision(self.view().revision)).await;
        loop {
            let commit = match &mut watch {
                Ok(commits) => commits.next().await,
                Err(error) => Some(Err(error.clone())),
            };
            match commit {
                Some(Ok(commit)) => self.apply(&commit),
                Some(Err(store::Error::Compacted { oldest })) => {
                    tracing::warn!(%oldest, "the store's history has passed the cache; all is read again");
                    self.replace(read(store).await?);
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// Replaces the state by a newer one without history. Watchers must list again.
    fn replace(&self, view: View) {
        let revision = view.revision;
        let mut state = self.state.write();
        if revision <= state.view.revision {
            return;
        }
        let mut old = std::mem::take(&mut state.histories);
        let history_of = |kind: &Kind| {
            let mut history = old.remove(kind).unwrap_or_else(|| History::new(revision));
            history.clear(revision);
            (kind.clone(), history)
        };
        state.histories = view.kinds.stored().map(history_of).collect();
        state.view = view;
        state.history_bytes = 0;
        drop(state);
        self.revision.send_replace(revision);
    }

    fn apply(&self, commit: &[Change]) {
        let Some(Change { revision: Revision(revision), .. }) = commit.first() else { return };
        let revision = *revision;
        let mut unreadable = Vec::new();
        let events: Vec<Arc<Event>> = {
            let view = self.view();
            let events =
                commit.iter().filter_map(|change| event_of(&view, change, &mut unreadable));
            events.map(Arc::new).collect()
        };
        let mut state = self.state.write();
        state.view.revision = revision;
        for change in commit {
            state.view.allocate(&change.key, revision, change.value.as_deref());
            state.view.keep_unserved(&change.key, revision, change.value.as_ref());
        }
        for event in &events {
            match event.kind {
                EventKind::Deleted => state.view.remove(&event.object.key),
                EventKind::Added | EventKind::Modified => state.view.insert(&event.object),
            }
            if let Some(previous) = &event.previous {
                previous.forget_digest();
            }
            state.remember(event);
        }
        for (key, value) in unreadable {
            match value {
                Some(value) => state.view.unreadable.insert(key, value),
                None => state.view.unreadable.remove(&key),
            };
        }
        let defined = state.view.kinds.defined_by(&events);
        let before = defined.map(|kinds| state.serve(kinds));
        state.forget();
        drop(state);
        if let Some(before) = before {
            self.refresh(&before);
        }
        self.revision.send_replace(revision);
    }

    /// Shows the objects of kinds that have another schema now as that wants them.
    fn refresh(&self, before: &Kinds) {
        let view = self.view();
        for descriptor in view.kinds().with_other_schemas(before) {
            // It takes its time; nobody else writes to the view meanwhile.
            let objects = view.list(&descriptor.kind, None);
            let objects = objects.map(|object| (object, descriptor.refreshed(object)));
            let changed: Vec<_> =
                objects.filter(|(old, new)| !Arc::ptr_eq(old, new)).map(|(_, new)| new).collect();
            let mut state = self.state.write();
            changed.iter().for_each(|object| state.view.insert(object));
        }
    }

    /// The state now.
    pub(crate) fn view(&self) -> View {
        self.state.read().view.clone()
    }

    /// The kinds that are served now.
    pub(crate) fn kinds(&self) -> Arc<Kinds> {
        self.state.read().view.kinds.clone()
    }

    /// The newest revision, as it changes.
    pub(crate) fn revisions(&self) -> channel::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The newest revision that touched a kind, as it changes.
    pub(crate) fn revisions_of(&self, kind: &Kind) -> channel::Receiver<u64> {
        let state = self.state.read();
        state.histories.get(kind).map_or_else(|| self.revisions(), |h| h.latest.subscribe())
    }

    /// The newest revision that touched any of these kinds.
    pub(crate) fn newest(&self, kinds: &[&Kind]) -> u64 {
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

    /// Waits until the cache contains the change that made an expectation fail: the other write, or the deletion.
    pub(crate) async fn wait_for_conflict(
        &self,
        key: &[u8],
        expected: Expect,
        found: Option<Revision>,
    ) -> Result<(), Status> {
        let mut revisions = self.revisions();
        let contained = |now: &u64| match (found, expected) {
            (Some(Revision(found)), _) => *now >= found,
            (None, Expect::At(Revision(expected))) => {
                self.state.read().view.revision_of(key) != Some(expected)
            }
            (None, Expect::Absent) => true,
        };
        match tokio::time::timeout(CATCH_UP_WAIT, revisions.wait_for(contained)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Status::timeout("the cache did not catch up with another write"))
            }
        }
    }

    /// The events of some kinds after a revision in order, and the revision up to which that is complete: the newest,
    /// or an earlier one where the documents would be more than about so many bytes.
    /// 410 if a kind's history does not reach back so far, 404 if one of them is not served (any more).
    pub(crate) fn events_after(
        &self,
        kinds: &Watched,
        after: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), Status> {
        let state = self.state.read();
        let (mut events, mut complete) = (Vec::new(), state.view.revision);
        let histories: Vec<&History> = match kinds {
            Watched::All => state.histories.values().collect(),
            Watched::These(kinds) => {
                let histories = kinds.iter().map(|kind| state.histories.get(kind));
                histories.collect::<Option<_>>().ok_or_else(Status::no_such_path)?
            }
        };
        let several = histories.len() > 1;
        for history in histories {
            // Who watches all kinds learns of a new one by its objects.
            let is_new = matches!(kinds, Watched::All) && history.complete_after == history.since;
            if after < history.complete_after && !is_new {
                return Err(Status::expired(after, history.complete_after));
            }
            let start = history.events.partition_point(|event| event.revision <= after);
            let (mut bytes, mut last) = (0, after);
            for event in history.events.range(start..) {
                if bytes >= bytes_max && event.revision > last {
                    complete = complete.min(last);
                    break;
                }
                bytes += event.object.document_len();
                last = event.revision;
                events.push(event.clone());
            }
        }
        if several {
            events.retain(|event| event.revision <= complete);
            events.sort_by_key(|event| event.revision);
        }
        Ok((events, complete))
    }
}

impl State {
    /// Serves other kinds from now on, and gives those of before. What is stored of a kind that is gone stays as it is, and
    /// is served again once the kind is back.
    fn serve(&mut self, kinds: Kinds) -> Arc<Kinds> {
        let revision = self.view.revision;
        let old = std::mem::replace(&mut self.view.kinds, Arc::new(kinds));
        let new = self.view.kinds.clone();
        for kind in old.stored().filter(|kind| !new.serves_as_is(kind)) {
            self.view.withdraw(kind);
            if let Some(gone) = self.histories.remove(kind) {
                self.history_bytes -= gone.bytes;
            }
        }
        for kind in new.stored().filter(|kind| !old.serves_as_is(kind)) {
            self.histories.insert(kind.clone(), History::new(revision));
            for object in self.view.adopt(kind) {
                let event = Event { revision, kind: EventKind::Added, object, previous: None };
                self.remember(&Arc::new(event));
            }
        }
        old
    }

    fn remember(&mut self, event: &Arc<Event>) {
        let Some(history) = self.histories.get_mut(&event.object.key.kind) else { return };
        history.bytes += event.superseded_bytes();
        self.history_bytes += event.superseded_bytes();
        history.events.push_back(event.clone());
        history.latest.send_replace(event.revision);
        if history.events.len() > HISTORY_MAX {
            self.history_bytes -= history.forget_oldest();
        }
    }

    /// Keeps to the bound of bytes.
    fn forget(&mut self) {
        while self.history_bytes > HISTORY_BYTES_MAX {
            let largest = self.histories.values_mut().max_by_key(|history| history.bytes);
            self.history_bytes -= largest.map_or(self.history_bytes, History::forget_oldest);
        }
    }
}

impl History {
    /// Of a kind that is served from a revision on.
    fn new(revision: u64) -> Self {
        let latest = channel::Sender::new(revision);
        let events = VecDeque::new();
        Self { events, bytes: 0, complete_after: revision, since: revision, latest }
    }

    /// Forgets everything up to a revision.
    fn clear(&mut self, revision: u64) {
        self.events.clear();
        self.bytes = 0;
        self.complete_after = revision;
        self.latest.send_replace(revision);
    }

    /// Gives the bytes that are free now.
    fn forget_oldest(&mut self) -> usize {
        let Some(oldest) = self.events.pop_front() else { return 0 };
        self.complete_after = oldest.revision;
        self.bytes -= oldest.superseded_bytes();
        oldest.superseded_bytes()
    }
}

impl Event {
    /// What only the event keeps: the document of before.
    fn superseded_bytes(&self) -> usize {
        self.previous.as_ref().map_or(0, |previous| previous.footprint())
    }
}

/// The state of the store now.
async fn read(store: &dyn Store) -> Result<View, store::Error> {
    let (records, Revision(revision)) = store.list(b"", None).await?;
    let mut view = view_of(Arc::new(Kinds::built_in()), records, revision);
    view.serve_defined();
    view.unreadable.iter().for_each(tell);
    Ok(view)
}

fn tell((key, Unreadable { revision, reason }): (&ObjectKey, &Unreadable)) {
    let (key, object) = (String::from_utf8_lossy(&key.to_store_key()).into_owned(), key);
    tracing::warn!(
        key, %object, revision, %reason,
        "a stored value cannot be read and is not served; delete it (kubectl delete), or put it right"
    );
}

/// A view of just these records, at a revision.
pub(crate) fn view_of(kinds: Arc<Kinds>, records: Vec<Record>, revision: u64) -> View {
    let mut view = View::of(kinds, revision);
    for Record { key, value, revision: Revision(revision) } in records {
        match decode(&view.kinds, &key, revision, value.clone()) {
            Some(Ok(object)) => view.insert(&Arc::new(object)),
            Some(Err((key, value))) => {
                view.unreadable.insert(key, value);
            }
            None => {
                view.allocate(&key, revision, Some(&value));
                view.keep_unserved(&key, revision, Some(&value));
            }
        }
    }
    view
}

/// The event that a change is for watchers. An object whose value became unreadable is deleted for them.
fn event_of(
    view: &View,
    change: &Change,
    unreadable: &mut Vec<(ObjectKey, Option<Unreadable>)>,
) -> Option<Event> {
    let Revision(revision) = change.revision;
    let key = view.kinds.key_of(&change.key)?;
    let previous = view.get(&key).cloned();
    let decoded =
        change.value.clone().map(|value| decode(&view.kinds, &change.key, revision, value));
    let (kind, object) = match decoded.flatten() {
        Some(Ok(mut object)) if let Some(previous) = &previous => {
            object.share_metadata(previous);
            (EventKind::Modified, Some(object))
        }
        Some(Ok(object)) => (EventKind::Added, Some(object)),
        None => (EventKind::Deleted, None),
        Some(Err((key, value))) => {
            tell((&key, &value));
            unreadable.push((key, Some(value)));
            let object = Arc::new(previous.as_ref()?.at_revision(revision));
            return Some(Event { revision, kind: EventKind::Deleted, object, previous });
        }
    };
    let was_unreadable = view.unreadable.contains_key(&key);
    if was_unreadable {
        unreadable.push((key.clone(), None));
    }
    let object = match (object, &previous) {
        (Some(object), _) => object,
        (None, Some(previous)) => previous.at_revision(revision),
        // Told again, for whoever could not make the object anew until now.
        (None, None) if was_unreadable => {
            let remains = remains(&key);
            Object::from_stored(key, revision, remains).ok()?
        }
        (None, None) => return None,
    };
    Some(Event { revision, kind, object: Arc::new(object), previous })
}

/// The object that stands at a key, or what is there instead; `None` for keys of other things.
pub(crate) fn decode(
    kinds: &Kinds,
    key: &[u8],
    revision: u64,
    value: Bytes,
) -> Option<Result<Object, (ObjectKey, Unreadable)>> {
    let key = kinds.key_of(key)?;
    let object = Object::from_stored(key.clone(), revision, value).map_err(|error| {
        let cause = std::error::Error::source(&error).map(wording::in_json);
        let cause = cause.map(|cause| format!(": {cause}"));
        let reason = format!("{error}{}", cause.unwrap_or_default()).into();
        (key, Unreadable { revision, reason })
    });
    Some(object)
}

#[cfg(test)]
mod tests;
