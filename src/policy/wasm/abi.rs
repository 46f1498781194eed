//! The host's side of the ABI: what a guest sees ([`Host`]), how much it may use, and which versions there are.
//! The specification is `policies/policy.wit`, whose interface is implemented here once, for core modules and
//! components alike.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use tokio::time::Instant;
use wasmtime::{Caller, Linker, ResourceLimiter, UpdateDeadline, bail};

use crate::policy::{
    Candidate, Candidates, Failure, FailureKind, Flow, ModuleError, PolicyKind,
    wasm::{epochs::Budget, meter::Meter, world::host::Host as Functions},
};

/// The ABI that this host speaks.
pub const ABI: &str = "snowglobe:policy@0.1.0";

/// The interface that guests import, up to its version.
const INTERFACE: &str = "snowglobe:policy/host";

/// Versions of [`INTERFACE`] that guests may import, newest first.
const VERSIONS: &[&str] = &["0.1.0"];

/// The functions of [`INTERFACE`].
pub(super) const FUNCTIONS: &[&str] = &[
    "zone",
    "node",
    "weight",
    "active",
    "failures",
    "latency",
    "identity",
    "flow-hash",
    "now",
    "random",
    "config-length",
    "config-byte",
    "log",
];

/// What WASI's clocks show to a topology policy. Go's runtime takes 0 for a broken clock.
const STILL_MICROSECONDS: u64 = 1_000_000;

/// Characters of a reason that are kept: a guest chooses the names in it.
const REASON_CHARACTERS_MAX: usize = 300;

/// Where `log` of a guest goes.
pub type Log = Arc<dyn Fn(u32, u64) + Send + Sync>;

/// Where a guest's time and chance come from.
#[derive(Clone, Debug)]
pub enum Environment {
    /// The machine's clock and random numbers. Holds the moment that `now` counts from.
    Live(Instant),
    /// A simulation: its clock in microseconds, and what the random numbers are made from.
    Simulated {
        /// `now`.
        clock: Arc<AtomicU64>,
        /// The same seed gives the same numbers.
        seed: u64,
    },
}

/// What one guest instance may see and use.
pub(super) struct Host {
    kind: PolicyKind,
    /// The endpoints of the last `configure`.
    pub(super) candidates: Candidates,
    /// The connection, during `pick`.
    pub(super) flow: Option<Flow>,
    /// What the current call may still use.
    budget: Budget,
    config: Arc<str>,
    environment: Environment,
    random: u64,
    log: Log,
    meter: Meter,
    /// The current call is being ended because it took too long.
    is_late: bool,
}

impl Host {
    pub(super) fn new(
        kind: PolicyKind,
        config: Arc<str>,
        environment: Environment,
        log: Log,
        meter: Meter,
    ) -> Self {
        let random = match (kind, &environment) {
            // Only WASI gives it any.
            (PolicyKind::Topology, _) => 0,
            (PolicyKind::LoadBalancer, Environment::Live(_)) => rand::random(),
            (PolicyKind::LoadBalancer, Environment::Simulated { seed, .. }) => *seed,
        };
        let candidates = Candidates::from([]);
        let (flow, budget, is_late) = (None, Budget::default(), false);
        Self { kind, candidates, flow, budget, config, environment, random, log, meter, is_late }
    }

    /// Opens the time of one call.
    pub(super) fn enter(&mut self, ticks: u32) {
        self.budget = Budget::of(ticks);
        self.is_late = false;
        self.meter.enter();
    }

    pub(super) fn limits(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.meter
    }

    /// Why a call failed, in the engine's or the host function's words. `kind` is what it is unless time or memory was
    /// the cause.
    pub(super) fn failure(
        &self,
        doing: &str,
        kind: FailureKind,
        error: &wasmtime::Error,
    ) -> Failure {
        let kind = match (self.is_late, self.meter.has_refused()) {
            (true, _) => FailureKind::Deadline,
            (false, true) => FailureKind::Memory,
            (false, false) => kind,
        };
        Failure::new(kind, shortened(&format!("{doing}: {}", error.root_cause())))
    }

    /// The clock has ticked during the current call.
    pub(super) fn ticked(&mut self) -> wasmtime::Result<UpdateDeadline> {
        match self.budget.ticked() {
            Some(why) => {
                self.is_late = true;
                bail!("{why}")
            }
            None => Ok(UpdateDeadline::Continue(1)),
        }
    }

    /// Since 1970; in a simulation, since its begin. For a topology policy, whose scores are kept, time stands still.
    pub(super) fn unix_microseconds(&self) -> u64 {
        match (self.kind, &self.environment) {
            (PolicyKind::Topology, _) => STILL_MICROSECONDS,
            (PolicyKind::LoadBalancer, Environment::Live(_)) => {
                u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default()
            }
            (PolicyKind::LoadBalancer, Environment::Simulated { clock, .. }) => {
                clock.load(Ordering::Relaxed)
            }
        }
    }

    /// Since some moment; likewise.
    pub(super) fn microseconds(&self) -> u64 {
        match (self.kind, &self.environment) {
            (PolicyKind::Topology, _) => STILL_MICROSECONDS,
            (PolicyKind::LoadBalancer, Environment::Live(start)) => {
                u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
            }
            (PolicyKind::LoadBalancer, Environment::Simulated { clock, .. }) => {
                clock.load(Ordering::Relaxed)
            }
        }
    }

    /// SplitMix64: a nanosecond, and the same everywhere.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Refuses what may be another moment later to a topology policy: its scores are kept.
    fn changing(&self, function: &str) -> wasmtime::Result<()> {
        match self.kind {
            PolicyKind::LoadBalancer => Ok(()),
            PolicyKind::Topology => bail!(
                "asked for {function}, which a topology policy may not: its scores are kept until the endpoints change"
            ),
        }
    }

    fn candidate(&self, i: u32) -> wasmtime::Result<&Candidate> {
        let count = self.candidates.len();
        match usize::try_from(i).ok().and_then(|i| self.candidates.get(i)) {
            Some(candidate) => Ok(candidate),
            None => bail!("asked for endpoint {i} of {count}"),
        }
    }
}

impl Functions for Host {
    fn zone(&mut self, i: u32) -> wasmtime::Result<u32> {
        Ok(self.candidate(i)?.zone)
    }

    fn node(&mut self, i: u32) -> wasmtime::Result<u32> {
        Ok(self.candidate(i)?.node)
    }

    fn weight(&mut self, i: u32) -> wasmtime::Result<u32> {
        Ok(self.candidate(i)?.weight)
    }

    fn active(&mut self, i: u32) -> wasmtime::Result<u32> {
        self.changing("active")?;
        Ok(self.candidate(i)?.load.active.load(Ordering::Relaxed))
    }

    fn failures(&mut self, i: u32) -> wasmtime::Result<u32> {
        self.changing("failures")?;
        Ok(self.candidate(i)?.load.failures.load(Ordering::Relaxed))
    }

    fn latency(&mut self, i: u32) -> wasmtime::Result<u32> {
        self.changing("latency")?;
        let latency = self.candidate(i)?.load.latency.load(Ordering::Relaxed);
        Ok(u32::try_from(latency).unwrap_or(u32::MAX))
    }

    fn identity(&mut self, i: u32) -> wasmtime::Result<u64> {
        Ok(self.candidate(i)?.identity)
    }

    fn flow_hash(&mut self, fields: u32) -> wasmtime::Result<u64> {
        self.changing("flow-hash")?;
        match &self.flow {
            Some(flow) => Ok(flow.hash(fields)),
            None => bail!("asked for flow-hash outside pick, where there is no connection"),
        }
    }

    fn now(&mut self) -> wasmtime::Result<u64> {
        self.changing("now")?;
        Ok(self.microseconds())
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        self.changing("random")?;
        Ok(self.next_random())
    }

    fn config_length(&mut self) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.config.len())?)
    }

    fn config_byte(&mut self, i: u32) -> wasmtime::Result<u32> {
        let length = self.config.len();
        match usize::try_from(i).ok().and_then(|i| self.config.as_bytes().get(i)) {
            Some(byte) => Ok(u32::from(*byte)),
            None => bail!("asked for config byte {i} of {length}"),
        }
    }

    fn log(&mut self, code: u32, value: u64) -> wasmtime::Result<()> {
        (self.log)(code, value);
        Ok(())
    }
}

/// Adds the host's functions to a linker for core modules.
pub(super) fn add_to(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    type Guest<'a> = Caller<'a, Host>;
    let module = &format!("{INTERFACE}@{}", VERSIONS[0]);
    linker
        .func_wrap(module, "zone", |mut guest: Guest<'_>, i: u32| guest.data_mut().zone(i))?
        .func_wrap(module, "node", |mut guest: Guest<'_>, i: u32| guest.data_mut().node(i))?
        .func_wrap(module, "weight", |mut guest: Guest<'_>, i: u32| guest.data_mut().weight(i))?
        .func_wrap(module, "active", |mut guest: Guest<'_>, i: u32| guest.data_mut().active(i))?
        .func_wrap(module, "failures", |mut guest: Guest<'_>, i: u32| guest.data_mut().failures(i))?
        .func_wrap(module, "latency", |mut guest: Guest<'_>, i: u32| guest.data_mut().latency(i))?
        .func_wrap(module, "identity", |mut guest: Guest<'_>, i: u32| guest.data_mut().identity(i))?
        .func_wrap(module, "flow-hash", |mut guest: Guest<'_>, fields: u32| {
            guest.data_mut().flow_hash(fields)
        })?
        .func_wrap(module, "now", |mut guest: Guest<'_>| guest.data_mut().now())?
        .func_wrap(module, "random", |mut guest: Guest<'_>| guest.data_mut().random())?
        .func_wrap(module, "config-length", |mut guest: Guest<'_>| {
            guest.data_mut().config_length()
        })?
        .func_wrap(module, "config-byte", |mut guest: Guest<'_>, i: u32| {
            guest.data_mut().config_byte(i)
        })?
        .func_wrap(module, "log", |mut guest: Guest<'_>, code: u32, value: u64| {
            guest.data_mut().log(code, value)
        })?;
    Ok(())
}

/// Refuses an import that is not from [`INTERFACE`] in a version that this host speaks. `import` is what to call it,
/// and `wasi` what of WASI may be imported besides.
pub(super) fn check_interface(name: &str, import: &str, wasi: &str) -> Result<(), ModuleError> {
    let supported = VERSIONS.join(", ");
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if interface != INTERFACE {
        let only = format!("`{INTERFACE}@{}` and `{wasi}`", VERSIONS[0]);
        let text = format!("imports {import}; build it to import from {only} only");
        return Err(refusal(&text));
    }
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    let text = match version {
        "" => format!("imports `{name}` without a version; supported are {supported}"),
        _ => format!("imports version {version} of `{INTERFACE}`; supported are {supported}"),
    };
    Err(refusal(&text))
}

/// Refuses a function that [`INTERFACE`] does not have.
pub(super) fn check_function(name: &str) -> Result<(), ModuleError> {
    if FUNCTIONS.contains(&name) {
        return Ok(());
    }
    let text = format!("imports `{name}`, but `{INTERFACE}` has only {}", FUNCTIONS.join(", "));
    Err(refusal(&text))
}

/// The kind of policy that a module's exports tell.
pub(super) fn kind_by_exports(is_exported: impl Fn(&str) -> bool) -> PolicyKind {
    match is_exported("score") && !is_exported("pick") {
        true => PolicyKind::Topology,
        false => PolicyKind::LoadBalancer,
    }
}

/// Refuses a module that does not export what a policy of this kind must, and says what it is instead.
pub(super) fn check_exports(
    kind: PolicyKind,
    is_exported: impl Fn(&str) -> bool,
) -> Result<(), ModuleError> {
    let (wanted, other, instead) = match kind {
        PolicyKind::LoadBalancer => {
            ("pick", "score", "a topology policy; make a TopologyPolicy of it")
        }
        PolicyKind::Topology => {
            ("score", "pick", "a load balancer; make a LoadBalancerPolicy of it")
        }
    };
    if is_exported(wanted) {
        return Ok(());
    }
    Err(ModuleError(match is_exported(other) {
        true => format!("exports `{other}` and not `{wanted}`: {instead}"),
        false => format!("does not export `{wanted}`"),
    }))
}

/// In the engine's words.
impl From<wasmtime::Error> for ModuleError {
    fn from(error: wasmtime::Error) -> Self {
        refusal(&format!("{error:#}"))
    }
}

/// A refusal with a reason that names what the guest chose.
pub(super) fn refusal(reason: &str) -> ModuleError {
    ModuleError(shortened(reason))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
