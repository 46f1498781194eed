//! DaemonSets: one pod on every node that takes it.
//!
//! The controller says which node a pod is for by node affinity; the scheduler binds it, as in Kubernetes.
//! [`nodes`] decides which nodes, [`update`] replaces pods of former templates.

mod update;

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus},
    core::v1 as core,
};
use serde_json::{Value, json};

use crate::{
    controllers::{
        Controller, Plan, Step, Trigger, WORKERS, World, itself, ownership,
        pod::Pod,
        replica_set::{next_available_in, some},
        revisions::{self, HASH_LABEL, History},
        scheduler::node,
        template,
    },
    model::{Object, ObjectKey, kind},
    registry::{TEMPLATE_GENERATION, View},
};

/// Creations and deletions of one plan, as in Kubernetes.
const BURST: usize = 250;
/// `apps/v1beta` clients look at this label.
const GENERATION_LABEL: &str = "pod-template-generation";

pub(crate) static CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    workers: WORKERS,
    triggers: &[
        Trigger { kind: Some(&kind::DAEMON_SET), keys: itself },
        Trigger { kind: Some(&kind::POD), keys: sets_of },
        Trigger { kind: Some(&kind::CONTROLLER_REVISION), keys: sets_of },
        Trigger { kind: Some(&kind::NODE), keys: all_sets },
    ],
    plan,
};

fn sets_of(view: &View, object: &Object) -> Vec<ObjectKey> {
    ownership::managers(view, &kind::DAEMON_SET, object)
}

fn all_sets(view: &View, _node: &Object) -> Vec<ObjectKey> {
    view.list(&kind::DAEMON_SET, None).map(|set| set.key.clone()).collect()
}

/// One DaemonSet as a plan sees it.
struct Set<'a> {
    world: &'a World<'a>,
    object: &'a Object,
    spec: &'a DaemonSetSpec,
    history: History,
    /// Every node, and whether the set's pods belong there.
    nodes: BTreeMap<String, node::Suitability>,
    /// Pods by the node that they are on, or are for; oldest first.
    pods: BTreeMap<String, Vec<Pod<'a>>>,
}

fn plan(world: &World<'_>, key: &ObjectKey) -> Plan {
    let Some(object) = world.view.get(key) else { return Plan::nothing() };
    let Some(parsed) = world.view.parse::<DaemonSet>(key) else { return Plan::nothing() };
    let Some(spec) = &parsed.spec else { return Plan::nothing() };
    let selected = ownership::selected(world.view, &kind::POD, object, &spec.selector);
    let (selector, claimed) = match selected {
        Ok(selected) => selected,
        Err(plan) => return plan,
    };
    let old = parsed.status.clone().unwrap_or_default();
    let collisions = old.collision_count.unwrap_or(0);
    let history = match revisions::history(world, object, &selector, &spec.template, collisions) {
        Ok(history) => history,
        Err(adoptions) => return Plan::all(adoptions),
    };
    if history.collided {
        let collision_count = Some(collisions.saturating_add(1));
        let status = DaemonSetStatus { collision_count, ..old };
        return Vec::from_iter(Step::status(object, &status)).into();
    }
    let mut pods: BTreeMap<String, Vec<Pod<'_>>> = BTreeMap::new();
    for pod in claimed.into_iter().map(Pod::of) {
        if let Some(node) = node_of(&pod) {
            pods.entry(node).or_default().push(pod);
        }
    }
    for pods in pods.values_mut() {
        pods.sort_by_key(|pod| (pod.created(), pod.object.key.name.clone()));
    }
    let shape = pod_spec(spec);
    let nodes = node::nodes(world.view);
    let nodes = nodes.into_iter().map(|(name, node)| (name, node.suitability(&shape))).collect();
    Set { world, object, spec, history, nodes, pods }.plan(&old)
}

/// The node that a pod is on, or is for.
fn node_of(pod: &Pod<'_>) -> Option<String> {
    if !pod.facts.spec.node_name.is_empty() {
        return Some(pod.facts.spec.node_name.clone());
    }
    let affinity = pod.object.parse::<core::Pod>().ok()?.spec?.affinity?.node_affinity?;
    let required = affinity.required_during_scheduling_ignored_during_execution?;
    let mut fields =
        required.node_selector_terms.into_iter().flat_map(|term| term.match_fields).flatten();
    fields.find(|field| field.key == "metadata.name")?.values?.into_iter().next()
}

/// The template's pod with the tolerations that every daemon has.
fn pod_spec(spec: &DaemonSetSpec) -> core::PodSpec {
    let mut pod = spec.template.spec.clone().unwrap_or_default();
    let network = ("network-unavailable", "NoSchedule");
    let host_network = pod.host_network == Some(true);
    let tolerated = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    let tolerations = pod.tolerations.get_or_insert_default();
    for (taint, effect) in tolerated.into_iter().chain(host_network.then_some(network)) {
        let toleration = core::Toleration {
            key: Some(format!("node.kubernetes.io/{taint}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..<_>::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod
}

impl<'a> Set<'a> {
    fn plan(&self, old: &DaemonSetStatus) -> Plan {
        let mut steps = Vec::new();
        if !self.object.is_terminating() {
            steps.extend(self.history.steps.iter().cloned());
            let changes = self.manage();
            let changes = if changes.is_empty() { self.update() } else { changes };
            let (writes, notes): (Vec<_>, Vec<_>) = changes.into_iter().take(BURST).unzip();
            steps.extend(Plan::all(writes).steps);
            steps.extend(Plan::all(notes).steps);
            let used = |revision: &Object| {
                let hash = revision.metadata.labels.get(HASH_LABEL);
                let mut pods = self.pods.values().flatten();
                pods.any(|pod| pod.object.metadata.labels.get(HASH_LABEL) == hash)
            };
            steps.extend(self.history.clean_up(self.spec.revision_history_limit, used));
        }
        let status = self.status(old);
        if status != *old {
            // What is observed is told first, so that nobody waits for the writes.
            steps.splice(0..0, Step::status(self.object, &status));
        }
        let seconds = self.spec.min_ready_seconds.filter(|seconds| *seconds > 0);
        let pods: Vec<_> = self.pods.values().flatten().cloned().collect();
        let requeue = seconds.and_then(|s| next_available_in(self.world.now, s, &pods));
        Plan { steps, requeue }
    }

    fn is_new(&self, pod: &Pod<'_>) -> bool {
        pod.object.metadata.labels.get(HASH_LABEL) == Some(&self.history.hash)
    }

    fn is_available(&self, pod: &Pod<'_>) -> bool {
        pod.is_available(self.spec.min_ready_seconds.unwrap_or(0), self.world.now)
    }

    fn on(&self, node: &str) -> &[Pod<'a>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    /// Pods that are missing, doubled, finished or where they may not be. Each write with its Event.
    fn manage(&self) -> Vec<(Step, Step)> {
        let mut steps = Vec::new();
        for (name, node) in &self.nodes {
            let pods = self.on(name);
            if !node.keeps {
                steps.extend(pods.iter().filter_map(|pod| self.delete(pod)));
                continue;
            }
            let finished = pods.iter().filter(|pod| pod.is_finished());
            steps.extend(finished.filter_map(|pod| self.replace_finished(pod)));
            let alive: Vec<_> = pods.iter().filter(|pod| !pod.is_finished()).collect();
            if alive.is_empty() && pods.is_empty() && node.wants {
                steps.push(self.create(name));
            }
            // While an update surges, an old and a new pod stand side by side.
            let (new, old): (Vec<_>, Vec<_>) = alive
                .into_iter()
                .filter(|pod| pod.is_active())
                .partition(|pod| self.surge() == 0 || self.is_new(pod));
            for generation in [new, old] {
                steps.extend(generation.into_iter().skip(1).filter_map(|pod| self.delete(pod)));
            }
        }
        let gone = self.pods.iter().filter(|(node, _)| !self.nodes.contains_key(*node));
        steps.extend(gone.flat_map(|(_, pods)| pods).filter_map(|pod| self.delete(pod)));
        steps
    }

    fn replace_finished(&self, pod: &Pod<'_>) -> Option<(Step, Step)> {
        let (delete, _) = self.delete(pod)?;
        let node = &pod.facts.spec.node_name;
        let name = format!("{}/{}", pod.object.key.namespace, pod.object.key.name);
        let (reason, what) = match pod.facts.status.phase.as_str() {
            "Failed" => ("FailedDaemonPod", "failed"),
            _ => ("SucceededDaemonPod", "succeeded"),
        };
        let message = format!("Found {what} daemon pod {name} on node {node}, will try to kill it");
        Some((delete, Step::warning(self.object, reason, message)))
    }

    fn delete(&self, pod: &Pod<'_>) -> Option<(Step, Step)> {
        let message = format!("Deleted pod: {}", pod.object.key.name);
        let note = || Step::note(self.object, "SuccessfulDelete", message);
        (!pod.object.is_terminating()).then(|| (Step::delete(pod.object), note()))
    }

    fn create(&self, node: &str) -> (Step, Step) {
        let base = format!("{}-", self.object.key.name);
        let seeds = (&self.object.metadata.uid, &self.history.hash, self.world.now, node);
        let name = template::generated_name(&base, &seeds);
        let mut pod = self.pod(node);
        pod["metadata"]["name"] = name.as_str().into();
        pod["metadata"]["generateName"] = base.into();
        let note = Step::note(self.object, "SuccessfulCreate", format!("Created pod: {name}"));
        (Step::Create(kind::POD.clone(), pod), note)
    }

    fn pod(&self, node: &str) -> Value {
        let template = core::PodTemplateSpec {
            metadata: self.spec.template.metadata.clone(),
            spec: Some(pod_spec(self.spec)),
        };
        let mut pod = template::pod(&template, self.object);
        let labels = &mut pod["metadata"]["labels"];
        labels[HASH_LABEL] = self.history.hash.as_str().into();
        let generation = self.object.metadata.annotations.get(TEMPLATE_GENERATION);
        labels[GENERATION_LABEL] = generation.map_or("1", String::as_str).into();
        let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
        pod
    }

    fn status(&self, old: &DaemonSetStatus) -> DaemonSetStatus {
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        // The pod that stands for a node: the first, or the last while an update surges.
        let standing = |name: &String| {
            let mut pods = self.on(name).iter().filter(|pod| pod.is_active());
            if self.surge() > 0 { pods.next_back() } else { pods.next() }
        };
        let wanted: Vec<_> = self.nodes.iter().filter(|(_, node)| node.wants).collect();
        let pods: Vec<_> = wanted.iter().filter_map(|(name, _)| standing(name)).collect();
        let astray =
            self.nodes.iter().filter(|(name, node)| !node.wants && standing(name).is_some());
        let available = pods.iter().filter(|pod| self.is_available(pod)).count();
        DaemonSetStatus {
            collision_count: old.collision_count,
            conditions: old.conditions.clone(),
            current_number_scheduled: number(pods.len()),
            desired_number_scheduled: number(wanted.len()),
            number_available: some(available),
            number_misscheduled: number(astray.count()),
            number_ready: number(pods.iter().filter(|pod| pod.is_ready()).count()),
            number_unavailable: some(wanted.len().saturating_sub(available)),
            observed_generation: Some(self.object.metadata.generation),
            updated_number_scheduled: some(pods.iter().filter(|pod| self.is_new(pod)).count()),
        }
    }
}

#[cfg(test)]
mod tests;
