//! [`Version`]: a module that is loaded under a name, and what there is to say of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::policy::{
    FailureKind, PolicyKind,
    counters::Counters,
    health::Health,
    pick_times::PickTime,
    wasm::{ABI, Program, WasmPolicy},
};

/// What a service port does when its policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The native round robin picks.
    #[default]
    Fallback,
    /// Nothing is picked: the connection is reset.
    Reject,
    /// The last module before this one that worked picks; without one, or if that fails too, the fallback.
    LastGood,
}

/// One loaded module under a name. A reload makes a new version.
pub(super) struct Version {
    pub(super) name: Arc<str>,
    /// Rises with every compilation.
    pub(super) number: u64,
    pub(super) policy: Arc<WasmPolicy>,
    pub(super) on_failure: OnFailure,
    pub(super) last_good: Option<Arc<WasmPolicy>>,
    /// It failed at least once under traffic.
    pub(super) failed: AtomicBool,
    pub(super) health: Arc<Health>,
    /// Shared by all versions of the name.
    pub(super) counters: Arc<Counters>,
}

/// One policy, for status and metrics. The counters are over all its reloads.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// The world of the ABI that it is for.
    pub world: &'static str,
    /// `sha256:` of the module.
    pub digest: String,
    /// The ABI that it uses.
    pub abi: String,
    /// A component, else a core module.
    pub component: bool,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// Picks asked of it, whoever made them in the end.
    pub picks: u64,
    /// Picks for which it had no opinion.
    pub abstentions: u64,
    /// Picks that it did not make for another reason: failed, pausing after failures, or not started yet.
    pub fallbacks: u64,
    /// Failures. The pauses after them are not counted again.
    pub failures: u64,
    /// The same, each kind for itself.
    pub failures_by_kind: [(FailureKind, u64); FailureKind::ALL.len()],
    /// The last failure in words.
    pub last_failure: Option<String>,
    /// How often its module was replaced by another.
    pub reloads: u64,
    /// How often a module for it was refused.
    pub refusals: u64,
    /// How long its module took to compile; `None` for a built-in one that nobody has used.
    pub compile_time: Option<Duration>,
    /// How long a pick takes; `None` until one was timed.
    pub pick_time: Option<PickTime>,
    /// Its guests (instances of the module) now.
    pub instances: u64,
    /// The linear memory of those.
    pub memory_bytes: u64,
}

impl Version {
    pub(super) fn is(&self, program: &Program, config: &str, on_failure: OnFailure) -> bool {
        self.policy.program().digest() == program.digest()
            && self.policy.config() == config
            && self.on_failure == on_failure
    }

    /// What to go back to if a new `policy` fails: the last one with another digest that did not fail.
    pub(super) fn good_besides(&self, policy: &WasmPolicy) -> Option<Arc<WasmPolicy>> {
        let same = self.policy.program().digest() == policy.program().digest();
        if same || self.failed.load(Ordering::Relaxed) {
            return self.last_good.clone();
        }
        Some(Arc::clone(&self.policy))
    }

    pub(super) fn info(&self) -> Info {
        let counters = &self.counters;
        let (program, (picks, abstentions)) = (self.policy.program(), counters.picks());
        let failures_by_kind = counters.failures();
        Info {
            name: self.name.to_string(),
            world: match program.kind() {
                PolicyKind::LoadBalancer => "load-balancer",
                PolicyKind::Topology => "topology",
            },
            digest: program.digest().to_owned(),
            abi: ABI.to_owned(),
            component: program.is_component(),
            on_failure: self.on_failure,
            picks,
            abstentions,
            fallbacks: counters.fallbacks(),
            failures: failures_by_kind.iter().map(|(_, count)| count).sum(),
            failures_by_kind,
            last_failure: counters.last_failure(),
            reloads: counters.reloads.load(Ordering::Relaxed),
            refusals: counters.refusals.load(Ordering::Relaxed),
            compile_time: program.compile_time(),
            pick_time: counters.pick_times.read(),
            instances: counters.usage.guests(),
            memory_bytes: counters.usage.memory_bytes(),
        }
    }
}
