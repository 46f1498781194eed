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
    node::{NodeOptions, containers::is_sidecar},
    runtime::{Activity, ContainerState, Exit, PodState, Stage},
};

/// Exit code of what was ended by SIGKILL.
const KILLED: i32 = 137;

/// Conditions that are written here; others stay.
const CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// The phase, also how a pod ended.
fn phase(pod: &Pod, state: &PodState) -> &'static str {
    let Some(spec) = &pod.spec else { return "Running" };
    match state.stage {
        Stage::Initializing => return "Pending",
        Stage::Running => return "Running",
        Stage::Ended => {}
    }
    let init = spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c));
    let failed = |container: &core::Container| {
        let activity = find(state, &container.name).map(|state| &state.now);
        matches!(activity, Some(Activity::Exited(exit)) if exit.code != 0)
    };
    if init.chain(&spec.containers).any(failed) { "Failed" } else { "Succeeded" }
}

fn find<'a>(state: &'a PodState, name: &str) -> Option<&'a ContainerState> {
    state.containers.iter().find(|state| state.name == name)
}

/// Init containers that are still to be done, or started if they are sidecars.
fn incomplete<'a>(spec: &'a core::PodSpec, state: &PodState) -> Vec<&'a str> {
    let init = spec.init_containers.iter().flatten().filter(|container| {
        match find(state, &container.name).map(|state| &state.now) {
            None => true,
            Some(Activity::Exited(exit)) => exit.code != 0 && !is_sidecar(container),
            Some(_) => !is_sidecar(container),
        }
    });
    init.map(|container| container.name.as_str()).collect()
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
    let spec = pod.spec.clone().unwrap_or_default();
    let phase = phase(pod, state);
    let not_ready = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ => not_ready.or_else(|| unready(&spec, state)),
    };
    let incomplete = incomplete(&spec, state);
    let initialized = incomplete.is_empty();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    let uninitialized = Some(("ContainersNotInitialized", message));
    let holds = [matches!(phase, "Pending" | "Running"), initialized, ready, ready, true];
    let own = CONDITIONS.into_iter().zip(holds).map(|(name, holds)| {
        let why = if name == "Initialized" { &uninitialized } else { &not_ready };
        condition(&old, name, holds, why.as_ref(), &now)
    });
    let foreign = old.conditions.iter().flatten();
    let foreign = foreign.filter(|c| !CONDITIONS.contains(&c.type_.as_str())).cloned();
    let conditions = own.chain(foreign).collect();
    let statuses = spec.containers.iter().map(|c| {
        let image = c.image.as_deref().unwrap_or_default();
        match find(state, &c.name) {
            _ if !initialized => initializing(&c.name, image),
            Some(own) => ending(pod, image, own),
            None => container(pod, &c.name, image, running_since(&started), ready),
        }
    });
    let init = |c: &core::Container| init_status(pod, c, state);
    let init_statuses = spec.init_containers.as_ref().map(|all| all.iter().map(init).collect());
    let later = spec.ephemeral_containers.as_ref().map(|all| {
        let known = |c: &core::EphemeralContainer| {
            let image = c.image.as_deref().unwrap_or_default();
            Some(ContainerStatus { ready: false, ..ending(pod, image, find(state, &c.name)?) })
        };
        all.iter().filter_map(known).collect()
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
        ephemeral_container_statuses: later,
        observed_generation: pod.metadata.generation,
        ..old
    }
}

/// The status of an init container or sidecar.
fn init_status(pod: &Pod, own: &core::Container, state: &PodState) -> ContainerStatus {
    let image = own.image.as_deref().unwrap_or_default();
    let Some(state) = find(state, &own.name) else { return initializing(&own.name, image) };
    let status = ending(pod, image, state);
    let runs = matches!(state.now, Activity::Running(_));
    let done = matches!(&state.now, Activity::Exited(exit) if exit.code == 0);
    let ready = if is_sidecar(own) { runs } else { done };
    ContainerStatus { ready, started: Some(runs), ..status }
}

/// The status of a container whose turn has not come.
fn initializing(name: &str, image: &str) -> ContainerStatus {
    let waiting = ContainerStateWaiting {
        reason: Some("PodInitializing".to_owned()),
        ..ContainerStateWaiting::default()
    };
    let state = core::ContainerState { waiting: Some(waiting), ..<_>::default() };
    ContainerStatus {
        name: name.to_owned(),
        image: image.to_owned(),
        started: Some(false),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

/// Why a pod is not ready one of whose containers does not run.
fn unready(spec: &core::PodSpec, state: &PodState) -> Option<(&'static str, String)> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let waits = |container: &&core::Container| match find(state, &container.name) {
        Some(own) => !matches!(own.now, Activity::Running(_)),
        None => state.stage == Stage::Initializing,
    };
    let waiting = sidecars.chain(&spec.containers).filter(waits);
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
