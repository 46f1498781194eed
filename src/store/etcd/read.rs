//! Reads of current and past revisions.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::store::{
    Error, Record, Revision,
    etcd::{
        core::Core,
        explain,
        failure::{self, Failure},
        layout::{self, Place, Reference, Stored},
        proto::{KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest},
    },
};

/// The number of keys in a page of a list: of the first page, and the limit. A page that is too large for a message
/// is requested again with half as many keys.
const PAGE_FIRST: i64 = 256;
const PAGE_MAX: i64 = 1024;
/// How often a read starts again because its revision was compacted meanwhile.
const ATTEMPTS_MAX: u32 = 3;
/// How long to wait for the answer to a watch. etcd says within 100 ms that a watch starts too early.
const OLDEST_MAX: Duration = Duration::from_secs(2);

/// The value of a key.
pub(super) async fn get(
    core: &Core,
    key: &[u8],
    at: Option<Revision>,
) -> Result<Option<Record>, Error> {
    let asked = revision(core, at).await?;
    for _attempt in 1..ATTEMPTS_MAX {
        match get_once(core, key, asked).await {
            Err(Problem::Compacted) if at.is_none() => {}
            other => return settle(core, other).await,
        }
    }
    let last = get_once(core, key, asked).await;
    settle(core, last).await
}

async fn get_once(core: &Core, key: &[u8], asked: i64) -> Result<Option<Record>, Problem> {
    let request = RangeRequest { key: core.keys.data(key), revision: asked, ..Default::default() };
    let answer = core.range(request).await?;
    let revision = if asked == 0 { header_revision(&answer) } else { asked };
    match answer.kvs.into_iter().next() {
        Some(kv) => record(core, kv, revision).await.map(Some),
        None => Ok(None),
    }
}

/// All records with a prefix, in key order. The pages are read at one revision.
pub(super) async fn list(
    core: &Core,
    prefix: &[u8],
    at: Option<Revision>,
) -> Result<(Vec<Record>, Revision), Error> {
    let asked = revision(core, at).await?;
    for _attempt in 1..ATTEMPTS_MAX {
        match list_once(core, prefix, asked).await {
            Err(Problem::Compacted) if at.is_none() => {}
            other => return settle(core, other).await,
        }
    }
    let last = list_once(core, prefix, asked).await;
    settle(core, last).await
}

async fn list_once(
    core: &Core,
    prefix: &[u8],
    asked: i64,
) -> Result<(Vec<Record>, Revision), Problem> {
    let (mut key, range_end) = layout::range(core.keys.data(prefix));
    let (mut revision, mut limit) = (asked, PAGE_FIRST);
    let mut records = Vec::new();
    loop {
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit,
            revision,
            keys_only: false,
        };
        let page = match core.range(request).await {
            Err(failure) if failure::is_too_large(&failure) && limit > 1 => {
                limit /= 2;
                continue;
            }
            other => other?,
        };
        limit = (limit * 2).min(PAGE_MAX);
        if revision == 0 {
            revision = header_revision(&page);
        }
        let more = page.more;
        if let Some(last) = page.kvs.last() {
            key = [&last.key[..], b"\0"].concat().into();
        }
        for kv in page.kvs {
            records.push(record(core, kv, revision).await?);
        }
        if !more {
            break;
        }
    }
    let listed = core.epochs().ours(revision);
    core.raise(listed);
    Ok((records, listed))
}

/// etcd's revision for a revision to read. Zero means the current one.
async fn revision(core: &Core, at: Option<Revision>) -> Result<i64, Error> {
    let Some(at) = at else { return Ok(0) };
    match core.epochs().etcd(at) {
        Some(revision) => Ok(revision),
        None => Err(Error::Compacted { oldest: oldest(core).await? }),
    }
}

/// Checks that history from a revision of etcd on exists. This holds for future revisions too.
pub(super) async fn check_kept(core: &Core, revision: i64) -> Result<(), Error> {
    let request = RangeRequest { key: core.keys.meta(), revision, ..Default::default() };
    match core.range(request).await {
        Err(failure) if failure::is_future(&failure) => Ok(()),
        Err(failure) => settle(core, Err(failure.into())).await,
        Ok(_) => Ok(()),
    }
}

async fn record(core: &Core, kv: KeyValue, revision: i64) -> Result<Record, Problem> {
    let written = core.epochs().ours(kv.mod_revision);
    let key = match core.keys.place(&kv.key) {
        Place::Data(key) => Bytes::copy_from_slice(key),
        _ => return Err(Error::Damaged("etcd answered with another key".to_owned()).into()),
    };
    let stored = kv.value.clone();
    let value = match layout::decode(&key, kv.value) {
        Ok(Stored::Value(value)) => Ok(value),
        Ok(Stored::Chunked(reference)) => assemble(core, &key, &reference, revision).await,
        Err(error) => Err(error.into()),
    };
    let value = match value {
        Err(Problem::Content(error)) => layout::stand_in(&key, &stored, &error),
        other => other?,
    };
    Ok(Record { key, value, revision: written })
}

async fn assemble(
    core: &Core,
    key: &[u8],
    reference: &Reference,
    revision: i64,
) -> Result<Bytes, Problem> {
    let (first, range_end) = core.keys.chunks(&reference.chunks);
    let request = RangeRequest { key: first, range_end, revision, ..Default::default() };
    let chunks: Vec<_> = core.range(request).await?.kvs.into_iter().map(|kv| kv.value).collect();
    Ok(reference.assemble(key, &chunks)?)
}

fn header_revision(answer: &RangeResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// The reason of a failed read, before the oldest revision is known.
enum Problem {
    Compacted,
    Future,
    Other(Failure),
    Content(Error),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        if failure::is_compacted(&failure) {
            Self::Compacted
        } else if failure::is_future(&failure) {
            Self::Future
        } else {
            Self::Other(failure)
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

async fn settle<T>(core: &Core, result: Result<T, Problem>) -> Result<T, Error> {
    Err(match result {
        Ok(value) => return Ok(value),
        Err(Problem::Compacted) => Error::Compacted { oldest: oldest(core).await? },
        Err(Problem::Future) => Error::Future { current: core.current() },
        Err(Problem::Other(failure)) => explain::reading(&core.options, failure),
        Err(Problem::Content(error)) => error,
    })
}

/// The oldest revision that can be read. etcd returns it when a watch starts too early.
async fn oldest(core: &Core) -> Result<Revision, Error> {
    let failed = |failure| explain::reading(&core.options, failure);
    let create = WatchCreateRequest {
        key: core.keys.meta(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let connection = core.connection().map_err(failed)?;
    let look = async {
        let mut answers = connection.watch(WatchRequest { create: Some(create) }).await?;
        while let Ok(Some(answer)) = answers.message().await {
            if answer.compact_revision > 0 {
                return Ok(answer.compact_revision);
            }
            // This is the first event of the key, so nothing was compacted.
            if !answer.events.is_empty() {
                break;
            }
        }
        Ok(0)
    };
    let compacted = match timeout(OLDEST_MAX, look).await {
        Ok(found) => found.map_err(failed)?,
        Err(_elapsed) => 0,
    };
    let epochs = core.epochs();
    Ok(epochs.ours(compacted).max(epochs.oldest()))
}
