//! The proxy: carries connections to service addresses to the endpoints that policies pick.
//!
//! A [`dataplane::DataPlane`] listens and hands over connections and datagrams, `views` knows which endpoints the client may
//! use, a [`Scheduler`] chooses one, `tcp` and `udp` carry the bytes to an `upstream`. Enter at [`Proxy`]. Nothing here knows
//! Kubernetes: the proxy follows a [`RouteTable`].
//!
//! Where this proxy does more than kube-proxy can: a connect that an endpoint refuses is tried on another endpoint
//! before the client notices, and a client whose view is empty gets a reset instead of silence.

mod affinity;
mod choice;
mod connections;
pub mod dataplane;
mod live;
mod metrics;
mod options;
mod scope;
mod scoring;
mod sessions;
mod stats;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod upstream;
mod views;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    descriptors::Budget,
    policy::{Flow, Scheduler, topologies::Topologies},
    proxy::{
        choice::Chooser,
        connections::{Bounds, Connections},
        dataplane::{Connection, Context, DataPlane, Deliver, Incoming},
        metrics::ResetReason,
        sessions::Sessions,
        upstream::reset,
        views::{Changes, Dialled, View, Views},
    },
    route::{FrontendKind, Notice, Protocol, Route, RouteName, RouteTable, notice},
};

pub use metrics::{Metrics, Totals};
pub use options::{Options, ProxyView, Timeouts};
pub use stats::{EndpointStats, RouteStats};

/// How many UDP sessions there are at a time, if there are enough file descriptors. One more ends the longest unused ones.
const SESSIONS_MAX: usize = 8192;
/// How long a connection waits for a topology policy that has not answered yet, counted from when it was asked. A core
/// module has within a fraction of a millisecond.
const TOPOLOGY_PATIENCE: Duration = Duration::from_millis(100);
/// The bound is reported at most once in this time.
const BOUND_REPORT_PAUSE: Duration = Duration::from_secs(10);

/// The proxy of all nodes of this process.
pub struct Proxy {
    chooser: Chooser,
    topologies: Arc<Topologies>,
    views: Views,
    sessions: Sessions,
    metrics: Metrics,
    timeouts: Mutex<Timeouts>,
    drain: Duration,
    descriptors: Budget,
    notices: notice::Sender,
    served: watch::Sender<u64>,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    /// Ends open connections.
    end: CancellationToken,
    bound_reported_at: Mutex<Option<Instant>>,
}

impl Proxy {
    /// A proxy that carries nothing yet.
    pub fn new(
        options: Options,
        (scheduler, topologies): (Arc<dyn Scheduler>, Arc<Topologies>),
        notices: notice::Sender,
    ) -> Arc<Self> {
        let bounds = Bounds::within(&options.descriptors);
        Self::bounded(options, (scheduler, topologies), notices, (bounds, SESSIONS_MAX))
    }

    fn bounded(
        options: Options,
        (scheduler, topologies): (Arc<dyn Scheduler>, Arc<Topologies>),
        notices: notice::Sender,
        (connections, sessions): (Bounds, usize),
    ) -> Arc<Self> {
        let metrics = Metrics::default();
        Arc::new(Self {
            chooser: Chooser { scheduler },
            views: Views::new(
                options.client_node,
                options.view,
                metrics.clone(),
                Arc::clone(&topologies),
            ),
            topologies,
            sessions: Sessions::new(metrics.sessions.clone(), sessions),
            metrics,
            timeouts: Mutex::new(options.timeouts),
            drain: options.drain,
            descriptors: options.descriptors.clone(),
            notices,
            served: watch::Sender::new(0),
            connections: Connections::new(connections, options.descriptors),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            bound_reported_at: Mutex::new(None),
        })
    }

    /// Carries traffic as the table says until cancelled; then stops accepting, lets open connections go on for the
    /// drain time, resets the rest and returns.
    pub async fn run(
        self: Arc<Self>,
        plane: &dyn DataPlane,
        table: watch::Receiver<Arc<RouteTable>>,
        token: CancellationToken,
    ) {
        let first = Arc::clone(&table.borrow());
        self.apply(Arc::clone(&first));
        let planes_table = watch::Sender::new(first);
        let deliver: Deliver = {
            let proxy = Arc::clone(&self);
            Arc::new(move |incoming| proxy.take(incoming))
        };
        let context = Context {
            table: planes_table.subscribe(),
            deliver,
            served: self.served.clone(),
            notices: self.notices.clone(),
            descriptors: self.descriptors.clone(),
            token: token.clone(),
        };
        tokio::join!(plane.run(context), self.follow(table, &planes_table, &token));
        self.tasks.close();
        if timeout(self.drain, self.tasks.wait()).await.is_err() {
            tracing::info!(open = self.tasks.len(), "connections reset after the drain time");
        }
        self.end.cancel();
        self.tasks.wait().await;
        self.sessions.end_all().await;
    }

    /// The revision of the table whose listeners are in place.
    pub fn served_revision(&self) -> watch::Receiver<u64> {
        self.served.subscribe()
    }

    /// The figures now, of every service port that was ever dialled, by view.
    pub fn snapshot(&self) -> Vec<RouteStats> {
        self.views.in_use().iter().map(|view| stats::of(view)).collect()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Changes the timeouts; open TCP connections keep theirs.
    pub fn set_timeouts(&self, timeouts: Timeouts) {
        *self.timeouts.lock() = timeouts;
    }

    fn timeouts(&self) -> Timeouts {
        *self.timeouts.lock()
    }

    /// Hands each table to the plane after it is known here, so that nothing arrives for a route that is not.
    async fn follow(
        &self,
        mut table: watch::Receiver<Arc<RouteTable>>,
        plane: &watch::Sender<Arc<RouteTable>>,
        token: &CancellationToken,
    ) {
        let mut served = self.served.subscribe();
        let mut handed_over = Some(Instant::now());
        loop {
            tokio::select! {
                changed = table.changed() => {
                    if changed.is_err() {
                        return token.cancelled().await;
                    }
                    let next = Arc::clone(&table.borrow_and_update());
                    self.apply(Arc::clone(&next));
                    handed_over.get_or_insert_with(Instant::now);
                    plane.send_replace(next);
                }
                _ = served.changed() => if let Some(at) = handed_over.take() {
                    self.metrics.synced(at.elapsed());
                },
                () = token.cancelled() => return,
            }
        }
    }

    fn apply(&self, table: Arc<RouteTable>) {
        let Changes { removed, updated, added } = self.views.follow(table);
        for route in &removed {
            self.sessions.end_orphans(route, None);
            self.metrics.forget(&route.name);
            self.chooser.scheduler.forget(&route.name);
            self.topologies.forget(&route.name);
        }
        for (before, now) in &updated {
            self.sessions.end_orphans(before, Some(now));
            if before.topology.is_some() && now.topology.is_none() {
                self.topologies.forget(&now.name);
            }
        }
        let not_carried = |route: &&Arc<Route>| route.name.protocol == Protocol::Sctp;
        for route in added.iter().filter(not_carried) {
            let service = route.name.service.clone();
            self.notify(Notice::ProtocolNotCarried { service, protocol: Protocol::Sctp });
        }
    }

    fn take(self: &Arc<Self>, incoming: Incoming<'_>) {
        let Incoming { connection, source, destination, route, frontend } = incoming;
        let dialled =
            |protocol| Dialled { protocol, source, destination, route, frontend, tried: &[] };
        match connection {
            Connection::Tcp(stream) => self.take_connection(stream, dialled(Protocol::Tcp)),
            Connection::Udp { socket, payload } => {
                self.take_datagram(socket, payload, dialled(Protocol::Udp));
            }
        }
    }

    fn take_connection(self: &Arc<Self>, client: TcpStream, dialled: Dialled<'_>) {
        let Dialled { route, source, destination, frontend, .. } = dialled;
        let Some(place) = self.connections.admit(&route.service, destination, source.ip()) else {
            self.refuse(route, source, ResetReason::Bound);
            return reset(client);
        };
        match self.views.resolve(dialled) {
            Ok((view, flow)) => {
                let proxy = Arc::clone(self);
                self.tasks.spawn(async move {
                    proxy.carry(client, frontend, view, flow, &place).await;
                });
            }
            Err(refusal) => {
                self.refuse(route, source, refusal);
                reset(client);
            }
        }
    }

    /// The view of a connection once its topology policy has said what is in it, which is not waited for long.
    async fn settled(
        &self,
        (mut view, mut flow): (Arc<View>, Flow),
        frontend: FrontendKind,
    ) -> Result<(Arc<View>, Flow), ResetReason> {
        let begun = Instant::now();
        while let Some(since) = view.pending() {
            // Before it is asked again, so that no answer is missed.
            let mut answers = self.topologies.answers();
            let Flow { protocol, source, destination, .. } = flow;
            let route = &view.route.name;
            let dialled = Dialled { protocol, source, destination, route, frontend, tried: &[] };
            let now = self.views.resolve(dialled)?;
            (view, flow) = now;
            let waited = since.elapsed().max(begun.elapsed());
            let left = TOPOLOGY_PATIENCE.saturating_sub(waited);
            let is_over = view.pending().is_none() || left.is_zero();
            if is_over || timeout(left, answers.changed()).await.is_err() {
                break;
            }
        }
        Ok((view, flow))
    }

    /// Counts a refusal, and reports it if users should know.
    fn refuse(&self, route: &RouteName, source: SocketAddr, reason: ResetReason) {
        tracing::debug!(%route, %source, refusal = ?reason, "refused");
        self.metrics.refused(route, reason);
        match reason {
            ResetReason::Source if self.views.first_refusal(route, source.ip()) => {
                self.notify(Notice::SourceRefused { route: route.clone(), source });
            }
            ResetReason::Bound => {
                let mut reported_at = self.bound_reported_at.lock();
                if reported_at.is_none_or(|at| at.elapsed() >= BOUND_REPORT_PAUSE) {
                    *reported_at = Some(Instant::now());
                    tracing::warn!(%route, "connections or sessions refused at a bound");
                }
            }
            _ => {}
        }
    }

    /// Sends a notice. A full channel drops it.
    fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            tracing::debug!("notice dropped");
        }
    }
}
