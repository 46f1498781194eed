//! The TCP side: one task per connection, queries of a connection answered as they come. An answer never waits for
//! anything but the client's own reading, so no query holds up the ones behind it.

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

/// Connections of all listeners together. TCP is for large answers, resolvers use few.
const CONNECTIONS_MAX: usize = 512;
/// One in so many may be of one source outside this machine.
const SOURCE_FRACTION: usize = 8;
/// A connection on which no whole query arrives, or whose client does not read, is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// Read ahead at most this much of what a client pipelines.
const READ_AHEAD: usize = 4096;

/// Room for the connections of all listeners.
pub(crate) fn places(descriptors: Budget) -> Places {
    Places::new(descriptors, Purpose::Dns, CONNECTIONS_MAX, SOURCE_FRACTION)
}

/// Accepts until cancelled, then lets open connections finish the query at hand. When there are too many, the one that
/// has got no answer for longest is closed for the next.
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
            // Not cancel-safe, but on cancel the connection ends.
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
