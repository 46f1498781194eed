//! The UDP sessions: they carry datagrams both ways, and end when they are not used.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tokio::{io::Interest, net::UdpSocket, sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    descriptors::Held,
    proxy::{choice::Chosen, metrics::RouteCounters, options::Timeouts},
    route::{Endpoint, NamespacedName, Route},
};

/// A session that is used for longer than this, both ways, is a stream and kept for longer (as conntrack decides).
const STREAM_AFTER: Duration = Duration::from_secs(2);
/// Part of the sessions that end at once at the bound, so that finding the longest unused ones is paid for rarely.
const EVICTED_FRACTION: usize = 8;
/// Datagrams that may wait for a policy that was just loaded; further ones are dropped, as networks do.
const WAITING_MAX: usize = 1024;
/// The largest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// Answers passed on before others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// All sessions.
pub(crate) struct Sessions {
    by_key: Mutex<BTreeMap<Key, Arc<Session>>>,
    /// Everything that runs for sessions.
    pub(crate) tasks: TaskTracker,
    started: Instant,
    count: Gauge,
    /// Sessions alive at one time. Past it the longest unused ones end.
    bound: usize,
    /// For datagrams whose endpoint is not chosen yet.
    pub(crate) waiting: Arc<Semaphore>,
}

/// Service address first, so that one address's sessions are neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) destination: SocketAddr,
    pub(crate) client: SocketAddr,
}

/// One client's datagrams to one service address, and their answers.
pub(crate) struct Session {
    pub(crate) key: Key,
    pub(crate) upstream: UdpSocket,
    /// The socket that the client dialled. It is the listener's: without that, the port is free for others.
    pub(crate) downstream: Weak<UdpSocket>,
    pub(crate) chosen: Chosen,
    pub(crate) counters: RouteCounters,
    pub(crate) begun_at: Instant,
    /// Milliseconds since the start of [`Sessions`].
    pub(crate) used_at_ms: AtomicU64,
    pub(crate) replied: AtomicBool,
    pub(crate) end: CancellationToken,
    pub(crate) service: NamespacedName,
    pub(crate) _descriptor: Held,
}

impl Sessions {
    pub(crate) fn new(count: Gauge, bound: usize) -> Self {
        let (by_key, tasks, started) = (Mutex::default(), TaskTracker::new(), Instant::now());
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        Self { by_key, tasks, started, count, bound, waiting }
    }

    /// Ends the sessions of a changed service port whose frontend is gone or whose endpoint no longer serves; all of
    /// them if there is nothing `now`.
    pub(crate) fn end_orphans(&self, before: &Route, now: Option<&Route>) {
        let (frontends, endpoints) =
            now.map_or((&[][..], &[][..]), |now| (&now.frontends, &now.endpoints));
        let serves = |session: &Session| {
            let same = |e: &&Endpoint| {
                e.address == session.chosen.live.address && e.target == session.chosen.target
            };
            endpoints.iter().filter(same).any(|endpoint| endpoint.ready || endpoint.serving)
        };
        let by_key = self.by_key.lock();
        for frontend in &before.frontends {
            let stays = frontends.iter().any(|other| other.address == frontend.address);
            by_key
                .range(Key::first(frontend.address)..)
                .map(|(_, session)| session)
                .take_while(|session| session.key.destination == frontend.address)
                .filter(|session| !(stays && serves(session)))
                .for_each(|session| session.end.cancel());
        }
    }

    /// Ends them all.
    pub(crate) async fn end_all(&self) {
        self.by_key.lock().values().for_each(|session| session.end.cancel());
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The session that is alive.
    pub(crate) fn find(&self, key: Key) -> Option<Arc<Session>> {
        self.by_key.lock().get(&key).filter(|session| !session.end.is_cancelled()).cloned()
    }

    /// Adds a session, unless another datagram of the client has begun one meanwhile. Returns the one that is there now,
    /// and whether it is new.
    pub(crate) fn insert(&self, session: Session) -> (Arc<Session>, bool) {
        let mut by_key = self.by_key.lock();
        let before = by_key.get(&session.key).filter(|before| {
            !before.end.is_cancelled() && before.downstream.ptr_eq(&session.downstream)
        });
        if let Some(before) = before {
            return (Arc::clone(before), false);
        }
        let session = Arc::new(session);
        if by_key.len() >= self.bound {
            end_longest_unused(&mut by_key);
        }
        by_key.insert(session.key, Arc::clone(&session));
        self.count.set(i64::try_from(by_key.len()).unwrap_or(i64::MAX));
        (session, true)
    }

    /// Ends some sessions early, so that others can begin.
    pub(crate) fn make_room(&self) {
        end_longest_unused(&mut self.by_key.lock());
    }

    pub(crate) fn end(&self, session: &Arc<Session>) {
        session.end.cancel();
        let mut by_key = self.by_key.lock();
        if by_key.get(&session.key).is_some_and(|known| Arc::ptr_eq(known, session)) {
            by_key.remove(&session.key);
        }
        self.count.set(i64::try_from(by_key.len()).unwrap_or(i64::MAX));
    }

    /// Sends a datagram up; false when the endpoint's port turned out to be closed.
    pub(crate) fn send(&self, session: &Session, payload: &[u8]) -> bool {
        session.used_at_ms.store(self.now_ms(), Relaxed);
        match SockRef::from(&session.upstream).send(payload) {
            Ok(sent) => session.counters.moved(sent as u64, 0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return false,
            Err(error) => tracing::debug!(%error, "datagram dropped"),
        }
        true
    }

    /// Waits for answers and passes them back from the address that the client dialled.
    pub(crate) async fn receive(&self, session: &Session) -> io::Result<()> {
        let ready = session.upstream.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            let error = session.upstream.take_error()?;
            return Err(error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
        }
        let Some(downstream) = session.downstream.upgrade() else {
            session.end.cancel();
            return Ok(());
        };
        let client = session.key.client.into();
        let mut payload = Vec::with_capacity(DATAGRAM_MAX);
        for _ in 0..DATAGRAMS_PER_TURN {
            payload.clear();
            match session.upstream.try_recv_buf(&mut payload) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            session.used_at_ms.store(self.now_ms(), Relaxed);
            if !session.replied.swap(true, Relaxed) {
                session.chosen.live.answered(session.begun_at.elapsed());
            }
            session.counters.moved(0, payload.len() as u64);
            if let Err(error) = SockRef::from(&*downstream).send_to(&payload, &client) {
                tracing::debug!(%error, "answer dropped");
            }
        }
        Ok(())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn used_at(&self, session: &Session) -> Instant {
        let since_start = Duration::from_millis(session.used_at_ms.load(Relaxed));
        self.started.checked_add(since_start).unwrap_or(self.started)
    }
}

impl Session {
    /// After how long without datagrams it ends.
    pub(crate) fn limit(&self, timeouts: Timeouts, used_at: Instant) -> Duration {
        let lived = used_at.duration_since(self.begun_at);
        let stream = self.replied.load(Relaxed) && lived > STREAM_AFTER;
        if stream { timeouts.udp_stream } else { timeouts.udp }
    }
}

impl Key {
    /// The least key of a service address.
    fn first(destination: SocketAddr) -> Self {
        Self { destination, client: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }
}

/// Ends some sessions of the service that has the most: those that were unused for longest.
fn end_longest_unused(by_key: &mut BTreeMap<Key, Arc<Session>>) {
    let mut services = BTreeMap::<&NamespacedName, Vec<_>>::new();
    for session in by_key.values() {
        let used_at = session.used_at_ms.load(Relaxed);
        services.entry(&session.service).or_default().push((used_at, session.key));
    }
    let Some(mut oldest) = services.into_values().max_by_key(Vec::len) else { return };
    let index = oldest.len() / EVICTED_FRACTION;
    let (_, last, _) = oldest.select_nth_unstable(index);
    let last = *last;
    for (_, key) in oldest.iter().filter(|session| **session <= last) {
        by_key.remove(key).inspect(|session| session.end.cancel());
    }
}
