//! Bodies that nobody reads, since the answer was clear before: 401, 404, 413. A client that is still sending then
//! may lose the answer: its connection is reset with bytes unread, or it takes the early end of its stream for an
//! error. So the rest of a body is taken first, to a bound, and then comes the answer.
//!
//! What is longer meets the answer on the way. HTTP/2 ends such a stream with `NO_ERROR` after the answer (RFC 9113,
//! section 8.1); an HTTP/1.1 connection ends, and [lingers](crate::http_server::timed) until its client has read it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http::header;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use crate::http_server::transfers::Transfer;

/// More of a body is not taken: over a fast connection this costs milliseconds.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// A request is not answered later for the sake of its body than so long after it came.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A client that sends nothing for so long may be waiting for the answer.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The middleware, outside of all that answers.
pub(crate) async fn take(request: Request, next: Next) -> Response {
    let end = Instant::now().checked_add(TIME_MAX);
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    // Such a client sends nothing before it is told to, which the first read does.
    let asks_first = parts.headers.contains_key(header::EXPECT);
    let transfer = parts.extensions.get::<Arc<Transfer>>().cloned();
    let unread = Arc::new(Mutex::new(None));
    let tracked = TrackedBody { body: Some(body), begun: false, unread: unread.clone() };
    let response = next.run(Request::from_parts(parts, Body::new(tracked))).await;
    let unread = unread.lock().take();
    if let Some(UnreadBody { body, begun }) = unread
        && (begun || !asks_first)
        && let Some(end) = end
        && !is_taken(body, end).await
        && let Some(transfer) = transfer
    {
        transfer.left_unread();
    }
    response
}

/// Takes the rest of a body; false if there is still more.
async fn is_taken(mut body: Body, end: Instant) -> bool {
    let mut taken = 0_usize;
    while taken <= BYTES_MAX {
        let frame = timeout_at(end, timeout(PAUSE_MAX, body.frame())).await;
        match frame {
            Ok(Ok(Some(Ok(frame)))) => {
                taken = taken.saturating_add(frame.data_ref().map_or(0, Bytes::len));
            }
            Ok(Ok(None | Some(Err(_)))) => return true,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}

/// A body for a handler. What the handler leaves unread is kept in `unread`.
struct TrackedBody {
    body: Option<Body>,
    begun: bool,
    unread: Arc<Mutex<Option<UnreadBody>>>,
}

struct UnreadBody {
    body: Body,
    begun: bool,
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            *self.unread.lock() = Some(UnreadBody { body, begun: self.begun });
        }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.begun = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Router, middleware, routing::post};
    use futures::{StreamExt as _, stream};
    use http::StatusCode;
    use tokio::time::sleep;
    use tower::ServiceExt as _;

    use super::*;

    const PIECE: usize = 64 * 1024;

    /// How much of a body is taken when its request is answered unread, and when the answer comes.
    async fn taken(pieces: usize, pause: Duration, expects: bool) -> (usize, Duration) {
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        let body = stream::iter(0..pieces).then(move |_| {
            *counted.lock() += 1;
            async move {
                sleep(pause).await;
                Ok::<_, Infallible>(vec![0_u8; PIECE])
            }
        });
        let router = Router::new()
            .route("/", post(|| async { StatusCode::UNAUTHORIZED }))
            .layer(middleware::from_fn(take));
        let mut request = Request::post("/");
        if expects {
            request = request.header("Expect", "100-continue");
        }
        let begun = Instant::now();
        let answer = router.oneshot(request.body(Body::from_stream(body)).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 401);
        let count = *count.lock();
        (count, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_taken_to_a_bound() {
        let none = Duration::ZERO;
        assert_eq!(taken(15, none, false).await.0, 15);
        assert_eq!(taken(1_000_000, none, false).await.0, BYTES_MAX / PIECE + 1);
        let (_, time) = taken(1000, PAUSE_MAX / 2, false).await;
        assert_eq!(time, TIME_MAX, "it drips");
        let (_, time) = taken(1000, PAUSE_MAX * 2, false).await;
        assert_eq!(time, PAUSE_MAX, "it waits");
        assert_eq!(taken(10, none, true).await.0, 0, "it was not told to send");
    }

    #[tokio::test]
    async fn what_is_read_comes_through() {
        let router = Router::new()
            .route("/", post(|body: Bytes| async move { body }))
            .layer(middleware::from_fn(take));
        for body in ["", "body"] {
            let request = Request::post("/").body(Body::from(body)).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
        }
    }
}
