//! Commits: one transaction each, and what must be stored before it when a value is too large for one request.
//!
//! A large value goes first, in chunks under a lease that would remove them if this process died. The transaction
//! then takes the chunks out of the lease, which writes them again: watches get them with the commit that they
//! belong to. Chunks of values that a commit replaces are deleted with it; that there are some, the transaction
//! itself finds out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::store::{
    Error, Expect, Revision, Write,
    etcd::{
        core::Core,
        epochs::Epochs,
        explain,
        layout::{self, CHUNK_BYTES, REFERENCE, Reference, Stored},
        lease,
        owner::Tenure,
        proto::{
            Compare, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
            LeaseRevokeResponse, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
            path,
        },
    },
};

/// Values of one transaction in all. With keys and the rest it stays below the 1.5 MiB that etcd takes in one request.
const VALUES_BYTES_MAX: usize = 1024 * 1024;
/// Smaller values stay where they are: chunks are for what is large.
const CHUNKED_BYTES_MIN: usize = 4 * 1024;
/// How long chunks outlive a process that died before its commit; far above the time that a commit takes.
const LEASE_SECONDS: i64 = 60;
/// One try finds that our lease had run out, one what chunks are replaced, the next replaces them.
const ATTEMPTS_MAX: u32 = 4;

/// Makes all writes, which are valid, or none.
pub(super) async fn commit(core: &Core, writes: &[Write]) -> Result<Revision, Error> {
    let large = large(writes);
    if large.is_empty() {
        return apply(core, writes, &BTreeMap::new()).await;
    }
    let granted: LeaseGrantResponse = core
        .call(path::LEASE_GRANT, LeaseGrantRequest { ttl: LEASE_SECONDS })
        .await
        .map_err(|failure| explain::reading(&core.options, failure))?;
    let staged = stage(core, writes, &large, granted.id).await;
    let result = match staged {
        Ok(references) => apply(core, writes, &references).await,
        Err(error) => Err(error),
    };
    if result.is_err() {
        // Without it the chunks go when the lease ends.
        let request = LeaseRevokeRequest { id: granted.id };
        let revoked: Result<LeaseRevokeResponse, _> = core.call(path::LEASE_REVOKE, request).await;
        if let Err(failure) = revoked {
            tracing::debug!(?failure, "the lease of unused chunks ends by itself");
        }
    }
    result
}

/// The values to store in chunks, by their place: the largest, until the rest fits into one transaction.
fn large(writes: &[Write]) -> BTreeSet<usize> {
    let mut sizes: Vec<(usize, usize)> = writes
        .iter()
        .enumerate()
        .map(|(place, write)| (write.value.as_ref().map_or(0, Bytes::len), place))
        .collect();
    let mut total: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
    sizes.sort_unstable();
    let mut large = BTreeSet::new();
    while total > VALUES_BYTES_MAX
        && let Some((bytes, place)) = sizes.pop()
        && bytes >= CHUNKED_BYTES_MIN
    {
        total -= bytes;
        large.insert(place);
    }
    large
}

/// Stores values in chunks under a lease.
async fn stage(
    core: &Core,
    writes: &[Write],
    large: &BTreeSet<usize>,
    lease: i64,
) -> Result<BTreeMap<usize, Reference>, Error> {
    let mut references = BTreeMap::new();
    for place in large {
        let Some(value) = &writes[*place].value else { continue };
        let reference = Reference::to(value);
        for n in 0..reference.count() {
            let chunk = value.slice(n * CHUNK_BYTES..value.len().min((n + 1) * CHUNK_BYTES));
            let key = core.keys.chunk(&reference.chunks, n);
            let put = PutRequest { key, value: chunk, lease, ignore_value: false };
            store_chunk(core, RequestOp::put(put)).await?;
        }
        references.insert(*place, reference);
    }
    Ok(references)
}

async fn store_chunk(core: &Core, put: RequestOp) -> Result<(), Error> {
    for _attempt in 0..ATTEMPTS_MAX {
        let tenure = core.ownership.tenure()?;
        let request = TxnRequest {
            compare: vec![tenure.condition(&core.ownership)],
            success: vec![put.clone()],
            failure: Vec::new(),
        };
        let done = core.txn(request).await;
        let (done, _) = done.map_err(|failure| explain::reading(&core.options, failure))?;
        if done.succeeded {
            return Ok(());
        }
        lease::regain(core, tenure).await?;
    }
    Err(refused())
}

async fn apply(
    core: &Core,
    writes: &[Write],
    references: &BTreeMap<usize, Reference>,
) -> Result<Revision, Error> {
    let mut replaced = BTreeMap::new();
    for _attempt in 0..ATTEMPTS_MAX {
        // In this order: the tenure changes after the epochs.
        let tenure = core.ownership.tenure()?;
        let epochs = core.epochs();
        let request = transaction(core, tenure, &epochs, writes, references, &replaced);
        let (response, header) =
            core.txn(request).await.map_err(|failure| explain::writing(&core.options, failure))?;
        if response.succeeded {
            let revision = epochs.ours(header.revision);
            core.raise(revision);
            return Ok(revision);
        }
        if !tenure.holds(response.found(0)) {
            lease::regain(core, tenure).await?;
            continue;
        }
        examine(&epochs, writes, &response)?;
        let known = replaced.len();
        replaced = chunked(core, writes).await?;
        if replaced.len() <= known {
            break;
        }
    }
    Err(refused())
}

fn refused() -> Error {
    Error::Unavailable("etcd refuses a transaction whose conditions hold".to_owned())
}

/// The transaction. It happens only while we are the owner, so that its revision means what we think.
fn transaction(
    core: &Core,
    tenure: Tenure,
    epochs: &Epochs,
    writes: &[Write],
    references: &BTreeMap<usize, Reference>,
    replaced: &BTreeMap<usize, Option<Reference>>,
) -> TxnRequest {
    let mut txn = TxnRequest {
        compare: vec![tenure.condition(&core.ownership)],
        success: Vec::new(),
        failure: vec![Tenure::look(&core.ownership)],
    };
    for reference in replaced.values().flatten() {
        let (key, end) = core.keys.chunks(&reference.chunks);
        txn.success.push(RequestOp::delete(key, end));
    }
    for reference in references.values() {
        for n in 0..reference.count() {
            let key = core.keys.chunk(&reference.chunks, n);
            let keep = PutRequest { key, ignore_value: true, ..PutRequest::default() };
            txn.success.push(RequestOp::put(keep));
        }
    }
    for (place, write) in writes.iter().enumerate() {
        let key = core.keys.data(&write.key);
        match write.expect {
            Expect::Absent => txn.compare.push(Compare::absent(key.clone(), Bytes::new())),
            Expect::At(revision) => {
                // No write has the last revision that there can be.
                let revision = epochs.etcd(revision).unwrap_or(i64::MAX);
                txn.compare.push(Compare::written_at(key.clone(), revision));
                if !replaced.contains_key(&place) {
                    txn.compare.push(Compare::value_below(key.clone(), REFERENCE));
                }
            }
        }
        let look = RangeRequest { key: key.clone(), keys_only: true, ..RangeRequest::default() };
        txn.failure.push(RequestOp::range(look));
        let value = match references.get(&place) {
            Some(reference) => Some(reference.encode()),
            None => write.value.as_ref().map(layout::encode),
        };
        txn.success.push(match value {
            Some(value) => RequestOp::put(PutRequest { key, value, ..PutRequest::default() }),
            None => RequestOp::delete(key, Bytes::new()),
        });
    }
    txn
}

/// Why a transaction of the owner did not happen, unless all that it expects is so.
fn examine(epochs: &Epochs, writes: &[Write], response: &TxnResponse) -> Result<(), Error> {
    for (place, write) in writes.iter().enumerate() {
        let at = response.found(place + 1).map(|found| found.mod_revision);
        let holds = match write.expect {
            Expect::Absent => at.is_none(),
            Expect::At(revision) => at.is_some() && at == epochs.etcd(revision),
        };
        if !holds {
            let found = at.map(|revision| epochs.ours(revision));
            return Err(Error::Conflict { key: write.key.clone(), found });
        }
    }
    Ok(())
}

/// The references to chunks among the values that are to be replaced, by their place; `None` for one that nobody can
/// read.
async fn chunked(
    core: &Core,
    writes: &[Write],
) -> Result<BTreeMap<usize, Option<Reference>>, Error> {
    let mut references = BTreeMap::new();
    for (place, write) in writes.iter().enumerate() {
        if write.expect == Expect::Absent {
            continue;
        }
        let request = RangeRequest { key: core.keys.data(&write.key), ..RangeRequest::default() };
        let found = core.range(request).await;
        let found = found.map_err(|failure| explain::reading(&core.options, failure))?;
        let Some(kv) = found.kvs.into_iter().next() else { continue };
        match layout::decode(&write.key, kv.value) {
            Ok(Stored::Value(_)) => {}
            Ok(Stored::Chunked(reference)) => {
                references.insert(place, Some(reference));
            }
            Err(_damaged) => {
                references.insert(place, None);
            }
        }
    }
    Ok(references)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_values_are_chunked_until_the_rest_fits() {
        let write = |bytes: usize| Write {
            key: Bytes::new(),
            expect: Expect::Absent,
            value: (bytes > 0).then(|| vec![0; bytes].into()),
        };
        let mib = 1024 * 1024;
        let cases: [(&[usize], &[usize]); 6] = [
            (&[], &[]),
            (&[0, mib], &[]),
            (&[mib + 1], &[0]),
            (&[10, mib], &[1]),
            (&[mib, 2 * mib, mib], &[1, 2]),
            (&[mib / 2, mib / 2 - 10, 11], &[0]),
        ];
        for (sizes, expected) in cases {
            let writes: Vec<_> = sizes.iter().map(|bytes| write(*bytes)).collect();
            assert!(large(&writes).iter().eq(expected), "{sizes:?}: {:?}", large(&writes));
        }
        let many: Vec<_> = (0..2000).map(|_| write(1000)).collect();
        assert!(large(&many).is_empty(), "small values are no help");
    }
}
