//! The table of fields and the Rust types of Kubernetes agree: they accept the same documents, refuse the same value with
//! the same words, and know the same fields.

use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
            ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass, NetworkPolicy},
        node::v1::RuntimeClass,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, RoleBinding},
        resource::v1::ResourceSlice,
        scheduling::v1::PriorityClass,
        storage::v1::StorageClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use proptest::{prelude::*, sample::select, test_runner::RngSeed};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{encode, find_dropped, first_fault, may_hold_time_before_year_0};
use crate::model::{
    fields::{self, EMBEDDED, Fault, Field, Form, Message, Shape},
    wording,
};

/// Messages within messages that a document has at most.
const DEPTH_MAX: u32 = 5;

/// What a Rust type makes of a document: its own form of it, and its unknown fields.
type Outcome = Result<(Value, Vec<String>), Fault>;

/// A kind, and how its Rust type reads.
#[derive(Clone, Copy, Debug)]
struct Case {
    api_version: &'static str,
    kind: &'static str,
    typed: fn(&Value) -> Outcome,
}

const fn case<T: DeserializeOwned + Serialize + k8s_openapi::Resource>() -> Case {
    Case { api_version: T::API_VERSION, kind: T::KIND, typed: typed::<T> }
}

static CASES: &[Case] = &[
    case::<APIService>(),
    case::<ClusterRole>(),
    case::<ConfigMap>(),
    case::<CronJob>(),
    case::<CustomResourceDefinition>(),
    case::<DaemonSet>(),
    case::<Deployment>(),
    case::<EndpointSlice>(),
    case::<HorizontalPodAutoscaler>(),
    case::<Ingress>(),
    case::<IngressClass>(),
    case::<Job>(),
    case::<Lease>(),
    case::<Namespace>(),
    case::<NetworkPolicy>(),
    case::<Node>(),
    case::<PersistentVolume>(),
    case::<PersistentVolumeClaim>(),
    case::<Pod>(),
    case::<PodDisruptionBudget>(),
    case::<PriorityClass>(),
    case::<ReplicaSet>(),
    case::<ReplicationController>(),
    case::<ResourceQuota>(),
    case::<ResourceSlice>(),
    case::<RoleBinding>(),
    case::<RuntimeClass>(),
    case::<Secret>(),
    case::<Service>(),
    case::<ServiceAccount>(),
    case::<StatefulSet>(),
    case::<StorageClass>(),
    case::<ValidatingWebhookConfiguration>(),
];

fn typed<T: DeserializeOwned + Serialize>(document: &Value) -> Result<(Value, Vec<String>), Fault> {
    let read = |document: &Value| {
        T::deserialize(document).map_err(|error| {
            let path = first_fault(document, &|part| T::deserialize(part).is_ok());
            let path = if path.is_empty() { ".".to_owned() } else { path };
            Fault { path, detail: wording::in_json(&error) }
        })
    };
    let kept = encode(&read(document)?);
    if may_hold_time_before_year_0(document) {
        read(&kept)?;
    }
    let mut unknown = Vec::new();
    find_dropped(document, &kept, "", &mut unknown);
    Ok((kept, unknown))
}

/// Makes documents of the right form, and damages them.
struct Writer(StdRng);

impl Writer {
    fn message(&mut self, message: &Message, depth: u32) -> Map<String, Value> {
        let mut out = Map::new();
        for field in message.named_fields() {
            debug_assert_ne!(field.name, EMBEDDED);
            if self.0.random_ratio(3, 10) {
                out.extend(self.field(field, depth).map(|value| (field.name.to_owned(), value)));
            }
        }
        out
    }

    fn field(&mut self, field: &Field, depth: u32) -> Option<Value> {
        let (Shape::One(form) | Shape::List(form) | Shape::Map(form)) = field.shape;
        if depth == 0 && matches!(form, Form::Message(_)) {
            return None;
        }
        let count = self.0.random_range(0..3);
        Some(match field.shape {
            Shape::One(form) => self.value(form, depth),
            Shape::List(form) => (0..count).map(|_| self.value(form, depth)).collect(),
            Shape::Map(form) => {
                let entries = (0..count).map(|n| (format!("k{n}"), self.value(form, depth)));
                Value::Object(entries.collect())
            }
        })
    }

    fn value(&mut self, form: Form, depth: u32) -> Value {
        match form {
            Form::Text => self.one_of(&[json!("a"), json!("")]),
            Form::Bool => self.0.random::<bool>().into(),
            Form::Integer32 => self.one_of(&[json!(0), json!(-7), json!(i32::MAX)]),
            Form::Integer => self.one_of(&[json!(0), json!(i64::MIN), json!(i64::MAX)]),
            Form::Number => self.one_of(&[json!(0), json!(1.5), json!(-2.0)]),
            Form::Bytes => self.one_of(&[json!("AAEC"), json!("")]),
            Form::Time => {
                self.one_of(&[json!("2026-01-02T03:04:05Z"), json!("0000-01-01T00:00:00Z")])
            }
            Form::MicroTime => json!("2026-01-02T03:04:05.000006Z"),
            Form::Quantity => self.one_of(&[json!("500m"), json!("1Gi")]),
            Form::IntegerOrText => self.one_of(&[json!(80), json!("25%")]),
            Form::Json => self.one_of(&[json!({"a": [null, 1]}), json!("x"), json!(1)]),
            Form::Message(id) if id.message().is_either => {
                let fields = &id.message().fields;
                let field = fields[self.0.random_range(0..fields.len())];
                self.field(&field, depth.max(1)).expect("it is not too deep")
            }
            Form::Message(id) => Value::Object(self.message(id.message(), depth.saturating_sub(1))),
        }
    }

    fn one_of(&mut self, values: &[Value]) -> Value {
        values[self.0.random_range(0..values.len())].clone()
    }

    /// Puts something else in the place of a value, or adds a field.
    fn damage(&mut self, value: &mut Value) {
        let stays = self.0.random_ratio(3, 4);
        match value {
            // Of a null, a type cannot tell whether it knows the field.
            Value::String(text) if text == "red" => {}
            Value::Object(fields) if stays && !fields.is_empty() => {
                let at = self.0.random_range(0..fields.len());
                self.damage(fields.iter_mut().nth(at).expect("it is within").1);
            }
            Value::Array(items) if stays && !items.is_empty() => {
                let at = self.0.random_range(0..items.len());
                self.damage(&mut items[at]);
            }
            Value::Object(fields) if self.0.random() => {
                fields.insert("colour".to_owned(), json!("red"));
            }
            _ => *value = self.junk(),
        }
    }

    fn junk(&mut self) -> Value {
        self.one_of(&[
            json!(null),
            json!(true),
            json!(3),
            json!(-3),
            json!(3_000_000_000_u64),
            json!(u64::MAX),
            json!(1.5),
            json!(1.0),
            json!("text"),
            json!([]),
            json!([1]),
            json!({}),
            json!({"a": "red"}),
        ])
    }
}

fn check(case: Case, document: &Value) -> Result<(), TestCaseError> {
    let message = fields::message(case.api_version, case.kind).expect("the table has the kind");
    let mut kept = document.clone();
    let (typed, table) = ((case.typed)(document), message.decode(&mut kept));
    match typed {
        // Go has a zero for every type, and validation comes later.
        Err(fault) if fault.detail.starts_with("missing field") => {}
        Err(fault) => {
            let found = table.expect_err("the type refuses it");
            prop_assert_eq!(&found.detail, &fault.detail, "{}", document);
            // Of what may not be absent, only the parent can be named.
            let is_exact =
                found.path == fault.path || found.path.starts_with(&format!("{}.", fault.path));
            prop_assert!(is_exact, "{} {} {}", found.path, fault.path, document);
        }
        Ok((form, unknown)) => {
            prop_assert_eq!(table, Ok(unknown), "{}", document);
            prop_assert_eq!((case.typed)(&kept), Ok((form, Vec::new())), "{}", document);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(2000)
    })]

    #[test]
    fn table_and_types_agree(case in select(CASES), seed: u64, damage in 0..3, depth in 1..DEPTH_MAX) {
        let mut writer = Writer(StdRng::seed_from_u64(seed));
        let message = fields::message(case.api_version, case.kind).expect("the table has the kind");
        let mut document = Value::Object(writer.message(message, depth));
        document["apiVersion"] = case.api_version.into();
        document["kind"] = case.kind.into();
        for _ in 0..damage {
            writer.damage(&mut document);
        }
        check(case, &document)?;
    }
}
