//! The UDP server of a simulated pod: sends each datagram back with the name of the pod in front, `web-1: hello`.

use std::{io, time::Duration};

use socket2::SockRef;
use tokio::net::UdpSocket;

use crate::runtime::{Port, simulated::pod::Pod};

/// The largest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// The largest IPv4 payload. Answers are cut to this length.
const ANSWER_MAX: usize = 65_507;
/// How many datagrams are answered before other tasks run.
const DATAGRAMS_PER_TURN: usize = 64;
/// The pause after a receive error.
const PAUSE: Duration = Duration::from_millis(50);

/// Echoes datagrams without end.
pub(super) async fn echo(pod: &Pod, port: Port, socket: &UdpSocket) {
    loop {
        if let Err(error) = echo_some(pod, port, socket).await {
            tracing::debug!(%error, "datagram not received");
            tokio::time::sleep(PAUSE).await;
        }
        tokio::task::yield_now().await;
    }
}

/// Echoes the datagrams that have arrived. The buffer exists only during this call.
async fn echo_some(pod: &Pod, port: Port, socket: &UdpSocket) -> io::Result<()> {
    socket.readable().await?;
    let name = format!("{}: ", pod.spec().name).into_bytes();
    let mut datagram = Vec::with_capacity(name.len() + DATAGRAM_MAX);
    for _ in 0..DATAGRAMS_PER_TURN {
        datagram.clear();
        datagram.extend_from_slice(&name);
        let (bytes, client) = match socket.try_recv_buf_from(&mut datagram) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        datagram.truncate(ANSWER_MAX);
        pod.write(port, &format!("{client} UDP echoed {bytes} bytes"));
        // Send without waiting for readiness. If the socket buffer is full, the answer is dropped, as a network would
        // do.
        if let Err(error) = SockRef::from(socket).send_to(&datagram, &client.into()) {
            tracing::debug!(%client, %error, "answer dropped");
        }
    }
    Ok(())
}
