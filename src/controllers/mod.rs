//! Controllers: "object X should create Y". Each is a pure function from a snapshot and a key to a [`Plan`];
//! [`runner`] watches, deduplicates, writes and backs off.
//!
//! Enter at [`all`], the list of controllers; each has a file of its own. A controller never does I/O, never keeps
//! state between calls, and may be called at any time for any key.

mod cron_job;
mod custom_api_services;
mod custom_resource_definitions;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoint_packing;
mod endpoint_slice_mirroring;
mod endpoint_slices;
mod endpoints;
mod ephemeral_volumes;
mod events;
mod finalizers;
mod garbage;
mod job;
mod kept;
pub mod kube_proxy;
mod load_balancer;
mod namespace;
pub mod notices;
mod ownership;
mod pod;
mod pod_gc;
pub mod policies;
mod protection;
mod queue;
mod replica_set;
mod replication_controller;
mod revisions;
pub mod routes;
pub mod runner;
mod scheduler;
mod service;
mod service_account;
mod service_account_token;
mod service_cidr;
mod stateful_set;
mod taint_eviction;
mod template;
#[cfg(test)]
mod testing;
mod volume_binding;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Kind, Object, ObjectKey, canonical::canonicalise},
    registry::{Propagation, View},
};

pub use crate::registry::Note;

/// Every controller of this module.
pub fn all() -> Vec<&'static Controller> {
    vec![
        &deployment::CONTROLLER,
        &replica_set::CONTROLLER,
        &stateful_set::CONTROLLER,
        &daemon_set::CONTROLLER,
        &job::CONTROLLER,
        &cron_job::CONTROLLER,
        &replication_controller::CONTROLLER,
        &disruption::CONTROLLER,
        &scheduler::CONTROLLER,
        &taint_eviction::CONTROLLER,
        &pod_gc::CONTROLLER,
        &endpoint_slices::CONTROLLER,
        &endpoints::CONTROLLER,
        &endpoint_slice_mirroring::CONTROLLER,
        &load_balancer::CONTROLLER,
        &service_account::CONTROLLER,
        &service_account_token::CONTROLLER,
        &service_cidr::CONTROLLER,
        &volume_binding::CLAIMS,
        &volume_binding::VOLUMES,
        &ephemeral_volumes::CONTROLLER,
        &protection::CLAIMS,
        &protection::VOLUMES,
        &custom_resource_definitions::CONTROLLER,
        &custom_api_services::CONTROLLER,
        &namespace::CONTROLLER,
        &kept::CONTROLLER,
        &garbage::CONTROLLER,
        &events::CONTROLLER,
    ]
}

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
    /// The addresses that Services can have at all on this data plane.
    pub services_within: ipnet::IpNet,
    /// Ranges that are none for Services, and what they are for.
    pub taken_ranges: Vec<(&'static str, ipnet::IpNet)>,
    /// Most endpoints in one EndpointSlice (kube-controller-manager's `--max-endpoints-per-slice`).
    pub endpoints_per_slice_max: usize,
    /// How long an Event lives after it was last seen (kube-apiserver's `--event-ttl`).
    pub event_ttl: Duration,
    /// The cluster's certificate authority in PEM, for `kube-root-ca.crt` in every namespace.
    pub cluster_ca: String,
    /// Makes the token of a Secret for a ServiceAccount.
    pub secret_token: SecretToken,
    /// What the objects say that are always there, and are made again when somebody deletes them.
    pub kept: Arc<BTreeMap<ObjectKey, Value>>,
}

/// Signs, for a Secret of type `kubernetes.io/service-account-token` and the ServiceAccount that it names, its token.
#[derive(Clone)]
pub struct SecretToken(SignToken);

type SignToken = Arc<dyn Fn(&ObjectKey, &Object) -> String + Send + Sync>;

impl SecretToken {
    /// The token is made by this function.
    pub fn new(sign: impl Fn(&ObjectKey, &Object) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(sign))
    }

    /// The token.
    pub fn sign(&self, secret: &ObjectKey, account: &Object) -> String {
        (self.0)(secret, account)
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretToken")
    }
}

/// The usual number of [`Controller::workers`].
pub const WORKERS: usize = 4;

/// One controller.
pub struct Controller {
    /// For logs and Events, `deployment-controller`.
    pub name: &'static str,
    /// Keys that are planned and carried out at the same time.
    pub workers: usize,
    /// Which changes wake it, and for which keys.
    pub triggers: &'static [Trigger],
    /// What to do about one key. The object may not exist (any more).
    pub plan: fn(&World<'_>, &ObjectKey) -> Plan,
}

/// When an object of a kind changes (before and after state are both given, one call each), these keys are planned.
pub struct Trigger {
    /// The kind that is watched; `None` for every kind.
    pub kind: Option<&'static Kind>,
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
    Create(Kind, Value),
    /// Replace an object; the document carries the `resourceVersion` that was planned on.
    Update(ObjectKey, Value),
    /// Replace an object's status; likewise.
    UpdateStatus(ObjectKey, Value),
    /// Replace the `spec.finalizers` of a Namespace; likewise.
    Finalize(ObjectKey, Value),
    /// Put a pod on the node that the document names; likewise.
    Bind(ObjectKey, Value),
    /// Delete an object if it still has this uid. It is no error when it is gone.
    Delete {
        /// Which.
        key: ObjectKey,
        /// Its uid.
        uid: String,
        /// What becomes of its dependents.
        propagation: Propagation,
    },
    /// Record an Event about an object.
    Event(Note),
    /// Steps that do not depend on each other: they run side by side. The first failure still ends the plan.
    All(Vec<Self>),
    /// Steps in order; the first failure ends the rest, and the plan.
    Chain(Vec<Self>),
}

impl Plan {
    /// A plan that does nothing.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// A plan of steps that do not depend on each other.
    pub fn all(mut steps: Vec<Step>) -> Self {
        if steps.len() > 1 {
            steps = vec![Step::All(steps)];
        }
        steps.into()
    }
}

impl From<Vec<Step>> for Plan {
    fn from(steps: Vec<Step>) -> Self {
        Self { steps, requeue: None }
    }
}

impl Step {
    /// Deletes an object in the state that was seen; its dependents follow afterwards.
    pub fn delete(object: &Object) -> Self {
        let (key, uid) = (object.key.clone(), object.metadata.uid.clone());
        Self::Delete { key, uid, propagation: Propagation::Background }
    }

    /// Replaces an object's status by `status`; nothing to do if it says the same already.
    pub(crate) fn status<T: serde::Serialize>(object: &Object, status: &T) -> Option<Self> {
        let mut old = document(object);
        let mut new = old.clone();
        new["status"] = to_value(status);
        canonicalise(&object.key.kind, &mut old);
        canonicalise(&object.key.kind, &mut new);
        (new["status"] != old["status"]).then(|| Self::UpdateStatus(object.key.clone(), new))
    }

    /// Records an Event of type Normal.
    pub(crate) fn note(about: &Object, reason: &'static str, message: String) -> Self {
        let uid = about.metadata.uid.clone();
        Self::Event(Note { about: about.key.clone(), uid, warning: false, reason, message })
    }

    /// Records an Event of type Warning.
    pub(crate) fn warning(about: &Object, reason: &'static str, message: String) -> Self {
        let uid = about.metadata.uid.clone();
        Self::Event(Note { about: about.key.clone(), uid, warning: true, reason, message })
    }
}

/// The earlier one of two times to plan again.
pub(crate) fn earlier<T: Ord>(first: Option<T>, second: T) -> Option<T> {
    Some(match first {
        Some(first) => first.min(second),
        None => second,
    })
}

/// For triggers: the object that changed is what is planned.
pub(crate) fn itself(_: &View, object: &Object) -> Vec<ObjectKey> {
    vec![object.key.clone()]
}

/// The document of an object, to be changed. What the cache holds always parses.
pub(crate) fn document(object: &Object) -> Value {
    object.parse().unwrap_or_default()
}

/// The JSON of a typed object.
pub(crate) fn to_value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).expect("Kubernetes types have string keys and no failing fields")
}
