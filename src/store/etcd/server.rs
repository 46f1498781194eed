//! Starts an etcd for each test.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::store::{etcd::Options, requirements::leave_out};

/// How long etcd may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running etcd. It is killed when this is dropped.
pub(in crate::store) struct Server {
    child: Option<Child>,
    pub(in crate::store) dir: TempDir,
    clients: String,
    peers: String,
}

impl Server {
    /// Starts an etcd if the machine has one. If not, the test reports that it is skipped.
    pub(in crate::store) fn start() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        if !std::env::split_paths(&path).any(|dir| dir.join("etcd").is_file()) {
            leave_out("etcd", "install etcd-server");
            return None;
        }
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // The address differs between test processes, the ports between servers of one process.
        let pid = std::process::id() % 60_000;
        let port = 20_000 + 2 * NEXT.fetch_add(1, Ordering::Relaxed);
        let address = |port| format!("127.251.{}.{}:{port}", pid / 250, pid % 250 + 1);
        let (clients, peers) = (address(port), address(port + 1));
        let mut server = Self { child: None, dir: TempDir::new().unwrap(), clients, peers };
        server.start_again();
        Some(server)
    }

    pub(in crate::store) fn data(&self) -> PathBuf {
        self.dir.path().join("etcd")
    }

    pub(in crate::store) fn start_again(&mut self) {
        let log = File::create(self.dir.path().join("etcd.log")).unwrap();
        let (clients, peers) =
            (format!("http://{}", self.clients), format!("http://{}", self.peers));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.data()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Kills etcd, as `kill -9` does.
    pub(in crate::store) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(in crate::store) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().map(Child::id).and_then(|pid| i32::try_from(pid).ok());
        kill_process(Pid::from_raw(pid.unwrap()).unwrap(), signal).unwrap();
    }

    /// The options to connect to it. Opening a store waits until etcd has started.
    pub(in crate::store) fn options(&self) -> Options {
        let options: Options = format!("etcd://{}/tests", self.clients).parse().unwrap();
        Options { patience: PATIENCE, ..options }
    }

    /// Runs `etcdctl` with these arguments.
    pub(in crate::store) fn etcdctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.args(["--endpoints", &self.clients]).args(arguments).env("ETCDCTL_API", "3");
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
