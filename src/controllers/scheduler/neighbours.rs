//! Rules about other pods: affinity, anti-affinity and topology spread.
//!
//! A topology key groups nodes into domains by the value of a label; every rule here compares a node's domain with
//! those of the pods that are placed already.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1 as meta};

use crate::{
    controllers::{
        pod::Pod,
        protection::claims_of,
        scheduler::{
            node::{FilterFailure, Node},
            volumes::Volumes,
        },
    },
    model::{LabelSelector, ObjectKey, kind},
    registry::View,
};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";
const SPREAD: &str = "node(s) didn't match pod topology spread constraints";
const NO_DOMAIN: &str =
    "node(s) didn't match pod topology spread constraints (missing required label)";

/// All placed pods, by the node that they are on.
#[derive(Clone, Default)]
pub(super) struct Neighbours<'a> {
    pods: Vec<(String, Pod<'a>)>,
    /// Those of them that keep others away.
    repelling: Vec<(String, Pod<'a>)>,
}

/// What the rules say about one pod, worked out once for all nodes.
pub(super) struct Rules {
    near: Vec<Term>,
    /// Nobody is there whom the pod wants to be near, but it is such a pod itself.
    is_first: bool,
    far: Vec<Term>,
    /// Domains that placed pods keep for themselves.
    refused: BTreeSet<(String, String)>,
    spread: Vec<Spread>,
    /// Wished neighbours: weight by domain.
    wishes: BTreeMap<(String, String), i64>,
    /// The volumes of its claims.
    pub(super) volumes: Volumes,
}

struct Term {
    key: String,
    /// Values of the key where matching pods are.
    values: BTreeSet<String>,
}

struct Spread {
    key: String,
    required: bool,
    max_skew: i64,
    /// Matching pods by domain.
    counts: BTreeMap<String, i64>,
    min: i64,
    /// The pod itself matches.
    own: i64,
}

/// Which pods a term means.
struct Matcher {
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    /// Labels that must be as the pod's own, and those that must not.
    same: Vec<(String, Option<String>)>,
    other: Vec<(String, Option<String>)>,
}

impl Matcher {
    fn of_term(view: &View, pod: &Pod<'_>, term: &core::PodAffinityTerm) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        match &term.namespace_selector {
            Some(selector) => {
                let selector = LabelSelector::from_object(selector).ok();
                let all = view.list(&kind::NAMESPACE, None);
                let chosen = all.filter(|namespace| {
                    selector.as_ref().is_some_and(|s| s.matches(&namespace.metadata.labels))
                });
                namespaces.extend(chosen.map(|namespace| namespace.key.name.clone()));
            }
            None if namespaces.is_empty() => {
                namespaces.insert(pod.object.key.namespace.clone());
            }
            None => {}
        }
        Self {
            selector: parsed(term.label_selector.as_ref()),
            namespaces,
            same: own_labels(pod, term.match_label_keys.as_deref()),
            other: own_labels(pod, term.mismatch_label_keys.as_deref()),
        }
    }

    fn of_spread(pod: &Pod<'_>, constraint: &core::TopologySpreadConstraint) -> Self {
        Self {
            selector: parsed(constraint.label_selector.as_ref()),
            namespaces: [pod.object.key.namespace.clone()].into(),
            same: own_labels(pod, constraint.match_label_keys.as_deref()),
            other: Vec::new(),
        }
    }

    fn matches(&self, pod: &Pod<'_>) -> bool {
        let labels = &pod.object.metadata.labels;
        let has = |(key, value): &(String, Option<String>)| labels.get(key) == value.as_ref();
        self.namespaces.contains(&pod.object.key.namespace)
            && self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
            && self.same.iter().all(has)
            && !self.other.iter().any(has)
    }
}

/// A missing selector matches nothing.
fn parsed(selector: Option<&meta::LabelSelector>) -> Option<LabelSelector> {
    LabelSelector::from_object(selector?).ok()
}

fn own_labels(pod: &Pod<'_>, keys: Option<&[String]>) -> Vec<(String, Option<String>)> {
    let labels = &pod.object.metadata.labels;
    let keys = keys.unwrap_or_default().iter().filter(|key| labels.contains_key(*key));
    keys.map(|key| (key.clone(), labels.get(key).cloned())).collect()
}

impl<'a> Neighbours<'a> {
    /// A pod is on a node now.
    pub(super) fn add(&mut self, node: &str, pod: &Pod<'a>) {
        self.pods.push((node.to_owned(), pod.clone()));
        if !repulsion(pod).is_empty() {
            self.repelling.push((node.to_owned(), pod.clone()));
        }
    }

    /// A pod is no longer there.
    pub(super) fn remove(&mut self, pod: &Pod<'_>) {
        for pods in [&mut self.pods, &mut self.repelling] {
            pods.retain(|(_, other)| other.object.metadata.uid != pod.object.metadata.uid);
        }
    }

    /// The pods on a node.
    pub(super) fn on<'b>(&'b self, node: &'b str) -> impl Iterator<Item = &'b Pod<'a>> {
        self.pods.iter().filter(move |(name, _)| name == node).map(|(_, pod)| pod)
    }

    /// The rules that hold for a pod.
    pub(super) fn rules(
        &self,
        view: &View,
        pod: &Pod<'_>,
        spec: &core::PodSpec,
        nodes: &BTreeMap<String, Node>,
    ) -> Rules {
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let required =
            near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        let required = required.unwrap_or_default();
        let terms = |terms: &[core::PodAffinityTerm]| -> Vec<Term> {
            terms.iter().map(|term| self.term(view, pod, term, nodes)).collect()
        };
        let near_terms = terms(required);
        let is_first = near_terms.iter().all(|term| term.values.is_empty())
            && required.iter().all(|term| Matcher::of_term(view, pod, term).matches(pod));
        let forbidden =
            far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
        let mut wishes = BTreeMap::new();
        let liked =
            near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        let disliked =
            far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        for (weighted, sign) in [(liked, 1), (disliked, -1)] {
            for weighted in weighted.unwrap_or_default() {
                let term = &weighted.pod_affinity_term;
                let matcher = Matcher::of_term(view, pod, term);
                for value in self.domains(&matcher, &term.topology_key, nodes) {
                    *wishes.entry((term.topology_key.clone(), value)).or_default() +=
                        sign * i64::from(weighted.weight);
                }
            }
        }
        let spread = spec.topology_spread_constraints.iter().flatten();
        let spread = spread.map(|constraint| self.spread(pod, spec, constraint, nodes)).collect();
        let refused = self.refused(view, pod, nodes);
        let far = terms(forbidden.unwrap_or_default());
        let is_used = |claim: &ObjectKey| {
            self.pods.iter().any(|(_, other)| claims_of(view, other.object).contains(claim))
        };
        let volumes = Volumes::of(view, pod, spec, is_used);
        Rules { near: near_terms, is_first, far, refused, spread, wishes, volumes }
    }

    /// The domain of each pod that matches.
    fn domains<'b>(
        &'b self,
        matcher: &'b Matcher,
        key: &'b str,
        nodes: &'b BTreeMap<String, Node>,
    ) -> impl Iterator<Item = String> + 'b {
        let matching = self.pods.iter().filter(|(_, pod)| matcher.matches(pod));
        matching.filter_map(|(node, _)| nodes.get(node)?.label(key).map(str::to_owned))
    }

    fn term(
        &self,
        view: &View,
        pod: &Pod<'_>,
        term: &core::PodAffinityTerm,
        nodes: &BTreeMap<String, Node>,
    ) -> Term {
        let (key, matcher) = (term.topology_key.clone(), Matcher::of_term(view, pod, term));
        let values = self.domains(&matcher, &key, nodes).collect();
        Term { key, values }
    }

    /// Domains of placed pods whose anti-affinity means this pod.
    fn refused(
        &self,
        view: &View,
        pod: &Pod<'_>,
        nodes: &BTreeMap<String, Node>,
    ) -> BTreeSet<(String, String)> {
        let mut refused = BTreeSet::new();
        for (node, placed) in &self.repelling {
            for term in repulsion(placed) {
                let value = nodes.get(node).and_then(|node| node.label(&term.topology_key));
                if let Some(value) = value
                    && Matcher::of_term(view, placed, term).matches(pod)
                {
                    refused.insert((term.topology_key.clone(), value.to_owned()));
                }
            }
        }
        refused
    }

    fn spread(
        &self,
        pod: &Pod<'_>,
        spec: &core::PodSpec,
        constraint: &core::TopologySpreadConstraint,
        nodes: &BTreeMap<String, Node>,
    ) -> Spread {
        let matcher = Matcher::of_spread(pod, constraint);
        let key = constraint.topology_key.clone();
        // Nodes that the pod could not be on for other reasons do not count.
        let affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
        let taints = constraint.node_taints_policy.as_deref() == Some("Honor");
        let same = spec.topology_spread_constraints.iter().flatten();
        let same: Vec<_> =
            same.filter(|c| c.when_unsatisfiable == constraint.when_unsatisfiable).collect();
        let counts_node = |node: &Node| {
            same.iter().all(|constraint| node.label(&constraint.topology_key).is_some())
                && (!affinity || node.is_wanted(spec))
                && (!taints || node.is_tolerable(spec))
        };
        let mut counts: BTreeMap<String, i64> = nodes
            .values()
            .filter(|node| counts_node(node))
            .filter_map(|node| Some((node.label(&key)?.to_owned(), 0)))
            .collect();
        for (node, placed) in &self.pods {
            let Some(node) = nodes.get(node).filter(|node| counts_node(node)) else { continue };
            if let Some(value) = node.label(&key)
                && !placed.object.is_terminating()
                && matcher.matches(placed)
            {
                *counts.entry(value.to_owned()).or_default() += 1;
            }
        }
        let mut min = counts.values().min().copied().unwrap_or(0);
        let domains = i32::try_from(counts.len()).unwrap_or(i32::MAX);
        if constraint.min_domains.is_some_and(|wanted| domains < wanted) {
            min = 0;
        }
        let required = constraint.when_unsatisfiable == "DoNotSchedule";
        let own = i64::from(matcher.matches(pod));
        Spread { key, required, max_skew: constraint.max_skew.into(), counts, min, own }
    }
}

/// The pods that may not be near this one.
fn repulsion<'a>(pod: &'a Pod<'_>) -> &'a [core::PodAffinityTerm] {
    let affinity = pod.facts.spec.affinity.as_ref();
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default()
}

impl Rules {
    /// Why the pod cannot be on a node.
    pub(super) fn filter_failure(&self, node: &Node) -> Option<FilterFailure> {
        for spread in self.spread.iter().filter(|spread| spread.required) {
            let Some(value) = node.label(&spread.key) else {
                return Some(FilterFailure::unresolvable(NO_DOMAIN));
            };
            let count = spread.counts.get(value).copied().unwrap_or(0);
            if count + spread.own - spread.min > spread.max_skew {
                return Some(FilterFailure::resolvable(SPREAD));
            }
        }
        let near = |term: &Term| node.label(&term.key).is_some_and(|v| term.values.contains(v));
        let labeled = self.near.iter().all(|term| node.label(&term.key).is_some());
        if !(self.near.iter().all(near) || self.is_first && labeled) {
            return Some(FilterFailure::unresolvable(AFFINITY));
        }
        if self.far.iter().any(near) {
            return Some(FilterFailure::resolvable(ANTI_AFFINITY));
        }
        let refused = |(key, value): &(String, String)| node.label(key) == Some(value.as_str());
        self.refused.iter().any(refused).then(|| FilterFailure::resolvable(EXISTING))
    }

    /// How much the pod's wishes speak for a node.
    pub(super) fn score(&self, node: &Node) -> i64 {
        let wished =
            self.wishes.iter().filter(|((key, value), _)| node.label(key) == Some(value.as_str()));
        wished.map(|(_, weight)| *weight).sum()
    }

    /// How full the domains of a node are, as far as that is not forbidden but unwanted.
    pub(super) fn crowding(&self, node: &Node) -> i64 {
        let wished = self.spread.iter().filter(|spread| !spread.required);
        let count = |spread: &Spread| match node.label(&spread.key) {
            Some(value) => spread.counts.get(value).copied().unwrap_or(0),
            None => i64::from(i32::MAX),
        };
        wished.map(count).sum()
    }
}
