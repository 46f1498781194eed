//! Snowglobe: a Kubernetes cluster's service discovery, whole and real, in one process.
//!
//! # Map
//!
//! The house has two halves and one joint. **Control** turns YAML into objects and objects into other objects;
//! **data** moves bytes and answers names from one immutable [`route::RouteTable`]. The joint is a single `watch`
//! channel of that table; the way back is one bounded channel of [`route::Notice`].
//!
//! ```text
//! YAML -> api -> registry::write -> store -> registry::cache -> controllers -> registry::write ...
//!                                              |
//!                                              v
//!                         controllers::routes -> route::build -> RouteTable -> proxy -> policy -> endpoint
//!                                                                          \-> dns  -> packet
//! ```
//!
//! # Invariants
//!
//! - Every write is compare-and-swap; the cache is fed by `Store::watch` only; a writer sees its own write.
//! - A controller is a pure function from a snapshot and a key to a plan; `controllers::runner` does the I/O.
//! - Proxy and DNS read one snapshot per decision, and do not know that Kubernetes exists.
//! - The layers below are enforced by `tests/tidy.rs`.

// A time from a client may be any: sums and differences of times are checked or saturate. Tests may add as they like.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

pub mod telemetry;

pub mod descriptors;

pub mod admission;

pub mod http_server;

pub mod pki;

pub mod model;

pub mod schema;

pub mod store;

pub mod registry;

pub mod route;

pub mod policy;

pub mod lab;

pub mod proxy;

pub mod dns;

pub mod runtime;

pub mod node;

pub mod controllers;

pub mod api;

pub mod dashboard;

pub mod config;

pub mod app;

pub mod cli;
