//! The live stream (Server-Sent Events): `cluster` with the whole document when it changed, `traffic` with the
//! service ports whose counters changed. A new client is sent everything.
//!
//! Clients pull: without one nothing runs, and a slow one gets the newest state instead of a backlog.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::dashboard::{
    Options, Sources,
    views::{self, Traffic},
};

/// How often a client is told of changes at most. Faster than this nobody reads.
const PACE: Duration = Duration::from_millis(250);
/// Silence after which a line is sent that means nothing, so that a dead connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Open streams. A browser holds one per page.
pub(crate) const CLIENTS_MAX: usize = 32;
/// After a build of the cluster document, rest this many times as long as it took: however large the cluster, the
/// dashboard takes a tenth of one core at most.
const REST: u32 = 9;

/// What streams are fed from: the documents, made once for all clients.
pub(crate) struct Feed {
    options: Options,
    sources: Sources,
    cluster: Mutex<Built>,
    clients: Arc<Semaphore>,
}

/// The cluster document as it was last made. The lock is held while it is made: who comes meanwhile wants the result.
struct Built {
    revision: Option<u64>,
    document: Arc<RawValue>,
    rest_until: Instant,
}

impl Feed {
    pub(crate) fn new(options: Options, sources: Sources) -> Self {
        let rest_until = Instant::now();
        let built =
            Built { revision: None, document: RawValue::NULL.to_owned().into(), rest_until };
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        Self { options, sources, cluster: Mutex::new(built), clients }
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
        built.rest_until = Instant::now() + now.elapsed() * REST;
        built.document.clone()
    }

    /// The counters as they are now.
    pub(crate) fn traffic(&self) -> Traffic {
        views::traffic(&(self.sources.traffic)())
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
        let frame = client.next().await?;
        Some((Ok::<_, Infallible>(frame), client))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(frames)).into_response()
}

/// One open page and what it has been sent.
struct Client {
    feed: Arc<Feed>,
    pace: Interval,
    cluster: Option<Arc<RawValue>>,
    traffic: Option<Traffic>,
    sent: Instant,
    _place: OwnedSemaphorePermit,
}

impl Client {
    fn new(feed: Arc<Feed>, place: OwnedSemaphorePermit) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sent = Instant::now();
        Self { feed, pace, cluster: None, traffic: None, sent, _place: place }
    }

    /// Waits for something to send; `None` on shutdown.
    async fn next(&mut self) -> Option<Bytes> {
        let shutdown = self.feed.sources.shutdown.clone();
        loop {
            // Both branches are cancel-safe: a tick that is not taken stays due.
            tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = self.pace.tick() => {}
            }
            let frame = self.changes().await;
            if !frame.is_empty() || self.sent.elapsed() >= HEARTBEAT {
                self.sent = Instant::now();
                return Some(if frame.is_empty() {
                    Bytes::from_static(b":\n\n")
                } else {
                    frame.into()
                });
            }
        }
    }

    async fn changes(&mut self) -> String {
        let mut frame = String::new();
        let cluster = self.feed.cluster().await;
        if self.cluster.as_ref().is_none_or(|sent| sent.get() != cluster.get()) {
            event(&mut frame, "cluster", &*cluster);
            self.cluster = Some(cluster);
        }
        let traffic = self.feed.traffic();
        let changed = match &self.traffic {
            None => traffic.clone(),
            Some(sent) => {
                let mut changed = traffic.clone();
                changed.retain(|port, counters| sent.get(port) != Some(counters));
                changed
            }
        };
        if self.traffic.is_none() || !changed.is_empty() {
            event(&mut frame, "traffic", &changed);
            self.traffic = Some(traffic);
        }
        frame
    }
}

/// Appends one event. JSON has no line break outside strings and none unescaped within, so it is one `data` line.
fn event(frame: &mut String, name: &str, data: &(impl Serialize + ?Sized)) {
    match serde_json::to_string(data) {
        Ok(json) => write!(frame, "event: {name}\ndata: {json}\n\n")
            .expect("writing to a string cannot fail"),
        Err(error) => tracing::error!(%error, event = name, "cannot be written as JSON"),
    }
}
