//! What the dashboard must know about itself, and the URL that opens it.

use std::net::SocketAddr;

/// What the dashboard must know about itself and the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that it is served on, as it was really bound.
    pub listen: SocketAddr,
    /// Names that the `Host` header may have besides localhost, 127.0.0.1, \[::1\] and the listen address.
    pub allowed_hosts: Vec<String>,
    /// Who knows it may look; [`random_token`] makes one.
    pub token: String,
    /// `--cluster-domain`, for the DNS names on the page.
    pub cluster_domain: String,
    /// Path of the kubeconfig, for the commands on the page; empty when there is none.
    pub kubeconfig: String,
}

impl Options {
    /// The URL to print: it carries the token, which the browser then keeps as a cookie.
    pub fn url(&self) -> String {
        let mut address = self.listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}/?token={}", self.token)
    }
}

/// 128 random bits in hexadecimal digits: nothing that can be guessed, nothing that a URL must escape.
pub fn random_token() -> String {
    rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
