//! How the CPU of the cluster is spread over its zones, which hints by topology mode `Auto` follow.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    controllers::{endpoint_slices::hints::is_auto, pod::Condition},
    model::{
        Object, ObjectKey, kind, quantity,
        well_known::{NODE_READY, ZONE_LABEL},
    },
    registry::View,
};

/// Nodes with one of these labels take no part.
const EXCLUDED: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// The share of each zone in the cluster's CPU; together they are 1. Empty when a node does not tell its zone or CPU,
/// or when there are no two zones.
pub(crate) type Shares = BTreeMap<String, f64>;

/// The fields of a node that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Facts {
    metadata: Metadata,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: String,
    managed_fields: Vec<Manager>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manager {
    time: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    allocatable: BTreeMap<String, String>,
    conditions: Vec<Condition>,
}

/// What a node adds to its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Capacity<'a> {
    /// It is not ready, or belongs to the control plane.
    None,
    /// It does not tell its zone, or its CPU.
    Unknown,
    /// Thousandths of a CPU in a zone.
    Cpu(&'a str, i64),
}

fn capacity(node: &Object) -> Capacity<'_> {
    let (labels, facts) = (&node.metadata.labels, node.digest::<Facts>());
    let Status { allocatable, conditions } = &facts.status;
    let ready = conditions.iter().find(|condition| condition.kind == NODE_READY);
    if EXCLUDED.iter().any(|label| labels.contains_key(*label))
        || ready.is_none_or(|ready| ready.status != "True")
    {
        return Capacity::None;
    }
    let cpu = allocatable.get("cpu").and_then(|cpu| quantity::milli(cpu)).unwrap_or(0);
    match labels.get(ZONE_LABEL) {
        Some(zone) if !zone.is_empty() && cpu != 0 => Capacity::Cpu(zone, cpu),
        _ => Capacity::Unknown,
    }
}

/// The zones' shares as the nodes are now.
pub(crate) fn shares(view: &View) -> Shares {
    of(view.list(&kind::NODE, None).map(|node| capacity(node)))
}

fn of<'a>(nodes: impl Iterator<Item = Capacity<'a>>) -> Shares {
    let mut zones: BTreeMap<&str, i64> = BTreeMap::new();
    for capacity in nodes {
        match capacity {
            Capacity::None => {}
            Capacity::Unknown => return Shares::new(),
            Capacity::Cpu(zone, cpu) => {
                let sum = zones.entry(zone).or_default();
                *sum = sum.saturating_add(cpu);
            }
        }
    }
    let total = zones.values().fold(0_i64, |sum, cpu| sum.saturating_add(*cpu));
    if zones.len() < 2 || total == 0 {
        return Shares::new();
    }
    zones.into_iter().map(|(zone, cpu)| (zone.to_owned(), cpu as f64 / total as f64)).collect()
}

/// For triggers: the Services in topology mode `Auto`, when the capacity of a node is not (or no longer) what this state
/// of it says, and when the node is new.
pub(crate) fn services_in_mode_auto(view: &View, node: &Object) -> Vec<ObjectKey> {
    let same = view.get(&node.key).is_some_and(|now| capacity(now) == capacity(node));
    if same && !is_new(node) {
        return Vec::new();
    }
    let services = view.list(&kind::SERVICE, None);
    let in_mode_auto = services.filter(|service| is_auto(&service.metadata.annotations));
    in_mode_auto.map(|service| service.key.clone()).collect()
}

/// No client has written it since the second of its creation. A node of this process is no client's; its CPU comes
/// with a second write, which is a change like others.
fn is_new(node: &Object) -> bool {
    let facts = node.digest::<Facts>();
    let Metadata { creation_timestamp, managed_fields } = &facts.metadata;
    let is_first = |manager: &Manager| manager.time <= *creation_timestamp;
    !managed_fields.is_empty() && managed_fields.iter().all(is_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_share_the_cpu() {
        let check = |nodes: &[Capacity<'_>], expected: &[(&str, f64)]| {
            let shares = of(nodes.iter().cloned());
            let shares: Vec<_> =
                shares.iter().map(|(zone, share)| (zone.as_str(), *share)).collect();
            assert_eq!(shares, expected, "{nodes:?}");
        };
        let cpu = Capacity::Cpu;
        check(&[], &[]);
        check(&[cpu("a", 1000)], &[]);
        check(&[cpu("a", 1000), cpu("a", 1000)], &[]);
        check(&[cpu("a", 1000), cpu("b", 1000)], &[("a", 0.5), ("b", 0.5)]);
        check(&[Capacity::None, cpu("b", 1000)], &[]);
        check(&[cpu("a", 10), cpu("b", 10), Capacity::None], &[("a", 0.5), ("b", 0.5)]);
        check(&[cpu("a", 10), cpu("b", 10), Capacity::Unknown], &[]);
        let nodes = [
            cpu("a", 1000),
            cpu("c", 500),
            cpu("b", 3000),
            cpu("a", 4000),
            Capacity::None,
            cpu("b", 1500),
        ];
        check(&nodes, &[("a", 0.5), ("b", 0.45), ("c", 0.05)]);
    }
}
