//! One pod on its node, from its start to its end. Each pod has a task of its own, as kubelet's pod workers, so that a
//! slow pod keeps nobody waiting.
//!
//! The sync loop (`pods`) gives [`Orders`], of which the newest counts; a worker starts the pod, tells how it is, and
//! ends it.

use std::{pin::pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::ObjectKey,
    node::{
        NodeOptions,
        drain::{Watched, drained},
        notes::port_notes,
        parse,
        report::{self, OVERDUE, Reason},
    },
    registry::{Note, Registry, until_written},
    runtime::{PodRuntime, PodSpec, PodState},
};

/// Who the Events come from.
pub(crate) const COMPONENT: &str = "kubelet";
/// A pod with a grace period takes this long to end at least. `kubectl delete` looks whether the pod is there, lists, and
/// watches: a pod that goes, and a successor of its name that comes, between these steps leave it waiting for ever.
const TERMINATION_MIN: Duration = Duration::from_millis(500);

/// So long may a pod take to start that is to be stopped already.
const START_MAX: Duration = Duration::from_secs(10);

/// What is wanted of a pod now.
#[derive(Clone, Default)]
pub(crate) struct Orders {
    /// How it shall run; absent for one that only ends.
    pub(crate) spec: Option<Arc<PodSpec>>,
    /// How it is, as its runtime told last.
    pub(crate) state: Option<Arc<PodState>>,
    /// Counts what changes the status besides the state.
    pub(crate) status_turn: u64,
    /// When `activeDeadlineSeconds` is over.
    pub(crate) deadline: Option<Timestamp>,
    /// Set once it shall end.
    pub(crate) stop: Option<Stop>,
}

/// How a pod shall end.
#[derive(Clone)]
pub(crate) struct Stop {
    /// The time that it has; may become shorter.
    pub(crate) grace: Duration,
    /// The traffic to it, which ends first.
    pub(crate) traffic: Option<Watched>,
}

/// The task of one pod.
pub(crate) struct Worker {
    pub(crate) registry: Arc<Registry>,
    pub(crate) runtime: Arc<dyn PodRuntime>,
    pub(crate) key: ObjectKey,
    pub(crate) uid: String,
    pub(crate) node: Arc<NodeOptions>,
    /// To be recorded with the first status.
    pub(crate) announcement: Option<Note>,
}

impl Worker {
    /// Runs the pod until nothing is left of it.
    pub(crate) async fn run(mut self, orders: Receiver<Orders>) {
        let announcement = self.announcement.take();
        let ending = CancellationToken::new();
        let mut following = pin!(self.follow_spec(orders.clone(), &ending));
        let stop = tokio::select! {
            stop = stopped(orders.clone()) => Some(stop),
            () = overdue(orders.clone()) => None,
            () = &mut following => return,
            () = self.tell_status(orders.clone(), announcement) => return,
        };
        ending.cancel();
        // A runtime that is starting a pod knows it only then.
        if timeout(START_MAX, following).await.is_err() {
            tracing::warn!(key = %self.key, "a pod is stopped that is still being started");
        }
        match stop {
            Some(stop) => self.end(stop, orders).await,
            None => self.end_overdue(orders).await,
        }
    }

    /// Lets the runtime know each description. Returns between two of them, when the pod ends or nobody gives orders.
    async fn follow_spec(&self, mut orders: Receiver<Orders>, ending: &CancellationToken) {
        let mut known: Option<Arc<PodSpec>> = None;
        loop {
            let spec = orders.borrow_and_update().spec.clone();
            if let Some(spec) = spec.filter(|spec| known.as_ref() != Some(spec)) {
                self.runtime.ensure((*spec).clone()).await;
                known = Some(spec);
            }
            if !matches!(ending.run_until_cancelled(orders.changed()).await, Some(Ok(()))) {
                return;
            }
        }
    }

    /// Writes each status, and Events about what is new in it. Returns when nobody gives orders any more.
    async fn tell_status(&self, mut orders: Receiver<Orders>, mut announcement: Option<Note>) {
        let mut told: Option<(Arc<PodState>, u64)> = None;
        loop {
            let Orders { spec, state, status_turn, .. } = orders.borrow_and_update().clone();
            let news = state.map(|state| (state, status_turn)).filter(|n| told.as_ref() != Some(n));
            if let (Some((state, turn)), Some(spec)) = (news, spec) {
                // Boxed, since it is large and mostly not there.
                if Box::pin(self.write_status(&spec, &state)).await {
                    let before = told.as_ref().map(|(before, _)| &**before);
                    let notes = port_notes(&self.key, before, &state, &spec);
                    for note in announcement.take().into_iter().chain(notes) {
                        Box::pin(self.registry.record(COMPONENT, &note)).await;
                    }
                }
                told = Some((state, turn));
            }
            if orders.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether it is written.
    async fn write_status(&self, spec: &PodSpec, state: &PodState) -> bool {
        let write = || report::write_status(&self.registry, &self.key, &self.node, spec, state);
        match until_written(&self.key, write).await {
            Ok(()) => true,
            Err(status) => {
                if status.code != 404 {
                    tracing::warn!(key = %self.key, error = %status, "cannot write a pod's status");
                }
                false
            }
        }
    }

    /// Ends a pod that was deleted: first its traffic, then itself, then its object.
    async fn end(&self, stop: Stop, mut orders: Receiver<Orders>) {
        let begun = Instant::now();
        let mut grace = stop.grace;
        if let Some(traffic) = stop.traffic {
            tokio::select! {
                drained = drained(&self.registry, traffic, grace) => if !drained {
                    tracing::debug!(key = %self.key, "a terminating pod may still get traffic");
                },
                shorter = shortened(&mut orders, grace) => grace = shorter,
            }
        }
        let left = grace.min(TERMINATION_MIN).saturating_sub(begun.elapsed());
        tokio::select! {
            () = sleep(left) => {}
            shorter = shortened(&mut orders, grace) => grace = shorter,
        }
        self.stop(grace, &mut orders).await;
        self.tell_end(None).await;
        report::remove(&self.registry, &self.key, &self.uid).await;
    }

    /// Stops a pod whose `activeDeadlineSeconds` are over, in its own time, and then says that it failed.
    async fn end_overdue(&self, mut orders: Receiver<Orders>) {
        let pod = self.registry.get(&self.key).and_then(|object| parse::<Pod>(&object)).ok();
        let grace = pod.and_then(|pod| pod.spec?.termination_grace_period_seconds);
        let grace = Duration::from_secs(u64::try_from(grace.unwrap_or(0)).unwrap_or(0));
        self.stop(grace, &mut orders).await;
        self.tell_end(Some(&OVERDUE)).await;
        // Whoever deleted it meanwhile waits for this.
        if self.registry.get(&self.key).is_ok_and(|pod| pod.is_terminating()) {
            report::remove(&self.registry, &self.key, &self.uid).await;
        }
    }

    async fn tell_end(&self, why: Option<&Reason>) {
        Box::pin(report::tell_end(&self.registry, &self.key, &self.uid, why)).await;
    }

    /// Stops the pod. Who shortens its time meanwhile is heeded at once.
    async fn stop(&self, mut grace: Duration, orders: &mut Receiver<Orders>) {
        loop {
            tokio::select! {
                () = self.runtime.stop(&self.uid, grace) => return,
                shorter = shortened(orders, grace) => grace = shorter,
            }
        }
    }
}

/// Waits until the pod shall end.
async fn stopped(mut orders: Receiver<Orders>) -> Stop {
    let stop = orders.wait_for(|orders| orders.stop.is_some()).await;
    match stop.ok().and_then(|orders| orders.stop.clone()) {
        Some(stop) => stop,
        None => std::future::pending().await,
    }
}

/// Waits until the pod has less than `grace` to end.
async fn shortened(orders: &mut Receiver<Orders>, grace: Duration) -> Duration {
    let given = |orders: &Orders| orders.stop.as_ref().map_or(Duration::MAX, |stop| stop.grace);
    let shorter =
        orders.wait_for(|orders| given(orders) < grace).await.map(|orders| given(&orders));
    match shorter {
        Ok(shorter) => shorter,
        Err(_nobody_will) => std::future::pending().await,
    }
}

/// Waits until the deadline of the pod is over.
async fn overdue(mut orders: Receiver<Orders>) {
    loop {
        let deadline = orders.borrow_and_update().deadline;
        let over = async {
            match deadline {
                // A deadline that is over leaves a negative time.
                Some(deadline) => {
                    let left = deadline.duration_since(Timestamp::now());
                    sleep(Duration::try_from(left).unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            changed = orders.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}
