//! TCP of a simulated pod: accepts, listens to the first bytes, and echoes what is not HTTP.
//!
//! A client that says nothing waits as long as it likes (up to the idle timeout): protocols where the server speaks
//! first are common, and resetting their clients would be a lie about the network.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    admission::Place,
    runtime::{
        Port,
        simulated::{connections::IDLE, http, pod::Pod},
    },
};

/// How long a few bytes that could become a request wait for the rest, before they are echoed.
const UNCLEAR: Duration = Duration::from_secs(1);
/// Read at once. Small, because it is held by each open connection.
const BUFFER_BYTES: usize = 4096;
/// How the first line of a request begins, and what may follow; see [`speech`].
const METHODS: [&str; 9] =
    ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT "];
/// HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &str = "PRI * HTTP/2.0\r\n";

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Http,
    Other,
    /// Too few to tell.
    Unclear,
}

/// Accepts for ever.
pub(super) async fn accept(pod: &Arc<Pod>, port: Port, listener: &TcpListener) {
    loop {
        let (stream, client) = pod.descriptors.accept(listener).await;
        take(pod, port, stream, client);
    }
}

/// Accepts what waits already, and closes. Closing alone would reset clients for whom the kernel has accepted.
pub(super) fn accept_waiting(pod: &Arc<Pod>, port: Port, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, client)) = listener.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            take(pod, port, stream, client);
        }
    }
}

/// Serves one connection in a task of the pod.
fn take(pod: &Arc<Pod>, port: Port, stream: TcpStream, client: SocketAddr) {
    let Some(place) = pod.connections.admit(client.ip()) else {
        return refuse(pod, port, stream, client);
    };
    let pod_of_connection = Arc::clone(pod);
    pod.tasks.spawn(async move {
        let pod = pod_of_connection;
        let Some(descriptor) = pod.connections.descriptor().await else {
            return refuse(&pod, port, stream, client);
        };
        let mut stream = Some(stream);
        let ended = {
            let serve = serve(&pod, port, &mut stream, client, &place);
            tokio::select! {
                () = serve => false,
                () = pod.end.cancelled() => true,
                () = place.lost() => true,
            }
        };
        if ended && let Some(stream) = stream {
            reset(stream);
        }
        drop(descriptor);
    });
}

fn refuse(pod: &Pod, port: Port, stream: TcpStream, client: SocketAddr) {
    pod.write(port, &format!("{client} reset: too many connections"));
    reset(stream);
}

/// Listens and answers. HTTP takes the stream; what is left of it is the caller's.
async fn serve(
    pod: &Arc<Pod>,
    port: Port,
    stream: &mut Option<TcpStream>,
    client: SocketAddr,
    place: &Arc<Place>,
) {
    let Some(open) = stream.as_mut() else { return };
    open.set_nodelay(true).ok();
    let mut first = BytesMut::with_capacity(BUFFER_BYTES);
    let echoed = match listen_to(open, &mut first).await {
        Ok(Speech::Http) => {
            let asked = (port, client, Arc::clone(place));
            let Some(open) = stream.take() else { return };
            return http::serve(Arc::clone(pod), open, asked, first.freeze()).await;
        }
        Ok(Speech::Other | Speech::Unclear) => echo(open, first, place).await,
        Err(error) => Err(error),
    };
    match echoed {
        Ok(bytes) => pod.write(port, &format!("{client} TCP echoed {bytes} bytes")),
        Err(error) => pod.write(port, &format!("{client} TCP ended: {error}")),
    }
}

/// Reads until it is clear what the client speaks. Silence and an early end of data are no HTTP.
async fn listen_to(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Speech> {
    let mut patience = IDLE;
    loop {
        match timeout(patience, stream.read_buf(first)).await {
            Ok(Ok(0)) => return Ok(Speech::Other),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if first.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => return Ok(Speech::Other),
        }
        match speech(first) {
            Speech::Unclear => patience = UNCLEAR,
            clear => return Ok(clear),
        }
    }
}

/// Sends back what comes, until the client's end of data. Returns how much that was.
async fn echo(stream: &mut TcpStream, mut buffer: BytesMut, place: &Place) -> io::Result<u64> {
    let mut echoed = 0;
    loop {
        place.progress();
        echoed += buffer.len() as u64;
        stream.write_all(&buffer).await?;
        buffer.clear();
        if timeout(IDLE, stream.read_buf(&mut buffer)).await?? == 0 {
            break;
        }
    }
    stream.shutdown().await?;
    Ok(echoed)
}

/// A method, a space and what a request target begins with (RFC 9112, section 3.2). `GET key` of some line
/// protocol is none.
fn speech(first: &[u8]) -> Speech {
    if first.starts_with(PREFACE.as_bytes()) {
        return Speech::Http;
    }
    for method in METHODS {
        if let Some(target) = first.strip_prefix(method.as_bytes()) {
            return match target.first() {
                None => Speech::Unclear,
                Some(b'/' | b'*') => Speech::Http,
                Some(b'h' | b'H') => Speech::Http,
                Some(_) if method == "CONNECT " => Speech::Http,
                Some(_) => Speech::Other,
            };
        }
    }
    let begins = |text: &&str| text.as_bytes().starts_with(first);
    if METHODS.iter().chain([&PREFACE]).any(begins) { Speech::Unclear } else { Speech::Other }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().ok();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_http_from_other_protocols() {
        for (first, expected) in [
            ("GET / HTTP/1.1\r\n", Speech::Http),
            ("OPTIONS * HTTP/1.1\r\n", Speech::Http),
            ("GET http://web/ HTTP/1.1\r\n", Speech::Http),
            ("CONNECT web:80 HTTP/1.1\r\n", Speech::Http),
            ("PRI * HTTP/2.0\r\n\r\nSM", Speech::Http),
            ("G", Speech::Unclear),
            ("GET ", Speech::Unclear),
            ("PRI * H", Speech::Unclear),
            ("GET key\n", Speech::Other),
            ("get / HTTP/1.1\r\n", Speech::Other),
            ("hello\n", Speech::Other),
            ("\u{16}\u{3}\u{1}", Speech::Other),
        ] {
            assert_eq!(speech(first.as_bytes()), expected, "{first:?}");
        }
    }
}
