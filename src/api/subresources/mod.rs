//! Subresources: parts of objects with verbs of their own. One file each, `status` is the write path itself.

mod binding;
mod eviction;
mod finalize;
mod log;
pub(crate) mod proxy;
mod scale;
mod streams;
mod token;

use std::sync::Arc;

use axum::response::Response;
use http::Method;

use crate::{
    api::{Api, request::Request, resources},
    model::{Status, kind::extension::CERTIFICATE_SIGNING_REQUEST},
    registry::Subresource,
};

/// Answers a request about a subresource.
pub(crate) async fn serve(
    api: &Arc<Api>,
    request: &Request,
    subresource: &str,
) -> Result<Response, Status> {
    let kind = request.target.kind();
    let is_pod = kind.kind == "Pod";
    let is_request = *kind == CERTIFICATE_SIGNING_REQUEST;
    match (subresource, &request.method) {
        ("status", &Method::GET) if kind.has_status => resources::get(api, request).await,
        ("status", &Method::PUT) if kind.has_status => {
            resources::replace(api, request, Subresource::Status).await
        }
        ("status", &Method::PATCH) if kind.has_status => {
            resources::apply_patch(api, request, Subresource::Status).await
        }
        ("ephemeralcontainers", &Method::GET) if is_pod => resources::get(api, request).await,
        ("ephemeralcontainers", &Method::PUT) if is_pod => {
            resources::replace(api, request, Subresource::EphemeralContainers).await
        }
        ("ephemeralcontainers", &Method::PATCH) if is_pod => {
            resources::apply_patch(api, request, Subresource::EphemeralContainers).await
        }
        ("approval", &Method::GET) if is_request => resources::get(api, request).await,
        ("approval", &Method::PUT) if is_request => {
            resources::replace(api, request, Subresource::Approval).await
        }
        ("approval", &Method::PATCH) if is_request => {
            resources::apply_patch(api, request, Subresource::Approval).await
        }
        ("scale", _) if kind.has_scale => scale::serve(api, request).await,
        ("log", &Method::GET) if is_pod => log::serve(api, request),
        ("token", &Method::POST) if kind.kind == "ServiceAccount" => token::serve(api, request),
        ("attach" | "exec" | "portforward", &Method::GET | &Method::POST) if is_pod => {
            streams::serve(api, request, subresource)
        }
        ("binding", &Method::POST) if is_pod => binding::serve(api, request).await,
        ("eviction", &Method::POST) if is_pod => eviction::serve(api, request).await,
        ("finalize", &Method::PUT) if kind.kind == "Namespace" => {
            finalize::serve(api, request).await
        }
        _ => Err(Status::no_such_path()),
    }
}
