//! How lists and maps of each type are merged: merge keys for strategic merge patches, list types for
//! server-side apply. Pure data; what is not listed has the defaults of Kubernetes (lists are replaced as a
//! whole, objects are merged field by field).
//!
//! The facts are those of the field tags `patchStrategy`, `patchMergeKey`, `listType`, `listMapKey`, `structType`
//! and `mapType` of the Kubernetes 1.36 API types. Enter at [`root`] (a kind's type) or [`by_schema`] (OpenAPI).

use crate::model::Kind;

/// One object type, as far as merging needs it.
#[derive(Debug)]
pub struct Type {
    /// Name of the OpenAPI schema; empty for [`ANY`].
    pub schema: &'static str,
    /// Owned as a whole by server-side apply.
    pub atomic: bool,
    /// Fields that differ from the defaults, or lead to some that do.
    pub fields: &'static [Field],
}

/// One field of a [`Type`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in JSON.
    pub name: &'static str,
    /// What server-side apply does when the value is a list.
    pub list: List,
    /// What server-side apply does when the value is a map: `true` owns it as a whole.
    pub atomic: bool,
    /// What a strategic merge patch does.
    pub strategy: Strategy,
    /// Type of the value, or of the list's items.
    pub of: &'static Type,
}

/// List types of server-side apply.
#[derive(Clone, Copy, Debug)]
pub enum List {
    /// Owned and replaced as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects that these fields identify.
    Map(&'static [Key]),
}

/// One identifying field of a [`List::Map`].
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name in JSON.
    pub field: &'static str,
    /// What stands for a missing value.
    pub default: Option<&'static str>,
}

/// Patch strategy of a field. All lists without one are replaced, all objects merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// No strategy.
    Default,
    /// A list of scalars: the union.
    Union,
    /// A list of objects with this key: items are merged.
    Merge(&'static str),
    /// As [`Strategy::Merge`]; clients also say which keys an item retains.
    MergeRetainKeys(&'static str),
    /// An object of which clients say which keys are retained.
    RetainKeys,
}

impl Type {
    /// The rules for a field, which are the defaults for one that is not listed.
    pub fn field(&self, name: &str) -> Field {
        self.fields.iter().find(|field| field.name == name).copied().unwrap_or(inside("", &ANY))
    }
}

/// A type about which nothing special is known.
pub static ANY: Type = Type { schema: "", atomic: false, fields: &[] };

const fn inside(name: &'static str, of: &'static Type) -> Field {
    Field { name, list: List::Atomic, atomic: false, strategy: Strategy::Default, of }
}

const fn atomic(name: &'static str) -> Field {
    Field { atomic: true, ..inside(name, &ANY) }
}

const fn set(name: &'static str) -> Field {
    Field { list: List::Set, strategy: Strategy::Union, ..inside(name, &ANY) }
}

const fn map(name: &'static str, keys: &'static [Key], of: &'static Type) -> Field {
    let strategy = Strategy::Merge(keys[0].field);
    Field { list: List::Map(keys), strategy, ..inside(name, of) }
}

/// A list that only server-side apply merges.
const fn applied(field: Field) -> Field {
    Field { strategy: Strategy::Default, ..field }
}

const fn retaining(field: Field) -> Field {
    match field.strategy {
        Strategy::Merge(key) => Field { strategy: Strategy::MergeRetainKeys(key), ..field },
        _ => Field { strategy: Strategy::RetainKeys, ..field },
    }
}

const fn key(field: &'static str) -> Key {
    Key { field, default: None }
}

const PROTOCOL: Key = Key { field: "protocol", default: Some("TCP") };
const NAME: &[Key] = &[key("name")];
const TYPE: &[Key] = &[key("type")];
const MOUNT_PATH: &[Key] = &[key("mountPath")];
const DEVICE_PATH: &[Key] = &[key("devicePath")];
const CONTAINER_PORTS: &[Key] = &[key("containerPort"), PROTOCOL];
const METADATA: Field = inside("metadata", &OBJECT_META);
const CONDITIONS: Field = map("conditions", TYPE, &ANY);
const SELECTOR: Field = inside("selector", &LABEL_SELECTOR);
const TEMPLATE: Field = inside("template", &POD_TEMPLATE);
const SECRET_REF: Field = inside("secretRef", &LOCAL_REFERENCE);
const DOWNWARD: Field = inside("fieldRef", &FIELD_SELECTOR);

/// Declares one static [`Type`] per line and the list of all.
macro_rules! types {
    ($($(#[$atomic:ident])? $name:ident $schema:literal: [$($field:expr),* $(,)?];)*) => {
        $(static $name: Type = Type {
            schema: $schema,
            atomic: types!(@ $($atomic)?),
            fields: &[$($field),*],
        };)*
        static TYPES: &[&Type] = &[$(&$name),*];
    };
    (@ atomic) => { true };
    (@) => { false };
}

types! {
    OBJECT_META "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": [
        set("finalizers"),
        map("ownerReferences", &[key("uid")], &OWNER_REFERENCE),
    ];
    #[atomic] OWNER_REFERENCE "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference": [];
    #[atomic] LABEL_SELECTOR "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector": [];
    #[atomic] LOCAL_REFERENCE "io.k8s.api.core.v1.LocalObjectReference": [];
    #[atomic] TYPED_LOCAL_REFERENCE "io.k8s.api.core.v1.TypedLocalObjectReference": [];
    #[atomic] OBJECT_REFERENCE "io.k8s.api.core.v1.ObjectReference": [];
    #[atomic] NODE_SELECTOR "io.k8s.api.core.v1.NodeSelector": [];
    #[atomic] CONFIG_MAP_KEY "io.k8s.api.core.v1.ConfigMapKeySelector": [];
    #[atomic] SECRET_KEY "io.k8s.api.core.v1.SecretKeySelector": [];
    #[atomic] FILE_KEY "io.k8s.api.core.v1.FileKeySelector": [];
    #[atomic] FIELD_SELECTOR "io.k8s.api.core.v1.ObjectFieldSelector": [];
    #[atomic] RESOURCE_FIELD "io.k8s.api.core.v1.ResourceFieldSelector": [];

    CONFIG_MAP "io.k8s.api.core.v1.ConfigMap": [METADATA];
    SECRET "io.k8s.api.core.v1.Secret": [METADATA];
    ENDPOINTS "io.k8s.api.core.v1.Endpoints": [METADATA];
    EVENT "io.k8s.api.core.v1.Event": [
        METADATA,
        inside("involvedObject", &OBJECT_REFERENCE),
        inside("related", &OBJECT_REFERENCE),
    ];
    NAMESPACE "io.k8s.api.core.v1.Namespace": [METADATA, inside("status", &NAMESPACE_STATUS)];
    NAMESPACE_STATUS "io.k8s.api.core.v1.NamespaceStatus": [CONDITIONS];
    NODE "io.k8s.api.core.v1.Node": [
        METADATA, inside("spec", &NODE_SPEC), inside("status", &NODE_STATUS),
    ];
    NODE_SPEC "io.k8s.api.core.v1.NodeSpec": [set("podCIDRs")];
    NODE_STATUS "io.k8s.api.core.v1.NodeStatus": [map("addresses", TYPE, &ANY), CONDITIONS];
    SERVICE_ACCOUNT "io.k8s.api.core.v1.ServiceAccount": [
        METADATA, map("secrets", NAME, &OBJECT_REFERENCE),
    ];
    SERVICE "io.k8s.api.core.v1.Service": [
        METADATA, inside("spec", &SERVICE_SPEC), inside("status", &SERVICE_STATUS),
    ];
    SERVICE_SPEC "io.k8s.api.core.v1.ServiceSpec": [
        map("ports", &[key("port"), PROTOCOL], &ANY), atomic("selector"),
    ];
    SERVICE_STATUS "io.k8s.api.core.v1.ServiceStatus": [CONDITIONS];

    POD "io.k8s.api.core.v1.Pod": [
        METADATA, inside("spec", &POD_SPEC), inside("status", &POD_STATUS),
    ];
    POD_STATUS "io.k8s.api.core.v1.PodStatus": [
        CONDITIONS,
        Field { strategy: Strategy::Merge("ip"), ..inside("hostIPs", &ANY) },
        map("podIPs", &[key("ip")], &ANY),
        retaining(map("resourceClaimStatuses", NAME, &ANY)),
        inside("resources", &RESOURCES),
    ];
    POD_TEMPLATE "io.k8s.api.core.v1.PodTemplateSpec": [METADATA, inside("spec", &POD_SPEC)];
    POD_SPEC "io.k8s.api.core.v1.PodSpec": [
        inside("affinity", &AFFINITY),
        map("containers", NAME, &CONTAINER),
        map("initContainers", NAME, &CONTAINER),
        map("ephemeralContainers", NAME, &EPHEMERAL_CONTAINER),
        map("hostAliases", &[key("ip")], &ANY),
        map("imagePullSecrets", NAME, &LOCAL_REFERENCE),
        atomic("nodeSelector"),
        retaining(map("resourceClaims", NAME, &ANY)),
        inside("resources", &RESOURCES),
        map("schedulingGates", NAME, &ANY),
        map("topologySpreadConstraints", &[key("topologyKey"), key("whenUnsatisfiable")], &SPREAD),
        retaining(map("volumes", NAME, &VOLUME)),
    ];
    SPREAD "io.k8s.api.core.v1.TopologySpreadConstraint": [
        inside("labelSelector", &LABEL_SELECTOR),
    ];
    AFFINITY "io.k8s.api.core.v1.Affinity": [inside("nodeAffinity", &NODE_AFFINITY)];
    NODE_AFFINITY "io.k8s.api.core.v1.NodeAffinity": [
        inside("requiredDuringSchedulingIgnoredDuringExecution", &NODE_SELECTOR),
    ];
    CONTAINER "io.k8s.api.core.v1.Container": [
        map("env", NAME, &ENV),
        map("ports", CONTAINER_PORTS, &ANY),
        inside("resources", &RESOURCES),
        map("volumeDevices", DEVICE_PATH, &ANY),
        map("volumeMounts", MOUNT_PATH, &ANY),
    ];
    EPHEMERAL_CONTAINER "io.k8s.api.core.v1.EphemeralContainer": [
        map("env", NAME, &ENV),
        map("ports", CONTAINER_PORTS, &ANY),
        inside("resources", &RESOURCES),
        map("volumeDevices", DEVICE_PATH, &ANY),
        map("volumeMounts", MOUNT_PATH, &ANY),
    ];
    RESOURCES "io.k8s.api.core.v1.ResourceRequirements": [applied(map("claims", NAME, &ANY))];
    ENV "io.k8s.api.core.v1.EnvVar": [inside("valueFrom", &ENV_SOURCE)];
    ENV_SOURCE "io.k8s.api.core.v1.EnvVarSource": [
        inside("configMapKeyRef", &CONFIG_MAP_KEY),
        DOWNWARD,
        inside("fileKeyRef", &FILE_KEY),
        inside("resourceFieldRef", &RESOURCE_FIELD),
        inside("secretKeyRef", &SECRET_KEY),
    ];
    VOLUME "io.k8s.api.core.v1.Volume": [
        inside("cephfs", &CEPH),
        inside("cinder", &CINDER),
        inside("csi", &CSI),
        inside("ephemeral", &EPHEMERAL),
        inside("flexVolume", &FLEX),
        inside("iscsi", &ISCSI),
        inside("rbd", &RBD),
        inside("scaleIO", &SCALE_IO),
        inside("storageos", &STORAGE_OS),
    ];
    CEPH "io.k8s.api.core.v1.CephFSVolumeSource": [SECRET_REF];
    CINDER "io.k8s.api.core.v1.CinderVolumeSource": [SECRET_REF];
    CSI "io.k8s.api.core.v1.CSIVolumeSource": [inside("nodePublishSecretRef", &LOCAL_REFERENCE)];
    FLEX "io.k8s.api.core.v1.FlexVolumeSource": [SECRET_REF];
    ISCSI "io.k8s.api.core.v1.ISCSIVolumeSource": [SECRET_REF];
    RBD "io.k8s.api.core.v1.RBDVolumeSource": [SECRET_REF];
    SCALE_IO "io.k8s.api.core.v1.ScaleIOVolumeSource": [SECRET_REF];
    STORAGE_OS "io.k8s.api.core.v1.StorageOSVolumeSource": [SECRET_REF];
    EPHEMERAL "io.k8s.api.core.v1.EphemeralVolumeSource": [
        inside("volumeClaimTemplate", &CLAIM_TEMPLATE),
    ];
    CLAIM "io.k8s.api.core.v1.PersistentVolumeClaim": [
        METADATA, inside("spec", &CLAIM_SPEC), inside("status", &CLAIM_STATUS),
    ];
    CLAIM_STATUS "io.k8s.api.core.v1.PersistentVolumeClaimStatus": [CONDITIONS];
    PERSISTENT_VOLUME "io.k8s.api.core.v1.PersistentVolume": [
        METADATA, inside("spec", &PERSISTENT_VOLUME_SPEC),
    ];
    PERSISTENT_VOLUME_SPEC "io.k8s.api.core.v1.PersistentVolumeSpec": [
        inside("cephfs", &WITH_SECRET),
        inside("cinder", &WITH_SECRET),
        inside("csi", &PERSISTENT_CSI),
        inside("flexVolume", &WITH_SECRET),
        inside("iscsi", &WITH_SECRET),
        inside("nodeAffinity", &VOLUME_NODE_AFFINITY),
        inside("rbd", &WITH_SECRET),
        inside("scaleIO", &WITH_SECRET),
        inside("storageos", &PERSISTENT_STORAGE_OS),
    ];
    PERSISTENT_CSI "io.k8s.api.core.v1.CSIPersistentVolumeSource": [
        inside("controllerExpandSecretRef", &SECRET_REFERENCE),
        inside("controllerPublishSecretRef", &SECRET_REFERENCE),
        inside("nodeExpandSecretRef", &SECRET_REFERENCE),
        inside("nodePublishSecretRef", &SECRET_REFERENCE),
        inside("nodeStageSecretRef", &SECRET_REFERENCE),
    ];
    PERSISTENT_STORAGE_OS "io.k8s.api.core.v1.StorageOSPersistentVolumeSource": [
        inside("secretRef", &OBJECT_REFERENCE),
    ];
    VOLUME_NODE_AFFINITY "io.k8s.api.core.v1.VolumeNodeAffinity": [
        inside("required", &NODE_SELECTOR),
    ];
    #[atomic] SECRET_REFERENCE "io.k8s.api.core.v1.SecretReference": [];
    CLAIM_TEMPLATE "io.k8s.api.core.v1.PersistentVolumeClaimTemplate": [
        METADATA, inside("spec", &CLAIM_SPEC),
    ];
    CLAIM_SPEC "io.k8s.api.core.v1.PersistentVolumeClaimSpec": [
        inside("dataSource", &TYPED_LOCAL_REFERENCE), SELECTOR,
    ];

    DEPLOYMENT "io.k8s.api.apps.v1.Deployment": [
        METADATA, inside("spec", &DEPLOYMENT_SPEC), inside("status", &DEPLOYMENT_STATUS),
    ];
    DEPLOYMENT_SPEC "io.k8s.api.apps.v1.DeploymentSpec": [
        SELECTOR, retaining(inside("strategy", &ANY)), TEMPLATE,
    ];
    DEPLOYMENT_STATUS "io.k8s.api.apps.v1.DeploymentStatus": [CONDITIONS];
    REPLICA_SET "io.k8s.api.apps.v1.ReplicaSet": [
        METADATA, inside("spec", &REPLICA_SET_SPEC), inside("status", &REPLICA_SET_STATUS),
    ];
    REPLICA_SET_SPEC "io.k8s.api.apps.v1.ReplicaSetSpec": [SELECTOR, TEMPLATE];
    REPLICA_SET_STATUS "io.k8s.api.apps.v1.ReplicaSetStatus": [CONDITIONS];
    STATEFUL_SET "io.k8s.api.apps.v1.StatefulSet": [
        METADATA, inside("spec", &STATEFUL_SET_SPEC), inside("status", &STATEFUL_SET_STATUS),
    ];
    STATEFUL_SET_SPEC "io.k8s.api.apps.v1.StatefulSetSpec": [SELECTOR, TEMPLATE];
    STATEFUL_SET_STATUS "io.k8s.api.apps.v1.StatefulSetStatus": [CONDITIONS];
    DAEMON_SET "io.k8s.api.apps.v1.DaemonSet": [
        METADATA, inside("spec", &DAEMON_SET_SPEC), inside("status", &DAEMON_SET_STATUS),
    ];
    DAEMON_SET_SPEC "io.k8s.api.apps.v1.DaemonSetSpec": [SELECTOR, TEMPLATE];
    DAEMON_SET_STATUS "io.k8s.api.apps.v1.DaemonSetStatus": [CONDITIONS];
    CONTROLLER_REVISION "io.k8s.api.apps.v1.ControllerRevision": [METADATA];
    JOB "io.k8s.api.batch.v1.Job": [
        METADATA, inside("spec", &JOB_SPEC), inside("status", &JOB_STATUS),
    ];
    JOB_SPEC "io.k8s.api.batch.v1.JobSpec": [SELECTOR, TEMPLATE];
    // Atomic for apply, merged by type in a strategic merge patch.
    JOB_STATUS "io.k8s.api.batch.v1.JobStatus": [CONDITIONS];
    CRON_JOB "io.k8s.api.batch.v1.CronJob": [
        METADATA, inside("spec", &CRON_JOB_SPEC),
    ];
    CRON_JOB_SPEC "io.k8s.api.batch.v1.CronJobSpec": [inside("jobTemplate", &JOB_TEMPLATE)];
    JOB_TEMPLATE "io.k8s.api.batch.v1.JobTemplateSpec": [
        METADATA, inside("spec", &JOB_SPEC),
    ];
    REPLICATION_CONTROLLER "io.k8s.api.core.v1.ReplicationController": [
        METADATA,
        inside("spec", &REPLICATION_CONTROLLER_SPEC),
        inside("status", &REPLICATION_CONTROLLER_STATUS),
    ];
    REPLICATION_CONTROLLER_SPEC "io.k8s.api.core.v1.ReplicationControllerSpec": [
        atomic("selector"), TEMPLATE,
    ];
    REPLICATION_CONTROLLER_STATUS "io.k8s.api.core.v1.ReplicationControllerStatus": [CONDITIONS];
    POD_DISRUPTION_BUDGET "io.k8s.api.policy.v1.PodDisruptionBudget": [
        METADATA,
        inside("spec", &POD_DISRUPTION_BUDGET_SPEC),
        inside("status", &POD_DISRUPTION_BUDGET_STATUS),
    ];
    POD_DISRUPTION_BUDGET_SPEC "io.k8s.api.policy.v1.PodDisruptionBudgetSpec": [SELECTOR];
    POD_DISRUPTION_BUDGET_STATUS "io.k8s.api.policy.v1.PodDisruptionBudgetStatus": [CONDITIONS];
    LEASE "io.k8s.api.coordination.v1.Lease": [METADATA];
    ENDPOINT_SLICE "io.k8s.api.discovery.v1.EndpointSlice": [METADATA];
    IP_ADDRESS "io.k8s.api.networking.v1.IPAddress": [METADATA];
    RUNTIME_CLASS "io.k8s.api.node.v1.RuntimeClass": [
        METADATA, inside("scheduling", &SCHEDULING),
    ];
    SCHEDULING "io.k8s.api.node.v1.Scheduling": [atomic("nodeSelector")];
    NEW_EVENT "io.k8s.api.events.v1.Event": [
        METADATA,
        inside("regarding", &OBJECT_REFERENCE),
        inside("related", &OBJECT_REFERENCE),
    ];
    NETWORK_POLICY "io.k8s.api.networking.v1.NetworkPolicy": [
        METADATA, inside("spec", &NETWORK_POLICY_SPEC),
    ];
    NETWORK_POLICY_SPEC "io.k8s.api.networking.v1.NetworkPolicySpec": [
        inside("podSelector", &LABEL_SELECTOR),
    ];
    INGRESS "io.k8s.api.networking.v1.Ingress": [METADATA, inside("spec", &INGRESS_SPEC)];
    INGRESS_SPEC "io.k8s.api.networking.v1.IngressSpec": [
        inside("defaultBackend", &INGRESS_BACKEND),
    ];
    INGRESS_BACKEND "io.k8s.api.networking.v1.IngressBackend": [
        inside("resource", &TYPED_LOCAL_REFERENCE), inside("service", &SERVICE_BACKEND),
    ];
    SERVICE_BACKEND "io.k8s.api.networking.v1.IngressServiceBackend": [
        inside("port", &SERVICE_BACKEND_PORT),
    ];
    #[atomic] SERVICE_BACKEND_PORT "io.k8s.api.networking.v1.ServiceBackendPort": [];
    INGRESS_CLASS "io.k8s.api.networking.v1.IngressClass": [METADATA];
    SERVICE_CIDR "io.k8s.api.networking.v1.ServiceCIDR": [
        METADATA, inside("status", &SERVICE_CIDR_STATUS),
    ];
    SERVICE_CIDR_STATUS "io.k8s.api.networking.v1.ServiceCIDRStatus": [CONDITIONS];
    ROLE "io.k8s.api.rbac.v1.Role": [METADATA];
    CLUSTER_ROLE "io.k8s.api.rbac.v1.ClusterRole": [METADATA];
    ROLE_BINDING "io.k8s.api.rbac.v1.RoleBinding": [METADATA, inside("roleRef", &ROLE_REF)];
    CLUSTER_ROLE_BINDING "io.k8s.api.rbac.v1.ClusterRoleBinding": [
        METADATA, inside("roleRef", &ROLE_REF),
    ];
    #[atomic] ROLE_REF "io.k8s.api.rbac.v1.RoleRef": [];
    #[atomic] SUBJECT "io.k8s.api.rbac.v1.Subject": [];
    PRIORITY_CLASS "io.k8s.api.scheduling.v1.PriorityClass": [METADATA];
    SERVICE_EXPORT "io.x-k8s.multicluster.v1beta1.ServiceExport": [
        METADATA, inside("status", &MULTICLUSTER_STATUS),
    ];
    SERVICE_IMPORT "io.x-k8s.multicluster.v1beta1.ServiceImport": [
        METADATA, inside("status", &MULTICLUSTER_STATUS),
    ];
    SERVICE_EXPORT_ALPHA "io.x-k8s.multicluster.v1alpha1.ServiceExport": [
        METADATA, inside("status", &MULTICLUSTER_STATUS),
    ];
    SERVICE_IMPORT_ALPHA "io.x-k8s.multicluster.v1alpha1.ServiceImport": [
        METADATA, inside("status", &MULTICLUSTER_STATUS),
    ];
    LOAD_BALANCER_POLICY "dev.snowglobe.v1alpha1.LoadBalancerPolicy": [
        METADATA, inside("status", &LOAD_BALANCER_POLICY_STATUS),
    ];
    LOAD_BALANCER_POLICY_STATUS "dev.snowglobe.v1alpha1.LoadBalancerPolicyStatus": [CONDITIONS];
}

/// The persistent volume sources that name a Secret, which differ in nothing else that matters here.
static WITH_SECRET: Type =
    Type { schema: "", atomic: false, fields: &[inside("secretRef", &SECRET_REFERENCE)] };
/// The status of both kinds of the multi-cluster API.
static MULTICLUSTER_STATUS: Type = Type {
    schema: "",
    atomic: false,
    fields: &[applied(CONDITIONS), applied(map("clusters", &[key("cluster")], &ANY))],
};
static OBJECT: Type = Type { schema: "", atomic: false, fields: &[METADATA] };

/// The type of a kind's documents. A kind without an entry has ordinary metadata and defaults below it.
pub fn root(kind: &Kind) -> &'static Type {
    by_schema(&schema(kind)).unwrap_or(&OBJECT)
}

/// The name of a kind's OpenAPI schema, `io.k8s.api.apps.v1.Deployment`.
pub fn schema(kind: &Kind) -> String {
    let Kind { group, version, kind, .. } = kind;
    match group.split_once('.') {
        None if group.is_empty() => format!("io.k8s.api.core.{version}.{kind}"),
        None => format!("io.k8s.api.{group}.{version}.{kind}"),
        Some((package, rest)) if rest == "k8s.io" || rest.ends_with(".k8s.io") => {
            format!("io.k8s.api.{package}.{version}.{kind}")
        }
        Some(_) => {
            let reversed: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

/// The type with this OpenAPI schema name, for the extensions that OpenAPI documents carry.
pub fn by_schema(schema: &str) -> Option<&'static Type> {
    TYPES.iter().copied().find(|of| of.schema == schema)
}

/// Every listed type.
pub fn types() -> impl Iterator<Item = &'static Type> {
    TYPES.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind::KINDS;

    #[test]
    fn every_kind_has_a_type_with_metadata() {
        for kind in KINDS {
            let of = by_schema(&schema(kind)).unwrap_or_else(|| panic!("{kind:?}"));
            assert!(matches!(of.field("metadata").of.field("finalizers").list, List::Set));
        }
    }

    #[test]
    fn unlisted_fields_have_the_defaults() {
        let field = POD_SPEC.field("tolerations");
        assert!(matches!(field.list, List::Atomic));
        assert_eq!(field.strategy, Strategy::Default);
    }
}
