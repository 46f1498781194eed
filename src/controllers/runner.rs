//! Runs controllers: watches what they depend on, calls their plans, executes the steps. All I/O of controllers is here.
//!
//! Enter at [`run`]. One subscription feeds one queue per controller; a few workers per queue plan and write.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    controllers::{
        Controller, Note, Options, Plan, Step, Trigger, World, document,
        queue::{Outcome, Queue},
        replica_set::REPLICA_FAILURE,
    },
    model::{Kind, Object, ObjectKey, Status, kind, time::time_text},
    registry::{
        DeleteOptions, Preconditions, Registry, Subresource, Subscription, View, WriteOptions,
    },
};

/// Steps of one [`Step::All`] that are executed at the same time: enough to fill the store's batches.
const SIDE_BY_SIDE: usize = 32;
/// Failures in a row from which on they are worth a warning.
const FAILURES_TOLD: u32 = 3;
/// After a plan that took this long, because it reads thousands of objects, its key rests for a multiple of that time. One
/// plan then serves many changes, so that each costs about as much as in a small cluster.
const LONG_PLAN: Duration = Duration::from_millis(2);
const REST_FACTOR: u32 = 64;
/// The longest rest.
const REST_MAX: Duration = Duration::from_millis(500);

struct Runner {
    registry: Arc<Registry>,
    options: Options,
    controllers: Vec<(&'static Controller, Queue)>,
    /// The triggers of a kind, with the index of their controller.
    triggers: BTreeMap<Kind, Vec<(usize, &'static Trigger)>>,
    /// The triggers of every kind.
    on_every: Vec<(usize, &'static Trigger)>,
}

/// Runs controllers until cancelled, then finishes the writes that have begun. A panic of a plan fails only its key. Any
/// other panic is passed on, because a controller without workers would silently do nothing.
pub async fn run(
    registry: Arc<Registry>,
    controllers: Vec<&'static Controller>,
    options: Options,
    token: CancellationToken,
) {
    let runner = Arc::new(Runner::new(registry, controllers, options));
    let mut workers = JoinSet::new();
    for (index, (controller, _)) in runner.controllers.iter().enumerate() {
        for _ in 0..controller.workers {
            let (runner, token) = (runner.clone(), token.clone());
            let span = tracing::info_span!("controller", name = controller.name);
            workers.spawn(async move { runner.work(index, &token).await }.instrument(span));
        }
    }
    runner.run(workers, &token).await;
}

fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        tracing::error!("a controller's worker ended early; this is a bug");
        resume_unwind(panic);
    }
}

impl Runner {
    fn new(
        registry: Arc<Registry>,
        controllers: Vec<&'static Controller>,
        options: Options,
    ) -> Self {
        let mut triggers = BTreeMap::<Kind, Vec<_>>::new();
        let mut on_every = Vec::new();
        for (index, controller) in controllers.iter().enumerate() {
            for trigger in controller.triggers {
                let of_kind = match trigger.kind {
                    Some(kind) => triggers.entry(kind.clone()).or_default(),
                    None => &mut on_every,
                };
                of_kind.push((index, trigger));
            }
        }
        let controllers = controllers.into_iter().map(|c| (c, Queue::default())).collect();
        Self { registry, options, controllers, triggers, on_every }
    }

    async fn run(&self, mut workers: JoinSet<()>, token: &CancellationToken) {
        tokio::select! {
            () = self.dispatch(token) => {}
            Some(ended) = workers.join_next() => pass_on(ended),
        }
        while let Some(ended) = workers.join_next().await {
            pass_on(ended);
        }
    }

    /// Feeds the queues until cancelled.
    async fn dispatch(&self, token: &CancellationToken) {
        loop {
            let view = self.registry.view();
            let mut subscription = self.subscribe(view.revision());
            for object in view.kinds().stored().flat_map(|kind| view.list(kind, None)) {
                self.wake(&view, object);
            }
            drop(view);
            loop {
                let events = tokio::select! {
                    () = token.cancelled() => return,
                    events = subscription.next() => events,
                };
                match events {
                    Ok(events) => {
                        let view = self.registry.view();
                        for event in events {
                            self.wake(&view, &event.object);
                            if let Some(previous) = &event.previous {
                                self.wake(&view, previous);
                            }
                        }
                    }
                    Err(status) if status.reason == "Expired" => break,
                    Err(status) => {
                        tracing::info!(%status, "controllers lost the registry");
                        return token.cancelled().await;
                    }
                }
            }
            tracing::warn!("controllers fell behind and look at everything again");
        }
    }

    fn subscribe(&self, after: u64) -> Subscription {
        if !self.on_every.is_empty() {
            return self.registry.subscribe_to_all(after);
        }
        let kinds: Vec<&Kind> = self.triggers.keys().collect();
        self.registry.subscribe(&kinds, after)
    }

    fn wake(&self, view: &View, object: &Object) {
        let of_kind = self.triggers.get(&object.key.kind).into_iter().flatten();
        for (index, trigger) in of_kind.chain(&self.on_every) {
            let (controller, queue) = &self.controllers[*index];
            match catch_unwind(AssertUnwindSafe(|| (trigger.keys)(view, object))) {
                Ok(keys) => keys.into_iter().for_each(|key| queue.add(key)),
                Err(_panic) => {
                    tracing::error!(controller = controller.name, key = %object.key,
                                    "a trigger panicked; this is a bug");
                }
            }
        }
    }

    async fn work(&self, index: usize, token: &CancellationToken) {
        let (controller, queue) = &self.controllers[index];
        loop {
            let key = tokio::select! {
                () = token.cancelled() => return,
                key = queue.next() => key,
            };
            let mut rest = Duration::ZERO;
            let attempt = self.plan_and_execute(controller, &key, &mut rest);
            let attempt = AssertUnwindSafe(attempt).catch_unwind().await;
            let (outcome, refusal) = match attempt {
                Ok(Ok(requeue)) => (Outcome::Planned(requeue), None),
                Ok(Err(Failure::Conflict)) => (Outcome::Conflict, None),
                Ok(Err(Failure::Refused(status))) if status.is_unavailable() => {
                    tracing::debug!(%key, %status, "a plan must wait for the store");
                    (Outcome::Unavailable, None)
                }
                Ok(Err(Failure::Refused(status))) => (Outcome::Failed, Some(status)),
                Err(_panic) => {
                    tracing::error!(controller = controller.name, %key,
                                    "a controller panicked; this is a bug");
                    self.tell_panic(controller, &key).await;
                    (Outcome::Failed, None)
                }
            };
            let failures = queue.done(&key, outcome, rest);
            match refusal {
                // Once may be a race for a name or an address.
                Some(status) if failures >= FAILURES_TOLD => {
                    tracing::warn!(%key, %status, failures, "a plan cannot be carried out");
                }
                Some(status) => {
                    tracing::debug!(%key, %status, "a plan could not be carried out");
                }
                None => {}
            }
        }
    }

    /// Records an Event, so that users of the object see why nothing happens.
    async fn tell_panic(&self, controller: &Controller, key: &ObjectKey) {
        let Some(object) = self.registry.view().get(key).cloned() else { return };
        let message = format!(
            "{} failed on this object, which is a bug; other objects go on, and this one is tried again",
            controller.name
        );
        let (about, uid) = (key.clone(), object.metadata.uid.clone());
        let note = Note { about, uid, warning: true, reason: "InternalError", message };
        self.registry.record(controller.name, &note).await;
    }

    async fn plan_and_execute(
        &self,
        controller: &Controller,
        key: &ObjectKey,
        rest: &mut Duration,
    ) -> Result<Option<Duration>, Failure> {
        let began = Instant::now();
        let Plan { steps, requeue } = {
            let view = self.registry.view();
            let world = World { view: &view, now: Timestamp::now(), options: &self.options };
            (controller.plan)(&world, key)
        };
        let took = began.elapsed();
        if took >= LONG_PLAN {
            *rest = took.saturating_mul(REST_FACTOR).min(REST_MAX);
        }
        for step in steps {
            self.execute(controller, key, step).await?;
        }
        Ok(requeue)
    }

    fn execute<'a>(
        &'a self,
        controller: &'a Controller,
        planned: &'a ObjectKey,
        step: Step,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let options = &WriteOptions::default();
            match step {
                Step::Create(kind, document) => {
                    let namespace = document["metadata"]["namespace"].as_str().unwrap_or_default();
                    let namespace =
                        if kind.namespaced { namespace.to_owned() } else { String::new() };
                    match self.registry.create(&kind, &namespace, document, options).await {
                        Ok(_) => Ok(()),
                        Err(status) => {
                            self.not_created(controller, planned, &kind, &namespace, status).await
                        }
                    }
                }
                Step::Update(key, document) => self.update(&key, Subresource::None, document).await,
                Step::UpdateStatus(key, document) => {
                    self.update(&key, Subresource::Status, document).await
                }
                Step::Finalize(key, document) => {
                    self.update(&key, Subresource::Finalize, document).await
                }
                Step::Bind(key, document) => {
                    self.update(&key, Subresource::Binding, document).await
                }
                Step::Delete { key, uid, propagation } => {
                    let options = DeleteOptions {
                        preconditions: Preconditions::of_uid(uid.as_str()),
                        propagation: Some(propagation),
                        ..DeleteOptions::default()
                    };
                    match self.registry.delete(&key, &options).await {
                        Err(_) if !self.exists(&key, &uid) => Ok(()),
                        other => Ok(other.map(|_| ())?),
                    }
                }
                Step::Event(note) => {
                    self.registry.record(controller.name, &note).await;
                    Ok(())
                }
                Step::Chain(steps) => {
                    for step in steps {
                        self.execute(controller, planned, step).await?;
                    }
                    Ok(())
                }
                Step::All(steps) => {
                    let mut steps = steps.into_iter();
                    loop {
                        let batch: Vec<_> = steps.by_ref().take(SIDE_BY_SIDE).collect();
                        if batch.is_empty() {
                            return Ok(());
                        }
                        let run = |step| self.execute(controller, planned, step);
                        let results = join_all(batch.into_iter().map(run)).await;
                        results.into_iter().collect::<Result<(), _>>()?;
                    }
                }
            }
        })
    }

    async fn update(
        &self,
        key: &ObjectKey,
        subresource: Subresource,
        document: Value,
    ) -> Result<(), Failure> {
        let options = WriteOptions::default();
        Ok(self.registry.update(key, subresource, document, &options).await.map(|_| ())?)
    }

    fn exists(&self, key: &ObjectKey, uid: &str) -> bool {
        self.registry.view().get(key).is_some_and(|object| object.metadata.uid == uid)
    }

    /// What a refused create means: nothing when the name is taken or the namespace ends; and a workload that cannot
    /// have its pods tells so in an Event.
    async fn not_created(
        &self,
        controller: &Controller,
        planned: &ObjectKey,
        kind: &Kind,
        namespace: &str,
        status: Status,
    ) -> Result<(), Failure> {
        let view = self.registry.view();
        let namespace = view.get(&ObjectKey::cluster(&kind::NAMESPACE, namespace));
        if kind.namespaced && namespace.is_none_or(|namespace| namespace.is_terminating()) {
            return Ok(());
        }
        if status.reason == "AlreadyExists" {
            return Ok(());
        }
        if *kind == kind::POD
            && !status.is_unavailable()
            && let Some(owner) = view.get(planned)
        {
            let message = format!("Error creating: {status}");
            let (about, uid) = (planned.clone(), owner.metadata.uid.clone());
            let note = Note { about, uid, warning: true, reason: "FailedCreate", message };
            self.registry.record(controller.name, &note).await;
            self.tell_replica_failure(owner, &status).await;
        }
        Err(status.into())
    }

    /// Says in the status of a ReplicaSet or ReplicationController why it has not its pods; its controller takes that back.
    async fn tell_replica_failure(&self, owner: &Object, why: &Status) {
        if ![&kind::REPLICA_SET, &kind::REPLICATION_CONTROLLER].contains(&&owner.key.kind) {
            return;
        }
        let now = time_text(Timestamp::now());
        let condition = json!({"type": REPLICA_FAILURE, "status": "True", "reason": "FailedCreate",
            "message": why.to_string(), "lastTransitionTime": now});
        let options = WriteOptions::default();
        let told = self.registry.modify(&owner.key, Subresource::Status, &options, |found| {
            let mut document = document(found);
            let conditions = document["status"]["conditions"].as_array().cloned();
            let mut conditions = conditions.unwrap_or_default();
            if !conditions.iter().any(|condition| condition["type"] == REPLICA_FAILURE) {
                conditions.push(condition.clone());
                document["status"]["conditions"] = conditions.into();
            }
            Ok(document)
        });
        if let Err(status) = told.await {
            tracing::debug!(key = %owner.key, %status, "a replica failure could not be told");
        }
    }
}

/// Why a step did not do what it should.
enum Failure {
    /// The object is no longer what was planned on.
    Conflict,
    /// Anything else.
    Refused(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.reason {
            // Gone between plan and step: the plan is as outdated as after a conflict.
            "Conflict" | "NotFound" => Self::Conflict,
            _ => Self::Refused(status),
        }
    }
}

#[cfg(test)]
mod tests;
