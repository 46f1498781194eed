//! What became of a call that did not succeed. etcd's refusals are known by their messages, which are part of its API
//! (`rpctypes/error.go`); many share a code. `explain` puts them into words.

use std::{error::Error as StdError, sync::Arc};

use tonic::{Code, Status};

/// What became of a call that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not sent: there is no connection, for this reason.
    Down(Arc<str>),
    /// etcd refused it and did nothing.
    Refused(Status),
    /// The answer was lost; etcd may have done it.
    Lost(String),
}

impl From<Status> for Failure {
    /// Whether a status came from etcd as a refusal, or the answer was lost on the way or in etcd itself.
    fn from(status: Status) -> Self {
        let unsure =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
        if status.source().is_some() || (unsure && !nothing_was_done(&status)) {
            return Self::Lost(chain(&status));
        }
        Self::Refused(status)
    }
}

/// An error and its causes in one line, without repetition.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<Status>() {
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        let says_nothing = matches!(text.as_str(), "" | "transport error" | "tcp connect error");
        if !says_nothing && !parts.iter().any(|part| part.contains(&text)) {
            parts.retain(|part| !text.contains(part.as_str()));
            parts.push(text);
        }
        next = error.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

/// The named user is not needed: this etcd lets in everybody.
pub(super) fn authentication_is_off(status: &Status) -> bool {
    status.message().contains("authentication is not enabled")
}

/// The token was lost when etcd restarted, has run out, or users have changed since.
pub(super) fn token_is_stale(status: &Status) -> bool {
    let message = status.message();
    message.contains("invalid auth token") || message.contains("revision of auth store is old")
}

/// Whether etcd, though unavailable, says that it has not even tried.
fn nothing_was_done(status: &Status) -> bool {
    status.message().contains("too many requests")
}

/// Whether history that was asked for is gone.
pub(super) fn is_compacted(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(status) if status.message().contains("has been compacted"))
}

/// Whether a revision that was asked for has not happened yet.
pub(super) fn is_future(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(status) if status.message().contains("is a future revision"))
}

/// Whether an answer was larger than we take.
pub(super) fn is_too_large(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(status) if status.code() == Code::OutOfRange
        && status.message().contains("message length too large"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn chains_do_not_repeat() {
        let inner = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        assert_eq!(chain(&io::Error::other(inner)), "connection refused");
    }
}
