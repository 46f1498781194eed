//! Identifies a process for users, and detects whether it has ended if that is possible from here.

use std::{fmt, fs};

use jiff::Timestamp;
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
    system::uname,
};
use serde::{Deserialize, Serialize};

/// A process that has opened a store. The store contains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// A new identity for each opening of a store.
    pub(super) id: String,
    host: String,
    pid: u32,
    /// When the store was opened (RFC 3339).
    since: String,
    /// Where `pid` is valid: the boot id of the machine and the PID namespace. Empty if unknown.
    machine: String,
    /// The start time of the process in kernel ticks, because the kernel reuses process numbers.
    started: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, pid, since, .. } = self;
        write!(f, "process {pid} on host {host}, there since {since}")
    }
}

impl Process {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            host: uname().nodename().to_string_lossy().into_owned(),
            pid,
            since: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            machine: machine(),
            started: stat(pid).map_or(0, |stat| stat.started),
        }
    }

    /// Whether the process has certainly ended. This is unknown for other machines and containers.
    pub(super) fn has_ended(&self) -> bool {
        !self.machine.is_empty() && self.machine == machine() && !self.runs()
    }

    fn runs(&self) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return true };
        // For a process of another user the call returns EPERM.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return false;
        }
        // Some users may not read it.
        let Some(stat) = stat(self.pid) else { return true };
        let same = self.started == 0 || self.started == stat.started;
        same && !matches!(stat.state, 'Z' | 'X')
    }
}

fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

struct Stat {
    state: char,
    started: u64,
}

/// Parses `/proc/PID/stat`, see proc(5).
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in front may contain any characters, also parentheses.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    // The start time is field 22; the state was field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn whether_a_process_has_ended() {
        let this = Process::this();
        assert!(!this.has_ended() && this.started > 0, "{this:?}");
        assert!(Process { started: this.started + 1, ..this.clone() }.has_ended(), "another one");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (pid, started) = (child.id(), stat(child.id()).unwrap().started);
        let other = Process { pid, started, ..this.clone() };
        assert!(!other.has_ended(), "it sleeps");
        child.kill().unwrap();
        while !other.has_ended() {}
        assert_eq!(stat(pid).unwrap().state, 'Z', "it was not waited for yet");
        child.wait().unwrap();
        assert!(other.has_ended());
        let elsewhere = Process { machine: "another".to_owned(), ..other };
        assert!(!elsewhere.has_ended(), "who knows");
        let first = Process { pid: 1, started: 0, ..this };
        assert!(!first.has_ended(), "it is always there, whosoever it is");
    }
}
