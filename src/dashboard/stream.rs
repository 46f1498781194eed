//! The live stream (Server-Sent Events): `cluster` with the whole document when it changed, `traffic` with the
//! service ports whose counters changed (`null` for those that are gone). A new client is sent everything.
//!
//! Clients pull: without one nothing runs, and a slow one gets the newest state instead of a backlog. What they get is
//! made once for all of them.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::dashboard::{
    options::Options,
    sources::Sources,
    views::{self, Traffic},
};

/// How often a client is told of changes at most. Faster than this nobody reads.
const PACE: Duration = Duration::from_millis(250);
/// Counters that were read within this time are read for all clients: less than the pace, so that one client alone is
/// told of a change at each of its turns.
const COUNTERS_FRESH: Duration = Duration::from_millis(200);
/// Silence after which a line is sent that means nothing, so that a dead connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Open streams. A browser holds one per page.
pub(crate) const CLIENTS_MAX: usize = 32;
/// After a document was made, rest this many times as long as it took: however large the cluster, the dashboard takes a
/// fifth of one core at most.
const REST: u32 = 9;

/// What streams are fed from: the documents, made once for all clients.
pub(crate) struct Feed {
    options: Options,
    sources: Sources,
    cluster: Mutex<Built>,
    counted: Mutex<Fresh>,
    clients: Arc<Semaphore>,
}

/// The cluster document as it was last made. The lock is held while it is made: who comes meanwhile wants the result.
struct Built {
    revision: Option<u64>,
    document: Arc<RawValue>,
    rest_until: Instant,
}

/// The counters as they were last read, which is done under the lock too.
struct Fresh {
    counted: Arc<Counted>,
    until: Option<Instant>,
}

/// The counters at one moment.
pub(crate) struct Counted {
    /// Rises by one whenever they changed.
    number: u64,
    pub(crate) traffic: Traffic,
    /// The event for those who know the counters with the number before.
    changes: Bytes,
}

impl Feed {
    pub(crate) fn new(options: Options, sources: Sources) -> Self {
        let rest_until = Instant::now();
        let built =
            Built { revision: None, document: RawValue::NULL.to_owned().into(), rest_until };
        let nothing = Counted { number: 0, traffic: Traffic::new(), changes: Bytes::new() };
        Self {
            options,
            sources,
            cluster: Mutex::new(built),
            counted: Mutex::new(Fresh { counted: Arc::new(nothing), until: None }),
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
        }
    }

    /// The cluster document, made anew when the cluster changed (unless making it is expensive and was done just now).
    pub(crate) async fn cluster(&self) -> Arc<RawValue> {
        let mut built = self.cluster.lock().await;
        let view = (self.sources.view)();
        let now = Instant::now();
        let current = built.revision == Some(view.revision());
        if current || (built.revision.is_some() && now < built.rest_until) {
            return built.document.clone();
        }
        let revision = view.revision();
        let Options { cluster_domain, kubeconfig, .. } = self.options.clone();
        let made = tokio::task::spawn_blocking(move || {
            serde_json::value::to_raw_value(&views::cluster(&view, &cluster_domain, &kubeconfig))
        });
        match made.await {
            Ok(Ok(document)) => built.document = document.into(),
            Ok(Err(error)) => tracing::error!(%error, "the dashboard cannot be written as JSON"),
            Err(error) => tracing::error!(%error, "the dashboard cannot be made"),
        }
        built.revision = Some(revision);
        let rest = now.elapsed().saturating_mul(REST);
        built.rest_until = Instant::now().checked_add(rest).unwrap_or(now);
        built.document.clone()
    }

    /// The counters, read anew unless that was done just now.
    pub(crate) async fn counted(&self) -> Arc<Counted> {
        let mut fresh = self.counted.lock().await;
        let now = Instant::now();
        if fresh.until.is_some_and(|until| now < until) {
            return fresh.counted.clone();
        }
        let (sources, before) = (self.sources.clone(), fresh.counted.clone());
        let read = tokio::task::spawn_blocking(move || {
            let traffic = views::traffic(&(sources.traffic)());
            let changes = views::changes(&before.traffic, &traffic);
            if changes.is_empty() {
                return before.clone();
            }
            let changes = event("traffic", &changes);
            Arc::new(Counted { number: before.number + 1, traffic, changes })
        });
        match read.await {
            Ok(counted) => fresh.counted = counted,
            Err(error) => tracing::error!(%error, "the counters cannot be read"),
        }
        let fresh_for = now.elapsed().saturating_mul(REST + 1).max(COUNTERS_FRESH);
        fresh.until = now.checked_add(fresh_for);
        fresh.counted.clone()
    }
}

/// A new stream, or 503 when there are too many.
pub(crate) fn respond(feed: Arc<Feed>) -> Response {
    let Ok(place) = feed.clients.clone().try_acquire_owned() else {
        let text = format!("503: {CLIENTS_MAX} pages are open already; close one.\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text)
            .into_response();
    };
    let client = Client::new(feed, place);
    let frames = stream::unfold(client, async |mut client| {
        let pieces = client.next().await?;
        Some((stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)), client))
    });
    let body = Body::from_stream(frames.flatten());
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// One open page and what it has been sent.
struct Client {
    feed: Arc<Feed>,
    pace: Interval,
    cluster: Option<Arc<RawValue>>,
    counted: Option<Arc<Counted>>,
    sent: Instant,
    _place: OwnedSemaphorePermit,
}

impl Client {
    fn new(feed: Arc<Feed>, place: OwnedSemaphorePermit) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sent = Instant::now();
        Self { feed, pace, cluster: None, counted: None, sent, _place: place }
    }

    /// Waits for something to send; `None` on shutdown.
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        let shutdown = self.feed.sources.shutdown.clone();
        loop {
            // Both branches are cancel-safe: a tick that is not taken stays due.
            tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = self.pace.tick() => {}
            }
            let mut pieces = self.changes().await;
            if pieces.is_empty() && self.sent.elapsed() >= HEARTBEAT {
                pieces.push(Bytes::from_static(b":\n\n"));
            }
            if !pieces.is_empty() {
                self.sent = Instant::now();
                return Some(pieces);
            }
        }
    }

    async fn changes(&mut self) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let cluster = self.feed.cluster().await;
        if self.cluster.as_ref().is_none_or(|sent| sent.get() != cluster.get()) {
            pieces.push(Bytes::from_static(b"event: cluster\ndata: "));
            pieces.push(Bytes::from_owner(Shared(cluster.clone())));
            pieces.push(Bytes::from_static(b"\n\n"));
            self.cluster = Some(cluster);
        }
        let counted = self.feed.counted().await;
        match &self.counted {
            None => pieces.push(event("traffic", &counted.traffic)),
            Some(sent) if sent.number == counted.number => {}
            Some(sent) if sent.number + 1 == counted.number => pieces.push(counted.changes.clone()),
            Some(sent) => {
                pieces.push(event("traffic", &views::changes(&sent.traffic, &counted.traffic)));
            }
        }
        self.counted = Some(counted);
        pieces
    }
}

/// A document that is sent to many clients as it lies there.
struct Shared(Arc<RawValue>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.get().as_bytes()
    }
}

/// One event. JSON has no line break outside strings and none unescaped within, so it is one `data` line.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        Ok(json) => format!("event: {name}\ndata: {json}\n\n").into(),
        Err(error) => {
            tracing::error!(%error, event = name, "cannot be written as JSON");
            Bytes::new()
        }
    }
}
