//! Logs (stderr, human-readable) and the registry of metrics.

mod limit;
mod stderr;

use std::{
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use limit::Summaries;

use crate::telemetry::{limit::Limit, stderr::Stderr};

/// Chatty dependencies are quiet unless asked for by name.
const DEFAULT_FILTER: &str = "warn,snowglobe=info,sled=error,hickory_proto=error";

/// Sends logs to stderr, and panics to the log: whoever contains one says what it means. `filter` is in the syntax of `RUST_LOG`; empty means warnings, and our own lifecycle.
/// A broken filter is an error that says where. What it gives lives as long as there is something to log.
pub fn start(filter: &str) -> Result<Summaries, String> {
    let text = if filter.is_empty() { DEFAULT_FILTER } else { filter };
    let filter =
        EnvFilter::try_new(text).map_err(|error| format!("log filter {text:?}: {error}"))?;
    let (limit, summaries) = Limit::new();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr::default())
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // They would be printed, and printing panics where stderr cannot be written.
        .log_internal_errors(false)
        .finish()
        .with(limit)
        .try_init()
        .map_err(|error| error.to_string())?;
    panic::set_hook(Box::new(log_panic));
    Ok(summaries)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string);
    let reason = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(thread, place, reason, "a panic");
}

/// All metrics of this process, in Prometheus' text format.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Adds the metrics of a subsystem.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.lock());
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.lock()).expect("writing to a string cannot fail");
        text
    }
}
