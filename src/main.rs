//! The `snowglobe` binary: chooses the allocator and hands over to [`snowglobe::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;
use tokio::time::Instant;

/// Gives freed memory back to the system soon; glibc's allocator keeps most of what a roll-out of thousands of pods took.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    snowglobe::cli::main(Instant::now())
}
