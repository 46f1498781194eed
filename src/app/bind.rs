//! Binds every socket before anything else starts. If a port is taken, the start fails with one clear error.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::{config::Options, dns};

/// The sockets of all servers.
pub(crate) struct Sockets {
    pub(crate) api: TcpListener,
    pub(crate) dashboard: TcpListener,
    pub(crate) metrics: TcpListener,
    pub(crate) dns: dns::Server,
    /// The address of the pod that represents the DNS server.
    pub(crate) dns_pod: IpAddr,
    /// The ports of that pod, and the ports where it really listens.
    pub(crate) dns_pod_ports: Vec<PodPort>,
    /// Port 9153 of that pod, if it could be bound.
    pub(crate) dns_metrics: Option<TcpListener>,
}

/// A port of the DNS pod.
pub(crate) struct PodPort {
    pub(crate) declared: u16,
    pub(crate) protocol: &'static str,
    pub(crate) bound: u16,
}

const DNS_PORT: u16 = 53;
/// The port of `prometheus :9153` in the Corefile.
const DNS_METRICS_PORT: u16 = 9153;
/// The first address in the pod range of a node that a pod may have, as an offset.
const DNS_POD_OFFSET: usize = 1;

/// Binds the sockets that the options name.
pub(crate) async fn all(options: &Options) -> anyhow::Result<Sockets> {
    let first = options.nodes.first().context("there is at least one node")?;
    let dns_pod = first
        .pod_cidr
        .hosts()
        .nth(DNS_POD_OFFSET)
        .context("--pod-cidr has no room for the DNS pod")?;
    let mut dns = dns_server(options, dns_pod)?;
    let mut dns_pod_ports = dns_on_pod(&mut dns, dns_pod);
    let dns_metrics = match TcpListener::bind((dns_pod, DNS_METRICS_PORT)).await {
        Ok(listener) => Some(listener),
        Err(_taken) => TcpListener::bind((dns_pod, 0)).await.ok(),
    };
    if let Some(address) = dns_metrics.as_ref().and_then(|listener| listener.local_addr().ok()) {
        let bound = address.port();
        dns_pod_ports.push(PodPort { declared: DNS_METRICS_PORT, protocol: "TCP", bound });
    }
    Ok(Sockets {
        api: tcp("api", "API", options.api_listen).await?,
        dashboard: tcp("dashboard", "dashboard", options.dashboard_listen).await?,
        metrics: tcp("metrics", "metrics", options.metrics_listen).await?,
        dns,
        dns_pod,
        dns_pod_ports,
        dns_metrics,
    })
}

fn dns_server(options: &Options, pod: IpAddr) -> anyhow::Result<dns::Server> {
    let mut zone = dns::Zone::new(&options.cluster_domain)
        .with_context(|| format!("--cluster-domain {:?} is no DNS name", options.cluster_domain))?;
    zone.nameservers = vec![pod];
    let bound = dns::Server::bind(dns::Options {
        listen: options.dns_listen,
        zone,
        allow_remote: options.allow_remote,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    });
    bound.map_err(|error| {
        let source = std::error::Error::source(&error).and_then(|s| s.downcast_ref());
        let hint = source.map_or_else(|| error.to_string(), |source| reason("dns", source));
        anyhow::anyhow!("cannot listen on {} for DNS: {hint}", options.dns_listen)
    })
}

/// Serves DNS on the address of the pod that represents it: on port 53, or on any free port if the process may not
/// bind that one.
fn dns_on_pod(server: &mut dns::Server, pod: IpAddr) -> Vec<PodPort> {
    let bound = server
        .listen_also((pod, DNS_PORT).into())
        .or_else(|_refused| server.listen_also((pod, 0).into()));
    if let Err(error) = bound {
        tracing::warn!(%error, "the DNS pod has no port; DNS answers on --dns-listen only");
        return Vec::new();
    }
    let port = server.addresses().last().map_or(DNS_PORT, SocketAddr::port);
    ["UDP", "TCP"].map(|protocol| PodPort { declared: DNS_PORT, protocol, bound: port }).into()
}

async fn tcp(flag: &str, what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        anyhow::anyhow!("cannot listen on {address} for the {what}: {}", reason(flag, &error))
    })
}

fn reason(flag: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is in use (another snowglobe?); stop that process, or choose another with --{flag}-listen, \
             port 0 being any free one"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 are not for ordinary users; choose another with --{flag}-listen"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have that address; choose another with --{flag}-listen")
        }
        _ => error.to_string(),
    }
}

/// Raises the soft limit of file descriptors to the hard limit, because each proxied connection needs two. This is
/// safe: only `select` fails with descriptors above 1,024, and nothing here uses it.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
    }
}

/// A lock on the data directory. It is held until it is dropped.
pub struct DirectoryLock {
    _file: rustix::fd::OwnedFd,
}

/// Creates the data directory and locks it for this process.
pub fn data_directory(directory: &Path) -> anyhow::Result<DirectoryLock> {
    // LoadBalancerPolicies can name modules by their path in `policies`.
    std::fs::create_dir_all(directory.join("policies")).with_context(|| {
        format!(
            "cannot make the data directory {}; choose another with --data-dir",
            directory.display()
        )
    })?;
    // The directory of modules with a `path`. It exists from the start, so that users find it.
    let policies = directory.join("policies");
    std::fs::create_dir_all(&policies)
        .with_context(|| format!("cannot make {}", policies.display()))?;
    let path = directory.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::RUSR | Mode::WUSR).with_context(|| {
        format!(
            "cannot write in the data directory {}; choose another with --data-dir",
            directory.display()
        )
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "the data directory {} is in use by another snowglobe; stop that one, or choose another with --data-dir",
            directory.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}
