//! The command line. `up` and `demo` start a cluster. Every other command is a client of its API.

mod apply;
mod client;
mod delete;
mod get;
mod policy;
mod snapshot;
mod status;
mod up;

use std::{ffi::OsString, io::Write, process::ExitCode, time::Duration};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde_json::json;
use tokio::{runtime::Builder, time::Instant};

use crate::{config, model::ObjectKey};

/// A Kubernetes cluster's service discovery, whole and real, in one process.
#[derive(Parser)]
#[command(name = "snowglobe", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster in the foreground, until Ctrl-C
    Up(Box<up::Arguments>),
    /// Start a cluster with an example shop and some traffic
    Demo(Box<up::Arguments>),
    /// Show objects, as kubectl get does
    Get(get::Arguments),
    /// Create or change objects from manifests
    Apply(apply::Arguments),
    /// Delete objects
    Delete(delete::Arguments),
    /// Show whether the cluster is running and what it contains
    Status(status::Arguments),
    /// Write, build, test, load and watch schedulers and topology policies of your own
    Policy(policy::Arguments),
    /// Save all objects in a file, or create the data of a new cluster from such a file
    Snapshot(snapshot::Arguments),
    /// Print a shell completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// At its end, the process waits this long for threads that are still working.
const SHUTDOWN_MAX: Duration = Duration::from_millis(500);

/// Parses the arguments and runs the command on its own Tokio runtime. `started` is when the process began.
///
/// It is not async, because an async function is compiled where it is awaited. The whole program would be compiled a
/// second time for the binary.
pub fn main(started: Instant) -> ExitCode {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let code = runtime.block_on(run(started));
    // All work that must be completed is completed. A compilation in the background could still take seconds, so do
    // not wait for it.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    code
}

async fn run(started: Instant) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = match config::with_file(Arguments::command(), &arguments) {
        Ok(command) => command,
        Err(error) => return fail(&error),
    };
    // clap prints help, version and usage errors itself and exits with the right code.
    let matches = command.get_matches_from(arguments);
    let parsed = match Arguments::from_arg_matches(&matches) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    let result = match parsed.command {
        Command::Up(arguments) => up::run(*arguments, up::Mode::Up, started).await,
        Command::Demo(arguments) => up::run(*arguments, up::Mode::Demo, started).await,
        Command::Get(arguments) => get::run(arguments).await,
        Command::Apply(arguments) => apply::run(arguments).await,
        Command::Delete(arguments) => delete::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Policy(arguments) => policy::run(arguments).await,
        Command::Snapshot(arguments) => snapshot::run(arguments).await,
        Command::Completion { shell } => completion(shell),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "snowglobe", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// The values of `-o` of commands that print something.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// JSON, one document per line
    Json,
}

/// Prints what was done to an object, as text or as JSON.
fn report(key: &ObjectKey, action: &str, output: Option<Output>) -> anyhow::Result<()> {
    match output {
        None => print(&format!("{key} {action}\n")),
        Some(Output::Json) => {
            let ObjectKey { kind, namespace, name } = key;
            let line =
                json!({"kind": kind.kind, "namespace": namespace, "name": name, "action": action});
            print(&format!("{line}\n"))
        }
    }
}

/// The reader of the output has closed it before the output was complete. No message is needed.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
struct OutputClosed;

/// Writes to standard output. A reader that has closed it is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints one line on standard error: the error, followed by its causes.
fn fail(error: &anyhow::Error) -> ExitCode {
    let line = format!("snowglobe: {error:#}\n");
    // If standard error is closed too, the message cannot be printed anywhere.
    std::io::stderr().write_all(line.as_bytes()).ok();
    ExitCode::FAILURE
}
