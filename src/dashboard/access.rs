//! Who may look at the dashboard. Any web page that the user visits can make the browser send requests here, and
//! any name can be made to resolve to 127.0.0.1, so being reachable only from this machine protects nothing.
//!
//! Three gates, in this order: the `Host` must be one of ours (DNS rebinding), the request must not come from
//! another site's page (CSRF), and it must carry the session cookie or the token.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Uri},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::{
    dashboard::options::Options,
    http_server::hosts::{self, Foreign, Hosts},
};

/// Files that need no authentication. They contain nothing about the cluster.
const PUBLIC: &[&str] = &["/style.css", "/icon.svg"];

/// The security headers of every answer.
const SECURITY: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// The rules of one dashboard.
pub(crate) struct Access {
    hosts: Hosts,
    token: Secret,
    /// Value of the cookie. Derived from the token, which the cookie therefore does not give away: browsers send
    /// cookies of a host to all its ports.
    session: String,
    session_secret: Secret,
}

/// The answer to a request that is not let through.
enum Rejection {
    /// The request may come from a page of another site.
    Foreign(Foreign),
    /// The request has neither session nor token. `led_here` is true if a link on another site led here.
    Locked { led_here: bool },
    /// The token of another run.
    WrongToken,
    /// The token was right: keep the session, and take the token out of the address bar.
    Welcome(Option<String>),
}

/// The middleware: lets a request through or answers in its place.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match access.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(rejection) => rejection.answer(request.uri().path()),
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Access {
    pub(crate) fn new(options: &Options) -> Self {
        let hosts = Hosts::new(options.listen, &options.allowed_hosts);
        let session = Sha256::digest(format!("snowglobe dashboard session {}", options.token));
        let session: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
        let session_secret = Secret::new(&session);
        Self { hosts, token: Secret::new(&options.token), session, session_secret }
    }

    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
        // A page of another site could not see data, but it would take a place among the streams.
        let is_harmless =
            matches!(*method, Method::GET | Method::HEAD) && !uri.path().starts_with("/api/");
        let host = self.hosts.admit(uri, headers, is_harmless).map_err(Rejection::Foreign)?;
        if PUBLIC.contains(&uri.path()) {
            return Ok(());
        }
        let cookie = format!("snowglobe_{}", host.port_u16().unwrap_or(80));
        let known = cookies(headers)
            .any(|(name, value)| name == cookie && self.session_secret.is(value))
            || bearer(headers).is_some_and(|token| self.token.is(token));
        let offered = uri.query().filter(|_| uri.path() == "/").and_then(token_of);
        match (offered, known) {
            (Some(token), _) if self.token.is(token) => {
                let attributes = "HttpOnly; SameSite=Strict; Path=/";
                Err(Rejection::Welcome(Some(format!("{cookie}={}; {attributes}", self.session))))
            }
            (Some(_), true) => Err(Rejection::Welcome(None)),
            (Some(_), false) => Err(Rejection::WrongToken),
            (None, true) => Ok(()),
            (None, false) => {
                let led_here = hosts::text(headers, hosts::FETCH_SITE) == Some("cross-site");
                Err(Rejection::Locked { led_here })
            }
        }
    }
}

/// A secret text. Digests are compared, so that the time of a comparison tells nothing about it.
struct Secret([u8; 32]);

impl Secret {
    fn new(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    fn is(&self, offered: &str) -> bool {
        Self::new(offered).0 == self.0
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn token_of(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

impl Rejection {
    fn answer(self, path: &str) -> Response {
        match self {
            Self::Foreign(Foreign::Host(name)) => {
                let text = format!(
                    "403: this dashboard does not answer to the name '{name}'.\n\nIt answers to localhost, 127.0.0.1 and \
                     [::1]. If you reach it by another name\non purpose, start Snowglobe with --allowed-hosts NAME.\n"
                );
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::Foreign(Foreign::Site) => {
                let text = "403: this request came from another site's page.\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Self::Locked { led_here } => {
                let mut response = locked(path, "");
                if led_here {
                    // A Strict cookie is not sent when a link on another site leads here. Asking once more from
                    // this very page sends it, if there is one.
                    response
                        .headers_mut()
                        .insert(header::REFRESH, HeaderValue::from_static("0; url=/"));
                }
                response
            }
            Self::WrongToken => locked(
                path,
                "<p class=\"notice\">The token in this URL belongs to another run: each start makes a new one.</p>",
            ),
            Self::Welcome(cookie) => {
                let mut response =
                    (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
                let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
                if let Some(cookie) = cookie {
                    response.headers_mut().insert(header::SET_COOKIE, cookie);
                }
                response
            }
        }
    }
}

/// 401, as a page for people and as a line for programs.
fn locked(path: &str, notice: &str) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"snowglobe dashboard\"")];
    if path != "/" {
        let text = "401: open the URL with the token that Snowglobe printed when it started.\n";
        return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Snowglobe: locked</title><link rel=\"icon\" href=\"/icon.svg\">\
         <link rel=\"stylesheet\" href=\"/style.css\">\
         <body class=\"locked\"><main><img src=\"/icon.svg\" alt=\"\" width=\"56\" height=\"56\">\
         <h1>This dashboard is locked</h1>{notice}\
         <p>It opens with the URL that <code>snowglobe up</code> or <code>snowglobe demo</code> printed when it \
         started. It looks like this:</p>\
         <pre><code>http://127.0.0.1:6480/?token=…</code></pre>\
         <p>Look in the terminal where Snowglobe runs, or in <code>docker logs CONTAINER</code>. With \
         <code>-o json</code> it is the field <code>dashboard</code>.</p></main></body></html>"
    );
    (StatusCode::UNAUTHORIZED, challenge, Html(page)).into_response()
}
