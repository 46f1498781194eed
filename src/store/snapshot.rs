//! Snapshots: all records of the store at one revision in one file, with checksums that show whether the file is
//! complete.
//!
//! The file begins with `MAGIC`, the number of the format and a [`Header`]. Then follows each record in key order:
//! the lengths of key and value, the revision that wrote it, key and value. The file ends with the SHA-256 of
//! everything before. The header and each record end with a CRC-32 of themselves, so that a changed length is
//! detected before it is used. Numbers are big endian. Enter at [`encode`] and [`Reader`]. They do not know where the
//! bytes go to or come from.

use std::{
    io::{self, Read},
    vec,
};

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::store::{
    Record, Revision,
    index::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};

/// The first bytes of every snapshot.
const MAGIC: &[u8; 8] = b"snowsnap";
/// The only format that is written and read.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 8 + 8 + 8;
const RECORD_HEAD_BYTES: usize = 4 + 4 + 8;
const CRC_BYTES: usize = 4;
const SHA_BYTES: usize = 32;
/// A block is returned when it has this many bytes. Hashing so few bytes blocks a thread only briefly.
const BLOCK_BYTES: usize = 128 * 1024;

/// The header of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The revision of the store.
    pub revision: Revision,
    /// The number of records.
    pub records: u64,
    /// When the snapshot was made, in whole milliseconds.
    pub created: Timestamp,
}

/// Why a snapshot is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a snapshot.
    #[error("it is not a snapshot")]
    NotASnapshot,
    /// A newer version of the program made it.
    #[error("it has format {0}, this version reads format {FORMAT}: use the version that made it")]
    Unsupported(u32),
    /// The file is incomplete or was changed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file could not be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// Encodes these records as a snapshot, in blocks. The records must be in key order.
pub fn encode(
    records: Vec<Record>,
    revision: Revision,
    created: Timestamp,
) -> impl Iterator<Item = Bytes> + Send {
    let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let mut head = BytesMut::with_capacity(BLOCK_BYTES);
    head.put_slice(MAGIC);
    head.put_u32(FORMAT);
    head.put_u64(revision.0);
    head.put_u64(count);
    head.put_i64(created.as_millisecond());
    head.put_u32(crc32fast::hash(&head));
    Encoder { head, records: records.into_iter(), hasher: Some(Sha256::new()) }
}

struct Encoder {
    /// The current block.
    head: BytesMut,
    records: vec::IntoIter<Record>,
    /// `None` after the end was written.
    hasher: Option<Sha256>,
}

impl Iterator for Encoder {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut hasher = self.hasher.take()?;
        let mut block = self.head.split();
        while block.len() < BLOCK_BYTES {
            let Some(record) = self.records.next() else {
                hasher.update(&block);
                block.put_slice(&hasher.finalize());
                return Some(block.freeze());
            };
            put_record(&record, &mut block);
        }
        hasher.update(&block);
        self.hasher = Some(hasher);
        Some(block.freeze())
    }
}

fn put_record(Record { key, value, revision }: &Record, block: &mut BytesMut) {
    let length = |bytes: &Bytes| u32::try_from(bytes.len()).expect("the store bounds its values");
    let start = block.len();
    block.put_u32(length(key));
    block.put_u32(length(value));
    block.put_u64(revision.0);
    block.put_slice(key);
    block.put_slice(value);
    block.put_u32(crc32fast::hash(&block[start..]));
}

/// Reads a snapshot record by record. The snapshot is complete only if the last call of `next` returns `None`. The
/// records must not be used before.
pub struct Reader<R> {
    input: R,
    hasher: Sha256,
    header: Header,
    read: u64,
    last_key: Option<Bytes>,
    /// Whether the end or an error was reached.
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<Self, Error> {
        let mut hasher = Sha256::new();
        let mut magic = [0; MAGIC.len()];
        match input.read_exact(&mut magic) {
            Ok(()) if magic == *MAGIC => hasher.update(magic),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
            _ => return Err(Error::NotASnapshot),
        }
        let rest = read(&mut input, &mut hasher, HEADER_BYTES - MAGIC.len())?;
        let crc = read(&mut input, &mut hasher, CRC_BYTES)?;
        let [format, ..] = numbers32(&rest);
        if format != FORMAT {
            return Err(Error::Unsupported(format));
        }
        if crc32(&[MAGIC, &rest]) != numbers32(&crc)[0] {
            return Err(Error::Damaged("its header fails its checksum".to_owned()));
        }
        let [revision, records, created] =
            [4, 12, 20].map(|at| u64::from_be_bytes(rest[at..at + 8].try_into().expect("8 bytes")));
        let created = Timestamp::from_millisecond(created.cast_signed())
            .map_err(|error| Error::Damaged(error.to_string()))?;
        let header = Header { revision: Revision(revision), records, created };
        Ok(Self { input, hasher, header, read: 0, last_key: None, ended: false })
    }

    /// The header of the snapshot.
    pub fn header(&self) -> Header {
        self.header
    }

    fn record(&mut self) -> Result<Record, Error> {
        let nth = self.read + 1;
        let damaged = |what: &str| Error::Damaged(format!("record {nth} {what}"));
        let head = read(&mut self.input, &mut self.hasher, RECORD_HEAD_BYTES)?;
        let [key_bytes, value_bytes, ..] =
            numbers32(&head).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if key_bytes > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
            return Err(damaged("is larger than any can be"));
        }
        let key = read(&mut self.input, &mut self.hasher, key_bytes)?;
        let value = read(&mut self.input, &mut self.hasher, value_bytes)?;
        let crc = read(&mut self.input, &mut self.hasher, CRC_BYTES)?;
        if crc32(&[&head, &key, &value]) != numbers32(&crc)[0] {
            return Err(damaged("fails its checksum"));
        }
        let revision = u64::from_be_bytes(head[8..].try_into().expect("8 bytes"));
        let record = Record { key: key.into(), value: value.into(), revision: Revision(revision) };
        if record.revision > self.header.revision {
            return Err(damaged("is newer than the snapshot"));
        }
        if self.last_key.as_ref().is_some_and(|last| *last >= record.key) {
            return Err(damaged("is out of order"));
        }
        self.last_key = Some(record.key.clone());
        self.read = nth;
        Ok(record)
    }

    fn end(&mut self) -> Result<(), Error> {
        let expected = self.hasher.clone().finalize();
        let found = read(&mut self.input, &mut self.hasher, SHA_BYTES)?;
        if found[..] != expected[..] {
            return Err(Error::Damaged("it fails its checksum".to_owned()));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::Damaged("something follows its end".to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.read < self.header.records {
            let record = self.record();
            self.ended = record.is_err();
            return Some(record);
        }
        self.ended = true;
        self.end().err().map(Err)
    }
}

/// Reads the next bytes. The end of the file is an error.
fn read(input: &mut impl Read, hasher: &mut Sha256, count: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; count];
    match input.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::Damaged("its end is missing".to_owned()))
        }
        Err(error) => Err(error.into()),
        Ok(()) => {
            hasher.update(&bytes);
            Ok(bytes)
        }
    }
}

/// The first two 32-bit numbers, if there are enough bytes.
fn numbers32(bytes: &[u8]) -> [u32; 2] {
    let number = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    [0, 4].map(|at| number(at).map_or(0, u32::from_be_bytes))
}

fn crc32(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: impl Into<Bytes>, revision: u64) -> Record {
        let key = Bytes::copy_from_slice(key.as_bytes());
        Record { key, value: value.into(), revision: Revision(revision) }
    }

    fn created() -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_123).unwrap()
    }

    fn file(records: &[Record], revision: u64) -> Vec<u8> {
        encode(records.to_vec(), Revision(revision), created()).collect::<Vec<_>>().concat()
    }

    fn decode(bytes: &[u8]) -> Result<(Header, Vec<Record>), Error> {
        let reader = Reader::open(bytes)?;
        let header = reader.header();
        Ok((header, reader.collect::<Result<_, _>>()?))
    }

    fn small() -> Vec<Record> {
        vec![record("", "", 1), record("a", "one", 7), record("b/1", vec![0; 40], 3)]
    }

    #[test]
    fn what_is_written_is_read() {
        let many = (0..3000).map(|i| record(&format!("{i:05}"), vec![7; i % 300], 9)).collect();
        let large = vec![record("large", vec![1; VALUE_BYTES_MAX], 9), record("z", "", 2)];
        for records in [Vec::new(), small(), many, large] {
            let bytes = file(&records, 9);
            let count = u64::try_from(records.len()).unwrap();
            let expected = Header { revision: Revision(9), records: count, created: created() };
            assert_eq!(decode(&bytes).unwrap(), (expected, records));
        }
        let blocks = encode(vec![record("a", vec![0; 100_000], 1); 20], Revision(1), created());
        assert!(blocks.map(|block| block.len()).max() < Some(300_000), "blocks are small");
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let bytes = file(&small(), 7);
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut altered = bytes.clone();
                altered[at] ^= mask;
                assert!(decode(&altered).is_err(), "byte {at} changed by {mask}");
            }
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(decode(&longer), Err(Error::Damaged(_))));
    }

    #[test]
    fn what_no_store_writes_is_refused() {
        let cases = [
            (file(&[record("a", "", 8)], 7), "newer"),
            (file(&[record("b", "", 1), record("a", "", 1)], 7), "out of order"),
            (file(&[record("a", "", 1), record("a", "", 1)], 7), "out of order"),
            (file(&[record(&"k".repeat(KEY_BYTES_MAX + 1), "", 1)], 7), "larger"),
            (b"snow".to_vec(), "not a snapshot"),
            (b"{\"kind\": \"List\"}".to_vec(), "not a snapshot"),
            ([&MAGIC[..], &[0; 40]].concat(), "format 0"),
        ];
        for (bytes, expected) in cases {
            let error = decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
