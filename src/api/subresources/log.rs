//! `pods/log`: what a pod's runtime kept of its output, and what it writes from now on (`follow`).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::header;
use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{Api, Log, request::is_true, resources::Request},
    model::Status,
};

/// How often a followed log is looked at; a pod's log has no wake-up of its own.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let pod = api.registry.get(&request.target.key()?)?;
    let (uid, query) = (pod.metadata.uid.clone(), &request.query);
    let log = (api.logs)(&uid, 0).unwrap_or(Log { lines: Vec::new(), written: 0 });
    let since =
        query.since_seconds.map(|seconds| Timestamp::now() - SignedDuration::from_secs(seconds));
    let lines = log.lines.iter().filter(|(at, _)| since.is_none_or(|since| *at >= since));
    let lines: Vec<&(Timestamp, String)> = lines.collect();
    let skip = query.tail_lines.map_or(0, |tail| lines.len().saturating_sub(tail));
    let stamped = is_true(&query.timestamps);
    let mut first: Vec<u8> = lines[skip..].iter().flat_map(|line| text(line, stamped)).collect();
    first.truncate(query.limit_bytes.unwrap_or(usize::MAX));
    let body = if is_true(&query.follow) {
        let follow = Follow { api: api.clone(), uid, stamped, written: log.written };
        let rest = stream::unfold(follow, Follow::next);
        Body::from_stream(futures::StreamExt::chain(stream::iter([Ok(Bytes::from(first))]), rest))
    } else {
        Body::from(first)
    };
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

fn text((at, line): &(Timestamp, String), stamped: bool) -> Vec<u8> {
    let stamp = if stamped { format!("{at} ") } else { String::new() };
    format!("{stamp}{line}\n").into_bytes()
}

/// A log that a client follows.
struct Follow {
    api: Arc<Api>,
    uid: String,
    stamped: bool,
    written: u64,
}

impl Follow {
    /// The next new lines; the end when the pod is gone or the server stops.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            let log = (self.api.logs)(&self.uid, self.written)?;
            self.written = log.written;
            if !log.lines.is_empty() {
                let lines = log.lines.iter().flat_map(|line| text(line, self.stamped));
                return Some((Ok(lines.collect::<Vec<u8>>().into()), self));
            }
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            }
        }
    }
}
