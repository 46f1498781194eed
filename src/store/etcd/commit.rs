//! Commits. Each is one transaction. If a value is too large for one request, parts of it are stored before.
//!
//! A large value is stored first, in chunks under a lease, so that etcd removes them if this process dies. The
//! transaction then writes the chunks again without the lease, so that watches receive them together with their
//! commit. The chunks of replaced values are deleted in the same transaction. The transaction itself detects whether
//! there are any.

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
        owner::Term,
        proto::{
            Compare, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
            LeaseRevokeResponse, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
            path,
        },
    },
};

/// The limit of all values of a transaction in bytes. With keys and overhead it stays below 1.5 MiB, etcd's limit for
/// a request.
const VALUES_BYTES_MAX: usize = 1024 * 1024;
/// Smaller values are not split into chunks.
const CHUNKED_BYTES_MIN: usize = 4 * 1024;
/// How long chunks exist after their process died before the commit. A commit takes far less time.
const LEASE_SECONDS: i64 = 60;
/// The first attempt may find that the lease has expired, the second one which chunks are replaced. The third one
/// replaces them.
const ATTEMPTS_MAX: u32 = 4;

/// Makes all writes or none. The writes are valid.
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
        // If this fails, the chunks are removed when the lease expires.
        let request = LeaseRevokeRequest { id: granted.id };
        let revoked: Result<LeaseRevokeResponse, _> = core.call(path::LEASE_REVOKE, request).await;
        if let Err(failure) = revoked {
            tracing::debug!(?failure, "the lease of unused chunks ends by itself");
        }
    }
    result
}

/// The indexes of the values to store in chunks: the largest ones, until the rest fits into one transaction.
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
        let term = core.ownership.term()?;
        let request = TxnRequest {
            compare: vec![term.condition(&core.ownership)],
            success: vec![put.clone()],
            failure: Vec::new(),
        };
        let done = core.txn(request).await;
        let (done, _) = done.map_err(|failure| explain::reading(&core.options, failure))?;
        if done.succeeded {
            return Ok(());
        }
        lease::regain(core, term).await?;
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
        // Read the epochs first: a change of the epochs is followed by a change of the term.
        let term = core.ownership.term()?;
        let epochs = core.epochs();
        let request = transaction(core, term, &epochs, writes, references, &replaced);
        let (response, header) =
            core.txn(request).await.map_err(|failure| explain::writing(&core.options, failure))?;
        if response.succeeded {
            let revision = epochs.ours(header.revision);
            core.raise(revision);
            return Ok(revision);
        }
        if !term.holds(response.found(0)) {
            lease::regain(core, term).await?;
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

/// The transaction of a commit. It succeeds only while this process is the owner, because only then the epochs are
/// valid.
fn transaction(
    core: &Core,
    term: Term,
    epochs: &Epochs,
    writes: &[Write],
    references: &BTreeMap<usize, Reference>,
    replaced: &BTreeMap<usize, Option<Reference>>,
) -> TxnRequest {
    let mut txn = TxnRequest {
        compare: vec![term.condition(&core.ownership)],
        success: Vec::new(),
        failure: vec![Term::look(&core.ownership)],
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
                // No write has the largest revision.
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

/// Returns why a transaction of the owner failed; `Ok` if all expectations of the writes hold.
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

/// The references to chunks among the values that will be replaced, by index; `None` for a reference that cannot be
/// decoded.
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
