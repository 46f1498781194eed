//! The load-balancing lab: policies without a cluster. The modules, and the host that runs them, are those of live
//! traffic; endpoints, connections and time are made up.
//!
//! [`workload`] says which endpoints there are and which connections come, [`simulation`] runs a policy on that in virtual
//! time, [`conformance`] checks that a policy keeps its contract, and [`timing`] takes its time. Nothing here does I/O, and
//! but for the timing the same seed gives the same results.

pub mod conformance;
pub mod simulation;
pub mod timing;
pub mod workload;
