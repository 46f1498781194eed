//! Creates a store from the records of a snapshot.

use std::{fs::File, path::Path};

use crate::store::{
    Change, Error, Record, Revision,
    index::Image,
    sled::{directory::Directory, generation::Generation, high_water::HighWater},
};

/// The number of the generation of a new store.
const FIRST: u64 = 1;

/// Fills a directory without a store. The mark is written first and `CURRENT` last. Until `CURRENT` exists beside a
/// mark above zero, the directory is not accepted as a store, not even as an empty one.
pub(super) fn restore(dir: &Path, records: Vec<Record>, revision: Revision) -> Result<(), Error> {
    let directory = Directory::lock(dir)?;
    let path = directory.high_water();
    if directory.current()?.is_some() || path.exists() || !directory.generations()?.is_empty() {
        return Err(Error::NotEmpty(directory.dir.clone()));
    }
    HighWater::create_at(&path, revision)
        .and_then(|_mark| File::open(&directory.root)?.sync_all())
        .map_err(|error| directory.failure("creating", &path, error))?;
    let settled = settled(records);
    let image = Image { compacted: revision, settled, history: Vec::new() };
    Generation::create(&directory.root, &directory.dir, FIRST, &image)?;
    directory.prepare_current(FIRST)?;
    directory.switch_current()
}

/// The changes that give these records.
fn settled(mut records: Vec<Record>) -> Vec<Change> {
    records.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    let change = |Record { key, value, revision }| Change { revision, key, value: Some(value) };
    records.into_iter().map(change).collect()
}
