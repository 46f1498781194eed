//! The settings of the WASM engine.

use wasmtime::{Config, WasmBacktraceDetails};

pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // On, every component call costs four times as much.
        .concurrency_support(false)
        // The environment has no say.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // A trap's own text is enough to tell a user, and walking the stack makes traps slow.
        .wasm_backtrace_max_frames(None);
    config
}
