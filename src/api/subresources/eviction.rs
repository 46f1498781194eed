//! `pods/eviction`: what `kubectl drain` asks for. Nothing limits evictions yet, so it deletes the pod.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::{
    api::{Api, resources::Request},
    model::Status,
    registry::DeleteOptions,
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let eviction = request.document()?;
    let options = DeleteOptions {
        grace_seconds: eviction["deleteOptions"]["gracePeriodSeconds"].as_i64(),
        dry_run: request.query.write_options()?.dry_run,
        ..DeleteOptions::default()
    };
    api.registry.delete(&key, &options).await?;
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}
