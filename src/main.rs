//! The `snowglobe` binary: builds the async runtime and hands over to [`snowglobe::cli`].

use std::process::ExitCode;

use tokio::{runtime::Builder, time::Instant};

fn main() -> ExitCode {
    let started = Instant::now();
    let runtime = Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(snowglobe::cli::run(started)),
        Err(_) => ExitCode::FAILURE,
    }
}
