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
    model::{
        Kind, Object, Status,
        patch::{self, FieldManager, PatchType, Wanted},
    },
    registry::Subresource,
};

const API_VERSION: &str = "autoscaling/v1";

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let key = request.target.key()?;
    if request.method == Method::GET {
        return answer(form, &scale_of(&*api.registry.get(&key)?)?);
    }
    let options = request.write_options()?;
    let name = request.manager();
    let manager = FieldManager { subresource: "scale", ..manager(&name, Subresource::None) };
    let written = api
        .registry
        .modify(&key, Subresource::None, &options, |workload| wanted(request, workload, manager))
        .await?;
    answer(form, &scale_of(&written.object)?)
}

/// The workload as a write of its scale makes it. Its managers are recorded in the workload, as those of its replica count
/// (Kubernetes' `ScaleHandler`).
fn wanted<'a>(
    request: &Request,
    workload: &Object,
    manager: FieldManager<'a>,
) -> Result<Wanted<'a>, Status> {
    let kind = workload.key.kind;
    let mut document: Value = workload.parse()?;
    let scale = match request.method {
        Method::PUT => request.document()?,
        Method::PATCH => {
            let patch = request.patch()?;
            if patch.kind == PatchType::Apply {
                let config = patch::decode_apply(&request.body)?.value;
                let config = config_of_workload(kind, &config)?;
                return patch::apply(kind, Some(&document), &config, &manager, patch.force);
            }
            request.patched(&patch, Some(&scale_of(workload)?), manager)?.document
        }
        _ => return Err(Status::method_not_allowed()),
    };
    document["spec"]["replicas"] = scale["spec"]["replicas"].as_i64().unwrap_or(0).into();
    if let Some(version) = scale["metadata"]["resourceVersion"].as_str() {
        document["metadata"]["resourceVersion"] = version.into();
    }
    Ok(Wanted::updated(document, manager))
}

/// What an applied scale says about its workload.
fn config_of_workload(kind: &Kind, scale: &Value) -> Result<Value, Status> {
    let text = |name: &str| scale[name].as_str().unwrap_or_default();
    if text("apiVersion") != API_VERSION {
        let version = text("apiVersion");
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {API_VERSION}"
        )));
    }
    let mut config = json!({"apiVersion": kind.api_version(), "kind": kind.kind});
    for (part, field) in [("metadata", "resourceVersion"), ("spec", "replicas")] {
        if !scale[part][field].is_null() {
            config[part][field] = scale[part][field].clone();
        }
    }
    Ok(config)
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
    Ok(json!({"kind": "Scale", "apiVersion": API_VERSION, "metadata": metadata,
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
