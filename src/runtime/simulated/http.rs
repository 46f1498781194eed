//! The HTTP server of a simulated pod. Every path returns a JSON document about the pod and the request. `/status/N`
//! returns that status, `/delay/MS` waits for that time.

use std::{convert::Infallible, io::Cursor, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::Place,
    runtime::{
        Port,
        simulated::{connections::IDLE, pod::Pod},
    },
};

/// The longest `/delay`.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// How many bytes of a request body are read (and discarded).
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many bytes of a request head, and of its body, are buffered.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The limit of concurrent requests on an HTTP/2 connection.
const STREAMS_MAX: u32 = 100;
/// How many characters of a path are logged.
const LOGGED_PATH_MAX: usize = 200;

/// Serves a connection. Its first bytes have been read already.
pub(super) async fn serve(
    pod: Arc<Pod>,
    stream: TcpStream,
    (port, client, place): (Port, SocketAddr, Arc<Place>),
    first: Bytes,
) {
    let (read, write) = stream.into_split();
    let replayed = tokio::io::join(Cursor::new(first).chain(read), write);
    let mut server = auto::Builder::new(Streams { tasks: pod.tasks.clone(), end: pod.end.clone() });
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(true);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    let answer = service_fn(|request| {
        let (pod, work) = (Arc::clone(&pod), place.work());
        async move {
            let _work = work;
            Ok::<_, Infallible>(respond(&pod, port, client, request).await)
        }
    });
    if let Err(error) = server.serve_connection(TokioIo::new(replayed), answer).await {
        pod.write(port, &format!("{client} HTTP ended: {error}"));
    }
}

/// Spawns the streams of HTTP/2 connections as tasks of the pod.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = self.end.clone();
        self.tasks.spawn(async move { end.run_until_cancelled(stream).await.unwrap_or(()) });
    }
}

/// The answer that a path requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Behaviour {
    status: StatusCode,
    delay: Duration,
}

async fn respond(
    pod: &Pod,
    port: Port,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let drained = drain(body).await;
    let Behaviour { status, delay } = behaviour(head.uri.path());
    let status = if drained { status } else { StatusCode::PAYLOAD_TOO_LARGE };
    tokio::time::sleep(delay).await;
    let path: String = head.uri.path().chars().take(LOGGED_PATH_MAX).collect();
    pod.write(port, &format!("{client} {} {path} {}", head.method, status.as_u16()));
    let spec = pod.spec();
    let who = json!({
        "pod": spec.name, "namespace": spec.namespace, "node": spec.node, "zone": spec.zone,
        "ip": spec.ip, "port": port.number, "client": client,
        "method": head.method.as_str(), "path": head.uri.path(),
    });
    let mut response = Response::new(Full::from(format!("{who}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let leaving = pod.stopping.is_cancelled() || !drained;
    if leaving && head.version != Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body to its end. Returns false if it is too large, incomplete or too slow.
async fn drain(mut body: Incoming) -> bool {
    let mut left = BODY_BYTES_MAX;
    while let Ok(frame) = timeout(IDLE, body.frame()).await {
        let bytes = match frame {
            None => return true,
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return false,
        };
        let Some(rest) = left.checked_sub(bytes) else { return false };
        left = rest;
    }
    false
}

/// Parses `/status/503` and `/delay/250`. A number that is not a final status gives 400.
fn behaviour(path: &str) -> Behaviour {
    let mut behaviour = Behaviour { status: StatusCode::OK, delay: Duration::ZERO };
    if let Some(status) = path.strip_prefix("/status/") {
        let status = status.parse().ok().filter(|status| (200..=599).contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        behaviour.status = status.unwrap_or(StatusCode::BAD_REQUEST);
    } else if let Some(delay) = path.strip_prefix("/delay/") {
        match delay.parse() {
            Ok(delay_ms) => behaviour.delay = Duration::from_millis(delay_ms).min(DELAY_MAX),
            Err(_) => behaviour.status = StatusCode::BAD_REQUEST,
        }
    }
    behaviour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_for_status_and_delay() {
        for (path, status, delay_ms) in [
            ("/", 200, 0),
            ("/any/path", 200, 0),
            ("/status/503", 503, 0),
            ("/status/99", 400, 0),
            ("/status/101", 400, 0),
            ("/status/x", 400, 0),
            ("/delay/250", 200, 250),
            ("/delay/99999999", 200, 60_000),
            ("/delay/-1", 400, 0),
        ] {
            let expected = Behaviour {
                status: StatusCode::from_u16(status).unwrap(),
                delay: Duration::from_millis(delay_ms),
            };
            assert_eq!(behaviour(path), expected, "{path}");
        }
    }
}
