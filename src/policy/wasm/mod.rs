//! Policies that are WASM modules. Knows wasmtime; everything else in the house sees [`Policy`] and [`Scorer`] only.
//!
//! Enter at [`Engine`], of which a process has one: [`Engine::compile`] turns a core module or a component into a
//! checked [`Program`], and a [`WasmPolicy`] is a program with its configuration. What guests see is in `abi` (and `wasi`),
//! what runs them in `guest` and `component`, what they take is in `meter` (`world` is what wasmtime makes of the WIT file);
//! `epochs` bounds them in time, `bounds` refuses what would take too long to compile, `cache` keeps compiled code on disk,
//! `builtin` has those that are part of the program.

mod abi;
mod bounds;
mod builtin;
mod cache;
mod compiled;
mod component;
mod epochs;
mod guest;
mod meter;
mod settings;
mod wasi;
mod world;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use wasmtime::{Module, Store, component::Component};

use self::{
    abi::Host,
    builtin::{BUILTINS, Builtin, TOPOLOGIES},
    cache::Cache,
    compiled::Compiled,
    epochs::Epochs,
    guest::{Code, Guest},
    meter::Meter,
};
use crate::{
    policy::{
        Candidate, Candidates, Failure, FailureKind, Flow, Load, ModuleError, Picker, Policy,
        PolicyKind, Scorer, UNKNOWN, identity,
    },
    route::Protocol,
};

pub(super) use self::epochs::time;
pub use self::{
    abi::{ABI, Environment, Log},
    meter::Usage,
};

/// A module's bytes. A component with a JavaScript or Python runtime in it has 10 to 40 MB, mostly data.
pub const MODULE_BYTES_MAX: usize = 64 << 20;

/// How a binary module begins: the magic number, then the version of the core or component format.
const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];

/// Compiles modules and bounds the time of guests. One per process; every guest keeps it alive.
pub struct Engine {
    engine: wasmtime::Engine,
    core: wasmtime::Linker<Host>,
    component: wasmtime::component::Linker<Host>,
    cache: Cache,
    epochs: Epochs,
    started: Instant,
}

/// A checked and compiled module, or a built-in one that will be.
pub struct Program {
    kind: PolicyKind,
    digest: String,
    code: OnceLock<Code>,
    /// How long that took to compile.
    compile_time: OnceLock<Duration>,
    /// What the code of a built-in one is made from.
    builtin: &'static [u8],
}

/// A program with its configuration and surroundings: a policy.
pub struct WasmPolicy {
    engine: Arc<Engine>,
    program: Arc<Program>,
    config: Arc<str>,
    environment: Environment,
    log: Log,
    usage: Arc<Usage>,
    /// Instances made, so that each has random numbers of its own in a simulation.
    instances: AtomicU64,
}

impl Engine {
    /// An engine with its clock, a thread that sleeps while nothing is called. Compiled code is kept in the directory, if
    /// there is one.
    pub fn new(compiled: Option<PathBuf>) -> Result<Arc<Self>, ModuleError> {
        let engine = wasmtime::Engine::new(&settings::config())?;
        let mut core = wasmtime::Linker::new(&engine);
        abi::add_to(&mut core)?;
        wasi::add_to(&mut core)?;
        let component = component::linker(&engine)?;
        let epochs = Epochs::start(engine.clone()).map_err(|error| {
            ModuleError(format!("the clock of the policies does not start: {error}"))
        })?;
        let cache = Cache::new(compiled, &engine);
        Ok(Arc::new(Self { engine, core, component, cache, epochs, started: Instant::now() }))
    }

    /// Names of the built-in schedulers, in order.
    pub fn builtins() -> impl Iterator<Item = &'static str> {
        Self::builtins_of(PolicyKind::LoadBalancer)
    }

    /// Names of the built-in policies of a kind, in order.
    pub fn builtins_of(kind: PolicyKind) -> impl Iterator<Item = &'static str> {
        of_kind(kind).iter().map(|builtin| builtin.name)
    }

    /// The text of the built-in scheduler of that name.
    pub fn builtin(name: &str) -> Result<&'static [u8], ModuleError> {
        Self::builtin_of(PolicyKind::LoadBalancer, name)
    }

    /// The text of the built-in policy of that kind and name.
    pub fn builtin_of(kind: PolicyKind, name: &str) -> Result<&'static [u8], ModuleError> {
        let builtin = of_kind(kind).iter().find(|builtin| builtin.name == name);
        builtin.map(|builtin| builtin.source).ok_or_else(|| {
            let known = Self::builtins_of(kind).collect::<Vec<_>>().join(", ");
            ModuleError(format!("there is no built-in policy `{name}`, only {known}"))
        })
    }

    /// A built-in scheduler. Most are used by nobody, and compiling all would take a tenth of a second of every start: one
    /// is compiled when its first instance starts.
    pub fn builtin_program(name: &str) -> Result<Program, ModuleError> {
        Self::builtin_program_of(PolicyKind::LoadBalancer, name)
    }

    /// A built-in policy of a kind, as [`Self::builtin_program`].
    pub fn builtin_program_of(kind: PolicyKind, name: &str) -> Result<Program, ModuleError> {
        let source = Self::builtin_of(kind, name)?;
        let (code, compile_time) = (OnceLock::new(), OnceLock::new());
        Ok(Program { kind, digest: digest(source), code, compile_time, builtin: source })
    }

    /// Compiles a scheduler: a core module or a component, binary or text. Checks its imports and exports. Takes up to
    /// seconds: not for an async task. Runs nothing of it; see [`WasmPolicy::try_out`].
    pub fn compile(&self, source: &[u8]) -> Result<Program, ModuleError> {
        self.compile_for(PolicyKind::LoadBalancer, source)
    }

    /// Compiles a policy of a kind, as [`Self::compile`].
    pub fn compile_for(&self, kind: PolicyKind, source: &[u8]) -> Result<Program, ModuleError> {
        self.compile_any(Some(kind), source)
    }

    /// Compiles a policy of the kind that its exports tell: a topology policy if there is `score` and no `pick`, else a
    /// scheduler.
    pub fn compile_as_exported(&self, source: &[u8]) -> Result<Program, ModuleError> {
        self.compile_any(None, source)
    }

    fn compile_any(&self, kind: Option<PolicyKind>, source: &[u8]) -> Result<Program, ModuleError> {
        if source.is_empty() {
            return Err(ModuleError("the module is empty".to_owned()));
        }
        if source.len() > MODULE_BYTES_MAX {
            let size = source.len();
            return Err(ModuleError(format!("{size} bytes, more than {MODULE_BYTES_MAX}")));
        }
        let (digest, started) = (digest(source), Instant::now());
        let (kind, code) = self.code(kind, source, &digest)?;
        let compile_time = OnceLock::from(started.elapsed());
        Ok(Program { kind, digest, code: OnceLock::from(code), compile_time, builtin: &[] })
    }

    /// Without a kind, that which its exports tell.
    fn code(
        &self,
        kind: Option<PolicyKind>,
        source: &[u8],
        digest: &str,
    ) -> Result<(PolicyKind, Code), ModuleError> {
        if is_component(source) {
            self.linked(source, digest, |component: &Component| {
                let types = component.component_type();
                let is_exported = |name: &str| types.get_export(&self.engine, name).is_some();
                let kind = kind.unwrap_or_else(|| abi::kind_by_exports(is_exported));
                Ok((kind, Code::Component(component::link(&self.component, component, kind)?)))
            })
        } else {
            self.linked(source, digest, |module: &Module| {
                let is_exported = |name: &str| module.get_export(name).is_some();
                let kind = kind.unwrap_or_else(|| abi::kind_by_exports(is_exported));
                Ok((kind, Code::Core(guest::link_core(&self.core, module, kind)?)))
            })
        }
    }

    /// From the cache, else compiled and put there if it can be linked.
    fn linked<T: Compiled>(
        &self,
        source: &[u8],
        digest: &str,
        link: impl Fn(&T) -> Result<(PolicyKind, Code), ModuleError>,
    ) -> Result<(PolicyKind, Code), ModuleError> {
        let found = self.cache.load(digest).map(|code| T::from_bytes(&self.engine, &code));
        if let Some(Ok(compiled)) = found {
            return link(&compiled);
        }
        let binary = wat::parse_bytes(source).map_err(|error| abi::refusal(&error.to_string()))?;
        bounds::check(&binary)?;
        let compiled = T::compile(&self.engine, &binary)?;
        let linked = link(&compiled)?;
        if self.cache.is_on() {
            self.cache.store(digest, &compiled.to_bytes()?);
        }
        Ok(linked)
    }

    fn wasmtime(&self) -> &wasmtime::Engine {
        &self.engine
    }

    fn guest_called(&self) {
        self.epochs.guest_called();
    }

    /// Opens the time of one call.
    fn enter(&self, store: &mut Store<Host>, ticks: u32) {
        self.epochs.guest_called();
        store.data_mut().enter(ticks);
        // At each tick the guest's budget is looked at, and never before the first: reading a clock costs as much as a
        // pick.
        store.set_epoch_deadline(1);
    }
}

fn of_kind(kind: PolicyKind) -> &'static [Builtin] {
    match kind {
        PolicyKind::LoadBalancer => BUILTINS,
        PolicyKind::Topology => TOPOLOGIES,
    }
}

/// SHA-256 of a module as it was given, `sha256:` and hexadecimal digits.
pub fn digest(source: &[u8]) -> String {
    let digits =
        Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{digits}")
}

/// Whether it is a component; a text is one if its first form is `(component`.
fn is_component(source: &[u8]) -> bool {
    if let Some(rest) = source.strip_prefix(MAGIC) {
        return !rest.starts_with(CORE_VERSION);
    }
    let Ok(mut text) = str::from_utf8(source) else { return false };
    loop {
        text = text.trim_start();
        if let Some(comment) = text.strip_prefix(";;") {
            text = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = text.strip_prefix("(;") {
            text = comment.split_once(";)").map_or("", |(_, rest)| rest);
        } else {
            return text.starts_with("(component");
        }
    }
}

impl Program {
    /// SHA-256 of the module.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How long it took to compile; `None` until then.
    pub fn compile_time(&self) -> Option<Duration> {
        self.compile_time.get().copied()
    }

    /// Of which kind of policy it is.
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// Whether it is a component, else a core module.
    pub fn is_component(&self) -> bool {
        matches!(self.code.get(), Some(Code::Component(_)))
    }

    /// Whether an instance may take seconds to start.
    pub fn starts_slowly(&self) -> bool {
        self.code.get().is_some_and(Code::has_runtime)
    }

    /// Compiles it if it is a built-in one that nobody has used yet. Takes milliseconds: not for an async task.
    pub fn finish(&self, engine: &Engine) -> Result<(), ModuleError> {
        self.code(engine).map(drop)
    }

    /// Of two that compile it at a time, one does so in vain.
    fn code(&self, engine: &Engine) -> Result<&Code, ModuleError> {
        if let Some(code) = self.code.get() {
            return Ok(code);
        }
        let started = Instant::now();
        let (_, code) = engine.code(Some(self.kind), self.builtin, &self.digest)?;
        self.compile_time.set(started.elapsed()).ok();
        Ok(self.code.get_or_init(|| code))
    }
}

impl WasmPolicy {
    /// A policy for live traffic.
    pub fn new(engine: &Arc<Engine>, program: Arc<Program>, config: Arc<str>, log: Log) -> Self {
        let environment = Environment::Live(engine.started);
        let (usage, instances) = (Arc::default(), AtomicU64::new(0));
        Self { engine: Arc::clone(engine), program, config, environment, log, usage, instances }
    }

    /// The same policy, whose guests count in `usage`.
    #[must_use]
    pub fn counted_in(self, usage: Arc<Usage>) -> Self {
        Self { usage, ..self }
    }

    /// The same policy elsewhere, for example in a simulation.
    pub fn in_environment(&self, environment: Environment, log: Log) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            program: Arc::clone(&self.program),
            config: Arc::clone(&self.config),
            environment,
            log,
            usage: Arc::default(),
            instances: AtomicU64::new(0),
        }
    }

    /// Its code.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What the guest reads as its configuration.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// How often the clock that bounds guests has ticked.
    pub fn ticks(&self) -> u64 {
        self.engine.epochs.ticks()
    }

    /// Runs a throw-away instance through a little life, so that a module that cannot work is refused before it
    /// sees traffic.
    pub fn try_out(&self) -> Result<(), ModuleError> {
        let logged = Arc::new(Mutex::new(None));
        let log: Log = {
            let logged = Arc::clone(&logged);
            Arc::new(move |code, value| *logged.lock() = Some((code, value)))
        };
        let policy = self.in_environment(self.environment.clone(), log);
        let trial = || -> Result<(), Failure> {
            match policy.program.kind {
                PolicyKind::LoadBalancer => try_picks(policy.instance()?),
                PolicyKind::Topology => try_scores(policy.scorer()?),
            }
        };
        trial().map_err(|Failure { reason, .. }| {
            let logged = logged
                .lock()
                .map(|(code, value)| format!("; the last it logged is code {code}, value {value}"));
            ModuleError(format!("failed when tried: {reason}{}", logged.unwrap_or_default()))
        })
    }
}

/// A connection for a trial.
pub(super) fn trial_flow(port: u16) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        source: (Ipv4Addr::LOCALHOST, port).into(),
        destination: (Ipv4Addr::LOCALHOST, 80).into(),
        client_zone: UNKNOWN,
        client_node: UNKNOWN,
    }
}

/// Endpoints for a trial.
pub(super) fn trial_candidates(count: u16) -> Candidates {
    (0..count)
        .map(|i| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080 + i));
            Candidate {
                address,
                zone: u32::from(i),
                node: u32::from(i),
                weight: 1,
                identity: identity(address),
                load: Arc::new(Load::default()),
            }
        })
        .collect()
}

/// How many endpoints there are, one time after the other, when a policy is tried.
const TRIAL: [(u64, u16); 2] = [(1, 3), (2, 1)];

fn try_picks(mut guest: Box<dyn Picker>) -> Result<(), Failure> {
    for (generation, count) in TRIAL {
        guest.configure(generation, &trial_candidates(count))?;
        for port in 40_000..40_003 {
            guest.pick(&trial_flow(port))?;
        }
    }
    Ok(())
}

/// From a place that is an endpoint's own, from another one, and from an unknown one.
fn try_scores(mut guest: Box<dyn Scorer>) -> Result<(), Failure> {
    for (generation, count) in TRIAL {
        guest.configure(generation, &trial_candidates(count))?;
        for (zone, node) in [(0, 0), (7, 7), (UNKNOWN, UNKNOWN)] {
            for index in 0..u32::from(count) {
                guest.score(zone, node, index)?;
            }
        }
    }
    Ok(())
}

impl Policy for WasmPolicy {
    fn instance(&self) -> Result<Box<dyn Picker>, Failure> {
        Ok(Box::new(self.guest()?))
    }
}

impl WasmPolicy {
    /// A new instance of a topology policy, with no memory. May take seconds: not for an async task.
    pub fn scorer(&self) -> Result<Box<dyn Scorer>, Failure> {
        Ok(Box::new(self.guest()?))
    }

    fn guest(&self) -> Result<Guest, Failure> {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        let environment = match &self.environment {
            Environment::Simulated { clock, seed } => {
                Environment::Simulated { clock: Arc::clone(clock), seed: seed.wrapping_add(number) }
            }
            live @ Environment::Live(_) => live.clone(),
        };
        let code = self.program.code(&self.engine);
        let code = code.map_err(|ModuleError(reason)| {
            Failure::new(FailureKind::Start, format!("start: {reason}"))
        })?;
        let (config, log) = (Arc::clone(&self.config), Arc::clone(&self.log));
        let meter = Meter::new(code.limits(), &self.usage);
        let host = Host::new(self.program.kind, config, environment, log, meter);
        Guest::start(&self.engine, code, host)
    }
}

#[cfg(test)]
mod tests;
