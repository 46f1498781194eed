//! The columns of each kind. Names, types, formats and priorities (1 = only with `-o wide`) are kube-apiserver's.

use serde::Serialize;

use crate::model::Kind;

/// One column definition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: i32,
}

impl Column {
    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { kind: "integer", ..text(name, description) }
}

const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { kind: "boolean", ..text(name, description) }
}

const NAME: Column =
    Column { format: "name", ..text("Name", "Name, unique within the namespace for its kind.") };
const AGE: Column = text("Age", "Time since the object was created.");
/// An age in the table of a custom resource.
const DATE: Column = Column { kind: "date", ..AGE };
const CONTAINERS: Column = text("Containers", "Container names of the pod template.").wide();
const IMAGES: Column = text("Images", "Container images of the pod template.").wide();
const SELECTOR: Column = text("Selector", "Labels that select the pods.").wide();

/// The columns of a kind; kinds that nobody described have a name and an age.
pub(super) fn of(kind: &Kind) -> &'static [Column] {
    match kind.kind {
        "Pod" => POD,
        "Service" => SERVICE,
        "Endpoints" => ENDPOINTS,
        "EndpointSlice" => ENDPOINT_SLICE,
        "Deployment" => DEPLOYMENT,
        "ReplicaSet" => REPLICA_SET,
        "StatefulSet" => STATEFUL_SET,
        "Node" => NODE,
        "Namespace" => NAMESPACE,
        "Event" => EVENT,
        "ConfigMap" => CONFIG_MAP,
        "Secret" => SECRET,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "Lease" => LEASE,
        "IPAddress" => IP_ADDRESS,
        "RuntimeClass" => RUNTIME_CLASS,
        "LoadBalancerPolicy" => LOAD_BALANCER_POLICY,
        "DaemonSet" => DAEMON_SET,
        "Job" => JOB,
        "CronJob" => CRON_JOB,
        "ReplicationController" => REPLICA_SET,
        "PodDisruptionBudget" => DISRUPTION_BUDGET,
        "ControllerRevision" => CONTROLLER_REVISION,
        "PersistentVolume" => VOLUME,
        "PersistentVolumeClaim" => CLAIM,
        "NetworkPolicy" => NETWORK_POLICY,
        "Ingress" => INGRESS,
        "IngressClass" => INGRESS_CLASS,
        "ServiceCIDR" => SERVICE_CIDR,
        "Role" | "ClusterRole" => ROLE,
        "RoleBinding" | "ClusterRoleBinding" => BINDING,
        "PriorityClass" => PRIORITY_CLASS,
        "ServiceExport" => &[NAME, DATE],
        "ServiceImport" => SERVICE_IMPORT,
        _ => &[NAME, AGE],
    }
}

/// The columns of the scale of any kind.
pub(super) const SCALE: &[Column] = &[
    NAME,
    number("Desired", "Pods that are wanted."),
    number("Available", "Pods that exist."),
    AGE,
];

/// Whether Kubernetes has no columns of its own for a kind, but those of any object.
pub(super) fn is_generic(kind: &Kind) -> bool {
    matches!(kind.kind, "Role" | "ClusterRole")
}

const POD: &[Column] = &[
    NAME,
    text("Ready", "Containers that are ready, of all."),
    text("Status", "What the pod is doing, from its phase and its containers' states."),
    text("Restarts", "How often containers were restarted, and when the last one was."),
    AGE,
    text("IP", "First address of the pod.").wide(),
    text("Node", "Node that runs the pod.").wide(),
    text("Nominated Node", "Node on which others make room for the pod.").wide(),
    text("Readiness Gates", "Extra conditions that hold, of those that readiness needs.").wide(),
];

const SERVICE: &[Column] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "Virtual address inside the cluster."),
    text("External-IP", "Addresses or name outside the cluster."),
    text("Port(s)", "Ports, with the node port where there is one."),
    AGE,
    SELECTOR,
];

const ENDPOINTS: &[Column] = &[NAME, text("Endpoints", "Ready addresses and their ports."), AGE];

const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text("AddressType", "Family of the addresses."),
    text("Ports", "Ports of each endpoint."),
    text("Endpoints", "Addresses."),
    AGE,
];

const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", "Ready pods, of those that are wanted."),
    text("Up-to-date", "Pods made from the current template."),
    text("Available", "Pods that have been ready for minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const REPLICA_SET: &[Column] = &[
    NAME,
    number("Desired", "Pods that are wanted."),
    number("Current", "Pods that exist."),
    number("Ready", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const STATEFUL_SET: &[Column] =
    &[NAME, text("Ready", "Ready pods, of those that are wanted."), AGE, CONTAINERS, IMAGES];

const NODE: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready, and whether it takes new pods."),
    text("Roles", "Roles, from the node's labels."),
    AGE,
    text("Version", "Version that the node reports."),
    text("Internal-IP", "Address inside the cluster.").wide(),
    text("External-IP", "Address outside the cluster.").wide(),
    text("OS-Image", "Operating system.").wide(),
    text("Kernel-Version", "Kernel.").wide(),
    text("Container-Runtime", "What runs the containers.").wide(),
];

const NAMESPACE: &[Column] =
    &[NAME, text("Status", "Whether the namespace is in use or going away."), AGE];

const EVENT: &[Column] = &[
    text("Last Seen", "Time since it happened last."),
    text("Type", "Normal or Warning."),
    text("Reason", "Why, in one word."),
    text("Object", "What it is about."),
    text("Subobject", "Subresource of the object that it is about.").wide(),
    text("Source", "Who reports it.").wide(),
    text("Message", "What happened, for people."),
    text("First Seen", "Time since it happened first.").wide(),
    text("Count", "How often it happened.").wide(),
    NAME.wide(),
];

const CONFIG_MAP: &[Column] = &[NAME, text("Data", "Number of keys."), AGE];

const SECRET: &[Column] =
    &[NAME, text("Type", "What the data is for."), text("Data", "Number of keys."), AGE];

const SERVICE_ACCOUNT: &[Column] =
    &[NAME, text("Secrets", "Number of secrets that its pods may mount."), AGE];

const LEASE: &[Column] = &[NAME, text("Holder", "Who holds the lease."), AGE];

const IP_ADDRESS: &[Column] = &[NAME, text("ParentRef", "Object that the address belongs to.")];

const RUNTIME_CLASS: &[Column] = &[NAME, text("Handler", "Runtime that runs such pods."), AGE];

// Columns of a custom resource, where an age is a date.
const LOAD_BALANCER_POLICY: &[Column] = &[
    NAME,
    text("Module", "Where the module comes from."),
    text("Ready", "Whether the module is loaded."),
    DATE,
    text("Digest", "Digest of the loaded module.").wide(),
    text("Message", "What became of the module.").wide(),
];

const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired", "Nodes that should run the pod."),
    number("Current", "Nodes that run the pod."),
    number("Ready", "Pods that are ready."),
    number("Up-to-date", "Pods made from the current template."),
    number("Available", "Pods that have been ready for minReadySeconds."),
    text("Node Selector", "Labels of the nodes that run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const JOB: &[Column] = &[
    NAME,
    text("Status", "What the job is doing."),
    text("Completions", "Pods that succeeded, of those that are wanted."),
    text("Duration", "Time that the job took, or has taken."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", "When a job is made."),
    text("Timezone", "Time zone of the schedule."),
    boolean("Suspend", "Whether no more jobs are made."),
    number("Active", "Jobs that run."),
    text("Last Schedule", "Time since the last job was made."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text("Min Available", "Pods that must stay."),
    text("Max Unavailable", "Pods that may be away."),
    number("Allowed Disruptions", "Pods that may be evicted now."),
    AGE,
];

const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    text("Controller", "Whose revision it is."),
    number("Revision", "Number of the revision."),
    AGE,
];

const VOLUME: &[Column] = &[
    NAME,
    text("Capacity", "Size."),
    text("Access Modes", "Ways in which it can be mounted."),
    text("Reclaim Policy", "What happens when its claim goes."),
    text("Status", "Whether it is in use."),
    text("Claim", "Claim that has it."),
    text("StorageClass", "Class of storage."),
    text("VolumeAttributesClass", "Class of attributes."),
    text("Reason", "Why it is in this status."),
    AGE,
    text("VolumeMode", "File system or block device.").wide(),
];

const CLAIM: &[Column] = &[
    NAME,
    text("Status", "Whether it has a volume."),
    text("Volume", "Volume that it has."),
    text("Capacity", "Size of the volume."),
    text("Access Modes", "Ways in which the volume can be mounted."),
    text("StorageClass", "Class of storage."),
    text("VolumeAttributesClass", "Class of attributes."),
    AGE,
    text("VolumeMode", "File system or block device.").wide(),
];

const NETWORK_POLICY: &[Column] =
    &[NAME, text("Pod-Selector", "Labels of the pods that it is about."), AGE];

const INGRESS: &[Column] = &[
    NAME,
    text("Class", "IngressClass that serves it."),
    text("Hosts", "Names that are routed."),
    text("Address", "Where clients connect to."),
    text("Ports", "Ports that clients connect to."),
    AGE,
];

const INGRESS_CLASS: &[Column] = &[
    NAME,
    text("Controller", "Who serves Ingresses of this class."),
    text("Parameters", "Object with the controller's parameters."),
    AGE,
];

const SERVICE_CIDR: &[Column] = &[NAME, text("CIDRs", "Ranges, one a family."), AGE];

const ROLE: &[Column] =
    &[NAME, Column { kind: "date", ..text("Created At", "When the object was created.") }];

const BINDING: &[Column] = &[
    NAME,
    text("Role", "Role that is given."),
    AGE,
    text("Users", "Users that have it.").wide(),
    text("Groups", "Groups that have it.").wide(),
    text("ServiceAccounts", "ServiceAccounts that have it.").wide(),
];

const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", "Priority of its pods."),
    boolean("Global-Default", "Whether pods that name no class are of this one."),
    AGE,
    text("PreemptionPolicy", "Whether its pods make others go."),
];

const SERVICE_IMPORT: &[Column] = &[
    NAME,
    text("Type", "The type of this ServiceImport"),
    text("IP", "The VIP for this ServiceImport"),
    DATE,
];
