//! The format on disk: encodes commits into keys and values of the tree, and decodes and verifies them.
//!
//! The tree is a log. `r <number>` (big endian, without gaps) is a chunk, `c` says where the log begins and up to
//! where history is compacted, `f` names the format. The unit of durability is a group: its changes one after
//! another, cut into chunks. Small changes share a chunk, large ones have several. Every value begins with a CRC-32
//! of its key and of the rest of the value. All functions are pure. This file knows neither sled nor files.

use std::{mem, ops::Range};

use bytes::Bytes;

use crate::store::{Change, Commit, Revision, index::Image};

/// The key of the name of the format.
pub(super) const FORMAT_KEY: &[u8] = b"f";
/// The format that this version reads and writes.
pub(super) const FORMAT: &[u8] = b"3";
/// The key of the [`Compaction`].
pub(super) const COMPACTION_KEY: &[u8] = b"c";
/// The prefix of the keys of all chunks.
pub(super) const CHUNK_PREFIX: &[u8] = b"r";
/// The number of the first chunk of a new log.
pub(super) const FIRST_CHUNK: u64 = 1;

/// The value of a key that is prepared for a chunk.
pub(super) const PREPARED: &[u8] = b"";

/// The bytes of a chunk. sled keeps at most 16 to 20 of them in a page. A page above 128 KiB would become a blob, a
/// file that sled never syncs.
const CHUNK_BYTES: usize = 6 * 1024;
const CRC_BYTES: usize = 4;
/// CRC, the index of the chunk in its group, and the number of chunks.
const CHUNK_HEAD_BYTES: usize = CRC_BYTES + 2 + 2;
/// Revision, index, number of changes, kind, and the lengths of key and value.
const ENTRY_HEAD_BYTES: usize = 8 + 2 + 2 + 1 + 2 + 4;
/// The flags of a kind.
const KIND_PUT: u8 = 1;
const KIND_COPIED: u8 = 2;

/// A key and a value of the tree.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// A change in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) change: Change,
    /// The index of the change in its commit, and the number of changes. They are not used for revisions up to the
    /// compacted one.
    place: u16,
    changes: u16,
    /// Whether the entry was copied from an older part of the log.
    copied: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_HEAD_BYTES + self.change.key.len() + self.change.value.as_ref().map_or(0, Bytes::len)
    }

    fn encode(&self, stream: &mut Vec<u8>) {
        let Change { revision, key, value } = &self.change;
        let put = if value.is_some() { KIND_PUT } else { 0 };
        let copied = if self.copied { KIND_COPIED } else { 0 };
        let value = value.as_deref().unwrap_or_default();
        let key_bytes = u16::try_from(key.len()).expect("validate bounds a key");
        let value_bytes = u32::try_from(value.len()).expect("validate bounds a value");
        stream.extend(revision.0.to_be_bytes());
        stream.extend(self.place.to_be_bytes());
        stream.extend(self.changes.to_be_bytes());
        stream.push(put | copied);
        stream.extend(key_bytes.to_be_bytes());
        stream.extend(value_bytes.to_be_bytes());
        stream.extend_from_slice(key);
        stream.extend_from_slice(value);
    }

    fn decode(body: &mut Body<'_>) -> Option<Self> {
        let revision = Revision(body.u64()?);
        let (place, changes, kind) = (body.u16()?, body.u16()?, body.u8()?);
        let (key_bytes, value_bytes) = (body.u16()?, usize::try_from(body.u32()?).ok()?);
        let key = Bytes::copy_from_slice(body.take(usize::from(key_bytes))?);
        let value = body.take(value_bytes)?;
        if kind > KIND_PUT | KIND_COPIED || place >= changes {
            return None;
        }
        let put = kind & KIND_PUT != 0;
        let value = put.then(|| Bytes::copy_from_slice(value));
        let copied = kind & KIND_COPIED != 0;
        Some(Self { change: Change { revision, key, value }, place, changes, copied })
    }
}

/// The identity and order of a change in an image.
fn version(change: &Change) -> (Revision, Bytes) {
    (change.revision, change.key.clone())
}

/// The entries of a commit.
pub(super) fn entries(commit: &Commit) -> impl Iterator<Item = Entry> {
    let changes = u16::try_from(commit.len()).expect("validate bounds the writes of a commit");
    commit.iter().zip(0..changes).map(move |(change, place)| {
        let change = change.clone();
        Entry { change, place, changes, copied: false }
    })
}

/// The entries of an image.
pub(super) fn image_entries(image: &Image) -> impl Iterator<Item = Entry> {
    let settled = image.settled.iter().map(|change| {
        let change = change.clone();
        Entry { change, place: 0, changes: 1, copied: true }
    });
    settled.chain(image.history.iter().flat_map(entries))
}

/// The number of bytes of the chunks of a group.
pub(super) fn group_bytes(entries: &[Entry]) -> usize {
    let stream: usize = entries.iter().map(Entry::bytes).sum();
    stream + stream.div_ceil(CHUNK_BYTES - CHUNK_HEAD_BYTES) * CHUNK_HEAD_BYTES
}

/// The chunks of a group, beginning with this number.
pub(super) fn encode(entries: &[Entry], first: u64) -> Vec<Pair> {
    let mut stream = Vec::with_capacity(entries.iter().map(Entry::bytes).sum());
    for entry in entries {
        entry.encode(&mut stream);
    }
    let parts = stream.chunks(CHUNK_BYTES - CHUNK_HEAD_BYTES);
    let chunks = u16::try_from(parts.len()).expect("a group is bounded");
    let pair = |((part, nth), number): ((&[u8], u16), u64)| {
        let key = chunk_key(number);
        let mut value = Vec::with_capacity(CHUNK_HEAD_BYTES + part.len());
        value.extend([0; CRC_BYTES]);
        value.extend(nth.to_be_bytes());
        value.extend(chunks.to_be_bytes());
        value.extend_from_slice(part);
        seal(&key, &mut value);
        (key, value)
    };
    parts.zip(0..chunks).zip(first..).map(pair).collect()
}

/// The pair of a prepared key.
pub(super) fn prepared_pair(number: u64) -> Pair {
    (chunk_key(number), PREPARED.to_vec())
}

/// The key of a chunk.
pub(super) fn chunk_key(number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(CHUNK_PREFIX.len() + 8);
    key.extend(CHUNK_PREFIX);
    key.extend(number.to_be_bytes());
    key
}

/// Up to where history is compacted, and which chunks exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compaction {
    /// The oldest revision that can be read. Entries that it does not need may be removed; all later commits are
    /// complete.
    pub(super) revision: Revision,
    /// The chunks that existed when this was written. The first one is still the first.
    pub(super) chunks: Range<u64>,
}

impl Compaction {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = vec![0; CRC_BYTES];
        for number in [self.revision.0, self.chunks.start, self.chunks.end] {
            value.extend(number.to_be_bytes());
        }
        seal(COMPACTION_KEY, &mut value);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut body = unseal(COMPACTION_KEY, value)
            .map(Body)
            .ok_or_else(|| "the compaction point fails its checksum".to_owned())?;
        let (Some(revision), Some(start), Some(end)) = (body.u64(), body.u64(), body.u64()) else {
            return Err("the compaction point is too short".to_owned());
        };
        Ok(Self { revision: Revision(revision), chunks: start..end })
    }
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

/// A group: the entries that became durable together.
#[derive(Debug)]
pub(super) struct Group {
    /// The numbers of its chunks.
    pub(super) chunks: Range<u64>,
    pub(super) entries: Vec<Entry>,
    /// The bytes of its chunks.
    pub(super) bytes: usize,
}

/// Assembles groups from their chunks, in key order.
pub(super) struct Reader {
    /// The number of the next chunk.
    next: u64,
    open: Option<Open>,
    /// One more than the number of the last key.
    end: u64,
}

/// A group whose chunks are not complete yet.
struct Open {
    first: u64,
    chunks: u16,
    body: Vec<u8>,
}

impl Reader {
    /// A reader of the log from this chunk on.
    pub(super) fn new(first: u64) -> Self {
        Self { next: first, open: None, end: first }
    }

    /// Takes a pair of the tree. Returns a group if this completes it. The error says what is wrong with the pair.
    pub(super) fn feed(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Group>, String> {
        let number = key.strip_prefix(CHUNK_PREFIX).and_then(|number| number.try_into().ok());
        let number = number.map(u64::from_be_bytes);
        let number = number.ok_or_else(|| format!("a chunk has the unknown key {key:?}"))?;
        self.end = number.saturating_add(1);
        if value == PREPARED {
            return Ok(None);
        }
        if number != self.next {
            return Err(format!("chunk {} is missing", self.next));
        }
        self.next += 1;
        let mut body = unseal(key, value)
            .map(Body)
            .ok_or_else(|| format!("chunk {number} fails its checksum"))?;
        let (Some(nth), Some(chunks)) = (body.u16(), body.u16()) else {
            return Err(format!("chunk {number} is too short"));
        };
        let mut open = match self.open.take() {
            None => Open { first: number, chunks, body: Vec::new() },
            Some(open) => open,
        };
        if open.first + u64::from(nth) != number || open.chunks != chunks {
            return Err(format!("chunk {number} is none of the group of chunk {}", open.first));
        }
        open.body.extend_from_slice(body.0);
        if nth + 1 < chunks {
            self.open = Some(open);
            return Ok(None);
        }
        open.close().map(Some)
    }

    /// What follows the last complete group.
    pub(super) fn into_tail(self) -> Tail {
        let torn = self.open.map(|Open { body, .. }| Torn(Body(&body).u64().map(Revision)));
        Tail { torn, end: self.end }
    }
}

impl Open {
    fn close(self) -> Result<Group, String> {
        let Self { first, chunks, body } = self;
        let mut rest = Body(&body);
        let mut entries = Vec::new();
        while !rest.0.is_empty() {
            let entry = Entry::decode(&mut rest)
                .ok_or_else(|| format!("the group of chunk {first} cannot be decoded"))?;
            entries.push(entry);
        }
        let bytes = body.len() + usize::from(chunks) * CHUNK_HEAD_BYTES;
        Ok(Group { chunks: first..first + u64::from(chunks), entries, bytes })
    }
}

/// What follows the last complete group of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) torn: Option<Torn>,
    /// One more than the number of the last key, also of a prepared one.
    pub(super) end: u64,
}

/// An incomplete group, and the revision of its first commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn(Option<Revision>);

/// The rest of a value that is being decoded.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(part)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// The complete groups of a log, beginning with the oldest one.
pub(super) struct Log {
    entries: Vec<Entry>,
    /// The first chunk, the first entry and the bytes of the last group.
    last_group: (u64, usize, usize),
    /// The numbers of the chunks, and their bytes.
    pub(super) chunks: Range<u64>,
    pub(super) bytes: usize,
}

impl Log {
    /// An empty log whose first chunk will have this number.
    pub(super) fn new(first: u64) -> Self {
        Self { entries: Vec::new(), last_group: (first, 0, 0), chunks: first..first, bytes: 0 }
    }

    /// Appends a group.
    pub(super) fn push(&mut self, group: Group) {
        self.last_group = (group.chunks.start, self.entries.len(), group.bytes);
        self.chunks.end = group.chunks.end;
        self.bytes += group.bytes;
        self.entries.extend(group.entries);
    }

    /// Checks that the log is complete: it has all chunks that the compaction entry names, every commit after that is
    /// complete and without a gap, and all acknowledged commits are there. The error names what is missing.
    pub(super) fn verify(
        &self,
        torn: Option<&Torn>,
        compaction: &Compaction,
        acknowledged: Revision,
    ) -> Result<(), String> {
        let Compaction { revision: compacted, chunks: known } = compaction;
        if self.chunks.end < known.end {
            return Err(format!("chunks {} to {} are missing", self.chunks.end, known.end - 1));
        }
        let part = |revision| Err(format!("a part of revision {revision} is missing"));
        let (mut revision, mut place, mut changes) = (compacted.next(), 0, 0);
        for entry in self.entries.iter().filter(|entry| entry.change.revision > *compacted) {
            if place == 0 {
                changes = entry.changes;
            }
            if (entry.change.revision, entry.place, entry.changes) != (revision, place, changes) {
                return part(revision);
            }
            place += 1;
            if place == changes {
                (revision, place) = (revision.next(), 0);
            }
        }
        if place > 0 {
            return part(revision);
        }
        if revision <= acknowledged {
            return Err(format!("revisions {revision} to {acknowledged} are missing"));
        }
        match torn {
            Some(Torn(first)) if *first != Some(revision) => part(revision),
            _ => Ok(()),
        }
    }

    /// Removes the last group if its commits are newer than a revision.
    pub(super) fn cut(&mut self, after: Revision) {
        let (chunk, first, bytes) = self.last_group;
        if self.entries.get(first).is_some_and(|entry| entry.change.revision > after) {
            self.entries.truncate(first);
            self.chunks.end = chunk;
            self.bytes -= bytes;
        }
    }

    /// The image that the entries give.
    pub(super) fn into_image(self, compacted: Revision) -> Image {
        let (settled, later): (Vec<_>, Vec<_>) =
            self.entries.into_iter().partition(|entry| entry.change.revision <= compacted);
        let mut settled: Vec<_> = settled.into_iter().map(|entry| entry.change).collect();
        // Copied entries come after newer ones.
        settled.sort_by_key(|change| change.revision);
        let mut history: Vec<Commit> = Vec::new();
        let mut commit = Vec::new();
        for Entry { change, place, changes, .. } in later {
            commit.push(change);
            if place + 1 == changes {
                history.push(mem::take(&mut commit).into());
            }
        }
        Image { compacted, settled, history }
    }
}

/// The entries of a group that must be copied to the end of the log before the group is removed; `None` if the group
/// must stay because it contains history.
///
/// A deletion is copied once. While the history contained a value of its key, that value may have been copied behind
/// the deletion, and it would come back. After the deletion was copied itself, no value of its key is behind it any
/// more.
pub(super) fn survivors(group: Vec<Entry>, image: &Image) -> Option<Vec<Entry>> {
    if group.iter().any(|entry| entry.change.revision > image.compacted) {
        return None;
    }
    let is_needed = |entry: &Entry| match entry.change.value {
        None => !entry.copied,
        Some(_) => image.settled.binary_search_by_key(&version(&entry.change), version).is_ok(),
    };
    let copied = group.into_iter().filter(is_needed).map(|entry| Entry { copied: true, ..entry });
    Some(copied.collect())
}

#[cfg(test)]
mod tests;
