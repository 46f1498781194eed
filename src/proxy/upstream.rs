//! Connections and sockets towards endpoints, from the client's own address where that is possible.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};

/// How long one endpoint may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes a connection so that the other side sees a reset.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().ok();
    drop(stream);
}

/// Connects from the client's own address where that is possible, so that the endpoint sees its real client.
pub(crate) async fn connect_tcp(client: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if may_come_from(client, target.ip()) {
        // The port is chosen at connect, so that one address may have one per endpoint. An address that is not of
        // this machine cannot be bound; the endpoint then sees ours.
        setsockopt(&socket, IpBindAddressNoPort, &true).ok();
        socket.bind(SocketAddr::new(client, 0)).ok();
    }
    socket.set_nodelay(true)?;
    let stream = timeout(CONNECT_TIMEOUT, socket.connect(target)).await??;
    if stream.local_addr()? == target {
        // Nobody listens, and the kernel gave us the very port that we dial: we are talking to ourselves.
        reset(stream);
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// A socket towards the endpoint, from the client's own address where that is possible.
pub(crate) fn connect_udp(client: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if may_come_from(client.ip(), target.ip()) {
        // An address that is not of this machine cannot be bound; the endpoint then sees ours.
        socket.bind(&SocketAddr::new(client.ip(), 0).into()).ok();
    }
    socket.connect(&target.into())?;
    UdpSocket::from_std(socket.into())
}

/// A loopback address is a valid source towards loopback addresses only.
fn may_come_from(client: IpAddr, target: IpAddr) -> bool {
    client.is_ipv4() == target.is_ipv4() && (target.is_loopback() || !client.is_loopback())
}
