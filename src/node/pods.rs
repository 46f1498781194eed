//! The sync loop: every pod that is bound to one of our nodes runs as its object says, and its status tells so.
//!
//! One task owns all state. Writes run beside it, one at a time per pod, so that many pods start at once while each
//! pod's statuses stay in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Kind, Object, ObjectKey, kind},
    node::{
        NodeOptions, Options,
        addresses::Addresses,
        containers,
        drain::{Slices, drained},
        environment::Surroundings,
        mirror_pods::{self, MirrorPod},
        notes::{announcement, port_notes},
        parse,
        ports::ports,
        references::{self, Missing},
        report::{self, OVERDUE},
        running::{Running, Table},
        status,
    },
    registry::{Event, EventKind, Note, Registry, View, until_written},
    runtime::{PodEvent, PodRuntime, PodSpec},
};

/// `"false"` keeps a pod from being ready.
const READY_ANNOTATION: &str = "snowglobe.dev/ready";
/// Who the Events come from.
const COMPONENT: &str = "kubelet";
/// A pod with a grace period takes this long to end at least. `kubectl delete` looks whether the pod is there, lists, and
/// watches: a pod that goes, and a successor of its name that comes, between these steps leave it waiting for ever.
const TERMINATION_MIN: Duration = Duration::from_millis(500);
/// What the loop follows.
static KINDS: &[&Kind] =
    &[&kind::POD, &kind::SERVICE, &kind::ENDPOINT_SLICE, &kind::CONFIG_MAP, &kind::SECRET];

struct Sync {
    registry: Arc<Registry>,
    runtime: Arc<dyn PodRuntime>,
    options: Options,
    addresses: BTreeMap<String, Addresses>,
    /// Addresses that pods had when this loop began: pods of an earlier run, and parts of this process.
    reserved: BTreeSet<IpAddr>,
    running: Table,
    /// Pods that do not start yet: the uid, and why.
    held: BTreeMap<ObjectKey, (String, Missing)>,
    slices: Slices,
    mirror_pods: BTreeMap<ObjectKey, MirrorPod>,
    /// Status writes; each gives the uid of its pod.
    writes: JoinSet<String>,
    /// Ends of pods.
    stops: JoinSet<Stopped>,
    /// The uids of `stops`.
    ending: BTreeSet<String>,
}

/// A pod of which nothing is left.
struct Stopped {
    uid: String,
    namespace: String,
    ip: Option<String>,
}

pub(crate) async fn run(
    registry: Arc<Registry>,
    runtime: Arc<dyn PodRuntime>,
    options: Options,
    token: CancellationToken,
) {
    let mut events = runtime.events();
    let mut sync = Sync::new(registry, runtime, options);
    let mut view = sync.registry.view();
    loop {
        let mut changes = sync.registry.subscribe(KINDS, view.revision());
        sync.sync_all(&view).await;
        loop {
            tokio::select! {
                () = token.cancelled() => return sync.stop_all().await,
                () = reached(sync.running.next_deadline()) => sync.end_overdue(),
                batch = changes.next() => match batch {
                    Ok(batch) => sync.objects_changed(&batch).await,
                    Err(_behind) => break,
                },
                Some(event) = events.next() => sync.pod_changed(event),
                Some(done) = sync.writes.join_next() => sync.written(done.ok()),
                Some(done) = sync.stops.join_next() => {
                    if let Ok(stopped) = done {
                        sync.stopped(&stopped);
                    }
                }
            }
        }
        view = sync.registry.view();
    }
}

impl Sync {
    fn new(registry: Arc<Registry>, runtime: Arc<dyn PodRuntime>, options: Options) -> Self {
        let nodes = options.nodes.iter();
        let addresses =
            nodes.map(|node| (node.name.clone(), Addresses::new(node.pod_cidr))).collect();
        let view = registry.view();
        let reserved = view.list(&kind::POD, None).filter_map(|pod| {
            let pod: Pod = pod.parse().ok()?;
            pod.status?.pod_ip?.parse().ok()
        });
        let reserved = reserved.collect();
        let mirror_pods = options.mirror_pods.iter();
        let mirror_pods = mirror_pods.map(|pod| (mirror_pods::key(pod), pod.clone())).collect();
        Self {
            registry,
            runtime,
            options,
            addresses,
            reserved,
            running: Table::default(),
            held: BTreeMap::new(),
            slices: Slices::default(),
            mirror_pods,
            writes: JoinSet::new(),
            stops: JoinSet::new(),
            ending: BTreeSet::new(),
        }
    }

    async fn stop_all(mut self) {
        self.stops.abort_all();
        self.writes.abort_all();
        for uid in self.running.uids() {
            self.runtime.stop(uid, Duration::ZERO).await;
        }
    }

    async fn sync_all(&mut self, view: &View) {
        self.slices.replace(view.list(&kind::ENDPOINT_SLICE, None));
        let keys = view.list(&kind::POD, None).map(|pod| &pod.key);
        let all: BTreeSet<ObjectKey> = keys.chain(self.running.keys()).cloned().collect();
        self.sync_pods(view, &all).await;
    }

    async fn objects_changed(&mut self, batch: &[Arc<Event>]) {
        let view = self.registry.view();
        let mut pods = BTreeSet::new();
        for event in batch {
            let key = &event.object.key;
            if *key.kind == kind::POD {
                pods.insert(key.clone());
            } else if *key.kind == kind::ENDPOINT_SLICE {
                let gone = event.kind == EventKind::Deleted;
                let slice = (!gone).then_some(&*event.object);
                self.slices.apply(key, slice, event.revision);
            } else if matches!(key.kind.kind, "ConfigMap" | "Secret") {
                let here = self.held.keys().filter(|pod| pod.namespace == key.namespace);
                pods.extend(here.cloned());
            } else {
                // A Service changes where the pods that it selects, or did, must listen.
                let states = event.previous.iter().chain([&event.object]);
                let selected = states.flat_map(|service| view.selected_by(service));
                pods.extend(selected.map(|pod| pod.key.clone()));
            }
        }
        self.sync_pods(&view, &pods).await;
    }

    /// A pod that cannot be handled keeps nobody from the others.
    async fn sync_pods(&mut self, view: &View, keys: &BTreeSet<ObjectKey>) {
        for key in keys {
            if AssertUnwindSafe(self.sync_pod(view, key)).catch_unwind().await.is_err() {
                tracing::error!(%key, "a node panicked over a pod, which is as it was; this is a bug");
            }
        }
    }

    async fn sync_pod(&mut self, view: &View, key: &ObjectKey) {
        let object = view.get(key);
        let uid = object.map(|object| object.metadata.uid.as_str());
        let stale = self.running.uids_of(key).filter(|known| Some(known.as_str()) != uid);
        for uid in stale.cloned().collect::<Vec<_>>() {
            if self.ending.contains(&uid) {
                self.stop_sooner(&uid, Duration::ZERO);
                continue;
            }
            self.runtime.stop(&uid, Duration::ZERO).await;
            self.forget(&uid);
        }
        if let Some(pod) = self.mirror_pods.get(key) {
            if object.is_none_or(|object| object.is_terminating()) {
                self.restore(pod.clone());
            }
            return;
        }
        if object.is_none_or(|object| object.is_terminating()) {
            self.held.remove(key);
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

    /// Drops what is known of a pod that does not run any more.
    fn forget(&mut self, uid: &str) {
        if let Some(running) = self.running.remove(uid) {
            running.stopping.cancel();
        }
    }

    async fn ensure_pod(&mut self, view: &View, object: &Object, pod: &Pod, node: NodeOptions) {
        let uid = &object.metadata.uid;
        if self.running.get(uid).is_none() && self.holds(view, object, pod, &node) {
            return;
        }
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
            containers: {
                let running = self.running.get(uid).map(|running| &running.spec.containers);
                let here = Surroundings { view, object, pod, node: &node, ip };
                containers::containers(&here, running.map_or(&[], Vec::as_slice))
            },
            restart: containers::restart(pod),
            runs_to_completion: containers::runs_to_completion(object),
        };
        if self.running.get(uid).is_none_or(|running| running.spec != spec) {
            self.run_pod(object, pod, node, spec).await;
        }
        self.running.set_deadline(uid, deadline(pod));
        if status::gates_moved(pod)
            && let Some(running) = self.running.get_mut(uid)
        {
            running.unwritten = true;
            self.write(uid);
        }
    }

    /// Keeps a pod from starting as long as something is missing that it refers to, and says so.
    fn holds(&mut self, view: &View, object: &Object, pod: &Pod, node: &NodeOptions) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let key = &object.key;
        let missing = references::missing(view, &key.namespace, spec);
        // What runs already (of an earlier run of this process) has what it needed.
        if missing.is_empty() || phase == Some("Running") {
            self.held.remove(key);
            return false;
        }
        let held = (object.metadata.uid.clone(), missing.clone());
        if self.held.insert(key.clone(), held.clone()) == Some(held) {
            return true;
        }
        for why in &missing.volumes {
            self.record(object, true, "FailedMount", why.clone());
        }
        if missing.volumes.is_empty() {
            for why in missing.containers.values() {
                self.record(object, true, "Failed", format!("Error: {why}"));
            }
        }
        let (registry, node) = (self.registry.clone(), node.clone());
        let (key, uid) = (key.clone(), object.metadata.uid.clone());
        self.writes.spawn(async move {
            let written =
                until_written(&key, || report::write_held(&registry, &key, &uid, &node, &missing));
            if let Err(status) = written.await
                && status.code != 404
            {
                tracing::warn!(%key, error = %status, "cannot write a pod's status");
            }
            String::new()
        });
        true
    }

    async fn run_pod(&mut self, object: &Object, pod: &Pod, node: NodeOptions, spec: PodSpec) {
        if let Some(running) = self.running.get_mut(&spec.uid) {
            running.spec = spec.clone();
        } else {
            let mut running = Running::new(object.key.clone(), node, spec.clone());
            running.announcement = announcement(object, pod, &spec);
            self.running.insert(running);
        }
        self.runtime.ensure(spec).await;
    }

    /// Brings back a mirror pod that was deleted.
    fn restore(&mut self, mirror: MirrorPod) {
        let registry = self.registry.clone();
        self.writes.spawn(async move {
            let restored = until_written(&mirror.name, || mirror_pods::ensure(&registry, &mirror));
            if let Err(status) = restored.await {
                tracing::warn!(pod = %mirror.name, error = %status, "cannot restore a mirror pod");
            }
            String::new()
        });
    }

    /// The address that a pod has already, its node's for host networking, else a new one.
    fn address_for(&mut self, pod: &Pod, node: &NodeOptions) -> Option<IpAddr> {
        if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Some(node.address);
        }
        let given = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
        if let Some(ip) = given.and_then(|ip| ip.parse().ok())
            && node.pod_cidr.contains(&ip)
            && !self.running.is_used(&ip)
        {
            return Some(ip);
        }
        let (running, reserved) = (&self.running, &self.reserved);
        let is_used = |ip: &IpAddr| running.is_used(ip) || reserved.contains(ip);
        self.addresses.get_mut(&node.name)?.next(is_used)
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

    /// Marks a pod as being stopped; false when it was before.
    fn begin_stop(&mut self, uid: &str, grace: Duration) -> bool {
        if !self.ending.insert(uid.to_owned()) {
            return false;
        }
        if let Some(running) = self.running.get_mut(uid) {
            running.stopping.cancel();
            running.grace = grace;
        }
        true
    }

    fn stop_pod(&mut self, object: &Object, pod: &Pod) {
        let uid = object.metadata.uid.clone();
        let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if !self.begin_stop(&uid, grace) {
            return self.stop_sooner(&uid, grace);
        }
        let (registry, runtime, key) =
            (self.registry.clone(), self.runtime.clone(), object.key.clone());
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let stopped = Stopped { uid, namespace: key.namespace.clone(), ip };
        let watched = stopped.place().map(|place| self.slices.watch(&place));
        let begun = Instant::now();
        self.spawn_stop(stopped, |uid| async move {
            if let Some(watched) = watched
                && !drained(&registry, watched, grace).await
            {
                tracing::debug!(%key, "a terminating pod may still get traffic");
            }
            let left = grace.min(TERMINATION_MIN).saturating_sub(begun.elapsed());
            tokio::time::sleep(left).await;
            runtime.stop(&uid, grace).await;
            report::tell_end(&registry, &key, &uid, None).await;
            report::remove(&registry, &key, &uid).await;
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
        while let Some(uid) = self.running.take_overdue(now) {
            let Some(key) = self.running.get(&uid).map(|running| running.key.clone()) else {
                continue;
            };
            if !self.begin_stop(&uid, Duration::MAX) {
                continue;
            }
            let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
            let stopped = Stopped { uid, namespace: key.namespace.clone(), ip: None };
            self.spawn_stop(stopped, |uid| async move {
                let pod = registry.get(&key).and_then(|object| parse::<Pod>(&object)).ok();
                let grace = pod.and_then(|pod| pod.spec?.termination_grace_period_seconds);
                let grace = Duration::from_secs(u64::try_from(grace.unwrap_or(0)).unwrap_or(0));
                runtime.stop(&uid, grace).await;
                report::tell_end(&registry, &key, &uid, Some(&OVERDUE)).await;
                // Whoever deleted it meanwhile waits for this.
                if registry.get(&key).is_ok_and(|pod| pod.is_terminating()) {
                    report::remove(&registry, &key, &uid).await;
                }
            });
        }
    }

    fn spawn_stop<F>(&mut self, stopped: Stopped, stop: impl FnOnce(String) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = AssertUnwindSafe(stop(stopped.uid.clone()));
        self.stops.spawn(async move {
            if stop.catch_unwind().await.is_err() {
                tracing::error!(uid = %stopped.uid, "a node panicked over the end of a pod; this is a bug");
            }
            stopped
        });
    }

    fn stopped(&mut self, stopped: &Stopped) {
        self.ending.remove(&stopped.uid);
        self.forget(&stopped.uid);
        if let Some(place) = stopped.place() {
            self.slices.unwatch(&place);
        }
    }

    fn pod_changed(&mut self, event: PodEvent) {
        let Some(running) = self.running.get(&event.uid) else { return };
        if running.stopping.is_cancelled() || running.state.as_ref() == Some(&event.state) {
            return;
        }
        self.running.set_state(&event.uid, event.state);
        self.write(&event.uid);
    }

    /// Begins a status write unless one is under way.
    fn write(&mut self, uid: &str) {
        let Some(running) = self.running.get_mut(uid) else { return };
        let Some(state) = running.state.clone() else { return };
        if running.writing || !running.unwritten || running.stopping.is_cancelled() {
            return;
        }
        (running.writing, running.unwritten) = (true, false);
        let (registry, key, node) =
            (self.registry.clone(), running.key.clone(), running.node.clone());
        let (spec, uid, stopping) =
            (running.spec.clone(), uid.to_owned(), running.stopping.clone());
        let announcement = running.announcement.take();
        let noted = running.noted.replace(state.clone());
        self.writes.spawn(async move {
            let written =
                until_written(&key, || report::write_status(&registry, &key, &node, &spec, &state));
            match stopping.run_until_cancelled(written).await {
                Some(Ok(())) => {
                    let ports = port_notes(&key, noted.as_ref(), &state, &spec);
                    for note in announcement.into_iter().chain(ports) {
                        registry.record(COMPONENT, &note).await;
                    }
                }
                Some(Err(status)) if status.code != 404 => {
                    tracing::warn!(%key, error = %status, "cannot write a pod's status");
                }
                Some(Err(_)) | None => {}
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

impl Stopped {
    /// Where the slices' traffic to it was watched.
    fn place(&self) -> Option<(String, String)> {
        Some((self.namespace.clone(), self.ip.clone()?))
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
