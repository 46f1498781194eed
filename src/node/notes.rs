//! The Events of pods: what runs in place of the image, and ports that are not where they were declared.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{
    model::{Object, ObjectKey},
    node::ports::port_name,
    registry::Note,
    runtime::{PodSpec, PodState},
};

/// Ports that one Event names.
const PORTS_NAMED_MAX: usize = 10;

/// Says that the image of a new pod is not run, and what answers instead.
pub(crate) fn announcement(object: &Object, pod: &Pod, spec: &PodSpec) -> Option<Note> {
    if pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some()) {
        return None;
    }
    let containers = pod.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default();
    let images: Vec<&str> = containers.iter().filter_map(|c| c.image.as_deref()).collect();
    let ports: Vec<String> = spec.ports.iter().map(port_name).collect();
    let listening = if ports.is_empty() {
        "it listens nowhere, since it declares no port and no Service selects it".to_owned()
    } else {
        format!(
            "on {} it answers HTTP with JSON about itself and echoes other TCP and UDP",
            ports.join(", ")
        )
    };
    let message = format!(
        "image {} is not run: the pod is simulated at {}; {listening}",
        images.join(", "),
        spec.ip
    );
    let (about, uid) = (object.key.clone(), spec.uid.clone());
    Some(Note { about, uid, warning: false, reason: "Simulated", message })
}

/// What a user should know about ports that are not where they were declared, as far as it was not told of `before`.
pub(crate) fn port_notes(
    key: &ObjectKey,
    before: Option<&PodState>,
    state: &PodState,
    spec: &PodSpec,
) -> Vec<Note> {
    let note = |warning, reason, message| Note {
        about: key.clone(),
        uid: spec.uid.clone(),
        warning,
        reason,
        message,
    };
    let moved = state.moved.iter().filter(|moved| before.is_none_or(|b| !b.moved.contains(moved)));
    let moved = moved.map(|moved| {
        let text = format!(
            "port {} is served at {}:{} ({}); Services reach it, clients that dial the pod's own address must use that port",
            port_name(&moved.port),
            spec.ip,
            moved.bound,
            moved.reason
        );
        note(false, "PortMoved", text)
    });
    let mut failed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in state.failed.iter().filter(|one| before.is_none_or(|b| !b.failed.contains(one))) {
        failed.entry(&one.1).or_default().push(port_name(&one.0));
    }
    let failed = failed.into_iter().map(|(reason, ports)| {
        let ports = list(&ports);
        note(true, "PortNotBound", format!("{ports} cannot be served at {}: {reason}", spec.ip))
    });
    moved.chain(failed).collect()
}

/// `port 80/TCP`, or the first few of many.
fn list(ports: &[String]) -> String {
    let named = ports[..ports.len().min(PORTS_NAMED_MAX)].join(", ");
    match ports.len() {
        1 => format!("port {named}"),
        0..=PORTS_NAMED_MAX => format!("ports {named}"),
        all => format!("ports {named} and {} more", all - PORTS_NAMED_MAX),
    }
}
