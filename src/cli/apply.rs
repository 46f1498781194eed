//! `snowglobe apply -f`: server-side apply of manifests, for users without kubectl.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use http::Method;

use crate::{
    app::manifests::{self, Manifest},
    cli::{
        Output,
        client::{self, Flags},
        report,
    },
};

#[derive(Args)]
pub(super) struct Arguments {
    /// Files, or directories of them; `-` is standard input
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    filename: Vec<PathBuf>,
    /// Namespace of objects that have none in their manifest [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Form of the output
    #[arg(short, long)]
    output: Option<Output>,
    #[command(flatten)]
    cluster: Flags,
}

const MANAGER: &str = "snowglobe-apply";

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let manifests = read(&arguments.filename)?;
    let cluster = arguments.cluster.connect().await?;
    let default = arguments.namespace.as_deref().unwrap_or(&cluster.namespace);
    for manifest in &manifests {
        let kind = cluster.kind_of(manifest).await?;
        let key = manifest.key(&kind, default);
        let path = client::path(&key.kind, Some(&key.namespace), Some(&key.name));
        let path = format!("{path}?fieldManager={MANAGER}&fieldValidation=Strict&force=true");
        let headers = [("content-type", "application/apply-patch+yaml")];
        let body = manifest.document().to_string().into_bytes();
        cluster
            .request(Method::PATCH, &path, &headers, body)
            .await
            .with_context(|| manifest.place.clone())?;
        report(&key, "applied", arguments.output)?;
    }
    Ok(())
}

/// Reads the manifests of files, directories and standard input.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut all = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text =
                std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?;
            manifests::parse("standard input", &text, &mut all)?;
        } else {
            all.extend(manifests::read(std::slice::from_ref(path))?);
        }
    }
    Ok(all)
}
