//! The expected content of a store after its process was killed, by the reports of the process.

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

/// A current value: its revision, the attempt that wrote it, the index of the write, and its length.
#[derive(Clone, Copy, Debug)]
struct Held {
    revision: u64,
    id: u64,
    place: usize,
    size: usize,
}

/// The content that is certain up to a revision, and the later reports.
#[derive(Default)]
pub(super) struct Model {
    current: BTreeMap<String, Held>,
    revision: u64,
    /// By id: the attempts that were neither refused nor found in the store yet.
    attempts: BTreeMap<u64, Attempt>,
    /// By revision: the ids of later acknowledged attempts.
    acknowledged: BTreeMap<u64, u64>,
    pub(super) counts: Counts,
}

/// The statistics of a campaign.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Attempts without an answer at a kill, and how many of them are in the store.
    pub(super) unanswered: u64,
    pub(super) unanswered_stored: u64,
}

impl Model {
    /// Begins with a new store, but keeps the statistics.
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

    /// Compares the model with the store after a kill, and finds out which unanswered attempts are in it.
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
        // The remaining attempts are not in the store; otherwise the comparison fails.
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

    /// The attempt that made a commit. Its values identify it. Of several attempts that delete the same keys, it is
    /// the one whose expectations hold.
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
