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

const NAME: Column =
    Column { format: "name", ..text("Name", "Name, unique within the namespace for its kind.") };
const AGE: Column = text("Age", "Time since the object was created.");
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
        _ => &[NAME, AGE],
    }
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
    text("Subobject", "Part of the object that it is about.").wide(),
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
    Column { kind: "date", ..AGE },
    text("Digest", "Digest of the loaded module.").wide(),
    text("Message", "What became of the module.").wide(),
];
