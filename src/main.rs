//! The `snowglobe` binary: builds the async runtime and hands over to [`snowglobe::cli`].

use std::{process::ExitCode, time::Duration};

use mimalloc::MiMalloc;
use tokio::{runtime::Builder, time::Instant};

/// How long the end of the process waits for threads that are at work.
const SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// Gives freed memory back to the system soon; glibc's allocator keeps most of what a roll-out of thousands of pods took.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let started = Instant::now();
    let runtime = Builder::new_multi_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let code = runtime.block_on(snowglobe::cli::run(started));
    // What must be done is done, and what is left is dropped; but a compilation may go on for seconds.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    code
}
