//! Guards every HTTP port against other web sites in the user's browser: an unknown `Host` (DNS rebinding) and
//! cross-site requests (CSRF) are refused.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, Uri, header};

/// Host names under which this process may be called.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    /// Loopback names, the listen address, and more.
    pub(crate) fn new(listen: SocketAddr, more: &[String]) -> Self {
        let mut names: Vec<String> =
            ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        names.push(match listen {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        });
        names.extend(more.iter().map(|name| name.to_ascii_lowercase()));
        Self(names.into())
    }

    fn allow(&self, authority: &str) -> bool {
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => authority,
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.0.contains(&name)
    }

    fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
        // HTTP/2 carries the host in the URI.
        let host = uri.authority().map(|a| a.as_str()).or_else(|| text(header::HOST))?;
        if !self.allow(host) {
            return Some(format!(
                "host {host:?} is not allowed: call this port by its address, or start with --allowed-hosts {host}"
            ));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        let origin = text(header::ORIGIN).filter(|origin| {
            let authority = origin.split_once("://").map_or(*origin, |(_, rest)| rest);
            !self.allow(authority)
        });
        let site = text(header::HeaderName::from_static("sec-fetch-site"))
            .filter(|site| !matches!(*site, "same-origin" | "none"));
        origin.or(site).map(|from| format!("requests from other web sites are refused ({from})"))
    }
}

/// The middleware.
pub(crate) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.refusal(request.method(), request.uri(), request.headers()) {
        Some(reason) => (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        let hosts = Hosts::new("127.64.0.9:80".parse().unwrap(), &["Demo.test".to_owned()]);
        let check = |method: Method, headers: &[(&str, &str)]| {
            let map: HeaderMap = headers
                .iter()
                .map(|(k, v)| {
                    (
                        k.parse::<header::HeaderName>().unwrap(),
                        v.parse::<http::HeaderValue>().unwrap(),
                    )
                })
                .collect();
            hosts.refusal(&method, &Uri::from_static("/x"), &map).is_none()
        };
        for host in ["localhost:6443", "127.0.0.1", "[::1]:80", "127.64.0.9", "demo.test:1"] {
            assert!(check(Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!check(Method::GET, &[("host", "evil.example")]));
        assert!(!check(Method::GET, &[("host", "127.0.0.1.evil.example:6443")]));
        let own = ("host", "localhost");
        assert!(check(Method::POST, &[own]));
        assert!(check(Method::POST, &[own, ("origin", "http://localhost:6480")]));
        assert!(!check(Method::POST, &[own, ("origin", "https://evil.example")]));
        assert!(!check(Method::POST, &[own, ("origin", "null")]));
        assert!(!check(Method::POST, &[own, ("sec-fetch-site", "cross-site")]));
    }
}
