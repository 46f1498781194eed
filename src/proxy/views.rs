//! Views: the endpoints that a client may use, which depend on its place.
//!
//! A client's place (its node, and the zone of that) says which endpoints are its candidates, by hints or by a topology
//! policy (`scoring`). Who shares the view, and with
//! it the scheduler instance, the figures and the affinity, is its [`Scope`]: the clients of one node, or, with
//! [`ProxyView::Global`], all clients that have the same candidates.
//!
//! [`Views`] is the one cell that holds the current table and everything derived from it. A [`View`] is an immutable
//! snapshot; the next one inherits the figures of the endpoints that stay, and the affinity.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::{IpAddr, SocketAddr},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use imbl::ordmap::DiffItem;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    policy::{
        Candidate, Candidates, Flow, InstanceKey, Seat,
        topologies::{Answer, Topologies},
    },
    proxy::{
        affinity::Affinity,
        live::Live,
        metrics::{Metrics, ResetReason, RouteCounters},
        options::ProxyView,
        scope::{Numbers, Scope},
        scoring::{Asked, Scoring, Selected, Surroundings, are_same},
    },
    route::{
        Endpoint, FrontendKind, Protocol, Route, RouteName, RouteTable,
        topology::{self, Place, Topology},
    },
};

/// Refused sources remembered per service port, so that each is reported once. Past it none is reported.
const REFUSED_SOURCES_MAX: usize = 256;
/// Service ports whose figures are read while connections wait.
const ROUTES_READ_AT_ONCE: usize = 64;

/// One service port as the clients of one node see it.
pub(crate) struct View {
    /// The service port.
    pub(crate) route: Arc<Route>,
    /// Where its scheduler instance sits. The scope is the node's name; empty when all share one view; `NODE/local` for a
    /// view of that node's own endpoints only.
    pub(crate) seat: Arc<Seat>,
    /// The generation of the candidates. It changes with each change of them, and is unique among all views, so that
    /// candidates that were kept by their generation are never confused with those of a later view.
    pub(crate) generation: u64,
    /// The endpoints that may be picked. May be empty.
    pub(crate) candidates: Candidates,
    /// The target address and the counters of each candidate.
    pub(crate) targets: Vec<(SocketAddr, Arc<Live>)>,
    /// Every endpoint that could become a candidate, by address.
    pub(crate) endpoints: BTreeMap<SocketAddr, Arc<Live>>,
    /// The endpoint of each client's last connection.
    pub(crate) affinity: Arc<Affinity>,
    /// What the topology policy said, if there is one.
    asked: Option<Asked>,
    /// For which [`Topologies::changes`] it has said so.
    said_at: AtomicU64,
    /// Since when the topology policy is thinking about who shares the view. Until that is known, nobody does.
    unsettled: Option<Instant>,
    /// What is counted.
    pub(crate) counters: RouteCounters,
}

/// One client's connection, as it dialled.
#[derive(Clone, Copy)]
pub(crate) struct Dialled<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) route: &'a RouteName,
    pub(crate) frontend: FrontendKind,
    /// Endpoints that did not take this connection: a load balancer tries another node, if there is one.
    pub(crate) tried: &'a [SocketAddr],
}

/// What a new table changed.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) removed: Vec<Arc<Route>>,
    /// Before and after.
    pub(crate) updated: Vec<(Arc<Route>, Arc<Route>)>,
    pub(crate) added: Vec<Arc<Route>>,
}

/// The current table and the views of it.
pub(crate) struct Views {
    client_node: Arc<str>,
    mode: ProxyView,
    metrics: Metrics,
    /// Knows no views: may be asked while they are locked.
    topologies: Arc<Topologies>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    table: Arc<RouteTable>,
    routes: BTreeMap<RouteName, RouteViews>,
    numbers: Numbers,
}

#[derive(Default)]
struct RouteViews {
    views: BTreeMap<Scope, Arc<View>>,
    /// The scopes of clients of a node when views are global, until the route or the nodes change, or a topology policy says
    /// something else.
    scopes: BTreeMap<Arc<str>, Scope>,
    /// For which [`Topologies::changes`] those are right.
    scopes_at: u64,
    scoring: Scoring,
    /// The next one of the nodes with local endpoints.
    turn: usize,
    refused: BTreeSet<IpAddr>,
}

impl Views {
    pub(crate) fn new(
        client_node: Arc<str>,
        mode: ProxyView,
        metrics: Metrics,
        topologies: Arc<Topologies>,
    ) -> Self {
        Self { client_node, mode, metrics, topologies, state: Mutex::default() }
    }

    /// Makes this the current table. The cost depends on the number of changes.
    pub(crate) fn follow(&self, table: Arc<RouteTable>) -> Changes {
        let mut state = self.state.lock();
        let State { table: current, routes, numbers } = &mut *state;
        let (topologies, table_now) = (&self.topologies, &*table);
        let mut around = Surroundings { table: table_now, numbers, topologies };
        let mut changes = Changes::default();
        for change in current.routes.diff(&table.routes) {
            match change {
                DiffItem::Add(_, route) => changes.added.push(Arc::clone(route)),
                DiffItem::Remove(name, route) => {
                    routes.remove(name);
                    changes.removed.push(Arc::clone(route));
                }
                DiffItem::Update { old: (name, old), new: (_, new) } => {
                    if let Some(known) = routes.get_mut(name) {
                        known.follow(new, &mut around);
                    }
                    changes.updated.push((Arc::clone(old), Arc::clone(new)));
                }
            }
        }
        if !current.nodes.ptr_eq(&table.nodes) {
            let stays = |scope: &Scope| match scope {
                Scope::All | Scope::Zone(_) => true,
                Scope::Node(node) | Scope::Local(node) => {
                    *node == self.client_node || table.nodes.contains_key(node)
                }
            };
            let zones_differ = zones_differ(current, &table);
            let is_one_gone = current.nodes.keys().any(|node| !table.nodes.contains_key(node));
            for (name, known) in routes.iter_mut() {
                known.views.retain(|scope, _| stays(scope));
                known.scopes.clear();
                let Some(route) = table.routes.get(name) else { continue };
                let is_scored = route.topology.is_some();
                if is_scored && is_one_gone {
                    // All, since that is rare, and with it what was asked for the one.
                    topologies.forget(name);
                    known.scoring.clear();
                }
                if is_scored && is_one_gone || zones_differ && (is_scored || has_hints(route)) {
                    known.follow(route, &mut around);
                }
            }
        }
        *current = table;
        changes
    }

    /// The view and the flow of a connection.
    pub(crate) fn resolve(&self, dialled: Dialled<'_>) -> Result<(Arc<View>, Flow), ResetReason> {
        let mut state = self.state.lock();
        let State { table, routes, numbers } = &mut *state;
        let route = table.routes.get(dialled.route).ok_or(ResetReason::NoRoute)?;
        if !source_allowed(route, dialled.frontend, dialled.source.ip()) {
            return Err(ResetReason::Source);
        }
        if !routes.contains_key(dialled.route) {
            routes.insert(dialled.route.clone(), RouteViews::default());
        }
        let known = routes.get_mut(dialled.route).ok_or(ResetReason::NoRoute)?;
        let (node, local) = self.place(table, route, dialled, &mut known.turn);
        let zone = table.nodes.get(&node).and_then(|node| node.zone.as_ref());
        let flow = Flow {
            protocol: dialled.protocol,
            source: dialled.source,
            destination: dialled.destination,
            client_zone: numbers.zones.id(zone),
            client_node: numbers.nodes.id(Some(&node)),
        };
        let mut around = Surroundings { table, numbers, topologies: &self.topologies };
        let scope = match self.mode {
            _ if local => Ok(Scope::Local(node)),
            ProxyView::PerNode => Ok(Scope::Node(node)),
            ProxyView::Global => known.shared_scope(route, node, &mut around),
        };
        let scope = match scope {
            Ok(scope) => scope,
            Err(Unsettled { own, since }) => {
                let empty = View::empty(route, &own, self.metrics.route(&route.name));
                let next = known.next(&empty, route, &own, &mut around);
                let view = Arc::new(View { unsettled: Some(since), ..next });
                return view.with_endpoints(flow);
            }
        };
        let view = match known.views.get(&scope).cloned() {
            Some(view) if !view.may_differ(&self.topologies) => view,
            before => {
                let view = match before {
                    Some(before) => known.ask_again(&before, route, &scope, &mut around),
                    None => {
                        let counters = self.metrics.route(&route.name);
                        let empty = View::empty(route, &scope, counters);
                        Arc::new(known.next(&empty, route, &scope, &mut around))
                    }
                };
                known.views.insert(scope, Arc::clone(&view));
                view
            }
        };
        view.with_endpoints(flow)
    }

    /// True the first time that this service port refuses this source.
    pub(crate) fn first_refusal(&self, route: &RouteName, source: IpAddr) -> bool {
        let mut state = self.state.lock();
        if !state.table.routes.contains_key(route) {
            return false;
        }
        let refused = &mut state.routes.entry(route.clone()).or_default().refused;
        refused.len() < REFUSED_SOURCES_MAX && refused.insert(source)
    }

    /// Every view in use, by service port. Connections wait for a few of them to be read at most.
    pub(crate) fn in_use(&self) -> Vec<Arc<View>> {
        let mut all = Vec::new();
        let mut after: Option<RouteName> = None;
        loop {
            let state = self.state.lock();
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut few = state.routes.range((from, Bound::Unbounded)).take(ROUTES_READ_AT_ONCE);
            let mut last = None;
            for (name, known) in &mut few {
                all.extend(known.views.values().cloned());
                last = Some(name);
            }
            let Some(last) = last.cloned() else { return all };
            drop(state);
            after = Some(last);
        }
    }

    /// On which node the client is, and whether it may use that node's endpoints only.
    ///
    /// `externalTrafficPolicy: Local` does not bind a client within the cluster that dials the load balancer's
    /// address ("will always get Cluster semantics", field documentation of the Service).
    fn place(
        &self,
        table: &RouteTable,
        route: &Route,
        dialled: Dialled<'_>,
        turn: &mut usize,
    ) -> (Arc<str>, bool) {
        let inside = table.places.get(&dialled.source.ip());
        let local = match dialled.frontend {
            FrontendKind::ClusterIp => route.internal_local,
            FrontendKind::NodePort => route.external_local,
            FrontendKind::LoadBalancer => route.external_local && inside.is_none(),
        };
        let node = match dialled.frontend {
            FrontendKind::ClusterIp => None,
            FrontendKind::NodePort => table.places.get(&dialled.destination.ip()).cloned(),
            FrontendKind::LoadBalancer if local => next_local_node(route, turn, dialled.tried),
            FrontendKind::LoadBalancer => None,
        };
        let node = node.or_else(|| inside.cloned());
        (node.unwrap_or_else(|| Arc::clone(&self.client_node)), local)
    }
}

impl RouteViews {
    /// Every view of the changed service port.
    fn follow(&mut self, route: &Arc<Route>, around: &mut Surroundings<'_>) {
        self.scopes.clear();
        let mut views = mem::take(&mut self.views);
        for (scope, view) in &mut views {
            *view = Arc::new(self.next(view, route, scope, around));
        }
        self.views = views;
    }

    fn next(
        &mut self,
        before: &View,
        route: &Arc<Route>,
        scope: &Scope,
        around: &mut Surroundings<'_>,
    ) -> View {
        let addresses: BTreeSet<_> = match route.topology {
            Some(_) => before.candidates.iter().map(|candidate| candidate.address).collect(),
            None => BTreeSet::new(),
        };
        let is_in_use = |endpoint: &Endpoint| addresses.contains(&endpoint.address);
        let selected = self.scoring.select(route, scope, is_in_use, around);
        before.next(Arc::clone(route), scope, selected, around.numbers)
    }

    /// The view, or the next one if the topology policy says something else by now.
    fn ask_again(
        &mut self,
        view: &Arc<View>,
        route: &Arc<Route>,
        scope: &Scope,
        around: &mut Surroundings<'_>,
    ) -> Arc<View> {
        match (&view.asked, self.scoring.ask(route, scope, around)) {
            (Some(said), Some(now)) if now.is_like(said) => {
                view.said_at.store(now.changes, Relaxed);
                Arc::clone(view)
            }
            _ => Arc::new(self.next(view, route, scope, around)),
        }
    }

    /// Whose view is shared with the clients of a node that have the same candidates.
    fn shared_scope(
        &mut self,
        route: &Arc<Route>,
        node: Arc<str>,
        around: &mut Surroundings<'_>,
    ) -> Result<Scope, Unsettled> {
        if route.topology.is_none() && !has_hints(route) {
            return Ok(Scope::All);
        }
        let changes = around.topologies.changes();
        if route.topology.is_some() && self.scopes_at != changes {
            self.scopes.clear();
            self.scopes_at = changes;
        }
        if let Some(scope) = self.scopes.get(&node) {
            return Ok(scope.clone());
        }
        let own = Scope::Node(Arc::clone(&node));
        let scope = match self.scored_scope(route, &own, around)? {
            Some(scope) => scope,
            None => hinted_scope(route, &own, around.table),
        };
        self.scopes.insert(node, scope.clone());
        Ok(scope)
    }

    /// The widest scope whose clients a topology policy gives the same endpoints as those of the node; `None` without one.
    fn scored_scope(
        &mut self,
        route: &Arc<Route>,
        own: &Scope,
        around: &mut Surroundings<'_>,
    ) -> Result<Option<Scope>, Unsettled> {
        let zone = own.place(around.table).zone;
        let zone = (!zone.is_empty()).then(|| Scope::Zone(Arc::from(zone)));
        let scopes = [Some(Scope::All), zone, Some(own.clone())];
        let asked: Vec<_> = scopes
            .into_iter()
            .flatten()
            .filter_map(|scope| Some((self.scoring.ask(route, &scope, around)?, scope)))
            .collect();
        if let Some(since) = asked.iter().find_map(|(asked, _)| asked.pending()) {
            return Err(Unsettled { own: own.clone(), since });
        }
        let Some((Asked { answer: answer @ Answer::These(_), .. }, _)) = asked.last() else {
            return Ok(None);
        };
        let same = asked.iter().find(|(asked, _)| asked.answer == *answer);
        Ok(same.map(|(_, scope)| scope.clone()))
    }
}

/// A topology policy has not answered yet.
struct Unsettled {
    /// The clients of whom it is.
    own: Scope,
    since: Instant,
}

/// The widest scope whose clients get the same endpoints by hints as those of a node.
fn hinted_scope(route: &Route, own: &Scope, table: &RouteTable) -> Scope {
    let place = own.place(table);
    match topology::of(&route.endpoints, place) {
        Topology::SameNode => own.clone(),
        Topology::SameZone if !place.zone.is_empty() => Scope::Zone(Arc::from(place.zone)),
        Topology::SameZone | Topology::Cluster => Scope::All,
    }
}

impl View {
    fn empty(route: &Arc<Route>, scope: &Scope, counters: RouteCounters) -> Self {
        let key = InstanceKey { route: route.name.clone(), scope: scope.label() };
        let seat = Arc::new(Seat::new(key));
        Self {
            route: Arc::clone(route),
            seat,
            generation: 0,
            candidates: Arc::new([]),
            targets: Vec::new(),
            endpoints: BTreeMap::new(),
            affinity: Arc::default(),
            asked: None,
            said_at: AtomicU64::new(0),
            unsettled: None,
            counters,
        }
    }

    /// Since when the topology policy is thinking about which endpoints these clients may use. Until it has answered, the
    /// candidates are those of before, or all.
    pub(crate) fn pending(&self) -> Option<Instant> {
        self.unsettled.or_else(|| self.asked.as_ref().and_then(Asked::pending))
    }

    fn with_endpoints(self: Arc<Self>, flow: Flow) -> Result<(Arc<Self>, Flow), ResetReason> {
        if self.candidates.is_empty() { Err(ResetReason::NoEndpoint) } else { Ok((self, flow)) }
    }

    /// Whether its topology policy might say something else by now.
    fn may_differ(&self, topologies: &Topologies) -> bool {
        self.asked.is_some() && self.said_at.load(Relaxed) != topologies.changes()
    }

    /// This view with these endpoints of the changed service port.
    fn next(
        &self,
        route: Arc<Route>,
        scope: &Scope,
        selected: Selected<'_>,
        numbers: &mut Numbers,
    ) -> Self {
        let Selected { endpoints: selected, asked } = selected;
        let is_possible = |endpoint: &&Endpoint| match scope {
            Scope::Local(node) => endpoint.node.as_ref() == Some(node),
            _ => true,
        };
        let mut endpoints = BTreeMap::new();
        for endpoint in route.endpoints.iter().filter(is_possible) {
            endpoints.entry(endpoint.address).or_insert_with(|| {
                let known = self.endpoints.get(&endpoint.address);
                known.map_or_else(|| Arc::new(Live::new(endpoint.address)), Arc::clone)
            });
        }
        let mut seen = BTreeSet::new();
        let mut candidates = Vec::new();
        let mut targets = Vec::new();
        for endpoint in selected {
            let Some(live) =
                endpoints.get(&endpoint.address).filter(|_| seen.insert(endpoint.address))
            else {
                continue;
            };
            candidates.push(Candidate {
                address: endpoint.address,
                zone: numbers.zones.id(endpoint.zone.as_ref()),
                node: numbers.nodes.id(endpoint.node.as_ref()),
                weight: endpoint.weight,
                identity: live.identity,
                load: Arc::clone(&live.load),
            });
            targets.push((endpoint.target, Arc::clone(live)));
        }
        let unchanged = are_same(&self.candidates, &candidates);
        let affinity =
            if route.affinity.is_some() { Arc::clone(&self.affinity) } else { Arc::default() };
        Self {
            route,
            seat: Arc::clone(&self.seat),
            generation: if unchanged { self.generation } else { numbers.next_generation() },
            candidates: if unchanged { Arc::clone(&self.candidates) } else { candidates.into() },
            targets,
            endpoints,
            affinity,
            said_at: AtomicU64::new(asked.as_ref().map_or(0, |asked| asked.changes)),
            asked,
            unsettled: None,
            counters: self.counters.clone(),
        }
    }
}

/// Whether some client could be served through a frontend of this kind; if not, nothing listens there.
pub(crate) fn is_served(route: &Route, kind: FrontendKind) -> bool {
    let local = match kind {
        FrontendKind::ClusterIp => route.internal_local,
        FrontendKind::NodePort => route.external_local,
        FrontendKind::LoadBalancer => false,
    };
    let may_serve = |e: &Endpoint| e.ready || (e.serving && e.terminating);
    route.endpoints.iter().any(|e| may_serve(e) && (!local || e.node.is_some()))
}

/// Whether hints could tell clients apart: all endpoints that are ready have some.
fn has_hints(route: &Route) -> bool {
    route.endpoints.iter().find(|endpoint| endpoint.ready).is_some_and(|e| e.hints.is_some())
}

fn zones_differ(before: &RouteTable, now: &RouteTable) -> bool {
    now.nodes
        .iter()
        .any(|(name, node)| before.nodes.get(name).is_some_and(|before| before.zone != node.zone))
}

/// A load balancer sends to the nodes that have endpoints of their own, in turn; after failures to those that have
/// others than the `tried` ones.
fn next_local_node(route: &Route, turn: &mut usize, tried: &[SocketAddr]) -> Option<Arc<str>> {
    let may_serve = |e: &&Endpoint| e.ready || (e.serving && e.terminating);
    let mut nodes: BTreeSet<&Arc<str>> =
        route.endpoints.iter().filter(may_serve).filter_map(|e| e.node.as_ref()).collect();
    if !tried.is_empty() {
        let untried = |node: &str| {
            let place = Place { node, zone: "" };
            topology::usable(&route.endpoints, topology::Policy::Local, place)
                .any(|endpoint| !tried.contains(&endpoint.address))
        };
        nodes.retain(|node| untried(node));
    }
    if nodes.is_empty() {
        return None;
    }
    let index = *turn % nodes.len();
    *turn = turn.wrapping_add(1);
    nodes.into_iter().nth(index).cloned()
}

fn source_allowed(route: &Route, kind: FrontendKind, source: IpAddr) -> bool {
    kind != FrontendKind::LoadBalancer
        || route.source_ranges.is_empty()
        || route.source_ranges.iter().any(|range| range.contains(&source))
}
