mod rows;

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{checks::testing, *};
use crate::{
    model::{ObjectKey, kind},
    registry::{DeleteOptions, Kinds, Registry, WriteOptions},
    store::Memory,
};

fn built_in(kind: &Kind) -> &'static BuiltIn {
    BUILT_IN.iter().find(|built_in| built_in.kind == kind).unwrap()
}

fn admit(kind: &Kind, document: &Value) -> Result<Admitted, Status> {
    let (view, options) = (View::for_tests(), testing::options());
    let context = testing::context(&view, &options, Subresource::None);
    built_in(kind).rules.admit(kind, document, None, &context)
}

#[test]
fn every_kind_is_described_once() {
    let described: Vec<_> = BUILT_IN.iter().map(|built_in| built_in.kind).collect();
    assert_eq!(described, kind::BUILT_IN);
}

#[test]
fn faults_come_in_the_order_of_kubernetes() {
    let service = |fields: Value| {
        let base = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "Web"},
            "spec": {"ports": [{"port": 80}], "type": "ExternalName"}});
        testing::merged(base, &fields)
    };
    let code = |document: Value| admit(&kind::SERVICE, &document).err().map(|s| s.code);
    assert_eq!(code(service(json!({"spec": {"ports": "many"}}))), Some(400));
    assert_eq!(code(service(json!({"spec": {"prots": []}}))), Some(400));
    let status = admit(&kind::SERVICE, &service(json!({}))).err().unwrap();
    assert_eq!(status.code, 422);
    let fields: Vec<&str> = status.causes.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields, ["metadata.name", "spec.externalName"]);
    assert!(
        status.message.starts_with("Service \"Web\" is invalid: [metadata.name: Invalid value: ")
    );
}

#[test]
fn every_kind_has_a_type_that_takes_its_documents() {
    // Nobody writes PolicyStats.
    let kinds = Kinds::built_in();
    for kind in kinds.stored().filter(|kind| **kind != extension::POLICY_STATS) {
        let name = if *kind.kind == *"IPAddress" { "127.96.0.1" } else { "a" };
        let document = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": {"name": name, "nonsense": true}});
        let status = admit(kind, &document).err().unwrap();
        assert_eq!(
            status.message, "strict decoding error: unknown field \"metadata.nonsense\"",
            "{kind:?} is decoded as a type of its own"
        );
    }
}

/// A registry over an empty store with the namespace `default`, as long as the guard lives.
async fn registry() -> (Arc<Registry>, DropGuard) {
    let registry = Registry::open(Arc::new(Memory::new()), testing::options()).await.unwrap();
    let registry = Arc::new(registry);
    let token = CancellationToken::new();
    let running = (registry.clone(), token.clone());
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { running.0.run(running.1).await });
    let namespace = json!({"metadata": {"name": "default"}});
    registry.create(&kind::NAMESPACE, "", namespace, &WriteOptions::default()).await.unwrap();
    (registry, token.drop_guard())
}

async fn create(registry: &Registry, document: Value) -> Result<Value, Status> {
    let options = WriteOptions::default();
    let written = registry.create(&kind::SERVICE, "default", document, &options).await?;
    Ok(written.object.parse().unwrap())
}

fn service(name: &str, spec: &Value) -> Value {
    let base = json!({"ports": [{"port": 80}], "selector": {"app": "web"}});
    json!({"metadata": {"name": name}, "spec": testing::merged(base, spec)})
}

#[tokio::test]
async fn addresses_and_ports_are_held_and_released_with_the_service() {
    let (registry, _guard) = registry().await;
    let fixed = json!({"type": "NodePort", "clusterIP": "127.96.0.10",
        "ports": [{"port": 80, "nodePort": 30080}]});
    let first = create(&registry, service("first", &fixed)).await.unwrap();
    assert_eq!(first["spec"]["ports"][0]["nodePort"], 30_080);
    let address = ObjectKey::cluster(&kind::IP_ADDRESS, "127.96.0.10");
    assert!(registry.get(&address).is_ok());

    let second = create(&registry, service("second", &fixed)).await.unwrap_err();
    assert_eq!(
        second.message,
        "Service \"second\" is invalid: spec.clusterIPs: Invalid value: [\"127.96.0.10\"]: \
         failed to allocate IP 127.96.0.10: provided IP is already allocated"
    );
    let port = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let third = create(&registry, service("third", &port)).await.unwrap_err();
    assert_eq!(third.causes[0].field, "spec.ports[0].nodePort");
    assert_eq!(third.causes[0].message, "Invalid value: 30080: provided port is already allocated");

    let key = ObjectKey::new(&kind::SERVICE, "default", "first");
    let none = Subresource::None;
    let external = json!({"metadata": {"name": "first"},
        "spec": {"type": "ExternalName", "externalName": "a.example"}});
    registry.update(&key, none, external, &WriteOptions::default()).await.unwrap();
    assert!(registry.get(&address).is_err());
    create(&registry, service("second", &fixed)).await.unwrap();
    let key = ObjectKey::new(&kind::SERVICE, "default", "second");
    registry.delete(&key, &DeleteOptions::default()).await.unwrap();
    assert!(registry.get(&address).is_err());
    create(&registry, service("third", &fixed)).await.unwrap();
}

#[tokio::test]
async fn an_unchanged_document_writes_nothing() {
    let (registry, _guard) = registry().await;
    let document = service("web", &json!({"type": "LoadBalancer"}));
    create(&registry, document.clone()).await.unwrap();
    let key = ObjectKey::new(&kind::SERVICE, "default", "web");
    let before = registry.get(&key).unwrap().revision;
    registry.update(&key, Subresource::None, document, &WriteOptions::default()).await.unwrap();
    assert_eq!(registry.get(&key).unwrap().revision, before);
}

#[tokio::test]
async fn writers_at_the_same_time_get_different_addresses() {
    let (registry, _guard) = registry().await;
    let spec = json!({"type": "NodePort"});
    let writes = (0..32).map(|i| create(&registry, service(&format!("s{i}"), &spec)));
    let written = futures::future::join_all(writes).await;
    let addresses: std::collections::BTreeSet<String> = written
        .into_iter()
        .map(|service| service.unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(addresses.len(), 32);
}
