//! The plane without privileges: service addresses are addresses of the loopback interface, and every one that some
//! endpoint stands behind has a listener of its own.
//!
//! An address without a listener refuses connections at once, which is what a service without endpoints must do. While
//! our listener is open the kernel lets nobody else bind its port for all addresses, except one that shares the port
//! knowingly (SO_REUSEPORT): beside such a socket a listener stays when its endpoints go, because closing it would
//! send our clients there; it then resets what it accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use imbl::ordmap::DiffItem;
use parking_lot::RwLock;
use tokio::{net::UdpSocket, task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    descriptors::{Budget, Held, Purpose},
    proxy::{
        dataplane::{
            Context, DataPlane, Deliver,
            listener::{Listener, Owner, remedy},
            sockets::{self, Sockets},
        },
        views,
    },
    route::{FrontendKind, Notice, Protocol, Route, RouteName, RouteTable, notice},
};

/// First pause before a failed bind is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest such pause: a port that was freed is ours within this time.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Sockets bound before other tasks get their turn.
const BINDS_PER_TURN: usize = 64;
/// The kind of the error that says that there is no file descriptor for a listener.
const STARVED: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// The plane. It has no state outside [`DataPlane::run`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback;

#[async_trait]
impl DataPlane for Loopback {
    async fn run(&self, context: Context) {
        let Context { mut table, deliver, served, notices, descriptors, token } = context;
        let mut listeners = Listeners::new(deliver, notices, descriptors);
        while !token.is_cancelled() {
            let next = Arc::clone(&table.borrow_and_update());
            let touched = listeners.follow(&next);
            let failures = listeners.settle(touched).await;
            served.send_replace(next.revision);
            if !failures.is_empty() {
                // Looking for the culprits takes a while; listeners need not wait for it.
                listeners.tasks.spawn(report(listeners.notices.clone(), failures));
            }
            tokio::select! {
                changed = table.changed() => if changed.is_err() { token.cancelled().await },
                () = listeners.retry_due() => {}
                () = token.cancelled() => {}
            }
        }
        let all: Vec<_> = listeners.slots.keys().copied().collect();
        listeners.close(all).await;
        listeners.tasks.close();
        listeners.tasks.wait().await;
    }
}

/// What is listened on, and what should be.
struct Listeners {
    deliver: Deliver,
    notices: notice::Sender,
    descriptors: Budget,
    tasks: TaskTracker,
    table: Arc<RouteTable>,
    slots: BTreeMap<Place, Slot>,
    /// When which failed bind is tried again.
    retries: BTreeSet<(Instant, Place)>,
}

/// Where one socket listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    address: SocketAddr,
    udp: bool,
}

#[derive(Default)]
struct Slot {
    /// Who wants it: one, in a sane table.
    claims: BTreeMap<RouteName, Claim>,
    bound: Option<Bound>,
    failed: Option<Failed>,
}

#[derive(Clone, Copy)]
struct Claim {
    frontend: FrontendKind,
    /// Some endpoint stands behind it.
    served: bool,
}

struct Bound {
    owner: Arc<RwLock<Owner>>,
    beside_wildcard: bool,
    task: JoinHandle<()>,
    _descriptor: Held,
    /// Whoever answers a client has it for a moment.
    socket: Weak<UdpSocket>,
}

struct Failed {
    owner: Owner,
    kind: io::ErrorKind,
    retry_at: Instant,
    pause: Duration,
}

/// A failed bind that was not reported yet.
struct Failure {
    place: Place,
    owner: Owner,
    error: io::Error,
}

impl Listeners {
    fn new(deliver: Deliver, notices: notice::Sender, descriptors: Budget) -> Self {
        Self {
            deliver,
            notices,
            descriptors,
            tasks: TaskTracker::new(),
            table: Arc::default(),
            slots: BTreeMap::new(),
            retries: BTreeSet::new(),
        }
    }

    /// Takes over the claims of a new table. Returns the places to look at: those whose claims changed, and those
    /// due for another try.
    fn follow(&mut self, table: &Arc<RouteTable>) -> BTreeSet<Place> {
        let before = std::mem::replace(&mut self.table, Arc::clone(table));
        let mut touched = BTreeSet::new();
        for change in before.routes.diff(&table.routes) {
            let (old, new) = match change {
                DiffItem::Add(_, new) => (None, Some(new)),
                DiffItem::Update { old: (_, old), new: (_, new) } => (Some(old), Some(new)),
                DiffItem::Remove(_, old) => (Some(old), None),
            };
            for (place, _) in old.into_iter().flat_map(|old| claims(old)) {
                let slot = self.slots.entry(place).or_default();
                slot.claims.retain(|route, _| old.is_some_and(|old| old.name != *route));
                touched.insert(place);
            }
            for (new, (place, claim)) in
                new.into_iter().flat_map(|new| claims(new).map(move |claim| (new, claim)))
            {
                self.slots.entry(place).or_default().claims.insert(new.name.clone(), claim);
                touched.insert(place);
            }
        }
        let now = Instant::now();
        let has_room = self.descriptors.has_room(Purpose::ServicePort);
        let due = self.retries.iter().filter(|(retry_at, place)| {
            *retry_at <= now || (has_room && self.slots[place].is_starved())
        });
        touched.extend(due.map(|(_, place)| *place));
        touched
    }

    /// Closes and opens until the touched places are as the table says. Returns the failures to report.
    async fn settle(&mut self, touched: BTreeSet<Place>) -> Vec<Failure> {
        let unserved = |place: &&Place| self.slots[*place].owner().is_none();
        let closing = touched.iter().filter(unserved).copied().collect();
        let closing = self.keep_beside_wildcards(closing).await;
        self.close(closing).await;
        let mut failures = Vec::new();
        let mut in_use = Vec::new();
        for (turn, place) in touched.into_iter().enumerate() {
            match self.open(place, false) {
                Err(failure) if failure.error.kind() == io::ErrorKind::AddrInUse => {
                    in_use.push(failure);
                }
                Err(failure) => failures.extend(self.retry_later(failure)),
                Ok(()) => {}
            }
            if turn % BINDS_PER_TURN == BINDS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        if in_use.is_empty() {
            return failures;
        }
        let sockets = read_sockets().await;
        for failure in in_use {
            let only_wildcard = sockets.of(failure.place).only_wildcard(failure.place.address);
            if !only_wildcard || self.open(failure.place, true).is_err() {
                failures.extend(self.retry_later(failure));
            }
        }
        failures
    }

    /// Binds, or passes what is bound on to its owner.
    fn open(&mut self, place: Place, beside_wildcard: bool) -> Result<(), Failure> {
        let Some(slot) = self.slots.get_mut(&place) else { return Ok(()) };
        let Some(owner) = slot.owner() else { return Ok(()) };
        for loser in slot.claims.keys().filter(|route| **route != owner.route) {
            let reason = format!("{} belongs to {} already", place.address, owner.route);
            notify(&self.notices, loser, place, reason);
        }
        if let Some(bound) = &slot.bound {
            *bound.owner.write() = owner;
            return Ok(());
        }
        let Some(descriptor) = self.descriptors.take(Purpose::ServicePort, 1) else {
            let error = io::Error::new(STARVED, self.descriptors.reason());
            return Err(Failure { place, owner, error });
        };
        let listener = match Listener::bind(place.address, place.udp, beside_wildcard) {
            Ok(listener) => listener,
            Err(error) => return Err(Failure { place, owner, error }),
        };
        if let Some(failed) = slot.failed.take() {
            self.retries.remove(&(failed.retry_at, place));
            if failed.kind != STARVED {
                tracing::info!(address = %place.address, udp = place.udp, "service port bound at last");
            }
        }
        let owner = Arc::new(RwLock::new(owner));
        let socket = listener.socket();
        let (deliver, descriptors) = (Arc::clone(&self.deliver), self.descriptors.clone());
        let serve = listener.serve(place.address, Arc::clone(&owner), deliver, descriptors);
        let task = self.tasks.spawn(serve);
        slot.bound = Some(Bound { owner, beside_wildcard, task, socket, _descriptor: descriptor });
        Ok(())
    }

    /// Notes the next try; returns the failure if it is news.
    fn retry_later(&mut self, failure: Failure) -> Option<Failure> {
        let slot = self.slots.get_mut(&failure.place)?;
        let before = slot.failed.take();
        if let Some(before) = &before {
            self.retries.remove(&(before.retry_at, failure.place));
        }
        let pause = before
            .as_ref()
            .map_or(RETRY_MIN, |before| before.pause.saturating_mul(2).min(RETRY_MAX));
        let (owner, kind) = (failure.owner.clone(), failure.error.kind());
        let now = Instant::now();
        let retry_at = now.checked_add(pause).unwrap_or(now);
        self.retries.insert((retry_at, failure.place));
        let news = before.is_none_or(|before| before.owner != owner || before.kind != kind);
        slot.failed = Some(Failed { owner, kind, retry_at, pause });
        news.then_some(failure)
    }

    /// Waits until some failed bind should be tried again.
    async fn retry_due(&self) {
        let Some((retry_at, _)) = self.retries.first() else {
            return std::future::pending().await;
        };
        let starved = self.retries.iter().any(|(_, place)| self.slots[place].is_starved());
        tokio::select! {
            () = tokio::time::sleep_until(*retry_at) => {}
            () = self.descriptors.room(Purpose::ServicePort), if starved => {}
        }
    }

    /// Of the listeners that lost their last endpoint, those to close; see the module's documentation.
    async fn keep_beside_wildcards(&self, mut closing: Vec<Place>) -> Vec<Place> {
        let beside = |place: &Place| {
            let slot = &self.slots[place];
            !slot.claims.is_empty()
                && slot.bound.as_ref().is_some_and(|bound| bound.beside_wildcard)
        };
        if closing.iter().any(beside) {
            let sockets = read_sockets().await;
            closing
                .retain(|place| !(beside(place) && sockets.of(*place).has_wildcard(place.address)));
        }
        closing
    }

    /// Stops listening. On return the ports are free, and connections that nobody accepted are reset.
    async fn close(&mut self, places: Vec<Place>) {
        let (mut ended, mut sockets) = (Vec::new(), Vec::new());
        for place in places {
            let Some(slot) = self.slots.get_mut(&place) else { continue };
            if let Some(failed) = slot.failed.take() {
                self.retries.remove(&(failed.retry_at, place));
            }
            if let Some(bound) = slot.bound.take() {
                bound.task.abort();
                sockets.push(bound.socket);
                ended.push(bound.task);
            }
            if slot.claims.is_empty() {
                self.slots.remove(&place);
            }
        }
        // The tasks were aborted, so how they ended says nothing.
        futures::future::join_all(ended).await;
        while sockets.iter().any(|socket| socket.strong_count() > 0) {
            tokio::task::yield_now().await;
        }
    }
}

impl Slot {
    /// It waits for a file descriptor.
    fn is_starved(&self) -> bool {
        self.failed.as_ref().is_some_and(|failed| failed.kind == STARVED)
    }

    /// Whose traffic it is: whoever has it already and still has endpoints, else the first by name that has.
    fn owner(&self) -> Option<Owner> {
        let owner = |(route, claim): (&RouteName, &Claim)| {
            claim.served.then(|| Owner { route: route.clone(), frontend: claim.frontend })
        };
        let current = self.bound.as_ref().map(|bound| bound.owner.read().route.clone());
        let current = current.and_then(|route| owner(self.claims.get_key_value(&route)?));
        current.or_else(|| self.claims.iter().find_map(owner))
    }
}

/// The sockets of this machine at one moment, by transport.
struct SocketSnapshot {
    tcp: Sockets,
    udp: Sockets,
}

impl SocketSnapshot {
    fn of(&self, place: Place) -> &Sockets {
        if place.udp { &self.udp } else { &self.tcp }
    }
}

async fn read_sockets() -> SocketSnapshot {
    let read = || SocketSnapshot { tcp: Sockets::read(false), udp: Sockets::read(true) };
    // A reader that panics is a bug, and then nothing is known about other sockets.
    let nothing = |_| SocketSnapshot { tcp: Sockets::default(), udp: Sockets::default() };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(nothing)
}

/// The processes in the way of binding these places.
async fn holders(places: Vec<Place>) -> BTreeMap<Place, String> {
    if places.is_empty() {
        return BTreeMap::new();
    }
    let snapshot = read_sockets().await;
    let in_the_way: Vec<_> = places
        .into_iter()
        .filter_map(|place| Some((place, snapshot.of(place).in_the_way(place.address)?)))
        .collect();
    let find = move || {
        let holders = sockets::holders(in_the_way.iter().map(|(_, socket)| socket.inode));
        let named = in_the_way.into_iter().filter_map(|(place, socket)| {
            Some((
                place,
                format!("{}, which listens on {}", holders.get(&socket.inode)?, socket.address),
            ))
        });
        named.collect()
    };
    tokio::task::spawn_blocking(find).await.unwrap_or_default()
}

/// Where a service port wants to be listened on. SCTP is not carried.
fn claims(route: &Route) -> impl Iterator<Item = (Place, Claim)> + '_ {
    let carried = route.name.protocol != Protocol::Sctp;
    route.frontends.iter().filter(move |_| carried).map(|frontend| {
        let place = Place { address: frontend.address, udp: route.name.protocol == Protocol::Udp };
        let served = views::is_served(route, frontend.kind);
        (place, Claim { frontend: frontend.kind, served })
    })
}

/// Tells the user about failures, with the process that is in the way where that is known.
async fn report(notices: notice::Sender, failures: Vec<Failure>) {
    let in_use = |failure: &&Failure| failure.error.kind() == io::ErrorKind::AddrInUse;
    let places = failures.iter().filter(in_use).map(|failure| failure.place).collect();
    let holders = holders(places).await;
    for Failure { place, owner, error } in failures {
        let reason = remedy(place.address, &error, holders.get(&place).map(String::as_str));
        if matches!(error.kind(), io::ErrorKind::PermissionDenied | STARVED) {
            // For an ordinary user that is how it is, from the first two Services on; and that descriptors are used up
            // was said once. The Event says it.
            tracing::debug!(route = %owner.route, address = %place.address, reason, "service port not bound");
        } else {
            tracing::warn!(route = %owner.route, address = %place.address, reason, "service port not bound");
        }
        notify(&notices, &owner.route, place, reason);
    }
}

/// Advice: a full channel drops it.
fn notify(notices: &notice::Sender, route: &RouteName, place: Place, reason: String) {
    let notice = Notice::PortNotBound { route: route.clone(), address: place.address, reason };
    if notices.try_send(notice).is_err() {
        tracing::debug!("notice dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Endpoint, Frontend, NamespacedName};

    fn route(number: u16, port: u16, ready: bool) -> Arc<Route> {
        let [high, low] = number.to_be_bytes();
        let address = |net| SocketAddr::from(([127, net, high, low], port));
        let endpoint = Endpoint {
            address: address(249),
            target: address(249),
            node: None,
            zone: None,
            ready,
            serving: ready,
            terminating: false,
            weight: 1,
            pod: None,
            hints: None,
        };
        let name = Arc::from(format!("service-{number}"));
        let service = NamespacedName { namespace: Arc::from("default"), name };
        Arc::new(Route {
            name: RouteName { service, port: 80, protocol: Protocol::Tcp },
            port_name: Arc::from(""),
            frontends: vec![Frontend { kind: FrontendKind::ClusterIp, address: address(248) }],
            endpoints: [endpoint].into(),
            affinity: None,
            internal_local: false,
            external_local: false,
            source_ranges: Vec::new(),
            policy: None,
            topology: None,
        })
    }

    /// A thousand services bind quickly, and a change of one touches one.
    #[tokio::test]
    async fn a_change_costs_what_changed() {
        let (notices, _receiver) = tokio::sync::mpsc::channel(1);
        let descriptors = Budget::of_this_process();
        let mut listeners = Listeners::new(Arc::new(|_| {}), notices, descriptors);
        let free = std::net::TcpListener::bind("127.248.255.255:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let mut table = RouteTable::default();
        for number in 0..900 {
            let route = route(number, port, true);
            table.routes.insert(route.name.clone(), route);
        }
        let touched = listeners.follow(&Arc::new(table.clone()));
        assert_eq!(touched.len(), 900);
        let began_at = Instant::now();
        assert!(listeners.settle(touched).await.is_empty());
        assert!(began_at.elapsed() < Duration::from_secs(2), "{:?}", began_at.elapsed());
        let changed = route(7, port, false);
        table.routes.insert(changed.name.clone(), Arc::clone(&changed));
        let touched = listeners.follow(&Arc::new(table));
        let [(place, _)] = claims(&changed).collect::<Vec<_>>()[..] else { panic!("one place") };
        assert_eq!(touched, BTreeSet::from([place]));
        assert!(std::net::TcpStream::connect(place.address).is_ok());
        listeners.settle(touched).await;
        assert!(std::net::TcpStream::connect(place.address).is_err());
    }
}
