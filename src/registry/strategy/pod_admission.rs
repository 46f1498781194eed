//! What the admission plugins ServiceAccount and RuntimeClass add to a new pod, and why they refuse one.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
        LocalObjectReference, ObjectFieldSelector, PodSpec, ProjectedVolumeSource,
        ServiceAccountTokenProjection, Toleration, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde::Deserialize;

use crate::{
    model::{ObjectKey, kind, quantity},
    registry::{
        strategy::{
            Context,
            fields::{is_empty, items, text},
        },
        write::suffix,
    },
};

/// Every namespace has this account; when it is missing, it is being made.
const DEFAULT_ACCOUNT: &str = "default";
const TOKEN_VOLUME: &str = "kube-api-access-";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and a little more, by which it is known that nobody asked for exactly this.
const TOKEN_SECONDS: i64 = 3607;
/// rw-r--r--.
const FILE_MODE: i32 = 0o644;

/// What is read of a ServiceAccount.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<LocalObjectReference>,
}

/// What is read of a RuntimeClass.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Class {
    overhead: Option<Overhead>,
    scheduling: Scheduling,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Overhead {
    pod_fixed: BTreeMap<String, Quantity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Scheduling {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
}

/// Gives a pod what its ServiceAccount has: the token of the API, and secrets to pull images with.
pub(super) fn add_account(spec: &mut PodSpec, namespace: &str, context: &Context<'_>) {
    let name = text(&spec.service_account_name);
    let key = ObjectKey::new(&kind::SERVICE_ACCOUNT, namespace, name);
    let found = context.view.get(&key).map(|account| account.digest::<Account>());
    let account = found.unwrap_or_default();
    let mounts = spec.automount_service_account_token.or(account.automount_service_account_token);
    if mounts.unwrap_or(true) {
        mount_token(spec, context.seed);
    }
    if is_empty(&spec.image_pull_secrets) && !account.image_pull_secrets.is_empty() {
        spec.image_pull_secrets = Some(account.image_pull_secrets.clone());
    }
}

/// Why a pod may not have its ServiceAccount.
pub(super) fn refuse_account(
    spec: &PodSpec,
    namespace: &str,
    context: &Context<'_>,
) -> Option<String> {
    let name = text(&spec.service_account_name);
    let key = ObjectKey::new(&kind::SERVICE_ACCOUNT, namespace, name);
    let missing = name != DEFAULT_ACCOUNT && context.view.get(&key).is_none();
    missing.then(|| {
        format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )
    })
}

/// Mounts the token in every container that has nothing in its place.
fn mount_token(spec: &mut PodSpec, seed: u64) {
    let mut volumes = items(&spec.volumes).iter();
    let own = volumes.find(|volume| volume.name.starts_with(TOKEN_VOLUME));
    let own = own.map(|volume| volume.name.clone());
    let has_volume = own.is_some();
    let name = own.unwrap_or_else(|| format!("{TOKEN_VOLUME}{}", suffix(seed)));
    let init = spec.init_containers.iter_mut().flatten();
    let mut mounted = false;
    for container in init.chain(&mut spec.containers) {
        mounted |= mount(container, &name);
    }
    if mounted && !has_volume {
        spec.volumes.get_or_insert_default().push(token_volume(name));
    }
}

fn mount(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    if mounts.iter().any(|mount| mount.mount_path == TOKEN_PATH) {
        return false;
    }
    mounts.push(VolumeMount {
        name: volume.to_owned(),
        read_only: Some(true),
        mount_path: TOKEN_PATH.to_owned(),
        ..VolumeMount::default()
    });
    true
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        audience: None,
    };
    let authority = KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None };
    let authority = ConfigMapProjection {
        name: "kube-root-ca.crt".to_owned(),
        items: Some(vec![authority]),
        optional: None,
    };
    let namespace = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: "metadata.namespace".to_owned(),
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(namespace),
        ..DownwardAPIVolumeFile::default()
    };
    let namespace = DownwardAPIProjection { items: Some(vec![namespace]) };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(authority), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(namespace), ..VolumeProjection::default() },
    ];
    let projected = ProjectedVolumeSource { default_mode: Some(FILE_MODE), sources: Some(sources) };
    Volume { name, projected: Some(projected), ..Volume::default() }
}

/// Gives a pod what its RuntimeClass costs, and where its nodes are.
pub(super) fn add_runtime_class(spec: &mut PodSpec, context: &Context<'_>) {
    let Some(class) = runtime_class(spec, context) else { return };
    if let Some(overhead) = &class.overhead
        && spec.overhead.is_none()
    {
        spec.overhead = Some(overhead.pod_fixed.clone());
    }
    if !class.scheduling.node_selector.is_empty() {
        let selector = spec.node_selector.get_or_insert_default();
        for (key, value) in &class.scheduling.node_selector {
            selector.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    for toleration in &class.scheduling.tolerations {
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
}

/// Why a pod may not have its RuntimeClass.
pub(super) fn refuse_runtime_class(spec: &PodSpec, context: &Context<'_>) -> Option<String> {
    let class = runtime_class(spec, context);
    if let (Some(name), None) = (&spec.runtime_class_name, &class) {
        return Some(format!("pod rejected: RuntimeClass {name:?} not found"));
    }
    let own = spec.overhead.iter().flatten();
    let own: Vec<_> = own.map(|(name, amount)| (name, quantity::nano(&amount.0))).collect();
    let Some(overhead) = class.as_ref().and_then(|class| class.overhead.as_ref()) else {
        let rule =
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return (!own.is_empty()).then(|| rule.to_owned());
    };
    let fixed = overhead.pod_fixed.iter();
    if own != fixed.map(|(name, amount)| (name, quantity::nano(&amount.0))).collect::<Vec<_>>() {
        let rule = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Some(rule.to_owned());
    }
    None
}

/// Where a pod wants another kind of node than its RuntimeClass does.
pub(super) fn refuse_node_selector(spec: &PodSpec, context: &Context<'_>) -> Option<String> {
    let class = runtime_class(spec, context)?;
    let selector = spec.node_selector.as_ref()?;
    class.scheduling.node_selector.iter().find_map(|(key, wanted)| {
        let own = selector.get(key).filter(|own| *own != wanted)?;
        Some(format!(
            "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
        ))
    })
}

fn runtime_class(spec: &PodSpec, context: &Context<'_>) -> Option<std::sync::Arc<Class>> {
    let key = ObjectKey::cluster(&kind::RUNTIME_CLASS, spec.runtime_class_name.as_deref()?);
    context.view.get(&key).map(|class| class.digest::<Class>())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::{Object, object::to_stored},
        registry::{
            Subresource, View,
            strategy::checks::{
                shown,
                testing::{context, merged, object, options},
            },
        },
    };

    fn view() -> View {
        let mut view = View::for_tests();
        for (kind, name, document) in [
            (&kind::SERVICE_ACCOUNT, "plain", json!({})),
            (&kind::SERVICE_ACCOUNT, "shy", json!({"automountServiceAccountToken": false})),
            (&kind::SERVICE_ACCOUNT, "rich", json!({"imagePullSecrets": [{"name": "key"}]})),
            (&kind::RUNTIME_CLASS, "light", json!({"handler": "a"})),
            (
                &kind::RUNTIME_CLASS,
                "heavy",
                json!({"handler": "b", "overhead": {"podFixed": {"cpu": "250m"}},
                    "scheduling": {"nodeSelector": {"vm": "yes"},
                        "tolerations": [{"key": "vm", "operator": "Exists"}]}}),
            ),
        ] {
            let document = merged(json!({"metadata": {"name": name}}), &document);
            let namespace = if kind.namespaced { "shop" } else { "" };
            let key = ObjectKey::new(kind, namespace, name);
            view.insert(&Arc::new(Object::from_stored(key, 1, to_stored(kind, document)).unwrap()));
        }
        view
    }

    fn spec(more: &Value) -> PodSpec {
        object(merged(json!({"containers": [{"name": "a", "image": "i"}]}), more))
    }

    fn with_account(more: &Value) -> Value {
        let (view, options) = (view(), options());
        let context = context(&view, &options, Subresource::None);
        let mut spec = spec(more);
        add_account(&mut spec, "shop", &context);
        shown(&spec)
    }

    #[test]
    fn tokens() {
        let spec = with_account(
            &json!({"serviceAccountName": "plain", "initContainers": [{"name": "i"}]}),
        );
        let name = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
        assert_eq!(
            spec["volumes"],
            json!([{"name": name, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                                            "path": "namespace"}]}}]}}])
        );
        let mounts = json!([{"mountPath": TOKEN_PATH, "name": name, "readOnly": true}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mounts);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mounts);

        let taken =
            json!([{"name": "a", "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]);
        for (more, volumes) in [
            (json!({"serviceAccountName": "shy"}), 0),
            (json!({"serviceAccountName": "shy", "automountServiceAccountToken": true}), 1),
            (json!({"serviceAccountName": "plain", "automountServiceAccountToken": false}), 0),
            (json!({"serviceAccountName": "default"}), 1),
            (json!({"serviceAccountName": "plain", "containers": taken}), 0),
            (json!({"volumes": [{"name": "kube-api-access-mine"}]}), 1),
        ] {
            let spec = with_account(&more);
            let count = spec["volumes"].as_array().map_or(0, Vec::len);
            assert_eq!(count, volumes, "{more}");
        }
    }

    #[test]
    fn pull_secrets() {
        let key = json!([{"name": "key"}]);
        let rich = json!({"serviceAccountName": "rich"});
        assert_eq!(with_account(&rich)["imagePullSecrets"], key);
        let own = json!([{"name": "own"}]);
        let more = merged(rich, &json!({"imagePullSecrets": own}));
        assert_eq!(with_account(&more)["imagePullSecrets"], own);
    }

    #[test]
    fn accounts_must_exist() {
        let (view, options) = (view(), options());
        let context = context(&view, &options, Subresource::None);
        for (name, refusal) in [
            ("plain", None),
            ("default", None),
            (
                "nobody",
                Some(
                    "error looking up service account shop/nobody: serviceaccount \"nobody\" not found",
                ),
            ),
        ] {
            let spec = spec(&json!({"serviceAccountName": name}));
            assert_eq!(refuse_account(&spec, "shop", &context).as_deref(), refusal, "{name}");
        }
    }

    #[test]
    fn runtime_classes() {
        let (view, options) = (view(), options());
        let context = context(&view, &options, Subresource::None);
        let unmatched =
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        let unfounded =
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        for (more, refusal) in [
            (json!({}), None),
            (json!({"runtimeClassName": "light"}), None),
            (json!({"runtimeClassName": "heavy"}), None),
            (json!({"runtimeClassName": "heavy", "overhead": {"cpu": "0.25"}}), None),
            (json!({"runtimeClassName": "heavy", "overhead": {"cpu": "1"}}), Some(unmatched)),
            (json!({"runtimeClassName": "light", "overhead": {"cpu": "1"}}), Some(unfounded)),
            (json!({"overhead": {"cpu": "1"}}), Some(unfounded)),
            (
                json!({"runtimeClassName": "none"}),
                Some("pod rejected: RuntimeClass \"none\" not found"),
            ),
        ] {
            let mut spec = spec(&more);
            add_runtime_class(&mut spec, &context);
            assert_eq!(refuse_runtime_class(&spec, &context).as_deref(), refusal, "{more}");
        }
        let mut heavy =
            spec(&json!({"runtimeClassName": "heavy", "nodeSelector": {"disk": "fast"}}));
        add_runtime_class(&mut heavy, &context);
        assert_eq!(refuse_node_selector(&heavy, &context), None);
        let heavy = shown(&heavy);
        assert_eq!(heavy["overhead"], json!({"cpu": "250m"}));
        assert_eq!(heavy["nodeSelector"], json!({"disk": "fast", "vm": "yes"}));
        assert_eq!(heavy["tolerations"], json!([{"key": "vm", "operator": "Exists"}]));
        let mut other = spec(&json!({"runtimeClassName": "heavy", "nodeSelector": {"vm": "no"}}));
        add_runtime_class(&mut other, &context);
        assert_eq!(
            refuse_node_selector(&other, &context).as_deref(),
            Some(
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
            )
        );
    }
}
