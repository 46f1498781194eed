//! Who may write: one process at a time, by a lease in etcd.
//!
//! The key `owner` lies under a lease of the process that it names, and goes when that lease is not renewed. Every
//! transaction happens only while the key is as its writer has put it: a process that was paused or cut off, and whose
//! place another one has taken meanwhile, writes nothing any more, whatever it believes. Who changes what revisions mean
//! (see `epochs`) writes the key anew, so that this one condition is enough.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::store::{
    Error,
    etcd::{
        connection::{CONNECT_MAX, Connection, Failure},
        core::{Core, Refusal, txn},
        explain,
        options::Options,
        process::Process,
        proto::{
            Compare, KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest, LeaseResponse,
            LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, RangeRequest, RequestOp,
            TxnRequest, path,
        },
    },
};

/// How long an owner that is not heard of keeps its place, and how often it is heard of.
const LEASE_SECONDS: i64 = 6;
const RENEWAL: Duration = Duration::from_millis(1500);
/// How often the lease of another owner is looked at, to see whether it is renewed.
const LOOK: Duration = Duration::from_millis(400);
/// etcd needs a moment to remove a key whose lease has run out.
const REMOVAL: Duration = Duration::from_secs(5);

/// Since when we are the owner: what our key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    revision: i64,
    lease: i64,
}

/// What one process knows of its ownership.
pub(super) struct Ownership {
    me: Process,
    tenure: Mutex<Option<Tenure>>,
    /// Held by who takes the ownership again: one attempt is enough for all who miss it.
    taking: tokio::sync::Mutex<()>,
    stopped: watch::Sender<Option<Error>>,
}

impl Ownership {
    pub(super) fn new() -> Self {
        Self {
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

    fn put(&self, core: &Core, lease: i64) -> PutRequest {
        let value = serde_json::to_vec(&self.me).expect("it is text and numbers").into();
        PutRequest { key: core.keys.owner(), value, lease, ignore_value: false }
    }

    fn check(&self) -> Result<(), Error> {
        self.stopped.borrow().clone().map_or(Ok(()), Err)
    }

    /// Another process has our place, and keeps it.
    fn give_up(&self, options: &Options, other: &str) -> Error {
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
    pub(super) fn condition(self, core: &Core) -> Compare {
        Compare::written_at(core.keys.owner(), self.revision)
    }

    /// What a transaction whose conditions did not hold has to look for.
    pub(super) fn look(core: &Core) -> RequestOp {
        RequestOp::range(RangeRequest { key: core.keys.owner(), ..RangeRequest::default() })
    }

    /// Writes the key anew, as it is.
    pub(super) fn again(self, core: &Core) -> RequestOp {
        RequestOp::put(core.ownership.put(core, self.lease))
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
    core: &Core,
    connection: &Connection,
    start: bool,
) -> Result<Tenure, Refusal> {
    core.ownership.check()?;
    let mut waiting: Option<Waiting> = None;
    loop {
        let Some(found) = look(core, connection).await? else {
            let absent = Compare::absent(core.keys.owner(), <_>::default());
            if let Some(tenure) = take(core, connection, absent).await? {
                return Ok(tenure);
            }
            continue;
        };
        let as_found = Compare::written_at(core.keys.owner(), found.mod_revision);
        let owner: Option<Process> = serde_json::from_slice(&found.value).ok();
        match owner {
            Some(owner) if owner.id == core.ownership.me.id => {
                if let Some(tenure) = kept(core, connection, &found).await? {
                    return Ok(tenure);
                }
                if let Some(tenure) = take(core, connection, as_found).await? {
                    return Ok(tenure);
                }
            }
            Some(owner) if owner.has_ended() => {
                if let Some(tenure) = take(core, connection, as_found).await? {
                    tracing::warn!(store = %core.options, %owner, "the owner has ended without giving up its place; it is taken over");
                    revoke(core, connection, found.lease).await;
                    return Ok(tenure);
                }
            }
            owner => {
                let name = owner.map_or_else(|| "another process".to_owned(), |o| o.to_string());
                if !start {
                    return Err(core.ownership.give_up(&core.options, &name).into());
                }
                let waiting = waiting.get_or_insert_with(|| Waiting::begin(core, &name));
                waiting.look(core, connection, &found, &name).await?;
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
    fn begin(core: &Core, name: &str) -> Self {
        tracing::info!(store = %core.options, owner = name, "the store has an owner; waiting to see whether it is alive");
        Self { since: Instant::now(), left: None }
    }

    async fn look(
        &mut self,
        core: &Core,
        connection: &Connection,
        found: &KeyValue,
        name: &str,
    ) -> Result<(), Refusal> {
        if found.lease == 0 {
            return Err(in_use(&core.options, name).into());
        }
        let request = LeaseRequest { id: found.lease };
        let call = connection.unary(&core.options, path::LEASE_TIME_TO_LIVE, request);
        let LeaseResponse { ttl } = within(call).await?;
        let seconds = u64::try_from(LEASE_SECONDS.max(ttl)).unwrap_or(0);
        let patience = Duration::from_secs(seconds).saturating_add(REMOVAL);
        let renewed = self.left.replace(ttl).is_some_and(|before| ttl > before);
        if renewed || self.since.elapsed() > patience {
            return Err(in_use(&core.options, name).into());
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

/// Takes the ownership again after our key was found to be another than `lost`, unless that has happened already.
pub(super) async fn regain(core: &Core, lost: Tenure) -> Result<(), Error> {
    let _turn = core.ownership.taking.lock().await;
    if core.ownership.tenure()? != lost {
        return Ok(());
    }
    let failed = |failure| explain::reading(&core.options, failure);
    let connection = core.connection().map_err(failed)?;
    let owned = async {
        let tenure = own(core, &connection, false).await?;
        core.read_epochs(&connection).await?;
        Ok(tenure)
    };
    let tenure = owned.await.map_err(|refusal: Refusal| refusal.error(&core.options))?;
    core.ownership.begin(tenure);
    tracing::warn!(store = %core.options, "the lease on the store had run out; it was taken again");
    Ok(())
}

/// Renews our lease until the store is closed.
pub(super) async fn keep(core: Arc<Core>) {
    loop {
        select! {
            () = core.closing.cancelled() => return,
            () = sleep(RENEWAL) => {}
        }
        // Without a connection or a tenure, whoever connects again cares for both.
        let (Ok(connection), Ok(tenure)) = (core.connection(), core.ownership.tenure()) else {
            continue;
        };
        let outcome = match renew(&core, &connection, tenure.lease).await {
            Ok(true) => Ok(()),
            Ok(false) => regain(&core, tenure).await,
            Err(failure) => Err(explain::reading(&core.options, failure)),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "the lease on the store was not renewed");
        }
    }
}

/// Gives up our place, so that another process need not wait for it. Nothing is written afterwards.
pub(super) async fn release(core: &Core) {
    core.ownership.stopped.send_replace(Some(Error::Closed));
    let tenure = core.ownership.tenure.lock().take();
    if let (Some(tenure), Ok(connection)) = (tenure, core.connection()) {
        revoke(core, &connection, tenure.lease).await;
    }
}

async fn look(core: &Core, connection: &Connection) -> Result<Option<KeyValue>, Failure> {
    let request = TxnRequest { success: vec![Tenure::look(core)], ..TxnRequest::default() };
    Ok(txn(connection, &core.options, request).await?.found(0).cloned())
}

/// Our tenure, if the key is the one that we know and its lease is still there.
async fn kept(
    core: &Core,
    connection: &Connection,
    found: &KeyValue,
) -> Result<Option<Tenure>, Failure> {
    let known = core.ownership.tenure.lock().filter(|tenure| tenure.holds(Some(found)));
    let Some(tenure) = known else { return Ok(None) };
    Ok(renew(core, connection, tenure.lease).await?.then_some(tenure))
}

/// Puts our key, if a condition holds.
async fn take(
    core: &Core,
    connection: &Connection,
    when: Compare,
) -> Result<Option<Tenure>, Failure> {
    let grant = LeaseGrantRequest { ttl: LEASE_SECONDS };
    let granted = within(connection.unary(&core.options, path::LEASE_GRANT, grant)).await?;
    let LeaseGrantResponse { id: lease } = granted;
    let request = TxnRequest {
        compare: vec![when],
        success: vec![RequestOp::put(core.ownership.put(core, lease))],
        failure: Vec::new(),
    };
    let done = txn(connection, &core.options, request).await?;
    if !done.succeeded {
        revoke(core, connection, lease).await;
        return Ok(None);
    }
    let revision = done.header.map_or(0, |header| header.revision);
    Ok(Some(Tenure { revision, lease }))
}

/// Whether a lease was there to be renewed.
async fn renew(core: &Core, connection: &Connection, lease: i64) -> Result<bool, Failure> {
    let request = || connection.first(path::LEASE_KEEP_ALIVE, LeaseRequest { id: lease });
    let answer: Result<LeaseResponse, _> = match within(request()).await {
        Err(Failure::Refused(status)) if explain::token_is_stale(&status) => {
            within(connection.renew(&core.options)).await?;
            within(request()).await
        }
        other => other,
    };
    Ok(answer?.ttl > 0)
}

async fn revoke(core: &Core, connection: &Connection, lease: i64) {
    let request = LeaseRevokeRequest { id: lease };
    let call = connection.unary(&core.options, path::LEASE_REVOKE, request);
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
