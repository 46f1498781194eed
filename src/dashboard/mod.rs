//! The dashboard: the Services of the cluster, their endpoints and who gets the traffic, live in a browser.
//!
//! Enter at [`router`]. The page is the files of `web/`, embedded in the binary; [`views`] turns a snapshot of the
//! cluster into what the page shows, `stream` sends it whenever it changes. It only reads: nothing here writes an
//! object, and the page makes no request to any other place. `access` decides who may look.

mod access;
mod files;
pub mod hosts;
mod stream;
#[cfg(test)]
mod tests;
pub mod views;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::{
    dashboard::{
        access::Access,
        stream::Feed,
        views::{RouteTraffic, Traffic},
    },
    registry::{Registry, View},
};

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

/// Where the dashboard looks.
#[derive(Clone)]
pub struct Sources {
    /// The cluster as it is now.
    pub view: Arc<dyn Fn() -> View + Send + Sync>,
    /// What the proxy has counted. Asked a few times a second at most, however many look, and never when nobody does.
    pub traffic: Arc<dyn Fn() -> Vec<RouteTraffic> + Send + Sync>,
    /// Ends the streams, which would otherwise keep a graceful shutdown waiting.
    pub shutdown: CancellationToken,
}

impl Sources {
    /// Looks at a registry, and at a proxy's counters.
    pub fn new(
        registry: Arc<Registry>,
        traffic: impl Fn() -> Vec<RouteTraffic> + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Self {
        Self { view: Arc::new(move || registry.view()), traffic: Arc::new(traffic), shutdown }
    }
}

/// The whole dashboard. Every answer, refusals included, carries the security headers.
pub fn router(options: Options, sources: Sources) -> Router {
    let access = Arc::new(Access::new(&options));
    let feed = Arc::new(Feed::new(options, sources));
    Router::new()
        .route("/", get(index))
        .route("/api/state", get(state))
        .route("/api/stream", get(open_stream))
        .route("/{*path}", get(file))
        .with_state(feed)
        .layer(middleware::from_fn_with_state(access, access::guard))
}

/// The page, with the state as it is now inside.
async fn index(State(feed): State<Arc<Feed>>) -> Response {
    let cluster = feed.cluster().await;
    let counted = feed.counted().await;
    match serde_json::to_string(&Snapshot { cluster: &cluster, traffic: &counted.traffic }) {
        Ok(state) => files::index(&state),
        Err(error) => {
            tracing::error!(%error, "the dashboard cannot be written as JSON");
            files::index("null")
        }
    }
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    files::serve(&path, &headers)
}

/// Both documents at once, for programs.
#[derive(Serialize)]
struct Snapshot<'a> {
    cluster: &'a RawValue,
    traffic: &'a Traffic,
}

async fn state(State(feed): State<Arc<Feed>>) -> Response {
    let cluster = feed.cluster().await;
    let counted = feed.counted().await;
    Json(Snapshot { cluster: &cluster, traffic: &counted.traffic }).into_response()
}

async fn open_stream(State(feed): State<Arc<Feed>>) -> Response {
    stream::respond(feed)
}
