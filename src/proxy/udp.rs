//! UDP: a session per client and service address, each with a socket of its own towards one endpoint.
//!
//! Datagrams up are sent where they are received, without a task in between; each session's task waits for answers
//! and for its end. All sends are direct non-blocking system calls: a full socket buffer drops the datagram, as
//! networks do. `sessions` keeps them.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    task::{Context, Poll, Waker},
};

use tokio::{net::UdpSocket, time::Instant};

use crate::{
    descriptors::Purpose,
    policy::Flow,
    proxy::{
        Proxy,
        choice::{self, Chosen},
        metrics::ResetReason,
        sessions::{Key, Session},
        upstream::connect_udp,
        views::{Dialled, View},
    },
};

impl Proxy {
    /// Sends a client's datagram on, in its session or a new one.
    pub(crate) fn take_datagram(
        self: &Arc<Self>,
        downstream: &Arc<UdpSocket>,
        payload: &[u8],
        dialled: Dialled<'_>,
    ) {
        let key = Key { destination: dialled.destination, client: dialled.source };
        if let Some(session) = self.sessions.find(key) {
            let current = session.downstream.as_ptr() == Arc::as_ptr(downstream);
            if current && self.sessions.send(&session, payload) {
                return;
            }
            self.sessions.end(&session);
        }
        let (view, flow) = match self.views.resolve(dialled) {
            Ok(resolved) => resolved,
            Err(refusal) => return self.refuse(dialled.route, dialled.source, refusal),
        };
        let proxy = Arc::clone(self);
        let frontend = dialled.frontend;
        let choosing = async move {
            let before = (Arc::clone(&view), flow);
            let Ok((view, flow)) = proxy.settled((view, flow), frontend).await else {
                return (proxy, before.0, before.1, None);
            };
            let chosen = proxy.chooser.choose(&view, &flow, &[]).await;
            (proxy, view, flow, chosen)
        };
        let mut choosing = Box::pin(choosing);
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready((_, view, flow, chosen)) = choosing.as_mut().poll(&mut context) {
            return self.begin(downstream, payload, &view, flow, chosen);
        }
        // The policy needs a moment, and other datagrams need not wait for that.
        let Ok(permit) = Arc::clone(&self.sessions.waiting).try_acquire_owned() else {
            return tracing::debug!("datagram dropped");
        };
        let (downstream, payload) = (Arc::downgrade(downstream), payload.to_vec());
        self.sessions.tasks.spawn(async move {
            let (proxy, view, flow, chosen) = choosing.await;
            drop(permit);
            if let Some(downstream) = downstream.upgrade() {
                proxy.begin(&downstream, &payload, &view, flow, chosen);
            }
        });
    }

    /// Begins a session with its first datagram.
    fn begin(
        self: &Arc<Self>,
        downstream: &Arc<UdpSocket>,
        payload: &[u8],
        view: &View,
        flow: Flow,
        chosen: Option<Chosen>,
    ) {
        let refuse = || self.refuse(&view.route.name, flow.source, ResetReason::NotConnected);
        let Some(chosen) = chosen else { return refuse() };
        let Some(descriptor) = self.descriptors.take(Purpose::Session, 1) else {
            // What ends now has made room when the client sends again.
            self.sessions.make_room();
            return self.refuse(&view.route.name, flow.source, ResetReason::Bound);
        };
        let upstream = match connect_udp(flow.source, chosen.target) {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::debug!(route = %view.route.name, endpoint = %chosen.target, %error, "connect failed");
                chosen.live.failed();
                view.counters.connect_failed();
                return refuse();
            }
        };
        let (session, is_new) = self.sessions.insert(Session {
            key: Key { destination: flow.destination, client: flow.source },
            upstream,
            downstream: Arc::downgrade(downstream),
            chosen,
            counters: view.counters.clone(),
            begun_at: Instant::now(),
            used_at_ms: AtomicU64::new(self.sessions.now_ms()),
            replied: AtomicBool::new(false),
            end: self.end.child_token(),
            service: view.route.name.service.clone(),
            _descriptor: descriptor,
        });
        self.sessions.send(&session, payload);
        if !is_new {
            return;
        }
        choice::remember(view, &flow, &session.chosen.live);
        view.counters.carried();
        let proxy = Arc::clone(self);
        self.sessions.tasks.spawn(async move { proxy.answer(&session).await });
    }

    /// Passes answers back until the session ends.
    async fn answer(&self, session: &Arc<Session>) {
        loop {
            let used_at = self.sessions.used_at(session);
            let limit = session.limit(self.timeouts(), used_at);
            let left = limit.saturating_sub(used_at.elapsed());
            let answered = tokio::select! {
                answered = self.sessions.receive(session) => answered,
                () = tokio::time::sleep(left) => {
                    if self.sessions.used_at(session).elapsed() >= limit {
                        break;
                    }
                    Ok(())
                }
                () = session.end.cancelled() => break,
            };
            if let Err(error) = answered {
                // The endpoint's port is closed; the client's next datagram begins a new session.
                tracing::debug!(endpoint = %session.chosen.target, %error, "session ended");
                session.chosen.live.failed();
                session.counters.connect_failed();
                break;
            }
            tokio::task::yield_now().await;
        }
        self.sessions.end(session);
    }
}
