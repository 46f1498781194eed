//! Preemption: a pod that fits nowhere makes pods of lower priority go, as few and as unimportant ones as will do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use k8s_openapi::api::{core::v1 as core, policy::v1::PodDisruptionBudget};
use serde_json::json;

use crate::{
    controllers::{
        Step, World, document,
        pod::Pod,
        scheduler::{FitError, neighbours::Neighbours, node::Node},
    },
    model::{
        LabelSelector,
        conditions::put_condition,
        kind,
        time::time_text,
        well_known::{DISRUPTION_TARGET, PART_ANNOTATION},
    },
    registry::View,
};

const REASON: &str = "PreemptionByScheduler";

/// The node that a pod gets, and the pods that are deleted for it.
pub(super) struct Preemption<'a> {
    pub(super) node: String,
    pub(super) victims: Vec<Pod<'a>>,
}

/// All nodes and the pods on them, at the moment in which a pod is scheduled.
pub(super) struct Snapshot<'s, 'a> {
    pub(super) world: &'s World<'s>,
    pub(super) nodes: &'s BTreeMap<String, Node>,
    pub(super) neighbours: &'s Neighbours<'a>,
}

/// Why no pod can be preempted.
pub(super) struct PreemptionError {
    pub(super) message: String,
    /// The victims of an earlier preemption are terminating: the pod keeps its nominated node.
    pub(super) waits: bool,
}

/// Chooses the node whose victims matter least.
pub(super) fn preempt<'a>(
    snapshot: &Snapshot<'_, 'a>,
    pod: &Pod<'_>,
    spec: &core::PodSpec,
    fit_error: &FitError,
) -> Result<Preemption<'a>, PreemptionError> {
    let error = |message: String| PreemptionError { message, waits: false };
    if pod.facts.spec.preemption_policy == "Never" {
        return Err(error("not eligible due to preemptionPolicy=Never.".to_owned()));
    }
    let claim = pod.facts.status.nominated_node_name.as_str();
    let leaves = |victim: &&Pod<'_>| {
        let condition = victim.condition(DISRUPTION_TARGET);
        victim.object.is_terminating()
            && victim.facts.spec.priority < pod.facts.spec.priority
            && condition.is_some_and(|c| c.status == "True" && c.reason == REASON)
    };
    if fit_error.resolvable.contains(claim)
        && snapshot.neighbours.on(claim).any(|victim| leaves(&victim))
    {
        let message = "not eligible due to a terminating pod on the nominated node.".to_owned();
        return Err(PreemptionError { message, waits: true });
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    if fit_error.unresolvable > 0 {
        let reason = "Preemption is not helpful for scheduling".to_owned();
        reasons.insert(reason, fit_error.unresolvable);
    }
    let budgets = budgets(snapshot.world.view);
    let mut best: Option<(Harm, Preemption<'a>)> = None;
    for name in &fit_error.resolvable {
        match victims(snapshot, pod, spec, name, &budgets) {
            Ok((harm, victims)) => {
                if best.as_ref().is_none_or(|(least, _)| harm < *least) {
                    best = Some((harm, Preemption { node: name.clone(), victims }));
                }
            }
            Err(why) => {
                why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            }
        }
    }
    let all = snapshot.nodes.len();
    best.map(|(_, preemption)| preemption).ok_or_else(|| error(super::unavailable(all, reasons)))
}

/// What it costs, by what counts most: broken budgets, the most important victim, the sum of priorities, the number of
/// victims, and how long the most important ones have run.
type Harm = (usize, i32, i64, usize, Reverse<Option<Timestamp>>);

/// The pods that must leave a node, or why that would not help.
fn victims<'a>(
    snapshot: &Snapshot<'_, 'a>,
    pod: &Pod<'_>,
    spec: &core::PodSpec,
    name: &str,
    budgets: &[Budget],
) -> Result<(Harm, Vec<Pod<'a>>), Vec<String>> {
    let is_lower = |other: &&Pod<'a>| {
        other.facts.spec.priority < pod.facts.spec.priority
            && !other.object.metadata.annotations.contains_key(PART_ANNOTATION)
    };
    let mut lower: Vec<Pod<'a>> = snapshot.neighbours.on(name).filter(is_lower).cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    let (mut nodes, mut neighbours) = (snapshot.nodes.clone(), snapshot.neighbours.clone());
    for other in &lower {
        neighbours.remove(other);
        if let Some(node) = nodes.get_mut(name) {
            node.release(other);
        }
    }
    let filter_failures = |nodes: &BTreeMap<String, Node>, neighbours: &Neighbours<'a>| {
        let rules = neighbours.rules(snapshot.world.view, pod, spec, nodes);
        let Some(node) = nodes.get(name) else { return Vec::new() };
        super::filter_failures(node, pod, spec, &rules)
    };
    let left: Vec<String> =
        filter_failures(&nodes, &neighbours).into_iter().map(|failure| failure.reason).collect();
    if !left.is_empty() {
        return Err(left);
    }
    // Important ones stay if they can; before them those that a budget protects.
    lower.sort_by_key(|other| (Reverse(other.facts.spec.priority), other.facts.status.start_time));
    let protected = protected(&lower, budgets);
    lower.sort_by_key(|other| !protected.contains(&other.object.metadata.uid));
    let mut victims = Vec::new();
    for other in lower {
        neighbours.add(name, &other);
        if let Some(node) = nodes.get_mut(name) {
            node.take(&other);
        }
        if !filter_failures(&nodes, &neighbours).is_empty() {
            neighbours.remove(&other);
            if let Some(node) = nodes.get_mut(name) {
                node.release(&other);
            }
            victims.push(other);
        }
    }
    Ok((harm(&victims, &protected), victims))
}

fn harm(victims: &[Pod<'_>], protected: &BTreeSet<String>) -> Harm {
    let broken = victims.iter().filter(|v| protected.contains(&v.object.metadata.uid)).count();
    let priorities = || victims.iter().map(|victim| victim.facts.spec.priority);
    let highest = priorities().max().unwrap_or(i32::MIN);
    // Negative priorities must not make more victims look better.
    let sum = priorities().map(|priority| i64::from(priority) + i64::from(i32::MAX) + 1).sum();
    let top = victims.iter().filter(|victim| victim.facts.spec.priority == highest);
    let since = top.filter_map(|victim| victim.facts.status.start_time).min();
    (broken, highest, sum, victims.len(), Reverse(since))
}

/// A PodDisruptionBudget.
struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i32,
    /// Pods that count as gone already.
    gone: BTreeSet<String>,
}

fn budgets(view: &View) -> Vec<Budget> {
    let budget = |object: &std::sync::Arc<crate::model::Object>| {
        let budget: PodDisruptionBudget = object.parse().ok()?;
        let status = budget.status.unwrap_or_default();
        Some(Budget {
            namespace: object.key.namespace.clone(),
            selector: LabelSelector::from_object(&budget.spec?.selector?).ok()?,
            allowed: status.disruptions_allowed.unwrap_or(0),
            gone: status.disrupted_pods.into_iter().flatten().map(|(name, _)| name).collect(),
        })
    };
    view.list(&kind::POD_DISRUPTION_BUDGET, None).filter_map(budget).collect()
}

/// The uids of those pods that are too many for a budget, if all went in this order.
fn protected(pods: &[Pod<'_>], budgets: &[Budget]) -> BTreeSet<String> {
    let mut left: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let mut protected = BTreeSet::new();
    for pod in pods {
        let (key, metadata) = (&pod.object.key, &pod.object.metadata);
        for (budget, left) in budgets.iter().zip(&mut left) {
            let counts = budget.namespace == key.namespace
                && budget.selector.matches(&metadata.labels)
                && !budget.gone.contains(&key.name);
            if counts {
                *left -= 1;
                if *left < 0 {
                    protected.insert(metadata.uid.clone());
                }
            }
        }
    }
    protected
}

/// Makes a pod go: its condition tells why, its own grace period holds.
pub(super) fn evict(world: &World<'_>, victim: &Pod<'_>, preemptor: &Pod<'_>, node: &str) -> Step {
    let mut document = document(victim.object);
    let condition = json!({"type": DISRUPTION_TARGET, "status": "True", "reason": REASON,
        "message": "default-scheduler: preempting to accommodate a higher priority pod",
        "lastTransitionTime": time_text(world.now)});
    put_condition(&mut document, condition);
    let by = &preemptor.object.metadata.uid;
    Step::Chain(vec![
        Step::UpdateStatus(victim.object.key.clone(), document),
        Step::delete(victim.object),
        Step::note(victim.object, "Preempted", format!("Preempted by pod {by} on node {node}")),
    ])
}
