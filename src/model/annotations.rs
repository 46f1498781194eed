//! Annotations of ours that several subsystems read or write.

/// Where a pod really listens, by port: a JSON map, `{"80/TCP": 41234}`.
pub const BOUND_PORTS: &str = "snowglobe.dev/bound-ports";
