//! The connection of client commands to the cluster. They use the kubeconfig of `--kubeconfig`, else of
//! `$KUBECONFIG`, else the one in the default data directory.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use clap::Args;
use futures::AsyncBufRead;
use http::{Method, Request};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    app::manifests::Manifest,
    config,
    model::{
        Kind,
        kind::{self, Identity, Text},
    },
};

/// The flags of all client commands.
#[derive(Args)]
pub(super) struct Flags {
    /// The cluster's kubeconfig [default: $KUBECONFIG, else DATA-DIR/kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The cluster's data directory
    #[arg(long, env = "SNOWGLOBE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// An API error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct ApiError {
    /// The HTTP status code.
    pub(super) code: u16,
    message: String,
}

/// Which revisions of a cluster can be read.
pub(super) struct History {
    /// The newest revision.
    pub(super) current: u64,
    /// The oldest revision that can be read.
    pub(super) oldest: u64,
}

/// A connection to the cluster's API.
pub(super) struct Cluster {
    client: Client,
    server: String,
    /// The namespace of the current context.
    pub(super) namespace: String,
}

impl Flags {
    /// Connects to the cluster. If there is none, the error says what to do.
    pub(super) async fn connect(&self) -> anyhow::Result<Cluster> {
        let (kubeconfig, place) = self.kubeconfig()?;
        let options =
            KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .with_context(|| format!("cannot use the kubeconfig {place}"))?;
        // Controllers retry for minutes. A user wants to see the error at once.
        config.default_retry = false;
        let (server, namespace) =
            (config.cluster_url.to_string(), config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config)?, server, namespace })
    }

    /// The cluster's data directory, if that is on this machine: the one that is named, else where the kubeconfig is that
    /// the cluster writes.
    pub(super) fn data_directory(&self) -> anyhow::Result<PathBuf> {
        if let Some(directory) = &self.data_dir {
            return Ok(directory.clone());
        }
        let variable = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let from_variable =
            variable.and_then(|paths| std::env::split_paths(&paths).find(|path| path.exists()));
        let default = || config::default_kubeconfig(None);
        let kubeconfig = self.kubeconfig.clone().or(from_variable).map_or_else(default, Ok)?;
        Ok(kubeconfig.parent().map(PathBuf::from).unwrap_or_default())
    }

    /// Reads the kubeconfig, and returns where it was found. `$KUBECONFIG` may name several files, which are merged.
    /// Files that do not exist are skipped.
    fn kubeconfig(&self) -> anyhow::Result<(Kubeconfig, String)> {
        let variable = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
        let paths: Vec<PathBuf> = match (&self.kubeconfig, &self.data_dir, variable) {
            (Some(path), _, _) => vec![path.clone()],
            (None, None, Some(paths)) => std::env::split_paths(&paths).collect(),
            (None, data_dir, _) => vec![config::default_kubeconfig(data_dir.as_deref())?],
        };
        let place = std::env::join_paths(&paths).unwrap_or_default().display().to_string();
        let existing: Vec<_> = paths.into_iter().filter(|path| path.exists()).collect();
        if existing.is_empty() {
            bail!(
                "there is no kubeconfig at {place}: start a cluster with `snowglobe up`, or name one with --kubeconfig FILE"
            );
        }
        let merged = existing.iter().try_fold(Kubeconfig::default(), |merged, path| {
            Kubeconfig::read_from(path).and_then(|next| merged.merge(next))
        });
        Ok((merged.with_context(|| format!("cannot read the kubeconfig {place}"))?, place))
    }
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Cluster {
    /// Sends one request. An API error becomes an error with its message.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Value> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = self.client.request_text(request.body(body)?).await;
        Ok(serde_json::from_str(&text.map_err(|error| self.explain(error))?)?)
    }

    /// Sends a GET whose answer is read in pieces.
    pub(super) async fn download(
        &self,
        path: &str,
    ) -> anyhow::Result<impl AsyncBufRead + Unpin + use<>> {
        let request = Request::get(path).body(Vec::new())?;
        let answer = self.client.request_stream(request).await;
        Ok(Box::pin(answer.map_err(|error| self.explain(error))?))
    }

    /// Asks which revisions can be read.
    pub(super) async fn history(&self) -> anyhow::Result<History> {
        let path = "/apis/snowglobe.dev/v1alpha1/history";
        let answer = self.request(Method::GET, path, &[], Vec::new()).await?;
        let number = |field: &str| {
            let text = answer[field].as_str().context("the cluster does not tell its history")?;
            text.parse().with_context(|| format!("the revision {text:?} is no number"))
        };
        Ok(History {
            current: number("resourceVersion")?,
            oldest: number("oldestResourceVersion")?,
        })
    }

    fn explain(&self, error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(status) => {
                ApiError { code: status.code, message: status.message }.into()
            }
            error => anyhow::Error::from(error).context(format!(
                "no answer from {}: is the cluster running? Start it with `snowglobe up`",
                self.server
            )),
        }
    }
}

impl Cluster {
    /// Finds a resource by the name that a user types: plural, singular, short name, kind, or `plural.group`. What no
    /// cluster has by itself, the server is asked for.
    pub(super) async fn resource(&self, name: &str) -> anyhow::Result<Kind> {
        let lower = name.to_ascii_lowercase();
        let is_meant = |kind: &&Kind| {
            kind.plural == lower
                || kind.singular == lower
                || kind.short_names.iter().any(|short| *short == lower)
                || format!("{}.{}", kind.plural, kind.group) == lower
        };
        if let Some(kind) = kind::BUILT_IN.iter().copied().find(is_meant) {
            return Ok(kind.clone());
        }
        let kinds = self.discovered().await?;
        kinds.iter().find(is_meant).cloned().with_context(|| {
            let all: Vec<&str> = kinds.iter().map(|kind| &*kind.plural).collect();
            format!("there is no resource {name:?}; there are: {}", all.join(", "))
        })
    }

    /// The kind of a manifest.
    pub(super) async fn kind_of(&self, manifest: &Manifest) -> anyhow::Result<Kind> {
        let built_in = kind::BUILT_IN.iter().copied().find(|kind| manifest.is_of(kind));
        if let Some(kind) = built_in {
            return Ok(kind.clone());
        }
        let kinds = self.discovered().await?;
        kinds.into_iter().find(|kind| manifest.is_of(kind)).ok_or_else(|| manifest.not_served())
    }

    /// Every kind that the server serves.
    async fn discovered(&self) -> anyhow::Result<Vec<Kind>> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            let answer = self.request(Method::GET, path, &[("accept", AGGREGATED)], Vec::new());
            let Discovery { items } = serde_json::from_value(answer.await?)
                .context("the server's discovery cannot be read")?;
            for group in items {
                for Version { version, resources } in group.versions {
                    let of = |resource| kind_from(&group.metadata.name, &version, resource);
                    kinds.extend(resources.into_iter().map(of));
                }
            }
        }
        Ok(kinds)
    }
}

/// The document of all resources of a server.
#[derive(Deserialize)]
struct Discovery {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: GroupName,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct GroupName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    #[serde(default)]
    singular_resource: String,
    #[serde(default)]
    short_names: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

fn kind_from(group: &str, version: &str, resource: Resource) -> Kind {
    Kind::Custom(Arc::new(Identity {
        group: group.to_owned().into(),
        version: version.to_owned().into(),
        kind: resource.response_kind.kind.into(),
        plural: resource.resource.into(),
        singular: resource.singular_resource.into(),
        list_kind: Text::default(),
        short_names: resource.short_names.into_iter().map(Text::from).collect(),
        categories: Cow::default(),
        namespaced: resource.scope == "Namespaced",
        has_status: false,
        has_scale: false,
        has_generation: false,
        kept_by_status: None,
        stored_as: None,
    }))
}

/// The path of a list of a kind, or of one object.
pub(super) fn path(kind: &Kind, namespace: Option<&str>, name: Option<&str>) -> String {
    let group = if kind.group.is_empty() {
        "/api/v1".to_owned()
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let namespace = match namespace {
        Some(namespace) if kind.namespaced => format!("/namespaces/{namespace}"),
        _ => String::new(),
    };
    let name = name.map(|name| format!("/{name}")).unwrap_or_default();
    format!("{group}{namespace}/{}{name}", kind.plural)
}
