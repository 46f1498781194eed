//! `pods/binding`: puts a pod on a node, as external schedulers do.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::{
    api::{Api, resources::Request, resources::parsed},
    model::Status,
    registry::Part,
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let binding = request.document()?;
    let node = binding["target"]["name"].as_str().filter(|name| !name.is_empty());
    let node = node.ok_or_else(|| Status::bad_request("target.name: Required value"))?;
    let options = request.query.write_options()?;
    api.registry
        .modify(&key, Part::Main, &options, |pod| {
            let mut pod = parsed(pod)?;
            if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) {
                let text = format!("pod {} is already assigned to node \"{bound}\"", key.name);
                return Err(Status::conflict(&key, &text));
            }
            pod["spec"]["nodeName"] = node.into();
            Ok(pod)
        })
        .await?;
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}
