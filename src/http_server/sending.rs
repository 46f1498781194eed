//! [`Sending`]: the body of an answer on its way: in small pieces, so that a client that stops reading holds no more than
//! one of them in the connection; compressed if the client can read that; with all that must live until it is sent.

use std::{
    io::Write as _,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    admission::Work,
    http_server::{ANSWER_MAX, transfers::Transfer},
};

/// The most that is in the connection of what the client has not taken yet.
pub(crate) const PIECE: usize = 64 * 1024;

/// Smaller bodies are not worth it: kube-apiserver's bound.
pub(crate) const GZIP_MIN: usize = 128 * 1024;

/// The type of an answer that goes on for ever.
const EVENT_STREAM: &str = "text/event-stream";

/// What an answer holds until it is sent.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
    pub(crate) _work: Option<Work>,
    pub(crate) transfer: Option<Arc<Transfer>>,
}

struct Sending {
    body: Body,
    rest: Bytes,
    gzip: Option<GzEncoder<Vec<u8>>>,
    held: Held,
}

/// Sends a response piece by piece, compressed where that is worth it.
pub(crate) fn send(response: Response, compress: bool, held: Held) -> Response {
    let (mut parts, body) = response.into_parts();
    // Only what is long has no length.
    let long = body.size_hint().exact().is_none_or(|length| length >= GZIP_MIN as u64);
    let compress = compress && long && !parts.headers.contains_key(header::CONTENT_ENCODING);
    let gzip = compress.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    if compress {
        let headers = &mut parts.headers;
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.remove(header::CONTENT_LENGTH);
    }
    Response::from_parts(parts, Body::new(Sending { body, rest: Bytes::new(), gzip, held }))
}

/// The middleware of a router that does not do so itself. What is no stream of events must be taken in a bounded time.
pub(crate) async fn pass(mut request: Request, next: Next) -> Response {
    let transfer = request.extensions_mut().remove::<Arc<Transfer>>();
    let gzip = accepts_gzip(request.headers());
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let stream = kind.is_some_and(|kind| kind == EVENT_STREAM);
    if let Some(transfer) = transfer.as_ref().filter(|_| !stream) {
        transfer.end_in(ANSWER_MAX);
    }
    send(response, gzip && !stream, Held { transfer, ..Held::default() })
}

/// Whether `Accept-Encoding` allows gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0_f32))
        });
        named && !refused
    })
}

impl Sending {
    /// The next piece of what there is to send.
    fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if !self.rest.is_empty() {
                let length = self.rest.len().min(PIECE);
                let piece = self.rest.split_to(length);
                let piece = match &mut self.gzip {
                    None => piece,
                    Some(gzip) => {
                        // A Vec takes everything.
                        gzip.write_all(&piece).ok();
                        std::mem::take(gzip.get_mut()).into()
                    }
                };
                if piece.is_empty() {
                    continue;
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(frame) => frame?,
                None => return Poll::Ready(self.last().map(Frame::data).map(Ok)),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    /// The end of a compressed body.
    fn last(&mut self) -> Option<Bytes> {
        let end = self.gzip.take()?.finish().unwrap_or_default();
        (!end.is_empty()).then(|| end.into())
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Some(transfer) = &this.held.transfer {
            transfer.wanted();
        }
        let polled = panic::catch_unwind(AssertUnwindSafe(|| this.poll_piece(context)));
        // It is in the log; the client sees that the answer is cut off.
        let polled = polled.unwrap_or_else(|_payload| {
            (this.rest, this.gzip, this.body) = (Bytes::new(), None, Body::empty());
            Poll::Ready(Some(Err(axum::Error::new("the server panicked"))))
        });
        if let (Some(transfer), Poll::Ready(Some(_))) = (&this.held.transfer, &polled) {
            transfer.gave();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.gzip.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        if self.gzip.is_some() || !self.rest.is_empty() {
            return http_body::SizeHint::default();
        }
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn pieces(response: Response) -> Vec<Bytes> {
        let mut body = response.into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        pieces
    }

    #[tokio::test]
    async fn long_bodies_go_in_pieces() {
        let text = "x".repeat(200_000);
        let sent = send(Response::new(Body::from(text.clone())), false, Held::default());
        assert_eq!(sent.body().size_hint().exact(), Some(200_000));
        let pieces = pieces(sent).await;
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(pieces.concat(), text.as_bytes());
    }

    #[tokio::test]
    async fn long_bodies_are_compressed() {
        let text: String = (0..40_000).map(|i| format!("{i},")).collect();
        let sent = send(Response::new(Body::from(text.clone())), true, Held::default());
        assert_eq!(sent.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = pieces(sent).await.concat();
        assert!(packed.len() < text.len() / 2);
        let mut unpacked = String::new();
        std::io::Read::read_to_string(&mut GzDecoder::new(&packed[..]), &mut unpacked).unwrap();
        assert_eq!(unpacked, text);
        let short = send(Response::new(Body::from("short")), true, Held::default());
        assert!(!short.headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn gzip_is_asked_for() {
        let check = |text: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, text.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{text}");
        };
        check("gzip", true);
        check("deflate, GZIP;q=0.5", true);
        check("gzip;q=0", false);
        check("identity, br", false);
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
