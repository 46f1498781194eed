//! `snowglobe delete`: by resource and name, or by manifest.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;

use crate::cli::{
    apply,
    client::{self, Flags},
    print,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// What to delete: pod, svc, ...
    #[arg(required_unless_present = "filename", requires = "name")]
    resource: Option<String>,
    /// Which
    name: Option<String>,
    /// Everything that these manifests name; `-` is standard input
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with = "resource")]
    filename: Vec<PathBuf>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: Flags,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let manifests = apply::read(&arguments.filename)?;
    let cluster = arguments.cluster.connect().await?;
    let namespace = arguments.namespace.as_deref().unwrap_or(&cluster.namespace);
    let mut targets = Vec::new();
    if let (Some(resource), Some(name)) = (&arguments.resource, &arguments.name) {
        let kind = client::resource(resource)?;
        let path = client::path(kind, Some(namespace), Some(name));
        targets.push((path, format!("{} {name}", kind.kind)));
    }
    // What was applied last goes first.
    for manifest in manifests.iter().rev() {
        let key = manifest.key(namespace);
        let path = client::path(key.kind, Some(&key.namespace), Some(&key.name));
        targets.push((path, key.to_string()));
    }
    if targets.is_empty() {
        bail!("nothing to delete: the manifests name no object");
    }
    for (path, name) in targets {
        cluster
            .request(Method::DELETE, &path, &[], Vec::new())
            .await
            .with_context(|| format!("cannot delete {name}"))?;
        print(&format!("{name} deleted\n"))?;
    }
    Ok(())
}
