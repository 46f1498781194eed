//! Error messages about etcd: what happened, where, and what the user can do.

use std::{error::Error as StdError, io};

use tonic::Status;

use crate::store::{
    Error,
    etcd::{
        failure::{Failure, chain},
        options::Options,
    },
};

/// Why a member cannot be used.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) text: String,
    pub(super) permanence: Permanence,
    /// Whether it is unclear which server answers; then `diagnose` can find out.
    pub(super) open: bool,
}

/// Whether the cause may go away by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Permanence {
    /// Somebody must change the configuration.
    Permanent,
    Transient,
}

impl Cause {
    pub(super) fn fatal(text: String) -> Self {
        Self { text, permanence: Permanence::Permanent, open: false }
    }

    pub(super) fn passing(text: String) -> Self {
        Self { text, permanence: Permanence::Transient, open: false }
    }
}

/// The server has closed the connection. An etcd that is starting or stopping does so too.
pub(super) fn closed(url: &str, what: &str) -> Cause {
    let text = match url.starts_with("https:") {
        true => {
            "it may be an etcd that is starting or stopping, a proxy that does not reach etcd, an etcd without TLS (etcd://), or \
                 one that requires a client certificate (--etcd-cert and --etcd-key)"
        }
        false => {
            "it may be an etcd that is starting or stopping, or a proxy or port forward that does not reach etcd"
        }
    };
    let text = format!(
        "the server at {url} accepts connections and closes them without an answer ({what}): {text}"
    );
    Cause { open: true, ..Cause::passing(text) }
}

/// The server answers in an unknown protocol.
fn unclear(url: &str, what: &str) -> Cause {
    Cause { open: true, ..Cause::fatal(foreign(url, what)) }
}

/// The server expects TLS, but the options say plain text.
pub(super) fn wants_tls(url: &str) -> Cause {
    Cause::fatal(format!(
        "the server at {url} speaks TLS: write etcds:// instead of etcd:// (--etcd-cacert, --etcd-cert and \
         --etcd-key may be necessary too)"
    ))
}

/// The server speaks HTTP/1.1; `answer` is its answer to `GET /version`.
pub(super) fn speaks_http(url: &str, answer: &str) -> Cause {
    let line = answer.lines().next().unwrap_or_default();
    let (_, status) = line.split_once(' ').unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let version = || {
        let version: serde_json::Value = serde_json::from_str(body.trim()).ok()?;
        Some(version["etcdserver"].as_str()?.to_owned())
    };
    if ["502", "503", "504"].iter().any(|code| status.starts_with(code)) {
        return Cause::passing(format!(
            "the server at {url} is a proxy ({line}): it does not reach etcd, or it does not pass gRPC"
        ));
    }
    Cause::fatal(match version() {
        Some(version) if is_old(&version) => format!(
            "the server at {url} is an etcd of version {version}; version 3.4 or later is needed"
        ),
        Some(version) => format!(
            "the server at {url} is a proxy of an etcd of version {version} that supports only HTTP/1.1; gRPC needs HTTP/2"
        ),
        None => format!(
            "the server at {url} is not an etcd, or it is a proxy that does not pass gRPC: it speaks HTTP/1.1 ({line})"
        ),
    })
}

fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(3), Some(4))
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `source` of an I/O error skips the error that it contains.
        if let Some(carried) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = find(carried)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// There is no server at the address.
pub(super) fn unreachable(url: &str, error: &io::Error) -> Cause {
    Cause::passing(format!("cannot reach etcd at {url}: {error}"))
}

/// There is a server, but the connection failed.
pub(super) fn connecting(url: &str, error: &(dyn StdError + 'static)) -> Cause {
    let what = chain(error);
    let text = match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidMessage(_)) => format!(
            "the server at {url} does not speak TLS ({what}); if it is an etcd without TLS, write etcd:// instead of \
             etcds://"
        ),
        Some(rustls::Error::InvalidCertificate(_)) => format!(
            "the certificate of {url} is not trusted ({what}); name the authority that signed it with --etcd-cacert, \
             and connect to a name or address in the certificate"
        ),
        Some(_) => tls(url, &what),
        None if is_closed(&what) => return closed(url, &what),
        None => return Cause::passing(format!("cannot reach etcd at {url}: {what}")),
    };
    Cause::fatal(text)
}

/// A member did not answer in time.
pub(super) fn slow(url: &str) -> Cause {
    Cause::passing(format!("etcd at {url} does not answer"))
}

/// The connection was made, but the first call failed.
pub(super) fn entering(url: &str, options: &Options, failure: &Failure) -> Cause {
    let status = match failure {
        Failure::Refused(status) => status,
        Failure::Down(text) => return Cause::passing(text.to_string()),
        Failure::Lost(text) if is_gateway(text) => return Cause::passing(gateway(url, text)),
        Failure::Lost(text) if is_foreign(text) => return unclear(url, text),
        Failure::Lost(text) if text.contains("fatal alert") => return Cause::fatal(tls(url, text)),
        Failure::Lost(text) if is_closed(text) => return closed(url, text),
        Failure::Lost(text) => return Cause::passing(format!("etcd at {url} fails: {text}")),
    };
    let message = status.message();
    let text = if message.contains("authentication failed") {
        let name = options.user.as_ref().map_or("", |user| &user.name);
        format!(
            "etcd at {url} refuses user {name:?}: wrong user or password; check --etcd-user and --etcd-password-file (or \
             SNOWGLOBE_ETCD_PASSWORD)"
        )
    } else if message.contains("user name is empty") {
        format!(
            "etcd at {url} requires a user: give --etcd-user, and the password in --etcd-password-file or \
             SNOWGLOBE_ETCD_PASSWORD"
        )
    } else if message.contains("permission denied") {
        permission(url, options)
    } else if !message.starts_with("etcdserver:") {
        foreign(url, message)
    } else {
        return Cause::passing(format!("etcd at {url} refuses: {message}"));
    };
    Cause::fatal(text)
}

/// Whether an HTTP/2 proxy answers instead of etcd.
fn is_gateway(text: &str) -> bool {
    let codes = ["502", "503", "504"];
    codes.iter().any(|code| text.contains(&format!("mapped from HTTP status code {code}")))
}

fn gateway(url: &str, what: &str) -> String {
    format!("the server at {url} is a proxy that does not reach etcd ({what})")
}

/// Whether the answer shows that the server does not speak gRPC, or only with TLS.
fn is_foreign(text: &str) -> bool {
    [
        "frame with invalid size",
        "http2 error",
        "invalid compression flag",
        "grpc-status header missing",
    ]
    .iter()
    .any(|mark| text.contains(mark))
}

fn is_closed(text: &str) -> bool {
    ["eof", "broken pipe", "closed", "reset"]
        .iter()
        .any(|mark| text.to_ascii_lowercase().contains(mark))
}

fn tls(url: &str, what: &str) -> String {
    format!(
        "TLS with {url} failed ({what}); if it requires a client certificate, give --etcd-cert and --etcd-key"
    )
}

fn foreign(url: &str, what: &str) -> String {
    format!("the server at {url} is not an etcd: it does not speak etcd's gRPC ({what})")
}

fn permission(url: &str, options: &Options) -> String {
    let name = options.user.as_ref().map_or("", |user| &user.name);
    format!(
        "etcd at {url} does not let user {name:?} read and write below {prefix}/; grant it with `etcdctl role \
         grant-permission ROLE readwrite --prefix=true {prefix}/`",
        prefix = options.prefix
    )
}

/// Why etcd cannot be used as it is.
pub(super) enum AccessError {
    Call(Failure),
    Content(Error),
}

impl From<Failure> for AccessError {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl From<Error> for AccessError {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

impl AccessError {
    pub(super) fn error(self, options: &Options) -> Error {
        match self {
            Self::Call(failure) => reading(options, failure),
            Self::Content(error) => error,
        }
    }
}

/// The error of a failed read.
pub(super) fn reading(options: &Options, failure: Failure) -> Error {
    match failure {
        Failure::Down(text) => Error::Unavailable(text.to_string()),
        Failure::Lost(text) => Error::Unavailable(format!("etcd at {}: {text}", options.urls())),
        Failure::Refused(status) => refused(options, &status),
    }
}

/// The error of a failed write.
pub(super) fn writing(options: &Options, failure: Failure) -> Error {
    match failure {
        Failure::Lost(text) => Error::Unknown(format!("etcd at {}: {text}", options.urls())),
        other => reading(options, other),
    }
}

fn refused(options: &Options, status: &Status) -> Error {
    let (message, urls) = (status.message(), options.urls());
    if message.contains("database space exceeded") {
        return Error::Full(format!(
            "etcd at {urls}: compact and defragment it or raise its --quota-backend-bytes, then `etcdctl alarm disarm`"
        ));
    }
    if message.contains("request is too large")
        || message.contains("received message larger than max")
    {
        return Error::Invalid(format!(
            "etcd at {urls} accepts no request of this size ({message}): leave its --max-request-bytes at the default \
             of 1572864 or above"
        ));
    }
    if message.contains("too many operations") {
        return Error::Invalid(format!(
            "etcd at {urls} accepts no transaction with this many operations: start it with a higher --max-txn-ops, such as \
             10000 (its default is 128)"
        ));
    }
    if message.contains("permission denied") {
        return Error::Unavailable(permission(&urls, options));
    }
    Error::Unavailable(format!("etcd at {urls} refuses: {message}"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let options: Options = "etcd://a:1/p".parse().unwrap();
        let said = |message: &str| {
            refused(&options, &Status::new(Code::ResourceExhausted, message)).to_string()
        };
        let cases = [
            ("etcdserver: mvcc: database space exceeded", "alarm disarm"),
            ("etcdserver: request is too large", "--max-request-bytes"),
            ("etcdserver: too many operations in txn request", "--max-txn-ops"),
            ("etcdserver: permission denied", "grant-permission ROLE readwrite --prefix=true /p/"),
            ("etcdserver: something new", "etcdserver: something new"),
        ];
        for (message, part) in cases {
            let said = said(message);
            assert!(said.contains(part) && said.contains("http://a:1"), "{said}");
        }
    }
}
