//! The client's zone: clients see the endpoints in their own zone; all endpoints if there are none.
#![no_std]

// What the host tells. There is more: `node`, `weight`, `identity`, `config-byte`, ...; see policy.wit.
#[link(wasm_import_module = "snowglobe:policy/host@0.1.0")]
unsafe extern "C" {
    /// The zone of endpoint `i`, as a number.
    safe fn zone(i: u32) -> u32;
}

/// A zone that is not known.
const UNKNOWN: u32 = u32::MAX;

/// How well endpoint `i` suits clients in this zone and on this node. Those with the highest score are used; 0 excludes.
#[unsafe(no_mangle)]
extern "C" fn score(client_zone: u32, _client_node: u32, i: u32) -> u32 {
    let is_near = client_zone != UNKNOWN && zone(i) == client_zone;
    if is_near { 2 } else { 1 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
