//! Translates between revisions of etcd and revisions of the store.
//!
//! A revision of the store is etcd's revision plus a base. The key `meta` of the store contains the bases. The first
//! span begins when the store is created. Another span begins when etcd's data was restored from a backup, with a
//! base so high that no revision is used twice. Older records keep their revisions.

use serde::{Deserialize, Serialize};

use crate::store::{Error, Revision};

/// The format that this version of the program writes: of `meta`, of the values and of the keys.
const FORMAT: u32 = 1;
/// Each span comes from a restore by hand. More spans than this mean that something is wrong.
const SPANS_MAX: usize = 1_000;

/// The first revision of a span, in etcd and in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    etcd: i64,
    ours: u64,
}

/// The spans, oldest first. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Epochs {
    spans: Vec<Span>,
}

/// The value of `meta`. The last span begins at the revision that wrote the key, which the value itself cannot
/// contain.
#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    /// The store's revision for etcd's revision that wrote this value.
    revision: u64,
    /// The earlier spans.
    #[serde(default)]
    past: Vec<Span>,
}

/// The value of `meta` for a new store. Its first revision comes after this one.
pub(super) fn first(revision: Revision) -> Vec<u8> {
    encode(&Meta { format: FORMAT, revision: revision.0, past: Vec::new() })
}

fn encode(meta: &Meta) -> Vec<u8> {
    serde_json::to_vec(meta).expect("numbers can be written as JSON")
}

impl Epochs {
    /// Decodes a value of `meta` that was written at this revision of etcd.
    pub(super) fn read(value: &[u8], written_at: i64) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |e: &dyn std::fmt::Display| Error::Damaged(format!("its key meta: {e}"));
        let Format { format } = serde_json::from_slice(value).map_err(|e| damaged(&e))?;
        if format != FORMAT {
            let text = format!(
                "what is in etcd has format {format}, this version of the program knows {FORMAT}"
            );
            return Err(Error::Unsupported(text));
        }
        let Meta { revision, past, .. } = serde_json::from_slice(value).map_err(|e| damaged(&e))?;
        let mut spans = past;
        spans.push(Span { etcd: written_at, ours: revision });
        let rising = |pair: &[Span]| pair[0].etcd < pair[1].etcd && pair[0].ours < pair[1].ours;
        if spans.len() > SPANS_MAX || !spans.windows(2).all(rising) {
            return Err(damaged(
                &"its revisions do not rise (was the key copied from another etcd?)",
            ));
        }
        Ok(Self { spans })
    }

    /// The value of `meta` that begins another span at this revision of the store.
    pub(super) fn and_then(&self, revision: Revision) -> Vec<u8> {
        encode(&Meta { format: FORMAT, revision: revision.0, past: self.spans.clone() })
    }

    /// The revision of etcd that wrote `meta`.
    pub(super) fn written_at(&self) -> i64 {
        self.spans.last().map_or(0, |span| span.etcd)
    }

    /// The first revision of the store.
    pub(super) fn oldest(&self) -> Revision {
        Revision(self.spans.first().map_or(0, |span| span.ours))
    }

    /// The store's revision for a revision of etcd. Revisions from before the store give its first revision.
    pub(super) fn ours(&self, etcd: i64) -> Revision {
        let after = self.spans.partition_point(|span| span.etcd <= etcd);
        let Some(span) = self.spans.get(after.saturating_sub(1)) else { return Revision(0) };
        let since = u64::try_from(etcd.saturating_sub(span.etcd)).unwrap_or(0);
        Revision(span.ours.saturating_add(since))
    }

    /// etcd's revision for a revision of the store; `None` if it is from before the store or was lost in a restore
    /// from a backup.
    pub(super) fn etcd(&self, ours: Revision) -> Option<i64> {
        let after = self.spans.partition_point(|span| span.ours <= ours.0);
        let span = self.spans.get(after.checked_sub(1)?)?;
        let etcd = span.etcd.checked_add(i64::try_from(ours.0 - span.ours).ok()?)?;
        let lost = self.spans.get(after).is_some_and(|next| etcd >= next.etcd);
        (!lost).then_some(etcd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_translated_and_back() {
        let epochs = Epochs::read(&first(Revision(0)), 7).unwrap();
        let epochs = Epochs::read(&epochs.and_then(Revision(500)), 20).unwrap();
        assert_eq!((epochs.written_at(), epochs.oldest()), (20, Revision(0)));
        for (etcd, ours) in [(7, 0), (8, 1), (19, 12), (20, 500), (25, 505)] {
            assert_eq!(epochs.ours(etcd), Revision(ours), "{etcd}");
            assert_eq!(epochs.etcd(Revision(ours)), Some(etcd), "{ours}");
        }
        for lost in [13, 499] {
            assert_eq!(epochs.etcd(Revision(lost)), None, "{lost}");
        }
        assert_eq!(epochs.ours(3), Revision(0), "before the store");
        let restored = Epochs::read(&first(Revision(90)), 2).unwrap();
        assert_eq!((restored.etcd(Revision(89)), restored.ours(3)), (None, Revision(91)));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for damaged in ["", "{}", "[1]", r#"{"format":1}"#] {
            let refused = Epochs::read(damaged.as_bytes(), 5);
            assert!(matches!(refused, Err(Error::Damaged(_))), "{damaged}: {refused:?}");
        }
        let newer = Epochs::read(br#"{"format":2,"new":"things"}"#, 5);
        assert!(matches!(newer, Err(Error::Unsupported(_))), "{newer:?}");
        let copied = br#"{"format":1,"revision":9,"past":[{"etcd":50,"ours":0}]}"#;
        assert!(matches!(Epochs::read(copied, 5), Err(Error::Damaged(_))));
    }
}
