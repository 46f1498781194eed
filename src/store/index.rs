//! The state in memory of the embedded backends: current values, recent history and watches.
//!
//! Enter at [`Index`]. It decides whether a commit may happen, and publishes durable commits. It does not know how or
//! where they are stored. Values are [`Bytes`] that the current state, the history and readers share.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
    vec,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use imbl::OrdMap;
use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};

use crate::store::{Change, Commit, Error, Expect, Record, Revision, Watch, Write};

/// Longest key. A key consists of a few names of Kubernetes, each of at most 253 bytes. Longer keys would need large
/// index pages.
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// Largest value. etcd accepts objects of 1.5 MiB; this leaves room for the fields that the registry adds.
pub(super) const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Limits the memory of a commit in queues and in a batch on disk.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Limits the number of writes of a commit. The index of a write has 16 bits on disk.
const COMMIT_WRITES_MAX: usize = 4096;
/// How many commits a watch reads under one lock.
const WATCH_TAKE_MAX: usize = 64;

/// How much history is kept for watches. The oldest commits are removed when any limit of age, revisions or bytes is
/// exceeded, but a minimum of revisions is always kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) age: Duration,
    pub(super) revisions_min: usize,
    pub(super) revisions_max: usize,
    /// Bytes of replaced versions. A current version is stored anyway.
    pub(super) bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(5 * 60),
            revisions_min: 1_000,
            revisions_max: 10_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A consistent copy of all data from which an [`Index`] can be restored.
pub(super) struct Image {
    pub(super) compacted: Revision,
    /// The changes that give the values at `compacted`, sorted by revision.
    pub(super) settled: Vec<Change>,
    /// All commits after `compacted`, without a gap.
    pub(super) history: Vec<Commit>,
}

/// Current values, history and watches.
pub(super) struct Index {
    state: RwLock<State>,
    /// Notifies watches after each change of `state` that matters to them.
    changed: watch::Sender<()>,
}

impl Index {
    /// An empty index.
    pub(super) fn new(limits: Limits) -> Self {
        Self::from_state(State::new(limits))
    }

    /// Restores an index from stored data.
    pub(super) fn restore(limits: Limits, image: Image) -> Self {
        let Image { compacted, settled, history } = image;
        let mut state = State::new(limits);
        state.compacted = compacted;
        state.revision = compacted;
        for change in settled {
            state.apply(&change);
        }
        let now = Instant::now();
        for commit in history {
            state.publish(commit, now);
        }
        state.trim(now);
        Self::from_state(state)
    }

    fn from_state(state: State) -> Self {
        Self { state: RwLock::new(state), changed: watch::Sender::new(()) }
    }

    /// Takes over the data of another index at the same revision. Watches continue.
    pub(super) fn replace(&self, other: Self) {
        *self.state.write() = other.state.into_inner();
    }

    pub(super) fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Record>, Error> {
        let state = self.state.read();
        let at = state.readable(at)?;
        // The first later commit that changed the key knows its value at that revision.
        for kept in state.commits_after(at) {
            let HistoryEntry { commit, replaced, .. } = &**kept;
            if let Some(place) = commit.iter().position(|change| change.key == key) {
                return Ok(replaced[place].as_ref().map(|entry| record(&commit[place].key, entry)));
            }
        }
        Ok(state.current.get_key_value(key).map(|(key, entry)| record(key, entry)))
    }

    pub(super) fn list(
        &self,
        prefix: &[u8],
        at: Option<Revision>,
    ) -> Result<(Vec<Record>, Revision), Error> {
        let (mut entries, later, at) = {
            let state = self.state.read();
            let at = state.readable(at)?;
            let later: Vec<_> = state.commits_after(at).cloned().collect();
            (state.current.clone(), later, at)
        };
        undo(&mut entries, &later, prefix);
        let records = entries
            .range::<_, [u8]>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| record(key, entry))
            .collect();
        Ok((records, at))
    }

    pub(super) fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// Bytes of current values and of the history.
    pub(super) fn bytes(&self) -> usize {
        let state = self.state.read();
        state.current_bytes + state.superseded_bytes
    }

    /// Checks the expectations of a commit. `staged` has the revisions of keys in earlier commits that are not
    /// published yet (`None` for a deletion).
    pub(super) fn check(
        &self,
        writes: &[Write],
        staged: &BTreeMap<Bytes, Option<Revision>>,
    ) -> Result<(), Error> {
        self.state.read().check(writes, staged)
    }

    /// Publishes durable commits and notifies watches. Their revisions must follow the current one without a gap.
    pub(super) fn publish(&self, commits: Vec<Commit>) {
        let now = Instant::now();
        {
            let mut state = self.state.write();
            for commit in commits {
                state.publish(commit, now);
            }
            state.trim(now);
        }
        self.changed.send_replace(());
    }

    /// Checks and publishes in one step, for a backend without storage.
    pub(super) fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error> {
        let now = Instant::now();
        let revision = {
            let mut state = self.state.write();
            state.check(&writes, &BTreeMap::new())?;
            let revision = state.revision.next();
            state.publish(changes(writes, revision), now);
            state.trim(now);
            revision
        };
        self.changed.send_replace(());
        Ok(revision)
    }

    /// Removes history that is too old. Without new commits nothing else would do so.
    pub(super) fn trim(&self) {
        self.state.write().trim(Instant::now());
    }

    /// Removes the history before a revision, except for the last commit.
    pub(super) fn compact(&self, before: Revision) {
        let mut state = self.state.write();
        while state.compacted.next() < before && state.history.len() > 1 {
            state.forget_oldest();
        }
    }

    /// All data at the current revision.
    pub(super) fn image(&self) -> Image {
        let (mut entries, kept, compacted) = {
            let state = self.state.read();
            let kept: Vec<_> = state.history.iter().cloned().collect();
            (state.current.clone(), kept, state.compacted)
        };
        undo(&mut entries, &kept, b"");
        let history = kept.iter().map(|kept| Arc::clone(&kept.commit)).collect();
        let mut settled: Vec<_> = entries
            .iter()
            .map(|(key, Entry { value, revision })| Change {
                revision: *revision,
                key: key.clone(),
                value: Some(value.clone()),
            })
            .collect();
        // The sort is stable: changes with the same revision stay sorted by key.
        settled.sort_by_key(|change| change.revision);
        Image { compacted, settled, history }
    }

    /// Ends all watches with an error after they have returned every commit, and refuses new ones. Reads continue to
    /// work.
    pub(super) fn end(&self, error: Error) {
        self.state.write().end.get_or_insert(error);
        self.changed.send_replace(());
    }

    /// The error that ended the watches.
    pub(super) fn ended(&self) -> Option<Error> {
        self.state.read().end.clone()
    }

    /// All commits after a revision.
    pub(super) fn watch(self: &Arc<Self>, after: Revision) -> Result<Watch, Error> {
        {
            let state = self.state.read();
            if let Some(error) = &state.end {
                return Err(error.clone());
            }
            if after < state.compacted {
                return Err(Error::Compacted { oldest: state.compacted });
            }
        }
        let cursor = Cursor {
            index: Arc::clone(self),
            changed: self.changed.subscribe(),
            seen: after,
            taken: Vec::new().into_iter(),
        };
        Ok(stream::unfold(Some(cursor), async |cursor| {
            let mut cursor = cursor?;
            match cursor.next().await {
                Ok(commit) => Some((Ok(commit), Some(cursor))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }

    /// At most [`WATCH_TAKE_MAX`] commits after a revision; none if there are no new ones.
    fn commits_after(&self, seen: Revision) -> Result<Vec<Commit>, Error> {
        let state = self.state.read();
        if seen < state.compacted {
            return Err(Error::Lagged);
        }
        let commits: Vec<_> = state
            .commits_after(seen)
            .take(WATCH_TAKE_MAX)
            .map(|kept| Arc::clone(&kept.commit))
            .collect();
        match &state.end {
            Some(error) if commits.is_empty() => Err(error.clone()),
            _ => Ok(commits),
        }
    }
}

/// Checks the rules for commits that do not depend on the content of the store.
pub(super) fn validate(writes: &[Write]) -> Result<(), Error> {
    if writes.len() > COMMIT_WRITES_MAX {
        let count = writes.len();
        return Err(Error::Invalid(format!("{count} writes, at most {COMMIT_WRITES_MAX}")));
    }
    let mut keys = BTreeSet::new();
    let mut total = 0_usize;
    for write in writes {
        let key = String::from_utf8_lossy(&write.key);
        let value_bytes = write.value.as_ref().map_or(0, Bytes::len);
        total = total.saturating_add(write.key.len()).saturating_add(value_bytes);
        if write.key.len() > KEY_BYTES_MAX {
            let bytes = write.key.len();
            return Err(Error::Invalid(format!(
                "key {key} has {bytes} bytes, at most {KEY_BYTES_MAX}"
            )));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the value of key {key} has {value_bytes} bytes, at most {VALUE_BYTES_MAX}"
            )));
        }
        if write.value.is_none() && write.expect == Expect::Absent {
            return Err(Error::Invalid(format!("key {key} is deleted and expected to be absent")));
        }
        if !keys.insert(&write.key) {
            return Err(Error::Invalid(format!("key {key} occurs twice")));
        }
    }
    if total > COMMIT_BYTES_MAX {
        return Err(Error::Invalid(format!("{total} bytes in all, at most {COMMIT_BYTES_MAX}")));
    }
    Ok(())
}

/// The commit with these writes.
pub(super) fn changes(writes: Vec<Write>, revision: Revision) -> Commit {
    writes.into_iter().map(|Write { key, value, .. }| Change { revision, key, value }).collect()
}

impl Revision {
    /// The revision of the commit after this one.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    revision: Revision,
}

impl Entry {
    fn bytes(&self, key: &[u8]) -> usize {
        key.len() + self.value.len()
    }
}

struct HistoryEntry {
    commit: Commit,
    /// The entry that each of the changes replaced.
    replaced: Vec<Option<Entry>>,
    at: Instant,
}

struct State {
    limits: Limits,
    current: OrdMap<Bytes, Entry>,
    revision: Revision,
    /// The last removed revision. `history` begins after it and ends with `revision`.
    compacted: Revision,
    history: VecDeque<Arc<HistoryEntry>>,
    current_bytes: usize,
    /// Bytes of the versions that commits in `history` replaced.
    superseded_bytes: usize,
    end: Option<Error>,
}

impl State {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            current: OrdMap::new(),
            revision: Revision(0),
            compacted: Revision(0),
            history: VecDeque::new(),
            current_bytes: 0,
            superseded_bytes: 0,
            end: None,
        }
    }

    fn check(
        &self,
        writes: &[Write],
        staged: &BTreeMap<Bytes, Option<Revision>>,
    ) -> Result<(), Error> {
        for Write { key, expect, .. } in writes {
            let found = match staged.get(key) {
                Some(revision) => *revision,
                None => self.current.get(key).map(|entry| entry.revision),
            };
            let expected = match expect {
                Expect::Absent => None,
                Expect::At(revision) => Some(*revision),
            };
            if found != expected {
                return Err(Error::Conflict { key: key.clone(), found });
            }
        }
        Ok(())
    }

    /// The revision to read: the current one, or one in the history.
    fn readable(&self, at: Option<Revision>) -> Result<Revision, Error> {
        match at {
            Some(at) if at < self.compacted => Err(Error::Compacted { oldest: self.compacted }),
            Some(at) if at > self.revision => Err(Error::Future { current: self.revision }),
            at => Ok(at.unwrap_or(self.revision)),
        }
    }

    /// The commits in the history after a revision, which is not before `compacted`.
    fn commits_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<HistoryEntry>> {
        let skip = revision.0.saturating_sub(self.compacted.0);
        self.history.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    fn publish(&mut self, commit: Commit, now: Instant) {
        let revision = self.revision.next();
        let mut replaced = Vec::with_capacity(commit.len());
        for change in commit.iter() {
            debug_assert_eq!(change.revision, revision, "revisions follow without gap");
            let entry = self.apply(change);
            self.superseded_bytes += entry.as_ref().map_or(0, |entry| entry.bytes(&change.key));
            replaced.push(entry);
        }
        self.revision = revision;
        self.history.push_back(Arc::new(HistoryEntry { commit, replaced, at: now }));
    }

    /// Applies a change. Returns the entry that it replaced.
    fn apply(&mut self, change: &Change) -> Option<Entry> {
        let Change { revision, key, value } = change;
        let replaced = match value {
            Some(value) => {
                self.current_bytes += key.len() + value.len();
                let entry = Entry { value: value.clone(), revision: *revision };
                self.current.insert(key.clone(), entry)
            }
            None => self.current.remove(key),
        };
        if let Some(entry) = &replaced {
            self.current_bytes -= entry.bytes(key);
        }
        replaced
    }

    fn trim(&mut self, now: Instant) {
        let Limits { age, revisions_min, revisions_max, bytes_max } = self.limits;
        while self.history.len() > revisions_min
            && (self.history.len() > revisions_max
                || self.superseded_bytes > bytes_max
                || self.history.front().is_some_and(|kept| now.duration_since(kept.at) > age))
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(kept) = self.history.pop_front() else {
            return;
        };
        self.compacted = self.compacted.next();
        for (change, replaced) in kept.commit.iter().zip(&kept.replaced) {
            self.superseded_bytes -= replaced.as_ref().map_or(0, |entry| entry.bytes(&change.key));
        }
    }
}

/// Reverts commits, the last one first, for keys with a prefix.
fn undo(entries: &mut OrdMap<Bytes, Entry>, commits: &[Arc<HistoryEntry>], prefix: &[u8]) {
    for kept in commits.iter().rev() {
        for (change, replaced) in kept.commit.iter().zip(&kept.replaced) {
            if !change.key.starts_with(prefix) {
                continue;
            }
            match replaced {
                Some(entry) => entries.insert(change.key.clone(), entry.clone()),
                None => entries.remove(&change.key),
            };
        }
    }
}

fn record(key: &Bytes, entry: &Entry) -> Record {
    Record { key: key.clone(), value: entry.value.clone(), revision: entry.revision }
}

/// The position of a watch in the history.
struct Cursor {
    index: Arc<Index>,
    changed: watch::Receiver<()>,
    seen: Revision,
    taken: vec::IntoIter<Commit>,
}

impl Cursor {
    async fn next(&mut self) -> Result<Commit, Error> {
        loop {
            if let Some(commit) = self.taken.next() {
                return Ok(commit);
            }
            // Mark it before reading, so that a commit after the read wakes this watch.
            self.changed.mark_unchanged();
            let commits = self.index.commits_after(self.seen)?;
            if let Some(revision) = commits.last().and_then(|commit| commit.first()) {
                self.seen = revision.revision;
                self.taken = commits.into_iter();
            } else if self.changed.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }
}
