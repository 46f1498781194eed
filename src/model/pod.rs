//! What several subsystems ask of a pod.

/// Whether a pod of this phase has ended: its containers do not run, and never will again (Kubernetes'
/// `IsPodPhaseTerminal`).
pub fn is_phase_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}
