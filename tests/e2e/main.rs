//! End to end: the real binary, driven by kubectl, helm, dig, curl, a browser, and the clients of Rust and Python.
//!
//! Each test starts a cluster of its own ([`cluster::Cluster`]) on free ports and in a range of addresses of its own
//! ([`place::Place`]), so that all run at once. Nothing sleeps and hopes: `eventually` looks until it is so. A test
//! whose program is missing is left out and says so; under `tests/run --install` it fails ([`tools`]).

#[cfg(test)]
mod authentication;
#[cfg(test)]
mod authoring;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod client;
#[cfg(test)]
mod cluster;
mod commands;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod custom_resources;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod equality;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod etcd;
#[cfg(test)]
mod events;
#[cfg(test)]
mod extremes;
#[cfg(test)]
mod helm;
#[cfg(test)]
mod http;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod kube_runtime;
#[cfg(test)]
mod kubeconfig;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod needs;
#[cfg(test)]
mod older_data;
#[cfg(test)]
mod operators;
mod ordinary_user;
#[cfg(test)]
mod output;
#[cfg(test)]
mod place;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod python;
#[cfg(test)]
mod slow_clients;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod state;
#[cfg(test)]
mod store_disk;
#[cfg(test)]
mod store_failures;
#[cfg(test)]
mod tools;
mod topology;
mod topology_policies;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod unfinished;
#[cfg(test)]
mod unreadable;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod upkeep;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod workload_kinds;
#[cfg(test)]
mod workloads;
