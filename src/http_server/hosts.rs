//! [`Hosts`]: the names under which this process may be called by HTTP. Any web page that the user visits can make the
//! browser send requests here, and any name can be made to resolve to 127.0.0.1 (DNS rebinding), so every HTTP port of
//! the process checks them, not only the dashboard's.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use http::{
    HeaderMap, header,
    uri::{Authority, Uri},
};

/// The header in which browsers say from which site the page comes.
pub(crate) const FETCH_SITE: &str = "sec-fetch-site";

/// Why a request may come from a web page of another site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It names this host, which is none of ours.
    Host(String),
    /// The browser says so.
    Site,
}

/// Loopback names, the listen address, and what the user allowed.
#[derive(Clone, Debug)]
pub struct Hosts(BTreeSet<String>);

impl Hosts {
    /// The names of a port that listens at `listen`.
    pub fn new(listen: SocketAddr, more: &[String]) -> Self {
        let mut names: BTreeSet<String> =
            ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        if !listen.ip().is_unspecified() {
            names.insert(host_of(listen.ip()));
        }
        names.extend(more.iter().map(|host| {
            host.parse().map_or_else(|_name| host.trim().to_ascii_lowercase(), host_of)
        }));
        Self(names)
    }

    /// Checks the host that a request names and, unless the request is harmless (it changes nothing, and its answer stays in
    /// the browser), that it does not come from a page of another site. Returns the host.
    pub fn admit(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        is_harmless: bool,
    ) -> Result<Authority, Foreign> {
        let host = self.check(uri, headers).map_err(Foreign::Host)?;
        if is_harmless || is_same_site(headers, &host) { Ok(host) } else { Err(Foreign::Site) }
    }

    /// The host that a request names. It must name one, and only ours. The error is the name that is not ours.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, String> {
        let refused = |name: &str| name.chars().take(100).collect::<String>();
        let mut host = uri.authority().cloned();
        for value in headers.get_all(header::HOST) {
            let name = String::from_utf8_lossy(value.as_bytes());
            let named: Authority = name.parse().map_err(|_invalid| refused(&name))?;
            if host.as_ref().is_some_and(|other| *other != named) {
                return Err(refused(&name));
            }
            host = Some(named);
        }
        let host = host.ok_or_else(|| refused(""))?;
        let ours = self.0.contains(&host.host().to_ascii_lowercase()) || is_loopback(host.host());
        if ours && !host.as_str().contains('@') { Ok(host) } else { Err(refused(host.host())) }
    }
}

/// An address of this machine, such as a Service's, cannot be rebound: only names resolve to something else.
fn is_loopback(host: &str) -> bool {
    host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether the request comes from no page at all, or from one that this very port served.
fn is_same_site(headers: &HeaderMap, host: &Authority) -> bool {
    let own_origin = text(headers, "origin").is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host.as_str()))
    });
    let own_site = matches!(text(headers, FETCH_SITE), None | Some("same-origin" | "none"));
    own_origin && own_site
}

/// A header as text; one that is present but not text counts as foreign.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
