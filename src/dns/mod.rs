//! Cluster DNS: answers names of services, endpoints and pods from the route table, over UDP and TCP.
//!
//! Enter at [`Server`]. [`answer`] decides what is true, `wire` how it looks on the wire, `udp` and `tcp` carry it.
//! It reads one table per question and must never know Kubernetes.

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
    /// The main address, UDP and TCP. With port 0 any port that is free for both.
    pub listen: SocketAddr,
    /// What is served.
    pub zone: Zone,
    /// Whether clients outside loopback are answered. If not, they get nothing at all.
    pub allow_remote: bool,
    /// UDP sockets per address, each with its thread (at most [`THREADS_MAX`]).
    pub threads: usize,
}

/// More threads than this per address help no laptop and no test machine.
pub const THREADS_MAX: usize = 8;
/// Tries for a port that is free for both TCP and UDP, when any port will do.
const PORT_TRIES: usize = 16;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Holds a burst of some thousand queries.
const RECEIVE_BUFFER: usize = 1 << 20;
/// A receive returns at least this often. Stopping does not need it on Linux proper; it is for kernels that do not
/// wake a receiver on shutdown, and too rare to cost anything.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why DNS does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be used.
    #[error("DNS cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener stopped although nobody asked it to.
    #[error("a DNS listener ended early")]
    Ended(#[source] io::Error),
}

/// A DNS server whose sockets are bound.
pub struct Server {
    options: Options,
    metrics: Arc<Metrics>,
    listeners: Vec<Listener>,
}

/// One address: a TCP socket and some UDP sockets that share its port.
struct Listener {
    address: SocketAddr,
    tcp: TcpListener,
    udp: Vec<Arc<UdpSocket>>,
}

impl Server {
    /// Binds the main address. Queries wait in the sockets until [`Server::run`].
    pub fn bind(options: Options) -> Result<Self, Error> {
        let main = Listener::bind(options.listen, options.threads)?;
        let metrics = Arc::new(Metrics::new(format!("dns://{}", main.address), &options.zone));
        Ok(Self { options, metrics, listeners: vec![main] })
    }

    /// Binds one more address. A failure leaves everything else as it is.
    pub fn listen_also(&mut self, address: SocketAddr) -> Result<(), Error> {
        self.listeners.push(Listener::bind(address, self.options.threads)?);
        Ok(())
    }

    /// The bound addresses, the main one first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.address).collect()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Answers until cancelled. An error means that a listener died; the others are stopped too.
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

    /// TCP first and alone on its port: the UDP sockets share theirs with each other, and would share it with those
    /// of a second process, unnoticed.
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

/// What all threads and connections have in common.
struct Shared {
    zone: Zone,
    allow_remote: bool,
    metrics: Arc<Metrics>,
}

/// Answers packets, one after another: each thread and each connection has its own.
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

    /// The response to a packet, if it gets one. Never panics, whatever the packet.
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
        // Looking is one atomic load; the lock is taken only when there is something new. When the sender is gone,
        // the last table stays true.
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
