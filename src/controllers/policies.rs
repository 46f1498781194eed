//! Loads what LoadBalancerPolicies name into the policy library, follows files and ConfigMaps, and writes what became of
//! it into their status. Also takes the cluster's default scheduler from the kube-proxy configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    model::{
        Object, ObjectKey, Status, kind,
        policy::{LoadBalancerPolicy, OnFailure as Wanted},
    },
    policy::library::{Library, OnFailure, Report, Source},
    registry::{Note, Part, Registry, View, WriteOptions},
};

/// How often files of `path` modules are looked at; nothing is while there are none.
const FILE_INTERVAL: Duration = Duration::from_millis(500);
/// A module file larger than this is refused unread.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
const COMPONENT: &str = "policy-controller";
/// The scheduler when nothing says otherwise, as kube-proxy's IPVS mode has it.
const DEFAULT: &str = "rr";

struct Policies {
    registry: Arc<Registry>,
    library: Arc<Library>,
    directory: PathBuf,
    /// What was last tried for each policy, so that only changes are compiled.
    tried: BTreeMap<String, Attempt>,
    /// The scheduler of the kube-proxy configuration that was said not to exist.
    unknown: Option<String>,
    /// The files of `path` modules as they were when last read.
    files: BTreeMap<PathBuf, Stamp>,
}

/// What tells that a file was written: its time and size; `None` while there is no such file.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Everything that a load depends on.
#[derive(Clone, PartialEq)]
struct Attempt {
    generation: i64,
    uid: String,
    source: Result<Source, String>,
}

/// Follows policies until cancelled. `directory` is what `path` modules are relative to.
pub async fn run(
    registry: Arc<Registry>,
    library: Arc<Library>,
    directory: PathBuf,
    token: CancellationToken,
) {
    let (tried, unknown, files) = (BTreeMap::new(), None, BTreeMap::new());
    let mut policies = Policies { registry, library, directory, tried, unknown, files };
    let kinds = [&kind::LOAD_BALANCER_POLICY, &kind::CONFIG_MAP];
    loop {
        let view = policies.registry.view();
        let mut changes = policies.registry.subscribe(&kinds, view.revision());
        policies.load_all(&view).await;
        loop {
            let look_at = Instant::now() + FILE_INTERVAL;
            let changed = tokio::select! {
                () = token.cancelled() => return,
                changed = changes.next() => changed.map(drop),
                () = tokio::time::sleep_until(look_at), if !policies.files.is_empty() => {
                    if !policies.files_changed() {
                        continue;
                    }
                    Ok(())
                }
            };
            if changed.is_err() {
                break;
            }
            let view = policies.registry.view();
            policies.load_all(&view).await;
        }
        if token.is_cancelled() {
            return;
        }
    }
}

impl Policies {
    fn files_changed(&self) -> bool {
        self.files.iter().any(|(path, before)| stamp(path) != *before)
    }

    async fn load_all(&mut self, view: &View) {
        // Before the files are read: one that is written meanwhile is read once more.
        let paths = all(view).filter_map(|(_, policy)| policy.spec.module.path);
        let paths = paths.map(|path| self.directory.join(path));
        self.files = paths.map(|path| (path.clone(), stamp(&path))).collect();
        let mut present = BTreeSet::new();
        for (object, policy) in all(view) {
            present.insert(object.key.name.clone());
            self.load(view, &object, &policy).await;
        }
        let gone: Vec<String> =
            self.tried.keys().filter(|name| !present.contains(*name)).cloned().collect();
        for name in gone {
            self.tried.remove(&name);
            self.library.remove(&name);
        }
        self.set_default(view).await;
    }

    async fn load(&mut self, view: &View, object: &Arc<Object>, policy: &LoadBalancerPolicy) {
        let name = object.key.name.clone();
        let source = self.source(view, policy);
        let attempt = Attempt {
            generation: object.metadata.generation,
            uid: object.metadata.uid.clone(),
            source: source.clone(),
        };
        if self.tried.get(&name) == Some(&attempt) {
            return;
        }
        self.tried.insert(name.clone(), attempt);
        let outcome = match source {
            Ok(source) => self.compile(name, source, policy).await,
            Err(reason) => Err(reason),
        };
        // Compilers draw pictures; conditions and Events are single lines.
        let one_line = |reason: String| reason.split_whitespace().collect::<Vec<_>>().join(" ");
        let outcome = outcome.map_err(one_line);
        if let Err(reason) = &outcome {
            self.library.refuse(&object.key.name, on_failure(policy));
            if !is_said(object, reason) {
                let note = Note {
                    about: object.key.clone(),
                    uid: object.metadata.uid.clone(),
                    warning: true,
                    reason: "ModuleRefused",
                    message: reason.clone(),
                };
                self.registry.record(COMPONENT, &note).await;
            }
        }
        if let Err(status) = self.write_status(object, policy, &outcome).await
            && status.code != 404
        {
            tracing::warn!(policy = %object.key.name, error = %status, "cannot write a policy's status");
        }
    }

    async fn compile(
        &self,
        name: String,
        source: Source,
        policy: &LoadBalancerPolicy,
    ) -> Result<Report, String> {
        let library = self.library.clone();
        let config = policy.spec.config.clone().unwrap_or_default();
        let on_failure = on_failure(policy);
        let compiled =
            tokio::task::spawn_blocking(move || library.compile(&name, source, config, on_failure));
        match compiled.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(_panicked) => Err("the compiler failed on this module".to_owned()),
        }
    }

    /// The module's bytes, or why they cannot be had.
    fn source(&self, view: &View, policy: &LoadBalancerPolicy) -> Result<Source, String> {
        let module = &policy.spec.module;
        if let Some(name) = &module.builtin {
            Ok(Source::Builtin(name.clone()))
        } else if let Some(path) = &module.path {
            read_file(&self.directory, path).map(Source::Module)
        } else if let Some(at) = &module.config_map {
            let key = ObjectKey::new(&kind::CONFIG_MAP, &at.namespace, &at.name);
            let map: ConfigMap = view.parse(&key).ok_or_else(|| format!("{key} does not exist"))?;
            let binary = map.binary_data.unwrap_or_default().remove(&at.key).map(|bytes| bytes.0);
            let text = map.data.unwrap_or_default().remove(&at.key).map(String::into_bytes);
            let bytes = binary.or(text);
            bytes.map(Source::Module).ok_or_else(|| format!("{key} has no key {:?}", at.key))
        } else {
            let bytes = module.inline_bytes().map(Source::Module);
            bytes.ok_or_else(|| "spec.module.inline is not base64".to_owned())
        }
    }

    async fn write_status(
        &self,
        object: &Object,
        policy: &LoadBalancerPolicy,
        outcome: &Result<Report, String>,
    ) -> Result<(), Status> {
        let instead = if self.library.is_loaded(&object.key.name) {
            "the module loaded before stays in use"
        } else if on_failure(policy) == OnFailure::Reject {
            "connections to Services that name it are reset"
        } else {
            "Services that name it use round robin"
        };
        let options = WriteOptions::default();
        let written = self.registry.modify(&object.key, Part::Status, &options, |current| {
            if current.metadata.uid != object.metadata.uid {
                return Err(Status::not_found(&object.key));
            }
            let mut document: Value =
                current.parse().map_err(|error| Status::internal(error.to_string()))?;
            let old: Option<Condition> =
                serde_json::from_value(document["status"]["conditions"][0].clone()).ok();
            let condition = ready_condition(old, object.metadata.generation, outcome, instead);
            document["status"]["conditions"] = json!([condition]);
            document["status"]["observedGeneration"] = object.metadata.generation.into();
            if let Ok(report) = outcome {
                document["status"]["digest"] = report.digest.as_str().into();
                document["status"]["abi"] = report.abi.as_str().into();
                document["status"]["compileMs"] = report.compile_ms.into();
            }
            Ok(document)
        });
        written.await.map(drop)
    }

    /// `mode: ipvs` names its scheduler, `iptables` and `nftables` pick at random, no mode is round robin.
    async fn set_default(&mut self, view: &View) {
        let key = ObjectKey::new(&kind::CONFIG_MAP, "kube-system", "kube-proxy");
        let map: Option<ConfigMap> = view.parse(&key);
        let text = map.and_then(|map| map.data?.remove("config.conf")).unwrap_or_default();
        let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
        let word = |value: &serde_yaml::Value| value.as_str().unwrap_or_default().to_owned();
        let wanted = match word(&config["mode"]).as_str() {
            "ipvs" => word(&config["ipvs"]["scheduler"]),
            "iptables" | "nftables" => "random".to_owned(),
            _ => String::new(),
        };
        let wanted = if wanted.is_empty() { DEFAULT } else { wanted.as_str() };
        if self.library.is_loaded(wanted) {
            self.library.set_default(wanted);
            self.unknown = None;
            return;
        }
        self.library.set_default(DEFAULT);
        if self.unknown.as_deref() == Some(wanted) {
            return;
        }
        self.unknown = Some(wanted.to_owned());
        let uid = view.get(&key).map(|object| object.metadata.uid.clone()).unwrap_or_default();
        let message = format!("there is no scheduler {wanted:?}; {DEFAULT} is used");
        let note = Note { about: key, uid, warning: true, reason: "UnknownScheduler", message };
        self.registry.record(COMPONENT, &note).await;
    }
}

/// Whether the status says so already: after a restart, an old refusal is no news.
fn is_said(object: &Object, reason: &str) -> bool {
    let status: Option<Value> = object.parse().ok();
    let condition = status.as_ref().and_then(|all| all.pointer("/status/conditions/0"));
    condition.is_some_and(|condition| {
        condition["status"] == "False"
            && condition["observedGeneration"] == object.metadata.generation
            && condition["message"].as_str().is_some_and(|message| message.starts_with(reason))
    })
}

fn on_failure(policy: &LoadBalancerPolicy) -> OnFailure {
    match policy.spec.on_failure() {
        Wanted::Fallback => OnFailure::Fallback,
        Wanted::Reject => OnFailure::Reject,
        Wanted::LastGood => OnFailure::LastGood,
    }
}

fn all(view: &View) -> impl Iterator<Item = (Arc<Object>, LoadBalancerPolicy)> {
    view.list(&kind::LOAD_BALANCER_POLICY, None)
        .filter(|object| !object.is_terminating())
        .filter_map(|object| Some((object.clone(), object.parse().ok()?)))
}

fn read_file(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    let path = directory.join(path);
    let fault = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = std::fs::metadata(&path).map_err(fault)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{} has {size} bytes; the limit is {FILE_BYTES_MAX}", path.display()));
    }
    std::fs::read(&path).map_err(fault)
}

fn ready_condition(
    old: Option<Condition>,
    generation: i64,
    outcome: &Result<Report, String>,
    instead: &str,
) -> Condition {
    let (status, reason, message) = match outcome {
        Ok(_) => ("True", "Loaded", "the module is in use".to_owned()),
        Err(why) => ("False", "Refused", format!("{why}; {instead}")),
    };
    let since = old
        .filter(|old| old.status == status)
        .map_or_else(|| Time(Timestamp::now()), |old| old.last_transition_time);
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}
