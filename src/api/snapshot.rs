//! The API group `snowglobe.dev`, for which Kubernetes has no resource: the oldest revision that can be read, the state of
//! the store, and a snapshot of all objects.
//!
//! A snapshot contains all Secrets. It needs authentication like any other request.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream;
use http::header;
use serde_json::{Value, json};

use crate::{api::Api, model::Status};

const API_VERSION: &str = "snowglobe.dev/v1alpha1";

/// All paths.
pub(crate) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/apis/snowglobe.dev/v1alpha1/history", get(history))
        .route("/apis/snowglobe.dev/v1alpha1/store", get(store))
        .route("/apis/snowglobe.dev/v1alpha1/snapshot", get(snapshot))
}

async fn history(State(api): State<Arc<Api>>) -> Result<Json<Value>, Status> {
    let history = api.registry.history().await?;
    Ok(Json(json!({
        "kind": "History",
        "apiVersion": API_VERSION,
        "resourceVersion": history.current.to_string(),
        "oldestResourceVersion": history.oldest.to_string(),
    })))
}

/// Why the store takes no writes, if it does not, and the stored values that cannot be read.
async fn store(State(api): State<Arc<Api>>) -> Json<Value> {
    let stopped = api.registry.stopped().borrow().as_ref().map(ToString::to_string);
    let view = api.registry.view();
    let unreadable = view.unreadable().map(|(key, value)| {
        json!({
            "resource": key.kind.plural,
            "group": key.kind.group,
            "namespace": key.namespace,
            "name": key.name,
            "key": String::from_utf8_lossy(&key.to_store_key()),
            "resourceVersion": value.revision.to_string(),
            "reason": &*value.reason,
        })
    });
    let unreadable: Vec<_> = unreadable.collect();
    Json(json!({
        "kind": "Store",
        "apiVersion": API_VERSION,
        "stopped": stopped,
        "unreadable": unreadable,
    }))
}

async fn snapshot(State(api): State<Arc<Api>>) -> Result<Response, Status> {
    let permit = api.snapshots.clone().try_acquire_owned().map_err(|_full| {
        Status::too_many_requests("too many snapshots are being taken, please try again later", 5)
    })?;
    let blocks = api.registry.snapshot().await?.map(move |block| {
        let _held = &permit;
        Ok::<_, Infallible>(block)
    });
    let body = Body::from_stream(stream::iter(blocks));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
