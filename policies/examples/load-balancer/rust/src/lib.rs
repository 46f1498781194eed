//! Least connections: a new connection goes to the endpoint that has the fewest open ones. Equals take turns.
#![no_std]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

// What the host tells. There is more: `zone`, `node`, `weight`, `failures`, `latency`, `random`, ...; see policy.wit.
#[link(wasm_import_module = "snowglobe:policy/host@0.1.0")]
unsafe extern "C" {
    /// Connections to endpoint `i` that are open now.
    safe fn active(i: u32) -> u32;
}

/// How many endpoints there are.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Where the next search begins.
static START: AtomicU32 = AtomicU32::new(0);

/// The endpoints have changed: they are numbered from 0 to `count` - 1 now.
#[unsafe(no_mangle)]
extern "C" fn configure(_generation: u64, count: u32) {
    COUNT.store(count, Relaxed);
    START.store(0, Relaxed);
}

/// The number of the endpoint for one connection.
#[unsafe(no_mangle)]
extern "C" fn pick(_source_hash: u64, _client_zone: u32, _client_node: u32) -> u32 {
    let (count, start) = (COUNT.load(Relaxed), START.load(Relaxed));
    let mut best = start;
    for step in 1..count {
        let i = (start + step) % count;
        if active(i) < active(best) {
            best = i;
        }
    }
    START.store((best + 1) % count, Relaxed);
    best
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
