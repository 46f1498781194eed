//! Whoever reads what `snowglobe` prints may go away, stop reading, or have a full disk: a cluster runs on, other commands
//! end without a fuss.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    cluster::{Cluster, Process},
    place::Place,
    tools::{self, Tool, can_use, eventually, wanted},
};

/// Starts a cluster that logs a lot, to wherever the command says.
fn start(command: &mut Command) -> std::process::Child {
    command.args(["--store=memory", "--log=debug", "-o", "json"]).stdin(Stdio::null());
    command.spawn().expect("it starts")
}

/// The cluster answers, and stops in order.
#[track_caller]
fn runs_and_stops(place: &Place, process: Process) {
    let kubectl = |arguments: &str| {
        let mut kubectl = Tool::Kubectl.command();
        kubectl.args(arguments.split(' ')).env("HOME", place.home());
        kubectl.env("KUBECONFIG", place.data().join("kubeconfig"));
        tools::run(kubectl)
    };
    eventually("the cluster answers", || {
        let ran = kubectl("get namespaces");
        wanted(ran.code == Some(0), ran.stderr)
    });
    // What is logged of these is more than a pipe takes.
    for i in 0..20 {
        kubectl(&format!("create configmap map-{i}")).succeeded();
    }
    let status = process.end(Signal::TERM);
    assert!(status.success(), "{status}");
}

#[test]
fn a_cluster_runs_on_when_its_output_is_full() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    let place = Place::new();
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut up = place.snowglobe("up");
    let child = start(up.stdout(full()).stderr(full()));
    runs_and_stops(&place, Process::of(child));
}

#[test]
fn a_cluster_runs_on_when_nobody_reads_its_output() {
    if !can_use(&[Tool::Kubectl]) {
        return;
    }
    for goes_away in [true, false] {
        let place = Place::new();
        let mut up = place.snowglobe("up");
        let mut child = start(up.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut line = String::new();
        let mut output = BufReader::new(stdout.expect("it is piped"));
        output.read_line(&mut line).expect("it is UTF-8");
        assert!(line.starts_with("{\"ready_ms\":"), "{line}");
        // As `| head -1` does it; or as a pager does that waits for its user.
        let held = (!goes_away).then_some((output, stderr));
        runs_and_stops(&place, Process::of(child));
        drop(held);
    }
}

#[test]
fn a_closed_terminal_stops_a_cluster_in_order() {
    let mut cluster = Cluster::start_with(&["--store=memory"]);
    let status = cluster.end(Signal::HUP);
    assert!(status.success(), "{status}");
}

#[test]
fn commands_end_quietly_when_nobody_reads() {
    let cluster = Cluster::start_with(&["--store=memory"]);
    for arguments in ["completion bash", "get pods -A", "status", "snapshot save -", "--help"] {
        let mut command = tools::snowglobe();
        command.args(arguments.split(' ')).env("KUBECONFIG", &cluster.line.kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments}");
        assert!(output.status.code().is_some(), "{arguments}: {}", output.status);
    }
}
