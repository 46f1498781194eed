//! `snowglobe policy list`: the policies of the cluster, who uses them, and what they do.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use crate::cli::{
    client::{self, ApiError, Cluster, Flags},
    get::align,
    policy::{World, grouped, services, text},
    print,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Wide,
}

/// Where what policies did is told.
const STATS: &str = "/apis/snowglobe.dev/v1alpha1/policystats";

/// One policy.
struct Row {
    world: World,
    policy: Value,
    services: Vec<String>,
    /// What it did; null if the cluster does not tell.
    stats: Value,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = arguments.cluster.connect().await?;
    let stats = items(&cluster, STATS).await?;
    let stats: BTreeMap<(&str, &str), &Value> =
        stats.iter().map(|one| ((text(one, "/world"), text(one, "/metadata/name")), one)).collect();
    let mut rows = Vec::new();
    for world in World::ALL {
        let namings = services::namings(&cluster, world).await?;
        for policy in items(&cluster, &client::path(world.kind(), None, None)).await? {
            let name = text(&policy, "/metadata/name");
            let users = namings.iter().filter(|naming| naming.policy == name);
            let services = users.map(|naming| naming.service.clone()).collect();
            let stats = stats.get(&(world.name(), name)).copied().cloned().unwrap_or_default();
            rows.push(Row { world, policy, services, stats });
        }
    }
    let is_wide = arguments.output == Some(Output::Wide);
    if arguments.output == Some(Output::Json) {
        let all: Vec<Value> = rows.iter().map(Row::json).collect();
        return print(&format!("{}\n", Value::from(all)));
    }
    let mut lines = vec![header(is_wide)];
    lines.extend(rows.iter().map(|row| row.cells(is_wide)));
    print(&align(&lines))
}

/// The items of a list; none if the cluster has no such kind.
async fn items(cluster: &Cluster, path: &str) -> anyhow::Result<Vec<Value>> {
    match cluster.request(Method::GET, path, &[], Vec::new()).await {
        Ok(mut list) => Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()),
        Err(error) if error.downcast_ref().is_some_and(|ApiError { code, .. }| *code == 404) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn header(is_wide: bool) -> Vec<String> {
    let narrow =
        ["NAME", "WORLD", "READY", "SERVICES", "PICKS", "FALLBACKS", "FAILURES", "PICK TIME"];
    let wide = ["P50", "P99", "INSTANCES", "MEMORY", "FORM", "DIGEST", "LAST FAILURE"];
    let wide = wide.into_iter().filter(|_| is_wide);
    narrow.into_iter().chain(wide).map(str::to_owned).collect()
}

impl Row {
    fn name(&self) -> &str {
        text(&self.policy, "/metadata/name")
    }

    fn ready(&self) -> &str {
        let conditions = self.policy["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
        ready.next().map_or("Unknown", |condition| text(condition, "/status"))
    }

    fn json(&self) -> Value {
        json!({"name": self.name(), "world": self.world.name(), "ready": self.ready(),
            "digest": self.policy["status"]["digest"], "module": module(&self.policy),
            "services": self.services, "stats": self.stats})
    }

    fn cells(&self, is_wide: bool) -> Vec<String> {
        let stats = &self.stats;
        let failures: Option<u64> = stats["failures"]
            .as_object()
            .map(|kinds| kinds.values().filter_map(Value::as_u64).sum());
        let services =
            if self.services.is_empty() { "-".to_owned() } else { self.services.join(",") };
        let mut cells = vec![
            self.name().to_owned(),
            self.world.name().to_owned(),
            self.ready().to_owned(),
            services,
            count(stats["picks"].as_u64()),
            count(stats["fallbacks"].as_u64()),
            count(failures),
            time(&stats["pickNanoseconds"]["mean"]),
        ];
        if is_wide {
            let kib = stats["memoryBytes"].as_u64().map(|bytes| bytes.div_ceil(1024));
            let word = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            cells.extend([
                time(&stats["pickNanoseconds"]["p50"]),
                time(&stats["pickNanoseconds"]["p99"]),
                count(stats["instances"].as_u64()),
                kib.map_or("-".to_owned(), |kib| format!("{} KiB", grouped(kib))),
                word(text(stats, "/form")),
                word(text(&self.policy, "/status/digest")),
                word(text(stats, "/lastFailure")),
            ]);
        }
        cells
    }
}

/// Where a policy's module comes from: `builtin`, `path`, `configMap` or `inline`.
fn module(policy: &Value) -> Value {
    let module = policy["spec"]["module"].as_object();
    module
        .and_then(|fields| fields.keys().next())
        .map_or(Value::Null, |field| field.as_str().into())
}

fn count(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), grouped)
}

fn time(nanoseconds: &Value) -> String {
    nanoseconds.as_f64().map_or("-".to_owned(), |time| format!("{time:.0} ns"))
}
