//! The memory of guests: [`Meter`] holds one guest to its limits and adds what it takes to the [`Usage`] of its policy.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use wasmtime::ResourceLimiter;

/// The guests of a policy that exist now.
#[derive(Debug, Default)]
pub struct Usage {
    guests: AtomicU64,
    memory_bytes: AtomicU64,
}

/// What one guest may take and has taken. Dropping it gives back.
pub(super) struct Meter {
    limits: Limits,
    usage: Arc<Usage>,
    memory_bytes: u64,
    /// Since the current call began.
    has_refused: bool,
}

impl Usage {
    /// Guests, in use or not.
    pub fn guests(&self) -> u64 {
        self.guests.load(Ordering::Relaxed)
    }

    /// The linear memory of all of them.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }
}

impl Meter {
    pub(super) fn new(limits: Limits, usage: &Arc<Usage>) -> Self {
        usage.guests.fetch_add(1, Ordering::Relaxed);
        Self { limits, usage: Arc::clone(usage), memory_bytes: 0, has_refused: false }
    }

    /// A call begins.
    pub(super) fn enter(&mut self) {
        self.has_refused = false;
    }

    /// Whether the guest was refused memory since the current call began.
    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.usage.guests.fetch_sub(1, Ordering::Relaxed);
        self.usage.memory_bytes.fetch_sub(self.memory_bytes, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = take(&mut self.limits.memory_bytes, current, desired, maximum);
        if fits {
            let growth = u64::try_from(desired.saturating_sub(current))?;
            self.memory_bytes += growth;
            self.usage.memory_bytes.fetch_add(growth, Ordering::Relaxed);
        }
        self.has_refused |= !fits;
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = take(&mut self.limits.table_elements, current, desired, maximum);
        self.has_refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn tables(&self) -> usize {
        self.limits.tables
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }
}

/// What one instance may allocate.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    memory_bytes: usize,
    table_elements: usize,
    instances: usize,
    memories: usize,
    tables: usize,
}

impl Limits {
    /// A core module: 16 MiB.
    pub(super) const CORE: Self = Self {
        memory_bytes: 16 << 20,
        table_elements: 10_000,
        instances: 1,
        memories: 1,
        tables: 4,
    };
    /// A component, or a core module that uses WASI, either of which may bring a language's runtime: 64 MiB. Of
    /// memories, each of which reserves 4 GiB of address space, only as many as thousands of instances can have.
    pub(super) const WITH_RUNTIME: Self = Self {
        memory_bytes: 64 << 20,
        table_elements: 100_000,
        instances: 256,
        memories: 2,
        tables: 32,
    };
}

/// Takes a growth from what is left for all memories (or tables) of an instance together.
fn take(left: &mut usize, current: usize, desired: usize, maximum: Option<usize>) -> bool {
    let growth = desired.saturating_sub(current);
    let fits = growth <= *left && maximum.is_none_or(|maximum| desired <= maximum);
    if fits {
        *left -= growth;
    }
    fits
}
