//! A commit as its writer announces it, in a line of text, and the values that it writes.

use std::{fmt::Write as _, ops::Range};

use bytes::Bytes;

use crate::store::{Change, Revision, Write, sled::tests::write};

/// One write of a commit.
#[derive(Clone, Debug)]
pub(super) struct KeyWrite {
    pub(super) key: String,
    /// The revision that is replaced; `None` if the key does not exist.
    pub(super) at: Option<u64>,
    /// The bytes of the new value; `None` for a deletion.
    pub(super) size: Option<usize>,
}

/// A commit, identified by a unique number.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) parts: Vec<KeyWrite>,
}

/// The bytes of a value that identify the attempt and the index of the write.
const ID: Range<usize> = 0..8;
const HEAD_BYTES: usize = 16;

impl Attempt {
    /// `try ID KEY AT SIZE KEY AT SIZE ...`, with `-` for none.
    pub(super) fn line(&self) -> String {
        let mut line = format!("try {}", self.id);
        for KeyWrite { key, at, size } in &self.parts {
            let number = |n: Option<String>| n.unwrap_or_else(|| "-".to_owned());
            let at = number(at.map(|n| n.to_string()));
            let size = number(size.map(|n| n.to_string()));
            write!(line, " {key} {at} {size}").unwrap();
        }
        line
    }

    /// Parses the words after `try`.
    pub(super) fn parse(words: &[&str]) -> Self {
        let parts = words[1..].chunks_exact(3).map(|part| KeyWrite {
            key: part[0].to_owned(),
            at: part[1].parse().ok(),
            size: part[2].parse().ok(),
        });
        Self { id: words[0].parse().unwrap(), parts: parts.collect() }
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        let write = |(place, KeyWrite { key, at, size }): (usize, &KeyWrite)| {
            let value = size.map(|size| value(self.id, place, size));
            write(key, at.map(Revision), value)
        };
        self.parts.iter().enumerate().map(write).collect()
    }

    /// Whether a commit in the store is this one, complete.
    pub(super) fn made(&self, commit: &[Change]) -> bool {
        let writes = self.writes();
        let same = |(change, write): (&Change, &Write)| {
            change.key == write.key && change.value == write.value
        };
        commit.len() == writes.len() && commit.iter().zip(&writes).all(same)
    }
}

/// The attempt that wrote a value.
pub(super) fn id_of(value: &Bytes) -> u64 {
    u64::from_be_bytes(value[ID].try_into().unwrap())
}

/// The value of one write. No two blocks of any values are equal.
pub(super) fn value(id: u64, place: usize, size: usize) -> Vec<u8> {
    let place = u64::try_from(place).unwrap();
    let mut value = Vec::with_capacity(size + 8);
    value.extend(id.to_be_bytes());
    value.extend(place.to_be_bytes());
    assert!(size >= HEAD_BYTES);
    let mut block = (id << 8 | place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while value.len() < size {
        value.extend(block.to_be_bytes());
        block = block.wrapping_add(0x2545_f491_4f6c_dd1d);
    }
    value.truncate(size);
    value
}
