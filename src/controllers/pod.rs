//! What controllers ask about pods: phase, readiness, addresses, requests.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{self as core, Affinity};
use serde::{Deserialize, Deserializer};

use crate::model::{Object, pod::is_phase_terminal, quantity, well_known::POD_READY};

/// A pod with the digest of its document.
#[derive(Clone)]
pub(crate) struct Pod<'a> {
    pub(crate) object: &'a Arc<Object>,
    pub(crate) facts: Arc<Facts>,
}

/// The fields of a pod that controllers read often.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    pub(crate) spec: Spec,
    pub(crate) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) node_name: String,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) scheduler_name: String,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) scheduling_gates: Vec<serde::de::IgnoredAny>,
    pub(crate) affinity: Option<Box<Affinity>>,
    pub(crate) priority: i32,
    pub(crate) preemption_policy: String,
    /// For the pod as a whole.
    resources: Resources,
    overhead: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) restart_policy: String,
    resources: Resources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) container_port: i32,
    pub(crate) protocol: String,
    host_port: i32,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    pub(crate) phase: String,
    pub(crate) reason: String,
    #[serde(rename = "podIP", deserialize_with = "address")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) nominated_node_name: String,
    pub(crate) start_time: Option<Timestamp>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    #[serde(deserialize_with = "address")]
    ip: Option<IpAddr>,
}

/// What is no address counts as none.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    Ok(String::deserialize(deserializer)?.parse().ok())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_transition_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    restart_count: i64,
}

/// What a pod asks for: thousandths by resource (`cpu`, `memory`, ...).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(pub(crate) BTreeMap<String, i64>);

/// A port of its node that a pod takes: protocol, number, and the address, empty for all.
pub(crate) type HostPort = (String, i32, String);

impl<'a> Pod<'a> {
    pub(crate) fn of(object: &'a Arc<Object>) -> Self {
        Self { object, facts: object.digest() }
    }

    /// The pod ran to its end.
    pub(crate) fn is_finished(&self) -> bool {
        is_phase_terminal(&self.facts.status.phase)
    }

    /// Counts as a replica: neither finished nor on its way out.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.object.is_terminating()
    }

    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.facts.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.condition(POD_READY).is_some_and(|condition| condition.status == "True")
    }

    /// Since when the pod is ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        let ready = self.condition(POD_READY).filter(|condition| condition.status == "True")?;
        ready.last_transition_time
    }

    /// Ready for at least so many seconds.
    pub(crate) fn is_available(&self, seconds: i32, now: Timestamp) -> bool {
        self.is_ready()
            && (seconds <= 0
                || self
                    .ready_since()
                    .is_some_and(|since| now.duration_since(since).as_secs() >= seconds.into()))
    }

    /// Every address of the pod.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let status = &self.facts.status;
        let first = status.pod_ips.is_empty().then_some(status.pod_ip).flatten();
        status.pod_ips.iter().filter_map(|address| address.ip).chain(first)
    }

    pub(crate) fn restarts(&self) -> i64 {
        self.facts.status.container_statuses.iter().map(|status| status.restart_count).sum()
    }

    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref()?.parse().ok()
    }

    /// When a pod ended: when its last container did, else when it stopped being ready, else when it was deleted.
    pub(crate) fn ended_at(&self) -> Timestamp {
        let status = self.object.parse::<core::Pod>().ok().and_then(|pod| pod.status);
        let containers = status.into_iter().flat_map(|status| status.container_statuses).flatten();
        let ends: Option<Vec<Timestamp>> =
            containers.map(|c| c.state?.terminated?.finished_at.map(|time| time.0)).collect();
        let last = ends.and_then(|ends| ends.into_iter().max());
        let unready = || {
            let ready =
                self.condition(POD_READY).filter(|condition| condition.status == "False")?;
            ready.last_transition_time
        };
        let deleted = || {
            let metadata = &self.object.metadata;
            let end: Timestamp = metadata.deletion_timestamp.as_ref()?.parse().ok()?;
            let grace =
                SignedDuration::from_secs(metadata.deletion_grace_period_seconds.unwrap_or(0));
            end.checked_sub(grace).ok()
        };
        let known = last.or_else(unready).or_else(deleted).or_else(|| self.created());
        known.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Whether an endpoint may stand for this pod: it has an address and has not run to its end.
    pub(crate) fn has_endpoint(&self, include_terminating: bool) -> bool {
        !self.is_finished()
            && self.addresses().next().is_some()
            && (include_terminating || !self.object.is_terminating())
    }

    /// The number of a named port, among containers and sidecars (init containers that never end).
    pub(crate) fn named_port(&self, name: &str, protocol: &str) -> Option<i32> {
        let spec = &self.facts.spec;
        let sidecars = spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
        let same_protocol = |port: &&ContainerPort| match port.protocol.as_str() {
            "" => protocol == "TCP",
            own => protocol == own,
        };
        ports.filter(same_protocol).find(|port| port.name == name).map(|port| port.container_port)
    }
}

impl Facts {
    /// What a scheduler must find room for: the larger of all running containers together and the largest init
    /// container (with the sidecars that run by then), or what is asked for the pod as a whole; and the overhead.
    pub(crate) fn requests(&self) -> Requests {
        let (mut running, mut sidecars, mut peak) =
            (Requests::default(), Requests::default(), Requests::default());
        for container in &self.spec.containers {
            running.add(&container.resources.requests());
        }
        for container in &self.spec.init_containers {
            if container.restart_policy == "Always" {
                sidecars.add(&container.resources.requests());
                peak.raise(&sidecars);
            } else {
                let mut together = container.resources.requests();
                together.add(&sidecars);
                peak.raise(&together);
            }
        }
        running.add(&sidecars);
        running.raise(&peak);
        running.0.extend(self.spec.resources.requests().0);
        running.add(&Requests::of(&self.spec.overhead));
        running
    }

    /// The ports of its node that the pod takes while it runs.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = HostPort> {
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        let ports = self.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
        ports.filter(|port| port.host_port > 0).map(|port| {
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            let address = if port.host_ip == "0.0.0.0" { "" } else { &port.host_ip };
            (protocol.to_owned(), port.host_port, address.to_owned())
        })
    }
}

impl Resources {
    fn requests(&self) -> Requests {
        Requests::of(&self.requests)
    }
}

impl Requests {
    fn of(amounts: &BTreeMap<String, String>) -> Self {
        let amount =
            |(name, text): (&String, &String)| Some((name.clone(), quantity::milli(text)?));
        Self(amounts.iter().filter_map(amount).collect())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = own.saturating_add(*amount);
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = own.saturating_sub(*amount);
        }
    }

    fn raise(&mut self, to: &Self) {
        for (name, amount) in &to.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_containers_count_by_their_peak() {
        let facts: Facts = serde_json::from_value(serde_json::json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "100m"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"resources": {"requests": {"cpu": "500m", "memory": "1Ki"}}}]}}))
        .unwrap();
        let expected = [("cpu", 550), ("memory", 1_024_000)].map(|(n, v)| (n.to_owned(), v));
        assert_eq!(facts.requests(), Requests(expected.into()));
    }

    #[test]
    fn what_a_pod_as_a_whole_requests_counts_instead() {
        let facts: Facts = serde_json::from_value(serde_json::json!({"spec": {
            "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1", "a.b/c": "2"}}}],
            "initContainers": [{"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m", "memory": "2"}}},
                {"resources": {"requests": {"memory": "7"}}}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
            "overhead": {"cpu": "250m", "memory": "1"}}}))
        .unwrap();
        let expected = [("a.b/c", 2_000), ("cpu", 1_250), ("memory", 10_000)];
        let expected = expected.map(|(name, amount)| (name.to_owned(), amount));
        assert_eq!(facts.requests(), Requests(expected.into()));
    }
}
