//! The sync loop: every pod that is bound to one of our nodes runs as its object says, and its status tells so.
//!
//! One task owns all state. Writes run beside it, one at a time per pod, so that many pods start at once while each
//! pod's statuses stay in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Object, ObjectKey, Status, kind},
    node::{
        NodeOptions, Options,
        addresses::Addresses,
        containers,
        drain::drained,
        notes::{announcement, port_notes},
        parse,
        parts::{self, Part},
        ports::{port_name, ports},
        status,
    },
    registry::{DeleteOptions, Event, Note, Part as Section, Registry, View, WriteOptions},
    runtime::{PodEvent, PodRuntime, PodSpec, PodState, Stage},
};

/// `"false"` keeps a pod from being ready.
const READY_ANNOTATION: &str = "snowglobe.dev/ready";
/// Where the ports of a pod really are when they could not be bound as they are: `{"80/TCP": 41234}`.
const BOUND_PORTS_ANNOTATION: &str = "snowglobe.dev/bound-ports";
/// Marks pods that stand for a part of this process; they are not run.
pub(crate) const PART_ANNOTATION: &str = "snowglobe.dev/part";
/// Who the Events come from.
const COMPONENT: &str = "kubelet";
/// A terminating pod stops accepting once nobody sends it traffic: no EndpointSlice calls it ready, nor is it all that a
/// Service has until its successor is ready. Or after this.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// A pod with a grace period takes this long to end at least. `kubectl delete` looks whether the pod is there, lists, and
/// watches: a pod that goes, and a successor of its name that comes, between these steps leave it waiting for ever.
const TERMINATION_MIN: Duration = Duration::from_millis(500);
/// Why a pod was ended from here.
struct Reason {
    reason: &'static str,
    message: &'static str,
}

/// In kubelet's words.
const OVERDUE: Reason = Reason {
    reason: "DeadlineExceeded",
    message: "Pod was active on the node longer than the specified deadline",
};

struct Sync {
    registry: Arc<Registry>,
    runtime: Arc<dyn PodRuntime>,
    options: Options,
    addresses: BTreeMap<String, Addresses>,
    /// Addresses that pods had when this loop began: pods of an earlier run, and parts of this process.
    reserved: BTreeSet<IpAddr>,
    running: BTreeMap<String, Running>,
    parts: BTreeMap<ObjectKey, Part>,
    /// Status writes; each gives the uid of its pod.
    writes: JoinSet<String>,
    /// Ends of terminating pods.
    stops: JoinSet<String>,
}

/// One pod that runs here.
struct Running {
    key: ObjectKey,
    node: NodeOptions,
    spec: PodSpec,
    state: Option<PodState>,
    /// The state whose ports the newest Events tell of.
    noted: Option<PodState>,
    /// A status write is under way.
    writing: bool,
    /// `state` changed since the last write began.
    unwritten: bool,
    stopping: bool,
    /// What a pod that is stopping has left for it.
    grace: Duration,
    /// When `activeDeadlineSeconds` is over.
    deadline: Option<Instant>,
    /// To be recorded with the first status.
    announcement: Option<Note>,
}

pub(crate) async fn run(
    registry: Arc<Registry>,
    runtime: Arc<dyn PodRuntime>,
    options: Options,
    token: CancellationToken,
) {
    let view = registry.view();
    let mut changes = registry.subscribe(&[&kind::POD, &kind::SERVICE], view.revision());
    let mut events = runtime.events();
    let addresses = options
        .nodes
        .iter()
        .map(|node| (node.name.clone(), Addresses::new(node.pod_cidr)))
        .collect();
    let reserved = view.list(&kind::POD, None).filter_map(|pod| {
        let pod: Pod = pod.parse().ok()?;
        pod.status?.pod_ip?.parse().ok()
    });
    let reserved = reserved.collect();
    let parts = options.parts.iter().map(|part| (parts::key(part), part.clone())).collect();
    let (running, writes, stops) = (BTreeMap::new(), JoinSet::new(), JoinSet::new());
    let mut sync =
        Sync { registry, runtime, options, addresses, reserved, running, parts, writes, stops };
    sync.sync_all(&view).await;
    loop {
        let deadline = sync.running.values().filter(|r| !r.stopping).filter_map(|r| r.deadline);
        let deadline = deadline.min();
        tokio::select! {
            () = token.cancelled() => break,
            () = reached(deadline) => sync.end_overdue(),
            batch = changes.next() => match batch {
                Ok(batch) => sync.objects_changed(&batch).await,
                Err(_behind) => {
                    let view = sync.registry.view();
                    changes = sync.registry.subscribe(&[&kind::POD, &kind::SERVICE], view.revision());
                    sync.sync_all(&view).await;
                }
            },
            Some(event) = events.next() => sync.pod_changed(event),
            Some(done) = sync.writes.join_next() => sync.written(done.ok()),
            Some(done) = sync.stops.join_next() => {
                if let Ok(uid) = done {
                    sync.running.remove(&uid);
                }
            }
        }
    }
    sync.stops.abort_all();
    sync.writes.abort_all();
    for uid in sync.running.keys() {
        sync.runtime.stop(uid, Duration::ZERO).await;
    }
}

impl Sync {
    async fn sync_all(&mut self, view: &View) {
        let keys: BTreeSet<ObjectKey> =
            view.list(&kind::POD, None).map(|pod| pod.key.clone()).collect();
        let gone = self.running.values().map(|r| r.key.clone()).filter(|key| !keys.contains(key));
        let all: BTreeSet<ObjectKey> = gone.chain(keys.iter().cloned()).collect();
        self.sync_pods(view, &all).await;
    }

    async fn objects_changed(&mut self, batch: &[Arc<Event>]) {
        let view = self.registry.view();
        let mut pods = BTreeSet::new();
        let mut namespaces = BTreeSet::new();
        for event in batch {
            let key = &event.object.key;
            if *key.kind == kind::POD {
                pods.insert(key.clone());
            } else {
                namespaces.insert(key.namespace.clone());
            }
        }
        // A Service changes where the pods that it selects must listen.
        let affected = self.running.values().filter(|r| namespaces.contains(&r.key.namespace));
        pods.extend(affected.map(|running| running.key.clone()));
        self.sync_pods(&view, &pods).await;
    }

    async fn sync_pods(&mut self, view: &View, keys: &BTreeSet<ObjectKey>) {
        for key in keys {
            self.sync_pod(view, key).await;
        }
    }

    async fn sync_pod(&mut self, view: &View, key: &ObjectKey) {
        let object = view.get(key);
        let uid = object.map(|object| object.metadata.uid.as_str());
        let stale: Vec<String> = self
            .running
            .iter()
            .filter(|(known, r)| r.key == *key && Some(known.as_str()) != uid)
            .map(|(known, _)| known.clone())
            .collect();
        for uid in stale {
            if self.running.get(&uid).is_some_and(|running| running.stopping) {
                self.stop_sooner(&uid, Duration::ZERO);
                continue;
            }
            self.runtime.stop(&uid, Duration::ZERO).await;
            self.running.remove(&uid);
        }
        if let Some(part) = self.parts.get(key) {
            if object.is_none_or(|object| object.is_terminating()) {
                self.restore(part.clone());
            }
            return;
        }
        let Some(object) = object else { return };
        let Ok(pod) = object.parse::<Pod>() else { return };
        let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(node) = self.options.nodes.iter().find(|n| Some(n.name.as_str()) == node_name)
        else {
            return;
        };
        let node = node.clone();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        if object.is_terminating() {
            self.stop_pod(object, &pod);
        } else {
            self.ensure_pod(view, object, &pod, node).await;
        }
    }

    async fn ensure_pod(&mut self, view: &View, object: &Object, pod: &Pod, node: NodeOptions) {
        let uid = &object.metadata.uid;
        let known_ip = self.running.get(uid).map(|running| running.spec.ip);
        let ip = known_ip.or_else(|| self.address_for(pod, &node));
        let Some(ip) = ip else {
            let text = format!("node {} has no free pod address in {}", node.name, node.pod_cidr);
            self.record(object, true, "FailedCreatePodSandBox", text);
            return;
        };
        let services: Vec<Service> =
            view.services_selecting(object).filter_map(|service| service.parse().ok()).collect();
        let spec = PodSpec {
            uid: uid.clone(),
            namespace: object.key.namespace.clone(),
            name: object.key.name.clone(),
            node: node.name.clone(),
            zone: node.zone.clone().unwrap_or_default(),
            ip,
            ports: ports(pod, &services),
            wants_ready: object.metadata.annotations.get(READY_ANNOTATION).map(String::as_str)
                != Some("false"),
            containers: containers::containers(object, pod, ip),
            restart: containers::restart(pod),
            runs_to_completion: containers::runs_to_completion(object),
        };
        let deadline = deadline(pod);
        if let Some(running) = self.running.get_mut(uid) {
            running.deadline = deadline;
            if running.spec == spec {
                return;
            }
        }
        let announcement = announcement(object, pod, &spec).filter(|_| known_ip.is_none());
        let key = object.key.clone();
        let running = self.running.entry(uid.clone()).or_insert_with(|| Running {
            key,
            node,
            spec: spec.clone(),
            state: None,
            noted: None,
            writing: false,
            unwritten: false,
            stopping: false,
            grace: Duration::MAX,
            deadline,
            announcement,
        });
        running.spec = spec.clone();
        self.runtime.ensure(spec).await;
    }

    /// Brings the pod of a part of this process back.
    fn restore(&mut self, part: Part) {
        let registry = self.registry.clone();
        self.writes.spawn(async move {
            if let Err(status) = parts::ensure(&registry, &part).await {
                tracing::warn!(pod = %part.name, error = %status, "cannot restore a part's pod");
            }
            String::new()
        });
    }

    /// The address that a pod has already, its node's for host networking, else a new one.
    fn address_for(&mut self, pod: &Pod, node: &NodeOptions) -> Option<IpAddr> {
        if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Some(node.address);
        }
        // Who has ended needs no address any more.
        let ended = |state: &PodState| state.stage == Stage::Ended;
        let alive = self.running.values().filter(|r| !r.state.as_ref().is_some_and(ended));
        let mut used: BTreeSet<IpAddr> = alive.map(|running| running.spec.ip).collect();
        let given = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        if let Some(ip) = given.and_then(|ip| ip.parse().ok())
            && node.pod_cidr.contains(&ip)
            && !used.contains(&ip)
        {
            return Some(ip);
        }
        used.extend(&self.reserved);
        self.addresses.get_mut(&node.name)?.next(&used)
    }

    fn record(&mut self, object: &Object, warning: bool, reason: &'static str, message: String) {
        let note = Note {
            about: object.key.clone(),
            uid: object.metadata.uid.clone(),
            warning,
            reason,
            message,
        };
        let registry = self.registry.clone();
        self.writes.spawn(async move {
            registry.record(COMPONENT, &note).await;
            String::new()
        });
    }

    fn stop_pod(&mut self, object: &Object, pod: &Pod) {
        let uid = object.metadata.uid.clone();
        let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if let Some(running) = self.running.get_mut(&uid) {
            if running.stopping {
                self.stop_sooner(&uid, grace);
                return;
            }
            (running.stopping, running.grace) = (true, grace);
        }
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
        let key = object.key.clone();
        let begun = Instant::now();
        self.stops.spawn(async move {
            if let Some(ip) = ip {
                let drained = tokio::time::timeout(DRAIN_MAX, drained(&registry, &key, &ip)).await;
                if drained.is_err() {
                    tracing::debug!(%key, "a terminating pod is still called ready by some slice");
                }
            }
            let left = grace.min(TERMINATION_MIN).saturating_sub(begun.elapsed());
            tokio::time::sleep(left).await;
            runtime.stop(&uid, grace).await;
            tell_end(&registry, &key, &uid, None).await;
            remove(&registry, &key, &uid).await;
            uid
        });
    }

    /// Shortens the grace period of a pod that is stopping: what waits for its end waits on.
    fn stop_sooner(&mut self, uid: &str, grace: Duration) {
        let Some(running) = self.running.get_mut(uid).filter(|running| grace < running.grace)
        else {
            return;
        };
        running.grace = grace;
        let (runtime, uid) = (self.runtime.clone(), uid.to_owned());
        self.writes.spawn(async move {
            runtime.stop(&uid, grace).await;
            String::new()
        });
    }

    /// Stops the pods whose `activeDeadlineSeconds` are over, in their own time, and then says that they failed.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        for (uid, running) in &mut self.running {
            if running.stopping || running.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            (running.stopping, running.grace) = (true, Duration::MAX);
            let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
            let (key, uid) = (running.key.clone(), uid.clone());
            self.stops.spawn(async move {
                let pod = registry.get(&key).and_then(|object| parse::<Pod>(&object)).ok();
                let grace = pod.and_then(|pod| pod.spec?.termination_grace_period_seconds);
                let grace = Duration::from_secs(u64::try_from(grace.unwrap_or(0)).unwrap_or(0));
                runtime.stop(&uid, grace).await;
                tell_end(&registry, &key, &uid, Some(&OVERDUE)).await;
                // Whoever deleted it meanwhile waits for this.
                if registry.get(&key).is_ok_and(|pod| pod.is_terminating()) {
                    remove(&registry, &key, &uid).await;
                }
                uid
            });
        }
    }

    fn pod_changed(&mut self, event: PodEvent) {
        let Some(running) = self.running.get_mut(&event.uid) else { return };
        if running.stopping || running.state.as_ref() == Some(&event.state) {
            return;
        }
        running.state = Some(event.state);
        running.unwritten = true;
        self.write(&event.uid);
    }

    /// Begins a status write unless one is under way.
    fn write(&mut self, uid: &str) {
        let Some(running) = self.running.get_mut(uid) else { return };
        let Some(state) = running.state.clone() else { return };
        if running.writing || !running.unwritten || running.stopping {
            return;
        }
        (running.writing, running.unwritten) = (true, false);
        let (registry, key, node) =
            (self.registry.clone(), running.key.clone(), running.node.clone());
        let (spec, uid) = (running.spec.clone(), uid.to_owned());
        let announcement = running.announcement.take();
        let noted = running.noted.replace(state.clone());
        self.writes.spawn(async move {
            match write_status(&registry, &key, &node, &spec, &state).await {
                Ok(()) => {
                    let ports = port_notes(&key, noted.as_ref(), &state, &spec);
                    for note in announcement.into_iter().chain(ports) {
                        registry.record(COMPONENT, &note).await;
                    }
                }
                Err(status) if status.code != 404 => {
                    tracing::warn!(%key, error = %status, "cannot write a pod's status");
                }
                Err(_gone) => {}
            }
            uid
        });
    }

    fn written(&mut self, uid: Option<String>) {
        let Some(uid) = uid else { return };
        if let Some(running) = self.running.get_mut(&uid) {
            running.writing = false;
            self.write(&uid);
        }
    }
}

/// Waits for a deadline, if there is one.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// When a pod will have been active for too long.
fn deadline(pod: &Pod) -> Option<Instant> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let now = Timestamp::now();
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let started = started.map_or(now, |started| started.0);
    let end = started.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// Removes the object of a pod that has ended.
async fn remove(registry: &Registry, key: &ObjectKey, uid: &str) {
    let uid = Some(uid.to_owned());
    let options = DeleteOptions { grace_seconds: Some(0), uid, ..<_>::default() };
    if let Err(status) = registry.delete(key, &options).await
        && status.code != 404
        && status.code != 409
    {
        tracing::warn!(%key, error = %status, "cannot remove a terminated pod");
    }
}

/// Tells that a pod was ended, when somebody wants to know: there is a reason, or a finalizer keeps it.
async fn tell_end(registry: &Registry, key: &ObjectKey, uid: &str, why: Option<&Reason>) {
    let told = registry
        .modify(key, Section::Status, &WriteOptions::default(), |pod| {
            let wanted = why.is_some() || !pod.metadata.finalizers.is_empty();
            if pod.metadata.uid != uid || !wanted {
                return Err(Status::not_found(key));
            }
            let typed: Pod = parse(pod)?;
            let mut document: Value = parse(pod)?;
            document["status"] = json!(status::killed(&typed, Timestamp::now()));
            if let Some(Reason { reason, message }) = why {
                document["status"]["reason"] = (*reason).into();
                document["status"]["message"] = (*message).into();
            }
            Ok(document)
        })
        .await;
    if let Err(status) = told
        && status.code != 404
    {
        tracing::warn!(%key, error = %status, "cannot write the last status of a pod");
    }
}

async fn write_status(
    registry: &Registry,
    key: &ObjectKey,
    node: &NodeOptions,
    spec: &PodSpec,
    state: &PodState,
) -> Result<(), Status> {
    let options = WriteOptions::default();
    let own = |pod: &Object| {
        if pod.metadata.uid == spec.uid { Ok(()) } else { Err(Status::not_found(key)) }
    };
    let moved: BTreeMap<String, u16> =
        state.moved.iter().map(|moved| (port_name(&moved.port), moved.bound)).collect();
    let wanted = (!moved.is_empty()).then(|| json!(moved).to_string());
    let object = registry.get(key)?;
    if object.metadata.annotations.get(BOUND_PORTS_ANNOTATION) != wanted.as_ref() {
        registry
            .modify(key, Section::Main, &options, |pod| {
                own(pod)?;
                let mut document: Value = parse(pod)?;
                match &wanted {
                    Some(text) => {
                        document["metadata"]["annotations"][BOUND_PORTS_ANNOTATION] =
                            text.as_str().into();
                    }
                    None => {
                        if let Some(all) = document["metadata"]["annotations"].as_object_mut() {
                            all.remove(BOUND_PORTS_ANNOTATION);
                        }
                    }
                }
                Ok(document)
            })
            .await?;
    }
    registry
        .modify(key, Section::Status, &options, |pod| {
            own(pod)?;
            let typed: Pod = parse(pod)?;
            let mut document: Value = parse(pod)?;
            let status = status::running(&typed, spec.ip, node, state, Timestamp::now());
            document["status"] = json!(status);
            Ok(document)
        })
        .await?;
    Ok(())
}
