//! Watches: an endless answer of one JSON event a line.
//!
//! A watch holds a position in the cache's history, not a queue: a slow client costs one socket buffer, and is told
//! to list again (410) once history has passed it. The document of an event is shared by all watches.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::header;
use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        Api,
        request::{Form, Selectors, Target, is_true},
        resources::{Request, selected},
        table,
    },
    model::{Object, Status},
    registry::{Event, EventKind, Subscription},
};

/// Kubernetes sends a bookmark about once a minute.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// `--min-request-timeout`: a watch without `timeoutSeconds` ends after this, times 1 to 2.
const DURATION_MIN: Duration = Duration::from_secs(1800);

/// Answers a watch request.
pub(crate) fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let form = Form::negotiate_stream(&request.headers, &request.query)?;
    let query = &request.query;
    let selectors = query.selectors(request.target.kind)?;
    query.check_versions()?;
    let asked = query.version()?;
    let initial_events = is_true(&query.send_initial_events);
    let view = api.registry.view();
    let mut first = Vec::new();
    let after = match asked {
        Some(after) if !initial_events => after,
        _ => {
            for object in selected(&view, &request.target, &selectors) {
                let object = object.shown_as(request.target.kind);
                first.push(line("ADDED", &object, form, first.is_empty()));
            }
            if initial_events && is_true(&query.allow_watch_bookmarks) {
                first.push(bookmark(&request.target, view.revision(), true));
            }
            view.revision()
        }
    };
    let lasting = query.timeout_seconds.map_or_else(
        || DURATION_MIN.mul_f64(1.0 + rand::rng().random::<f64>()),
        Duration::from_secs,
    );
    let watch = Watch {
        subscription: api.registry.subscribe(&[request.target.kind], after),
        target: request.target.clone(),
        selectors,
        form,
        bookmarks: is_true(&query.allow_watch_bookmarks),
        end: Instant::now() + lasting,
        stop: api.stop.clone(),
        is_first: first.is_empty(),
        first: Some(first.concat().into()),
        over: false,
    };
    let body = Body::from_stream(stream::unfold(watch, Watch::next_chunk));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

struct Watch {
    subscription: Subscription,
    target: Target,
    selectors: Selectors,
    form: Form,
    bookmarks: bool,
    end: Instant,
    stop: CancellationToken,
    /// What is sent before anything happens; also makes the headers go out at once.
    first: Option<Bytes>,
    over: bool,
    /// No event was sent yet; a table sends its columns with the first.
    is_first: bool,
}

impl Watch {
    async fn next_chunk(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), self));
        }
        if self.over {
            return None;
        }
        loop {
            let bookmark_at = Instant::now() + BOOKMARK_INTERVAL;
            let chunk = tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep_until(self.end) => return None,
                events = self.subscription.next() => self.lines(events),
                () = sleep_until(bookmark_at), if self.bookmarks => {
                    let events = self.subscription.take();
                    let mut chunk = self.lines(events);
                    if !self.over {
                        let position = self.subscription.position();
                        chunk.extend(bookmark(&self.target, position, false));
                    }
                    chunk
                }
            };
            if !chunk.is_empty() {
                return Some((Ok(chunk.into()), self));
            }
        }
    }

    fn lines(&mut self, events: Result<Vec<Arc<Event>>, Status>) -> Vec<u8> {
        match events {
            Ok(events) => events.iter().flat_map(|event| self.lines_of(event)).collect(),
            Err(status) => {
                self.over = true;
                error_line(&status)
            }
        }
    }

    /// The event as this watch sees it: an object that begins or ceases to match was added or deleted.
    fn lines_of(&mut self, event: &Event) -> Vec<u8> {
        let shown = |object: &Object| {
            self.target.namespace.as_ref().is_none_or(|ns| *ns == object.key.namespace)
                && self.selectors.matches(object)
        };
        let before = event.previous.as_deref().is_some_and(shown);
        let after = event.kind != EventKind::Deleted && shown(&event.object);
        let word = match (before, after) {
            (false, false) => return Vec::new(),
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let first = std::mem::take(&mut self.is_first);
        line(word, &event.object.shown_as(self.target.kind), self.form, first)
    }
}

fn line(word: &str, object: &Object, form: Form, first: bool) -> Vec<u8> {
    let document: Bytes = match form {
        Form::Table(include) => {
            table::render_one(object, Timestamp::now(), include, first).to_bytes()
        }
        Form::Metadata => table::partial(object),
        Form::Json | Form::Yaml => object.document(),
    };
    let mut line = Vec::with_capacity(document.len() + 40);
    line.extend_from_slice(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
    line.extend_from_slice(&document);
    line.extend_from_slice(b"}\n");
    line
}

fn bookmark(target: &Target, revision: u64, initial_events_end: bool) -> Vec<u8> {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if initial_events_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object: Value = json!({"kind": target.kind.kind, "apiVersion": target.kind.api_version(),
        "metadata": metadata});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into_bytes()
}

fn error_line(status: &Status) -> Vec<u8> {
    format!("{}\n", json!({"type": "ERROR", "object": status.to_json()})).into_bytes()
}
