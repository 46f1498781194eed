//! The sync loop: what shall run of the pods that are bound to one of our nodes. Each of them has a [`Worker`], which does
//! what takes time; this loop decides, and gives orders.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{Kind, Object, ObjectKey, kind, pod::is_phase_terminal},
    node::{
        NodeOptions, Options,
        addresses::Addresses,
        containers,
        drain::Slices,
        environment::PodEnvironment,
        mirror_pods::{self, MirrorPod},
        notes::announcement,
        ports::ports,
        references::{self, Missing},
        report,
        running::{Running, Table},
        status,
        worker::{COMPONENT, Orders, Worker},
    },
    registry::{Event, EventKind, Note, Registry, View, until_written},
    runtime::{PodEvent, PodSpec, Runtimes},
};

/// What the loop follows.
static KINDS: &[&Kind] =
    &[&kind::POD, &kind::SERVICE, &kind::ENDPOINT_SLICE, &kind::CONFIG_MAP, &kind::SECRET];

struct Sync {
    registry: Arc<Registry>,
    runtimes: Runtimes,
    nodes: BTreeMap<String, Arc<NodeOptions>>,
    addresses: BTreeMap<String, Addresses>,
    /// Addresses that pods had when this loop began: pods of an earlier run, and parts of this process.
    reserved: BTreeSet<IpAddr>,
    running: Table,
    /// Pods that do not start yet, or not with all their containers: the uid, and why.
    held: BTreeMap<ObjectKey, (String, Missing)>,
    slices: Slices,
    mirror_pods: BTreeMap<ObjectKey, MirrorPod>,
    /// One for each running pod; gives its uid.
    workers: JoinSet<String>,
    /// What is written besides.
    writes: JoinSet<()>,
}

/// A pod that is bound to one of our nodes.
#[derive(Clone, Copy)]
struct Bound<'a> {
    view: &'a View,
    object: &'a Object,
    pod: &'a Pod,
    node: &'a Arc<NodeOptions>,
}

pub(crate) async fn run(
    registry: Arc<Registry>,
    runtimes: Runtimes,
    options: Options,
    token: CancellationToken,
) {
    let mut events = runtimes.events();
    let mut sync = Sync::new(registry, runtimes, options);
    let mut view = sync.registry.view();
    loop {
        let mut changes = sync.registry.subscribe(KINDS, view.revision());
        sync.sync_all(&view);
        loop {
            tokio::select! {
                () = token.cancelled() => return sync.stop_all().await,
                batch = changes.next() => match batch {
                    Ok(batch) => sync.objects_changed(&batch),
                    Err(_behind) => break,
                },
                Some(PodEvent { uid, state }) = events.next() => sync.running.set_state(&uid, state),
                Some(ended) = sync.workers.join_next() => {
                    if let Ok(uid) = ended {
                        sync.forget(&uid);
                    }
                }
                Some(_written) = sync.writes.join_next() => {}
            }
        }
        view = sync.registry.view();
    }
}

impl Sync {
    fn new(registry: Arc<Registry>, runtimes: Runtimes, options: Options) -> Self {
        let nodes = options.nodes.iter();
        let addresses =
            nodes.map(|node| (node.name.clone(), Addresses::new(node.pod_cidr))).collect();
        let view = registry.view();
        let reserved = view.list(&kind::POD, None).filter_map(|pod| {
            let pod: Pod = pod.parse().ok()?;
            pod.status?.pod_ip?.parse().ok()
        });
        let reserved = reserved.collect();
        let mirror_pods = options.mirror_pods.into_iter();
        let mirror_pods = mirror_pods.map(|pod| (mirror_pods::key(&pod), pod)).collect();
        let nodes = options.nodes.into_iter().map(|node| (node.name.clone(), Arc::new(node)));
        Self {
            registry,
            runtimes,
            nodes: nodes.collect(),
            addresses,
            reserved,
            running: Table::default(),
            held: BTreeMap::new(),
            slices: Slices::default(),
            mirror_pods,
            workers: JoinSet::new(),
            writes: JoinSet::new(),
        }
    }

    async fn stop_all(mut self) {
        self.workers.abort_all();
        self.writes.abort_all();
        for (uid, running) in self.running.iter() {
            running.runtime.stop(uid, Duration::ZERO).await;
        }
    }

    fn sync_all(&mut self, view: &View) {
        self.slices.replace(view.list(&kind::ENDPOINT_SLICE, None));
        let keys = view.list(&kind::POD, None).map(|pod| &pod.key);
        let all: BTreeSet<ObjectKey> = keys.chain(self.running.keys()).cloned().collect();
        self.sync_pods(view, &all);
    }

    fn objects_changed(&mut self, batch: &[Arc<Event>]) {
        let view = self.registry.view();
        let mut pods = BTreeSet::new();
        for event in batch {
            let key = &event.object.key;
            if key.kind == kind::POD {
                pods.insert(key.clone());
            } else if key.kind == kind::ENDPOINT_SLICE {
                let gone = event.kind == EventKind::Deleted;
                let slice = (!gone).then_some(&*event.object);
                self.slices.apply(key, slice, event.revision);
            } else if matches!(&*key.kind.kind, "ConfigMap" | "Secret") {
                let here = self.held.keys().filter(|pod| pod.namespace == key.namespace);
                pods.extend(here.cloned());
            } else {
                // A Service changes where the pods that it selects, or did, must listen.
                let states = event.previous.iter().chain([&event.object]);
                let selected = states.flat_map(|service| view.selected_by(service));
                pods.extend(selected.map(|pod| pod.key.clone()));
            }
        }
        self.sync_pods(&view, &pods);
    }

    /// A pod that cannot be handled keeps nobody from the others.
    fn sync_pods(&mut self, view: &View, keys: &BTreeSet<ObjectKey>) {
        for key in keys {
            if catch_unwind(AssertUnwindSafe(|| self.sync_pod(view, key))).is_err() {
                tracing::error!(%key, "a node panicked over a pod, which is as it was; this is a bug");
            }
        }
    }

    fn sync_pod(&mut self, view: &View, key: &ObjectKey) {
        let object = view.get(key);
        let uid = object.map(|object| object.metadata.uid.as_str());
        let stale = self.running.uids_of(key).filter(|known| Some(known.as_str()) != uid);
        for uid in stale.cloned().collect::<Vec<_>>() {
            self.running.stop(&uid, Duration::ZERO, || None);
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
        let Some(node) = node_name.and_then(|name| self.nodes.get(name)).cloned() else { return };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase.is_some_and(is_phase_terminal) {
            return;
        }
        let bound = Bound { view, object, pod: &pod, node: &node };
        if object.is_terminating() {
            self.stop_pod(bound);
        } else {
            self.ensure_pod(bound);
        }
    }

    /// Forgets a pod of which nothing is left.
    fn forget(&mut self, uid: &str) {
        if let Some(running) = self.running.remove(uid)
            && let Some(place) = running.place
        {
            self.slices.unwatch(&place);
        }
    }

    fn ensure_pod(&mut self, bound: Bound<'_>) {
        let Bound { view, object, pod, node } = bound;
        let uid = &object.metadata.uid;
        let known = self.running.get(uid).and_then(Running::spec);
        let looks = known.is_none() || self.held.contains_key(&object.key);
        let missing = if looks { self.missing(bound) } else { Missing::default() };
        if known.is_none() && pod.spec.as_ref().is_some_and(|spec| missing.holds(spec)) {
            return;
        }
        let ip = known.as_ref().map(|spec| spec.ip).or_else(|| self.address_for(pod, node));
        let Some(ip) = ip else {
            let text = format!("node {} has no free pod address in {}", node.name, node.pod_cidr);
            self.record(object, "FailedCreatePodSandBox", text);
            return;
        };
        let services = view.services_selecting(object).map(|service| service.digest());
        let running = known.as_ref().map_or(&[][..], |spec| &spec.containers);
        let here = PodEnvironment { view, object, pod, node, ip };
        let spec = PodSpec {
            uid: uid.clone(),
            namespace: object.key.namespace.clone(),
            name: object.key.name.clone(),
            node: node.name.clone(),
            zone: node.zone.clone().unwrap_or_default(),
            ip,
            ports: ports(pod, services),
            containers: containers::containers(&here, running, &missing.containers),
            restart: containers::restart(pod),
            runs_to_completion: containers::runs_to_completion(object),
        };
        if known.as_deref() != Some(&spec) {
            self.run_pod(bound, spec);
        }
        self.running.give(uid, |orders| {
            let deadline = deadline(pod);
            let state = orders.state.as_ref();
            let moved = state.is_some_and(|state| status::conditions_moved(pod, state));
            let changed = moved || orders.deadline != deadline;
            orders.status_turn += u64::from(moved);
            orders.deadline = deadline;
            changed
        });
    }

    /// What a pod refers to that is missing. Says so when that is new, and also that the pod, or a part of it, does not
    /// start.
    fn missing(&mut self, bound: Bound<'_>) -> Missing {
        let Bound { view, object, pod, node } = bound;
        let Some(spec) = &pod.spec else { return Missing::default() };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let key = &object.key;
        let missing = references::missing(view, &key.namespace, spec);
        // What runs already (of an earlier run of this process) has what it needed.
        if missing.is_empty() || phase == Some("Running") {
            self.held.remove(key);
            return Missing::default();
        }
        let held = (object.metadata.uid.clone(), missing.clone());
        if self.held.insert(key.clone(), held.clone()) == Some(held) {
            return missing;
        }
        for why in &missing.volumes {
            self.record(object, "FailedMount", why.clone());
        }
        if missing.volumes.is_empty() {
            for why in missing.containers.values() {
                self.record(object, "Failed", format!("Error: {why}"));
            }
        }
        if !missing.holds(spec) {
            return missing;
        }
        let (registry, node) = (self.registry.clone(), node.clone());
        let (key, uid, told) = (key.clone(), object.metadata.uid.clone(), missing.clone());
        self.writes.spawn(async move {
            let written =
                until_written(&key, || report::write_held(&registry, &key, &uid, &node, &told));
            if let Err(status) = written.await
                && status.code != 404
            {
                tracing::warn!(%key, error = %status, "cannot write a pod's status");
            }
        });
        missing
    }

    /// Begins to run a pod, or lets it run as it is described now.
    fn run_pod(&mut self, bound: Bound<'_>, spec: PodSpec) {
        let uid = spec.uid.clone();
        if self.running.get(&uid).is_none() {
            let announcement = announcement(bound.object, bound.pod, &spec);
            let orders = Orders { spec: Some(Arc::new(spec)), ..Orders::default() };
            self.begin(bound, orders, announcement);
        } else {
            self.running.set_spec(&uid, Arc::new(spec));
        }
    }

    /// Gives a pod its worker.
    fn begin(&mut self, bound: Bound<'_>, orders: Orders, announcement: Option<Note>) {
        let Bound { view, object, pod, node } = bound;
        let uid = object.metadata.uid.clone();
        let runtime = self.runtimes.of(references::runtime_handler(view, pod).as_deref()).clone();
        let (orders, given) = watch::channel(orders);
        let worker = Worker {
            registry: self.registry.clone(),
            runtime: runtime.clone(),
            key: object.key.clone(),
            uid: uid.clone(),
            node: node.clone(),
            announcement,
        };
        self.running.insert(uid.clone(), Running::new(object.key.clone(), runtime, orders));
        self.workers.spawn(async move {
            if AssertUnwindSafe(worker.run(given)).catch_unwind().await.is_err() {
                tracing::error!(%uid, "a node panicked over a pod; this is a bug");
            }
            uid
        });
    }

    /// Brings back a mirror pod that was deleted.
    fn restore(&mut self, mirror: MirrorPod) {
        let registry = self.registry.clone();
        self.writes.spawn(async move {
            let restored = until_written(&mirror.name, || mirror_pods::ensure(&registry, &mirror));
            if let Err(status) = restored.await {
                tracing::warn!(pod = %mirror.name, error = %status, "cannot restore a mirror pod");
            }
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

    /// Records a Warning.
    fn record(&mut self, object: &Object, reason: &'static str, message: String) {
        let (about, uid) = (object.key.clone(), object.metadata.uid.clone());
        let note = Note { about, uid, warning: true, reason, message };
        let registry = self.registry.clone();
        self.writes.spawn(async move { registry.record(COMPONENT, &note).await });
    }

    fn stop_pod(&mut self, bound: Bound<'_>) {
        let Bound { object, pod, .. } = bound;
        let uid = &object.metadata.uid;
        let grace = object.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if self.running.get(uid).is_none() {
            // It never ran; that nothing is left of it is told in the same way.
            self.begin(bound, Orders::default(), None);
        }
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let place = ip.map(|ip| (object.key.namespace.clone(), ip));
        let Self { running, slices, .. } = self;
        let traffic = || place.as_ref().map(|place| slices.watch(place));
        if running.stop(uid, grace, traffic)
            && let Some(running) = running.get_mut(uid)
        {
            running.place = place;
        }
    }
}

/// When a pod will have been active for too long. It depends on stored times only, so that each event of a pod gives the
/// same deadline. As with kubelet, a pod that has not started has none.
fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let started = pod.status.as_ref()?.start_time.as_ref()?.0;
    started.checked_add(SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deadline_follows_from_stored_times() {
        let start = json!("2026-01-01T00:00:00Z");
        for (seconds, start, expected) in [
            (json!(90), start.clone(), Some("2026-01-01T00:01:30Z")),
            (json!(1), start.clone(), Some("2026-01-01T00:00:01Z")),
            (json!(null), start.clone(), None),
            (json!(90), json!(null), None),
            // Later than any time that can be told.
            (json!(i64::MAX), start, None),
        ] {
            let pod = json!({"metadata": {}, "spec": {"containers": [], "activeDeadlineSeconds": seconds},
                "status": {"startTime": start}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let expected = expected.map(|time| time.parse::<Timestamp>().unwrap());
            assert_eq!(deadline(&pod), expected, "{seconds} {start}");
        }
    }
}
