//! `snowglobe delete`: deletes objects by resource and name, or by manifest.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;

use crate::{
    cli::{
        Output, apply,
        client::{self, Flags},
        report,
    },
    model::ObjectKey,
};

#[derive(Args)]
pub(super) struct Arguments {
    /// What to delete: pod, svc, ...
    #[arg(required_unless_present = "filename", requires = "name")]
    resource: Option<String>,
    /// Name of the object
    name: Option<String>,
    /// Delete all objects in these manifests; `-` is standard input
    #[arg(short, long, value_name = "FILE|DIR", conflicts_with = "resource")]
    filename: Vec<PathBuf>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let manifests = apply::read(&arguments.filename)?;
    let cluster = arguments.cluster.connect().await?;
    let namespace = arguments.namespace.as_deref().unwrap_or(&cluster.namespace);
    let mut targets = Vec::new();
    if let (Some(resource), Some(name)) = (&arguments.resource, &arguments.name) {
        let kind = cluster.resource(resource).await?;
        let namespace = if kind.namespaced { namespace } else { "" };
        targets.push(ObjectKey::new(&kind, namespace, name));
    }
    // Delete in the reverse order of apply.
    for manifest in manifests.iter().rev() {
        targets.push(manifest.key(&cluster.kind_of(manifest).await?, namespace));
    }
    if targets.is_empty() {
        bail!("nothing to delete: the manifests name no object");
    }
    for key in targets {
        let path = client::path(&key.kind, Some(&key.namespace), Some(&key.name));
        // As in kubectl: the pods of a Job are deleted too.
        let path = format!("{path}?propagationPolicy=Background");
        cluster
            .request(Method::DELETE, &path, &[], Vec::new())
            .await
            .with_context(|| format!("cannot delete {key}"))?;
        report(&key, "deleted", arguments.output)?;
    }
    Ok(())
}
