//! `snowglobe demo` and the greeting of `up`: what they print works as printed.

use std::{net::TcpStream, process::Command};

use rustix::process::Signal;

use crate::{
    cluster::launch_until,
    place::Place,
    tools::{self, Tool, can_use, eventually, wanted},
};

/// What is printed after a label.
fn after<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
    line.unwrap_or_else(|| panic!("{label} is not in:\n{text}")).trim()
}

/// The commands under a heading.
fn commands<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = text.split_once(heading).unwrap_or_else(|| panic!("{heading}:\n{text}"));
    let lines = rest.trim_start_matches('\n').lines();
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

/// A line as a user types it into a shell, after the export that was printed.
fn shell(place: &Place, export: &str, line: &str) -> tools::Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{export}\n{line}")]).env("HOME", place.home());
    shell.env_remove("KUBECONFIG").env("no_proxy", "*").current_dir(place.home());
    tools::run(shell)
}

#[test]
fn the_demo_s_commands_work_as_printed() {
    if !can_use(&[Tool::Kubectl, Tool::Dig, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let demo = place.snowglobe("demo");
    let (process, text) = launch_until(&place, demo, &[], |text| text.contains("Ctrl-C"));
    let export = commands(&text, "Use it:\n")[0];
    let tries = commands(&text, "Try it:\n");
    assert_eq!(tries.len(), 3, "{text}");
    assert_eq!(
        tries.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect::<Vec<_>>(),
        ["kubectl", "dig", "curl"]
    );
    eventually("the pods of the shop run", || {
        let table = shell(&place, export, tries[0]).succeeded();
        wanted(table.matches("1/1     Running").count() == 13, table)
    });
    let address = shell(&place, export, tries[1]).succeeded();
    assert!(address.starts_with("127.") && address.lines().count() == 1, "{address}");
    let answer = shell(&place, export, tries[2]).succeeded();
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("a pod's JSON");
    assert_eq!(answer["namespace"], "shop");
    let nodes = shell(&place, export, "kubectl get nodes --no-headers").succeeded();
    assert_eq!(nodes.lines().count(), 3, "{nodes}");

    let dashboard = after(&text, "Dashboard");
    let shown = shell(
        &place,
        export,
        &format!("curl -sL -o /dev/null -w '%{{http_code}}' -c jar -b jar '{dashboard}'"),
    );
    assert_eq!(shown.stdout, "200");
    eventually("generated traffic reaches the shop", || {
        let metrics =
            shell(&place, export, &format!("curl -s {}", after(&text, "Metrics"))).succeeded();
        let shop = metrics.lines().any(|line| line.contains("shop") && !line.ends_with(" 0"));
        wanted(shop, metrics)
    });

    let status = process.end(Signal::INT);
    assert!(status.success(), "{status}");
    for address in [after(&text, "API"), after(&text, "DNS"), dashboard] {
        let address = address.split("//").last().unwrap_or_default();
        let address = address.split('/').next().unwrap_or_default();
        TcpStream::connect(address).expect_err("nothing is left running");
    }
    TcpStream::connect((address.trim(), 8080)).expect_err("no listener of a Service is left");
}

#[test]
fn the_greeting_of_up_works_as_printed() {
    if !can_use(&[Tool::Kubectl, Tool::Dig, Tool::Curl]) {
        return;
    }
    let place = Place::new();
    let up = place.snowglobe("up");
    let (process, text) = launch_until(&place, up, &[], |text| text.contains("Ctrl-C"));
    let export = commands(&text, "Use it:\n")[0];
    for line in commands(&text, "Try it:\n") {
        let output = shell(&place, export, line).succeeded();
        assert!(!output.is_empty(), "{line}");
    }
    eventually("the Service that they made works", || {
        let line =
            "curl -s http://$(kubectl get service web -o jsonpath='{.spec.clusterIP}'):8080/";
        let ran = shell(&place, export, line);
        wanted(ran.stdout.contains("\"pod\":\"web-"), ran.stdout + &ran.stderr)
    });
    assert!(process.end(Signal::TERM).success());
}
