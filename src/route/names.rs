//! What DNS answers from: service names, endpoint names and addresses.

/// The names of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Names {}
