//! The table of kinds that this API server serves. A new stored-only kind is one entry here, one in
//! `registry::strategy` (its Rust type) and one in `api::openapi::schemas` (its schema). A kind that several group
//! versions serve has an entry for each, all but one with `stored_as`; what differs is in `model::conversion`.

use std::{cmp::Ordering, fmt, hash};

/// One served kind, as discovery describes it. Compared by group, version and plural.
pub struct Kind {
    /// API group; empty for core.
    pub group: &'static str,
    /// Version; of a group's versions, the first in the table is preferred.
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
    /// The kind whose objects it shows in another form; `None` for a kind with objects of its own.
    pub stored_as: Option<&'static Self>,
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
    stored_as: None,
};
const NETWORKING: Kind = Kind { group: "networking.k8s.io", ..STORED };
const ACCESS: Kind = Kind { group: "rbac.authorization.k8s.io", ..STORED };

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
const EVENTS: Kind =
    Kind { kind: "Event", plural: "events", singular: "event", short_names: &["ev"], ..STORED };
/// Events of the core group.
pub static EVENT: Kind = EVENTS;
/// Claims of storage.
pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    has_status: true,
    ..STORED
};
/// Storage.
pub static PERSISTENT_VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    has_status: true,
    ..STORED
};
/// The same Events as those of the core group.
pub static NEW_EVENT: Kind = Kind { group: "events.k8s.io", stored_as: Some(&EVENT), ..EVENTS };
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
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    ..NETWORKING
};
/// Ranges of service addresses.
pub static SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    has_status: true,
    ..NETWORKING
};
/// Who may talk to which pods.
pub static NETWORK_POLICY: Kind = Kind {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    has_generation: true,
    ..NETWORKING
};
/// HTTP routes to Services.
pub static INGRESS: Kind = Kind {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    has_status: true,
    has_generation: true,
    ..NETWORKING
};
/// Implementations of Ingresses.
pub static INGRESS_CLASS: Kind = Kind {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    has_generation: true,
    ..NETWORKING
};
/// Permissions in a namespace.
pub static ROLE: Kind = Kind { kind: "Role", plural: "roles", singular: "role", ..ACCESS };
/// Who has a role in a namespace.
pub static ROLE_BINDING: Kind =
    Kind { kind: "RoleBinding", plural: "rolebindings", singular: "rolebinding", ..ACCESS };
/// Permissions everywhere.
pub static CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    ..ACCESS
};
/// Who has a role everywhere.
pub static CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    ..ACCESS
};
/// Which pods are more important.
pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    has_generation: true,
    ..STORED
};
const EXPORTS: Kind = Kind {
    group: "multicluster.x-k8s.io",
    version: "v1beta1",
    kind: "ServiceExport",
    plural: "serviceexports",
    singular: "serviceexport",
    short_names: &["svcex", "svcexport"],
    has_status: true,
    has_generation: true,
    ..STORED
};
const IMPORTS: Kind = Kind {
    kind: "ServiceImport",
    plural: "serviceimports",
    singular: "serviceimport",
    short_names: &["svcim", "svcimport"],
    ..EXPORTS
};
/// Services that other clusters may use.
pub static SERVICE_EXPORT: Kind = EXPORTS;
/// The same at the older version.
pub static SERVICE_EXPORT_ALPHA: Kind =
    Kind { version: "v1alpha1", stored_as: Some(&SERVICE_EXPORT), ..EXPORTS };
/// Services of other clusters.
pub static SERVICE_IMPORT: Kind = IMPORTS;
/// The same at the older version.
pub static SERVICE_IMPORT_ALPHA: Kind =
    Kind { version: "v1alpha1", stored_as: Some(&SERVICE_IMPORT), ..IMPORTS };
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

/// The body and the answer of `serviceaccounts/token`.
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
    &PERSISTENT_VOLUME_CLAIM,
    &PERSISTENT_VOLUME,
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
    &NEW_EVENT,
    &INGRESS_CLASS,
    &INGRESS,
    &IP_ADDRESS,
    &NETWORK_POLICY,
    &SERVICE_CIDR,
    &CLUSTER_ROLE_BINDING,
    &CLUSTER_ROLE,
    &ROLE_BINDING,
    &ROLE,
    &PRIORITY_CLASS,
    &RUNTIME_CLASS,
    &POD_DISRUPTION_BUDGET,
    &SERVICE_EXPORT,
    &SERVICE_IMPORT,
    &SERVICE_EXPORT_ALPHA,
    &SERVICE_IMPORT_ALPHA,
    &LOAD_BALANCER_POLICY,
];

/// How many kinds have objects of their own.
pub const STORED_COUNT: usize = {
    let (mut index, mut count) = (0, 0);
    while index < KINDS.len() {
        if KINDS[index].stored_as.is_none() {
            count += 1;
        }
        index += 1;
    }
    count
};

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether the kind is Kubernetes' own, not a custom resource.
    pub fn is_native(&self) -> bool {
        !self.group.contains('.') || self.group.ends_with(".k8s.io")
    }

    /// The field of the metadata that a write of the status may not change, by the kind's status strategy in Kubernetes.
    pub fn kept_by_status(&self) -> Option<&'static str> {
        match (self.group, self.kind) {
            ("", "Pod") => Some("ownerReferences"),
            ("apps", "Deployment") => Some("labels"),
            _ => None,
        }
    }

    /// The kind that its objects have in the store.
    pub fn stored(&'static self) -> &'static Self {
        self.stored_as.unwrap_or(self)
    }

    fn identity(&self) -> (&'static str, &'static str, &'static str) {
        (self.group, self.plural, self.version)
    }
}

/// The kinds that have objects of their own: each object is of exactly one of them.
pub fn stored() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().copied().filter(|kind| kind.stored_as.is_none())
}

/// The kind with objects of its own that has this group and plural.
pub fn by_resource(group: &str, plural: &str) -> Option<&'static Kind> {
    stored().find(|kind| kind.group == group && kind.plural == plural)
}

/// The kind that a URL names.
pub fn by_path(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
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
        std::ptr::eq(self, other) || self.identity() == other.identity()
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
        // Of the two keys that a map compares, most are of one kind.
        if std::ptr::eq(self, other) {
            return Ordering::Equal;
        }
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
