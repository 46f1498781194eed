//! Virtual nodes: what a kubelet does. They register, beat, and run the pods that are bound to them.
//!
//! Enter at [`Nodes`]. It reads and writes objects through the registry and starts pods through
//! [`crate::runtime::PodRuntime`]; it must never know the proxy or DNS.

mod addresses;
mod capacity;
mod containers;
mod drain;
mod environment;
mod mirror_pods;
mod notes;
mod pods;
mod ports;
mod references;
mod register;
mod report;
mod running;
mod size;
mod status;
mod worker;

use std::{collections::BTreeMap, net::IpAddr, panic::resume_unwind, sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use mirror_pods::MirrorPod;
pub use size::{Amount, Size, check_label};

use crate::{
    model::{Object, Status},
    registry::Registry,
    runtime::Runtimes,
};

/// The nodes of this process.
#[derive(Clone, Debug)]
pub struct Options {
    /// One entry per node.
    pub nodes: Vec<NodeOptions>,
    /// Pods that stand for parts of this process.
    pub mirror_pods: Vec<MirrorPod>,
}

/// One virtual node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Name, `node-1`.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Where its pods' addresses come from.
    pub pod_cidr: IpNet,
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// What it offers.
    pub size: Size,
}

/// Kubelets renew their lease this often.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The virtual nodes of this process and what runs on them.
pub struct Nodes {
    registry: Arc<Registry>,
    runtimes: Runtimes,
    options: Options,
}

impl Nodes {
    /// Puts them together; nothing happens yet.
    pub fn new(registry: Arc<Registry>, runtimes: Runtimes, options: Options) -> Self {
        Self { registry, runtimes, options }
    }

    /// Creates or refreshes the Node objects and the mirror pods.
    pub async fn register(&self) -> Result<(), Status> {
        for node in &self.options.nodes {
            register::node(&self.registry, node).await?;
        }
        for pod in &self.options.mirror_pods {
            mirror_pods::ensure(&self.registry, pod).await?;
        }
        Ok(())
    }

    /// Beats, offers what is added to a node, and keeps the bound pods running, until cancelled. A panic of one is passed on.
    pub async fn run(self: Arc<Self>, token: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(Self::beat(self.clone(), token.clone()));
        let names = self.options.nodes.iter().map(|node| node.name.clone()).collect();
        tasks.spawn(capacity::follow(self.registry.clone(), names, token.clone()));
        tasks.spawn(pods::run(
            self.registry.clone(),
            self.runtimes.clone(),
            self.options.clone(),
            token,
        ));
        while let Some(ended) = tasks.join_next().await {
            // Nodes that run no pods would only look like ones.
            if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
                resume_unwind(panic);
            }
        }
    }

    async fn beat(self: Arc<Self>, token: CancellationToken) {
        let mut was_failing = false;
        loop {
            let mut failing = false;
            for node in &self.options.nodes {
                if let Err(status) = register::renew_lease(&self.registry, node).await {
                    // Once is enough: while the store takes no writes, each beat fails.
                    if !was_failing && !failing {
                        tracing::warn!(node = %node.name, error = %status, "cannot renew the node's lease");
                    }
                    failing = true;
                }
            }
            if was_failing && !failing {
                tracing::info!("the nodes' leases are renewed again");
            }
            was_failing = failing;
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }
}

/// A stored object as a typed view; what the cache holds always parses.
fn parse<T: DeserializeOwned>(object: &Object) -> Result<T, Status> {
    Ok(object.parse()?)
}
