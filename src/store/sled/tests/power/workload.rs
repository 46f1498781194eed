//! The writes of the recorded process. Each writer has a script, so that its keys and values after any number of
//! commits are known.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::store::{Error, Revision, Store, sled::tests::write};

pub(super) const WRITERS: usize = 8;
const KEYS: usize = 6;
const BATCH_KEYS: usize = 4;
const SMALL_BYTES: usize = 3_000;
const MEDIUM_BYTES: usize = 60_000;
const LARGE_BYTES: usize = 1024 * 1024;

/// The number of commits of each writer.
pub(super) type Counts = [u32; WRITERS];

/// A writer after some of its commits. Writers have different keys.
pub(super) struct Writer {
    number: usize,
    count: u32,
    /// For each existing key, the commit that wrote it and the length of the value.
    keys: [Option<(u32, usize)>; KEYS],
}

impl Writer {
    /// The writer after this many commits.
    pub(super) fn after(number: usize, count: u32) -> Self {
        let mut writer = Self { number, count: 0, keys: [None; KEYS] };
        for _ in 0..count {
            writer.step();
        }
        writer
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The prefix of all its keys.
    pub(super) fn prefix(&self) -> String {
        format!("w/{}/", self.number)
    }

    /// All its keys, each with the commit that wrote it and the value.
    pub(super) fn expected(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let written = (0..KEYS).filter_map(|key| Some((key, self.keys[key]?)));
        written
            .map(|(key, (count, length))| (self.name(key), (count, self.value(key, count, length))))
            .collect()
    }

    /// Makes the next commit.
    pub(super) async fn commit(&mut self, store: &dyn Store) -> Result<Revision, Error> {
        let before = self.keys;
        let mut writes = Vec::new();
        for key in self.step() {
            let name = self.name(key);
            let at = match before[key] {
                Some(_) => store.get(name.as_bytes(), None).await?.map(|record| record.revision),
                None => None,
            };
            let value = self.keys[key].map(|(count, length)| self.value(key, count, length));
            writes.push(write(&name, at, value));
        }
        store.commit(writes).await
    }

    /// Takes the next step of the script. Returns the keys that it changes.
    fn step(&mut self) -> Vec<usize> {
        self.count += 1;
        let mut random = StdRng::seed_from_u64(self.identity(0, self.count));
        let mut keys: Vec<_> = (0..KEYS).collect();
        let changed =
            if random.random_ratio(1, 4) { random.random_range(2..=BATCH_KEYS) } else { 1 };
        while keys.len() > changed {
            keys.swap_remove(random.random_range(0..keys.len()));
        }
        for &key in &keys {
            let delete = self.keys[key].is_some() && random.random_ratio(1, 4);
            self.keys[key] = (!delete).then(|| {
                let longest = match random.random_range(0..40) {
                    0 => LARGE_BYTES,
                    1..6 => MEDIUM_BYTES,
                    _ => SMALL_BYTES,
                };
                (self.count, random.random_range(longest / 4..=longest))
            });
        }
        keys
    }

    fn name(&self, key: usize) -> String {
        format!("{}{key}", self.prefix())
    }

    /// A value in which every eight bytes identify the writer, the key, the commit and their index.
    fn value(&self, key: usize, count: u32, length: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(length + 8);
        let identity = self.identity(key, count);
        let mut place = 0_u64;
        while value.len() < length {
            value.extend((identity ^ (place << 20)).to_ne_bytes());
            place += 1;
        }
        value.truncate(length);
        value
    }

    fn identity(&self, key: usize, count: u32) -> u64 {
        let number = u64::try_from(self.number * KEYS + key).expect("a small number");
        (number << 56) | u64::from(count)
    }
}
