//! The dashboard: the Services of the cluster, their endpoints and who gets the traffic, live in a browser.
//!
//! Enter at [`router`]. The page is the files of `web/`, embedded in the binary; [`views`] turns a snapshot of the
//! cluster into what the page shows, `stream` sends it whenever it changes. It only reads: nothing here writes an
//! object, and the page makes no request to any other place. `access` decides who may look.

mod access;
mod files;
mod options;
mod sources;
mod stream;
#[cfg(test)]
mod tests;
pub mod views;

use std::sync::Arc;

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

use crate::dashboard::{access::Access, stream::Feed, views::Traffic};

pub use options::{Options, random_token};
pub use sources::Sources;

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
