//! The `snowglobe` binary: hands over to [`snowglobe::cli`].

use std::process::ExitCode;

use tokio::time::Instant;

fn main() -> ExitCode {
    snowglobe::cli::main(Instant::now())
}
