//! Built-in kinds by which a cluster is extended and run: autoscaling, admission, aggregation, flow control, signing and
//! devices.

use std::borrow::Cow::{self, Borrowed};

use crate::model::kind::{ALL, Identity, Kind, STORED, Text};

const CLUSTER: Identity = Identity { namespaced: false, ..STORED };
const API_EXTENSIONS: Cow<'static, [Text]> = Borrowed(&[Borrowed("api-extensions")]);
const ADMISSION: Identity = Identity {
    group: Borrowed("admissionregistration.k8s.io"),
    categories: API_EXTENSIONS,
    has_generation: true,
    ..CLUSTER
};
const FLOW_CONTROL: Identity = Identity {
    group: Borrowed("flowcontrol.apiserver.k8s.io"),
    has_status: true,
    has_generation: true,
    ..CLUSTER
};
const DEVICES: Identity = Identity { group: Borrowed("resource.k8s.io"), ..STORED };
const AUTOSCALER: Identity = Identity {
    group: Borrowed("autoscaling"),
    version: Borrowed("v2"),
    kind: Borrowed("HorizontalPodAutoscaler"),
    plural: Borrowed("horizontalpodautoscalers"),
    singular: Borrowed("horizontalpodautoscaler"),
    short_names: Borrowed(&[Borrowed("hpa")]),
    categories: ALL,
    has_status: true,
    ..STORED
};

/// HorizontalPodAutoscalers.
pub static HORIZONTAL_POD_AUTOSCALER: Kind = Kind::BuiltIn(&AUTOSCALER);
/// The same at the older version.
pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Kind::BuiltIn(&Identity {
    version: Borrowed("v1"),
    stored_as: Some(Kind::BuiltIn(&AUTOSCALER)),
    ..AUTOSCALER
});
/// Webhooks that judge objects.
pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ValidatingWebhookConfiguration"),
    plural: Borrowed("validatingwebhookconfigurations"),
    singular: Borrowed("validatingwebhookconfiguration"),
    ..ADMISSION
});
/// Webhooks that change objects.
pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("MutatingWebhookConfiguration"),
    plural: Borrowed("mutatingwebhookconfigurations"),
    singular: Borrowed("mutatingwebhookconfiguration"),
    ..ADMISSION
});
/// Expressions that judge objects.
pub static VALIDATING_ADMISSION_POLICY: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ValidatingAdmissionPolicy"),
    plural: Borrowed("validatingadmissionpolicies"),
    singular: Borrowed("validatingadmissionpolicy"),
    has_status: true,
    ..ADMISSION
});
/// Where such expressions hold.
pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ValidatingAdmissionPolicyBinding"),
    plural: Borrowed("validatingadmissionpolicybindings"),
    singular: Borrowed("validatingadmissionpolicybinding"),
    ..ADMISSION
});
/// Expressions that change objects.
pub static MUTATING_ADMISSION_POLICY: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("MutatingAdmissionPolicy"),
    plural: Borrowed("mutatingadmissionpolicies"),
    singular: Borrowed("mutatingadmissionpolicy"),
    ..ADMISSION
});
/// Where such expressions hold.
pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("MutatingAdmissionPolicyBinding"),
    plural: Borrowed("mutatingadmissionpolicybindings"),
    singular: Borrowed("mutatingadmissionpolicybinding"),
    ..ADMISSION
});
/// Who serves a group version.
pub static API_SERVICE: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("apiregistration.k8s.io"),
    kind: Borrowed("APIService"),
    plural: Borrowed("apiservices"),
    singular: Borrowed("apiservice"),
    categories: API_EXTENSIONS,
    has_status: true,
    ..CLUSTER
});
/// Which requests are of which priority.
pub static FLOW_SCHEMA: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("FlowSchema"),
    plural: Borrowed("flowschemas"),
    singular: Borrowed("flowschema"),
    ..FLOW_CONTROL
});
/// Priorities of requests.
pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("PriorityLevelConfiguration"),
    plural: Borrowed("prioritylevelconfigurations"),
    singular: Borrowed("prioritylevelconfiguration"),
    ..FLOW_CONTROL
});
/// Health of the components of the control plane. There are no objects: each answer is made anew.
pub static COMPONENT_STATUS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ComponentStatus"),
    plural: Borrowed("componentstatuses"),
    singular: Borrowed("componentstatus"),
    short_names: Borrowed(&[Borrowed("cs")]),
    ..CLUSTER
});
/// What load-balancing policies did (our own kind). There are no objects: each answer is made anew.
pub static POLICY_STATS: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("snowglobe.dev"),
    version: Borrowed("v1alpha1"),
    kind: Borrowed("PolicyStats"),
    plural: Borrowed("policystats"),
    singular: Borrowed("policystats"),
    ..CLUSTER
});
/// Requests for certificates.
pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("certificates.k8s.io"),
    kind: Borrowed("CertificateSigningRequest"),
    plural: Borrowed("certificatesigningrequests"),
    singular: Borrowed("certificatesigningrequest"),
    short_names: Borrowed(&[Borrowed("csr")]),
    has_status: true,
    ..CLUSTER
});
/// Certificates of authorities.
pub static CLUSTER_TRUST_BUNDLE: Kind = Kind::BuiltIn(&Identity {
    group: Borrowed("certificates.k8s.io"),
    version: Borrowed("v1beta1"),
    kind: Borrowed("ClusterTrustBundle"),
    plural: Borrowed("clustertrustbundles"),
    singular: Borrowed("clustertrustbundle"),
    ..CLUSTER
});
/// Classes of devices.
pub static DEVICE_CLASS: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("DeviceClass"),
    plural: Borrowed("deviceclasses"),
    singular: Borrowed("deviceclass"),
    namespaced: false,
    has_generation: true,
    ..DEVICES
});
/// Claims of devices.
pub static RESOURCE_CLAIM: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ResourceClaim"),
    plural: Borrowed("resourceclaims"),
    singular: Borrowed("resourceclaim"),
    has_status: true,
    ..DEVICES
});
/// Claims that pods get one each of.
pub static RESOURCE_CLAIM_TEMPLATE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ResourceClaimTemplate"),
    plural: Borrowed("resourceclaimtemplates"),
    singular: Borrowed("resourceclaimtemplate"),
    ..DEVICES
});
/// Devices of a node.
pub static RESOURCE_SLICE: Kind = Kind::BuiltIn(&Identity {
    kind: Borrowed("ResourceSlice"),
    plural: Borrowed("resourceslices"),
    singular: Borrowed("resourceslice"),
    namespaced: false,
    has_generation: true,
    ..DEVICES
});
