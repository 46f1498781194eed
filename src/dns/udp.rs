//! The UDP side: one thread per socket, each in a plain receive loop. It blocks in the kernel, so an idle server costs
//! nothing, and a query costs one receive, one send and no task switch.

use std::{
    io,
    net::{Shutdown, SocketAddr, UdpSocket},
    sync::Arc,
};

use rustix::net::{RecvFlags, recvfrom};
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use crate::dns::{Worker, wire::Transport};

/// No sensible query is longer; what is longer is cut and then malformed.
const QUERY_MAX: usize = 4096;
/// Receive errors in a row after which the socket is given up: single ones come from the network (ICMP).
const ERRORS_MAX: u32 = 100;

/// Answers until the token is cancelled and the socket [woken](Waker).
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

/// The next datagram and who sent it. A receive that a shutdown has woken has no sender; the standard library takes the
/// sender of the datagram before, or panics.
fn receive(socket: &UdpSocket, packet: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let (_, length, client) = recvfrom(socket, &mut *packet, RecvFlags::empty())?;
    let client = client.and_then(|client| SocketAddr::try_from(client).ok());
    let client = client.ok_or(io::ErrorKind::NotConnected)?;
    Ok((length.min(packet.len()), client))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Ends the loops of its sockets when dropped: cancels them, then makes their receives return.
pub(crate) struct Waker {
    pub(crate) token: CancellationToken,
    pub(crate) sockets: Vec<Arc<UdpSocket>>,
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.token.cancel();
        for socket in &self.sockets {
            // Linux says ENOTCONN for a socket without a peer, and wakes the receiver all the same.
            drop(SockRef::from(socket.as_ref()).shutdown(Shutdown::Read));
        }
    }
}
