//! The virtual nodes: their number, addresses and sizes, and where one of them differs.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, bail};
use clap::Args;
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::node::{Amount, NodeOptions, Size, check_label};

/// Flags that say what nodes offer.
#[derive(Args, Clone, Debug)]
pub struct SizeFlags {
    /// Cores that each node offers, as a quantity; nothing runs on them, so they need not exist
    #[arg(long, env = "SNOWGLOBE_NODE_CPU", value_name = "QUANTITY", default_value = "64")]
    pub node_cpu: Amount,
    /// Memory that each node offers
    #[arg(long, env = "SNOWGLOBE_NODE_MEMORY", value_name = "QUANTITY", default_value = "256Gi")]
    pub node_memory: Amount,
    /// Pods that each node takes
    #[arg(
        long,
        env = "SNOWGLOBE_NODE_PODS",
        value_name = "N",
        default_value = "110",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub node_pods: u32,
    /// Nodes that differ; in the file a map, here JSON: {"node-1": {"cpu": "4", "memory": "8Gi", "pods": 20, "zone": "a",
    /// "labels": {"disk": "ssd"}}}
    #[arg(long, env = "SNOWGLOBE_NODE_OVERRIDES", value_name = "JSON", default_value = "{}")]
    pub node_overrides: Overrides,
}

/// The key of the configuration file whose value is a map.
pub(super) const OVERRIDES: &str = "node-overrides";

/// `--node-overrides`, by the name of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<String, Override>);

/// How one node differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Override {
    cpu: Option<Amount>,
    memory: Option<Amount>,
    pods: Option<u32>,
    zone: Option<String>,
    labels: BTreeMap<String, String>,
}

impl FromStr for Overrides {
    type Err = String;

    /// The error begins with the key that is wrong, `node-1.cpu: ...`.
    fn from_str(text: &str) -> Result<Self, String> {
        let nodes: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("not a map of nodes: {error}"))?;
        let nodes = nodes.iter().map(|(name, fields)| {
            let fields = fields
                .as_object()
                .ok_or_else(|| format!("{name}: not a map of what is different"))?;
            Ok((name.clone(), Override::of(fields).map_err(|error| format!("{name}.{error}"))?))
        });
        nodes.collect::<Result<_, String>>().map(Self)
    }
}

impl Override {
    fn of(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut all = Self::default();
        for (field, value) in fields {
            let told = |error: String| format!("{field}: {error}");
            match field.as_str() {
                "cpu" => all.cpu = Some(scalar(value).and_then(|text| text.parse()).map_err(told)?),
                "memory" => {
                    all.memory = Some(scalar(value).and_then(|text| text.parse()).map_err(told)?);
                }
                "pods" => {
                    let number = scalar(value).map_err(told)?.parse().ok();
                    let number = number.filter(|number| *number > 0);
                    all.pods = Some(number.ok_or_else(|| told("not a number from 1".to_owned()))?);
                }
                "zone" => {
                    let zone = scalar(value).map_err(told)?;
                    check_label("zone", &zone).map_err(told)?;
                    all.zone = Some(zone);
                }
                "labels" => {
                    let labels = value.as_object().ok_or_else(|| told("not a map".to_owned()))?;
                    for (key, value) in labels {
                        let told = |error: String| format!("{field}.{key}: {error}");
                        let value = scalar(value).map_err(told)?;
                        check_label(key, &value).map_err(told)?;
                        all.labels.insert(key.clone(), value);
                    }
                }
                _ => {
                    return Err(told(
                        "there is no such field, only cpu, memory, pods, zone and labels"
                            .to_owned(),
                    ));
                }
            }
        }
        Ok(all)
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err("not a text or a number".to_owned()),
    }
}

impl SizeFlags {
    fn size(&self) -> Size {
        let (cpu, memory) = (self.node_cpu.clone(), self.node_memory.clone());
        Size { cpu, memory, pods: self.node_pods }
    }
}

impl Overrides {
    fn apply(self, nodes: &mut [NodeOptions]) -> anyhow::Result<()> {
        let count = nodes.len();
        for (name, own) in self.0 {
            let Some(node) = nodes.iter_mut().find(|node| node.name == name) else {
                bail!(
                    "--{OVERRIDES}: {name}: there is no such node; the nodes are node-1 to node-{count}"
                );
            };
            let size = &mut node.size;
            size.pods = own.pods.unwrap_or(size.pods);
            if let Some(cpu) = own.cpu {
                size.cpu = cpu;
            }
            if let Some(memory) = own.memory {
                size.memory = memory;
            }
            node.zone = own.zone.or(node.zone.take());
            node.labels = own.labels;
        }
        Ok(())
    }
}

/// The nodes with their names, addresses and zones, each of the size that flags give unless told.
pub(super) fn nodes(
    count: u8,
    zones: &[String],
    pods: IpNet,
    addresses: IpNet,
    sizes: SizeFlags,
) -> anyhow::Result<Vec<NodeOptions>> {
    let IpNet::V4(pods) = pods else { bail!("--pod-cidr must be an IPv4 range") };
    let mut ranges: Vec<IpNet> = if pods.prefix_len() >= 24 {
        vec![pods.into()]
    } else {
        pods.subnets(24).context("a /24 fits")?.map(IpNet::from).take(count.into()).collect()
    };
    if ranges.len() < count.into() {
        bail!("--pod-cidr {pods} has room for {} nodes (a /24 each), not {count}", ranges.len());
    }
    let mut hosts = addresses.hosts();
    let nodes: anyhow::Result<Vec<_>> = (1..=count)
        .map(|number| {
            let address = hosts.next().with_context(|| {
                format!("--node-cidr {addresses} has no address left for node {number}")
            })?;
            let zone =
                (!zones.is_empty()).then(|| zones[usize::from(number - 1) % zones.len()].clone());
            let pod_cidr = ranges.remove(0);
            let (name, labels) = (format!("node-{number}"), BTreeMap::new());
            Ok(NodeOptions { name, address, pod_cidr, zone, labels, size: sizes.size() })
        })
        .collect();
    let mut nodes = nodes?;
    sizes.node_overrides.apply(&mut nodes)?;
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<NodeOptions>, String> {
        let sizes = SizeFlags {
            node_cpu: "64".parse().unwrap(),
            node_memory: "256Gi".parse().unwrap(),
            node_pods: 110,
            node_overrides: text.parse()?,
        };
        let zones = ["a".to_owned()];
        let ranges = ["127.244.0.0/16", "127.64.0.0/24"].map(|range| range.parse().unwrap());
        nodes(2, &zones, ranges[0], ranges[1], sizes).map_err(|error| error.to_string())
    }

    #[test]
    fn one_node_differs() {
        let nodes = check(
            r#"{"node-2": {"cpu": 1.5, "memory": "1024Mi", "pods": 3, "zone": "b", "labels": {"x.y/z": 1}}}"#,
        );
        let shown = nodes.unwrap().into_iter().map(|node| {
            let Size { cpu, memory, pods } = node.size;
            (cpu.to_string(), memory.to_string(), pods, node.zone.unwrap(), node.labels)
        });
        let text = |text: &str| text.to_owned();
        let labels = BTreeMap::from([(text("x.y/z"), text("1"))]);
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                (text("64"), text("256Gi"), 110, text("a"), BTreeMap::new()),
                (text("1500m"), text("1Gi"), 3, text("b"), labels)
            ]
        );
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            ("[]", "not a map of nodes"),
            (r#"{"node-1": 4}"#, "node-1: not a map of what is different"),
            (r#"{"node-1": {"gpu": 4}}"#, "node-1.gpu: there is no such field"),
            (r#"{"node-1": {"cpu": "many"}}"#, "node-1.cpu: \"many\" is no quantity"),
            (r#"{"node-1": {"memory": -1}}"#, "node-1.memory: -1 is not above zero"),
            (r#"{"node-1": {"memory": {}}}"#, "node-1.memory: not a text or a number"),
            (r#"{"node-1": {"pods": 0}}"#, "node-1.pods: not a number from 1"),
            (r#"{"node-1": {"zone": "a b"}}"#, "node-1.zone: a valid label must"),
            (r#"{"node-1": {"labels": {"-": "b"}}}"#, "node-1.labels.-: name part must"),
            (
                r#"{"node-3": {"cpu": 4}}"#,
                "--node-overrides: node-3: there is no such node; the nodes are node-1 to node-2",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
