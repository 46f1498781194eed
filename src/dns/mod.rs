//! Cluster DNS: answers questions about Services, endpoints and pods from the route table, over UDP and TCP.
//!
//! Enter at [`Server`]. [`answer`] finds the records, `wire` decodes and encodes packets, `udp` and `tcp` transport
//! them. Each question reads one route table. This module must never know Kubernetes.

pub mod answer;
mod metrics;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod wire;
mod zone;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{descriptors::Budget, route::RouteTable};

pub use metrics::Metrics;
pub use zone::{PodRecords, Zone};

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The main address, for UDP and TCP. With port 0, any port that is free for both.
    pub listen: SocketAddr,
    /// The zones, and how they are answered.
    pub zone: Zone,
    /// Whether clients outside loopback are answered. If not, their packets are dropped.
    pub allow_remote: bool,
    /// UDP sockets per address, each with a thread of its own (at most [`THREADS_MAX`]).
    pub threads: usize,
}

/// The limit of threads per address. More bring nothing on a laptop or a test machine.
pub const THREADS_MAX: usize = 8;
/// How often a port is tried that must be free for both TCP and UDP.
const PORT_TRIES: usize = 16;
/// How many TCP connections wait to be accepted.
const BACKLOG: i32 = 1024;
/// The receive buffer of a socket, in bytes. It holds a burst of several thousand queries.
const RECEIVE_BUFFER: usize = 1 << 20;
/// A receive returns at least this often. Linux wakes the receiver on shutdown, but some other kernels do not, and a
/// server there notices only after this time that it must stop.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why DNS does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be used.
    #[error("DNS cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A listener has stopped without a request to stop.
    #[error("a DNS listener ended early")]
    Ended(#[source] io::Error),
}

/// A DNS server whose sockets are bound.
pub struct Server {
    options: Options,
    metrics: Arc<Metrics>,
    listeners: Vec<Listener>,
}

/// One address: a TCP socket and several UDP sockets that share a port.
struct Listener {
    address: SocketAddr,
    tcp: TcpListener,
    udp: Vec<Arc<UdpSocket>>,
}

impl Server {
    /// Binds the main address. Queries wait in the sockets until [`Server::run`] is called.
    pub fn bind(options: Options) -> Result<Self, Error> {
        let main = Listener::bind(options.listen, options.threads)?;
        let metrics = Arc::new(Metrics::new(format!("dns://{}", main.address), &options.zone));
        Ok(Self { options, metrics, listeners: vec![main] })
    }

    /// Binds another address. After an error the server is unchanged.
    pub fn listen_also(&mut self, address: SocketAddr) -> Result<(), Error> {
        self.listeners.push(Listener::bind(address, self.options.threads)?);
        Ok(())
    }

    /// The bound addresses, the main one first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// The metrics of this server.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Answers queries until the token is cancelled. After an error of a listener it stops the others and returns the
    /// error.
    pub async fn run(
        self,
        table: watch::Receiver<Arc<RouteTable>>,
        descriptors: Budget,
        token: CancellationToken,
    ) -> Result<(), Error> {
        let token = token.child_token();
        let shared = Arc::new(Shared {
            zone: self.options.zone,
            allow_remote: self.options.allow_remote,
            metrics: self.metrics,
        });
        let worker = Worker::new(shared, table);
        let places = tcp::places(descriptors);
        let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
        let mut waker = udp::Waker { token: token.clone(), sockets: Vec::new() };
        for Listener { address, tcp, udp } in self.listeners {
            let bind = |source| Error::Bind { address, source };
            let listener = tokio::net::TcpListener::from_std(tcp).map_err(bind)?;
            let serving = tcp::serve(places.entrance(listener), worker.clone(), token.clone());
            tasks.spawn(async move {
                serving.await;
                Ok(())
            });
            for socket in udp {
                waker.sockets.push(socket.clone());
                let (worker, token) = (worker.clone(), token.clone());
                tasks.spawn_blocking(move || udp::serve(&socket, worker, &token));
            }
        }
        let early = tokio::select! {
            () = token.cancelled() => None,
            ended = tasks.join_next() => ended,
        };
        drop(waker);
        while tasks.join_next().await.is_some() {}
        match early {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(Error::Ended(error)),
            Some(Err(panicked)) => Err(Error::Ended(io::Error::other(panicked))),
        }
    }
}

impl Listener {
    fn bind(address: SocketAddr, threads: usize) -> Result<Self, Error> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Self::try_bind(address, threads.clamp(1, THREADS_MAX)) {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
                Err(source) => return Err(Error::Bind { address, source }),
            }
        }
    }

    /// TCP comes first, because it must be alone on its port. The UDP sockets share their port with each other, so a
    /// second process could share it without any error.
    fn try_bind(address: SocketAddr, threads: usize) -> io::Result<Self> {
        let tcp = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        tcp.set_reuse_address(true)?;
        tcp.bind(&address.into())?;
        tcp.listen(BACKLOG)?;
        tcp.set_nonblocking(true)?;
        let tcp = TcpListener::from(tcp);
        let address = tcp.local_addr()?;
        let udp = (0..threads).map(|_| udp_socket(address).map(Arc::new));
        Ok(Self { address, tcp, udp: udp.collect::<io::Result<_>>()? })
    }
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The data that all threads and connections share.
struct Shared {
    zone: Zone,
    allow_remote: bool,
    metrics: Arc<Metrics>,
}

/// Answers packets one after another. Each thread and each connection has its own.
#[derive(Clone)]
struct Worker {
    shared: Arc<Shared>,
    updates: watch::Receiver<Arc<RouteTable>>,
    table: Arc<RouteTable>,
    out: Vec<u8>,
}

impl Worker {
    fn new(shared: Arc<Shared>, updates: watch::Receiver<Arc<RouteTable>>) -> Self {
        let table = updates.borrow().clone();
        Self { shared, updates, table, out: Vec::new() }
    }

    fn may_ask(&self, client: IpAddr) -> bool {
        self.shared.allow_remote || client.to_canonical().is_loopback()
    }

    /// The response to a packet, if there is one. It never panics, whatever the packet contains.
    fn respond(
        &mut self,
        packet: &[u8],
        client: SocketAddr,
        transport: wire::Transport,
    ) -> Option<&[u8]> {
        if !self.may_ask(client.ip()) {
            return None;
        }
        let start = Instant::now();
        // The check is one atomic load. The lock is taken only if there is a new table. When the sender is gone, the
        // last table remains in use.
        if self.updates.has_changed().unwrap_or(false) {
            self.table = self.updates.borrow_and_update().clone();
        }
        let (table, zone, out) = (&*self.table, &self.shared.zone, &mut self.out);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            wire::respond(packet, transport, (table, zone), &mut rand::rng(), out)
        }));
        let handled = handled.unwrap_or_else(|_panic| {
            self.shared.metrics.count_panic();
            wire::fail(packet, &mut self.out)
        })?;
        self.shared.metrics.count(handled, transport, client.ip(), start.elapsed());
        Some(&self.out)
    }
}
