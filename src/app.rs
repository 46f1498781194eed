//! The composition root: builds everything in order, and takes it down in the reverse order.
//!
//! Enter at [`start`]. Every socket is bound first, so that a taken port stops the start before anything has happened;
//! then store -> registry -> first objects -> nodes, controllers, routes -> proxy and DNS -> API and dashboard -> ready.

mod bind;
mod bootstrap;
mod hosts;
pub mod manifests;
mod parts;
mod traffic;

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, certificates},
    config::{Options, Store as StoreChoice},
    controllers::{self, notices, policies, routes, runner},
    dashboard, dns,
    node::{self, Nodes},
    policy::library::Library,
    proxy::{self, Proxy, dataplane::loopback::Loopback},
    registry::{self, Registry},
    route::{RouteTable, build, notice::NOTICES_MAX},
    runtime::{PodRuntime, simulated::Simulated},
    store::{Memory, Sled, Store},
    telemetry::Metrics,
};

/// The parts of a cluster that can be exchanged.
pub struct Seams {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// What stands behind pods.
    pub runtime: Arc<dyn PodRuntime>,
}

/// Where everything is, as printed once it runs.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// `https://...`
    pub api: String,
    /// `http://.../?token=...`
    pub dashboard: String,
    /// `IP:PORT`
    pub dns: String,
    /// `http://...`
    pub metrics: String,
    /// Path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// Of the process.
    pub pid: u32,
}

/// A running cluster.
pub struct Running {
    /// Where everything is.
    pub addresses: Addresses,
    /// For manifests that are applied from inside.
    pub registry: Arc<Registry>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    served: watch::Receiver<u64>,
    ready: watch::Sender<bool>,
    tasks: JoinSet<(&'static str, anyhow::Result<()>)>,
    stages: Vec<Stage>,
}

/// What stops together. Stages stop one after the other, those that clients see first.
struct Stage {
    token: CancellationToken,
    tasks: Vec<&'static str>,
}

/// How long one stage may take to stop before the next one is told.
const STAGE_STOP_MAX: Duration = Duration::from_secs(5);
/// How long the start may take until existing Services have listeners and DNS answers.
const START_MAX: Duration = Duration::from_secs(30);
/// Open proxied connections may go on this long after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(1);

impl Seams {
    /// The real parts that the options name.
    pub async fn open(options: &Options) -> anyhow::Result<Self> {
        let store: Arc<dyn Store> = match options.store {
            StoreChoice::Memory => Arc::new(Memory::new()),
            StoreChoice::Sled => {
                let directory = options.data_dir.clone();
                // Opening reads everything; that is no work for an async thread.
                Arc::new(tokio::task::spawn_blocking(move || Sled::open(&directory)).await??)
            }
        };
        Ok(Self { store, runtime: Arc::new(Simulated::new(CancellationToken::new())) })
    }
}

/// Starts a cluster. On return the API is ready, and existing Services have listeners and DNS names.
pub async fn start(options: Options, seams: Seams) -> anyhow::Result<Running> {
    let sockets = bind::all(&options).await?;
    let metrics = Metrics::default();
    let authority = certificates::Authority::open(&options.data_dir.join("pki"))?;
    let registry = Arc::new(Registry::open(seams.store, registry_options(&options)).await?);
    let mut cluster = Cluster {
        tasks: JoinSet::new(),
        stages: Vec::new(),
        registry: registry.clone(),
        metrics,
    };
    let storage = cluster.stage();
    cluster.spawn(&storage, "registry", {
        let (registry, token) = (registry.clone(), storage.clone());
        async move { registry.run(token).await.context("the object store is lost") }
    });
    bootstrap::objects(&registry, &options, sockets.api).await?;
    let (runtime, ready) = (seams.runtime, watch::Sender::new(false));
    let (tables, table) = watch::channel(Arc::new(RouteTable::default()));
    let (notices, noticed) = mpsc::channel(NOTICES_MAX);
    let library = Library::new(notices.clone())?;
    cluster.start_control(&options, &sockets, &authority, &runtime, &library, noticed, tables).await?;
    let proxy = cluster.start_proxy(&options, &library, notices, table.clone());
    cluster.start_dns(sockets.dns, table);
    let addresses = write_kubeconfig(&options, &authority, &sockets.addresses)?;
    let http = HttpListeners {
        api: sockets.api_listener,
        dashboard: sockets.dashboard_listener,
        metrics: sockets.metrics_listener,
    };
    let url = cluster.start_http(&options, http, &authority, &runtime, &proxy, &ready)?;
    let running = Running {
        addresses: Addresses { dashboard: url, ..addresses },
        registry,
        cluster_domain: options.cluster_domain,
        served: proxy.served_revision(),
        ready,
        tasks: cluster.tasks,
        stages: cluster.stages,
    };
    running.become_ready().await?;
    Ok(running)
}
