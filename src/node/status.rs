//! Pod status as a kubelet writes it.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        self as core, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    node::NodeOptions,
    runtime::{Activity, ContainerState, Exit, PodState},
};

/// Exit code of what was ended by SIGKILL.
const KILLED: i32 = 137;

/// Whether all containers of a pod have ended.
pub(crate) fn ended(state: &PodState) -> bool {
    !state.containers.is_empty()
        && state.containers.iter().all(|c| matches!(c.now, Activity::Exited(_)))
}

/// `Running`, or how a pod ended all of whose containers have.
fn phase(pod: &Pod, state: &PodState) -> &'static str {
    let count = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    if state.containers.len() < count || !ended(state) {
        return "Running";
    }
    let failed = |c: &ContainerState| matches!(&c.now, Activity::Exited(exit) if exit.code != 0);
    if state.containers.iter().any(failed) { "Failed" } else { "Succeeded" }
}

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
    let phase = phase(pod, state);
    let not_ready = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ => not_ready.or_else(|| unready(state)),
    };
    let conditions = [
        ("PodReadyToStartContainers", phase == "Running"),
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
        let image = c.image.as_deref().unwrap_or_default();
        match state.containers.iter().find(|state| state.name == c.name) {
            Some(own) => ending(pod, image, own),
            None => container(pod, &c.name, image, running_since(&started), ready),
        }
    });
    let init_statuses = spec.and_then(|spec| spec.init_containers.as_ref()).map(|containers| {
        let done = |c: &k8s_openapi::api::core::v1::Container| {
            let exit = Exit { code: 0, started: started.0, finished: started.0 };
            let state = terminated(pod, &c.name, &exit);
            container(pod, &c.name, c.image.as_deref().unwrap_or_default(), state, true)
        };
        containers.iter().map(done).collect()
    });
    PodStatus {
        phase: Some(phase.to_owned()),
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

/// Why a pod is not ready one of whose containers does not run.
fn unready(state: &PodState) -> Option<(&'static str, String)> {
    let waiting = state.containers.iter().filter(|c| !matches!(c.now, Activity::Running(_)));
    let names: Vec<&str> = waiting.map(|c| c.name.as_str()).collect();
    let message = format!("containers with unready status: [{}]", names.join(" "));
    (!names.is_empty()).then_some(("ContainersNotReady", message))
}

fn running_since(started: &Time) -> core::ContainerState {
    let running = Some(ContainerStateRunning { started_at: Some(started.clone()) });
    core::ContainerState { running, ..<_>::default() }
}

fn terminated(pod: &Pod, name: &str, exit: &Exit) -> core::ContainerState {
    let reason = if exit.code == 0 { "Completed" } else { "Error" };
    let terminated = Some(ContainerStateTerminated {
        container_id: Some(container_id(pod, name)),
        exit_code: exit.code,
        reason: Some(reason.to_owned()),
        started_at: Some(Time(exit.started)),
        finished_at: Some(Time(exit.finished)),
        ..<_>::default()
    });
    core::ContainerState { terminated, ..<_>::default() }
}

/// The status of a container that ends by itself.
fn ending(pod: &Pod, image: &str, own: &ContainerState) -> ContainerStatus {
    let runs = matches!(own.now, Activity::Running(_));
    let state = match &own.now {
        Activity::Running(since) => running_since(&Time(*since)),
        Activity::Exited(exit) => terminated(pod, &own.name, exit),
        Activity::BackOff(pause) => {
            let metadata = &pod.metadata;
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let message = format!(
                "back-off {}s restarting failed container={} pod={}_{}({})",
                pause.as_secs(),
                own.name,
                text(&metadata.name),
                text(&metadata.namespace),
                text(&metadata.uid)
            );
            let waiting = Some(ContainerStateWaiting {
                reason: Some("CrashLoopBackOff".to_owned()),
                message: Some(message),
            });
            core::ContainerState { waiting, ..<_>::default() }
        }
    };
    let last = own.last.as_ref().map(|exit| terminated(pod, &own.name, exit));
    ContainerStatus {
        restart_count: i32::try_from(own.restarts).unwrap_or(i32::MAX),
        last_state: last,
        started: Some(runs),
        ..container(pod, &own.name, image, state, runs)
    }
}

/// The status of a pod that was ended before it had ended by itself.
pub(crate) fn killed(pod: &Pod, now: Timestamp) -> PodStatus {
    let mut status = pod.status.clone().unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return status;
    }
    for container in status.container_statuses.iter_mut().flatten() {
        let running = container.state.as_ref().and_then(|state| state.running.as_ref());
        let started = running.and_then(|running| running.started_at.as_ref()).map_or(now, |t| t.0);
        let exit = Exit { code: KILLED, started, finished: now };
        container.state = Some(terminated(pod, &container.name, &exit));
        (container.ready, container.started) = (false, Some(false));
    }
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), "Ready" | "ContainersReady") {
            condition.status = "False".to_owned();
            condition.reason = Some("PodFailed".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
    }
    status.phase = Some("Failed".to_owned());
    status
}

fn container_id(pod: &Pod, name: &str) -> String {
    format!("simulated://{}/{name}", pod.metadata.uid.as_deref().unwrap_or_default())
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
        Some((reason, message)) => (
            Some((*reason).to_owned()),
            Some(message.clone()).filter(|message| !message.is_empty()),
        ),
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
    state: core::ContainerState,
    ready: bool,
) -> ContainerStatus {
    ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        image_id: String::new(),
        container_id: Some(container_id(pod, name)),
        ready,
        started: Some(true),
        restart_count: 0,
        state: Some(state),
        ..ContainerStatus::default()
    }
}
