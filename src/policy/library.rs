//! [`Library`]: which policy has which name. It compiles modules, swaps them under traffic, keeps the last good
//! one, and says in notices and counters what failed. Enter at its [`Scheduler`] for traffic and at
//! [`Library::compile`] for configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use tokio::{sync::watch, time::Instant};

use crate::{
    policy::{
        By, Decision, Failure, ModuleError, PickRequest, Picking, Policy, PolicyKind, Scheduler,
        counters::{Counters, Outcome},
        health::Health,
        instance::Guests,
        place::{Asked, PLACES_MAX, Picked, Places, Quick},
        version::Version,
        wasm::{self, ABI, Engine, Environment, Log, Program, WasmPolicy},
    },
    route::{
        RouteName,
        notice::{self, Notice},
    },
};

pub use crate::policy::version::{Info, OnFailure};

/// The default policy until [`Library::set_default`] says otherwise, as in kube-proxy's IPVS mode.
const DEFAULT: &str = "rr";

/// Bytes of `spec.config`: more than any sensible text, and guests read it byte by byte.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Programs kept although no policy uses them now, so that going back to an earlier module is instant. About half are
/// the built-in ones.
const PROGRAMS_MAX: usize = 32;

/// One notice about failures per policy and route, and some about logs per policy, in so long.
const NOTICE_INTERVAL: Duration = Duration::from_secs(10);
const LOGS_PER_INTERVAL: u64 = 10;

/// Policy and route pairs whose last failure notice is remembered.
const NOTICED_MAX: usize = 4096;

/// The policies of one kind in a process, and the instances of schedulers.
pub struct Library {
    kind: PolicyKind,
    engine: Arc<Engine>,
    notices: notice::Sender,
    names: RwLock<Names>,
    /// How often the names have changed.
    changes: AtomicU64,
    next_version: AtomicU64,
    places: Places,
    guests: Guests,
    /// Compiled code by digest, with the version that used it last.
    programs: Mutex<BTreeMap<String, (u64, Arc<Program>)>>,
    /// When a failure of a policy at a route was last told.
    noticed: Mutex<BTreeMap<(Arc<str>, RouteName), Instant>>,
    /// Told when a policy is taken out of use somewhere, and when it is back.
    health: watch::Sender<()>,
}

struct Names {
    versions: BTreeMap<Arc<str>, Arc<Version>>,
    /// Of names that are loaded or were tried.
    counters: BTreeMap<Arc<str>, Arc<Counters>>,
    /// Names without a version whose connections are reset.
    rejected: BTreeSet<Arc<str>>,
    default: Arc<str>,
}

/// What a name stands for.
pub(super) enum Found {
    Loaded(Arc<Version>),
    /// None is loaded, and connections are reset.
    Rejected,
    /// None is loaded.
    Missing,
}

/// Where a policy's code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A built-in policy by name.
    Builtin(String),
    /// A core module or a component, binary or text.
    Module(Vec<u8>),
}

/// What became of a compilation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `sha256:` of the module.
    pub digest: String,
    /// The ABI that it uses, `snowglobe:policy@0.1.0`.
    pub abi: String,
    /// A component, else a core module.
    pub component: bool,
    /// Time to compile and check, without the trial run; next to nothing for code seen before.
    pub compile_ms: f64,
}

impl Library {
    /// An empty library, whose default is `rr` once [`Self::load_builtins`] has loaded that.
    /// Compiled code is kept in the directory, if there is one.
    pub fn new(
        notices: notice::Sender,
        compiled: Option<PathBuf>,
    ) -> Result<Arc<Self>, ModuleError> {
        let engine = Engine::new(compiled)?;
        Ok(Self::bounded(engine, notices, Places::new(PLACES_MAX), Guests::default()))
    }

    /// An empty library of topology policies beside one of schedulers.
    pub fn for_topologies(&self) -> Arc<Self> {
        let (places, guests) = (Places::new(PLACES_MAX), Guests::default());
        let engine = Arc::clone(&self.engine);
        let own = Self::with(PolicyKind::Topology, engine, self.notices.clone(), places, guests);
        Arc::new(Self { health: self.health.clone(), ..own })
    }

    fn bounded(
        engine: Arc<Engine>,
        notices: notice::Sender,
        places: Places,
        guests: Guests,
    ) -> Arc<Self> {
        Arc::new(Self::with(PolicyKind::LoadBalancer, engine, notices, places, guests))
    }

    fn with(
        kind: PolicyKind,
        engine: Arc<Engine>,
        notices: notice::Sender,
        places: Places,
        guests: Guests,
    ) -> Self {
        Self {
            kind,
            engine,
            notices,
            names: RwLock::new(Names {
                versions: BTreeMap::new(),
                counters: BTreeMap::new(),
                rejected: BTreeSet::new(),
                default: Arc::from(DEFAULT),
            }),
            changes: AtomicU64::default(),
            next_version: AtomicU64::default(),
            places,
            guests,
            programs: Mutex::default(),
            noticed: Mutex::default(),
            health: watch::Sender::new(()),
        }
    }

    /// The kind of its policies.
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Loads the built-in policies under their own names. Compiles none; see [`Engine::builtin_program`].
    pub fn load_builtins(&self) {
        for name in Engine::builtins_of(self.kind) {
            self.load_builtin(name);
        }
    }

    /// Loads a policy under a name, which takes up to seconds: not for an async task. On success, picks change over
    /// at once and none fails; on refusal, what was active under that name stays. Loading what is already active
    /// changes nothing. Of two loads of one name at a time, the one that began later wins.
    pub fn compile(
        &self,
        name: &str,
        source: Source,
        config: String,
        on_failure: OnFailure,
    ) -> Result<Report, ModuleError> {
        let number = self.next_version.fetch_add(1, Ordering::Relaxed);
        if config.len() > CONFIG_BYTES_MAX {
            let length = config.len();
            return Err(ModuleError(format!(
                "{length} bytes of config, more than {CONFIG_BYTES_MAX}"
            )));
        }
        let started = Instant::now();
        let program = self.program(source, number)?;
        // Nobody waits for a built-in one that nobody uses to be compiled.
        let is_active = self.is_active(name, &program, &config, on_failure);
        if !is_active {
            program.finish(&self.engine)?;
        }
        let compile_ms = started.elapsed().as_secs_f64() * 1000.0;
        let report = Report {
            digest: program.digest().to_owned(),
            abi: ABI.to_owned(),
            component: program.is_component(),
            compile_ms,
        };
        if is_active {
            return Ok(report);
        }
        let name = Arc::from(name);
        let policy = self.policy(&name, program, config);
        policy.try_out()?;
        self.publish(&name, number, policy, on_failure);
        Ok(report)
    }

    fn is_active(
        &self,
        name: &str,
        program: &Program,
        config: &str,
        on_failure: OnFailure,
    ) -> bool {
        let names = self.names.read();
        names.versions.get(name).is_some_and(|version| version.is(program, config, on_failure))
    }

    /// Notes that a policy could not be loaded. Where none of that name is active, `Reject` resets its connections.
    pub fn refuse(&self, name: &str, on_failure: OnFailure) {
        self.counters(&Arc::from(name)).refusals.fetch_add(1, Ordering::Relaxed);
        let mut names = self.change_names();
        if on_failure == OnFailure::Reject && !names.versions.contains_key(name) {
            names.rejected.insert(Arc::from(name));
        } else {
            names.rejected.remove(name);
        }
    }

    /// Unloads a policy; routes that name it get the fallback. The name of a built-in policy gets that back.
    pub fn remove(&self, name: &str) {
        let removed = {
            let mut names = self.change_names();
            names.rejected.remove(name);
            names.counters.remove(name);
            names.versions.remove(name)
        };
        if removed.is_none() {
            return;
        }
        self.places.release(|version| &*version.name == name);
        if self.is_builtin(name) {
            self.load_builtin(name);
        }
    }

    /// Which policy serves routes that name none. It need not be loaded (yet): until it is, the fallback serves.
    pub fn set_default(&self, name: &str) {
        // What was looked up before stays.
        if *self.names.read().default != *name {
            self.change_names().default = Arc::from(name);
        }
    }

    /// Whether a policy of that name is loaded.
    pub fn is_loaded(&self, name: &str) -> bool {
        self.names.read().versions.contains_key(name)
    }

    /// All loaded policies, by name.
    pub fn list(&self) -> Vec<Info> {
        let versions = self.names.read().versions.values().cloned().collect::<Vec<_>>();
        versions.iter().map(|version| version.info()).collect()
    }

    /// The policies that failed so often that they are out of use somewhere, with the last failure of each.
    pub fn out_of_use(&self) -> BTreeMap<String, String> {
        let names = self.names.read();
        let ill = names.versions.values().filter(|version| version.health.is_out_of_use());
        ill.map(|version| {
            (version.name.to_string(), version.counters.last_failure().unwrap_or_default())
        })
        .collect()
    }

    /// Hears of every change of [`Self::out_of_use`], and of that of the library of the other kind.
    pub fn health(&self) -> watch::Receiver<()> {
        self.health.subscribe()
    }

    /// A policy for the load-balancing lab: the same code and configuration as under live traffic, with another
    /// clock and random numbers, and without logs.
    pub fn simulated(
        &self,
        name: &str,
        clock: Arc<AtomicU64>,
        seed: u64,
    ) -> Option<Arc<dyn Policy>> {
        let version = self.names.read().versions.get(name).cloned()?;
        let environment = Environment::Simulated { clock, seed };
        Some(Arc::new(version.policy.in_environment(environment, Arc::new(|_, _| ()))))
    }

    /// What a name stands for now.
    pub(super) fn find(&self, name: &str) -> Found {
        let names = self.names.read();
        match names.versions.get(name) {
            Some(version) => Found::Loaded(Arc::clone(version)),
            None if names.rejected.contains(name) => Found::Rejected,
            None => Found::Missing,
        }
    }

    /// How often names have changed: as long as that stays, each stands for the same.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Counts that a topology policy was asked for the scores of a place.
    pub(super) fn scored(&self, version: &Version, fell_back: bool) {
        let outcome = if fell_back { Outcome::FellBack } else { Outcome::Chosen };
        version.counters.picked_later(outcome);
    }

    async fn pick_later(&self, request: PickRequest<'_>, failed: Option<Failure>) -> Decision {
        let route = &request.seat.key().route;
        let (version, names) = {
            let names = self.names.read();
            let name = request.policy.unwrap_or(&names.default);
            if names.rejected.contains(name) {
                return Decision::new(None, By::Policy);
            }
            (names.versions.get(name).cloned(), self.changes.load(Ordering::Acquire))
        };
        if let (None, Some(policy)) = (&version, request.policy) {
            self.missed(policy, route);
        }
        let place = self.places.find_or_make(request.seat, &self.guests);
        let asked = Asked { policy: request.policy, names };
        let guests = &self.guests;
        let picked = place.pick(version.as_ref(), request.for_guest(), asked, guests, failed).await;
        let Some(version) = version else { return Decision::new(picked.index, By::Fallback) };
        version.counters.picked_later(match &picked {
            Picked { abstained: true, .. } => Outcome::Abstained,
            Picked { fell_back: true, .. } => Outcome::FellBack,
            _ => Outcome::Chosen,
        });
        if let Some(failure) = &picked.failure {
            self.failed(&version, route, failure);
        }
        decided(version, picked.index, picked.fell_back, picked.took)
    }

    /// What was looked up before is looked up anew.
    fn change_names(&self) -> RwLockWriteGuard<'_, Names> {
        let names = self.names.write();
        self.changes.fetch_add(1, Ordering::Release);
        names
    }

    fn load_builtin(&self, name: &str) {
        let number = self.next_version.fetch_add(1, Ordering::Relaxed);
        match self.program(Source::Builtin(name.to_owned()), number) {
            Ok(program) => {
                let name = Arc::from(name);
                let policy = self.policy(&name, program, String::new());
                self.publish(&name, number, policy, OnFailure::Fallback);
            }
            Err(ModuleError(reason)) => {
                tracing::error!(policy = name, reason, "built-in policy does not load");
            }
        }
    }

    fn policy(&self, name: &Arc<str>, program: Arc<Program>, config: String) -> WasmPolicy {
        let policy = WasmPolicy::new(&self.engine, program, Arc::from(config), self.log(name));
        policy.counted_in(Arc::clone(&self.counters(name).usage))
    }

    fn counters(&self, name: &Arc<str>) -> Arc<Counters> {
        Arc::clone(self.names.write().counters.entry(Arc::clone(name)).or_default())
    }

    fn program(&self, source: Source, number: u64) -> Result<Arc<Program>, ModuleError> {
        let program = match source {
            Source::Builtin(name) => Engine::builtin_program_of(self.kind, &name)?,
            Source::Module(bytes) => {
                let key = wasm::digest(&bytes);
                match self.kept_program(&key, number) {
                    Some(program) => return Ok(program),
                    None => self.engine.compile_for(self.kind, &bytes)?,
                }
            }
        };
        let key = program.digest().to_owned();
        if let Some(program) = self.kept_program(&key, number) {
            return Ok(program);
        }
        let program = Arc::new(program);
        let mut programs = self.programs.lock();
        programs.insert(key, (number, Arc::clone(&program)));
        if programs.len() > PROGRAMS_MAX {
            let oldest = programs.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                programs.remove(&key);
            }
        }
        Ok(program)
    }

    fn kept_program(&self, digest: &str, number: u64) -> Option<Arc<Program>> {
        let mut programs = self.programs.lock();
        let (used, program) = programs.get_mut(digest)?;
        *used = number;
        Some(Arc::clone(program))
    }

    /// Makes a version the active one of its name. A place changes over at its next pick.
    fn publish(&self, name: &Arc<str>, number: u64, policy: WasmPolicy, on_failure: OnFailure) {
        let mut names = self.change_names();
        let counters = Arc::clone(names.counters.entry(Arc::clone(name)).or_default());
        let before = names.versions.get(name);
        if before.is_some_and(|before| {
            before.number > number || before.is(policy.program(), policy.config(), on_failure)
        }) {
            return;
        }
        if before.is_some() {
            counters.reloads.fetch_add(1, Ordering::Relaxed);
        }
        let version = Version {
            name: Arc::clone(name),
            number,
            last_good: before.and_then(|before| before.good_besides(&policy)),
            counters,
            policy: Arc::new(policy),
            on_failure,
            failed: AtomicBool::new(false),
            health: Arc::new(Health::new(self.health.clone())),
        };
        names.versions.insert(Arc::clone(name), Arc::new(version));
        names.rejected.remove(name);
        // The version before may have been out of use.
        self.health.send_replace(());
    }

    /// Counts and tells that a policy failed.
    pub(super) fn failed(&self, version: &Version, route: &RouteName, failure: &Failure) {
        version.failed.store(true, Ordering::Relaxed);
        version.counters.failed(failure);
        if !self.is_news(&version.name, route) {
            return;
        }
        let (policy, reason) = (version.name.to_string(), failure.reason.clone());
        let notice = Notice::PolicyFailed { kind: self.kind, policy, route: route.clone(), reason };
        if self.notices.try_send(notice).is_err() {
            tracing::debug!(policy = &*version.name, "a notice of a failed policy is dropped");
        }
    }

    /// Tells that a route names a policy that is not loaded.
    pub(super) fn missed(&self, policy: &str, route: &RouteName) {
        // A built-in one is about to be there.
        if self.is_builtin(policy) || !self.is_news(&Arc::from(policy), route) {
            return;
        }
        let (kind, route) = (self.kind, route.clone());
        let notice = Notice::PolicyMissing { kind, policy: policy.to_owned(), route };
        if self.notices.try_send(notice).is_err() {
            tracing::debug!(policy, "a notice of a missing policy is dropped");
        }
    }

    fn is_builtin(&self, name: &str) -> bool {
        Engine::builtins_of(self.kind).any(|builtin| builtin == name)
    }

    /// Whether nothing was told of this policy and route for a while.
    fn is_news(&self, policy: &Arc<str>, route: &RouteName) -> bool {
        let now = Instant::now();
        let mut noticed = self.noticed.lock();
        let key = (Arc::clone(policy), route.clone());
        if noticed.get(&key).is_some_and(|at| now.duration_since(*at) < NOTICE_INTERVAL) {
            return false;
        }
        if noticed.len() >= NOTICED_MAX {
            noticed.retain(|_, at| now.duration_since(*at) < NOTICE_INTERVAL);
        }
        let room = noticed.len() < NOTICED_MAX;
        if room {
            noticed.insert(key, now);
        }
        room
    }

    /// Turns `log` calls of a policy's guests into notices, a few per interval. Lock-free, since guests call it.
    fn log(&self, name: &Arc<str>) -> Log {
        let notices = self.notices.clone();
        let (kind, policy) = (self.kind, Arc::clone(name));
        let start = Instant::now();
        let (interval, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(move |code, value| {
            let now = start.elapsed().as_secs() / NOTICE_INTERVAL.as_secs();
            if interval.swap(now, Ordering::Relaxed) != now {
                sent.store(0, Ordering::Relaxed);
            }
            if sent.fetch_add(1, Ordering::Relaxed) < LOGS_PER_INTERVAL {
                let notice = Notice::PolicyLog { kind, policy: policy.to_string(), code, value };
                // A full channel drops it: it is advice.
                notices.try_send(notice).ok();
            }
        })
    }
}

impl Scheduler for Library {
    /// Guests are started and configured away from the caller's thread. The connection waits for that a tenth of a
    /// second at most, counted from its begin; then the version before picks, as long as the candidates are the same,
    /// else the fallback. A tokio runtime must be there.
    fn pick<'a>(&'a self, request: PickRequest<'a>) -> Picking<'a> {
        if request.candidates.is_empty() {
            return Picking::Now(Decision::new(None, By::Policy));
        }
        let names = self.changes.load(Ordering::Acquire);
        let asked = Asked { policy: request.policy, names };
        let place = self.places.found(request.seat);
        let quick = place.and_then(|place| place.pick_now(request.for_guest(), asked));
        match quick {
            Some(Quick::Picked { version, index, fell_back, took }) => {
                Picking::Now(decided(version, index, fell_back, took))
            }
            Some(Quick::Failed(failure)) => {
                Picking::Later(self.pick_later(request, Some(failure)).boxed())
            }
            None => Picking::Later(self.pick_later(request, None).boxed()),
        }
    }

    /// Drops the instances. A tokio runtime must be there.
    fn forget(&self, route: &RouteName) {
        let gone = self.places.forget(route);
        if !gone.is_empty() {
            self.guests.discard(gone.iter().map(|place| place.clear()).collect::<Vec<_>>());
        }
        self.noticed.lock().retain(|(_, noticed), _| noticed != route);
    }
}

fn decided(
    version: Arc<Version>,
    index: Option<usize>,
    fell_back: bool,
    took: Option<Duration>,
) -> Decision {
    if let Some(took) = took {
        version.counters.pick_times.observe(took);
    }
    let by = if fell_back { By::Fallback } else { By::Policy };
    Decision::of(version, index, by)
}

#[cfg(test)]
mod tests;
