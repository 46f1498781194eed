//! Loads what LoadBalancerPolicies name into the policy library, follows files and ConfigMaps, and has what became of it
//! written into their `status`. Also takes the cluster's default scheduler from the kube-proxy configuration.
//!
//! Enter at [`run`]. Files are read and modules compiled away from the runtime's workers and side by side; each policy
//! has one load at a time, and none waits for another's status.

mod health;
mod module_file;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::ConfigMap;
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use self::{
    module_file::{Directory, Stamp},
    status::Statement,
};
use crate::{
    model::{
        Object, ObjectKey, kind,
        policy::{LoadBalancerPolicy, OnFailure as Wanted},
    },
    policy::library::{Library, OnFailure, Report, Source},
    registry::{Note, Registry, View},
};

/// How often files of `path` modules are looked at; nothing is while there are none.
const FILE_INTERVAL: Duration = Duration::from_millis(500);
/// Modules loaded at one time: a slow one delays no other, and compilers do not take the machine over.
const LOADS_MAX: usize = 4;
const COMPONENT: &str = "policy-controller";
/// The scheduler when nothing says otherwise, as kube-proxy's IPVS mode has it.
const DEFAULT: &str = "rr";

struct Policies {
    registry: Arc<Registry>,
    library: Arc<Library>,
    directory: Arc<Directory>,
    /// What was last tried for each policy, so that only changes are loaded.
    tried: BTreeMap<String, Attempt>,
    /// Policies whose file has changed since.
    changed: BTreeSet<String>,
    /// Policies that are being loaded or removed.
    busy: BTreeSet<String>,
    /// Statuses that are being written.
    saying: BTreeMap<String, AbortHandle>,
    /// Policies of which it was said last that they are out of use somewhere.
    out_of_use: BTreeSet<String>,
    /// The files are being looked at.
    looking: bool,
    work: JoinSet<Done>,
    permits: Arc<Semaphore>,
    /// The scheduler of the kube-proxy configuration that was said not to exist.
    unknown: Option<String>,
}

/// Everything that a load depends on.
#[derive(Clone, PartialEq)]
struct Attempt {
    uid: String,
    generation: i64,
    /// The revision of the ConfigMap that it names.
    config_map: Option<u64>,
    /// The file that it names, as it was before it was read.
    file: Option<Seen>,
}

/// A file, or why there is none.
type Seen = Result<Stamp, String>;

/// What a task was done with.
enum Done {
    Tried { name: String, attempt: Attempt, statement: Statement },
    Removed(String),
    Looked(BTreeMap<String, Seen>),
    Said,
}

/// Follows policies until cancelled. `directory` is what `path` modules are relative to.
pub async fn run(
    registry: Arc<Registry>,
    library: Arc<Library>,
    directory: PathBuf,
    token: CancellationToken,
) {
    // First, since a LoadBalancerPolicy may take the place of one of them.
    library.load_builtins();
    let mut health = library.health();
    let mut policies = Policies::new(registry, library, directory);
    let kinds = [&kind::LOAD_BALANCER_POLICY, &kind::CONFIG_MAP];
    let mut ticks = interval(FILE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !token.is_cancelled() {
        let view = policies.registry.view();
        let mut changes = policies.registry.subscribe(&kinds, view.revision());
        policies.follow(&view);
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                changed = changes.next() => if changed.is_err() { break },
                Some(done) = policies.work.join_next() => match done {
                    Ok(done) => policies.finish(done),
                    // The status that it wrote is out of date.
                    Err(error) if error.is_cancelled() => continue,
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                Ok(()) = health.changed() => {
                    policies.say_health();
                    continue;
                }
                _ = ticks.tick(), if policies.has_files() => {
                    policies.look();
                    continue;
                }
            }
            let view = policies.registry.view();
            policies.follow(&view);
        }
    }
}

impl Policies {
    fn new(registry: Arc<Registry>, library: Arc<Library>, directory: PathBuf) -> Self {
        Self {
            registry,
            library,
            directory: Arc::new(Directory::new(directory)),
            tried: BTreeMap::new(),
            changed: BTreeSet::new(),
            busy: BTreeSet::new(),
            saying: BTreeMap::new(),
            out_of_use: BTreeSet::new(),
            looking: false,
            work: JoinSet::new(),
            permits: Arc::new(Semaphore::new(LOADS_MAX)),
            unknown: None,
        }
    }

    fn has_files(&self) -> bool {
        !self.looking && self.tried.values().any(|attempt| attempt.file.is_some())
    }

    /// Begins what is to do now.
    fn follow(&mut self, view: &View) {
        let mut present = BTreeSet::new();
        for (object, policy) in all(view) {
            let name = &object.key.name;
            present.insert(name.clone());
            let attempt = Attempt::of(view, &object, &policy);
            let is_tried = self.tried.get(name).is_some_and(|tried| tried.is_like(&attempt));
            let is_current = is_tried && !self.changed.contains(name);
            if !is_current && self.busy.insert(name.clone()) {
                self.changed.remove(name);
                self.load(view, object, policy, attempt);
            }
        }
        let is_gone = |name: &&String| !present.contains(*name) && !self.busy.contains(*name);
        let gone: Vec<String> = self.tried.keys().filter(is_gone).cloned().collect();
        for name in gone {
            self.remove(name);
        }
        self.set_default(view);
    }

    fn load(
        &mut self,
        view: &View,
        object: Arc<Object>,
        policy: LoadBalancerPolicy,
        mut attempt: Attempt,
    ) {
        let (library, directory) = (Arc::clone(&self.library), Arc::clone(&self.directory));
        let (view, permits) = (view.clone(), Arc::clone(&self.permits));
        let name = object.key.name.clone();
        let on_failure = on_failure(&policy);
        self.work.spawn(async move {
            let permit = permits.acquire_owned().await;
            let loaded = tokio::task::spawn_blocking({
                let (library, name) = (Arc::clone(&library), name.clone());
                move || {
                    let _permit = permit;
                    // Before the file is read: one that is written meanwhile is read once more.
                    let path = policy.spec.module.path.as_deref();
                    let seen = path.map(|path| directory.look(path));
                    (seen, load(&library, &directory, &view, &name, policy))
                }
            });
            let (seen, outcome) = loaded.await.unwrap_or_else(|_panicked| {
                (None, Err("the compiler failed on this module".to_owned()))
            });
            attempt.file = seen;
            // Compilers draw pictures; conditions and Events are single lines.
            let one_line = |reason: String| reason.split_whitespace().collect::<Vec<_>>().join(" ");
            let outcome = outcome.map_err(one_line);
            if outcome.is_err() {
                library.refuse(&name, on_failure);
            }
            Done::Tried { name, attempt, statement: Statement { object, on_failure, outcome } }
        });
    }

    fn remove(&mut self, name: String) {
        if let Some(saying) = self.saying.remove(&name) {
            saying.abort();
        }
        self.busy.insert(name.clone());
        let library = Arc::clone(&self.library);
        self.work.spawn_blocking(move || {
            library.remove(&name);
            Done::Removed(name)
        });
    }

    /// Looks at the files of all `path` modules.
    fn look(&mut self) {
        let view = self.registry.view();
        let paths: Vec<_> = all(&view)
            .filter_map(|(object, policy)| {
                Some((object.key.name.clone(), policy.spec.module.path?))
            })
            .collect();
        let directory = Arc::clone(&self.directory);
        self.looking = true;
        self.work.spawn_blocking(move || {
            let look = |(name, path): (String, String)| (name, directory.look(&path));
            Done::Looked(paths.into_iter().map(look).collect())
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Tried { name, attempt, statement } => {
                self.busy.remove(&name);
                self.tried.insert(name.clone(), attempt);
                let (registry, library) = (Arc::clone(&self.registry), Arc::clone(&self.library));
                let saying = self.work.spawn(async move {
                    statement.say(registry, library).await;
                    Done::Said
                });
                if let Some(outdated) = self.saying.insert(name, saying) {
                    outdated.abort();
                }
            }
            Done::Removed(name) => {
                self.busy.remove(&name);
                self.changed.remove(&name);
                self.tried.remove(&name);
            }
            Done::Looked(files) => {
                self.looking = false;
                let changed = files.into_iter().filter(|(name, now)| {
                    let tried = self.tried.get(name).and_then(|attempt| attempt.file.as_ref());
                    tried.is_some_and(|tried| tried != now)
                });
                self.changed.extend(changed.map(|(name, _)| name));
            }
            Done::Said => self.saying.retain(|_, saying| !saying.is_finished()),
        }
    }

    /// Says whose health is another than was said last. The library is part of this process and never closes.
    fn say_health(&mut self) {
        let now: BTreeSet<String> = self.library.out_of_use().into_keys().collect();
        for name in now.symmetric_difference(&self.out_of_use) {
            let (registry, library) = (Arc::clone(&self.registry), Arc::clone(&self.library));
            let name = name.clone();
            self.work.spawn(async move {
                health::say(registry, library, name).await;
                Done::Said
            });
        }
        self.out_of_use = now;
    }

    /// `mode: ipvs` names its scheduler, `iptables` and `nftables` pick at random, no mode is round robin.
    fn set_default(&mut self, view: &View) {
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
        let registry = Arc::clone(&self.registry);
        self.work.spawn(async move {
            registry.record(COMPONENT, &note).await;
            Done::Said
        });
    }
}

impl Attempt {
    fn of(view: &View, object: &Object, policy: &LoadBalancerPolicy) -> Self {
        let config_map = policy.spec.module.config_map.as_ref().and_then(|at| {
            let key = ObjectKey::new(&kind::CONFIG_MAP, &at.namespace, &at.name);
            view.get(&key).map(|object| object.revision)
        });
        let (uid, generation) = (object.metadata.uid.clone(), object.metadata.generation);
        Self { uid, generation, config_map, file: None }
    }

    /// Whether both are the same but for the file.
    fn is_like(&self, other: &Self) -> bool {
        (&self.uid, self.generation, self.config_map)
            == (&other.uid, other.generation, other.config_map)
    }
}

/// Reads and compiles. Takes up to seconds.
fn load(
    library: &Library,
    directory: &Directory,
    view: &View,
    name: &str,
    policy: LoadBalancerPolicy,
) -> Result<Report, String> {
    let source = source(directory, view, &policy)?;
    let on_failure = on_failure(&policy);
    let config = policy.spec.config.unwrap_or_default();
    library.compile(name, source, config, on_failure).map_err(|refusal| refusal.to_string())
}

/// The module's bytes, or why they cannot be had.
fn source(
    directory: &Directory,
    view: &View,
    policy: &LoadBalancerPolicy,
) -> Result<Source, String> {
    let module = &policy.spec.module;
    if let Some(name) = &module.builtin {
        Ok(Source::Builtin(name.clone()))
    } else if let Some(path) = &module.path {
        directory.read(path).map(Source::Module)
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
