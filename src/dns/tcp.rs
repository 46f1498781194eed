//! DNS over TCP: one task per connection, which answers queries in their order. An answer waits only until the client
//! reads, so no query delays the next one.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::{Admitted, Entrance, Place, Places},
    descriptors::{Budget, Purpose},
    dns::{Worker, wire::Transport},
};

/// The limit of connections of all listeners together. Resolvers use TCP only for large answers, so they need few.
const CONNECTIONS_MAX: usize = 512;
/// A source outside this machine may have only this fraction of the connections.
const SOURCE_FRACTION: usize = 8;
/// A connection is closed if no complete query arrives, or if the client does not read, for this time.
const IDLE: Duration = Duration::from_secs(10);
/// How many bytes of pipelined queries are read in advance.
const READ_AHEAD: usize = 4096;

/// The admission of connections, for all listeners.
pub(crate) fn places(descriptors: Budget) -> Places {
    Places::new(descriptors, Purpose::Dns, CONNECTIONS_MAX, SOURCE_FRACTION)
}

/// Accepts connections until the token is cancelled. Then open connections finish their current query. If there are
/// too many connections, the one that has waited longest for an answer is closed.
pub(crate) async fn serve(entrance: Entrance, worker: Worker, token: CancellationToken) {
    let connections = TaskTracker::new();
    let next = || entrance.next(|source| worker.may_ask(source));
    while let Some(admitted) = token.run_until_cancelled(next()).await {
        let Admitted { stream, client, place, descriptor } = admitted;
        let (worker, token) = (worker.clone(), token.clone());
        connections.spawn(async move {
            let ended = tokio::select! {
                ended = converse(stream, client, worker, &place, &token) => ended,
                () = place.lost() => Err(io::ErrorKind::ConnectionAborted.into()),
            };
            tracing::trace!(%client, ?ended, "DNS connection closed");
            drop(descriptor);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn converse(
    stream: TcpStream,
    client: SocketAddr,
    mut worker: Worker,
    place: &Place,
    token: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(READ_AHEAD, stream);
    let (mut packet, mut frame) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            // The read is not cancel-safe, but after a cancellation the connection ends.
            read = timeout(IDLE, read_message(&mut stream, &mut packet)) => read??,
        }
        let Some(response) = worker.respond(&packet, client, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(response.len()).map_err(io::Error::other)?;
        frame.clear();
        frame.extend(length.to_be_bytes());
        frame.extend(response);
        timeout(IDLE, stream.write_all(&frame)).await??;
        place.progress();
    }
}

async fn read_message(stream: &mut BufReader<TcpStream>, packet: &mut Vec<u8>) -> io::Result<()> {
    let length = stream.read_u16().await?;
    packet.resize(length.into(), 0);
    stream.read_exact(packet).await?;
    Ok(())
}
