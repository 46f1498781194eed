//! `snowglobe status`: whether the cluster runs and what is in it.

use clap::Args;
use http::Method;
use serde_json::{Map, json};

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
    let mut counts = Map::new();
    for kind in kind::stored() {
        let list = get(&client::path(kind, None, None)).await?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        counts.insert(kind.plural.to_owned(), count.into());
    }
    let text = match arguments.output {
        Some(Output::Json) => {
            let revisions = json!({"current": current, "oldest": oldest});
            format!("{}\n", json!({"version": version, "revisions": revisions, "objects": counts}))
        }
        None => {
            let lines = counts.iter().filter(|(_, count)| **count != 0);
            let lines: String =
                lines.map(|(name, count)| format!("  {name:<22} {count}\n")).collect();
            format!("running, {version}\nrevision {current}, kept since {oldest}\n{lines}")
        }
    };
    print(&text)
}
