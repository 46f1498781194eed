//! [`Admission`]: a bounded number of connections at once. When all places are taken, a newcomer gets the place of one
//! without progress, so that silent clients cannot keep others out: first of one that has never got anywhere, then of
//! the one whose progress was longest ago.
//!
//! An [`Entrance`] accepts connections in this way. The owner of a connection holds its [`Place`], says when something
//! was done for its client, and closes the connection once the place is [lost](Place::lost). What counts as progress is
//! the owner's decision: a whole request, not a byte, where a client could drip.

mod entrance;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use entrance::{Admitted, Entrance, Places};

/// A newcomer that has got nowhere in this time is the first to lose its place. Until then it counts like the others,
/// lest newcomers take their places from each other.
const START_MAX: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub total: usize,
    /// From one source that is not of this machine; within 127.0.0.0/8 nearly every client has the same address, so that
    /// there only `total` counts. An IPv6 source is its /64 network.
    pub per_source: usize,
}

/// The connections of one listener, or of one service.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Oldest first.
    connections: BTreeMap<u64, Arc<Connection>>,
    /// How many connections each bounded source has.
    sources: BTreeMap<IpAddr, usize>,
}

/// Whether the connection has made progress, and when last. The lowest rank loses its place first.
type Rank = (bool, u64);

/// What the owner of a connection and the admission share.
#[derive(Debug)]
struct Connection {
    source: Option<IpAddr>,
    /// When the last progress was, or the connection began: in microseconds of the admission.
    since: AtomicU64,
    /// Whether there was any progress.
    started: AtomicBool,
    /// What is being done for the client.
    works: AtomicUsize,
    lost: CancellationToken,
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    connection: Arc<Connection>,
    admission: Arc<Admission>,
}

/// Something that is being done for a client. While it lives, the connection keeps its place; its end is progress.
#[derive(Debug)]
pub struct Work(Arc<Place>);

impl Admission {
    /// All places are free.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Self::since(Instant::now(), bounds)
    }

    /// As [`new`](Self::new). Those that share an instant can make room for one another.
    pub fn since(begun: Instant, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, begun, state: Mutex::default() })
    }

    /// A place for a new connection. If there is none left, another connection loses its place. `None` if something is
    /// being done for the clients of all others.
    pub fn admit(self: &Arc<Self>, source: IpAddr) -> Option<Arc<Place>> {
        let source = bounded_source(source);
        let now = self.now();
        let mut state = self.state.lock();
        let of_source = source.and_then(|source| state.sources.get(&source)).copied().unwrap_or(0);
        if of_source >= self.bounds.per_source {
            state.evict(now, |connection| connection.source == source)?;
        }
        if state.connections.len() >= self.bounds.total {
            state.evict(now, |_any| true)?;
        }
        let id = state.next;
        state.next += 1;
        let connection = Arc::new(Connection {
            source,
            since: AtomicU64::new(now),
            started: AtomicBool::new(false),
            works: AtomicUsize::new(0),
            lost: CancellationToken::new(),
        });
        state.connections.insert(id, connection.clone());
        if let Some(source) = source {
            *state.sources.entry(source).or_default() += 1;
        }
        Some(Arc::new(Place { id, connection, admission: self.clone() }))
    }

    /// Takes the place of one without progress in any of these, where it is not places that are scarce; `false` while
    /// there is none.
    pub fn make_room<'a>(all: impl Iterator<Item = &'a Arc<Self>>) -> bool {
        let ranked =
            all.filter_map(|one| Some((one.state.lock().lowest(one.now(), |_any| true)?.0, one)));
        let first = ranked.min_by_key(|(rank, _)| *rank).map(|(_, one)| one);
        first.is_some_and(|one| one.state.lock().evict(one.now(), |_any| true).is_some())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Connection {
    /// The rank of the connection. `None` while something is being done for its client: then it keeps its place.
    fn rank(&self, now: u64) -> Option<Rank> {
        let since = self.since.load(Ordering::Relaxed);
        let waited = Duration::from_micros(now.saturating_sub(since));
        let good = self.started.load(Ordering::Relaxed) || waited < START_MAX;
        (self.works.load(Ordering::Relaxed) == 0).then_some((good, since))
    }
}

impl State {
    /// Takes the place of the one that loses it first; `None` when something is done for all of them.
    fn evict(&mut self, now: u64, may: impl Fn(&Connection) -> bool) -> Option<()> {
        let (_, id) = self.lowest(now, may)?;
        self.remove(id)?.lost.cancel();
        Some(())
    }

    /// The rank and id of the one that loses its place first.
    fn lowest(&self, now: u64, may: impl Fn(&Connection) -> bool) -> Option<(Rank, u64)> {
        let connections = self.connections.iter().filter(|(_, connection)| may(connection));
        connections.filter_map(|(id, connection)| Some((connection.rank(now)?, *id))).min()
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let connection = self.connections.remove(&id)?;
        if let Some(source) = connection.source
            && let Some(count) = self.sources.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        Some(connection)
    }
}

impl Place {
    /// Something was done for the client, now.
    pub fn progress(&self) {
        self.connection.since.store(self.admission.now(), Ordering::Relaxed);
        self.connection.started.store(true, Ordering::Relaxed);
    }

    /// Begins to do something for the client.
    pub fn work(self: &Arc<Self>) -> Work {
        self.connection.works.fetch_add(1, Ordering::Relaxed);
        Work(self.clone())
    }

    /// Waits until the place was given to another: the connection must be closed.
    pub async fn lost(&self) {
        self.connection.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.state.lock().remove(self.id);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.progress();
        self.0.connection.works.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The source as it is counted; `None` for this machine.
pub(crate) fn bounded_source(source: IpAddr) -> Option<IpAddr> {
    match source.to_canonical() {
        source if source.is_loopback() => None,
        IpAddr::V6(v6) => {
            let network = v6.to_bits() >> 64 << 64;
            Some(Ipv6Addr::from_bits(network).into())
        }
        v4 => Some(v4),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const HERE: &str = "127.0.0.1";

    fn admit(admission: &Arc<Admission>, source: &str) -> Option<Arc<Place>> {
        admission.admit(source.parse().unwrap())
    }

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    fn lost(places: &[Arc<Place>]) -> Vec<usize> {
        (0..places.len()).filter(|nth| is_lost(&places[*nth])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_without_progress_for_longest_makes_room() {
        let admission = Admission::new(Bounds { total: 3, per_source: 3 });
        let another = || admit(&admission, HERE).unwrap();
        let mut places = vec![another(), another(), another()];
        tokio::time::advance(START_MAX).await;
        places[0].progress();
        places.push(another());
        assert_eq!(lost(&places), [1], "neither 1 nor 2 has got anywhere; 1 came first");
        tokio::time::advance(START_MAX).await;
        places.push(another());
        assert_eq!(lost(&places), [1, 2]);
        places.push(another());
        assert_eq!(lost(&places), [1, 2, 3], "3 had its time to begin");
        places.push(another());
        assert_eq!(lost(&places), [0, 1, 2, 3], "its progress was before the others came");
        places[4].progress();
        tokio::time::advance(START_MAX).await;
        places.push(another());
        assert_eq!(lost(&places), [0, 1, 2, 3, 5]);
        drop(places);
        assert!(admission.state.lock().connections.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_served_keeps_its_place() {
        let admission = Admission::new(Bounds { total: 2, per_source: 2 });
        let (first, second) = (admit(&admission, HERE).unwrap(), admit(&admission, HERE).unwrap());
        let (one, two, other) = (first.work(), first.work(), second.work());
        assert!(admit(&admission, HERE).is_none(), "all are at work");
        drop(one);
        assert!(admit(&admission, HERE).is_none(), "there is more to do for it");
        drop(two);
        let third = admit(&admission, HERE).unwrap();
        assert!(is_lost(&first) && !is_lost(&second) && !is_lost(&third));
        tokio::time::advance(START_MAX).await;
        // A place that was lost is not freed a second time.
        drop(first);
        drop(other);
        let fourth = admit(&admission, HERE).unwrap();
        assert!(is_lost(&third) && !is_lost(&second) && !is_lost(&fourth));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_elsewhere_has_a_bound_of_its_own() {
        let admission = Admission::new(Bounds { total: 6, per_source: 2 });
        let check = |sources: &[&str], expected: &[usize]| {
            let places: Vec<_> =
                sources.iter().map(|source| admit(&admission, source).unwrap()).collect();
            assert_eq!(lost(&places), expected, "{sources:?}");
        };
        check(&["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"], &[0]);
        check(&["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], &[0]);
        check(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"], &[0]);
        check(&["127.0.0.1", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.2", "127.0.0.1"], &[]);
        let busy =
            [admit(&admission, "192.0.2.1").unwrap(), admit(&admission, "192.0.2.1").unwrap()];
        let works = busy.each_ref().map(Place::work);
        assert!(admit(&admission, "192.0.2.1").is_none() && admit(&admission, HERE).is_some());
        drop((works, busy));
        assert!(admission.state.lock().sources.is_empty());
    }
}
