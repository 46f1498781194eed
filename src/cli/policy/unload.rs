//! `snowglobe policy unload`: deletes a policy, and says which Services it leaves without one.

use std::fs;

use anyhow::bail;
use clap::Args;
use http::Method;
use serde_json::json;

use crate::cli::{
    Output,
    client::{self, ApiError, Flags},
    policy::{World, load, services},
    print,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Name of the policy
    name: String,
    /// What the policy decides, where both worlds have one of that name
    #[arg(long)]
    world: Option<World>,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { name, world, output, cluster: flags } = arguments;
    let cluster = flags.connect().await?;
    let mut found = Vec::new();
    for world in World::ALL.into_iter().filter(|one| world.is_none_or(|world| world == *one)) {
        let path = client::path(world.kind(), None, Some(&name));
        match cluster.request(Method::GET, &path, &[], Vec::new()).await {
            Ok(_) => found.push((world, path)),
            Err(error)
                if error.downcast_ref().is_some_and(|ApiError { code, .. }| *code == 404) => {}
            Err(error) => return Err(error),
        }
    }
    let (world, path) = match found.as_slice() {
        [one] => one,
        [] => {
            bail!("there is no policy {name:?}: `snowglobe policy list` shows those that there are")
        }
        _ => bail!("there is a load balancer and a topology policy {name:?}: choose with --world"),
    };
    cluster.request(Method::DELETE, path, &[], Vec::new()).await?;
    // Elsewhere than on the cluster's machine there are none.
    if let Ok(directory) = flags.data_directory() {
        for file in load::kept_files(&directory.join("policies"), &name) {
            fs::remove_file(file).ok();
        }
    }
    let users = services::users(&cluster, *world, &name).await?;
    let text = match output {
        Some(Output::Json) => {
            let kind = &world.kind().kind;
            let line = json!({"kind": kind, "name": name, "action": "unloaded", "services": users});
            format!("{line}\n")
        }
        None => said(*world, &name, &users),
    };
    print(&text)
}

fn said(world: World, name: &str, users: &[String]) -> String {
    let mut said = format!("{} {name} is unloaded\n", world.kind().kind);
    if !users.is_empty() {
        let instead = match world {
            World::LoadBalancer => "round robin picks for them",
            World::Topology => "they are served as without one",
        };
        said.push_str(&format!(
            "still named by {}: unless it is the name of a built-in one, {instead}\n",
            users.join(", ")
        ));
    }
    said
}
