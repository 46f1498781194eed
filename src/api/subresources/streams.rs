//! `pods/exec`, `pods/attach` and `pods/portforward`: what a pod without a container answers to them.

use axum::response::Response;
use serde_json::Value;

use crate::{
    api::{Api, request::Request},
    model::Status,
};

pub(crate) fn serve(api: &Api, request: &Request, subresource: &str) -> Result<Response, Status> {
    let key = request.target.key()?;
    let pod: Value = api.registry.get(&key)?.parse().unwrap_or_default();
    let name = format!("{}/{}", key.namespace, key.name);
    Err(Status::not_implemented(match subresource {
        "portforward" => {
            let address = pod["status"]["podIP"].as_str().unwrap_or("in status.podIP");
            format!("ports are not forwarded: connect to the own address of pod {name}, {address}")
        }
        _ => format!(
            "pod {name} is simulated: there is no container to run or attach to commands in"
        ),
    }))
}
