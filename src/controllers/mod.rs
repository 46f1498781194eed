//! Controllers: "object X should create Y". Each is a pure function from a snapshot and a key to a [`Plan`];
//! [`runner`] watches, deduplicates, writes and backs off.
//!
//! Enter at [`all`], the list of controllers; each has a file of its own. A controller never does I/O, never keeps
//! state between calls, and may be called at any time for any key.

pub mod notices;
pub mod policies;
pub mod routes;
pub mod runner;

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Kind, Object, ObjectKey},
    registry::{Note, View},
};

/// What a plan may look at.
pub struct World<'a> {
    /// The cluster.
    pub view: &'a View,
    /// The time of this plan.
    pub now: Timestamp,
    /// What was configured.
    pub options: &'a Options,
}

/// What controllers must know about the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to take `status.loadBalancer.ingress` from.
    pub load_balancer_cidr: ipnet::IpNet,
    /// `--cluster-domain`.
    pub cluster_domain: String,
    /// Most endpoints in one EndpointSlice (kube-controller-manager's `--max-endpoints-per-slice`).
    pub endpoints_per_slice_max: usize,
    /// Addresses of the API server, the endpoints of `default/kubernetes`.
    pub api_address: Option<(IpAddr, u16)>,
}

/// One controller.
pub struct Controller {
    /// For logs and Events, `deployment-controller`.
    pub name: &'static str,
    /// Which changes wake it, and for which keys.
    pub triggers: &'static [Trigger],
    /// What to do about one key. The object may not exist (any more).
    pub plan: fn(&World<'_>, &ObjectKey) -> Plan,
}

/// When an object of a kind changes (before and after state are both given, one call each), these keys are planned.
pub struct Trigger {
    /// The kind that is watched.
    pub kind: &'static Kind,
    /// The keys that depend on the object.
    pub keys: fn(&View, &Object) -> Vec<ObjectKey>,
}

/// What shall be done. Steps run in order; the first that fails ends the plan, and the key is planned again
/// with back-off (at once after a conflict).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes and Events, in order.
    pub steps: Vec<Step>,
    /// Plan this key again after this time even if nothing changes.
    pub requeue: Option<Duration>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create an object; its namespace is taken from the document. It is no error when it exists already.
    Create(&'static Kind, Value),
    /// Replace an object; the document carries the `resourceVersion` that was planned on.
    Update(ObjectKey, Value),
    /// Replace an object's status; likewise.
    UpdateStatus(ObjectKey, Value),
    /// Delete an object if it still has this uid. It is no error when it is gone.
    Delete {
        /// Which.
        key: ObjectKey,
        /// Its uid.
        uid: String,
    },
    /// Record an Event about an object.
    Event(Note),
}
