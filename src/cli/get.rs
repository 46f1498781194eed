//! `snowglobe get`: shows objects as kubectl does, for users without kubectl.

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use crate::{
    cli::{
        client::{self, ApiError, Cluster, Flags},
        print,
    },
    model::Kind,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// What to show: pods, svc, deployments.apps, ...
    resource: String,
    /// Show only this object
    name: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Show objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    /// Label selector
    #[arg(short = 'l', long, default_value = "", conflicts_with = "name")]
    selector: String,
    /// Show the state at this revision (any object or list shows its revision as resourceVersion; `snowglobe status`
    /// shows which ones are kept)
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Yaml,
    Wide,
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// Number of spaces between columns.
const GAP: usize = 3;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = arguments.cluster.connect().await?;
    let kind = &cluster.resource(&arguments.resource).await?;
    let namespace = arguments.namespace.as_deref().unwrap_or(&cluster.namespace);
    let namespace = (!arguments.all_namespaces).then_some(namespace);
    let accept = match arguments.output {
        Some(Output::Json | Output::Yaml) => "application/json",
        Some(Output::Wide) | None => TABLE,
    };
    let path = path(&arguments, kind, namespace);
    let answer = cluster.request(Method::GET, &path, &[("accept", accept)], Vec::new()).await;
    let answer = answer.map(|answer| with_kinds(answer, kind));
    let answer = match (answer, arguments.at) {
        (Ok(answer), Some(at)) => past(answer, &arguments, kind, at)?,
        (Err(error), Some(at)) => return Err(explain(error, &cluster, at).await),
        (answer, None) => answer?,
    };
    let text = match arguments.output {
        Some(Output::Json) => format!("{answer:#}\n"),
        Some(Output::Yaml) => serde_yaml::to_string(&answer)?,
        wide => {
            let with_namespace = arguments.all_namespaces && kind.namespaced;
            table(&answer, wide == Some(Output::Wide), with_namespace)
        }
    };
    if text.is_empty() {
        let place = namespace.filter(|_| kind.namespaced);
        let place = place.map(|name| format!(" in {name} namespace")).unwrap_or_default();
        return print(&format!("No resources found{place}.\n"));
    }
    print(&text)
}

/// How long the store keeps history. The limits are in the store.
const KEPT: &str = "history is kept for 5 minutes, or less when it grows beyond 10,000 revisions or 64 MiB, but never \
    less than 1,000 revisions";

/// The path and query of the request. Past revisions can only be listed, so one object is a list that selects one
/// name.
fn path(arguments: &Arguments, kind: &Kind, namespace: Option<&str>) -> String {
    let name = arguments.name.as_deref();
    let mut query = Vec::new();
    if !arguments.selector.is_empty() {
        query.push(format!("labelSelector={}", percent_encode(&arguments.selector)));
    }
    if let Some(at) = arguments.at {
        query.push(format!("resourceVersion={at}&resourceVersionMatch=Exact"));
        query.extend(name.map(|name| {
            format!("fieldSelector={}", percent_encode(&format!("metadata.name={name}")))
        }));
    }
    let path = client::path(kind, namespace, name.filter(|_| arguments.at.is_none()));
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

/// Adds kind and apiVersion to the items of a list. In a list they have none, but as single documents they need them.
fn with_kinds(mut answer: Value, kind: &Kind) -> Value {
    let items = answer.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten().filter_map(Value::as_object_mut) {
        for (field, text) in [("kind", kind.kind.to_string()), ("apiVersion", kind.api_version())] {
            if !item.contains_key(field) {
                item.shift_insert(0, field.to_owned(), text.into());
            }
        }
    }
    answer
}

/// The answer for a past revision: the list, or the one object that the user asked for.
fn past(
    mut answer: Value,
    arguments: &Arguments,
    kind: &Kind,
    revision: u64,
) -> anyhow::Result<Value> {
    let Some(name) = &arguments.name else { return Ok(answer) };
    let as_table = answer["kind"] == "Table";
    let found = if as_table { &mut answer["rows"] } else { &mut answer["items"] };
    match found.as_array_mut().and_then(Vec::pop) {
        None if kind.group.is_empty() => {
            bail!("{} {name:?} not found at revision {revision}", kind.plural)
        }
        None => bail!("{}.{} {name:?} not found at revision {revision}", kind.plural, kind.group),
        Some(row) if as_table => {
            answer["rows"] = vec![row].into();
            Ok(answer)
        }
        Some(object) => Ok(object),
    }
}

/// Replaces an error by a better one if the revision is not kept or does not exist yet.
async fn explain(error: anyhow::Error, cluster: &Cluster, asked: u64) -> anyhow::Error {
    let code = error.downcast_ref().map_or(0, |ApiError { code, .. }| *code);
    if code != 410 && code != 504 {
        return error;
    }
    let Ok(client::History { current, oldest }) = cluster.history().await else { return error };
    if asked > current {
        return anyhow!("revision {asked} has not happened yet: the newest is {current}");
    }
    anyhow!("revision {asked} is no longer kept: the oldest is {oldest}; {KEPT}")
}

/// Percent-encodes everything but letters, digits and `-._`.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Formats a server-side Table as aligned text. A table without rows gives an empty text.
fn table(table: &Value, wide: bool, with_namespace: bool) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let columns: Vec<(usize, String)> = list(&table["columnDefinitions"])
        .iter()
        .enumerate()
        .filter(|(_, column)| wide || column["priority"].as_i64().unwrap_or(0) == 0)
        .map(|(index, column)| (index, column["name"].as_str().unwrap_or("").to_uppercase()))
        .collect();
    let rows = list(&table["rows"]);
    if rows.is_empty() {
        return String::new();
    }
    let first = |text: &str| with_namespace.then(|| text.to_owned()).into_iter();
    let header = columns.iter().map(|(_, name)| name.clone());
    let mut lines: Vec<Vec<String>> = vec![first("NAMESPACE").chain(header).collect()];
    for row in &rows {
        let namespace = row["object"]["metadata"]["namespace"].as_str().unwrap_or_default();
        let cells = columns.iter().map(|(index, _)| match &row["cells"][*index] {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".to_owned(),
            other => other.to_string(),
        });
        lines.push(first(namespace).chain(cells).collect());
    }
    align(&lines)
}

/// Columns of text; the first line is the header.
pub(super) fn align(lines: &[Vec<String>]) -> String {
    let count = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count)
        .map(|c| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0) + GAP)
        .collect();
    let mut text = String::new();
    for line in lines {
        let padded: String =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}
