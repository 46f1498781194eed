//! Loads what LoadBalancerPolicies and TopologyPolicies name into their libraries, follows files and ConfigMaps, and has
//! what became of it written into their `status`.
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
        Kind, Object, ObjectKey, kind,
        policy::{OnFailure as Wanted, Policy},
    },
    policy::{
        PolicyKind,
        library::{Library, OnFailure, Report, Source},
    },
    registry::{Registry, View},
};

/// How often files of `path` modules are looked at; nothing is while there are none.
const FILE_INTERVAL: Duration = Duration::from_millis(500);
/// Modules loaded at one time: a slow one delays no other, and compilers do not take the machine over.
const LOADS_MAX: usize = 4;
const COMPONENT: &str = "policy-controller";

/// The kinds of policies.
const KINDS: [(&Kind, PolicyKind); 2] = [
    (&kind::LOAD_BALANCER_POLICY, PolicyKind::LoadBalancer),
    (&kind::TOPOLOGY_POLICY, PolicyKind::Topology),
];

struct Policies {
    registry: Arc<Registry>,
    libraries: Libraries,
    directory: Arc<Directory>,
    /// What was last tried for each policy, so that only changes are loaded.
    tried: BTreeMap<ObjectKey, Attempt>,
    /// Policies whose file has changed since.
    changed: BTreeSet<ObjectKey>,
    /// Policies that are being loaded or removed.
    busy: BTreeSet<ObjectKey>,
    /// Statuses that are being written.
    saying: BTreeMap<ObjectKey, AbortHandle>,
    /// Policies of which it was said last that they are out of use somewhere.
    out_of_use: BTreeSet<ObjectKey>,
    /// The files are being looked at.
    looking: bool,
    work: JoinSet<Done>,
    permits: Arc<Semaphore>,
}

/// The schedulers, and the topology policies.
struct Libraries([Arc<Library>; 2]);

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
    Tried { attempt: Attempt, statement: Statement },
    Removed(ObjectKey),
    Looked(BTreeMap<ObjectKey, Seen>),
    Said,
}

/// Follows policies until cancelled. The libraries are that of schedulers and that of topology policies; `directory` is what
/// `path` modules are relative to.
pub async fn run(
    registry: Arc<Registry>,
    libraries: [Arc<Library>; 2],
    directory: PathBuf,
    token: CancellationToken,
) {
    // First, since an object may take the place of one of them.
    libraries.iter().for_each(|library| library.load_builtins());
    let mut health = libraries[0].health();
    let mut policies = Policies::new(registry, Libraries(libraries), directory);
    let kinds = [&kind::LOAD_BALANCER_POLICY, &kind::TOPOLOGY_POLICY, &kind::CONFIG_MAP];
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
    fn new(registry: Arc<Registry>, libraries: Libraries, directory: PathBuf) -> Self {
        Self {
            registry,
            libraries,
            directory: Arc::new(Directory::new(directory)),
            tried: BTreeMap::new(),
            changed: BTreeSet::new(),
            busy: BTreeSet::new(),
            saying: BTreeMap::new(),
            out_of_use: BTreeSet::new(),
            looking: false,
            work: JoinSet::new(),
            permits: Arc::new(Semaphore::new(LOADS_MAX)),
        }
    }

    fn has_files(&self) -> bool {
        !self.looking && self.tried.values().any(|attempt| attempt.file.is_some())
    }

    /// Begins what is to do now.
    fn follow(&mut self, view: &View) {
        let mut present = BTreeSet::new();
        for (object, policy) in all(view) {
            let key = &object.key;
            present.insert(key.clone());
            let attempt = Attempt::of(view, &object, &policy);
            let is_tried = self.tried.get(key).is_some_and(|tried| tried.is_like(&attempt));
            let is_current = is_tried && !self.changed.contains(key);
            if !is_current && self.busy.insert(key.clone()) {
                self.changed.remove(key);
                self.load(view, object, policy, attempt);
            }
        }
        let is_gone = |key: &&ObjectKey| !present.contains(*key) && !self.busy.contains(*key);
        let gone: Vec<ObjectKey> = self.tried.keys().filter(is_gone).cloned().collect();
        for key in gone {
            self.remove(key);
        }
    }

    fn load(&mut self, view: &View, object: Arc<Object>, policy: Policy, mut attempt: Attempt) {
        let library = Arc::clone(self.libraries.of(&object.key));
        let directory = Arc::clone(&self.directory);
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
            Done::Tried { attempt, statement: Statement { object, on_failure, outcome } }
        });
    }

    fn remove(&mut self, key: ObjectKey) {
        if let Some(saying) = self.saying.remove(&key) {
            saying.abort();
        }
        self.busy.insert(key.clone());
        let library = Arc::clone(self.libraries.of(&key));
        self.work.spawn_blocking(move || {
            library.remove(&key.name);
            Done::Removed(key)
        });
    }

    /// Looks at the files of all `path` modules.
    fn look(&mut self) {
        let view = self.registry.view();
        let paths: Vec<_> = all(&view)
            .filter_map(|(object, policy)| Some((object.key.clone(), policy.spec.module.path?)))
            .collect();
        let directory = Arc::clone(&self.directory);
        self.looking = true;
        self.work.spawn_blocking(move || {
            let look = |(key, path): (ObjectKey, String)| (key, directory.look(&path));
            Done::Looked(paths.into_iter().map(look).collect())
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Tried { attempt, statement } => {
                let key = statement.object.key.clone();
                self.busy.remove(&key);
                self.tried.insert(key.clone(), attempt);
                let registry = Arc::clone(&self.registry);
                let library = Arc::clone(self.libraries.of(&key));
                let saying = self.work.spawn(async move {
                    statement.say(registry, library).await;
                    Done::Said
                });
                if let Some(outdated) = self.saying.insert(key, saying) {
                    outdated.abort();
                }
            }
            Done::Removed(key) => {
                self.busy.remove(&key);
                self.changed.remove(&key);
                self.tried.remove(&key);
            }
            Done::Looked(files) => {
                self.looking = false;
                let changed = files.into_iter().filter(|(key, now)| {
                    let tried = self.tried.get(key).and_then(|attempt| attempt.file.as_ref());
                    tried.is_some_and(|tried| tried != now)
                });
                self.changed.extend(changed.map(|(key, _)| key));
            }
            Done::Said => self.saying.retain(|_, saying| !saying.is_finished()),
        }
    }

    /// Says whose health is another than was said last. The libraries are part of this process and never close.
    fn say_health(&mut self) {
        let now = self.libraries.out_of_use();
        for policy in now.symmetric_difference(&self.out_of_use) {
            let library = Arc::clone(self.libraries.of(policy));
            let (registry, policy) = (Arc::clone(&self.registry), policy.clone());
            self.work.spawn(async move {
                health::say(registry, library, policy).await;
                Done::Said
            });
        }
        self.out_of_use = now;
    }
}

impl Libraries {
    /// The one that a policy is in.
    fn of(&self, policy: &ObjectKey) -> &Arc<Library> {
        let kind = KINDS.iter().find(|(kind, _)| **kind == policy.kind);
        self.of_kind(kind.map_or(PolicyKind::LoadBalancer, |(_, kind)| *kind))
    }

    /// The policies that are out of use somewhere.
    fn out_of_use(&self) -> BTreeSet<ObjectKey> {
        let of_kind = |(kind, policy_kind): (&'static Kind, PolicyKind)| {
            let names = self.of_kind(policy_kind).out_of_use().into_keys();
            names.map(move |name| ObjectKey::cluster(kind, name))
        };
        KINDS.into_iter().flat_map(of_kind).collect()
    }

    fn of_kind(&self, kind: PolicyKind) -> &Arc<Library> {
        let Self([schedulers, topologies]) = self;
        match kind {
            PolicyKind::LoadBalancer => schedulers,
            PolicyKind::Topology => topologies,
        }
    }
}

impl Attempt {
    fn of(view: &View, object: &Object, policy: &Policy) -> Self {
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
    policy: Policy,
) -> Result<Report, String> {
    let source = source(directory, view, &policy)?;
    let on_failure = on_failure(&policy);
    let config = policy.spec.config.unwrap_or_default();
    library.compile(name, source, config, on_failure).map_err(|refusal| refusal.to_string())
}

/// The module's bytes, or why they cannot be had.
fn source(directory: &Directory, view: &View, policy: &Policy) -> Result<Source, String> {
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

fn on_failure(policy: &Policy) -> OnFailure {
    match policy.spec.on_failure() {
        Wanted::Fallback => OnFailure::Fallback,
        Wanted::Reject => OnFailure::Reject,
        Wanted::LastGood => OnFailure::LastGood,
    }
}

fn all(view: &View) -> impl Iterator<Item = (Arc<Object>, Policy)> {
    KINDS
        .iter()
        .flat_map(|(kind, _)| view.list(kind, None))
        .filter(|object| !object.is_terminating())
        .filter_map(|object| Some((object.clone(), object.parse().ok()?)))
}
