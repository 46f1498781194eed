//! [`Connections`]: the open connections of the proxy, and their bounds.
//!
//! At a bound, the connections that were idle for longest are ended. If the bound of all connections is reached, the service
//! with the most connections loses some, so that the clients of one service cannot lock out those of another.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::bounded_source,
    descriptors::{Budget, Held, Purpose},
    route::NamespacedName,
};

/// How many connections the proxy carries at a time, if there are enough file descriptors. One costs 32 KiB.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;
/// File descriptors of one connection: the client's socket and the endpoint's.
const DESCRIPTORS: usize = 2;
/// See [`Bounds::idle`]: longer than a working connection waits for its other side.
const IDLE: Duration = Duration::from_secs(1);
/// How many connections are ended together, at most: an eighth of them, so that the search for them is rare.
const ENDED_AT_ONCE: usize = 16;
/// A service that has all but one as many connections as another has its share: it takes none of that one's.
const SLACK: usize = 1;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In all.
    pub(crate) total: usize,
    /// Of one service.
    pub(crate) per_service: usize,
    /// To one address and port of a service.
    pub(crate) per_listener: usize,
    /// From one source outside this machine, on which nearly every client has the same address.
    pub(crate) per_source: usize,
    /// A connection on which nothing moves for so long is idle, and may be ended for another one.
    pub(crate) idle: Duration,
}

/// The connections that are open.
pub(crate) struct Connections {
    bounds: Bounds,
    descriptors: Budget,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    total: usize,
    services: BTreeMap<NamespacedName, Service>,
    /// How many connections each bounded source has.
    sources: BTreeMap<IpAddr, usize>,
}

#[derive(Default)]
struct Service {
    /// Oldest first.
    connections: BTreeMap<u64, Arc<Connection>>,
    listeners: BTreeMap<SocketAddr, usize>,
}

struct Connection {
    listener: SocketAddr,
    source: Option<IpAddr>,
    /// When a byte moved last, or it began: microseconds since the begin of all.
    moved_at: AtomicU64,
    ended: CancellationToken,
    /// The descriptors, which the connection gets for which this one is ended.
    held: Mutex<Option<Held>>,
}

/// The place of one connection, free again when dropped.
pub(crate) struct Admitted {
    id: u64,
    service: NamespacedName,
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Bounds {
    /// Bounds for this total.
    pub(crate) fn of(total: usize) -> Self {
        let part = |eighths: usize| (total * eighths / 8).max(1);
        let (per_service, per_listener, per_source) = (part(6), part(4), part(1));
        Self { total, per_service, per_listener, per_source, idle: IDLE }
    }

    /// Bounds for the number of file descriptors.
    pub(crate) fn within(descriptors: &Budget) -> Self {
        let most = descriptors.most(Purpose::Connection) / DESCRIPTORS;
        Self::of(most.clamp(1, CONNECTIONS_MAX))
    }
}

impl Connections {
    /// All places are free.
    pub(crate) fn new(bounds: Bounds, descriptors: Budget) -> Arc<Self> {
        let (begun, state) = (Instant::now(), Mutex::default());
        Arc::new(Self { bounds, descriptors, begun, state })
    }

    /// A place for a new connection. Idle connections are ended for it if needed. `None` if there is no place.
    pub(crate) fn admit(
        self: &Arc<Self>,
        service: &NamespacedName,
        listener: SocketAddr,
        source: IpAddr,
    ) -> Option<Admitted> {
        let source = bounded_source(source);
        let now = self.now();
        let taken = self.descriptors.take(Purpose::Connection, DESCRIPTORS);
        let mut ended = Vec::new();
        let admitted = {
            let mut state = self.state.lock();
            let wanted = Wanted { service, listener, source, descriptors: taken.is_none() };
            state.make_room(&self.bounds, wanted, now, &mut ended).map(|()| {
                let connection = Arc::new(Connection {
                    listener,
                    source,
                    moved_at: AtomicU64::new(now),
                    ended: CancellationToken::new(),
                    held: Mutex::default(),
                });
                (state.insert(service, Arc::clone(&connection)), connection)
            })
        };
        ended.iter().for_each(|one| one.ended.cancel());
        let (id, connection) = admitted?;
        let admitted = Admitted { id, service: service.clone(), connection, all: Arc::clone(self) };
        // The ended connections close in a moment, so this one may use their descriptors.
        let held = taken.or_else(|| ended.iter().find_map(|one| one.held.lock().take()))?;
        *admitted.connection.held.lock() = Some(held);
        Some(admitted)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What a new connection needs.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    service: &'a NamespacedName,
    listener: SocketAddr,
    source: Option<IpAddr>,
    /// There were none.
    descriptors: bool,
}

impl State {
    /// Ends connections as the bounds demand; `None` when there are none to end.
    fn make_room(
        &mut self,
        bounds: &Bounds,
        wanted: Wanted<'_>,
        now: u64,
        ended: &mut Vec<Arc<Connection>>,
    ) -> Option<()> {
        let Wanted { service, listener, source, descriptors } = wanted;
        let is_idle = |one: &Connection| {
            let moved_at = one.moved_at.load(Relaxed);
            Duration::from_micros(now.saturating_sub(moved_at)) >= bounds.idle
        };
        if let Some(source) = source
            && self.sources.get(&source).is_some_and(|count| *count >= bounds.per_source)
        {
            let all: Vec<_> = self.services.keys().cloned().collect();
            self.end(&all, |one| one.source == Some(source) && is_idle(one), ended)?;
        }
        let own = std::slice::from_ref(service);
        if self.count_to(service, listener) >= bounds.per_listener {
            self.end(own, |one| one.listener == listener && is_idle(one), ended)?;
        }
        if self.count(service) >= bounds.per_service {
            self.end(own, is_idle, ended)?;
        }
        if self.total < bounds.total && !(descriptors && ended.is_empty()) {
            return Some(());
        }
        let largest = self.services.iter().max_by_key(|(_, service)| service.connections.len());
        let largest = largest.map(|(name, _)| name.clone())?;
        if self.count(&largest) <= self.count(service) + SLACK {
            return self.end(own, is_idle, ended);
        }
        // It has more than its share, be they idle or not.
        let largest = [largest];
        self.end(&largest, is_idle, ended).or_else(|| self.end(&largest, |_busy| true, ended))
    }

    /// Ends some connections of these services, those on which nothing moved for longest; `None` when there are none.
    fn end(
        &mut self,
        services: &[NamespacedName],
        may: impl Fn(&Connection) -> bool,
        ended: &mut Vec<Arc<Connection>>,
    ) -> Option<()> {
        let mut found = Vec::new();
        for name in services {
            let all = self.services.get(name).into_iter().flat_map(|one| &one.connections);
            let all = all.filter(|(_, one)| may(one));
            found.extend(all.map(|(id, one)| (one.moved_at.load(Relaxed), *id, name)));
        }
        let count = (found.len() / 8).clamp(1, ENDED_AT_ONCE);
        if found.len() > count {
            found.select_nth_unstable(count);
            found.truncate(count);
        }
        let before = ended.len();
        ended.extend(found.into_iter().filter_map(|(_, id, name)| self.remove(name, id)));
        (ended.len() > before).then_some(())
    }

    fn count(&self, service: &NamespacedName) -> usize {
        self.services.get(service).map_or(0, |service| service.connections.len())
    }

    fn count_to(&self, service: &NamespacedName, listener: SocketAddr) -> usize {
        let service = self.services.get(service);
        service.and_then(|service| service.listeners.get(&listener)).copied().unwrap_or(0)
    }

    fn insert(&mut self, service: &NamespacedName, connection: Arc<Connection>) -> u64 {
        let id = self.next;
        (self.next, self.total) = (id + 1, self.total + 1);
        if let Some(source) = connection.source {
            *self.sources.entry(source).or_default() += 1;
        }
        let service = self.services.entry(service.clone()).or_default();
        *service.listeners.entry(connection.listener).or_default() += 1;
        service.connections.insert(id, connection);
        id
    }

    fn remove(&mut self, name: &NamespacedName, id: u64) -> Option<Arc<Connection>> {
        let service = self.services.get_mut(name)?;
        let connection = service.connections.remove(&id)?;
        self.total -= 1;
        count_down(&mut service.listeners, connection.listener);
        if service.connections.is_empty() {
            self.services.remove(name);
        }
        if let Some(source) = connection.source {
            count_down(&mut self.sources, source);
        }
        Some(connection)
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Admitted {
    /// A byte moved.
    pub(crate) fn moved(&self) {
        self.connection.moved_at.store(self.all.now(), Relaxed);
    }

    /// Waits until the connection is ended for another one.
    pub(crate) async fn ended(&self) {
        self.connection.ended.cancelled().await;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let gone = self.all.state.lock().remove(&self.service, self.id);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const HERE: &str = "127.0.0.1";

    struct Crowd(Arc<Connections>);

    impl Crowd {
        fn bounded(bounds: Bounds, limit: usize) -> Self {
            Self(Connections::new(bounds, Budget::new(limit)))
        }

        /// To the first listener of a service.
        fn admit(&self, service: &str) -> Option<Admitted> {
            self.admit_to(service, 1, HERE)
        }

        fn admit_to(&self, service: &str, port: u16, source: &str) -> Option<Admitted> {
            let (namespace, name) = (Arc::from("default"), Arc::from(service));
            let listener = SocketAddr::from(([127, 96, 0, 1], port));
            self.0.admit(&NamespacedName { namespace, name }, listener, source.parse().unwrap())
        }
    }

    fn ended(connections: &[Admitted]) -> Vec<usize> {
        let is_ended = |one: &Admitted| one.ended().now_or_never().is_some();
        (0..connections.len()).filter(|nth| is_ended(&connections[*nth])).collect()
    }

    fn bounds(total: usize) -> Bounds {
        Bounds { per_service: total, per_listener: total, per_source: total, ..Bounds::of(total) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_with_the_most_makes_room() {
        let crowd = Crowd::bounded(bounds(4), 100_000);
        let many: Vec<_> = (0..3).map(|_| crowd.admit("many").unwrap()).collect();
        let few = crowd.admit("few").unwrap();
        tokio::time::advance(IDLE).await;
        few.moved();
        many[0].moved();
        let another = crowd.admit("other").expect("many has more than its share");
        assert_eq!(ended(&many), [1], "the first on which nothing moved");
        many.iter().for_each(Admitted::moved);
        assert!(crowd.admit("many").is_none(), "all of its own are busy");
        let fourth = crowd.admit("fourth").expect("more than its share, busy or not");
        assert_eq!(ended(&many).len(), 2);
        assert_eq!(ended(&[few, another, fourth]), [0; 0]);
    }

    #[test]
    fn descriptors_are_passed_on() {
        let crowd = Crowd::bounded(bounds(10_000), 1024);
        let many: Vec<_> = std::iter::from_fn(|| crowd.admit("many")).collect();
        assert!(many.len() < 1024 / DESCRIPTORS);
        let few: Vec<_> = (0..3).map(|_| crowd.admit("few").unwrap()).collect();
        assert!(!ended(&many).is_empty() && ended(&few).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_his_share_ends_only_his_own() {
        let crowd = Crowd::bounded(bounds(4), 100_000);
        let ours = [crowd.admit("ours").unwrap(), crowd.admit("ours").unwrap()];
        let theirs = [crowd.admit("theirs").unwrap(), crowd.admit("theirs").unwrap()];
        assert!(crowd.admit("ours").is_none(), "nobody is idle yet");
        tokio::time::advance(IDLE).await;
        let third = crowd.admit("ours").unwrap();
        assert_eq!((ended(&ours), ended(&theirs)), (vec![0], vec![]));
        drop(third);
        drop((ours, theirs));
        let state = crowd.0.state.lock();
        assert!(state.total == 0 && state.services.is_empty() && state.sources.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn services_listeners_and_sources_have_bounds_of_their_own() {
        let crowd = Crowd::bounded(
            Bounds { per_service: 6, per_listener: 4, per_source: 2, ..Bounds::of(100) },
            100_000,
        );
        let admit = |service, port, source| crowd.admit_to(service, port, source);
        let admit_some = |count: usize, service, port, source| -> Vec<_> {
            (0..count).map(|_| admit(service, port, source).unwrap()).collect()
        };
        let here = admit_some(4, "web", 1, HERE);
        assert!(admit("web", 1, HERE).is_none(), "the listener");
        let there = admit_some(2, "web", 2, HERE);
        assert!(admit("web", 2, HERE).is_none(), "the service");
        let far = admit_some(2, "far", 1, "192.0.2.1");
        assert!(admit("other", 1, "192.0.2.1").is_none(), "the source, whatever the service");
        assert!(admit("far", 1, "192.0.2.2").is_some());
        tokio::time::advance(IDLE).await;
        there[0].moved();
        let more = [admit("web", 1, HERE), admit("web", 2, HERE), admit("other", 1, "192.0.2.1")];
        assert!(more.iter().all(Option::is_some));
        assert_eq!((ended(&here), ended(&there), ended(&far)), (vec![0, 1], vec![], vec![0]));
    }
}
