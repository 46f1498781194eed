//! Who may write: one process at a time, by a lease in etcd.
//!
//! The key `owner` lies under a lease of the process that it names, and goes when that lease is not renewed. Every
//! transaction happens only while the key is as its writer has put it: a process that was paused or cut off, and whose
//! place another one has taken meanwhile, writes nothing any more, whatever it believes. Who changes what revisions mean
//! (see `epochs`) writes the key anew, so that this one condition is enough. `lease` keeps what is got here.

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

/// How long an owner that is not heard of keeps its place.
const LEASE_SECONDS: i64 = 6;
/// How often the lease of another owner is looked at, to see whether it is renewed.
const LOOK: Duration = Duration::from_millis(400);
/// etcd needs a moment to remove a key whose lease has run out.
const REMOVAL: Duration = Duration::from_secs(5);

/// Since when we are the owner: what our key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    revision: i64,
    pub(super) lease: i64,
}

/// What one process knows of its ownership.
pub(super) struct Ownership {
    options: Options,
    /// The key `owner`.
    key: Bytes,
    me: Process,
    tenure: Mutex<Option<Tenure>>,
    /// Held by who takes the ownership again: one attempt is enough for all who miss it.
    pub(super) taking: tokio::sync::Mutex<()>,
    stopped: watch::Sender<Option<Error>>,
}

impl Ownership {
    pub(super) fn new(options: Options, key: Bytes) -> Self {
        Self {
            options,
            key,
            me: Process::this(),
            tenure: Mutex::new(None),
            taking: tokio::sync::Mutex::new(()),
            stopped: watch::Sender::new(None),
        }
    }

    /// Our tenure, unless there is none.
    pub(super) fn tenure(&self) -> Result<Tenure, Error> {
        self.check()?;
        let none = || Error::Unavailable("this process does not own the store yet".to_owned());
        self.tenure.lock().ok_or_else(none)
    }

    /// Why nothing will be written any more.
    pub(super) fn stopped(&self) -> watch::Receiver<Option<Error>> {
        self.stopped.subscribe()
    }

    /// From now on writes are made in this tenure. What revisions mean must be known before.
    pub(super) fn begin(&self, tenure: Tenure) {
        *self.tenure.lock() = Some(tenure);
    }

    /// From now on nothing is written. Gives the tenure that ends by it.
    pub(super) fn end(&self) -> Option<Tenure> {
        self.stopped.send_replace(Some(Error::Closed));
        self.tenure.lock().take()
    }

    fn put(&self, lease: i64) -> PutRequest {
        let value = serde_json::to_vec(&self.me).expect("it is text and numbers").into();
        PutRequest { key: self.key.clone(), value, lease, ignore_value: false }
    }

    fn check(&self) -> Result<(), Error> {
        self.stopped.borrow().clone().map_or(Ok(()), Err)
    }

    /// Another process has our place, and keeps it.
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

impl Tenure {
    /// Holds as long as we are the owner.
    pub(super) fn condition(self, ownership: &Ownership) -> Compare {
        Compare::written_at(ownership.key.clone(), self.revision)
    }

    /// What a transaction whose conditions did not hold has to look for.
    pub(super) fn look(ownership: &Ownership) -> RequestOp {
        RequestOp::range(RangeRequest { key: ownership.key.clone(), ..RangeRequest::default() })
    }

    /// Writes the key anew, as it is.
    pub(super) fn again(self, ownership: &Ownership) -> RequestOp {
        RequestOp::put(ownership.put(self.lease))
    }

    /// The tenure after the key was written anew.
    pub(super) fn since(self, revision: i64) -> Self {
        Self { revision, ..self }
    }

    /// Whether the key that was found is ours.
    pub(super) fn holds(self, found: Option<&KeyValue>) -> bool {
        found.is_some_and(|key| key.mod_revision == self.revision)
    }
}

/// Becomes the owner. At the start of a process this waits for the lease of one that has ended, and refuses when it
/// is renewed; later, another owner ends all writing.
pub(super) async fn own(
    ownership: &Ownership,
    connection: &Connection,
    start: bool,
) -> Result<Tenure, AccessError> {
    ownership.check()?;
    let mut waiting: Option<Waiting> = None;
    loop {
        let Some(found) = look(ownership, connection).await? else {
            let absent = Compare::absent(ownership.key.clone(), <_>::default());
            if let Some(tenure) = take(ownership, connection, absent).await? {
                return Ok(tenure);
            }
            continue;
        };
        let as_found = Compare::written_at(ownership.key.clone(), found.mod_revision);
        let owner: Option<Process> = serde_json::from_slice(&found.value).ok();
        match owner {
            Some(owner) if owner.id == ownership.me.id => {
                if let Some(tenure) = kept(ownership, connection, &found).await? {
                    return Ok(tenure);
                }
                if let Some(tenure) = take(ownership, connection, as_found).await? {
                    return Ok(tenure);
                }
            }
            Some(owner) if owner.has_ended() => {
                if let Some(tenure) = take(ownership, connection, as_found).await? {
                    tracing::warn!(store = %ownership.options, %owner, "the owner has ended without giving up its place; it is taken over");
                    revoke(ownership, connection, found.lease).await;
                    return Ok(tenure);
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

/// A start that waits to see whether the owner lives.
struct Waiting {
    since: Instant,
    /// What the owner's lease still had; it rises only when it is renewed.
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
    let request = TxnRequest { success: vec![Tenure::look(ownership)], ..TxnRequest::default() };
    Ok(connection.txn(&ownership.options, request).await?.found(0).cloned())
}

/// Our tenure, if the key is the one that we know and its lease is still there.
async fn kept(
    ownership: &Ownership,
    connection: &Connection,
    found: &KeyValue,
) -> Result<Option<Tenure>, Failure> {
    let known = ownership.tenure.lock().filter(|tenure| tenure.holds(Some(found)));
    let Some(tenure) = known else { return Ok(None) };
    Ok(renew(ownership, connection, tenure.lease).await?.then_some(tenure))
}

/// Puts our key, if a condition holds.
async fn take(
    ownership: &Ownership,
    connection: &Connection,
    when: Compare,
) -> Result<Option<Tenure>, Failure> {
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
    Ok(Some(Tenure { revision, lease }))
}

/// Whether a lease was there to be renewed.
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

/// Gives up a lease, and with it our key.
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
