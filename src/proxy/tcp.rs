//! TCP: connect to an endpoint, copy both ways, measure.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    policy::Flow,
    proxy::{
        Proxy, choice,
        connections::Admitted,
        live::Live,
        metrics::ResetReason,
        upstream::{connect_tcp, reset},
        views::{Dialled, View},
    },
    route::FrontendKind,
};

/// Endpoints tried for one connection: enough to step over one that just died, few enough that a dead service is
/// known as dead quickly.
const ATTEMPTS_MAX: usize = 3;
/// Per direction.
const COPY_BUFFER_BYTES: usize = 16 * 1024;

impl Proxy {
    /// Carries one accepted connection to its end.
    pub(crate) async fn carry(
        &self,
        client: TcpStream,
        frontend: FrontendKind,
        view: Arc<View>,
        flow: Flow,
        place: &Admitted,
    ) {
        let (route, source) = (view.route.name.clone(), flow.source);
        let (mut view, mut flow) = match self.settled((view, flow), frontend).await {
            Ok(settled) => settled,
            Err(refusal) => {
                self.refuse(&route, source, refusal);
                return reset(client);
            }
        };
        let mut tried = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let Some(chosen) = self.chooser.choose(&view, &flow, &tried).await else {
                break;
            };
            let started = Instant::now();
            let connected = tokio::select! {
                connected = connect_tcp(flow.source.ip(), chosen.target) => connected,
                () = place.ended() => break,
            };
            match connected {
                Ok(upstream) => {
                    chosen.live.connected(started.elapsed());
                    choice::remember(&view, &flow, &chosen.live);
                    view.counters.carried();
                    self.metrics.open.inc();
                    let (sent, received) = self.relay(client, upstream, &chosen.live, place).await;
                    self.metrics.open.dec();
                    view.counters.moved(sent, received);
                    drop(chosen.active);
                    return;
                }
                Err(error) => {
                    tracing::debug!(route = %view.route.name, endpoint = %chosen.target, %error, "connect failed");
                    chosen.live.failed();
                    view.counters.connect_failed();
                    tried.push(chosen.live.address);
                    drop(chosen);
                    let (protocol, source, destination) =
                        (flow.protocol, flow.source, flow.destination);
                    let (route, tried) = (&view.route.name, &*tried);
                    let dialled = Dialled { protocol, source, destination, route, frontend, tried };
                    // The endpoints may have changed since, which would explain the failure; and behind a load
                    // balancer, another node may serve.
                    if let Ok(now) = self.views.resolve(dialled) {
                        (view, flow) = now;
                    }
                }
            }
        }
        self.refuse(&view.route.name, flow.source, ResetReason::NotConnected);
        reset(client);
    }

    /// Copies both ways until both sides are done; each side's end of data is passed on as such, and a reset as a
    /// reset. Returns the bytes that went up and came down.
    async fn relay(
        &self,
        mut client: TcpStream,
        upstream: TcpStream,
        live: &Live,
        place: &Admitted,
    ) -> (u64, u64) {
        client.set_nodelay(true).ok();
        let meter = Meter { place, sent: AtomicU64::new(0), received: AtomicU64::new(0) };
        let mut upstream =
            Metered { inner: upstream, meter: &meter, live, asked_at: None, asked: false };
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional_with_sizes(
                &mut client, &mut upstream, COPY_BUFFER_BYTES, COPY_BUFFER_BYTES,
            ) => copied.map(drop),
            () = meter.silence(self.timeouts().tcp) => Err(io::ErrorKind::TimedOut.into()),
            () = place.ended() => Err(io::ErrorKind::ConnectionAborted.into()),
            () = self.end.cancelled() => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        if copied.is_err() {
            reset(upstream.inner);
            reset(client);
        }
        (meter.sent.load(Relaxed), meter.received.load(Relaxed))
    }
}

/// Bytes moved by one connection.
struct Meter<'a> {
    place: &'a Admitted,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter<'_> {
    fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        self.place.moved();
    }

    fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
        self.place.moved();
    }

    /// Returns when nothing has moved for this long (and at most twice as long).
    async fn silence(&self, limit: Duration) {
        let moved = || (self.sent.load(Relaxed), self.received.load(Relaxed));
        loop {
            let before = moved();
            sleep(limit).await;
            if moved() == before {
                return;
            }
        }
    }
}

/// The connection to an endpoint, counted and timed.
struct Metered<'a> {
    inner: TcpStream,
    meter: &'a Meter<'a>,
    live: &'a Live,
    /// The first bytes went up then, and no answer has come.
    asked_at: Option<Instant>,
    asked: bool,
}

impl Metered<'_> {
    fn sent(&mut self, bytes: usize) {
        self.meter.sent(bytes);
        if !self.asked && bytes > 0 {
            self.asked = true;
            self.asked_at = Some(Instant::now());
        }
    }
}

impl AsyncRead for Metered<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let received = buffer.filled().len() - before;
        if received > 0 {
            self.meter.received(received);
            if let Some(asked_at) = self.asked_at.take() {
                self.live.answered(asked_at.elapsed());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.inner).poll_write(context, data))?;
        self.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
