//! The state that all parts of the store share: the connection, the ownership and the epochs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use prost::Message;
use rand::RngExt;
use tokio::{
    select,
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::store::{
    Error, Revision,
    etcd::{
        connection::{CALL_MAX, CONNECT_MAX, Connection},
        diagnose,
        epochs::{self, Epochs},
        explain::{self, AccessError, Cause, Permanence},
        failure::Failure,
        layout::Keys,
        mark::Mark,
        options::Options,
        owner::{self, Ownership, Term},
        proto::{
            Compare, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
            TxnRequest, TxnResponse, path,
        },
    },
};

/// The limit of concurrent calls. More calls over one connection would only wait.
const CALLS_MAX: usize = 256;
/// Pauses between rounds of attempts to connect. Each is shortened by a random part, so that clients do not reconnect
/// at the same time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// By how much revisions increase after etcd's data was restored from a backup. It must exceed all revisions that a
/// client can have seen since the mark was last written, at most a second ago.
const JUMP: u64 = 1_000_000;

/// Whether etcd can be used.
#[derive(Clone)]
pub(super) enum State {
    /// Yes, through this connection.
    Up(Arc<Connection>),
    /// No, for this reason.
    Down(Arc<str>),
}

/// Data that identifies the etcd, to detect that its data was replaced.
#[derive(Clone, Copy, Debug)]
struct ClusterIdentity {
    cluster: u64,
    raft_term: u64,
}

pub(super) struct Core {
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) mark: Mark,
    pub(super) closing: CancellationToken,
    pub(super) ownership: Ownership,
    state: watch::Sender<State>,
    epochs: RwLock<Arc<Epochs>>,
    known: Mutex<Option<ClusterIdentity>>,
    /// The last revision of this store.
    current: AtomicU64,
    /// The last revision of this store that was compacted.
    compacted: AtomicU64,
    calls: Semaphore,
}

impl Core {
    /// Connects to etcd, waits for it as long as the options say, and creates the store if there is none.
    pub(super) async fn open(options: Options) -> Result<Arc<Self>, Error> {
        let mark = Mark::read(&options).await?;
        let core = Arc::new(Self::new(options, mark));
        let connection = core.wait_for_etcd().await?;
        let admitted = core.admit(&connection, true).await;
        admitted.map_err(|refusal| refusal.error(&core.options))?;
        tracing::info!(store = %core.options, url = connection.url, revision = %core.current(), "connected to etcd");
        core.use_connection(connection);
        Ok(core)
    }

    pub(super) fn new(options: Options, mark: Mark) -> Self {
        let none = Epochs::read(&epochs::first(Revision(0)), 0).expect("we wrote it");
        let keys = Keys::new(&options.prefix);
        Self {
            ownership: Ownership::new(options.clone(), keys.owner()),
            keys,
            closing: CancellationToken::new(),
            state: watch::Sender::new(State::Down("not connected to etcd yet".into())),
            epochs: RwLock::new(Arc::new(none)),
            known: Mutex::new(None),
            current: AtomicU64::new(mark.revision().0),
            compacted: AtomicU64::new(0),
            calls: Semaphore::new(CALLS_MAX),
            options,
            mark,
        }
    }

    /// Waits for the first connection.
    pub(super) async fn wait_for_etcd(&self) -> Result<Arc<Connection>, Error> {
        let started = Instant::now();
        let mut pause = PAUSE_MIN;
        let mut rounds = 0;
        loop {
            let cause = match self.connect().await {
                Ok(connection) => return Ok(Arc::new(connection)),
                Err(cause) => cause,
            };
            rounds += 1;
            if cause.permanence == Permanence::Permanent {
                return Err(Error::Unavailable(cause.text));
            }
            if started.elapsed().saturating_add(pause) > self.options.patience {
                let text = format!("{}; start etcd there, or choose another --store", cause.text);
                return Err(Error::Unavailable(text));
            }
            if rounds == 1 {
                let seconds = self.options.patience.as_secs();
                tracing::warn!(cause = cause.text, seconds, "waiting for etcd");
            }
            sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    pub(super) fn use_connection(&self, connection: Arc<Connection>) {
        self.state.send_replace(State::Up(connection));
    }

    /// Tries every member once, in the order of the options from a random one on.
    async fn connect(&self) -> Result<Connection, Cause> {
        let endpoints = &self.options.endpoints;
        let first = rand::rng().random_range(..endpoints.len().max(1));
        let mut causes: Vec<Cause> = Vec::new();
        for endpoint in endpoints.iter().cycle().skip(first).take(endpoints.len()) {
            match self.connect_to(endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(cause) => causes.push(diagnose::ask(&self.options, endpoint, cause).await),
            }
        }
        let open = causes.iter().any(|cause| cause.open);
        let permanence =
            causes.iter().map(|cause| cause.permanence).max().unwrap_or(Permanence::Permanent);
        let texts: Vec<_> = causes.into_iter().map(|cause| cause.text).collect();
        Err(Cause { text: texts.join("; "), permanence, open })
    }

    async fn connect_to(&self, endpoint: &str) -> Result<Connection, Cause> {
        let connection = Connection::open(&self.options, endpoint).await?;
        self.probe(&connection).await.map(|()| connection)
    }

    /// Makes a linearizable read, which a member can answer only if it is connected to a majority of the cluster.
    async fn probe(&self, connection: &Connection) -> Result<(), Cause> {
        let range = RangeRequest { key: self.keys.meta(), ..RangeRequest::default() };
        let call = connection.unary::<_, RangeResponse>(&self.options, path::RANGE, range);
        match timeout(CONNECT_MAX, call).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(failure)) => Err(explain::entering(&connection.url, &self.options, &failure)),
            Err(_elapsed) => Err(explain::slow(&connection.url)),
        }
    }

    /// Reconnects whenever the connection is lost, until the store is closed.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut state = self.state.subscribe();
        let work = async {
            loop {
                let Ok(down) = state.wait_for(|state| matches!(state, State::Down(_))).await else {
                    return;
                };
                drop(down);
                self.reconnect().await;
            }
        };
        select! {
            () = self.closing.cancelled() => {}
            () = work => {}
        }
        self.state.send_replace(State::Down("the object store is closed".into()));
    }

    async fn reconnect(&self) {
        let began = Instant::now();
        let mut pause = PAUSE_MIN;
        let (mut rounds, mut reported) = (0, String::new());
        loop {
            let text = match self.connect_again().await {
                Ok(connection) => {
                    let url = &connection.url;
                    tracing::info!(url, down_ms = began.elapsed().as_millis(), "etcd is back");
                    self.use_connection(connection);
                    return;
                }
                Err(text) => text,
            };
            // The loss of the connection is logged already. The first attempt may still reach an etcd that is
            // stopping.
            rounds += 1;
            if rounds > 1 && reported != text {
                tracing::warn!(cause = text, "etcd cannot be used; reads continue, writes fail");
                reported.clone_from(&text);
            }
            self.state.send_replace(State::Down(text.into()));
            sleep(jittered(pause)).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    async fn connect_again(&self) -> Result<Arc<Connection>, String> {
        let connection = Arc::new(self.connect().await.map_err(|cause| cause.text)?);
        match self.admit(&connection, false).await {
            Ok(()) => Ok(connection),
            Err(refusal) => Err(refusal.error(&self.options).to_string()),
        }
    }

    /// Becomes the owner and reads the epochs. If there is no store, the `start` of a process creates one. If etcd's
    /// data was restored from a backup, a new epoch begins.
    async fn admit(&self, connection: &Connection, start: bool) -> Result<(), AccessError> {
        let (keys, options) = (&self.keys, &self.options);
        // A process that may not have the store at all must not change it.
        self.look(connection, start).await?;
        let term = match owner::own(&self.ownership, connection, start).await {
            // A process that may not write any more may still read.
            Err(AccessError::Content(stopped @ Error::Stopped(_))) => Err(stopped),
            owned => Ok(owned?),
        };
        let (meta, header) = self.look(connection, start).await?;
        let Some(meta) = meta else { return self.make(connection, term?).await };
        let epochs = Epochs::read(&meta.value, meta.mod_revision)?;
        let known = ClusterIdentity { cluster: header.cluster_id, raft_term: header.raft_term };
        let replaced = self.known.lock().is_some_and(|before| {
            before.cluster != known.cluster || before.raft_term > known.raft_term
        });
        if !replaced && epochs.ours(header.revision) >= self.current() {
            self.take_over(epochs, header.revision, known);
            if let Ok(term) = term {
                self.ownership.begin(term);
            }
            return Ok(());
        }
        let next =
            Revision(self.current().max(epochs.ours(header.revision)).0.saturating_add(JUMP));
        tracing::warn!(
            at = %epochs.ours(header.revision), last = %self.current(), %next,
            "etcd's data was restored or replaced; revisions continue above the last one"
        );
        let term = term?;
        let jump = TxnRequest {
            compare: vec![
                term.condition(&self.ownership),
                Compare::written_at(keys.meta(), meta.mod_revision),
            ],
            success: vec![put(keys.meta(), epochs.and_then(next)), term.again(&self.ownership)],
            failure: Vec::new(),
        };
        let done = connection.txn(options, jump).await?;
        let header = done.header.clone().unwrap_or_default();
        if !done.succeeded {
            return Err(
                Error::Unavailable("another process was faster; trying again".into()).into()
            );
        }
        let epochs = Epochs::read(&epochs.and_then(next), header.revision)?;
        self.take_over(epochs, header.revision, known);
        self.ownership.begin(term.since(header.revision));
        Ok(())
    }

    /// Checks the metadata of the store. `None` if there is no store and one may be created; an error if the store
    /// cannot be used.
    async fn look(
        &self,
        connection: &Connection,
        start: bool,
    ) -> Result<(Option<KeyValue>, ResponseHeader), AccessError> {
        let (keys, options) = (&self.keys, &self.options);
        let get = |key| RequestOp::range(RangeRequest { key, ..RangeRequest::default() });
        let look = TxnRequest {
            success: vec![get(keys.meta()), get(keys.restoring())],
            ..TxnRequest::default()
        };
        let seen = connection.txn(options, look).await?;
        if seen.found(1).is_some() {
            return Err(Error::Damaged(format!(
                "a restore into {options} was interrupted: run `snowglobe snapshot restore` again"
            ))
            .into());
        }
        if seen.found(0).is_none() {
            self.mark.may_begin_anew(options)?;
            if !start {
                return Err(self.vanished().into());
            }
        }
        let header = seen.header.clone().unwrap_or_default();
        Ok((seen.found(0).cloned(), header))
    }

    /// Creates an empty store.
    async fn make(&self, connection: &Connection, term: Term) -> Result<(), AccessError> {
        let first = epochs::first(Revision(0));
        let mut compare = vec![term.condition(&self.ownership)];
        let others = self.keys.all_but(&[self.keys.owner()]);
        compare.extend(others.into_iter().map(|(first, end)| Compare::absent(first, end)));
        let make = TxnRequest {
            compare,
            success: vec![put(self.keys.meta(), first.clone())],
            failure: Vec::new(),
        };
        let done = connection.txn(&self.options, make).await?;
        if !done.succeeded {
            return Err(self.vanished().into());
        }
        let header = done.header.unwrap_or_default();
        let epochs = Epochs::read(&first, header.revision)?;
        let known = ClusterIdentity { cluster: header.cluster_id, raft_term: header.raft_term };
        self.take_over(epochs, header.revision, known);
        self.ownership.begin(term);
        Ok(())
    }

    /// Reads the epochs again, because another owner may have changed them.
    pub(super) async fn read_epochs(&self, connection: &Connection) -> Result<(), AccessError> {
        let (meta, _) = self.look(connection, false).await?;
        if let Some(meta) = meta {
            self.set_epochs(Epochs::read(&meta.value, meta.mod_revision)?);
        }
        Ok(())
    }

    fn vanished(&self) -> Error {
        let Options { prefix, .. } = &self.options;
        Error::Damaged(format!(
            "there are keys below {prefix}/ in etcd at {}, but {prefix}/meta is missing: restore etcd's data, or choose \
             another prefix (--store {}-2)",
            self.options.urls(),
            self.options
        ))
    }

    fn take_over(&self, epochs: Epochs, revision: i64, known: ClusterIdentity) {
        self.raise(epochs.ours(revision));
        *self.epochs.write() = Arc::new(epochs);
        *self.known.lock() = Some(known);
    }

    /// The epochs of the store.
    pub(super) fn epochs(&self) -> Arc<Epochs> {
        Arc::clone(&self.epochs.read())
    }

    /// Takes over the epochs that another process has written.
    pub(super) fn set_epochs(&self, epochs: Epochs) {
        let mut known = self.epochs.write();
        if known.written_at() < epochs.written_at() {
            *known = Arc::new(epochs);
        }
    }

    /// The last revision of this store.
    pub(super) fn current(&self) -> Revision {
        Revision(self.current.load(Ordering::Acquire))
    }

    /// Raises the last revision.
    pub(super) fn raise(&self, revision: Revision) {
        self.current.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// The last revision that was compacted.
    pub(super) fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    pub(super) fn raise_compacted(&self, revision: Revision) {
        self.compacted.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Whether etcd can be used. The receiver gets each change.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn connection(&self) -> Result<Arc<Connection>, Failure> {
        match &*self.state.borrow() {
            State::Up(connection) => Ok(Arc::clone(connection)),
            State::Down(cause) => Err(Failure::Down(Arc::clone(cause))),
        }
    }

    /// Reports that a connection has failed, so that a new one is made. Reports about an old connection are ignored.
    pub(super) fn lost(&self, connection: &Arc<Connection>, cause: &str) {
        let text: Arc<str> = format!("etcd at {}: {cause}", connection.url).into();
        let changed = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(now) if Arc::ptr_eq(now, connection));
            if current {
                *state = State::Down(Arc::clone(&text));
            }
            current
        });
        if changed {
            tracing::warn!(url = connection.url, cause, "the connection to etcd is lost");
        }
    }

    /// Makes a call with a deadline. If there is no connection, it fails at once.
    pub(super) async fn call<Q, R>(&self, path: &'static str, request: Q) -> Result<R, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let connection = self.connection()?;
        let begun = std::sync::atomic::AtomicBool::new(false);
        let work = async {
            let permit = self.calls.acquire().await;
            begun.store(true, Ordering::Relaxed);
            let answer = connection.unary(&self.options, path, request).await;
            drop(permit);
            answer
        };
        let answer = match timeout(CALL_MAX, work).await {
            Ok(answer) => answer,
            Err(_elapsed) if !begun.load(Ordering::Relaxed) => {
                return Err(Failure::Down("too many calls of etcd wait".into()));
            }
            Err(_elapsed) => {
                Err(Failure::Lost(format!("no answer within {} s", CALL_MAX.as_secs())))
            }
        };
        if let Err(Failure::Lost(cause)) = &answer {
            self.lost(&connection, cause);
        }
        answer
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        self.call(path::RANGE, request).await
    }

    pub(super) async fn txn(
        &self,
        request: TxnRequest,
    ) -> Result<(TxnResponse, ResponseHeader), Failure> {
        let response: TxnResponse = self.call(path::TXN, request).await?;
        let header = response.header.clone().unwrap_or_default();
        Ok((response, header))
    }
}

/// A put of a value that needs no chunks.
pub(super) fn put(key: bytes::Bytes, value: Vec<u8>) -> RequestOp {
    RequestOp::put(PutRequest { key, value: value.into(), ..PutRequest::default() })
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
