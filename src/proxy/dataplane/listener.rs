//! One listening socket: binding it, the loop that hands over what arrives, and why it could not be bound.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    descriptors::Budget,
    proxy::dataplane::{Connection, Deliver, Incoming},
    route::{FrontendKind, RouteName},
};

/// Connections that wait to be accepted; the kernel's own bound (`net.core.somaxconn`) is 4096.
const BACKLOG: i32 = 1024;
/// The largest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// Datagrams taken before others get their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Pause after a failed receive.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

/// Whose address it is. Changes when an address passes from one service port to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) route: RouteName,
    pub(super) frontend: FrontendKind,
}

/// A bound socket.
pub(super) enum Listener {
    Tcp(TcpListener),
    Udp(Arc<UdpSocket>),
}

impl Listener {
    /// Binds. `beside_wildcard` also binds where a socket of all addresses has the port, if that one (of the same
    /// user) allows it with SO_REUSEPORT: the kernel then prefers ours for its address.
    pub(super) fn bind(address: SocketAddr, udp: bool, beside_wildcard: bool) -> io::Result<Self> {
        let (kind, protocol) =
            if udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Connections of an earlier listener in TIME_WAIT are no reason to wait.
        socket.set_reuse_address(!udp)?;
        socket.set_reuse_port(beside_wildcard)?;
        socket.bind(&address.into())?;
        if udp {
            return Ok(Self::Udp(Arc::new(UdpSocket::from_std(socket.into())?)));
        }
        socket.listen(BACKLOG)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// A UDP socket, as it can be followed to its end; nothing for TCP.
    pub(super) fn socket(&self) -> Weak<UdpSocket> {
        match self {
            Self::Tcp(_) => Weak::new(),
            Self::Udp(socket) => Arc::downgrade(socket),
        }
    }

    /// Hands over what arrives, until dropped.
    pub(super) async fn serve(
        self,
        destination: SocketAddr,
        owner: Arc<RwLock<Owner>>,
        deliver: Deliver,
        descriptors: Budget,
    ) {
        match self {
            Self::Tcp(listener) => loop {
                let (stream, source) = descriptors.accept(&listener).await;
                let Owner { route, frontend } = owner.read().clone();
                let connection = Connection::Tcp(stream);
                deliver(Incoming { connection, source, destination, route: &route, frontend });
            },
            Self::Udp(socket) => receive(&socket, destination, &owner, &deliver).await,
        }
    }
}

async fn receive(
    socket: &Arc<UdpSocket>,
    destination: SocketAddr,
    owner: &RwLock<Owner>,
    deliver: &Deliver,
) {
    loop {
        if let Err(error) = receive_some(socket, destination, owner, deliver).await {
            tracing::warn!(%destination, %error, "datagram not received");
            tokio::time::sleep(RECEIVE_PAUSE).await;
        }
        tokio::task::yield_now().await;
    }
}

/// The buffer lives only while there is something to read: a thousand idle sockets hold none.
async fn receive_some(
    socket: &Arc<UdpSocket>,
    destination: SocketAddr,
    owner: &RwLock<Owner>,
    deliver: &Deliver,
) -> io::Result<()> {
    socket.readable().await?;
    let mut payload = Vec::with_capacity(DATAGRAM_MAX);
    for _ in 0..DATAGRAMS_PER_TURN {
        payload.clear();
        let source = match socket.try_recv_buf_from(&mut payload) {
            Ok((_, source)) => source,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        let Owner { route, frontend } = owner.read().clone();
        let connection = Connection::Udp { socket, payload: &payload };
        deliver(Incoming { connection, source, destination, route: &route, frontend });
    }
    Ok(())
}

/// What a user can do about a failed bind.
pub(super) fn remedy(address: SocketAddr, error: &io::Error, holder: Option<&str>) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder.unwrap_or("another process");
            format!(
                "port {port} of {} is in use by {holder}; end it, let it listen on 127.0.0.1 instead of all addresses, \
                 or give the Service another port",
                address.ip()
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "port {port} is below 1024 and needs a privilege; use a port above 1023, or allow it with \
             `sysctl net.ipv4.ip_unprivileged_port_start=0`, or with `setcap cap_net_bind_service=+ep` on this program"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine", address.ip())
        }
        _ => error.to_string(),
    }
}
