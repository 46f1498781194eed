//! The table of built-in kinds, in the order in which discovery lists them (groups together).

use std::borrow::Cow::{self, Borrowed};

use crate::model::kind::{Identity, Kind, Text, extension};

pub(crate) const ALL: Cow<'static, [Text]> = Borrowed(&[Borrowed("all")]);

/// What most stored kinds have in common.
pub(crate) const STORED: Identity = Identity {
    group: Borrowed(""),
    version: Borrowed("v1"),
    kind: Borrowed(""),
    plural: Borrowed(""),
    singular: Borrowed(""),
    list_kind: Borrowed(""),
    short_names: Borrowed(&[]),
    categories: Borrowed(&[]),
    namespaced: true,
    has_status: false,
    has_scale: false,
    has_generation: false,
    kept_by_status: None,
    stored_as: None,
};
const NETWORKING: Identity = Identity { group: Borrowed("networking.k8s.io"), ..STORED };
const ACCESS: Identity = Identity { group: Borrowed("rbac.authorization.k8s.io"), ..STORED };

const STORAGE: Identity =
    Identity { group: Borrowed("storage.k8s.io"), namespaced: false, ..STORED };

/// Namespaces.
pub static NAMESPACE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Namespace"),
    plural: Borrowed("namespaces"),
    singular: Borrowed("namespace"),
    short_names: Borrowed(&[Borrowed("ns")]),
    namespaced: false,
    has_status: true,
    ..STORED
});
/// Virtual nodes.
pub static NODE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Node"),
    plural: Borrowed("nodes"),
    singular: Borrowed("node"),
    short_names: Borrowed(&[Borrowed("no")]),
    namespaced: false,
    has_status: true,
    ..STORED
});
/// Pods.
pub static POD: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Pod"),
    plural: Borrowed("pods"),
    singular: Borrowed("pod"),
    short_names: Borrowed(&[Borrowed("po")]),
    categories: ALL,
    has_status: true,
    has_generation: true,
    kept_by_status: Some("ownerReferences"),
    ..STORED
});
/// Services.
pub static SERVICE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Service"),
    plural: Borrowed("services"),
    singular: Borrowed("service"),
    short_names: Borrowed(&[Borrowed("svc")]),
    categories: ALL,
    has_status: true,
    ..STORED
});
/// The old form of EndpointSlices.
pub static ENDPOINTS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Endpoints"),
    plural: Borrowed("endpoints"),
    singular: Borrowed("endpoints"),
    short_names: Borrowed(&[Borrowed("ep")]),
    ..STORED
});
/// ConfigMaps.
pub static CONFIG_MAP: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ConfigMap"),
    plural: Borrowed("configmaps"),
    singular: Borrowed("configmap"),
    short_names: Borrowed(&[Borrowed("cm")]),
    ..STORED
});
/// Secrets.
pub static SECRET: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Secret"),
    plural: Borrowed("secrets"),
    singular: Borrowed("secret"),
    ..STORED
});
const EVENTS: Identity = Identity {
    kind: Borrowed("Event"),
    plural: Borrowed("events"),
    singular: Borrowed("event"),
    short_names: Borrowed(&[Borrowed("ev")]),
    ..STORED
};
/// Events of the core group.
pub static EVENT: Kind = Kind::BuiltIn(&EVENTS);
/// Claims of storage.
pub static PERSISTENT_VOLUME_CLAIM: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("PersistentVolumeClaim"),
    plural: Borrowed("persistentvolumeclaims"),
    singular: Borrowed("persistentvolumeclaim"),
    short_names: Borrowed(&[Borrowed("pvc")]),
    has_status: true,
    ..STORED
});
/// Storage.
pub static PERSISTENT_VOLUME: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("PersistentVolume"),
    plural: Borrowed("persistentvolumes"),
    singular: Borrowed("persistentvolume"),
    short_names: Borrowed(&[Borrowed("pv")]),
    namespaced: false,
    has_status: true,
    ..STORED
});
/// The same Events as those of the core group.
pub static NEW_EVENT: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("events.k8s.io"),
    stored_as: Some(Kind::BuiltIn(&EVENTS)),
    ..EVENTS
});
/// ServiceAccounts.
pub static SERVICE_ACCOUNT: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ServiceAccount"),
    plural: Borrowed("serviceaccounts"),
    singular: Borrowed("serviceaccount"),
    short_names: Borrowed(&[Borrowed("sa")]),
    ..STORED
});
/// Deployments.
pub static DEPLOYMENT: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apps"),
    kind: Borrowed("Deployment"),
    plural: Borrowed("deployments"),
    singular: Borrowed("deployment"),
    short_names: Borrowed(&[Borrowed("deploy")]),
    categories: ALL,
    has_status: true,
    has_scale: true,
    has_generation: true,
    kept_by_status: Some("labels"),
    ..STORED
});
/// ReplicaSets.
pub static REPLICA_SET: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apps"),
    kind: Borrowed("ReplicaSet"),
    plural: Borrowed("replicasets"),
    singular: Borrowed("replicaset"),
    short_names: Borrowed(&[Borrowed("rs")]),
    categories: ALL,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
});
/// StatefulSets.
pub static STATEFUL_SET: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apps"),
    kind: Borrowed("StatefulSet"),
    plural: Borrowed("statefulsets"),
    singular: Borrowed("statefulset"),
    short_names: Borrowed(&[Borrowed("sts")]),
    categories: ALL,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
});
/// DaemonSets.
pub static DAEMON_SET: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apps"),
    kind: Borrowed("DaemonSet"),
    plural: Borrowed("daemonsets"),
    singular: Borrowed("daemonset"),
    short_names: Borrowed(&[Borrowed("ds")]),
    categories: ALL,
    has_status: true,
    has_generation: true,
    ..STORED
});
/// Former templates of DaemonSets and StatefulSets.
pub static CONTROLLER_REVISION: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apps"),
    kind: Borrowed("ControllerRevision"),
    plural: Borrowed("controllerrevisions"),
    singular: Borrowed("controllerrevision"),
    ..STORED
});
/// Jobs.
pub static JOB: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("batch"),
    kind: Borrowed("Job"),
    plural: Borrowed("jobs"),
    singular: Borrowed("job"),
    categories: ALL,
    has_status: true,
    has_generation: true,
    ..STORED
});
/// CronJobs.
pub static CRON_JOB: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("batch"),
    kind: Borrowed("CronJob"),
    plural: Borrowed("cronjobs"),
    singular: Borrowed("cronjob"),
    short_names: Borrowed(&[Borrowed("cj")]),
    categories: ALL,
    has_status: true,
    has_generation: true,
    ..STORED
});
/// ReplicationControllers, the old form of ReplicaSets.
pub static REPLICATION_CONTROLLER: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ReplicationController"),
    plural: Borrowed("replicationcontrollers"),
    singular: Borrowed("replicationcontroller"),
    short_names: Borrowed(&[Borrowed("rc")]),
    categories: ALL,
    has_status: true,
    has_scale: true,
    has_generation: true,
    ..STORED
});
/// PodDisruptionBudgets.
pub static POD_DISRUPTION_BUDGET: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("policy"),
    kind: Borrowed("PodDisruptionBudget"),
    plural: Borrowed("poddisruptionbudgets"),
    singular: Borrowed("poddisruptionbudget"),
    short_names: Borrowed(&[Borrowed("pdb")]),
    has_status: true,
    has_generation: true,
    ..STORED
});
/// EndpointSlices.
pub static ENDPOINT_SLICE: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("discovery.k8s.io"),
    kind: Borrowed("EndpointSlice"),
    plural: Borrowed("endpointslices"),
    singular: Borrowed("endpointslice"),
    has_generation: true,
    ..STORED
});
/// One allocated service address.
pub static IP_ADDRESS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("IPAddress"),
    plural: Borrowed("ipaddresses"),
    singular: Borrowed("ipaddress"),
    short_names: Borrowed(&[Borrowed("ip")]),
    namespaced: false,
    ..NETWORKING
});
/// Ranges of service addresses.
pub static SERVICE_CIDR: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ServiceCIDR"),
    plural: Borrowed("servicecidrs"),
    singular: Borrowed("servicecidr"),
    namespaced: false,
    has_status: true,
    ..NETWORKING
});
/// Who may talk to which pods.
pub static NETWORK_POLICY: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("NetworkPolicy"),
    plural: Borrowed("networkpolicies"),
    singular: Borrowed("networkpolicy"),
    short_names: Borrowed(&[Borrowed("netpol")]),
    has_generation: true,
    ..NETWORKING
});
/// HTTP routes to Services.
pub static INGRESS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Ingress"),
    plural: Borrowed("ingresses"),
    singular: Borrowed("ingress"),
    short_names: Borrowed(&[Borrowed("ing")]),
    has_status: true,
    has_generation: true,
    ..NETWORKING
});
/// Implementations of Ingresses.
pub static INGRESS_CLASS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("IngressClass"),
    plural: Borrowed("ingressclasses"),
    singular: Borrowed("ingressclass"),
    namespaced: false,
    has_generation: true,
    ..NETWORKING
});
/// Permissions in a namespace.
pub static ROLE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("Role"),
    plural: Borrowed("roles"),
    singular: Borrowed("role"),
    ..ACCESS
});
/// Who has a role in a namespace.
pub static ROLE_BINDING: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("RoleBinding"),
    plural: Borrowed("rolebindings"),
    singular: Borrowed("rolebinding"),
    ..ACCESS
});
/// Permissions everywhere.
pub static CLUSTER_ROLE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ClusterRole"),
    plural: Borrowed("clusterroles"),
    singular: Borrowed("clusterrole"),
    namespaced: false,
    ..ACCESS
});
/// Who has a role everywhere.
pub static CLUSTER_ROLE_BINDING: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ClusterRoleBinding"),
    plural: Borrowed("clusterrolebindings"),
    singular: Borrowed("clusterrolebinding"),
    namespaced: false,
    ..ACCESS
});
/// Which pods are more important.
pub static PRIORITY_CLASS: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("scheduling.k8s.io"),
    kind: Borrowed("PriorityClass"),
    plural: Borrowed("priorityclasses"),
    singular: Borrowed("priorityclass"),
    short_names: Borrowed(&[Borrowed("pc")]),
    namespaced: false,
    has_generation: true,
    ..STORED
});
const EXPORTS: Identity = Identity {
    group: Borrowed("multicluster.x-k8s.io"),
    version: Borrowed("v1beta1"),
    kind: Borrowed("ServiceExport"),
    plural: Borrowed("serviceexports"),
    singular: Borrowed("serviceexport"),
    short_names: Borrowed(&[Borrowed("svcex"), Borrowed("svcexport")]),
    has_status: true,
    has_generation: true,
    ..STORED
};
const IMPORTS: Identity = Identity {
    kind: Borrowed("ServiceImport"),
    plural: Borrowed("serviceimports"),
    singular: Borrowed("serviceimport"),
    short_names: Borrowed(&[Borrowed("svcim"), Borrowed("svcimport")]),
    ..EXPORTS
};
/// Services that other clusters may use.
pub static SERVICE_EXPORT: Kind = Kind::BuiltIn(&EXPORTS);
/// The same at the older version.
pub static SERVICE_EXPORT_ALPHA: Kind = Kind::BuiltIn(&Identity {
    version: Borrowed("v1alpha1"),
    stored_as: Some(Kind::BuiltIn(&EXPORTS)),
    ..EXPORTS
});
/// Services of other clusters.
pub static SERVICE_IMPORT: Kind = Kind::BuiltIn(&IMPORTS);
/// The same at the older version.
pub static SERVICE_IMPORT_ALPHA: Kind = Kind::BuiltIn(&Identity {
    version: Borrowed("v1alpha1"),
    stored_as: Some(Kind::BuiltIn(&IMPORTS)),
    ..IMPORTS
});
/// Bounds and defaults of what pods and claims ask for.
pub static LIMIT_RANGE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("LimitRange"),
    plural: Borrowed("limitranges"),
    singular: Borrowed("limitrange"),
    short_names: Borrowed(&[Borrowed("limits")]),
    ..STORED
});
/// Templates of pods that stand for themselves.
pub static POD_TEMPLATE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("PodTemplate"),
    plural: Borrowed("podtemplates"),
    singular: Borrowed("podtemplate"),
    has_generation: true,
    ..STORED
});
/// How much a namespace may have.
pub static RESOURCE_QUOTA: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ResourceQuota"),
    plural: Borrowed("resourcequotas"),
    singular: Borrowed("resourcequota"),
    short_names: Borrowed(&[Borrowed("quota")]),
    has_status: true,
    ..STORED
});
/// Storage drivers.
pub static CSI_DRIVER: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("CSIDriver"),
    plural: Borrowed("csidrivers"),
    singular: Borrowed("csidriver"),
    has_generation: true,
    ..STORAGE
});
/// Storage drivers of a node.
pub static CSI_NODE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("CSINode"),
    plural: Borrowed("csinodes"),
    singular: Borrowed("csinode"),
    ..STORAGE
});
/// How much storage a driver has left somewhere.
pub static CSI_STORAGE_CAPACITY: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("CSIStorageCapacity"),
    plural: Borrowed("csistoragecapacities"),
    singular: Borrowed("csistoragecapacity"),
    namespaced: true,
    ..STORAGE
});
/// Ways to make PersistentVolumes.
pub static STORAGE_CLASS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("StorageClass"),
    plural: Borrowed("storageclasses"),
    singular: Borrowed("storageclass"),
    short_names: Borrowed(&[Borrowed("sc")]),
    ..STORAGE
});
/// Volumes that a node wants.
pub static VOLUME_ATTACHMENT: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("VolumeAttachment"),
    plural: Borrowed("volumeattachments"),
    singular: Borrowed("volumeattachment"),
    has_status: true,
    ..STORAGE
});
/// Attributes of PersistentVolumes that can change.
pub static VOLUME_ATTRIBUTES_CLASS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("VolumeAttributesClass"),
    plural: Borrowed("volumeattributesclasses"),
    singular: Borrowed("volumeattributesclass"),
    short_names: Borrowed(&[Borrowed("vac")]),
    ..STORAGE
});
/// Pod runtimes.
pub static RUNTIME_CLASS: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("node.k8s.io"),
    kind: Borrowed("RuntimeClass"),
    plural: Borrowed("runtimeclasses"),
    singular: Borrowed("runtimeclass"),
    namespaced: false,
    ..STORED
});
/// Node heartbeats.
pub static LEASE: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("coordination.k8s.io"),
    kind: Borrowed("Lease"),
    plural: Borrowed("leases"),
    singular: Borrowed("lease"),
    ..STORED
});
/// Load-balancing schedulers (our own kind).
pub static LOAD_BALANCER_POLICY: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("snowglobe.dev"),
    version: Borrowed("v1alpha1"),
    kind: Borrowed("LoadBalancerPolicy"),
    plural: Borrowed("loadbalancerpolicies"),
    singular: Borrowed("loadbalancerpolicy"),
    short_names: Borrowed(&[Borrowed("lbp")]),
    namespaced: false,
    has_status: true,
    has_generation: true,
    ..STORED
});
/// Topology policies (our own kind).
pub static TOPOLOGY_POLICY: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("snowglobe.dev"),
    version: Borrowed("v1alpha1"),
    kind: Borrowed("TopologyPolicy"),
    plural: Borrowed("topologypolicies"),
    singular: Borrowed("topologypolicy"),
    short_names: Borrowed(&[Borrowed("tp")]),
    namespaced: false,
    has_status: true,
    has_generation: true,
    ..STORED
});

/// Kinds that users define.
pub static CUSTOM_RESOURCE_DEFINITION: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apiextensions.k8s.io"),
    kind: Borrowed("CustomResourceDefinition"),
    plural: Borrowed("customresourcedefinitions"),
    singular: Borrowed("customresourcedefinition"),
    short_names: Borrowed(&[Borrowed("crd"), Borrowed("crds")]),
    categories: Borrowed(&[Borrowed("api-extensions")]),
    namespaced: false,
    has_status: true,
    has_generation: true,
    ..STORED
});

/// Every built-in kind, in the order in which discovery lists them (groups together).
pub static BUILT_IN: &[&Kind] = &[
    &extension::COMPONENT_STATUS,
    &CONFIG_MAP,
    &ENDPOINTS,
    &EVENT,
    &LIMIT_RANGE,
    &NAMESPACE,
    &NODE,
    &PERSISTENT_VOLUME_CLAIM,
    &PERSISTENT_VOLUME,
    &POD,
    &POD_TEMPLATE,
    &REPLICATION_CONTROLLER,
    &RESOURCE_QUOTA,
    &SECRET,
    &SERVICE_ACCOUNT,
    &SERVICE,
    &CONTROLLER_REVISION,
    &DAEMON_SET,
    &DEPLOYMENT,
    &REPLICA_SET,
    &STATEFUL_SET,
    &extension::HORIZONTAL_POD_AUTOSCALER,
    &extension::HORIZONTAL_POD_AUTOSCALER_V1,
    &CRON_JOB,
    &JOB,
    &extension::CERTIFICATE_SIGNING_REQUEST,
    &extension::CLUSTER_TRUST_BUNDLE,
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
    &CSI_DRIVER,
    &CSI_NODE,
    &CSI_STORAGE_CAPACITY,
    &STORAGE_CLASS,
    &VOLUME_ATTACHMENT,
    &VOLUME_ATTRIBUTES_CLASS,
    &SERVICE_EXPORT,
    &SERVICE_IMPORT,
    &SERVICE_EXPORT_ALPHA,
    &SERVICE_IMPORT_ALPHA,
    &LOAD_BALANCER_POLICY,
    &extension::POLICY_STATS,
    &TOPOLOGY_POLICY,
    &CUSTOM_RESOURCE_DEFINITION,
    &extension::MUTATING_ADMISSION_POLICY_BINDING,
    &extension::MUTATING_ADMISSION_POLICY,
    &extension::MUTATING_WEBHOOK_CONFIGURATION,
    &extension::VALIDATING_ADMISSION_POLICY_BINDING,
    &extension::VALIDATING_ADMISSION_POLICY,
    &extension::VALIDATING_WEBHOOK_CONFIGURATION,
    &extension::API_SERVICE,
    &extension::FLOW_SCHEMA,
    &extension::PRIORITY_LEVEL_CONFIGURATION,
    &extension::DEVICE_CLASS,
    &extension::RESOURCE_CLAIM_TEMPLATE,
    &extension::RESOURCE_CLAIM,
    &extension::RESOURCE_SLICE,
];
