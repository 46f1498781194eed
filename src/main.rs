//! The `snowglobe` binary: chooses the allocator and hands over to [`snowglobe::cli`].

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How jemalloc gives memory back: what was free for two seconds goes to the system, by a thread of its own; and few
/// arenas, since what each of them keeps is no use to the others.
#[expect(unsafe_code, reason = "jemalloc looks for its configuration under this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static JEMALLOC_CONFIGURATION: &[u8; 70] =
    b"background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0,narenas:2\0";

fn main() -> ExitCode {
    snowglobe::cli::main(Instant::now())
}
