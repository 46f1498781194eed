//! [`Version`]: a module that is loaded under a name.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use parking_lot::Mutex;

use crate::policy::{health::Health, wasm::WasmPolicy};

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

/// What a policy did so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) picks: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) fallbacks: AtomicU64,
    pub(super) timed_picks: AtomicU64,
    pub(super) timed_nanoseconds: AtomicU64,
    pub(super) last_failure: Mutex<Option<String>>,
}
