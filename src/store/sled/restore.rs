//! Making a store out of the records of a snapshot.

use std::{fs::File, path::Path};

use crate::store::{
    Change, Error, Record, Revision,
    index::{Garbage, Image},
    sled::{directory::Directory, generation::Generation, high_water::HighWater},
};

/// The number of a new store's database.
const FIRST: u64 = 1;

/// Fills a directory without a store. The mark comes first and `CURRENT` last: as long as the latter is missing
/// beside a mark above zero, nobody takes the directory for a store, not even for an empty one.
pub(super) fn restore(dir: &Path, records: Vec<Record>, revision: Revision) -> Result<(), Error> {
    let settled = settled(records)?;
    let directory = Directory::lock(dir)?;
    let path = directory.high_water();
    if directory.current()?.is_some() || path.exists() || !directory.generations()?.is_empty() {
        return Err(Error::NotEmpty(directory.dir.clone()));
    }
    HighWater::create_at(&path, revision)
        .and_then(|_mark| File::open(&directory.root)?.sync_all())
        .map_err(|error| directory.failure("creating", &path, error))?;
    let image =
        Image { compacted: revision, settled, history: Vec::new(), garbage: Garbage::default() };
    Generation::create(&directory.root, &directory.dir, FIRST, &image)?;
    directory.prepare_current(FIRST)?;
    directory.switch_current()
}

/// Gives each record a place among those of its revision.
fn settled(mut records: Vec<Record>) -> Result<Vec<(Change, u16)>, Error> {
    records.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    let mut settled: Vec<(Change, u16)> = Vec::with_capacity(records.len());
    for Record { key, value, revision } in records {
        let place = match settled.last() {
            // On disk stands the count of places too, in as many bits.
            Some((last, place)) if last.revision == revision && place + 1 == u16::MAX => {
                return Err(Error::Invalid(format!("too many records of revision {revision}")));
            }
            Some((last, place)) if last.revision == revision => place + 1,
            _ => 0,
        };
        settled.push((Change { revision, key, value: Some(value) }, place));
    }
    Ok(settled)
}
