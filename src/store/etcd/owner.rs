//! Ensures that only one process writes, by a lease in etcd.
//!
//! The key `owner` names the process that may write. It is attached to a lease of that process, so etcd removes it
//! when the lease is not renewed. Every transaction has the condition that the key is unchanged. So a process that
//! was suspended or disconnected, and that another one has replaced meanwhile, can write nothing any more. A process
//! that changes the epochs writes the key again, so that this condition protects against outdated epochs too. `lease`
//! keeps the ownership.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::store::{
    Error,
    etcd::{
        connection::{CONNECT_MAX, Connection},
        explain::AccessError,
        failure::{self, Failure},
        options::Options,
        process::Process,
        proto::{
            Compare, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest, LeaseResponse,
            LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, RangeRequest, RequestOp,
            TxnRequest, path,
        },
    },
};

/// How long the key of an owner exists after its last renewal.
const LEASE_SECONDS: i64 = 6;
/// How often the remaining time of another owner's lease is read, to see whether it is renewed.
const LOOK: Duration = Duration::from_millis(400);
/// How long etcd may take to remove a key whose lease has expired.
const REMOVAL: Duration = Duration::from_secs(5);

/// A period of ownership, identified by the state of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    revision: i64,
    pub(super) lease: i64,
}

/// The ownership as this process knows it.
pub(super) struct Ownership {
    options: Options,
    /// The key `owner`.
    key: Bytes,
    me: Process,
    term: Mutex<Option<Term>>,
    /// The lock of the task that takes the ownership again, because one attempt is enough for all tasks that need it.
    pub(super) taking: tokio::sync::Mutex<()>,
    stopped: watch::Sender<Option<Error>>,
}

impl Ownership {
    pub(super) fn new(options: Options, key: Bytes) -> Self {
        Self {
            options,
            key,
            me: Process::this(),
            term: Mutex::new(None),
            taking: tokio::sync::Mutex::new(()),
            stopped: watch::Sender::new(None),
        }
    }

    /// The current term. An error if this process is not the owner.
    pub(super) fn term(&self) -> Result<Term, Error> {
        self.check()?;
        let none = || Error::Unavailable("this process does not own the store yet".to_owned());
        self.term.lock().ok_or_else(none)
    }

    /// Why this process will not write any more.
    pub(super) fn stopped(&self) -> watch::Receiver<Option<Error>> {
        self.stopped.subscribe()
    }

    /// Begins a term; writes are made in it from now on. The epochs must be read before.
    pub(super) fn begin(&self, term: Term) {
        *self.term.lock() = Some(term);
    }

    /// Ends the term; nothing is written from now on. Returns the term.
    pub(super) fn end(&self) -> Option<Term> {
        self.stopped.send_replace(Some(Error::Closed));
        self.term.lock().take()
    }

    fn put(&self, lease: i64) -> PutRequest {
        let value = serde_json::to_vec(&self.me).expect("it is text and numbers").into();
        PutRequest { key: self.key.clone(), value, lease, ignore_value: false }
    }

    fn check(&self) -> Result<(), Error> {
        self.stopped.borrow().clone().map_or(Ok(()), Err)
    }

    /// Stops all writes for good, because another process has become the owner.
    fn give_up(&self, other: &str) -> Error {
        let options = &self.options;
        let error = Error::Stopped(format!(
            "{other} has taken over {options} while this process was paused or cut off; stop one of the two, and start \
             this one again if it is the one to stay"
        ));
        self.stopped.send_replace(Some(error.clone()));
        error
    }
}

impl Term {
    /// The condition that this process is the owner.
    pub(super) fn condition(self, ownership: &Ownership) -> Compare {
        Compare::written_at(ownership.key.clone(), self.revision)
    }

    /// The operation that reads the key in a transaction whose conditions failed.
    pub(super) fn look(ownership: &Ownership) -> RequestOp {
        RequestOp::range(RangeRequest { key: ownership.key.clone(), ..RangeRequest::default() })
    }

    /// The operation that writes the key again with the same value.
    pub(super) fn again(self, ownership: &Ownership) -> RequestOp {
        RequestOp::put(ownership.put(self.lease))
    }

    /// The term after the key was written again.
    pub(super) fn since(self, revision: i64) -> Self {
        Self { revision, ..self }
    }

    /// Whether the key belongs to this term.
    pub(super) fn holds(self, found: Option<&KeyValue>) -> bool {
        found.is_some_and(|key| key.mod_revision == self.revision)
    }
}

/// Becomes the owner. At the start of a process, this waits until the lease of an earlier owner has expired, and
/// fails if that lease is renewed. After the start, another owner stops all writes.
pub(super) async fn own(
    ownership: &Ownership,
    connection: &Connection,
    start: bool,
) -> Result<Term, AccessError> {
    ownership.check()?;
    let mut waiting: Option<Waiting> = None;
    loop {
        let Some(found) = look(ownership, connection).await? else {
            let absent = Compare::absent(ownership.key.clone(), <_>::default());
            if let Some(term) = take(ownership, connection, absent).await? {
                return Ok(term);
            }
            continue;
        };
        let as_found = Compare::written_at(ownership.key.clone(), found.mod_revision);
        let owner: Option<Process> = serde_json::from_slice(&found.value).ok();
        match owner {
            Some(owner) if owner.id == ownership.me.id => {
                if let Some(term) = kept(ownership, connection, &found).await? {
                    return Ok(term);
                }
                if let Some(term) = take(ownership, connection, as_found).await? {
                    return Ok(term);
                }
            }
            Some(owner) if owner.has_ended() => {
                if let Some(term) = take(ownership, connection, as_found).await? {
                    tracing::warn!(store = %ownership.options, %owner, "the owner has ended without releasing the store; this process takes over");
                    revoke(ownership, connection, found.lease).await;
                    return Ok(term);
                }
            }
            owner => {
                let name = owner.map_or_else(|| "another process".to_owned(), |o| o.to_string());
                if !start {
                    return Err(ownership.give_up(&name).into());
                }
                let waiting = waiting.get_or_insert_with(|| Waiting::begin(ownership, &name));
                waiting.look(ownership, connection, &found, &name).await?;
            }
        }
    }
}

/// The state of a start that waits for the lease of another owner.
struct Waiting {
    since: Instant,
    /// The remaining time of the owner's lease. It increases only if the lease is renewed.
    left: Option<i64>,
}

impl Waiting {
    fn begin(ownership: &Ownership, name: &str) -> Self {
        tracing::info!(store = %ownership.options, owner = name, "the store has an owner; waiting to see whether it is alive");
        Self { since: Instant::now(), left: None }
    }

    async fn look(
        &mut self,
        ownership: &Ownership,
        connection: &Connection,
        found: &KeyValue,
        name: &str,
    ) -> Result<(), AccessError> {
        if found.lease == 0 {
            return Err(in_use(&ownership.options, name).into());
        }
        let request = LeaseRequest { id: found.lease };
        let call = connection.unary(&ownership.options, path::LEASE_TIME_TO_LIVE, request);
        let LeaseResponse { ttl } = within(call).await?;
        let seconds = u64::try_from(LEASE_SECONDS.max(ttl)).unwrap_or(0);
        let patience = Duration::from_secs(seconds).saturating_add(REMOVAL);
        let renewed = self.left.replace(ttl).is_some_and(|before| ttl > before);
        if renewed || self.since.elapsed() > patience {
            return Err(in_use(&ownership.options, name).into());
        }
        sleep(LOOK).await;
        Ok(())
    }
}

fn in_use(options: &Options, name: &str) -> Error {
    Error::Owned(format!(
        "{options} belongs to {name}: stop that process, or choose another prefix (--store {options}-2); several processes \
         cannot share one store"
    ))
}

async fn look(ownership: &Ownership, connection: &Connection) -> Result<Option<KeyValue>, Failure> {
    let request = TxnRequest { success: vec![Term::look(ownership)], ..TxnRequest::default() };
    Ok(connection.txn(&ownership.options, request).await?.found(0).cloned())
}

/// The current term, if the key is unchanged and its lease exists.
async fn kept(
    ownership: &Ownership,
    connection: &Connection,
    found: &KeyValue,
) -> Result<Option<Term>, Failure> {
    let known = ownership.term.lock().filter(|term| term.holds(Some(found)));
    let Some(term) = known else { return Ok(None) };
    Ok(renew(ownership, connection, term.lease).await?.then_some(term))
}

/// Writes the key if a condition holds.
async fn take(
    ownership: &Ownership,
    connection: &Connection,
    when: Compare,
) -> Result<Option<Term>, Failure> {
    let grant = LeaseGrantRequest { ttl: LEASE_SECONDS };
    let granted = within(connection.unary(&ownership.options, path::LEASE_GRANT, grant)).await?;
    let LeaseGrantResponse { id: lease } = granted;
    let request = TxnRequest {
        compare: vec![when],
        success: vec![RequestOp::put(ownership.put(lease))],
        failure: Vec::new(),
    };
    let done = connection.txn(&ownership.options, request).await?;
    if !done.succeeded {
        revoke(ownership, connection, lease).await;
        return Ok(None);
    }
    let revision = done.header.map_or(0, |header| header.revision);
    Ok(Some(Term { revision, lease }))
}

/// Renews a lease. Returns whether it still existed.
pub(super) async fn renew(
    ownership: &Ownership,
    connection: &Connection,
    lease: i64,
) -> Result<bool, Failure> {
    let request = || connection.first(path::LEASE_KEEP_ALIVE, LeaseRequest { id: lease });
    let answer: Result<LeaseResponse, _> = match within(request()).await {
        Err(Failure::Refused(status)) if failure::token_is_stale(&status) => {
            within(connection.renew(&ownership.options)).await?;
            within(request()).await
        }
        other => other,
    };
    Ok(answer?.ttl > 0)
}

/// Revokes a lease, which also removes the key.
pub(super) async fn revoke(ownership: &Ownership, connection: &Connection, lease: i64) {
    let request = LeaseRevokeRequest { id: lease };
    let call = connection.unary(&ownership.options, path::LEASE_REVOKE, request);
    let revoked: Result<LeaseRevokeResponse, _> = within(call).await;
    if let Err(failure) = revoked {
        tracing::debug!(?failure, "a lease ends by itself");
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(CONNECT_MAX, call).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Failure::Lost("no answer about a lease".to_owned())),
    }
}
