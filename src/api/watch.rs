//! Watches: an endless answer of one JSON event a line.
//!
//! A watch has no queue. It has a position in the cache's history, so that a slow client costs one socket buffer and a few
//! events. When the history no longer contains its position, the client is told to list again (410). The client must read
//! the initial objects in the time of a list. All watches share the long documents of events.

use std::{convert::Infallible, sync::Arc, time::Duration, vec};

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::stream;
use http::header;
use jiff::Timestamp;
use rand::RngExt;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        Api,
        forms::{Form, Shape},
        pieces::Pieces,
        request::Request,
        selectors::{Selectors, selected},
        table::{self, Printer},
        target::Target,
    },
    http_server::{ANSWER_MAX, sending::PIECE},
    model::{Kind, Object, ObjectKey, Status, object::to_stored},
    registry::{Event, EventKind, Subscription},
};

/// Kubernetes sends a bookmark about once a minute.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The last bookmark is sent so long before the watch ends, so that the client can continue there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// `--min-request-timeout`: a watch without `timeoutSeconds` ends after this, times 1 to 2.
const DURATION_MIN: Duration = Duration::from_secs(1800);

/// Answers a watch request.
pub(crate) fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let form = Form::of_stream(&request.headers, &request.query.include_object)?;
    let query = &request.query;
    let selectors = query.selectors(&request.target.descriptor)?;
    query.check_versions()?;
    let asked = query.version()?;
    let initial_events = query.send_initial_events.unwrap_or_default();
    let bookmarks = query.allow_watch_bookmarks;
    let (after, first) = match asked {
        Some(after) if !initial_events => (after, None),
        _ => {
            let view = api.registry.view();
            let objects: Vec<_> = selected(&view, &request.target, &selectors).cloned().collect();
            let bookmark = initial_events && bookmarks;
            let first = First { objects: objects.into_iter(), bookmark, begun: Instant::now() };
            (view.revision(), Some(first))
        }
    };
    let lasting =
        query.lasting().unwrap_or_else(|| DURATION_MIN.mul_f64(rand::rng().random_range(1.0..2.0)));
    let subscription = api.registry.subscribe(&[request.target.kind()], after);
    let begun = Instant::now();
    // An end that the clock cannot represent counts as none.
    let end = begun.checked_add(lasting).or_else(|| begun.checked_add(DURATION_MIN));
    let end = end.unwrap_or(begun);
    let watch = Watch {
        subscription: subscription.in_batches_of(PIECE),
        printer: Printer::of(&request.target.descriptor),
        target: request.target.clone(),
        selectors,
        form,
        next_bookmark: bookmarks.then(|| next_bookmark(begun, end)).flatten(),
        end,
        stop: api.stop.clone(),
        first,
        pieces: Pieces::default(),
        is_first: true,
        over: false,
    };
    let body = Body::from_stream(stream::unfold(watch, Watch::next_piece));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The objects that a watch sends before its first event.
struct First {
    objects: vec::IntoIter<Arc<Object>>,
    /// Whether a bookmark follows them.
    bookmark: bool,
    /// When the client began to read them. It has the time of an answer for it.
    begun: Instant,
}

struct Watch {
    subscription: Subscription,
    printer: Printer,
    target: Target,
    selectors: Selectors,
    form: Form,
    /// When the next bookmark is due, if any is to come.
    next_bookmark: Option<Instant>,
    end: Instant,
    stop: CancellationToken,
    first: Option<First>,
    /// What is not sent yet. It is sent before the watch reads more events.
    pieces: Pieces,
    /// True until the first event is sent. A table sends its columns with the first event.
    is_first: bool,
    over: bool,
}

impl Watch {
    async fn next_piece(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(piece) = self.pieces.take() {
                return Some((Ok(piece), self));
            }
            if self.over {
                return None;
            }
            if let Some(first) = self.first.take() {
                self.begin(first);
                continue;
            }
            let bookmark = self.next_bookmark.unwrap_or(self.end);
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep_until(self.end) => return None,
                events = self.subscription.next() => self.lines(events),
                () = sleep_until(bookmark), if self.next_bookmark.is_some() => {
                    let events = self.subscription.take();
                    self.lines(events);
                    if !self.over {
                        self.bookmark(false);
                    }
                    self.next_bookmark = next_bookmark(Instant::now(), self.end);
                }
            }
        }
    }

    /// Sends the next ones of the initial objects.
    fn begin(&mut self, mut first: First) {
        self.over = first.begun.elapsed() >= ANSWER_MAX;
        while self.pieces.len() < PIECE {
            let Some(object) = first.objects.next() else {
                if first.bookmark {
                    self.bookmark(true);
                }
                return;
            };
            self.line("ADDED", &object);
        }
        self.first = Some(first);
    }

    fn lines(&mut self, events: Result<Vec<Arc<Event>>, Status>) {
        match events {
            Ok(events) => events.iter().for_each(|event| self.line_of(event)),
            // The kind is gone: Kubernetes then ends the watch as if its time were over.
            Err(status) if status.code == 404 => self.over = true,
            Err(status) => {
                self.over = true;
                self.pieces.copy(&error_line(&status));
            }
        }
    }

    /// Sends an event. For this watch, an object that begins to match was added, and one that ceases to match was deleted.
    fn line_of(&mut self, event: &Event) {
        let shown = |object: &Object| {
            self.target.namespace.as_ref().is_none_or(|ns| *ns == object.key.namespace)
                && self.selectors.matches(object)
        };
        let before = event.previous.as_deref().is_some_and(shown);
        let after = event.kind != EventKind::Deleted && shown(&event.object);
        let word = match (before, after) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        self.line(word, &event.object);
    }

    fn line(&mut self, word: &str, object: &Arc<Object>) {
        let object = self.target.descriptor.show(object);
        let first = std::mem::take(&mut self.is_first);
        self.pieces.copy(format!("{{\"type\":\"{word}\",\"object\":").as_bytes());
        match self.form.shape {
            Shape::Table(rows) => {
                let table = self.printer.render_one(&object, Timestamp::now(), rows, first);
                self.pieces.share(table.to_bytes());
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                self.pieces.share(table::partial(&object, version));
            }
            Shape::Whole => self.pieces.document(&object),
        }
        self.pieces.copy(b"}\n");
    }

    fn bookmark(&mut self, initial_events_end: bool) {
        let revision = self.subscription.position();
        if let Some(object) = bookmark(self.target.kind(), revision, initial_events_end) {
            self.line("BOOKMARK", &Arc::new(object));
        }
    }
}

/// When the next bookmark is due: in a minute, but shortly before the end of the watch. `None` if no time is left.
fn next_bookmark(now: Instant, end: Instant) -> Option<Instant> {
    let last = end.checked_sub(LAST_BOOKMARK)?;
    Some(last.min(now.checked_add(BOOKMARK_INTERVAL)?)).filter(|at| *at > now)
}

/// The object of a bookmark. It has only a version, and the form of the watch's other objects.
fn bookmark(kind: &Kind, revision: u64, initial_events_end: bool) -> Option<Object> {
    let annotations = initial_events_end.then(|| json!({table::INITIAL_EVENTS_END: "true"}));
    let metadata = annotations.map_or_else(|| json!({}), |a| json!({"annotations": a}));
    let stored = to_stored(kind, json!({"metadata": metadata}));
    let object = Object::from_stored(ObjectKey::new(kind, "", ""), revision, stored);
    object.inspect_err(|error| tracing::error!(%error, "a bookmark cannot be made")).ok()
}

fn error_line(status: &Status) -> Vec<u8> {
    format!("{}\n", json!({"type": "ERROR", "object": status.to_json()})).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_each_minute_and_before_the_end() {
        let now = Instant::now();
        let check = |left: u64, expected: Option<u64>| {
            let next = next_bookmark(now, now + Duration::from_secs(left));
            assert_eq!(next.map(|at| (at - now).as_secs()), expected, "{left} s before the end");
        };
        check(3600, Some(60));
        check(62, Some(60));
        check(61, Some(59));
        check(10, Some(8));
        check(2, None);
        check(1, None);
        check(0, None);
    }
}
