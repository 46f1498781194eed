//! The settings of the WASM engine. Shared by the build script, which compiles the built-in policies ahead, and by
//! the running engine, so that the two cannot drift apart: code compiled under other settings does not load.

use wasmtime::{Config, Result, WasmBacktraceDetails};

/// The settings for code that runs on `target`, a triple, and on any CPU of it; without a triple, for this CPU.
pub(crate) fn config(target: Option<&str>) -> Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // On, every component call costs four times as much.
        .concurrency_support(false)
        // Read from the environment otherwise, which may differ between build and run.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // A trap's own text is enough to tell a user, and walking the stack makes traps slow.
        .wasm_backtrace_max_frames(None);
    if let Some(target) = target {
        config.target(target)?;
    }
    Ok(config)
}
