//! The table of kinds that this API server serves. A new stored-only kind is one entry here
//! (and one in `registry::strategy`, which gives it its Rust type).

use std::{cmp::Ordering, fmt, hash};

/// One served kind, as discovery describes it. Compared by group and plural.
pub struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// The one served version.
    pub version: &'static str,
    /// CamelCase name, `EndpointSlice`.
    pub kind: &'static str,
    /// Resource name in URLs, `endpointslices`.
    pub plural: &'static str,
    /// Singular name that kubectl accepts, `endpointslice`.
    pub singular: &'static str,
    /// kubectl's abbreviations.
    pub short_names: &'static [&'static str],
    /// Member of `kubectl get all`.
    pub in_all: bool,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is a subresource of its own.
    pub has_status: bool,
    /// Whether `scale` is served.
    pub has_scale: bool,
    /// Whether `metadata.generation` counts changes of the spec.
    pub has_generation: bool,
}

const STORED: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    in_all: false,
    namespaced: true,
    has_status: false,
    has_scale: false,
    has_generation: false,
};

/// Namespaces.
pub static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    has_status: true,
    ..STORED
};
/// Virtual nodes.
pub static NODE: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    has_status: true,
    ..STORED
};
/// Pods.
pub static POD: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    in_all: true,
    has_status: true,
    has_generation: true,
    ..STORED
};
/// Services.
pub static SERVICE: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    in_all: true,
    has_status: true,
    ..STORED
};
/// The old form of EndpointSlices.
pub static ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    ..STORED
};
/// ConfigMaps.
pub static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    ..STORED
};
/// Secrets.
pub static SECRET: Kind = Kind { kind: "Secret", plural: "secrets", singular: "secret", ..STORED };
/// Events of the core group.
pub static EVENT: Kind =
    Kind { kind: "Event", plural: "events", singular: "event", short_names: &["ev"], ..STORED };
/// ServiceAccounts.
pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    ..STORED
};
/// Deployments.
pub static DEPLOYMENT: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    in_all: true,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
};
/// ReplicaSets.
pub static REPLICA_SET: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    in_all: true,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
};
/// StatefulSets.
pub static STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    in_all: true,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
};
/// DaemonSets.
pub static DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    in_all: true,
    has_status: true,
    has_generation: true,
    ..STORED
};
/// Former templates of DaemonSets and StatefulSets.
pub static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    ..STORED
};
/// Jobs.
pub static JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    in_all: true,
    has_status: true,
    has_generation: true,
    ..STORED
};
/// CronJobs.
pub static CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    in_all: true,
    has_status: true,
    has_generation: true,
    ..STORED
};
/// ReplicationControllers, the old form of ReplicaSets.
pub static REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    in_all: true,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
};
/// PodDisruptionBudgets.
pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    has_status: true,
    has_generation: true,
    ..STORED
};
/// EndpointSlices.
pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    has_generation: true,
    ..STORED
};
/// One allocated service address.
pub static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    ..STORED
};
/// Pod runtimes.
pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    ..STORED
};
/// Node heartbeats.
pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    ..STORED
};
/// Load-balancing schedulers (our own kind).
pub static LOAD_BALANCER_POLICY: Kind = Kind {
    group: "snowglobe.dev",
    version: "v1alpha1",
    kind: "LoadBalancerPolicy",
    plural: "loadbalancerpolicies",
    singular: "loadbalancerpolicy",
    short_names: &["lbp"],
    namespaced: false,
    has_status: true,
    has_generation: true,
    ..STORED
};

const REVIEW: Kind = Kind { namespaced: false, ..STORED };
const AUTHENTICATION: Kind = Kind { group: "authentication.k8s.io", ..REVIEW };
const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..REVIEW };

/// What `serviceaccounts/token` takes and gives.
pub static TOKEN_REQUEST: Kind = Kind { kind: "TokenRequest", ..AUTHENTICATION };

/// Questions about users and rights. They are answered when they are created, and never stored.
pub static REVIEWS: &[&Kind] = &[
    &Kind {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        ..AUTHENTICATION
    },
    &Kind {
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        ..AUTHENTICATION
    },
    &Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        ..AUTHORIZATION
    },
    &Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        ..AUTHORIZATION
    },
];

/// Every served kind, in the order in which discovery lists them (groups together).
pub static KINDS: &[&Kind] = &[
    &CONFIG_MAP,
    &ENDPOINTS,
    &EVENT,
    &NAMESPACE,
    &NODE,
    &POD,
    &REPLICATION_CONTROLLER,
    &SECRET,
    &SERVICE_ACCOUNT,
    &SERVICE,
    &CONTROLLER_REVISION,
    &DAEMON_SET,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
    &CRON_JOB,
    &JOB,
    &LEASE,
    &ENDPOINT_SLICE,
    &IP_ADDRESS,
    &RUNTIME_CLASS,
    &POD_DISRUPTION_BUDGET,
    &LOAD_BALANCER_POLICY,
];

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn identity(&self) -> (&'static str, &'static str) {
        (self.group, self.plural)
    }
}

/// The kind that a URL names by group and plural.
pub fn by_resource(group: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.group == group && kind.plural == plural)
}

/// The kind that a document names by `apiVersion` and `kind`.
pub fn by_api_version(api_version: &str, name: &str) -> Option<&'static Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.group == group && kind.version == version && kind.kind == name)
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}
impl Eq for Kind {}
impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}
impl hash::Hash for Kind {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}
impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}
