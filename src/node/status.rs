//! Pod status as a kubelet writes it.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, HostIP,
        Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{node::NodeOptions, runtime::PodState};

/// The status of a pod that runs at `ip`. Times of what did not change are kept.
pub(crate) fn running(
    pod: &Pod,
    ip: std::net::IpAddr,
    node: &NodeOptions,
    state: &PodState,
    now: Timestamp,
) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let now = Time(now);
    let started = old.start_time.clone().unwrap_or_else(|| now.clone());
    let ready = state.ready;
    let not_ready = state.failed.first().map(|(port, reason)| {
        ("PortNotBound", format!("port {} cannot be served: {reason}", port.number))
    });
    let conditions = [
        ("PodReadyToStartContainers", true),
        ("Initialized", true),
        ("Ready", ready),
        ("ContainersReady", ready),
        ("PodScheduled", true),
    ];
    let conditions = conditions
        .into_iter()
        .map(|(name, holds)| condition(&old, name, holds, not_ready.as_ref(), &now))
        .collect();
    let spec = pod.spec.as_ref();
    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let statuses = containers.iter().map(|c| {
        let state = ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(started.clone()) }),
            ..ContainerState::default()
        };
        container(pod, &c.name, c.image.as_deref().unwrap_or_default(), state, ready)
    });
    let init_statuses = spec.and_then(|spec| spec.init_containers.as_ref()).map(|containers| {
        let done = |c: &k8s_openapi::api::core::v1::Container| {
            let state = ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 0,
                    reason: Some("Completed".to_owned()),
                    started_at: Some(started.clone()),
                    finished_at: Some(started.clone()),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            };
            container(pod, &c.name, c.image.as_deref().unwrap_or_default(), state, true)
        };
        containers.iter().map(done).collect()
    });
    PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(conditions),
        host_ip: Some(node.address.to_string()),
        host_ips: Some(vec![HostIP { ip: node.address.to_string() }]),
        pod_ip: Some(ip.to_string()),
        pod_ips: Some(vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(started.clone()),
        container_statuses: Some(statuses.collect()),
        init_container_statuses: init_statuses,
        observed_generation: pod.metadata.generation,
        ..old
    }
}

fn condition(
    old: &PodStatus,
    name: &str,
    holds: bool,
    not_ready: Option<&(&str, String)>,
    now: &Time,
) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let before = old.conditions.iter().flatten().find(|c| c.type_ == name && c.status == status);
    let (reason, message) = match not_ready {
        _ if holds => (None, None),
        Some((reason, message)) => (Some((*reason).to_owned()), Some(message.clone())),
        None => (
            Some("ContainersNotReady".to_owned()),
            Some("the pod asks not to be ready (annotation snowglobe.dev/ready)".to_owned()),
        ),
    };
    PodCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: before
            .and_then(|c| c.last_transition_time.clone())
            .or_else(|| Some(now.clone())),
        ..PodCondition::default()
    }
}

fn container(
    pod: &Pod,
    name: &str,
    image: &str,
    state: ContainerState,
    ready: bool,
) -> ContainerStatus {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        image_id: String::new(),
        container_id: Some(format!("simulated://{uid}/{name}")),
        ready,
        started: Some(true),
        restart_count: 0,
        state: Some(state),
        ..ContainerStatus::default()
    }
}
