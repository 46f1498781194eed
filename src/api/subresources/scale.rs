//! `scale`: the replica count of a workload as an `autoscaling/v1` Scale. The rules are those of `ScaleREST` in
//! kube-apiserver.

use axum::response::Response;
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::{api::autoscaling::v1::Scale, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::{add_warnings, in_syntax},
        forms::{Form, Shape},
        request::{Request, manager},
        table,
    },
    model::{
        Cause, Object, Status,
        canonical::canonicalise,
        duplicates::Parsed,
        patch::{
            FieldManager, Ownership, Wanted,
            scale::{SCALE, to_scale, to_workload},
        },
    },
    registry::{FieldValidation, Subresource, decode_subresource},
};

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let key = request.target.key()?;
    if request.method == Method::GET {
        return answer(form, &scale_of(&*api.registry.get(&key)?)?, &[]);
    }
    let options = request.write_options()?;
    let name = request.manager();
    let manager = FieldManager { subresource: "scale", ..manager(&name, Subresource::None) };
    let mut warnings = Vec::new();
    let written = api
        .registry
        .modify(&key, Subresource::None, &options, |workload| {
            let live = managed_scale(workload)?;
            let wanted = wanted(request, &live, manager)?;
            let (document, about_scale) =
                scaled(workload, &live, wanted, options.field_validation)?;
            warnings = about_scale;
            Ok(document)
        })
        .await?;
    warnings.extend(written.warnings);
    answer(form, &scale_of(&written.object)?, &warnings)
}

/// The scale that the client wants.
fn wanted<'a>(
    request: &Request,
    live: &Value,
    manager: FieldManager<'a>,
) -> Result<Wanted<'a>, Status> {
    match request.method {
        Method::PUT => {
            let Parsed { value, duplicates } = request.replacement()?;
            Ok(Wanted::updated(value, manager).with_duplicates(duplicates))
        }
        Method::PATCH => request.patched(&SCALE, &request.patch()?, Some(live), manager),
        _ => Err(Status::method_not_allowed()),
    }
}

/// The workload as a write of its scale makes it, and warnings about the scale. The managers of the scale become managers
/// of the workload's replica count.
fn scaled(
    workload: &Object,
    live: &Value,
    wanted: Wanted<'_>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let key = &workload.key;
    let Wanted { document: sent, ownership, duplicates } = wanted;
    let (mut scale, warnings) =
        decode_subresource::<Scale>(key, &SCALE, sent.clone(), validation, &duplicates)?;
    check(workload, &scale)?;
    let mut document: Value = workload.parse()?;
    document["spec"]["replicas"] = scale["spec"]["replicas"].as_i64().unwrap_or_default().into();
    document["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    if matches!(ownership, Ownership::Applied(_)) {
        // An applier owns a zero too, which the canonical form leaves out.
        scale = sent;
    }
    ownership.settle(&SCALE, Some(live), &mut scale)?;
    to_workload(key.kind, &mut document, &scale);
    Ok((document, warnings))
}

fn check(workload: &Object, scale: &Value) -> Result<(), Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    if replicas < 0 {
        let rule = "must be greater than or equal to 0";
        let cause = Cause::invalid("spec.replicas", replicas, rule);
        return Err(Status::invalid(&SCALE, &workload.key.name, vec![cause]));
    }
    let actual = &workload.metadata.uid;
    match scale["metadata"]["uid"].as_str() {
        Some(uid) if uid != actual => {
            let detail = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
            );
            Err(Status::conflict_of_subresource(&workload.key, "scale", &detail))
        }
        _ => Ok(()),
    }
}

fn answer(form: Form, scale: &Value, warnings: &[String]) -> Result<Response, Status> {
    let json = match form.shape {
        Shape::Table(rows) => table::of_scale(scale, Timestamp::now(), rows).to_bytes(),
        Shape::Metadata(version) | Shape::MetadataList(version) => {
            table::partial_of(&scale["metadata"], version).to_string().into()
        }
        Shape::Whole => scale.to_string().into(),
    };
    let mut response = in_syntax(json, form.syntax, StatusCode::OK)?;
    add_warnings(&mut response, warnings);
    Ok(response)
}

/// The scale of a workload, with the managers of the replica count.
fn managed_scale(workload: &Object) -> Result<Value, Status> {
    let mut scale = scale_of(workload)?;
    to_scale(workload.key.kind, &workload.parse()?, &mut scale);
    Ok(scale)
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
    let mut scale = json!({"kind": SCALE.kind, "apiVersion": SCALE.api_version(), "metadata": metadata,
        "spec": {"replicas": document["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {"replicas": document["status"]["replicas"].as_i64().unwrap_or(0),
                   "selector": selector.map(|s| selector_text(&s)).unwrap_or_default()}});
    canonicalise(&SCALE, &mut scale);
    Ok(scale)
}

/// A selector as text, the form that `labelSelector` takes. As in Kubernetes, the requirements are sorted by key.
fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| (key, format!("{key}={value}")));
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        let (key, values) = (&expression.key, values.join(","));
        let text = match expression.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        (key, text)
    });
    let mut all: Vec<(&String, String)> = labels.chain(expressions).collect();
    all.sort_by_key(|(key, _)| *key);
    all.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
