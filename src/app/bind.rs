//! Binds every socket before anything else happens, so that a taken port stops the start with one clear error.

use std::{io, net::SocketAddr, path::Path};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::net::TcpListener;

use crate::{config::Options, dns};

/// What was bound.
pub(crate) struct Sockets {
    pub(crate) api: TcpListener,
    pub(crate) dashboard: TcpListener,
    pub(crate) metrics: TcpListener,
    pub(crate) dns: dns::Server,
}

/// Binds the listeners of the options.
pub(crate) async fn all(options: &Options) -> anyhow::Result<Sockets> {
    let mut zone = dns::Zone::new(&options.cluster_domain)
        .with_context(|| format!("--cluster-domain {:?} is no DNS name", options.cluster_domain))?;
    zone.nameservers = vec![options.dns_listen.ip()];
    let dns = dns::Server::bind(dns::Options {
        listen: options.dns_listen,
        zone,
        allow_remote: options.allow_remote,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    });
    Ok(Sockets {
        api: tcp("api", "API", options.api_listen).await?,
        dashboard: tcp("dashboard", "dashboard", options.dashboard_listen).await?,
        metrics: tcp("metrics", "metrics", options.metrics_listen).await?,
        dns: dns.map_err(|error| {
            let source = std::error::Error::source(&error).and_then(|s| s.downcast_ref());
            let hint = source.map_or_else(|| error.to_string(), |source| reason("dns", source));
            anyhow::anyhow!("cannot listen on {} for DNS: {hint}", options.dns_listen)
        })?,
    })
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

/// Holds the data directory until dropped.
pub(crate) struct DirectoryLock {
    _file: rustix::fd::OwnedFd,
}

/// Makes the data directory and claims it for this process.
pub(crate) fn data_directory(directory: &Path) -> anyhow::Result<DirectoryLock> {
    std::fs::create_dir_all(directory).with_context(|| {
        format!("cannot make the data directory {}; choose another with --data-dir", directory.display())
    })?;
    let path = directory.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::RUSR | Mode::WUSR).with_context(|| {
        format!("cannot write in the data directory {}; choose another with --data-dir", directory.display())
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
