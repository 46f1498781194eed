//! The result of a call that failed. etcd's errors are recognised by their messages, which are part of its API
//! (`rpctypes/error.go`), because many of them share a status code. `explain` turns failures into messages for users.

use std::{error::Error as StdError, sync::Arc};

use tonic::{Code, Status};

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request was not sent, because there is no connection, for this reason.
    Down(Arc<str>),
    /// etcd refused the request and did nothing.
    Refused(Status),
    /// The answer was lost. It is unknown whether etcd carried out the request.
    Lost(String),
}

impl From<Status> for Failure {
    /// Decides whether etcd refused the request, or the answer was lost.
    fn from(status: Status) -> Self {
        let unsure =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
        if status.source().is_some() || (unsure && !nothing_was_done(&status)) {
            return Self::Lost(chain(&status));
        }
        Self::Refused(status)
    }
}

/// An error and its causes in one line, without repetitions.
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

/// Whether authentication is not enabled, so that no user is needed.
pub(super) fn authentication_is_off(status: &Status) -> bool {
    status.message().contains("authentication is not enabled")
}

/// Whether the token is invalid: etcd has restarted, it has expired, or users have changed.
pub(super) fn token_is_stale(status: &Status) -> bool {
    let message = status.message();
    message.contains("invalid auth token") || message.contains("revision of auth store is old")
}

/// Whether etcd was unavailable and says that it has not carried out the request.
fn nothing_was_done(status: &Status) -> bool {
    status.message().contains("too many requests")
}

/// Whether the requested history was compacted.
pub(super) fn is_compacted(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(status) if status.message().contains("has been compacted"))
}

/// Whether the requested revision does not exist yet.
pub(super) fn is_future(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(status) if status.message().contains("is a future revision"))
}

/// Whether an answer was larger than the limit.
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
