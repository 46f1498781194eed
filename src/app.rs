//! The composition root: starts all parts of a cluster in order, and stops them in the reverse order.
//!
//! Enter at [`start`]. It binds every socket first: if a port is taken, the start fails before anything else has
//! happened. Then it starts, in this order: store, registry, first objects, nodes, controllers and routes, proxy and
//! DNS, API and dashboard. After that the cluster is ready.

mod bind;
mod bootstrap;
mod data;
mod hosts;
mod http;
pub mod kubeconfig;
pub mod manifests;
mod mirror_pods;
mod seed;
pub mod snapshot;
mod tasks;
mod traffic;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    api::authentication::{account_tokens::secret_token, static_tokens::StaticTokens},
    app::{bind::Sockets, data::SpawnedPods, kubeconfig::Entry, tasks::Tasks},
    config::{Options, Store as StoreChoice},
    controllers::{self, kube_proxy, notices, policies, routes, runner},
    descriptors::Budget,
    node::{self, Nodes},
    pki::{certificates::Authority, jwt::SigningKey},
    policy::{self, Scheduler, library::Library, topologies::Topologies},
    proxy::{self, Proxy, dataplane::loopback::Loopback},
    registry::{self, ROUTED, Registry},
    route::{Notice, RouteTable, build, notice::NOTICES_MAX},
    runtime::{Runtimes, simulated::Simulated},
    store::{self, Etcd, EtcdOptions, Memory, Sled, Store},
    telemetry::Metrics,
};

pub use bind::{DirectoryLock, data_directory};
pub use data::DataRuntime;

/// The parts of a cluster that tests and options can exchange.
pub struct Seams {
    /// The object store.
    pub store: Arc<dyn Store>,
    /// The runtimes that run pods.
    pub runtimes: Runtimes,
    /// The budget of file descriptors. All parts of the cluster share it, also the runtimes.
    pub descriptors: Budget,
    /// The Tokio runtime of the data half.
    pub data: DataRuntime,
}

/// The addresses of the servers, as `snowglobe up` prints them.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    /// The URL of the API, `https://...`.
    pub api: String,
    /// The URL of the dashboard, `http://.../?token=...`.
    pub dashboard: String,
    /// The address of the DNS server, `IP:PORT`.
    pub dns: String,
    /// The URL of the metrics, `http://...`.
    pub metrics: String,
    /// The path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// The context of this cluster in the kubeconfig, if the current context is another one.
    #[serde(skip)]
    pub context: Option<String>,
    /// The number of this process.
    pub pid: u32,
}

/// A running cluster.
pub struct Running {
    /// The addresses of its servers.
    pub addresses: Addresses,
    registry: Arc<Registry>,
    proxy: Arc<Proxy>,
    ready: watch::Sender<bool>,
    tasks: Tasks,
    /// It is dropped after the tasks have ended.
    _data: DataRuntime,
}

/// What the tasks share during the start.
struct Cluster {
    options: Options,
    descriptors: Budget,
    registry: Arc<Registry>,
    runtimes: Runtimes,
    library: Arc<Library>,
    /// The topology policies.
    topologies: Arc<Library>,
    authority: Authority,
    account_key: Arc<SigningKey>,
    static_tokens: StaticTokens,
    kept: Arc<bootstrap::Kept>,
    metrics: Metrics,
    tasks: Tasks,
    data: DataRuntime,
}

/// The start fails if existing Services have no listeners, or DNS does not answer, after this time.
const START_MAX: Duration = Duration::from_secs(30);
/// After Ctrl-C, open proxied connections may continue for this time.
const DRAIN: Duration = Duration::from_secs(1);
/// What the user can do when the object store has failed for good.
const STORE_LOST: &str = "the object store is lost (start again once the cause is mended; should that fail, \
                          `snowglobe snapshot restore` restores a snapshot)";
/// How often the log repeats that the store accepts no writes any more.
const STOP_TOLD: Duration = Duration::from_secs(60);
/// The default of kube-controller-manager.
const ENDPOINTS_PER_SLICE_MAX: usize = 100;
/// The default of kube-apiserver.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

impl Seams {
    /// Opens the store and the runtimes that the options name.
    pub async fn open(options: &Options) -> anyhow::Result<Self> {
        let store: Arc<dyn Store> = match &options.store {
            StoreChoice::Etcd(etcd) => Arc::new(Etcd::open(EtcdOptions::clone(etcd)).await?),
            StoreChoice::Memory => Arc::new(Memory::new()),
            StoreChoice::Sled => {
                let directory = options.data_dir.clone();
                // Opening the store reads all of it. This would block an async thread.
                Arc::new(tokio::task::spawn_blocking(move || Sled::open(&directory)).await??)
            }
        };
        bind::raise_descriptor_limit();
        let descriptors = Budget::of_this_process();
        let data = DataRuntime::start().context("cannot start the threads of the data half")?;
        let pods = Arc::new(Simulated::new(descriptors.clone(), CancellationToken::new()));
        let runtime = Arc::new(SpawnedPods { pods, runtime: data.handle().clone() });
        let runtimes = Runtimes::new(runtime);
        Ok(Self { store, runtimes, descriptors, data })
    }
}

/// Starts a cluster. When it returns, the API is ready, and existing Services have listeners and DNS names.
pub async fn start(options: Options, seams: Seams) -> anyhow::Result<Running> {
    let sockets = bind::all(&options).await?;
    let keys = options.data_dir.join("pki");
    let authority = Authority::open(&keys)?;
    let account_key = Arc::new(SigningKey::open(&keys)?);
    let static_tokens = options.token_auth_file.as_deref().map(StaticTokens::read);
    let static_tokens = static_tokens.transpose()?.unwrap_or_default();
    let registry = Arc::new(Registry::open(seams.store, registry_options(&options)).await?);
    let (notices, noticed) = mpsc::channel(NOTICES_MAX);
    let compiled = options.data_dir.join("cache/policies");
    let library = Library::new(notices.clone(), Some(compiled))?;
    let topologies = library.for_topologies();
    let (metrics, tasks) = (Metrics::default(), Tasks::default());
    let mut cluster = Cluster {
        options,
        descriptors: seams.descriptors,
        registry,
        runtimes: seams.runtimes,
        library,
        topologies,
        authority,
        account_key,
        static_tokens,
        kept: Arc::default(),
        metrics,
        tasks,
        data: seams.data,
    };
    cluster.start_registry();
    let api = sockets.api.local_addr()?;
    let kept = bootstrap::objects(&cluster.registry, &cluster.options, api).await?;
    seed::objects(&cluster.registry).await?;
    cluster.kept = Arc::new(kept);
    let (tables, table) = watch::channel(Arc::new(RouteTable::default()));
    cluster.start_control(&sockets, noticed, tables).await?;
    let proxy = cluster.start_proxy(notices, table.clone());
    let addresses = cluster.addresses(&sockets).await?;
    let ready = watch::Sender::new(false);
    let token = cluster.start_servers(sockets, table, &proxy, &ready)?;
    let addresses =
        Addresses { dashboard: format!("{}/?token={token}", addresses.dashboard), ..addresses };
    let Cluster { registry, tasks, data, .. } = cluster;
    let mut running = Running { addresses, registry, proxy, ready, tasks, _data: data };
    running.become_ready().await?;
    Ok(running)
}

impl Running {
    /// Applies manifests in order. It stops at the first that fails; the error says which ones were applied before.
    pub async fn apply(&self, manifests: &[manifests::Manifest]) -> anyhow::Result<()> {
        manifests::check(&self.registry, manifests).context("nothing was applied")?;
        let mut applied = Vec::new();
        for manifest in manifests {
            match manifests::apply(&self.registry, manifest).await {
                Ok(key) => applied.push(key.to_string()),
                Err(error) if applied.is_empty() => {
                    return Err(error.context("nothing was applied"));
                }
                Err(error) => {
                    let before = format!("applied before the error: {}", applied.join(", "));
                    return Err(error.context(before));
                }
            }
        }
        self.served().await
    }

    /// Sends some traffic to the Services of a namespace until the cluster stops.
    pub fn generate_traffic(&mut self, namespace: &'static str) {
        let registry = self.registry.clone();
        self.tasks.begin_stage();
        self.tasks.spawn("demo traffic", |token| async move {
            traffic::run(registry, namespace, token).await;
            Ok(())
        });
    }

    /// Runs until the token is cancelled or a part fails. Then it stops all parts: the servers for clients first, the
    /// store last.
    pub async fn wait(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            error = self.tasks.ended_early() => Err(error),
        };
        self.ready.send_replace(false);
        self.tasks.stop().await;
        self.registry.release().await;
        result
    }

    async fn become_ready(&mut self) -> anyhow::Result<()> {
        self.served().await?;
        self.ready.send_replace(true);
        Ok(())
    }

    /// Waits until proxy and DNS use a route table that contains all objects that exist now.
    async fn served(&self) -> anyhow::Result<()> {
        let view = self.registry.view();
        let routed = ROUTED.iter().flat_map(|kind| view.list(kind, None));
        let revision = routed.map(|object| object.revision).max().unwrap_or(0);
        let mut served = self.proxy.served_revision();
        match tokio::time::timeout(START_MAX, served.wait_for(|now| *now >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => bail!("the proxy did not take over the Services within {} s", START_MAX.as_secs()),
        }
    }
}

impl Cluster {
    fn start_registry(&mut self) {
        let registry = self.registry.clone();
        self.tasks.begin_stage();
        self.tasks.spawn("registry", |token| async move {
            registry.run(token).await.context(STORE_LOST)
        });
        let stopped = self.registry.stopped();
        self.tasks.spawn("store", |token| async move {
            token.run_until_cancelled_owned(tell_of_stop(stopped)).await;
            Ok(())
        });
    }

    /// Starts the nodes, the controllers, and the tasks that pass their results to the data half.
    async fn start_control(
        &mut self,
        sockets: &Sockets,
        noticed: mpsc::Receiver<Notice>,
        tables: watch::Sender<Arc<RouteTable>>,
    ) -> anyhow::Result<()> {
        let mirror_pods = mirror_pods::all(&self.options, sockets);
        let node_options = node::Options { nodes: self.options.nodes.clone(), mirror_pods };
        let nodes =
            Arc::new(Nodes::new(self.registry.clone(), self.runtimes.clone(), node_options));
        nodes.register().await.context("cannot register the nodes")?;
        self.tasks.begin_stage();
        let registry = self.registry.clone();
        let options = build::Options { nodeport_listen: self.options.nodeport_listen };
        self.tasks.spawn("routes", |token| async move {
            routes::run(registry, options, tables, token).await;
            Ok(())
        });
        let registry = self.registry.clone();
        self.tasks.spawn("notices", |token| async move {
            notices::run(registry, noticed, token).await;
            Ok(())
        });
        let registry = self.registry.clone();
        let libraries = [self.library.clone(), self.topologies.clone()];
        let directory = self.options.data_dir.join("policies");
        self.tasks.spawn("policies", |token| async move {
            policies::run(registry, libraries, directory, token).await;
            Ok(())
        });
        let registry = self.registry.clone();
        let options = controllers::Options {
            load_balancer_cidr: self.options.load_balancer_cidr,
            services_within: self.options.plane_range,
            taken_ranges: self.options.taken_ranges.clone(),
            cluster_ca: self.authority.certificate().to_owned(),
            secret_token: self.secret_token(),
            endpoints_per_slice_max: ENDPOINTS_PER_SLICE_MAX,
            event_ttl: self.options.event_ttl,
            kept: self.kept.clone(),
        };
        self.tasks.spawn("controllers", |token| async move {
            runner::run(registry, controllers::all(), options, token).await;
            Ok(())
        });
        self.tasks.spawn("nodes", |token| async move {
            nodes.run(token).await;
            Ok(())
        });
        Ok(())
    }

    /// Signs the tokens in the Secrets of ServiceAccounts.
    fn secret_token(&self) -> controllers::SecretToken {
        let key = self.account_key.clone();
        controllers::SecretToken::new(move |secret, account| secret_token(&key, secret, account))
    }

    fn start_proxy(
        &mut self,
        notices: mpsc::Sender<Notice>,
        table: watch::Receiver<Arc<RouteTable>>,
    ) -> Arc<Proxy> {
        let options = proxy::Options {
            client_node: self.options.client_node.as_str().into(),
            view: self.options.proxy_view,
            timeouts: proxy::Timeouts::default(),
            drain: DRAIN,
            descriptors: self.descriptors.clone(),
        };
        let topologies = Topologies::new(self.topologies.clone());
        let choosers = (self.library.clone() as Arc<dyn Scheduler>, topologies);
        let proxy = Proxy::new(options, choosers, notices);
        self.metrics.register(|registry| proxy.metrics().register(registry));
        let libraries = [self.library.clone(), self.topologies.clone()];
        self.metrics.register(|registry| policy::metrics::register(&libraries, registry));
        self.metrics.register(|registry| self.descriptors.register(registry));
        self.tasks.begin_stage();
        let running = proxy.clone();
        self.tasks.spawn_on(self.data.handle(), "proxy", |token| async move {
            running.run(&Loopback, table, token).await;
            Ok(())
        });
        let (registry, library, configured) =
            (self.registry.clone(), self.library.clone(), proxy.clone());
        self.tasks.spawn("kube-proxy configuration", |token| async move {
            kube_proxy::run(registry, library, configured, token).await;
            Ok(())
        });
        let (registry, mut served) = (self.registry.clone(), proxy.served_revision());
        self.tasks.spawn("routed revisions", |token| async move {
            loop {
                let revision = *served.borrow_and_update();
                registry.set_routed(revision);
                tokio::select! {
                    () = token.cancelled() => return Ok(()),
                    changed = served.changed() => changed?,
                }
            }
        });
        proxy
    }

    /// Writes the kubeconfig and returns the addresses. The URL of the dashboard has no token yet.
    async fn addresses(&self, sockets: &Sockets) -> anyhow::Result<Addresses> {
        let reachable = |mut address: std::net::SocketAddr| {
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            address
        };
        let api = format!("https://{}", reachable(sockets.api.local_addr()?));
        let options = &self.options;
        let entry = Entry {
            name: options.context.clone(),
            cluster: kubeconfig::cluster(&api, self.authority.certificate()),
            user: kubeconfig::user(&self.authority.administrator()?),
        };
        let current = kubeconfig::merge(&options.kubeconfig, &entry, options.switch_context)
            .await
            .context("cannot write the kubeconfig")?;
        Ok(Addresses {
            api,
            dashboard: format!("http://{}", reachable(sockets.dashboard.local_addr()?)),
            dns: reachable(sockets.dns.addresses()[0]).to_string(),
            metrics: format!("http://{}", reachable(sockets.metrics.local_addr()?)),
            kubeconfig: std::path::absolute(&options.kubeconfig)?,
            context: Some(entry.name).filter(|name| *name != current),
            pid: std::process::id(),
        })
    }
}

/// Logs that the store accepts no writes any more, and repeats it, so that nobody misses it.
async fn tell_of_stop(mut stopped: watch::Receiver<Option<store::Error>>) {
    let stop = stopped.wait_for(Option::is_some).await.map(|stop| stop.clone());
    loop {
        match &stop {
            Ok(Some(store::Error::Closed)) | Err(_) | Ok(None) => std::future::pending().await,
            Ok(Some(error)) => {
                let error: &dyn std::error::Error = error;
                tracing::error!(error, "NOTHING CAN BE WRITTEN ANY MORE");
            }
        }
        tokio::time::sleep(STOP_TOLD).await;
    }
}

fn registry_options(options: &Options) -> registry::Options {
    registry::Options {
        service_cidrs: options.service_cidrs.clone(),
        load_balancer_cidr: options.load_balancer_cidr,
        node_ports: NODE_PORTS,
        loopback_endpoints: true,
    }
}
