//! Policies that are WASM modules. Knows wasmtime; everything else in the house sees [`Policy`] only.
//!
//! Enter at [`Engine`], of which a process has one: [`Engine::compile`] turns a core module or a component into a
//! checked [`Program`], and a [`WasmPolicy`] is a program with its configuration. What guests see is in `abi` (and `wasi`),
//! what runs them in `guest` and `component` (`world` is what wasmtime makes of the WIT file); `epochs` bounds them in time,
//! `bounds` refuses what would take too long to compile, `cache` keeps compiled code on disk,
//! `builtin` has those that are part of the program.

mod abi;
mod bounds;
mod builtin;
mod cache;
mod compiled;
mod component;
mod epochs;
mod guest;
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
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use wasmtime::{Module, Store, component::Component};

use self::{
    abi::Host,
    builtin::BUILTINS,
    cache::Cache,
    compiled::Compiled,
    epochs::Epochs,
    guest::{Code, Guest},
};
use crate::{
    policy::{
        Candidate, Candidates, Failure, Flow, Load, ModuleError, Picker, Policy, UNKNOWN, identity,
    },
    route::Protocol,
};

pub use self::abi::{ABI, Environment, Log};

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
    digest: String,
    code: OnceLock<Code>,
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

    /// Names of the built-in policies, in order.
    pub fn builtins() -> impl Iterator<Item = &'static str> {
        BUILTINS.iter().map(|builtin| builtin.name)
    }

    /// The text of the built-in policy of that name.
    pub fn builtin(name: &str) -> Result<&'static [u8], ModuleError> {
        let builtin = BUILTINS.iter().find(|builtin| builtin.name == name);
        builtin.map(|builtin| builtin.source).ok_or_else(|| {
            let known = Self::builtins().collect::<Vec<_>>().join(", ");
            ModuleError(format!("there is no built-in policy `{name}`, only {known}"))
        })
    }

    /// A built-in policy. Most are used by nobody, and compiling all would take a tenth of a second of every start: one
    /// is compiled when its first instance starts.
    pub fn builtin_program(name: &str) -> Result<Program, ModuleError> {
        let source = Self::builtin(name)?;
        Ok(Program { digest: digest(source), code: OnceLock::new(), builtin: source })
    }

    /// Compiles a core module or a component, binary or text, and checks its imports and exports. Takes up to
    /// seconds: not for an async task. Runs nothing of it; see [`WasmPolicy::try_out`].
    pub fn compile(&self, source: &[u8]) -> Result<Program, ModuleError> {
        if source.is_empty() {
            return Err(ModuleError("the module is empty".to_owned()));
        }
        if source.len() > MODULE_BYTES_MAX {
            let size = source.len();
            return Err(ModuleError(format!("{size} bytes, more than {MODULE_BYTES_MAX}")));
        }
        let digest = digest(source);
        let code = OnceLock::from(self.code(source, &digest)?);
        Ok(Program { digest, code, builtin: &[] })
    }

    fn code(&self, source: &[u8], digest: &str) -> Result<Code, ModuleError> {
        if is_component(source) {
            self.linked(source, digest, |component: &Component| {
                component::link(&self.component, component).map(Code::Component)
            })
        } else {
            self.linked(source, digest, |module: &Module| {
                guest::link_core(&self.core, module).map(Code::Core)
            })
        }
    }

    /// From the cache, else compiled and put there if it can be linked.
    fn linked<T: Compiled>(
        &self,
        source: &[u8],
        digest: &str,
        link: impl Fn(&T) -> Result<Code, ModuleError>,
    ) -> Result<Code, ModuleError> {
        let found = self.cache.load(digest).map(|code| T::from_bytes(&self.engine, &code));
        if let Some(Ok(compiled)) = found {
            return link(&compiled);
        }
        let binary = wat::parse_bytes(source).map_err(|error| abi::refusal(&error.to_string()))?;
        bounds::check(&binary)?;
        let compiled = T::compile(&self.engine, &binary)?;
        let code = link(&compiled)?;
        if self.cache.is_on() {
            self.cache.store(digest, &compiled.to_bytes()?);
        }
        Ok(code)
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
        let code = engine.code(self.builtin, &self.digest)?;
        Ok(self.code.get_or_init(|| code))
    }
}

impl WasmPolicy {
    /// A policy for live traffic.
    pub fn new(engine: &Arc<Engine>, program: Arc<Program>, config: Arc<str>, log: Log) -> Self {
        let environment = Environment::Live(engine.started);
        let instances = AtomicU64::new(0);
        Self { engine: Arc::clone(engine), program, config, environment, log, instances }
    }

    /// The same policy elsewhere, for example in a simulation.
    pub fn in_environment(&self, environment: Environment, log: Log) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            program: Arc::clone(&self.program),
            config: Arc::clone(&self.config),
            environment,
            log,
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
        let silent: Log = Arc::new(|_, _| ());
        let policy = self.in_environment(self.environment.clone(), silent);
        let trial = || -> Result<(), Failure> {
            let mut guest = policy.instance()?;
            for (generation, count) in [(1, 3), (2, 1)] {
                guest.configure(generation, &trial_candidates(count))?;
                for port in 40_000..40_003 {
                    guest.pick(&trial_flow(port))?;
                }
            }
            Ok(())
        };
        trial().map_err(|Failure(reason)| ModuleError(format!("failed when tried: {reason}")))
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

impl Policy for WasmPolicy {
    fn instance(&self) -> Result<Box<dyn Picker>, Failure> {
        let number = self.instances.fetch_add(1, Ordering::Relaxed);
        let environment = match &self.environment {
            Environment::Simulated { clock, seed } => {
                Environment::Simulated { clock: Arc::clone(clock), seed: seed.wrapping_add(number) }
            }
            live @ Environment::Live(_) => live.clone(),
        };
        let code = self.program.code(&self.engine);
        let code = code.map_err(|ModuleError(reason)| Failure(format!("start: {reason}")))?;
        let (config, log) = (Arc::clone(&self.config), Arc::clone(&self.log));
        let host = Host::new(config, environment, log, code.limits());
        Ok(Box::new(Guest::start(&self.engine, code, host)?))
    }
}

#[cfg(test)]
mod tests;
