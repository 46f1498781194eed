//! The bytes on disk: how a commit becomes keys and values of the tree, and how they are read back and judged.
//!
//! One tree holds everything. `r <revision> <place> <chunk>` (big endian) is a chunk of the version that the
//! commit `revision` wrote as its `place`-th change; `c` says how far history is compacted, `f` names the format.
//! Every value starts with a CRC-32 of its key and the rest of it, so that nothing is taken for something else.
//! Pure functions over bytes: this file knows neither sled nor files.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::store::{
    Change, Commit, Revision,
    index::{Image, Version},
};

/// The key of the format's name.
pub(super) const FORMAT_KEY: &[u8] = b"f";
/// The format that is written.
pub(super) const FORMAT: &[u8] = b"2";
/// It differs in one thing: a version was gone as soon as it was replaced by a commit after the compaction point.
pub(super) const FORMAT_WITHOUT_PAST: &[u8] = b"1";
/// The key of the [`Compaction`].
pub(super) const COMPACTION_KEY: &[u8] = b"c";
/// What the keys of all chunks start with.
pub(super) const RECORD_PREFIX: &[u8] = b"r";

/// The value of a key for which a chunk is expected; it says nothing.
pub(super) const PREPARED: &[u8] = b"";

/// Bytes of one value of the tree. sled keeps at most 16 to 20 of them in a page, and a page above 128 KiB would
/// become a blob, a file that sled never syncs.
const CHUNK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
/// CRC, kind, and five 16-bit numbers: changes, nth, commits, chunks, key length.
const HEAD_BYTES: usize = CRC_BYTES + 1 + 5 * 2;
const TREE_KEY_BYTES: usize = 1 + 8 + 2 + 2;
const KIND_DELETE: u8 = 0;
const KIND_PUT: u8 = 1;

/// One key and value of the tree.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// A change, its place in its commit, and how many changes that has.
pub(super) type Placed<'a> = (&'a Change, u16, u16);

/// Where a commit stands in the group that was written and made durable at once: the n-th of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) nth: u16,
    pub(super) commits: u16,
}

/// The group of a commit that was written alone.
pub(super) const ALONE: Group = Group { nth: 0, commits: 1 };

/// How far history is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compaction {
    /// The oldest revision that can be read: what it does not show may be gone, every later commit is complete.
    pub(super) revision: Revision,
    /// How many versions at or before it are stored, so that a missing one is noticed.
    pub(super) versions: u64,
}

impl Compaction {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut value = vec![0; CRC_BYTES];
        value.extend(self.revision.0.to_be_bytes());
        value.extend(self.versions.to_be_bytes());
        seal(COMPACTION_KEY, &mut value);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut body = unseal(COMPACTION_KEY, value)
            .map(Body)
            .ok_or_else(|| "the compaction point fails its checksum".to_owned())?;
        let (Some(revision), Some(versions)) = (body.u64(), body.u64()) else {
            return Err("the compaction point is too short".to_owned());
        };
        Ok(Self { revision: Revision(revision), versions })
    }
}

/// Appends the pairs of all changes of a commit.
pub(super) fn encode(commit: &Commit, group: Group, pairs: &mut Vec<Pair>) {
    for (change, place, changes) in placed_changes(commit) {
        encode_change(change, place, changes, group, pairs);
    }
}

fn placed_changes(commit: &Commit) -> impl Iterator<Item = Placed<'_>> {
    let changes = u16::try_from(commit.len()).expect("validate bounds the writes of a commit");
    commit.iter().zip(0..changes).map(move |(change, place)| (change, place, changes))
}

/// The changes that an image holds, in the order of the tree.
pub(super) fn image_changes(image: &Image) -> Vec<Placed<'_>> {
    // A settled version no longer knows its commit's size.
    let settled = image.settled.iter().map(|(change, place)| (change, *place, place + 1));
    let mut placed: Vec<_> = settled.collect();
    placed.sort_unstable_by_key(|(change, place, _)| (change.revision, *place));
    for commit in &image.history {
        placed.extend(placed_changes(commit));
    }
    placed
}

/// The keys of all chunks of a change.
pub(super) fn change_keys((change, place, _): Placed<'_>) -> impl Iterator<Item = Vec<u8>> {
    keys(version(change, place))
}

/// The pairs of a change that was written alone.
pub(super) fn encode_alone((change, place, changes): Placed<'_>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    encode_change(change, place, changes, ALONE, &mut pairs);
    pairs
}

/// The revision in the key of a chunk; `None` for any other key.
pub(super) fn revision(key: &[u8]) -> Option<Revision> {
    let number = key.strip_prefix(RECORD_PREFIX)?.first_chunk()?;
    (key.len() == TREE_KEY_BYTES).then(|| Revision(u64::from_be_bytes(*number)))
}

/// Whether this is the one key that every commit has: that of its first change's first chunk.
pub(super) fn is_first(tree_key: &[u8]) -> bool {
    revision(tree_key).is_some_and(|revision| tree_key == key(revision, 0, 0))
}

/// The keys that the commits with these revisions will have at least.
pub(super) fn first_keys(revisions: Range<Revision>) -> impl Iterator<Item = Vec<u8>> {
    (revisions.start.0..revisions.end.0).map(|revision| key(Revision(revision), 0, 0))
}

/// The keys of all chunks of a version.
pub(super) fn keys(version: Version) -> impl Iterator<Item = Vec<u8>> {
    (0..chunk_count(version.bytes)).map(move |chunk| key(version.revision, version.place, chunk))
}

fn encode_change(change: &Change, place: u16, changes: u16, group: Group, pairs: &mut Vec<Pair>) {
    let value = change.value.as_deref().unwrap_or_default();
    let chunks = chunk_count(change.key.len() + value.len());
    let key_bytes = u16::try_from(change.key.len()).expect("validate bounds a key");
    let mut rest = value;
    for chunk in 0..chunks {
        let key = key(change.revision, place, chunk);
        let mut stored =
            Vec::with_capacity(CHUNK_BYTES.min(HEAD_BYTES + change.key.len() + rest.len()));
        stored.extend([0; CRC_BYTES]);
        if chunk == 0 {
            stored.push(if change.value.is_some() { KIND_PUT } else { KIND_DELETE });
            for number in [changes, group.nth, group.commits, chunks, key_bytes] {
                stored.extend(number.to_be_bytes());
            }
            stored.extend_from_slice(&change.key);
        }
        let (part, later) = rest.split_at(rest.len().min(CHUNK_BYTES - stored.len()));
        stored.extend_from_slice(part);
        seal(&key, &mut stored);
        pairs.push((key, stored));
        rest = later;
    }
}

/// How many chunks hold a version whose key and value have so many bytes.
fn chunk_count(bytes: usize) -> u16 {
    let first = CHUNK_BYTES - HEAD_BYTES;
    let later = bytes.saturating_sub(first).div_ceil(CHUNK_BYTES - CRC_BYTES);
    u16::try_from(1 + later).expect("validate bounds a value")
}

fn key(revision: Revision, place: u16, chunk: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(TREE_KEY_BYTES);
    key.extend(RECORD_PREFIX);
    key.extend(revision.0.to_be_bytes());
    key.extend(place.to_be_bytes());
    key.extend(chunk.to_be_bytes());
    key
}

fn seal(key: &[u8], value: &mut [u8]) {
    let (crc, body) = value.split_at_mut(CRC_BYTES);
    crc.copy_from_slice(&checksum(key, body).to_be_bytes());
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, body) = value.split_first_chunk::<CRC_BYTES>()?;
    (u32::from_be_bytes(*crc) == checksum(key, body)).then_some(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// A version as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) change: Change,
    pub(super) place: u16,
    /// How many changes its commit has.
    pub(super) changes: u16,
    pub(super) group: Group,
    /// Whether all of its chunks are there. Only the last version that was read may lack some.
    pub(super) complete: bool,
}

impl Stored {
    /// Where it is stored.
    pub(super) fn version(&self) -> Version {
        version(&self.change, self.place)
    }
}

fn version(change: &Change, place: u16) -> Version {
    let Change { revision, key, value } = change;
    let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
    Version { revision: *revision, place, bytes }
}

/// Puts versions together from their chunks, which must be fed in key order.
#[derive(Default)]
pub(super) struct Reader {
    stored: Vec<Stored>,
    open: Option<Open>,
}

struct Open {
    stored: Stored,
    value: BytesMut,
    put: bool,
    next_chunk: u16,
    chunks: u16,
}

impl Reader {
    /// Takes one pair of the tree; the error says what is wrong with it.
    pub(super) fn feed(&mut self, tree_key: &[u8], value: &[u8]) -> Result<(), String> {
        if value == PREPARED {
            return Ok(());
        }
        let mut parts = Body(tree_key.get(RECORD_PREFIX.len()..).unwrap_or_default());
        let (Some(revision), Some(place), Some(chunk), true) =
            (parts.u64(), parts.u16(), parts.u16(), tree_key.len() == TREE_KEY_BYTES)
        else {
            return Err(format!("a record has the unknown key {tree_key:?}"));
        };
        let name = || format!("revision {revision}, change {place}, chunk {chunk}");
        let body =
            unseal(tree_key, value).ok_or_else(|| format!("{} fails its checksum", name()))?;
        if chunk == 0 {
            self.finish()?;
            let open = head(Revision(revision), place, body)
                .ok_or_else(|| format!("{} cannot be decoded", name()))?;
            self.open = Some(open);
        } else {
            let open = self.open.as_mut().filter(|open| {
                open.stored.change.revision == Revision(revision)
                    && open.stored.place == place
                    && open.next_chunk == chunk
            });
            let open = open.ok_or_else(|| format!("what comes before {} is missing", name()))?;
            open.value.extend_from_slice(body);
            open.next_chunk += 1;
        }
        Ok(())
    }

    /// All versions, in the order of revision and place.
    pub(super) fn into_stored(mut self) -> Vec<Stored> {
        let last = self.open.take();
        self.stored.extend(last.map(Open::close));
        self.stored
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let Open { next_chunk, chunks, .. } = open;
        let stored = open.close();
        if !stored.complete {
            let Stored { change: Change { revision, .. }, place, .. } = stored;
            return Err(format!(
                "revision {revision}, change {place} has {next_chunk} of {chunks} chunks"
            ));
        }
        self.stored.push(stored);
        Ok(())
    }
}

impl Open {
    fn close(self) -> Stored {
        let Self { mut stored, value, put, next_chunk, chunks } = self;
        stored.change.value = put.then(|| value.freeze());
        stored.complete = next_chunk == chunks;
        stored
    }
}

fn head(revision: Revision, place: u16, body: &[u8]) -> Option<Open> {
    let mut body = Body(body);
    let kind = body.take(1)?[0];
    let (changes, nth, commits, chunks) = (body.u16()?, body.u16()?, body.u16()?, body.u16()?);
    let key_bytes = body.u16()?;
    let key = Bytes::copy_from_slice(body.take(usize::from(key_bytes))?);
    if kind > KIND_PUT || chunks == 0 || place >= changes || nth >= commits {
        return None;
    }
    let mut value = BytesMut::with_capacity(match chunks {
        1 => body.0.len(),
        _ => usize::from(chunks) * CHUNK_BYTES,
    });
    value.extend_from_slice(body.0);
    let change = Change { revision, key, value: None };
    let group = Group { nth, commits };
    let stored = Stored { change, place, changes, group, complete: false };
    Some(Open { stored, value, put: kind == KIND_PUT, next_chunk: 1, chunks })
}

/// The rest of a value that is being decoded.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(part)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
}

/// What a scan amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many of the stored versions lie at or before the compaction point.
    pub(super) settled: usize,
    /// How many belong to whole groups; the rest is one that was cut off before anybody was told of it.
    pub(super) whole: usize,
}

/// Judges whether everything is there that must be: all versions before the compaction point, every commit after
/// it whole and without gap, nothing that was acknowledged missing at the end. The error names what is missing.
pub(super) fn verify(
    stored: &[Stored],
    compaction: Compaction,
    acknowledged: Revision,
) -> Result<Verdict, String> {
    let settled = stored.partition_point(|s| s.change.revision <= compaction.revision);
    let count = u64::try_from(settled).unwrap_or(u64::MAX);
    if count != compaction.versions {
        let Compaction { revision, versions } = compaction;
        return Err(format!("{count} of {versions} versions up to revision {revision} are left"));
    }
    let mut whole = settled;
    if let Some(version) = stored[..settled].iter().find(|version| !version.complete) {
        return Err(format!("a part of revision {} is missing", version.change.revision));
    }
    let mut last = compaction.revision;
    while whole < stored.len() {
        let Some((range, reached)) = group(stored, whole, last) else {
            let torn = &stored[whole];
            let first = torn.change.revision.0.saturating_sub(u64::from(torn.group.nth));
            let end = stored[stored.len() - 1].change.revision.0;
            let group_end = first.saturating_add(u64::from(torn.group.commits) - 1);
            if first == last.next().0 && first > acknowledged.0 && end <= group_end {
                break;
            }
            return Err(format!(
                "a part of revisions {} to {} is missing",
                last.next(),
                end.max(acknowledged.0)
            ));
        };
        whole = range.end;
        last = reached;
    }
    if last < acknowledged {
        return Err(format!("revisions {} to {acknowledged} are missing", last.next()));
    }
    Ok(Verdict { settled, whole })
}

/// The whole group that starts at `from` and follows `last`, and its last revision; `None` when a part is missing.
fn group(stored: &[Stored], from: usize, last: Revision) -> Option<(Range<usize>, Revision)> {
    let commits = stored[from].group.commits;
    let mut at = from;
    let mut revision = last;
    for nth in stored[from].group.nth..commits {
        revision = revision.next();
        let changes = stored.get(at)?.changes;
        for place in 0..changes {
            let s = stored.get(at)?;
            let expected = Group { nth, commits };
            if s.change.revision != revision
                || s.place != place
                || s.changes != changes
                || s.group != expected
                || !s.complete
            {
                return None;
            }
            at += 1;
        }
    }
    Some((from..at, revision))
}

#[cfg(test)]
mod tests;
