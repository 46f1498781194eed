//! `snowglobe policy`: from an idea to a scheduler under live traffic. `new`, `build` and `test` need no cluster; `load`,
//! `unload` and `list` are clients of its API.

mod build;
mod language;
mod list;
mod load;
mod new;
mod report;
mod services;
mod test;
mod unload;

use std::{fs, path::Path};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::{
    model::{Kind, kind},
    policy::PolicyKind,
};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a project of a policy that works
    New(new::Arguments),
    /// Make the module of a project, with the tools of its language
    Build(build::Arguments),
    /// Check a module, time it and show what it does, without a cluster
    Test(test::Arguments),
    /// Put a module into the running cluster, or replace the one of that name under traffic
    Load(load::Arguments),
    /// Take a policy out of the running cluster
    Unload(unload::Arguments),
    /// Show the policies of the running cluster, with live numbers
    List(list::Arguments),
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::New(arguments) => new::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Load(arguments) => load::run(arguments).await,
        Command::Unload(arguments) => unload::run(arguments).await,
        Command::List(arguments) => list::run(arguments).await,
    }
}

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum World {
    /// Which endpoint a connection gets
    LoadBalancer,
    /// Which endpoints a client may see
    Topology,
}

impl World {
    const ALL: [Self; 2] = [Self::LoadBalancer, Self::Topology];

    /// As in `policy.wit`.
    fn name(self) -> &'static str {
        match self {
            Self::LoadBalancer => "load-balancer",
            Self::Topology => "topology",
        }
    }

    fn policy_kind(self) -> PolicyKind {
        match self {
            Self::LoadBalancer => PolicyKind::LoadBalancer,
            Self::Topology => PolicyKind::Topology,
        }
    }

    /// The kind of its objects.
    fn kind(self) -> &'static Kind {
        match self {
            Self::LoadBalancer => &kind::LOAD_BALANCER_POLICY,
            Self::Topology => &kind::TOPOLOGY_POLICY,
        }
    }

    /// What a Service names such a policy in.
    fn annotation(self) -> &'static str {
        match self {
            Self::LoadBalancer => "snowglobe.dev/load-balancer-policy",
            Self::Topology => "snowglobe.dev/topology-policy",
        }
    }
}

/// Refuses what cannot be the name of an object.
fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > 63 {
        format!("has {} characters, more than 63", name.len())
    } else if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        format!("has {other:?} in it")
    } else if name.starts_with('-') || name.ends_with('-') {
        "begins or ends with '-'".to_owned()
    } else {
        return Ok(());
    };
    bail!(
        "the name {name:?} {wrong}: a policy's name is a DNS label of a-z, 0-9 and '-', for example `least-latency`"
    )
}

/// Reads a module.
fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let hint = "`snowglobe policy build` prints the path of the module that it makes";
    fs::read(file).with_context(|| format!("cannot read the module {}; {hint}", file.display()))
}

/// Reads the text for a module's configuration.
fn read_config(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file);
    text.map(Some).with_context(|| format!("cannot read the configuration {}", file.display()))
}

/// A field of a document as text, or nothing.
fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// 12345 as `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for name in ["a", "least-latency", "p2c", &"x".repeat(63)] {
            check_name(name).unwrap();
        }
        for (name, wrong) in [
            ("", "is empty"),
            ("Mine", "has 'M' in it"),
            ("my_policy", "has '_' in it"),
            ("../x", "has '.' in it"),
            ("-a", "begins or ends with '-'"),
            ("a-", "begins or ends with '-'"),
            (&"x".repeat(64), "has 64 characters"),
        ] {
            let refused = check_name(name).unwrap_err().to_string();
            assert!(refused.contains(wrong) && refused.contains("DNS label"), "{refused}");
        }
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
