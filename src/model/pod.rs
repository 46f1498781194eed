//! What several subsystems ask of a pod.

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Whether a pod of this phase has ended: its containers do not run, and never will again (Kubernetes'
/// `IsPodPhaseTerminal`).
pub fn is_phase_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether an init container keeps running beside the containers.
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// The init containers, then the containers.
pub fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}
