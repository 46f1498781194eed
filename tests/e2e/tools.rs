//! Programs of this machine that the tests drive, and what happens when one is missing.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Set by `tests/run --install`: a test that lacks something fails, instead of being left out with a word.
const REQUIRE: &str = "SNOWGLOBE_TESTS_REQUIRE";
/// Where `tests/run --install` has put kubectl 1.37.
const KUBECTL_1_37: &str = "SNOWGLOBE_TEST_KUBECTL_137";
/// Where it has put helm, and the Python package `kubernetes`.
const HELM: &str = "SNOWGLOBE_TEST_HELM";
const PYTHON_CLIENT: &str = "SNOWGLOBE_TEST_PYTHON_CLIENT";
/// The binary under test where it is not the one that cargo built (it may lie where only its owner may go).
const BINARY: &str = "SNOWGLOBE_TEST_BINARY";
/// A directory with the files of `tests`, where it is not the crate's, likewise.
const ROOT: &str = "SNOWGLOBE_TEST_ROOT";

/// How long anything may take to become so. Far above what it takes; a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(40);
/// A program that runs longer hangs.
const PROGRAM_MAX: Duration = Duration::from_secs(90);

/// A program that tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Kubectl,
    Kubectl137,
    Dig,
    Curl,
    Chromium,
    Etcd,
    Etcdctl,
    Helm,
    /// Python with the package `kubernetes`.
    PythonClient,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Kubectl137 => "kubectl 1.37",
            Self::Dig => "dig",
            Self::Curl => "curl",
            Self::Chromium => "chromium",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Helm => "helm",
            Self::PythonClient => "the Python package kubernetes",
        }
    }

    /// Where it is on this machine.
    pub(crate) fn path(self) -> Option<PathBuf> {
        match self {
            Self::Kubectl137 => installed(KUBECTL_1_37),
            Self::Helm => installed(HELM),
            Self::PythonClient => installed(PYTHON_CLIENT).and_then(|_| on_path("python3")),
            Self::Chromium => on_path("chromium").or_else(|| on_path("google-chrome")),
            other => on_path(other.name()),
        }
    }

    /// A command of it.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.path().expect("the test has asked `can_use` first"));
        if let Some(package) = installed(PYTHON_CLIENT).filter(|_| self == Self::PythonClient) {
            command.env("PYTHONPATH", package);
        }
        command
    }
}

/// Where `tests/run --install` has put something.
fn installed(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.exists())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether the test can go on. If not, it is left out aloud, or fails where nothing may be left out.
pub(crate) fn can_use(tools: &[Tool]) -> bool {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| tool.path().is_none()).map(|tool| tool.name()).collect();
    if missing.is_empty() {
        return true;
    }
    leave_out(&missing.join(" and "), "`tests/run --install` installs what the tests need");
    false
}

/// Says that this test is left out for what it needs; fails where nothing may be left out, with the remedy.
pub(crate) fn leave_out(needs: &str, remedy: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(env::var_os(REQUIRE).is_none(), "{test} needs {needs}: {remedy}");
    // Written to the stream itself: the test harness swallows what the print macros of a passing test say.
    writeln!(std::io::stderr(), "left out: {test} needs {needs}").expect("stderr is open");
}

/// The `snowglobe` binary under test.
pub(crate) fn snowglobe() -> Command {
    let built = || env!("CARGO_BIN_EXE_snowglobe").into();
    let mut command = Command::new(env::var_os(BINARY).unwrap_or_else(built));
    // What the machine's user has set must not change what is tested.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("SNOWGLOBE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The directory that files of tests are named relative to.
pub(crate) fn root() -> PathBuf {
    env::var_os(ROOT).unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output; it must have succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}{}", self.command, self.stdout, self.stderr);
        self.stdout
    }

    /// What it printed as errors; it must have failed by itself.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "{} must fail\n{}{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self.stderr
    }
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(command: Command) -> Ran {
    run_with_input(command, "")
}

/// Runs a program that may take so long to its end.
#[track_caller]
pub(crate) fn run_for(command: Command, longest: Duration) -> Ran {
    run_with(command, "", longest)
}

/// Runs a program to its end, with text on its standard input.
#[track_caller]
pub(crate) fn run_with_input(command: Command, input: &str) -> Ran {
    run_with(command, input, PROGRAM_MAX)
}

#[track_caller]
fn run_with(mut command: Command, input: &str, longest: Duration) -> Ran {
    let text = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{text}: {error}"));
    let pid = child.id();
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that does not read its input is free to go.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(ended) = receiver.recv_timeout(longest) else {
        signal(pid, Signal::KILL);
        panic!("{text} did not end within {} s", longest.as_secs());
    };
    let Output { status, stdout, stderr } = ended.expect("the program's output is readable");
    let utf8 = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { command: text, code: status.code(), stdout: utf8(stdout), stderr: utf8(stderr) }
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is positive");
    kill_process(pid, signal).ok();
}

/// Waits until `check` succeeds and gives its value; panics with its last complaint.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    eventually_in(PATIENCE, what, check)
}

/// The same for what takes its time by design.
#[track_caller]
pub(crate) fn eventually_in<T>(
    patience: Duration,
    what: &str,
    mut check: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what}: not so after {} s. Last seen: {seen}", patience.as_secs())
            }
            Err(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one pause, between two looks of `eventually`")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// A step of a check: fine, or what was seen instead.
pub(crate) fn wanted(fine: bool, seen: impl std::fmt::Display) -> Result<(), String> {
    if fine { Ok(()) } else { Err(seen.to_string()) }
}
