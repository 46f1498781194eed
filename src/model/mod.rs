//! Pure data about Kubernetes objects: documents, keys, kinds, selectors, API errors. No I/O, no clock.
//!
//! Enter at [`Object`] (one stored document), [`kind::BUILT_IN`] (the served kinds) and [`Status`] (the error that a
//! client gets). This module must never know the store, the cache or a socket.

pub mod canonical;
pub mod conditions;
pub mod conversion;
pub mod duplicates;
pub mod fields;
pub mod go_json;
pub mod key;
pub mod kind;
pub mod multicluster;
pub mod object;
pub mod patch;
pub mod pod;
pub mod policy;
pub mod quantity;
pub mod schedule;
pub mod selector;
pub mod service;
pub mod status;
pub mod time;
pub mod well_known;
pub mod wording;

pub use key::ObjectKey;
pub use kind::Kind;
pub use object::{Metadata, Object, OwnerReference};
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Status};
