//! `pods/binding`: puts a pod on a node, as external schedulers do.

use axum::response::Response;
use serde_json::Value;

use crate::{
    api::{Api, answer::created, request::Request},
    model::Status,
    registry::{Preconditions, Subresource},
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let binding = request.document()?;
    let node = binding["target"]["name"].as_str().filter(|name| !name.is_empty());
    let node = node.ok_or_else(|| Status::bad_request("target.name: Required value"))?;
    let options = request.write_options()?;
    let given = |field: &str| {
        let text = binding["metadata"][field].as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let preconditions =
        Preconditions { uid: given("uid"), resource_version: given("resourceVersion") };
    api.registry
        .modify(&key, Subresource::Binding, &options, |pod| {
            preconditions.check_update(&key, pod)?;
            if pod.is_terminating() {
                let name = &key.name;
                let text = format!("pod {name} is being deleted, cannot be assigned to a host");
                return Err(Status::conflict(&key, &text));
            }
            let mut pod: Value = pod.parse()?;
            if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) {
                let text = format!("pod {} is already assigned to node \"{bound}\"", key.name);
                return Err(Status::conflict(&key, &text));
            }
            if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                let text = format!("pod {} has non-empty .spec.schedulingGates", key.name);
                return Err(Status::conflict(&key, &text));
            }
            pod["spec"]["nodeName"] = node.into();
            for (name, value) in
                binding["metadata"]["annotations"].as_object().into_iter().flatten()
            {
                pod["metadata"]["annotations"][name] = value.clone();
            }
            Ok(pod)
        })
        .await?;
    Ok(created())
}
