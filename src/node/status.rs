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
    model::{
        pod::{is_phase_terminal, is_sidecar},
        well_known::{CONTAINERS_READY, POD_INITIALIZED, POD_READY, POD_SCHEDULED},
    },
    node::{NodeOptions, containers::may_restart_as_a_whole, references::Missing},
    runtime::{Activity, ContainerState, Exit, PodState, Stage},
};

/// `"false"` keeps a pod from being ready.
const READY_ANNOTATION: &str = "snowglobe.dev/ready";
/// Exit code of what was ended by SIGKILL.
const KILLED: i32 = 137;

/// Conditions that are written here; others stay.
const CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", POD_INITIALIZED, POD_READY, CONTAINERS_READY, POD_SCHEDULED];

/// Why a container waits that refers to what is not there.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// Only of pods that may be [restarted as a whole](may_restart_as_a_whole).
const RESTARTING: &str = "AllContainersRestarting";

/// The phase, also how a pod ended.
fn phase(pod: &Pod, state: &PodState) -> &'static str {
    let Some(spec) = &pod.spec else { return "Running" };
    match state.stage {
        // One whose containers are all started again stays what it was.
        Stage::Initializing if spec.containers.iter().all(|c| find(state, &c.name).is_none()) => {
            return "Pending";
        }
        Stage::Running if state.containers.iter().any(is_faulty) => return "Pending",
        Stage::Initializing | Stage::Running | Stage::Restarting => return "Running",
        Stage::Ended => {}
    }
    let init = spec.init_containers.iter().flatten().filter(|c| !is_sidecar(c));
    let failed = |container: &core::Container| {
        let activity = find(state, &container.name).map(|state| &state.now);
        matches!(activity, Some(Activity::Exited(exit)) if exit.code != 0)
    };
    if init.chain(&spec.containers).any(failed) { "Failed" } else { "Succeeded" }
}

/// Whether a container was never there since it cannot be made.
fn is_faulty(own: &ContainerState) -> bool {
    matches!(own.now, Activity::Faulty(_))
}

fn find<'a>(state: &'a PodState, name: &str) -> Option<&'a ContainerState> {
    state.containers.iter().find(|state| state.name == name)
}

/// Init containers that are still to be done, or started if they are sidecars.
fn incomplete<'a>(spec: &'a core::PodSpec, state: &PodState) -> Vec<&'a str> {
    let init = spec.init_containers.iter().flatten().filter(|container| {
        match find(state, &container.name).map(|state| &state.now) {
            None | Some(Activity::Waiting) => true,
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
    let gates = unmet_gates(pod, &old);
    let contained = containers_ready(pod, state);
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
    let ready = contained && gates.is_empty();
    let gated = (contained && !ready).then(|| ("ReadinessGatesNotReady", gates.join(", ")));
    let holds = [matches!(phase, "Pending" | "Running"), initialized, ready, contained, true];
    let own = CONDITIONS.into_iter().zip(holds).map(|(name, holds)| {
        let why = match name {
            POD_INITIALIZED => &uninitialized,
            POD_READY if contained => &gated,
            _ => &not_ready,
        };
        condition(&old, name, holds, why.as_ref(), &now)
    });
    let own = own.chain(restarting(&spec, &old, state, phase, &now));
    let foreign = old.conditions.iter().flatten();
    let foreign = foreign
        .filter(|c| !CONDITIONS.contains(&c.type_.as_str()) && c.type_ != RESTARTING)
        .cloned();
    let conditions = own.chain(foreign).collect();
    let statuses = spec.containers.iter().map(|c| {
        let image = c.image.as_deref().unwrap_or_default();
        match find(state, &c.name) {
            Some(own) => ending(pod, image, own),
            None if !initialized => initializing(&c.name, image),
            None => container(pod, &c.name, image, running_since(&started), contained),
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

/// Whether all containers are stopped, to be started again.
fn restarting(
    spec: &core::PodSpec,
    old: &PodStatus,
    state: &PodState,
    phase: &str,
    now: &Time,
) -> Option<PodCondition> {
    let holds = state.stage == Stage::Restarting;
    let reason = match phase {
        "Succeeded" => Some("PodCompleted".to_owned()),
        "Failed" => Some("PodFailed".to_owned()),
        _ => None,
    };
    may_restart_as_a_whole(spec).then(|| PodCondition {
        reason,
        message: None,
        ..condition(old, RESTARTING, holds, None, now)
    })
}

/// What the readiness gates of a pod still wait for, in kubelet's words.
fn unmet_gates(pod: &Pod, status: &PodStatus) -> Vec<String> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            let mut conditions = status.conditions.iter().flatten();
            match conditions.find(|condition| condition.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {name:?} does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect()
}

/// Whether the containers of a pod are ready: those that last run, all ports are served (perhaps elsewhere), and the pod
/// does not ask otherwise.
fn containers_ready(pod: &Pod, state: &PodState) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(READY_ANNOTATION)).map(String::as_str);
    let spec = pod.spec.iter();
    let sidecars = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|container| is_sidecar(container));
    let lasting = sidecars.chain(spec.flat_map(|spec| &spec.containers));
    let mut followed = lasting.filter_map(|container| find(state, &container.name));
    asked != Some("false")
        && state.stage == Stage::Running
        && state.failed.is_empty()
        && followed.all(|container| matches!(container.now, Activity::Running(_)))
}

/// Whether the conditions of a pod, if it has any, are no longer what its state, its annotation and its readiness gates
/// say.
pub(crate) fn conditions_moved(pod: &Pod, state: &PodState) -> bool {
    let Some(status) = &pod.status else { return false };
    let find = |name: &str| status.conditions.iter().flatten().find(|c| c.type_ == name);
    let holds = |name| find(name).is_some_and(|condition| condition.status == "True");
    let contained = containers_ready(pod, state);
    let unmet = unmet_gates(pod, status);
    let told = find("Ready").and_then(|ready| ready.message.as_ref());
    find("ContainersReady").is_some()
        && (holds("ContainersReady") != contained
            || holds("Ready") != (contained && unmet.is_empty())
            || (contained && !unmet.is_empty() && told != Some(&unmet.join(", "))))
}

/// The status of a pod that does not start, since something is missing that it refers to.
pub(crate) fn held(pod: &Pod, node: &NodeOptions, missing: &Missing, now: Timestamp) -> PodStatus {
    let old = pod.status.clone().unwrap_or_default();
    let now = Time(now);
    let spec = pod.spec.clone().unwrap_or_default();
    let init: Vec<_> = spec.init_containers.iter().flatten().collect();
    let names = |all: &mut dyn Iterator<Item = &core::Container>| {
        all.map(|container| container.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let message =
        format!("containers with unready status: [{}]", names(&mut spec.containers.iter()));
    let unready = Some(("ContainersNotReady", message));
    let message = format!(
        "containers with incomplete status: [{}]",
        names(&mut init.iter().map(|container| &**container))
    );
    let uninitialized = Some(("ContainersNotInitialized", message));
    let holds = [missing.volumes.is_empty(), init.is_empty(), false, false, true];
    let own = CONDITIONS.into_iter().zip(holds).map(|(name, holds)| {
        let why = match name {
            POD_INITIALIZED => &uninitialized,
            "PodReadyToStartContainers" => &None,
            _ => &unready,
        };
        let mut condition = condition(&old, name, holds, why.as_ref(), &now);
        if why.is_none() {
            (condition.reason, condition.message) = (None, None);
        }
        condition
    });
    let foreign = old.conditions.iter().flatten();
    let foreign = foreign.filter(|c| !CONDITIONS.contains(&c.type_.as_str())).cloned();
    let waiting = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let waits = |container: &core::Container| {
        let why = missing.containers.get(&container.name).filter(|_| missing.volumes.is_empty());
        let reason = if why.is_some() { CONFIG_ERROR } else { waiting };
        let image = container.image.as_deref().unwrap_or_default();
        waits_for(&container.name, image, reason, why.cloned())
    };
    let statuses = spec.containers.iter().map(waits).collect();
    let init_statuses = spec.init_containers.as_ref().map(|all| all.iter().map(waits).collect());
    PodStatus {
        phase: Some("Pending".to_owned()),
        conditions: Some(own.chain(foreign).collect()),
        host_ip: Some(node.address.to_string()),
        host_ips: Some(vec![HostIP { ip: node.address.to_string() }]),
        start_time: old.start_time.clone().or(Some(now)),
        container_statuses: Some(statuses),
        init_container_statuses: init_statuses,
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
    waits_for(name, image, "PodInitializing", None)
}

fn waits_for(name: &str, image: &str, reason: &str, message: Option<String>) -> ContainerStatus {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
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
        message: Some(exit.message.clone()).filter(|message| !message.is_empty()),
        ..<_>::default()
    });
    core::ContainerState { terminated, ..<_>::default() }
}

/// The status of a container that ends by itself, or cannot be made.
fn ending(pod: &Pod, image: &str, own: &ContainerState) -> ContainerStatus {
    if let Activity::Faulty(fault) = &own.now {
        return waits_for(&own.name, image, CONFIG_ERROR, Some(fault.clone()));
    }
    let runs = matches!(own.now, Activity::Running(_));
    let state = match &own.now {
        Activity::Running(since) => running_since(&Time(*since)),
        Activity::Exited(exit) => terminated(pod, &own.name, exit),
        Activity::Waiting | Activity::Faulty(_) => {
            let reason = Some("PodInitializing".to_owned());
            let waiting = Some(ContainerStateWaiting { reason, message: None });
            core::ContainerState { waiting, ..<_>::default() }
        }
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
    if status.phase.as_deref().is_some_and(is_phase_terminal) {
        return status;
    }
    for container in status.container_statuses.iter_mut().flatten() {
        let running = container.state.as_ref().and_then(|state| state.running.as_ref());
        let started = running.and_then(|running| running.started_at.as_ref()).map_or(now, |t| t.0);
        let exit = Exit { code: KILLED, started, finished: now, message: String::new() };
        container.state = Some(terminated(pod, &container.name, &exit));
        (container.ready, container.started) = (false, Some(false));
    }
    for condition in status.conditions.iter_mut().flatten() {
        if matches!(condition.type_.as_str(), POD_READY | CONTAINERS_READY) {
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

#[cfg(test)]
mod tests;
