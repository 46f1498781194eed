//! A node as the scheduler sees it: what it accepts, what is left of it, which pods it has.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::api::resource::Quantity};

use crate::{
    controllers::pod::{Facts, HostPort, Pod, Requests},
    model::{
        kind, quantity,
        well_known::{HOSTNAME_LABEL, ZONE_LABEL},
    },
    registry::View,
};

/// Pods of a node that does not tell its capacity.
const PODS_DEFAULT: i64 = 110;
/// A `PreferNoSchedule` taint counts as much as the strongest wish.
const AVOIDED_WEIGHT: i64 = 100;
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

/// Resources that are not limited on a node that does not tell them.
const NATIVE: &[&str] = &["cpu", "memory", "ephemeral-storage"];

#[derive(Clone)]
pub(crate) struct Node {
    pub(super) name: String,
    pub(super) zone: String,
    /// Pods on it.
    pub(super) pods: usize,
    labels: BTreeMap<String, String>,
    taints: Vec<core::Taint>,
    unschedulable: bool,
    /// Thousandths of each resource; `pods` is among them.
    allocatable: BTreeMap<String, i64>,
    used: Requests,
    host_ports: Vec<HostPort>,
    groups: BTreeMap<String, usize>,
}

/// Why a pod cannot be on a node, with Kubernetes' message.
pub(super) struct FilterFailure {
    pub(super) reason: String,
    /// Whether the pod could not be there either if other pods went (`UnschedulableAndUnresolvable`).
    pub(super) unresolvable: bool,
}

impl FilterFailure {
    pub(super) fn unresolvable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), unresolvable: true }
    }

    pub(super) fn resolvable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), unresolvable: false }
    }
}

/// What a DaemonSet asks about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suitability {
    /// A new pod belongs there.
    pub(crate) wants: bool,
    /// A pod that is there already may stay.
    pub(crate) keeps: bool,
}

/// All nodes by name.
pub(crate) fn nodes(view: &View) -> BTreeMap<String, Node> {
    let ready = view.list(&kind::NODE, None).filter(|node| !node.is_terminating());
    let parse = |object: &std::sync::Arc<crate::model::Object>| {
        let node: core::Node = object.parse().ok()?;
        let spec = node.spec.unwrap_or_default();
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        let amount = |(name, amount): (String, Quantity)| Some((name, quantity::milli(&amount.0)?));
        Some(Node {
            name: object.key.name.clone(),
            zone: object.metadata.labels.get(ZONE_LABEL).cloned().unwrap_or_default(),
            pods: 0,
            labels: object.metadata.labels.clone(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable == Some(true),
            allocatable: allocatable.into_iter().filter_map(amount).collect(),
            used: Requests::default(),
            host_ports: Vec::new(),
            groups: BTreeMap::new(),
        })
    };
    ready.filter_map(parse).map(|node| (node.name.clone(), node)).collect()
}

/// What pods must have in common to be spread: the managing owner, else namespace and labels.
pub(super) fn group(pod: &Pod<'_>) -> String {
    match pod.object.controller() {
        Some(owner) => owner.uid.clone(),
        None => format!("{} {:?}", pod.object.key.namespace, pod.object.metadata.labels),
    }
}

impl Node {
    /// Counts a pod as one of this node's.
    pub(super) fn take(&mut self, pod: &Pod<'_>) {
        self.pods += 1;
        self.used.add(&pod.facts.requests());
        self.host_ports.extend(pod.facts.host_ports());
        *self.groups.entry(group(pod)).or_default() += 1;
    }

    /// A pod is no longer one of this node's.
    pub(super) fn release(&mut self, pod: &Pod<'_>) {
        self.pods = self.pods.saturating_sub(1);
        self.used.subtract(&pod.facts.requests());
        for port in pod.facts.host_ports() {
            if let Some(at) = self.host_ports.iter().position(|taken| *taken == port) {
                self.host_ports.swap_remove(at);
            }
        }
        if let Some(count) = self.groups.get_mut(&group(pod)) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn count_of(&self, group: &str) -> usize {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// Every reason against a pod; as in Kubernetes, room is looked at only when nothing else speaks against it.
    pub(super) fn filter_failures(
        &self,
        spec: &core::PodSpec,
        facts: &Facts,
    ) -> Vec<FilterFailure> {
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        if self.unschedulable && !tolerates(tolerations, &cordon()) {
            return vec![FilterFailure::unresolvable("node(s) were unschedulable")];
        }
        if let Some(taint) = self.untolerated(tolerations) {
            let value = taint.value.as_deref().unwrap_or_default();
            let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
            return vec![FilterFailure::unresolvable(reason)];
        }
        if !self.is_wanted(spec) {
            return vec![FilterFailure::unresolvable(
                "node(s) didn't match Pod's node affinity/selector",
            )];
        }
        if facts.host_ports().any(|port| self.is_port_taken(&port)) {
            return vec![FilterFailure::resolvable(
                "node(s) didn't have free ports for the requested pod ports",
            )];
        }
        self.shortages(&facts.requests())
    }

    /// Whether a DaemonSet's pod belongs here, whatever room there is.
    pub(crate) fn suitability(&self, spec: &core::PodSpec) -> Suitability {
        let named = spec.node_name.as_deref().filter(|name| !name.is_empty());
        let fits = named.is_none_or(|name| name == self.name) && self.is_wanted(spec);
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let repels = |effects: &[&str]| {
            let mut taints = self.taints.iter().filter(|t| effects.contains(&t.effect.as_str()));
            taints.any(|taint| !tolerates(tolerations, taint))
        };
        Suitability {
            wants: fits && !repels(&["NoSchedule", "NoExecute"]),
            keeps: fits && !repels(&["NoExecute"]),
        }
    }

    /// The pod tolerates every taint that would keep it away, a cordon among them.
    pub(super) fn is_tolerable(&self, spec: &core::PodSpec) -> bool {
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        self.untolerated(tolerations).is_none()
            && (!self.unschedulable || tolerates(tolerations, &cordon()))
    }

    fn untolerated(&self, tolerations: &[core::Toleration]) -> Option<&core::Taint> {
        let binding = self.taints.iter().filter(|taint| {
            matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
                && !(taint.key == UNSCHEDULABLE_TAINT && self.unschedulable)
        });
        binding.into_iter().find(|taint| !tolerates(tolerations, taint))
    }

    fn is_port_taken(&self, (protocol, number, address): &HostPort) -> bool {
        self.host_ports.iter().any(|(taken_protocol, taken, by)| {
            (taken_protocol, taken) == (protocol, number)
                && (by == address || by.is_empty() || address.is_empty())
        })
    }

    fn shortages(&self, requests: &Requests) -> Vec<FilterFailure> {
        let mut reasons = Vec::new();
        let pods = self.allocatable.get("pods").map_or(PODS_DEFAULT, |milli| milli / 1000);
        if i64::try_from(self.pods).unwrap_or(i64::MAX) >= pods {
            reasons.push(FilterFailure::resolvable("Too many pods"));
        }
        for (name, wanted) in requests.0.iter().filter(|(_, wanted)| **wanted > 0) {
            let have = match self.allocatable.get(name) {
                Some(have) => *have,
                None if NATIVE.contains(&name.as_str()) => continue,
                None => 0,
            };
            let used = self.used.0.get(name).copied().unwrap_or(0);
            if used.saturating_add(*wanted) > have {
                // An empty node would not do either.
                let unresolvable = *wanted > have;
                reasons
                    .push(FilterFailure { reason: format!("Insufficient {name}"), unresolvable });
            }
        }
        reasons
    }

    /// `spec.nodeSelector` and required node affinity.
    pub(super) fn is_wanted(&self, spec: &core::PodSpec) -> bool {
        let selector = spec.node_selector.iter().flatten();
        if !selector.into_iter().all(|(key, value)| self.labels.get(key) == Some(value)) {
            return false;
        }
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required =
            affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        // Terms are alternatives; an empty term matches nothing.
        required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| self.matches_term(term))
        })
    }

    /// How much preferred node affinity and `PreferNoSchedule` taints speak for it.
    pub(super) fn preference(&self, spec: &core::PodSpec) -> i64 {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let wishes = affinity
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
        let fulfilled =
            wishes.unwrap_or_default().iter().filter(|wish| self.matches_term(&wish.preference));
        let wished: i64 = fulfilled.map(|wish| i64::from(wish.weight)).sum();
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let avoided = self
            .taints
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule" && !tolerates(tolerations, taint));
        let avoided = i64::try_from(avoided.count()).unwrap_or(i64::MAX);
        wished.saturating_sub(avoided.saturating_mul(AVOIDED_WEIGHT))
    }

    /// The value of a label; every node is a domain of its own by its name.
    pub(super) fn label(&self, key: &str) -> Option<&str> {
        let own = (key == HOSTNAME_LABEL).then_some(self.name.as_str());
        self.labels.get(key).map(String::as_str).or(own)
    }

    fn matches_term(&self, term: &core::NodeSelectorTerm) -> bool {
        term_selects(term, &self.name, &self.labels)
    }

    /// Whether a volume can be used here.
    pub(super) fn is_selected_by(&self, selector: &core::NodeSelector) -> bool {
        selects(selector, &self.name, &self.labels)
    }
}

/// Whether a node of this name and labels is one of those that a selector means. Terms are alternatives.
pub(crate) fn selects(
    selector: &core::NodeSelector,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.node_selector_terms.iter().any(|term| term_selects(term, name, labels))
}

fn term_selects(
    term: &core::NodeSelectorTerm,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |requirement: &core::NodeSelectorRequirement| {
        matches(requirement, labels.get(&requirement.key).map(String::as_str))
    };
    let field = |requirement: &core::NodeSelectorRequirement| {
        requirement.key == "metadata.name" && matches(requirement, Some(name))
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(label)
        && fields.iter().all(field)
}

fn matches(requirement: &core::NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|other| other == value));
    let compared = |holds: fn(i64, i64) -> bool| {
        let limit = values.first().and_then(|limit| limit.parse().ok());
        let number = value.and_then(|value| value.parse().ok());
        number.zip(limit).is_some_and(|(number, limit)| holds(number, limit))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|number, limit| number > limit),
        "Lt" => compared(|number, limit| number < limit),
        _ => false,
    }
}

fn cordon() -> core::Taint {
    let (key, effect) = (UNSCHEDULABLE_TAINT.to_owned(), "NoSchedule".to_owned());
    core::Taint { key, effect, ..core::Taint::default() }
}

pub(crate) fn tolerates(tolerations: &[core::Toleration], taint: &core::Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    tolerations.iter().any(|toleration| {
        let (effect, key) = (text(&toleration.effect), text(&toleration.key));
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref() {
                Some("Exists") => true,
                _ => !key.is_empty() && text(&toleration.value) == text(&taint.value),
            }
    })
}
