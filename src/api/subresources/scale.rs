//! `scale`: the replica count of a workload as an `autoscaling/v1` Scale.

use axum::response::Response;
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::in_syntax,
        forms::{Form, Shape},
        request::{Request, manager},
        table,
    },
    model::{Object, Status},
    registry::Subresource,
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let key = request.target.key()?;
    if request.method == Method::GET {
        return answer(form, &scale_of(&*api.registry.get(&key)?)?);
    }
    let options = request.write_options()?;
    let written = api
        .registry
        .modify(&key, Subresource::None, &options, |workload| {
            let wanted = match request.method {
                Method::PUT => request.document()?,
                Method::PATCH => {
                    let scale = scale_of(workload)?;
                    let name = request.manager();
                    let manager = manager(&name, Subresource::None);
                    request.patched(&request.patch()?, Some(&scale), manager)?.document
                }
                _ => return Err(Status::method_not_allowed()),
            };
            let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
            let mut workload: Value = workload.parse()?;
            workload["spec"]["replicas"] = replicas.into();
            if let Some(version) = wanted["metadata"]["resourceVersion"].as_str() {
                workload["metadata"]["resourceVersion"] = version.into();
            }
            Ok(workload)
        })
        .await?;
    answer(form, &scale_of(&written.object)?)
}

fn answer(form: Form, scale: &Value) -> Result<Response, Status> {
    let json = match form.shape {
        Shape::Table(rows) => table::of_scale(scale, Timestamp::now(), rows).to_bytes(),
        Shape::Metadata(version) | Shape::MetadataList(version) => {
            table::partial_of(&scale["metadata"], version).to_string().into()
        }
        Shape::Whole => scale.to_string().into(),
    };
    in_syntax(json, form.syntax, StatusCode::OK)
}

fn scale_of(workload: &Object) -> Result<Value, Status> {
    let document: Value = workload.parse()?;
    let mut selector = document["spec"]["selector"].clone();
    if workload.key.kind.kind == "ReplicationController" {
        // A plain map of labels.
        selector = json!({"matchLabels": selector});
    }
    let selector: Option<LabelSelector> = serde_json::from_value(selector).unwrap_or_default();
    let metadata = json!({"name": workload.key.name, "namespace": workload.key.namespace,
        "uid": workload.metadata.uid, "resourceVersion": workload.revision.to_string(),
        "creationTimestamp": workload.metadata.creation_timestamp});
    Ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": document["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {"replicas": document["status"]["replicas"].as_i64().unwrap_or(0),
                   "selector": selector.map(|s| selector_text(&s)).unwrap_or_default()}}))
}

/// A selector as text, the form that `labelSelector` takes.
fn selector_text(selector: &LabelSelector) -> String {
    let labels =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.clone().unwrap_or_default().join(",");
        match expression.operator.as_str() {
            "In" => format!("{} in ({values})", expression.key),
            "NotIn" => format!("{} notin ({values})", expression.key),
            "DoesNotExist" => format!("!{}", expression.key),
            _ => expression.key.clone(),
        }
    });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}
