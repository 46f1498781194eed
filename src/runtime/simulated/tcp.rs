//! The TCP server of a simulated pod: accepts connections, detects HTTP in the first bytes, and echoes everything
//! else.
//!
//! A client may stay silent up to the idle timeout. In many protocols the server speaks first, so their clients wait,
//! and a real network would not reset them either.

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

/// How long the server waits for more bytes when the first ones could begin a request. After that it echoes them.
const UNCLEAR: Duration = Duration::from_secs(1);
/// The size of a read. It is small because each open connection holds such a buffer.
const BUFFER_BYTES: usize = 4096;
/// The methods with which a request line begins. [`detect`] checks what follows.
const METHODS: [&str; 9] =
    ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT "];
/// The preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &str = "PRI * HTTP/2.0\r\n";

/// The protocol of a connection, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Other,
    /// There are too few bytes to decide.
    Unclear,
}

/// Accepts connections without end.
pub(super) async fn accept(pod: &Arc<Pod>, port: Port, listener: &TcpListener) {
    loop {
        let (stream, client) = pod.descriptors.accept(listener).await;
        take(pod, port, stream, client);
    }
}

/// Accepts the connections that the kernel has completed, then closes the listener. Closing it at once would reset
/// them.
pub(super) fn accept_waiting(pod: &Arc<Pod>, port: Port, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, client)) = listener.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            take(pod, port, stream, client);
        }
    }
}

/// Serves a connection in a task of the pod.
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

/// Detects the protocol and serves it. HTTP takes over the stream.
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
    let echoed = match detect_protocol(open, &mut first).await {
        Ok(Protocol::Http) => {
            let asked = (port, client, Arc::clone(place));
            let Some(open) = stream.take() else { return };
            return http::serve(Arc::clone(pod), open, asked, first.freeze()).await;
        }
        Ok(Protocol::Other | Protocol::Unclear) => echo(open, first, place).await,
        Err(error) => Err(error),
    };
    match echoed {
        Ok(bytes) => pod.write(port, &format!("{client} TCP echoed {bytes} bytes")),
        Err(error) => pod.write(port, &format!("{client} TCP ended: {error}")),
    }
}

/// Reads until the protocol is clear. Silence, and an end of data before that, mean that it is not HTTP.
async fn detect_protocol(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<Protocol> {
    let mut patience = IDLE;
    loop {
        match timeout(patience, stream.read_buf(first)).await {
            Ok(Ok(0)) => return Ok(Protocol::Other),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if first.is_empty() => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => return Ok(Protocol::Other),
        }
        match detect(first) {
            Protocol::Unclear => patience = UNCLEAR,
            clear => return Ok(clear),
        }
    }
}

/// Echoes until the client ends its data. Returns the number of bytes.
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

/// Detects a request line: a method, a space and the beginning of a request target (RFC 9112, section 3.2). `GET key`
/// of another protocol is not one.
fn detect(first: &[u8]) -> Protocol {
    if first.starts_with(PREFACE.as_bytes()) {
        return Protocol::Http;
    }
    for method in METHODS {
        if let Some(target) = first.strip_prefix(method.as_bytes()) {
            return match target.first() {
                None => Protocol::Unclear,
                Some(b'/' | b'*') => Protocol::Http,
                Some(b'h' | b'H') => Protocol::Http,
                Some(_) if method == "CONNECT " => Protocol::Http,
                Some(_) => Protocol::Other,
            };
        }
    }
    let begins = |text: &&str| text.as_bytes().starts_with(first);
    if METHODS.iter().chain([&PREFACE]).any(begins) { Protocol::Unclear } else { Protocol::Other }
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
            ("GET / HTTP/1.1\r\n", Protocol::Http),
            ("OPTIONS * HTTP/1.1\r\n", Protocol::Http),
            ("GET http://web/ HTTP/1.1\r\n", Protocol::Http),
            ("CONNECT web:80 HTTP/1.1\r\n", Protocol::Http),
            ("PRI * HTTP/2.0\r\n\r\nSM", Protocol::Http),
            ("G", Protocol::Unclear),
            ("GET ", Protocol::Unclear),
            ("PRI * H", Protocol::Unclear),
            ("GET key\n", Protocol::Other),
            ("get / HTTP/1.1\r\n", Protocol::Other),
            ("hello\n", Protocol::Other),
            ("\u{16}\u{3}\u{1}", Protocol::Other),
        ] {
            assert_eq!(detect(first.as_bytes()), expected, "{first:?}");
        }
    }
}
