//! Our own kinds in `snowglobe.dev/v1alpha1`, LoadBalancerPolicy and TopologyPolicy: what a WASM module decides.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A LoadBalancerPolicy or a TopologyPolicy, which Services name in the annotation `snowglobe.dev/load-balancer-policy` or
/// `snowglobe.dev/topology-policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// `snowglobe.dev/v1alpha1`.
    pub api_version: String,
    /// `LoadBalancerPolicy` or `TopologyPolicy`.
    pub kind: String,
    /// Name, labels, ...
    pub metadata: ObjectMeta,
    /// What the client wants.
    pub spec: PolicySpec,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyStatus>,
}

/// `spec` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySpec {
    /// The module.
    pub module: PolicyModule,
    /// Given to the module as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// `Fallback`, `Reject` or `LastGood`; see [`PolicySpec::on_failure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
}

/// Where a module comes from; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyModule {
    /// Name of a module that is part of Snowglobe, `rr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// A file below `policies/` of the data directory; relative, without `..`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A key of a ConfigMap's `binaryData`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// The module itself, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// One value of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapKey {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key in `binaryData`.
    pub key: String,
}

/// `status` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// `Ready`, with the reason why a module was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// `sha256:...` of the module in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The ABI that the module speaks, `snowglobe:policy@0.1.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<String>,
    /// How long the module took to compile, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<f64>,
    /// The `metadata.generation` that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What happens to connections when a module cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The native round robin; for a TopologyPolicy, what would be without one.
    #[default]
    Fallback,
    /// A reset.
    Reject,
    /// The previous module, else as `Fallback`.
    LastGood,
}

impl PolicySpec {
    /// `onFailure`; anything else than the known words (the registry refuses those) is `Fallback`.
    pub fn on_failure(&self) -> OnFailure {
        match self.on_failure.as_deref() {
            Some("Reject") => OnFailure::Reject,
            Some("LastGood") => OnFailure::LastGood,
            _ => OnFailure::Fallback,
        }
    }
}

impl PolicyModule {
    /// The bytes of an inline module; `None` when there is none or it is not base64.
    pub fn inline_bytes(&self) -> Option<Vec<u8>> {
        let text: String = self.inline.as_ref()?.split_whitespace().collect();
        STANDARD.decode(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_writes_camel_case() {
        let document = json!({"apiVersion": "snowglobe.dev/v1alpha1", "kind": "LoadBalancerPolicy",
            "metadata": {"name": "mine"},
            "spec": {"module": {"configMap": {"namespace": "a", "name": "b", "key": "c"}},
                     "config": "x=1", "onFailure": "LastGood"},
            "status": {"digest": "sha256:00", "abi": "snowglobe:policy@0.1.0", "compileMs": 3.5,
                       "observedGeneration": 2}});
        let policy: Policy = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(policy.spec.on_failure(), OnFailure::LastGood);
        assert_eq!(serde_json::to_value(&policy).unwrap(), document);
    }

    #[test]
    fn inline_modules() {
        let module = |text: &str| PolicyModule { inline: Some(text.to_owned()), ..<_>::default() };
        assert_eq!(module("AGFz\nbQ==").inline_bytes(), Some(b"\0asm".to_vec()));
        assert_eq!(module("%").inline_bytes(), None);
    }
}
