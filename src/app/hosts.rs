//! Protects the API and metrics ports against other web sites in the browser of the user. It uses the rules of
//! [`http_server::hosts`](crate::http_server::hosts): requests with an unknown `Host` and writes from other sites are
//! refused.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Method, header};

use crate::{
    http_server::hosts::{Foreign, Hosts},
    model::Status,
};

/// The middleware.
pub(crate) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match refusal(&hosts, &request) {
        Some(reason) => Status::refused(reason).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(hosts: &Hosts, request: &Request) -> Option<String> {
    // Any page may open a WebSocket: a browser does not apply the same-origin policy to them.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && !request.headers().contains_key(header::UPGRADE);
    match hosts.admit(request.uri(), request.headers(), reads) {
        Ok(_host) => None,
        Err(Foreign::Host(name)) => Some(format!(
            "host {name:?} is not allowed: call this port by its address, or start with --allowed-hosts {name}"
        )),
        Err(Foreign::Site) => Some("requests from pages of other web sites are refused".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn hosts_and_origins() {
        let hosts = Hosts::new("127.64.0.9:80".parse().unwrap(), &["Demo.test".to_owned()]);
        let check = |method: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri("/x");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            refusal(&hosts, &request.body(Body::empty()).unwrap()).is_none()
        };
        for host in ["localhost:6443", "127.96.0.10:80", "[::1]:80", "127.64.0.9", "demo.test:1"] {
            assert!(check("GET", &[("host", host)]), "{host}");
        }
        assert!(!check("GET", &[("host", "127.0.0.1.evil.example:6443")]));
        let own = ("host", "localhost:6443");
        assert!(check("POST", &[own]));
        assert!(check("POST", &[own, ("origin", "https://localhost:6443")]));
        assert!(check("GET", &[own, ("origin", "https://evil.example")]));
        assert!(!check("POST", &[own, ("origin", "https://evil.example")]));
        assert!(!check("POST", &[own, ("sec-fetch-site", "cross-site")]));
        let socket = ("upgrade", "websocket");
        assert!(check("GET", &[own, socket]));
        assert!(check("GET", &[own, socket, ("origin", "https://localhost:6443")]));
        assert!(!check("GET", &[own, socket, ("origin", "https://evil.example")]));
        assert!(!check("GET", &[own, socket, ("sec-fetch-site", "same-site")]));
    }
}
