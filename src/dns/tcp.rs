//! The TCP side: one task per connection, queries of a connection answered as they come. An answer never waits for
//! anything but the client's own reading, so no query holds up the ones behind it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::dns::{Worker, wire::Transport};

/// Connections of one listener; more wait in the kernel's backlog. TCP is for large answers, resolvers use few.
const CONNECTIONS_MAX: usize = 256;
/// A connection on which no whole query arrives, or whose client does not read, is closed after this.
const IDLE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Read ahead at most this much of what a client pipelines.
const READ_AHEAD: usize = 4096;

/// Accepts until cancelled, then lets open connections finish the query at hand.
pub(crate) async fn serve(listener: TcpListener, worker: Worker, token: CancellationToken) {
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = token.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let (worker, token) = (worker.clone(), token.clone());
                connections.spawn(async move {
                    let ended = converse(stream, client, worker, &token).await;
                    tracing::trace!(%client, ?ended, "DNS connection closed");
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn converse(
    stream: TcpStream,
    client: SocketAddr,
    mut worker: Worker,
    token: &CancellationToken,
) -> io::Result<()> {
    if !worker.may_ask(client.ip()) {
        return Ok(());
    }
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
    }
}

async fn read_message(stream: &mut BufReader<TcpStream>, packet: &mut Vec<u8>) -> io::Result<()> {
    let length = stream.read_u16().await?;
    packet.resize(length.into(), 0);
    stream.read_exact(packet).await?;
    Ok(())
}
