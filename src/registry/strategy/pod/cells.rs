//! The cells of pods: readiness, status and restarts from the states of all containers.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    model::{
        Object,
        pod::{is_phase_terminal, is_sidecar},
        well_known::{POD_INITIALIZED, POD_READY, POD_SCHEDULED},
    },
    registry::printing::{
        Cells,
        age::since,
        row::{NONE, age},
    },
};

/// The reason of pods whose node is lost.
const NODE_LOST: &str = "NodeLost";

/// What the containers of a pod sum up to.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i32,
    last_restart: Option<Timestamp>,
}

/// All cells of a pod's row.
pub(super) fn cells(object: &Object, now: Timestamp) -> Cells {
    let Pod { spec, status, .. } = object.parse()?;
    let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
    let mut summary = summary(&spec, &status);
    if object.is_terminating() {
        let is_over = status.phase.as_deref().is_some_and(is_phase_terminal);
        if status.reason.as_deref() == Some(NODE_LOST) {
            summary.reason = "Unknown".to_owned();
        } else if !is_over {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, since(Some(time), now))
        }
        _ => summary.restarts.to_string(),
    };
    let ip = status.pod_ips.as_ref().and_then(|ips| ips.first()).map(|ip| ip.ip.clone());
    let or_none = |text: Option<String>| {
        Value::from(text.filter(|t| !t.is_empty()).unwrap_or_else(|| NONE.to_owned()))
    };
    Ok(vec![
        object.key.name.as_str().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(object, now),
        or_none(ip),
        or_none(spec.node_name.clone()),
        or_none(status.nominated_node_name.clone()),
        readiness_gates(&spec, &status).into(),
    ])
}

fn conditions(status: &PodStatus) -> impl Iterator<Item = &PodCondition> {
    status.conditions.iter().flatten()
}

fn has_condition(status: &PodStatus, kind: &str) -> bool {
    conditions(status).any(|condition| condition.type_ == kind && condition.status == "True")
}

fn summary(spec: &PodSpec, status: &PodStatus) -> Summary {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let is_gated = conditions(status)
        .any(|c| c.type_ == POD_SCHEDULED && c.reason.as_deref() == Some("SchedulingGated"));
    let reason = if is_gated {
        "SchedulingGated".to_owned()
    } else {
        given(&status.reason).or_else(|| given(&status.phase)).unwrap_or_default()
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).count();
    let total = spec.containers.len() + sidecars;
    let mut summary = Summary { ready: 0, total, reason, restarts: 0, last_restart: None };
    let initializing = init_containers(spec, status, &mut summary);
    if !initializing || has_condition(status, POD_INITIALIZED) {
        let sidecar_statuses = status.init_container_statuses.iter().flatten().filter(|status| {
            spec.init_containers.iter().flatten().any(|c| c.name == status.name && is_sidecar(c))
        });
        (summary.restarts, summary.last_restart) = (0, None);
        for status in sidecar_statuses {
            count_restarts(status, &mut summary);
        }
        containers(status, &mut summary);
    }
    summary
}

fn count_restarts(status: &ContainerStatus, summary: &mut Summary) {
    summary.restarts = summary.restarts.saturating_add(status.restart_count);
    let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let finished = ended.and_then(|ended| ended.finished_at.as_ref()).map(|time| time.0);
    summary.last_restart = summary.last_restart.max(finished);
}

/// Looks at init containers up to the first one that is not done; true when there is one.
fn init_containers(spec: &PodSpec, status: &PodStatus, summary: &mut Summary) -> bool {
    let declared = spec.init_containers.as_deref().unwrap_or_default();
    for (index, status) in status.init_container_statuses.iter().flatten().enumerate() {
        count_restarts(status, summary);
        let is_sidecar = declared.iter().any(|c| c.name == status.name && is_sidecar(c));
        let ContainerState { terminated, waiting, .. } = status.state.clone().unwrap_or_default();
        let waiting = waiting.and_then(|waiting| waiting.reason).filter(|r| !r.is_empty());
        summary.reason = match (terminated, waiting) {
            (Some(ended), _) if ended.exit_code == 0 => continue,
            _ if is_sidecar && status.started == Some(true) => {
                summary.ready += usize::from(status.ready);
                continue;
            }
            (Some(ended), _) => match ended.reason.filter(|reason| !reason.is_empty()) {
                Some(reason) => format!("Init:{reason}"),
                None => format!("Init:{}", exit(ended.signal, ended.exit_code)),
            },
            (None, Some(reason)) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{index}/{}", declared.len()),
        };
        return true;
    }
    false
}

fn exit(signal: Option<i32>, code: i32) -> String {
    match signal {
        None | Some(0) => format!("ExitCode:{code}"),
        Some(signal) => format!("Signal:{signal}"),
    }
}

/// The first container that is waiting or has ended gives the reason.
fn containers(status: &PodStatus, summary: &mut Summary) {
    let mut is_running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        count_restarts(container, summary);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|r| !r.is_empty());
        if let Some(reason) = waiting {
            summary.reason = reason;
        } else if let Some(ended) = state.terminated {
            summary.reason = match ended.reason.filter(|reason| !reason.is_empty()) {
                Some(reason) => reason,
                None => exit(ended.signal, ended.exit_code),
            };
        } else if container.ready && state.running.is_some() {
            is_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && is_running {
        let is_ready = has_condition(status, POD_READY);
        summary.reason = if is_ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn readiness_gates(spec: &PodSpec, status: &PodStatus) -> String {
    match spec.readiness_gates.as_deref().unwrap_or_default() {
        [] => NONE.to_owned(),
        gates => {
            let open =
                gates.iter().filter(|gate| has_condition(status, &gate.condition_type)).count();
            format!("{open}/{}", gates.len())
        }
    }
}

#[derive(Deserialize)]
struct Phase {
    status: Option<PhaseStatus>,
}

#[derive(Deserialize)]
struct PhaseStatus {
    phase: Option<String>,
}

/// Rows of pods that are over say so, and kubectl can leave them out.
pub(super) fn row_conditions(object: &Object) -> Vec<Value> {
    let phase = object.parse::<Phase>().ok().and_then(|pod| pod.status?.phase);
    let message = match phase.as_deref() {
        Some("Succeeded") => "The pod has completed successfully.",
        Some("Failed") => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": phase, "message": message})]
}
