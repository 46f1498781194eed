//! The layout of keys and values in etcd.
//!
//! | key, below the prefix | value |
//! |---|---|
//! | `/meta` | format and revisions, see `epochs` |
//! | `/data/KEY` | the value at `KEY`, or a reference to its chunks |
//! | `/chunk/ID/N` | a part of a value that is too large for one request |
//! | `/owner` | the process that may write, see `owner` |
//! | `/tick` | rewritten every minute, see `upkeep` |
//! | `/restoring` | there while a snapshot is being restored |
//!
//! Values can be read with `etcdctl get`, because they are stored unchanged. Only values that begin with one of the
//! two highest bytes, which text never does, get a prefix.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::store::Error;

/// The prefix of a value that begins with one of the two prefixes itself.
const ESCAPED: u8 = 0xfe;
/// The prefix of a reference to chunks. All other values sort below it.
pub(super) const REFERENCE: &[u8] = &[0xff];
/// The size of the chunks of large values, far below 1.5 MiB, etcd's default limit for a request.
pub(super) const CHUNK_BYTES: usize = 512 * 1024;

/// The keys of one store.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// The meaning of a key in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Meta,
    Data(&'a [u8]),
    /// A chunk of the value with this identity.
    Chunk(&'a str),
    Other,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The range of all keys of the store.
    pub(super) fn all(&self) -> (Bytes, Bytes) {
        range(format!("{}/", self.prefix).into())
    }

    /// The ranges of all keys except these, which must be sorted.
    pub(super) fn all_but(&self, keys: &[Bytes]) -> Vec<(Bytes, Bytes)> {
        let (mut first, end) = self.all();
        let mut ranges = Vec::new();
        for key in keys {
            let after: Bytes = [&key[..], b"\0"].concat().into();
            ranges.push((std::mem::replace(&mut first, after), key.clone()));
        }
        ranges.push((first, end));
        ranges
    }

    pub(super) fn meta(&self) -> Bytes {
        format!("{}/meta", self.prefix).into()
    }

    pub(super) fn owner(&self) -> Bytes {
        format!("{}/owner", self.prefix).into()
    }

    pub(super) fn tick(&self) -> Bytes {
        format!("{}/tick", self.prefix).into()
    }

    pub(super) fn restoring(&self) -> Bytes {
        format!("{}/restoring", self.prefix).into()
    }

    pub(super) fn data(&self, key: &[u8]) -> Bytes {
        let mut name = BytesMut::from(self.prefix.as_bytes());
        name.extend_from_slice(b"/data/");
        name.extend_from_slice(key);
        name.freeze()
    }

    pub(super) fn chunk(&self, id: &str, n: usize) -> Bytes {
        format!("{}/chunk/{id}/{n:04}", self.prefix).into()
    }

    /// The range of all chunks of a value.
    pub(super) fn chunks(&self, id: &str) -> (Bytes, Bytes) {
        range(format!("{}/chunk/{id}/", self.prefix).into())
    }

    /// The meaning of a key.
    pub(super) fn place<'a>(&self, key: &'a [u8]) -> Place<'a> {
        let below = key.strip_prefix(self.prefix.as_bytes()).and_then(|k| k.strip_prefix(b"/"));
        let Some(below) = below else { return Place::Other };
        if let Some(key) = below.strip_prefix(b"data/") {
            return Place::Data(key);
        }
        let chunk = below.strip_prefix(b"chunk/").and_then(|rest| str::from_utf8(rest).ok());
        match chunk.and_then(|rest| rest.split_once('/')) {
            Some((id, _)) => Place::Chunk(id),
            None if below == b"meta" => Place::Meta,
            None => Place::Other,
        }
    }
}

/// The range of all keys with this prefix.
pub(super) fn range(prefix: Bytes) -> (Bytes, Bytes) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    // If all bytes have the highest value, there is no next key. In etcd the end 0 means that the range has no end.
    let end = if end.is_empty() { Bytes::from_static(&[0]) } else { end.into() };
    (prefix, end)
}

/// A reference to the chunks of a value, and its length and checksum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) chunks: String,
    bytes: usize,
    crc32: u32,
}

/// The decoded value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Value(Bytes),
    Chunked(Reference),
}

/// Encodes a value for etcd.
pub(super) fn encode(value: &Bytes) -> Bytes {
    if value.first().is_none_or(|first| *first < ESCAPED) {
        return value.clone();
    }
    let mut marked = BytesMut::with_capacity(value.len() + 1);
    marked.put_u8(ESCAPED);
    marked.put_slice(value);
    marked.freeze()
}

pub(super) fn decode(key: &[u8], mut value: Vec<u8>) -> Result<Stored, Error> {
    match value.first() {
        Some(&ESCAPED) => {
            value.remove(0);
            Ok(Stored::Value(value.into()))
        }
        Some(first) if [*first] == REFERENCE => serde_json::from_slice(&value[1..])
            .map(Stored::Chunked)
            .map_err(|error| damaged(key, &error.to_string())),
        _ => Ok(Stored::Value(value.into())),
    }
}

/// The replacement for a value whose chunks are missing or damaged: its reference, which no reader accepts as an
/// object. So lists and watches can return everything else, and the value can be deleted.
pub(super) fn stand_in(key: &[u8], stored: &[u8], error: &Error) -> Bytes {
    let key = String::from_utf8_lossy(key);
    tracing::warn!(%key, %error, "a stored value is incomplete");
    Bytes::copy_from_slice(stored)
}

fn damaged(key: &[u8], what: &str) -> Error {
    Error::Damaged(format!("the value of {} in etcd: {what}", String::from_utf8_lossy(key)))
}

impl Reference {
    /// A reference with a new identity for a value.
    pub(super) fn to(value: &[u8]) -> Self {
        let chunks = uuid::Uuid::new_v4().simple().to_string();
        Self { chunks, bytes: value.len(), crc32: crc32fast::hash(value) }
    }

    /// The number of chunks.
    pub(super) fn count(&self) -> usize {
        self.bytes.div_ceil(CHUNK_BYTES)
    }

    pub(super) fn encode(&self) -> Bytes {
        let json = serde_json::to_vec(self).expect("a reference can be written as JSON");
        [REFERENCE, &json].concat().into()
    }

    /// Assembles the value from its chunks, in order.
    pub(super) fn assemble(&self, key: &[u8], chunks: &[impl AsRef<[u8]>]) -> Result<Bytes, Error> {
        let mut value = BytesMut::with_capacity(chunks.iter().map(|c| c.as_ref().len()).sum());
        for chunk in chunks {
            value.extend_from_slice(chunk.as_ref());
        }
        if value.len() != self.bytes {
            let text = format!("{} of its {} bytes are there", value.len(), self.bytes);
            return Err(damaged(key, &text));
        }
        if crc32fast::hash(&value) != self.crc32 {
            return Err(damaged(key, "its checksum is wrong"));
        }
        Ok(value.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_places() {
        let keys = Keys::new("/a/b");
        assert_eq!(keys.data(b"x/\xffy"), &b"/a/b/data/x/\xffy"[..]);
        for key in [&b""[..], b"objects/pods./default/web", b"chunk/1/2", b"\xff\x00"] {
            assert_eq!(keys.place(&keys.data(key)), Place::Data(key));
        }
        assert_eq!(keys.place(&keys.chunk("id", 3)), Place::Chunk("id"));
        assert_eq!(keys.place(&keys.meta()), Place::Meta);
        for other in [keys.tick(), keys.owner(), "/a/bb/meta".into(), "/a/b/metal".into()] {
            assert_eq!(keys.place(&other), Place::Other, "{other:?}");
        }
        let but = keys.all_but(&[keys.owner(), keys.restoring()]);
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let but: Vec<_> = but.iter().map(|(first, end)| (text(first), text(end))).collect();
        let expected = [
            ("/a/b/", "/a/b/owner"),
            ("/a/b/owner\0", "/a/b/restoring"),
            ("/a/b/restoring\0", "/a/b0"),
        ];
        assert!(but.iter().map(|(a, b)| (&**a, &**b)).eq(expected), "{but:?}");
    }

    #[test]
    fn ranges_end_after_the_last_key() {
        let cases: [(&[u8], &[u8]); 4] =
            [(b"/a/", b"/a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"a\xfe\xff", b"a\xff")];
        for (prefix, end) in cases {
            assert_eq!(range(Bytes::from_static(prefix)).1, end);
        }
    }

    #[test]
    fn values_come_back() {
        for value in [&b""[..], b"{}", b"\xfd", b"\xfe", b"\xff{}", b"\xfe\xff"] {
            let value = Bytes::from_static(value);
            let stored = encode(&value);
            assert!(stored.as_ref() < REFERENCE, "it sorts below references");
            assert_eq!(decode(b"k", stored.to_vec()).unwrap(), Stored::Value(value));
        }
    }

    #[test]
    fn references_check_what_they_get() {
        let reference = Reference::to(b"hello");
        let stored = decode(b"k", reference.encode().to_vec()).unwrap();
        assert_eq!(stored, Stored::Chunked(reference.clone()));
        assert_eq!(reference.assemble(b"k", &["he", "llo"]).unwrap(), "hello");
        for wrong in [&["he"][..], &["he", "lla"], &["he", "llo", "o"]] {
            assert!(matches!(reference.assemble(b"k", wrong), Err(Error::Damaged(_))));
        }
        assert!(matches!(decode(b"k", b"\xff?".to_vec()), Err(Error::Damaged(_))));
    }
}
