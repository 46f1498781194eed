//! Watches. They return whole commits in order, also across reconnections.
//!
//! No task reads ahead: a watch reads from etcd when the next commit is requested. So a slow reader delays etcd and
//! uses no memory here. After a reconnection, the watch resumes after the last revision that it has processed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{select, sync::watch as channel, time::timeout};
use tonic::Streaming;

use crate::store::{
    Change, Commit, Error, Revision, Watch,
    etcd::{
        connection::{CONNECT_MAX, Connection},
        core::{Core, State},
        epochs::Epochs,
        failure::{self, Failure},
        layout::{self, Keys, Place, Stored},
        proto::{DELETE, Event, WatchCreateRequest, WatchRequest, WatchResponse},
        read,
    },
};

/// Pauses between attempts after etcd has refused a watch. This is always temporary.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// All commits after a revision.
pub(super) async fn watch(core: &Arc<Core>, after: Revision) -> Result<Watch, Error> {
    let epochs = core.epochs();
    let Some(seen) = epochs.etcd(after) else {
        return Err(Error::Compacted { oldest: core.current() });
    };
    read::check_kept(core, seen).await?;
    let watcher = Watcher {
        core: Arc::clone(core),
        states: core.states(),
        known: epochs.written_at(),
        seen,
        answers: None,
        assembly: Assembly::default(),
        ready: VecDeque::new(),
        pause: PAUSE_MIN,
    };
    Ok(stream::unfold(Some(watcher), async |watcher| {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(commit) => Some((Ok(commit), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Watcher {
    core: Arc<Core>,
    states: channel::Receiver<State>,
    /// The revision that wrote the `meta` that this watch knows.
    known: i64,
    /// All revisions of etcd up to this one are processed.
    seen: i64,
    answers: Option<(Arc<Connection>, Streaming<WatchResponse>)>,
    assembly: Assembly,
    ready: VecDeque<Commit>,
    pause: Duration,
}

impl Watcher {
    async fn next(&mut self) -> Result<Commit, Error> {
        loop {
            if let Some(commit) = self.ready.pop_front() {
                let revision = commit.first().map_or(Revision(0), |change| change.revision);
                if revision <= self.core.compacted() {
                    return Err(Error::Lagged);
                }
                self.core.raise(revision);
                return Ok(commit);
            }
            if let Some(answer) = self.receive().await? {
                self.take(answer).await?;
            } else {
                self.answers = None;
                self.assembly = Assembly::default();
            }
        }
    }

    /// The next message; `None` if the connection is lost.
    async fn receive(&mut self) -> Result<Option<WatchResponse>, Error> {
        if self.answers.is_none() {
            self.connect().await?;
        }
        let Some((connection, answers)) = &mut self.answers else { return Ok(None) };
        let changed = self
            .states
            .wait_for(|state| !matches!(state, State::Up(now) if Arc::ptr_eq(now, connection)));
        // This is cancel-safe: an incomplete message stays in the stream.
        let answer = select! {
            () = self.core.closing.cancelled() => return Err(Error::Closed),
            changed = changed => {
                drop(changed);
                return Ok(None);
            }
            answer = answers.message() => answer,
        };
        let cause = match answer {
            Ok(Some(answer)) => return Ok(Some(answer)),
            Ok(None) => "the watch was ended".to_owned(),
            Err(status) => match Failure::from(status) {
                Failure::Refused(status) => status.message().to_owned(),
                Failure::Lost(text) => text,
                Failure::Down(text) => text.to_string(),
            },
        };
        self.core.lost(connection, &cause);
        Ok(None)
    }

    /// Opens the stream after the last processed revision, as soon as there is a connection.
    async fn connect(&mut self) -> Result<(), Error> {
        let (key, range_end) = self.core.keys.all();
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.seen.saturating_add(1),
            progress_notify: true,
            fragment: true,
        };
        let request = WatchRequest { create: Some(create) };
        loop {
            let up = self.states.wait_for(|state| matches!(state, State::Up(_)));
            let connection = select! {
                () = self.core.closing.cancelled() => return Err(Error::Closed),
                state = up => match state.as_deref() {
                    Ok(State::Up(connection)) => Arc::clone(connection),
                    Ok(State::Down(_)) | Err(_) => return Err(Error::Closed),
                },
            };
            // etcd was restored from a backup, so commits that this watch has returned may not exist any more.
            if self.core.epochs().written_at() != self.known {
                return Err(Error::Compacted { oldest: self.core.current() });
            }
            let cause = match timeout(CONNECT_MAX, connection.watch(request.clone())).await {
                Ok(Ok(answers)) => {
                    self.answers = Some((connection, answers));
                    return Ok(());
                }
                Ok(Err(Failure::Refused(status))) if failure::token_is_stale(&status) => {
                    self.renew(&connection).await;
                    continue;
                }
                Ok(Err(Failure::Refused(status))) => status.message().to_owned(),
                Ok(Err(Failure::Lost(text))) => text,
                Ok(Err(Failure::Down(text))) => text.to_string(),
                Err(_elapsed) => "it does not open a watch".to_owned(),
            };
            self.core.lost(&connection, &cause);
        }
    }

    async fn take(&mut self, answer: WatchResponse) -> Result<(), Error> {
        if answer.canceled {
            return self.cancelled(&answer).await;
        }
        if answer.created {
            return Ok(());
        }
        self.pause = PAUSE_MIN;
        let progress = answer.events.is_empty() && !answer.fragment;
        for event in answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision <= self.seen {
                continue;
            }
            if revision > self.assembly.revision {
                self.finish();
            }
            self.note_meta(&event)?;
            self.assembly.add(&self.core.keys, revision, event);
        }
        if !answer.fragment {
            self.finish();
        }
        if progress {
            // Progress notifications are in order with the events.
            let header = answer.header.unwrap_or_default();
            self.seen = self.seen.max(header.revision);
        }
        Ok(())
    }

    /// Completes the current revision.
    fn finish(&mut self) {
        let whole = std::mem::take(&mut self.assembly);
        self.seen = self.seen.max(whole.revision);
        self.ready.extend(whole.commit(&self.core.epochs()));
    }

    /// Handles an event of `meta`: another process has begun another span. The stream continues.
    fn note_meta(&mut self, event: &Event) -> Result<(), Error> {
        if let Some(kv) = &event.kv
            && event.kind != DELETE
            && self.core.keys.place(&kv.key) == Place::Meta
        {
            self.core.set_epochs(Epochs::read(&kv.value, kv.mod_revision)?);
            self.known = self.known.max(kv.mod_revision);
        }
        Ok(())
    }

    async fn cancelled(&mut self, answer: &WatchResponse) -> Result<(), Error> {
        if answer.compact_revision > 0 {
            let oldest = self.core.epochs().ours(answer.compact_revision);
            return Err(Error::Compacted { oldest });
        }
        tracing::debug!(reason = answer.cancel_reason, "etcd ended a watch");
        let ended = self.answers.take();
        self.assembly = Assembly::default();
        // A watch reports a token that etcd does not know any more as a missing permission.
        if let Some((connection, _)) = ended {
            self.renew(&connection).await;
        }
        Ok(())
    }

    async fn renew(&mut self, connection: &Connection) {
        tokio::time::sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
        if let Ok(Err(failure)) = timeout(CONNECT_MAX, connection.renew(&self.core.options)).await {
            tracing::warn!(?failure, "etcd refuses the credentials of a watch");
        }
    }
}

/// The events of one revision, until it is complete.
#[derive(Default)]
struct Assembly {
    revision: i64,
    changes: Vec<(Bytes, Option<Vec<u8>>)>,
    chunks: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Assembly {
    fn add(&mut self, keys: &Keys, revision: i64, event: Event) {
        self.revision = revision;
        let Some(kv) = event.kv else { return };
        match keys.place(&kv.key) {
            Place::Data(key) => {
                let value = (event.kind != DELETE).then_some(kv.value);
                self.changes.push((Bytes::copy_from_slice(key), value));
            }
            Place::Chunk(id) if event.kind != DELETE => {
                self.chunks.entry(id.to_owned()).or_default().push(kv.value);
            }
            Place::Chunk(_) | Place::Meta | Place::Other => {}
        }
    }

    /// The commit, if the revision changed any object.
    fn commit(self, epochs: &Epochs) -> Option<Commit> {
        if self.changes.is_empty() {
            return None;
        }
        let revision = epochs.ours(self.revision);
        let mut changes = Vec::with_capacity(self.changes.len());
        for (key, stored) in self.changes {
            let value = stored.map(|stored| value_of(&key, stored, &self.chunks));
            changes.push(Change { revision, key, value });
        }
        Some(changes.into())
    }
}

/// The value of a change. Its chunks were written in the same revision.
fn value_of(key: &[u8], stored: Vec<u8>, chunks: &BTreeMap<String, Vec<Vec<u8>>>) -> Bytes {
    let copy = stored.clone();
    let value = layout::decode(key, stored).and_then(|decoded| match decoded {
        Stored::Value(value) => Ok(value),
        Stored::Chunked(reference) => {
            let chunks = chunks.get(&reference.chunks);
            reference.assemble(key, chunks.map_or(&[][..], Vec::as_slice))
        }
    });
    value.unwrap_or_else(|error| layout::stand_in(key, &copy, &error))
}
