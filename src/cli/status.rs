//! `snowglobe status`: shows whether the cluster is running and what it contains.

use clap::Args;
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        Output,
        client::{self, Flags, History},
        print,
    },
    model::kind,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = arguments.cluster.connect().await?;
    let get = async |path: &str| cluster.request(Method::GET, path, &[], Vec::new()).await;
    let version = get("/version").await?;
    let version = version["gitVersion"].as_str().unwrap_or_default();
    let History { current, oldest } = cluster.history().await?;
    let store = get("/apis/snowglobe.dev/v1alpha1/store").await?;
    let mut counts = Map::new();
    for kind in kind::BUILT_IN.iter().filter(|kind| kind.stored_as.is_none()) {
        let list = get(&client::path(kind, None, None)).await?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        counts.insert(kind.plural.to_string(), count.into());
    }
    let text = match arguments.output {
        Some(Output::Json) => {
            let revisions = json!({"current": current, "oldest": oldest});
            let store = json!({"stopped": store["stopped"], "unreadable": store["unreadable"]});
            let status = json!({"version": version, "revisions": revisions, "store": store,
                "objects": counts});
            format!("{status}\n")
        }
        None => {
            let lines = counts.iter().filter(|(_, count)| **count != 0);
            let lines: String =
                lines.map(|(name, count)| format!("  {name:<22} {count}\n")).collect();
            let problems = store_problems(&store);
            format!(
                "running, {version}\nrevision {current}, kept since {oldest}\n{problems}{lines}"
            )
        }
    };
    print(&text)
}

/// The problems of the store; empty if there are none.
fn store_problems(store: &Value) -> String {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let stopped = store["stopped"].as_str().map(|why| format!("not writable: {why}\n"));
    let unreadable = store["unreadable"].as_array().into_iter().flatten().map(|value| {
        let (resource, name) = (text(value, "resource"), text(value, "name"));
        let option = match text(value, "namespace") {
            namespace if namespace.is_empty() => namespace,
            namespace => format!(" -n {namespace}"),
        };
        format!(
            "not readable: {} ({}); `kubectl delete {resource} {name}{option}` removes it\n",
            text(value, "key"),
            text(value, "reason")
        )
    });
    stopped.into_iter().chain(unreadable).collect()
}
