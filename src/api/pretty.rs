//! JSON laid out for people, as Go's `json.Indent` does it with two spaces: while it is sent, in pieces.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::stream;
use http::header;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::http_server::sending::GZIP_MIN;

/// Lays out an answer, if it is JSON. A short one stays whole, so that its length is known.
pub(crate) async fn laid_out(mut response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return response;
    }
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let mut layout = Layout::default();
    let (head, body) = response.into_parts();
    let is_short = body.size_hint().exact().is_some_and(|length| length < GZIP_MIN as u64);
    let body = if is_short {
        match body.collect().await {
            Ok(whole) => Body::from(layout.of(&whole.to_bytes())),
            Err(error) => Body::from_stream(stream::once(async { Err::<Bytes, _>(error) })),
        }
    } else {
        Body::new(body.map_frame(move |frame| frame.map_data(|json| layout.of(&json))))
    };
    Response::from_parts(head, body)
}

/// Where in the JSON the next byte is.
#[derive(Default)]
struct Layout {
    depth: usize,
    in_string: bool,
    /// The byte before was a backslash in a string.
    escaped: bool,
    /// An object or list was begun, and nothing in it.
    opened: bool,
}

impl Layout {
    /// The next piece, laid out.
    fn of(&mut self, json: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(json.len() * 2);
        for byte in json {
            self.byte(*byte, &mut out);
        }
        out.into()
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.in_string {
            out.push(byte);
            let ends = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_string = !ends;
            return;
        }
        if byte.is_ascii_whitespace() {
            return;
        }
        let closes = matches!(byte, b'}' | b']');
        if self.opened && !closes {
            self.depth += 1;
            self.new_line(out);
        }
        if closes && !self.opened {
            self.depth = self.depth.saturating_sub(1);
            self.new_line(out);
        }
        self.opened = matches!(byte, b'{' | b'[');
        self.in_string = byte == b'"';
        out.push(byte);
        match byte {
            b',' => self.new_line(out),
            b':' => out.push(b' '),
            _ => {}
        }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn json_is_laid_out_in_any_pieces() {
        let value = serde_json::json!({"a": [], "b": {}, "c": [1, {"d": "x\\\"{,:}\\"}, [null, []]],
            "": {"e": {"f": true}}});
        let expected = serde_json::to_string_pretty(&value).unwrap();
        let text = value.to_string();
        for length in [1, 2, 7, text.len()] {
            let mut layout = Layout::default();
            let pieces = text.as_bytes().chunks(length).map(|piece| layout.of(piece));
            assert_eq!(pieces.collect::<Vec<_>>().concat(), expected.as_bytes(), "{length}");
        }
        let answer = |kind: &str| {
            let response = Response::builder().header(header::CONTENT_TYPE, kind);
            laid_out(response.body(Body::from(text.clone())).unwrap())
        };
        let body =
            answer("application/json;g=x").await.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, expected.as_bytes());
        let body = answer("application/yaml").await.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, text.as_bytes());
    }
}
