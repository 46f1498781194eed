//! Makes the file of [`kubernetes_types`](super::kubernetes_types) from the library of Kubernetes' types, and checks that it is what that says.

use std::{env, fs, io::Write, path::Path};

use flate2::{Compression, GzBuilder};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview},
        authorization::v1::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview,
        },
        autoscaling::{
            v1::{HorizontalPodAutoscaler as OldHorizontalPodAutoscaler, Scale},
            v2::HorizontalPodAutoscaler,
        },
        batch::v1::{CronJob, Job},
        certificates::{v1::CertificateSigningRequest, v1beta1::ClusterTrustBundle},
        coordination::v1::Lease,
        core::v1::{
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController,
            ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        events::v1::Event as NewEvent,
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
        networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        node::v1::RuntimeClass,
        policy::v1::{Eviction, PodDisruptionBudget},
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
        scheduling::v1::PriorityClass,
        storage::v1::{
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass,
        },
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::{
        Condition, DeleteOptions, ListMeta, ObjectMeta, Patch, Status,
    },
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::api::openapi::kubernetes_types;

/// Set, it lets the test write the file.
const WRITE: &str = "SNOWGLOBE_WRITE_SCHEMAS";
const FILE: &str = "src/api/openapi/types.json.gz";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Kinds that have objects.
const KINDS: &[fn(&mut SchemaGenerator)] = &[
    refer::<APIService>,
    refer::<CertificateSigningRequest>,
    refer::<ClusterRole>,
    refer::<ClusterRoleBinding>,
    refer::<ClusterTrustBundle>,
    refer::<ComponentStatus>,
    refer::<ConfigMap>,
    refer::<ControllerRevision>,
    refer::<CronJob>,
    refer::<CSIDriver>,
    refer::<CSINode>,
    refer::<CSIStorageCapacity>,
    refer::<CustomResourceDefinition>,
    refer::<DaemonSet>,
    refer::<Deployment>,
    refer::<DeviceClass>,
    refer::<Endpoints>,
    refer::<EndpointSlice>,
    refer::<Event>,
    refer::<FlowSchema>,
    refer::<HorizontalPodAutoscaler>,
    refer::<Ingress>,
    refer::<IngressClass>,
    refer::<IPAddress>,
    refer::<Job>,
    refer::<Lease>,
    refer::<LimitRange>,
    refer::<MutatingAdmissionPolicy>,
    refer::<MutatingAdmissionPolicyBinding>,
    refer::<MutatingWebhookConfiguration>,
    refer::<Namespace>,
    refer::<NetworkPolicy>,
    refer::<NewEvent>,
    refer::<Node>,
    refer::<OldHorizontalPodAutoscaler>,
    refer::<PersistentVolume>,
    refer::<PersistentVolumeClaim>,
    refer::<Pod>,
    refer::<PodDisruptionBudget>,
    refer::<PodTemplate>,
    refer::<PriorityClass>,
    refer::<PriorityLevelConfiguration>,
    refer::<ReplicaSet>,
    refer::<ReplicationController>,
    refer::<ResourceClaim>,
    refer::<ResourceClaimTemplate>,
    refer::<ResourceQuota>,
    refer::<ResourceSlice>,
    refer::<Role>,
    refer::<RoleBinding>,
    refer::<RuntimeClass>,
    refer::<Secret>,
    refer::<Service>,
    refer::<ServiceAccount>,
    refer::<ServiceCIDR>,
    refer::<StatefulSet>,
    refer::<StorageClass>,
    refer::<ValidatingAdmissionPolicy>,
    refer::<ValidatingAdmissionPolicyBinding>,
    refer::<ValidatingWebhookConfiguration>,
    refer::<VolumeAttachment>,
    refer::<VolumeAttributesClass>,
];

/// What requests and subresources carry.
const OTHERS: &[fn(&mut SchemaGenerator)] = &[
    refer::<Binding>,
    refer::<Condition>,
    refer::<DeleteOptions>,
    refer::<Eviction>,
    refer::<ListMeta>,
    refer::<LocalSubjectAccessReview>,
    refer::<ObjectMeta>,
    refer::<Patch>,
    refer::<Scale>,
    refer::<SelfSubjectAccessReview>,
    refer::<SelfSubjectReview>,
    refer::<SelfSubjectRulesReview>,
    refer::<Status>,
    refer::<SubjectAccessReview>,
    refer::<TokenRequest>,
    refer::<TokenReview>,
];

#[test]
fn the_file_is_what_the_library_says() {
    let said = Value::Object(schemas()).to_string();
    if env::var_os(WRITE).is_some() {
        let file = fs::File::create(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
        // Without a time: the same file each time.
        let mut file = GzBuilder::new().mtime(0).write(file, Compression::best());
        file.write_all(said.as_bytes()).unwrap();
        file.finish().unwrap();
        return;
    }
    let kept = kubernetes_types::text();
    assert!(
        kept == said,
        "{FILE} is outdated: `{WRITE}=1 cargo test --lib openapi` writes it anew"
    );
}

fn schemas() -> Map<String, Value> {
    let settings = SchemaSettings::openapi3()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    for refer in [KINDS, OTHERS].concat() {
        refer(&mut generator);
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(false).into_iter().collect();
    schemas.values_mut().for_each(tidy);
    schemas.sort_keys();
    schemas
}

fn refer<T: JsonSchema>(generator: &mut SchemaGenerator) {
    // Adds the type and all that it refers to to the definitions; the reference itself is of no use here.
    let _reference = generator.subschema_for::<T>();
}

/// In OpenAPI 3.0 nothing may stand beside a reference, and a value of two types is a choice.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.len() > 1
                && fields.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = fields.remove("$ref")
            {
                fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            // Not where a type has a field of that name.
            if fields.get(INT_OR_STRING) == Some(&Value::Bool(true)) {
                fields.remove(INT_OR_STRING);
                fields.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
                fields.insert("format".to_owned(), "int-or-string".into());
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
