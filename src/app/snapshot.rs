//! Snapshot files: checks whether a file is complete, and creates a store from it.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use anyhow::{Context, bail};

use crate::{
    config::Store as StoreChoice,
    store::{
        Etcd, Record, Revision, Sled,
        snapshot::{Error, Reader},
    },
};

pub use crate::store::snapshot::Header;

/// Clients may know revisions that the old cluster gave to writes after the snapshot. A restored cluster skips this
/// many revisions, so that it uses none of them again, and a watch from before the restore gets 410. That is more
/// than a cluster can write in a day. The etcd guide for restores recommends the same number.
const REVISIONS_SKIPPED: u64 = 1_000_000_000;

/// Reads a snapshot to its end and checks it.
pub fn check(input: impl Read) -> Result<Header, Error> {
    let mut reader = Reader::open(BufReader::new(input))?;
    let header = reader.header();
    reader.try_for_each(|record| record.map(drop))?;
    Ok(header)
}

/// Creates a store with the records of a snapshot file (`-`: standard input). It writes nothing until it has checked
/// the whole file.
pub async fn restore(file: &Path, store: StoreChoice, data_dir: &Path) -> anyhow::Result<Header> {
    let (file, directory) = (file.to_owned(), data_dir.to_owned());
    if store == StoreChoice::Sled {
        require_empty(data_dir)?;
    }
    let (header, records) = tokio::task::spawn_blocking(move || {
        read(&file).with_context(|| format!("cannot use the snapshot {}", file.display()))
    })
    .await??;
    let revision = header.revision.0.checked_add(REVISIONS_SKIPPED).map(Revision);
    let revision = revision.context("there are no revisions left")?;
    match store {
        StoreChoice::Memory => bail!("a store in memory keeps nothing: restore into another one"),
        StoreChoice::Sled => {
            tokio::task::spawn_blocking(move || Sled::restore(&directory, records, revision))
                .await??;
        }
        StoreChoice::Etcd(etcd) => {
            Etcd::restore(*etcd, records, revision).await?;
        }
    }
    Ok(header)
}

fn read(file: &Path) -> anyhow::Result<(Header, Vec<Record>)> {
    let input: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let reader = Reader::open(BufReader::new(input))?;
    let header = reader.header();
    Ok((header, reader.collect::<Result<_, _>>()?))
}

fn require_empty(directory: &Path) -> anyhow::Result<()> {
    let name = directory.display();
    match fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!(
            "{name} is not empty: restore into a new directory with --data-dir DIR, or move this one away first"
        ),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot look into {name}"))
        }
        _ => Ok(()),
    }
}
