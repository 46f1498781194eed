//! Fills an empty prefix of etcd with the records of a snapshot.

use bytes::Bytes;

use crate::store::{
    Error, Expect, Record, Revision, Write,
    etcd::{
        commit,
        core::{Core, put},
        epochs::{self, Epochs},
        explain, lease,
        mark::Mark,
        options::Options,
        owner,
        proto::{Compare, RangeRequest, RequestOp, TxnRequest},
    },
};

/// The limit of records in a transaction. Together with the condition on `meta` they stay below etcd's default of 128
/// operations.
const BATCH_RECORDS_MAX: usize = 100;
/// The limit of bytes in a transaction. A single record may have more.
const BATCH_BYTES_MAX: usize = 768 * 1024;

/// Writes all records at revisions above `revision`, and returns the last revision. Refuses a prefix that is in use.
/// First removes the remains of an interrupted restore.
pub(super) async fn restore(
    options: Options,
    records: Vec<Record>,
    revision: Revision,
) -> Result<Revision, Error> {
    let unmarked = Options { mark: None, ..options.clone() };
    let core = Core::new(options, Mark::read(&unmarked).await?);
    core.use_connection(core.wait_for_etcd().await?);
    let restored = fill(&core, records, revision).await;
    lease::release(&core).await;
    restored
}

async fn fill(core: &Core, records: Vec<Record>, revision: Revision) -> Result<Revision, Error> {
    let begun = begin(core, revision).await?;
    let mut last = revision;
    for batch in batches(records) {
        last = commit::commit(core, &batch).await?;
    }
    let end = TxnRequest {
        compare: vec![
            core.ownership.term()?.condition(&core.ownership),
            Compare::written_at(core.keys.restoring(), begun),
        ],
        success: vec![RequestOp::delete(core.keys.restoring(), Bytes::new())],
        failure: Vec::new(),
    };
    let (ended, _) =
        core.txn(end).await.map_err(|failure| explain::writing(&core.options, failure))?;
    if !ended.succeeded {
        return Err(interfered(core));
    }
    Ok(last)
}

/// Begins a restore. Returns the revision of etcd at which it began.
async fn begin(core: &Core, revision: Revision) -> Result<i64, Error> {
    let failed = |failure| explain::writing(&core.options, failure);
    let get = |key| RequestOp::range(RangeRequest { key, ..RangeRequest::default() });
    let (restoring, owner) = (core.keys.restoring(), core.keys.owner());
    let look = TxnRequest {
        success: vec![get(core.keys.meta()), get(restoring.clone())],
        ..TxnRequest::default()
    };
    let (seen, _) = core.txn(look).await.map_err(failed)?;
    if seen.found(0).is_some() && seen.found(1).is_none() {
        return Err(Error::NotEmpty(core.options.to_string()));
    }
    let connection = core.connection().map_err(failed)?;
    let term = owner::own(&core.ownership, &connection, true).await;
    let term = term.map_err(|refusal| refusal.error(&core.options))?;
    let owned = term.condition(&core.ownership);
    let mut empty = vec![owned.clone()];
    if let Some(marker) = seen.found(1) {
        let marked = Compare::written_at(restoring.clone(), marker.mod_revision);
        // Keep the marker: until the restore is finished, everybody must see that it is not.
        let rest = core.keys.all_but(&[owner, restoring.clone()]);
        let clear = TxnRequest {
            compare: vec![owned, marked.clone()],
            success: rest.into_iter().map(|(key, end)| RequestOp::delete(key, end)).collect(),
            failure: Vec::new(),
        };
        let (cleared, _) = core.txn(clear).await.map_err(failed)?;
        if !cleared.succeeded {
            return Err(interfered(core));
        }
        empty.push(marked);
    } else {
        let others = core.keys.all_but(&[owner]);
        empty.extend(others.into_iter().map(|(first, end)| Compare::absent(first, end)));
    }
    let meta = epochs::first(revision);
    let take = TxnRequest {
        compare: empty,
        success: vec![put(core.keys.meta(), meta.clone()), put(restoring, Vec::new())],
        failure: Vec::new(),
    };
    let (taken, header) = core.txn(take).await.map_err(failed)?;
    if !taken.succeeded {
        return Err(Error::NotEmpty(core.options.to_string()));
    }
    core.set_epochs(Epochs::read(&meta, header.revision)?);
    core.ownership.begin(term);
    Ok(header.revision)
}

fn interfered(core: &Core) -> Error {
    Error::Unavailable(format!("somebody else has changed {} meanwhile", core.options))
}

fn batches(records: Vec<Record>) -> impl Iterator<Item = Vec<Write>> {
    let mut rest = records.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(Record { key, value, .. }) = rest.next_if(|record| {
            let size = record.key.len() + record.value.len();
            batch.is_empty() || (batch.len() < BATCH_RECORDS_MAX && bytes + size <= BATCH_BYTES_MAX)
        }) {
            bytes += key.len() + value.len();
            batch.push(Write { key, expect: Expect::Absent, value: Some(value) });
        }
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_complete() {
        let record = |bytes: usize| Record {
            key: Bytes::from_static(b"k"),
            value: vec![0; bytes].into(),
            revision: Revision(1),
        };
        let sizes = |records: Vec<Record>| batches(records).map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(sizes((0..250).map(|_| record(1)).collect()), [100, 100, 50]);
        let mib = 1024 * 1024;
        assert_eq!(sizes([1, 2 * mib, 1, mib / 2, mib / 2].map(record).into()), [1, 1, 2, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
