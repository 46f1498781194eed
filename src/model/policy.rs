//! Our own kind: LoadBalancerPolicy, a scheduler and where its code comes from.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde::{Deserialize, Serialize};

/// `snowglobe.dev/v1alpha1` LoadBalancerPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerPolicy {
    /// `snowglobe.dev/v1alpha1`.
    pub api_version: String,
    /// `LoadBalancerPolicy`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: LoadBalancerPolicySpec,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<LoadBalancerPolicyStatus>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerPolicySpec {
    /// The code.
    pub module: ModuleSource,
    /// Given to the module as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What happens to a connection for which the module fails.
    pub on_failure: OnFailure,
}

/// Where a module comes from: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModuleSource {
    /// A module that comes with the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// A file below the data directory's `policies/`, watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// The module itself, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
}

/// One key of one ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigMapKey {
    /// The ConfigMap's namespace.
    pub namespace: String,
    /// The ConfigMap's name.
    pub name: String,
    /// The key in `binaryData` (or `data`, for text).
    pub key: String,
}

/// The one source that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module<'a> {
    /// [`ModuleSource::builtin`].
    Builtin(&'a str),
    /// [`ModuleSource::path`].
    Path(&'a str),
    /// [`ModuleSource::config_map`].
    ConfigMap(&'a ConfigMapKey),
    /// [`ModuleSource::inline`].
    Inline(&'a str),
}

/// What happens to a connection for which the module fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// Native round robin picks.
    #[default]
    Fallback,
    /// The connection is reset.
    Reject,
    /// The module that was loaded before picks, else round robin.
    LastGood,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerPolicyStatus {
    /// `Ready`, with the reason why a module was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Of the module in use, `sha256:...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The ABI that the module uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<String>,
    /// How long compiling took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<f64>,
    /// The generation that the rest is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl ModuleSource {
    /// The one source that is set; the error is a sentence for people.
    pub fn choice(&self) -> Result<Module<'_>, String> {
        let mut set = [
            self.builtin.as_deref().map(Module::Builtin),
            self.path.as_deref().map(Module::Path),
            self.config_map.as_ref().map(Module::ConfigMap),
            self.inline.as_deref().map(Module::Inline),
        ]
        .into_iter()
        .flatten();
        match (set.next(), set.next()) {
            (Some(module), None) => Ok(module),
            _ => Err("exactly one of builtin, path, configMap, inline must be set".to_owned()),
        }
    }
}
