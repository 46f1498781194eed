//! Request bodies. A body is read completely before its request counts among those that are being served, so that a slow
//! client does not take the place of another. Bodies are bounded in size, time and number. [`Encoding`] decompresses them.

use std::{io::Read as _, net::IpAddr, sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody as _};
use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    admission::{Admission, Bounds},
    model::Status,
};

/// The largest request body, as with kube-apiserver. The bound holds before and after decompression.
const BYTES_MAX: usize = 3 * 1024 * 1024;
/// A client that does not send its body in this time is refused.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How many bodies are read at a time: together they hold at most 768 MiB. One more makes the oldest be refused.
const READING: Bounds = Bounds { total: 256, per_source: 128 };
/// Compressed bodies up to this size are decompressed at once. Larger ones can take a second of CPU, and wait for a turn.
const UNPACKED_AT_ONCE_MAX: usize = 16 * 1024;
/// How many large bodies are decompressed at a time, on blocking threads.
const UNPACKING_MAX: usize = 1;
/// After how long a client may try again if its body was refused because of too many others.
const RETRY_SECONDS: u32 = 1;

/// The bodies that are being read and decompressed.
pub(crate) struct Bodies {
    reading: Arc<Admission>,
    unpacking: Arc<Semaphore>,
}

/// The compression of a body (`Content-Encoding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

impl Bodies {
    pub(crate) fn new() -> Self {
        let unpacking = Arc::new(Semaphore::new(UNPACKING_MAX));
        Self { reading: Admission::new(READING), unpacking }
    }

    /// Reads a body, still compressed.
    pub(crate) async fn read(&self, source: IpAddr, body: Body) -> Result<Bytes, Status> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        if body.size_hint().lower() > BYTES_MAX as u64 {
            return Err(Status::too_large(BYTES_MAX));
        }
        let too_many = "Too many request bodies are being sent, please try again later.";
        let refused = || Status::too_many_requests(too_many, RETRY_SECONDS);
        let place = self.reading.admit(source).ok_or_else(refused)?;
        tokio::select! {
            read = read(body) => read,
            () = place.lost() => Err(refused()),
        }
    }

    /// Decompresses a body.
    ///
    /// # Errors
    /// 400 if the body is not compressed like this, 413 if it is too large.
    pub(crate) async fn unpack(&self, encoding: Encoding, body: Bytes) -> Result<Bytes, Status> {
        if encoding == Encoding::Identity || body.len() <= UNPACKED_AT_ONCE_MAX {
            return encoding.unpack(body);
        }
        let turn = self.unpacking.clone().acquire_owned().await.expect("it is never closed");
        let unpacking = spawn_blocking(move || {
            let _turn = turn;
            encoding.unpack(body)
        });
        unpacking.await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
    }
}

async fn read(body: Body) -> Result<Bytes, Status> {
    let reading = Limited::new(body, BYTES_MAX).collect();
    match tokio::time::timeout(TIME_MAX, reading).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(BYTES_MAX)),
        Ok(Err(_broken)) => Err(Status::bad_request("the request body ended early")),
        Err(_slow) => {
            let seconds = TIME_MAX.as_secs();
            Err(Status::timeout(format!("the request body did not come within {seconds} seconds")))
        }
    }
}

impl Encoding {
    /// The encoding that the headers name.
    ///
    /// # Errors
    /// 415 for an unknown encoding.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let text: Vec<String> =
            lines.map(|line| String::from_utf8_lossy(line.as_bytes()).to_lowercase()).collect();
        match text.join(",").trim() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request has the Content-Encoding {other:?}, which is not known here; \
                 accepted are: gzip, identity"
            ))),
        }
    }

    fn unpack(self, body: Bytes) -> Result<Bytes, Status> {
        if self == Self::Identity || body.is_empty() {
            return Ok(body);
        }
        let mut unpacked = Vec::new();
        let bound = BYTES_MAX as u64 + 1;
        let read = MultiGzDecoder::new(&body[..]).take(bound).read_to_end(&mut unpacked);
        read.map_err(|error| {
            Status::bad_request(format!("the request body is not valid gzip: {error}"))
        })?;
        if unpacked.len() > BYTES_MAX {
            return Err(Status::too_large(BYTES_MAX));
        }
        Ok(unpacked.into())
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io::Write as _};

    use flate2::{Compression, write::GzEncoder};
    use futures::{FutureExt as _, future::join_all, stream};
    use http::HeaderValue;
    use tokio::time::{Instant, sleep};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn silence() -> Body {
        Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_an_end_in_time() {
        let drips = stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
        });
        for body in [Body::from_stream(drips), silence()] {
            let begun = Instant::now();
            let status = Bodies::new().read(HERE, body).await.unwrap_err();
            assert_eq!((status.code, status.reason), (504, "Timeout"));
            assert_eq!(begun.elapsed().as_secs(), TIME_MAX.as_secs());
        }
    }

    #[tokio::test]
    async fn a_body_has_an_end_in_size() {
        let bodies = Bodies::new();
        let whole = |length| Body::from(vec![b' '; length]);
        let chunks =
            |length| Body::from_stream(stream::iter([Ok::<_, Infallible>(vec![b' '; length])]));
        assert_eq!(bodies.read(HERE, whole(BYTES_MAX)).await.unwrap().len(), BYTES_MAX);
        assert_eq!(bodies.read(HERE, chunks(BYTES_MAX)).await.unwrap().len(), BYTES_MAX);
        assert_eq!(bodies.read(HERE, whole(BYTES_MAX + 1)).await.unwrap_err().code, 413);
        assert_eq!(bodies.read(HERE, chunks(BYTES_MAX + 1)).await.unwrap_err().code, 413);
    }

    #[tokio::test]
    async fn stalled_bodies_keep_nobody_out() {
        let bodies = Bodies::new();
        let mut stalled = Box::pin(join_all(
            (0..READING.total + 1)
                .map(|_| bodies.read(HERE, silence()).map(|read| read.unwrap_err().code)),
        ));
        assert!(stalled.as_mut().now_or_never().is_none(), "they wait");
        let read = bodies.read(HERE, Body::from("{}")).await;
        assert_eq!(read.unwrap(), "{}");
        let late = Body::from_stream(stream::once(async { Ok::<_, Infallible>("late") }));
        assert_eq!(bodies.read(HERE, late).await.unwrap(), "late");
    }

    #[test]
    fn encodings() {
        let check = |lines: &[&'static str], expected: Option<Encoding>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            let found = Encoding::of(&headers);
            assert_eq!(found.clone().ok(), expected, "{lines:?}");
            if let Err(status) = found {
                assert_eq!((status.code, status.reason), (415, "UnsupportedMediaType"));
            }
        };
        check(&[], Some(Encoding::Identity));
        check(&[""], Some(Encoding::Identity));
        check(&["identity"], Some(Encoding::Identity));
        check(&[" GZip "], Some(Encoding::Gzip));
        check(&["x-gzip"], Some(Encoding::Gzip));
        check(&["gzip, gzip"], None);
        check(&["gzip", "gzip"], None);
        for other in ["br", "deflate", "zstd", "compress", "aws-chunked"] {
            check(&[other], None);
        }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[tokio::test]
    async fn costly_bodies_hold_no_worker() {
        let bodies = Bodies::new();
        // Each empty member costs as much as kilobytes of text.
        let costly = Bytes::from(packed(b"").repeat(20_000));
        assert!(costly.len() > UNPACKED_AT_ONCE_MAX);
        let mut unpacking = Box::pin(bodies.unpack(Encoding::Gzip, costly));
        assert!(unpacking.as_mut().now_or_never().is_none(), "the only worker is free meanwhile");
        let small = bodies.unpack(Encoding::Gzip, packed(b"{}").into());
        assert_eq!(small.now_or_never().expect("it waits for none").unwrap(), "{}");
        assert_eq!(unpacking.await.unwrap(), "");
    }

    #[test]
    fn gzip_is_unpacked_within_bounds() {
        let check = |body: Vec<u8>, expected: Result<&[u8], u16>| {
            let found = Encoding::Gzip.unpack(body.into()).map_err(|status| status.code);
            assert_eq!(found.as_ref().map(|bytes| &bytes[..]).map_err(|code| *code), expected);
        };
        let largest = vec![b' '; BYTES_MAX];
        check(packed(b"{}"), Ok(b"{}"));
        check(Vec::new(), Ok(b""));
        check([packed(b"{"), packed(b"}")].concat(), Ok(b"{}"));
        check(packed(&largest), Ok(&largest));
        check(packed(&[&largest[..], b" "].concat()), Err(413));
        check(packed(&vec![0; 100 * BYTES_MAX]), Err(413));
        check(b"{}".to_vec(), Err(400));
        check([packed(b"{}"), b"{}".to_vec()].concat(), Err(400));
        let whole = packed(b"{}");
        check(whole[..whole.len() - 1].to_vec(), Err(400));
        let plain = Encoding::Identity.unpack(Bytes::from_static(b"{}"));
        assert_eq!(plain.unwrap(), "{}");
    }
}
