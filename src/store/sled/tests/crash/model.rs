//! What a store must hold after its process was killed, from what the process had told before.

use std::{collections::BTreeMap, mem};

use crate::store::{
    Change, Commit, Record, Revision,
    sled::{
        Sled,
        tests::{
            crash::attempt::{Attempt, KeyWrite, id_of, value},
            everything,
        },
    },
};

/// A current value: the revision and the attempt that wrote it, as which part, and how long it is.
#[derive(Clone, Copy, Debug)]
struct Held {
    revision: u64,
    id: u64,
    place: usize,
    size: usize,
}

/// What is known for certain, up to a revision, and what was told since.
#[derive(Default)]
pub(super) struct Model {
    current: BTreeMap<String, Held>,
    revision: u64,
    /// By id: neither refused nor looked for in the store yet.
    attempts: BTreeMap<u64, Attempt>,
    /// By revision: the ids of attempts that were acknowledged since.
    acknowledged: BTreeMap<u64, u64>,
    pub(super) counts: Counts,
}

/// What a campaign has seen.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Attempts that the kill left without an answer, and which of them are in the store.
    pub(super) unanswered: u64,
    pub(super) unanswered_stored: u64,
}

impl Model {
    /// Forgets the store, and goes on counting.
    pub(super) fn begin_anew(&mut self) {
        let counts = mem::take(&mut self.counts);
        *self = Self { counts, ..Self::default() };
    }

    pub(super) fn attempt(&mut self, attempt: Attempt) {
        let twice = self.attempts.insert(attempt.id, attempt);
        assert!(twice.is_none(), "{twice:?}");
    }

    pub(super) fn acknowledge(&mut self, id: u64, revision: u64) {
        assert!(revision > self.revision, "revision {revision} again, for attempt {id}");
        assert!(self.attempts.contains_key(&id));
        let other = self.acknowledged.insert(revision, id);
        assert!(other.is_none(), "revision {revision} of {other:?} again, for attempt {id}");
        self.counts.acknowledged += 1;
    }

    pub(super) fn refuse(&mut self, id: u64) {
        self.attempts.remove(&id).unwrap();
        self.counts.refused += 1;
    }

    /// Compares with the store, whose process was killed, and learns which unanswered attempts it kept.
    pub(super) async fn check(&mut self, store: &Sled) {
        let (records, Revision(end), history) = everything(store).await;
        let last = self.acknowledged.last_key_value().map_or(self.revision, |(last, _)| *last);
        assert!(end >= last, "acknowledged up to {last}, stored up to {end}");
        let history: BTreeMap<u64, &Commit> =
            history.iter().map(|commit| (commit[0].revision.0, commit)).collect();
        let unanswered = self.attempts.len() - self.acknowledged.len();
        self.counts.unanswered += u64::try_from(unanswered).unwrap();
        for revision in self.revision + 1..=end {
            let attempt = self.attempt_at(revision, history.get(&revision).copied());
            self.apply(revision, &attempt);
        }
        self.revision = end;
        // What is left has left no trace, or the comparison finds it.
        self.attempts.clear();
        self.compare(&records);
    }

    /// The attempt that made a revision.
    fn attempt_at(&mut self, revision: u64, commit: Option<&Commit>) -> Attempt {
        let acknowledged = self.acknowledged.remove(&revision);
        let id = match (acknowledged, commit) {
            (Some(id), _) => id,
            (None, Some(commit)) => {
                self.counts.unanswered_stored += 1;
                self.author(commit).unwrap_or_else(|| panic!("nobody wrote {commit:?}"))
            }
            (None, None) => panic!("revision {revision} was not acknowledged, and is forgotten"),
        };
        let attempt = self.attempts.remove(&id);
        let attempt = attempt.unwrap_or_else(|| panic!("{id} at {revision} was not tried"));
        if let Some(commit) = commit {
            assert!(attempt.made(commit), "revision {revision} is {commit:?}, not {attempt:?}");
        }
        attempt
    }

    /// Which attempt a commit is a part of, at least. A value tells; of several attempts to delete the same keys, it
    /// is the one that found what it expected.
    fn author(&self, commit: &[Change]) -> Option<u64> {
        let told = commit.iter().find_map(|change| change.value.as_ref()).map(id_of);
        told.or_else(|| {
            let mut attempts = self.attempts.values();
            Some(attempts.find(|attempt| attempt.made(commit) && self.fits(attempt))?.id)
        })
    }

    fn fits(&self, attempt: &Attempt) -> bool {
        let found = |key| self.current.get(key).map(|held| held.revision);
        attempt.parts.iter().all(|KeyWrite { key, at, .. }| found(key) == *at)
    }

    fn apply(&mut self, revision: u64, attempt: &Attempt) {
        assert!(self.fits(attempt), "{attempt:?}, made at {revision}: {:?}", self.current);
        for (place, KeyWrite { key, size, .. }) in attempt.parts.iter().enumerate() {
            match *size {
                Some(size) => {
                    let held = Held { revision, id: attempt.id, place, size };
                    self.current.insert(key.clone(), held)
                }
                None => self.current.remove(key),
            };
        }
    }

    fn compare(&self, records: &[Record]) {
        let stored: BTreeMap<&[u8], &Record> = records.iter().map(|r| (&*r.key, r)).collect();
        for (key, held) in &self.current {
            let record = stored.get(key.as_bytes());
            let record = record.unwrap_or_else(|| panic!("{key} is lost: {held:?}"));
            assert_eq!(record.revision, Revision(held.revision), "{key}: {held:?}");
            let expected = value(held.id, held.place, held.size);
            assert!(record.value == expected, "{key} has other bytes: {held:?}");
        }
        let strange: Vec<_> = records
            .iter()
            .map(|record| (String::from_utf8_lossy(&record.key), record.revision))
            .filter(|(key, _)| !self.current.contains_key(&**key))
            .collect();
        assert!(strange.is_empty(), "not written, or deleted: {strange:?}");
    }
}
