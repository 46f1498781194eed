//! DNS over UDP: one thread per socket with a plain receive loop. The thread blocks in the kernel, so an idle server
//! uses no CPU. A query costs one receive, one send and no task switch.

use std::{
    io,
    net::{Shutdown, SocketAddr, UdpSocket},
    sync::Arc,
};

use rustix::net::{RecvFlags, recvfrom};
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use crate::dns::{Worker, wire::Transport};

/// Longest query in bytes. A longer one is cut by the kernel and is then malformed.
const QUERY_MAX: usize = 4096;
/// After this many receive errors in a row the socket is closed. Single errors come from the network (ICMP).
const ERRORS_MAX: u32 = 100;

/// Answers queries until the token is cancelled and the socket is [woken](Waker).
pub(crate) fn serve(
    socket: &UdpSocket,
    mut worker: Worker,
    token: &CancellationToken,
) -> io::Result<()> {
    let mut packet = [0; QUERY_MAX];
    let mut errors = 0;
    while !token.is_cancelled() {
        match receive(socket, &mut packet) {
            Ok((length, client)) => {
                errors = 0;
                if let Some(response) = worker.respond(&packet[..length], client, Transport::Udp)
                    && let Err(error) = socket.send_to(response, client)
                {
                    tracing::debug!(%client, %error, "DNS response not sent");
                }
            }
            Err(_) if token.is_cancelled() => break,
            Err(error) if is_timeout(&error) => {}
            Err(error) => {
                errors += 1;
                if errors == ERRORS_MAX {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Receives the next datagram and its sender. A receive that ends because of a shutdown has no sender. In this case
/// the standard library would return the sender of the datagram before, or panic.
fn receive(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let (_, length, client) = recvfrom(socket, &mut *packet, RecvFlags::empty())?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    let client = client.ok_or(io::ErrorKind::NotConnected)?;
    Ok((length.min(packet.len()), client))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Stops the receive loops when it is dropped: cancels their token, then shuts their sockets down so that the
/// receives return.
pub(crate) struct Waker {
    pub(crate) token: CancellationToken,
    pub(crate) sockets: Vec<Arc<UdpSocket>>,
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.token.cancel();
        for socket in &self.sockets {
            // Linux returns ENOTCONN for a socket without a peer, but wakes the receiver.
            drop(SockRef::from(socket.as_ref()).shutdown(Shutdown::Read));
        }
    }
}
