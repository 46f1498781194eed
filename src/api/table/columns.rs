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
    match &*kind.kind {
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
        "Role" | "ClusterRole" | "CustomResourceDefinition" | "LimitRange" => ROLE,
        "RoleBinding" | "ClusterRoleBinding" => BINDING,
        "PriorityClass" => PRIORITY_CLASS,
        "StorageClass" => STORAGE_CLASS,
        "ResourceQuota" => RESOURCE_QUOTA,
        "PodTemplate" => POD_TEMPLATE,
        "CSIDriver" => CSI_DRIVER,
        "CSINode" => CSI_NODE,
        "CSIStorageCapacity" => CSI_STORAGE_CAPACITY,
        "VolumeAttachment" => VOLUME_ATTACHMENT,
        "VolumeAttributesClass" => VOLUME_ATTRIBUTES_CLASS,
        "ServiceExport" => &[NAME, DATE],
        "ServiceImport" => SERVICE_IMPORT,
        "HorizontalPodAutoscaler" => AUTOSCALER,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => WEBHOOKS,
        "MutatingAdmissionPolicy" => MUTATING_POLICY,
        "ValidatingAdmissionPolicy" => VALIDATING_POLICY,
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => POLICY_BINDING,
        "APIService" => API_SERVICE,
        "FlowSchema" => FLOW_SCHEMA,
        "PriorityLevelConfiguration" => PRIORITY_LEVEL,
        "CertificateSigningRequest" => SIGNING_REQUEST,
        "ComponentStatus" => COMPONENT_STATUS,
        "ResourceClaim" => RESOURCE_CLAIM,
        "ResourceSlice" => RESOURCE_SLICE,
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
    matches!(&*kind.kind, "Role" | "ClusterRole" | "CustomResourceDefinition" | "LimitRange")
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

const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Metrics as they are measured, and as they are wanted."),
    text("MinPods", "Pods that there are at least."),
    text("MaxPods", "Pods that there are at most."),
    text("Replicas", "Pods that there were when the autoscaler looked last."),
    AGE,
];

const WEBHOOKS: &[Column] = &[NAME, number("Webhooks", "Number of webhooks."), AGE];

const PARAM_KIND: Column = text("ParamKind", "Kind of the objects that parameterize the policy.");
const MUTATING_POLICY: &[Column] =
    &[NAME, number("Mutations", "Number of mutations."), PARAM_KIND, AGE];
const VALIDATING_POLICY: &[Column] =
    &[NAME, number("Validations", "Number of validations."), PARAM_KIND, AGE];
const POLICY_BINDING: &[Column] = &[
    NAME,
    text("PolicyName", "Policy that holds."),
    text("ParamRef", "Object with the policy's parameters."),
    AGE,
];

const API_SERVICE: &[Column] = &[
    NAME,
    text("Service", "Service that serves the group version."),
    text("Available", "Whether the group version is served."),
    AGE,
];

const FLOW_SCHEMA: &[Column] = &[
    NAME,
    text("PriorityLevel", "Priority of the requests that match."),
    text("MatchingPrecedence", "Of the schemas that match, that with the smallest number wins."),
    text("DistinguisherMethod", "How the requests are parted into flows."),
    AGE,
    text("MissingPL", "Whether the priority does not exist."),
];

const PRIORITY_LEVEL: &[Column] = &[
    NAME,
    text("Type", "Whether the number of requests is limited."),
    text("NominalConcurrencyShares", "Share of the requests that are served at once."),
    text("Queues", "Number of queues."),
    text("HandSize", "Number of queues that one flow may use."),
    text("QueueLengthLimit", "Requests that wait in one queue at most."),
    AGE,
];

const SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who is asked to sign."),
    text("Requestor", "Who asks."),
    text("RequestedDuration", "How long the certificate shall be valid."),
    text("Condition", "What became of the request."),
];

const COMPONENT_STATUS: &[Column] = &[
    NAME,
    text("Status", "Whether the component is healthy."),
    text("Message", "What the component says."),
    text("Error", "Why it is not healthy."),
];

const RESOURCE_CLAIM: &[Column] =
    &[NAME, text("State", "Whether devices are allocated and reserved."), AGE];

const RESOURCE_SLICE: &[Column] = &[
    NAME,
    text("Node", "Node that has the devices."),
    text("Driver", "Driver that gives the devices."),
    text("Pool", "Pool that the devices belong to."),
    AGE,
];

const STORAGE_CLASS: &[Column] = &[
    NAME,
    text("Provisioner", "Who makes its volumes."),
    text("ReclaimPolicy", "What happens to its volumes when their claims go."),
    text("VolumeBindingMode", "When claims get their volumes."),
    text("AllowVolumeExpansion", "Whether its volumes can grow."),
    AGE,
];

const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    text("Request", "What is used of what may be requested."),
    text("Limit", "What is used of the sum of limits."),
    AGE,
];

const POD_TEMPLATE: &[Column] = &[
    NAME,
    text("Containers", "Container names of the template."),
    text("Images", "Container images of the template."),
    text("Pod Labels", "Labels of the template."),
];

const CSI_DRIVER: &[Column] = &[
    NAME,
    boolean("AttachRequired", "Whether its volumes must be attached to nodes."),
    boolean("PodInfoOnMount", "Whether it wants to know the pod that mounts a volume."),
    boolean("StorageCapacity", "Whether pods go where it has room."),
    text("TokenRequests", "Audiences of the tokens that it wants."),
    boolean("RequiresRepublish", "Whether it wants volumes to be published again and again."),
    text("Modes", "Ways in which its volumes live."),
    AGE,
];

const CSI_NODE: &[Column] = &[NAME, number("Drivers", "Storage drivers of the node."), AGE];

const CSI_STORAGE_CAPACITY: &[Column] = &[
    NAME,
    text("StorageClassName", "Class of storage that has the capacity."),
    text("Capacity", "Storage that is left."),
];

const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    Column { format: "name", ..text("Attacher", "Driver that attaches the volume.") },
    text("PV", "Volume."),
    text("Node", "Node that wants the volume."),
    boolean("Attached", "Whether the node has it."),
    AGE,
];

const VOLUME_ATTRIBUTES_CLASS: &[Column] =
    &[NAME, text("DriverName", "Driver that knows the attributes."), AGE];
