//! `scale`: the replica count of a workload as an `autoscaling/v1` Scale. The rules are those of `ScaleREST` in
//! kube-apiserver, and for custom resources, which say where the count is, those of apiextensions-apiserver.

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
        Cause, Kind, Object, Status,
        canonical::canonicalise,
        duplicates::Parsed,
        patch::{
            FieldManager, Ownership, Resource, Wanted,
            scale::{Count, SCALE, to_scale, to_workload},
        },
    },
    registry::{
        Descriptor, FieldValidation, Kinds, ScalePaths, Subresource, decode_subresource,
        field_names,
    },
    schema::go_text::quote,
};

/// What stands for a replica count that a custom resource does not have, until the client sets one.
const NOT_SET: i64 = i32::MIN as i64;

/// Where a kind has the parts of its scale.
struct Parts<'a> {
    /// Those of a custom kind.
    paths: Option<&'a ScalePaths>,
    /// The replica count, for field management.
    count: Count,
}

impl<'a> Parts<'a> {
    fn of(descriptor: &'a Descriptor, kinds: &Kinds) -> Self {
        fn paths(descriptor: &Descriptor) -> Option<&ScalePaths> {
            descriptor.custom()?.scale()
        }
        fn fields(paths: &ScalePaths) -> Vec<&str> {
            field_names(&paths.spec_replicas_path).collect()
        }
        let Some(own) = paths(descriptor) else {
            return Self { paths: None, count: Count::of_workload() };
        };
        let versions = kinds.versions(&descriptor.kind);
        let count = versions.fold(Count::at(&fields(own)), |count, version| match paths(version) {
            Some(paths) => count.with_version(version.kind.api_version(), &fields(paths)),
            None => count,
        });
        Self { paths: Some(own), count }
    }
}

pub(crate) async fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let key = request.target.key()?;
    let parts = Parts::of(&request.target.descriptor, &api.registry.kinds());
    if request.method == Method::GET {
        let scale = scale_of(&*api.registry.get(&key)?, &parts)?;
        check_count(&scale, &parts, "does not exist", Status::internal)?;
        return answer(form, &scale, &[]);
    }
    let options = request.write_options()?;
    let name = request.manager();
    let manager = FieldManager { subresource: "scale", ..manager(&name, Subresource::None) };
    let mut warnings = Vec::new();
    let written = api
        .registry
        .modify(&key, Subresource::None, &options, |workload| {
            let live = managed_scale(workload, &parts)?;
            let wanted = wanted(request, &live, manager)?;
            let (document, about_scale) =
                scaled(workload, &parts, &live, wanted, options.field_validation)?;
            warnings = about_scale;
            Ok(document)
        })
        .await?;
    warnings.extend(written.warnings);
    answer(form, &scale_of(&written.object, &parts)?, &warnings)
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
        Method::PATCH => {
            request.patched(Resource::built_in(&SCALE), &request.patch()?, Some(live), manager)
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// The workload as a write of its scale makes it, and warnings about the scale. The managers of the scale become managers
/// of the workload's replica count.
fn scaled(
    workload: &Object,
    parts: &Parts<'_>,
    live: &Value,
    wanted: Wanted<'_>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let key = &workload.key;
    let Wanted { document: sent, ownership, duplicates } = wanted;
    let (mut scale, warnings) =
        decode_subresource::<Scale>(key, &SCALE, sent.clone(), validation, &duplicates)?;
    check(workload, &scale, parts)?;
    let mut document: Value = workload.parse()?;
    let replicas = replicas(&scale);
    match parts.paths {
        None => document["spec"]["replicas"] = replicas.into(),
        Some(paths) => paths.set_replicas(&mut document, replicas).map_err(Status::internal)?,
    }
    document["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    if matches!(ownership, Ownership::Applied(_)) {
        // An applier owns a zero too, which the canonical form leaves out.
        scale = sent;
    }
    ownership.settle(Resource::built_in(&SCALE), Some(live), &mut scale)?;
    to_workload(&key.kind, &parts.count, &mut document, &scale);
    Ok((document, warnings))
}

fn replicas(scale: &Value) -> i64 {
    scale["spec"]["replicas"].as_i64().unwrap_or_default()
}

/// Whether there is a replica count.
fn check_count(
    scale: &Value,
    parts: &Parts<'_>,
    fault: &str,
    status: fn(String) -> Status,
) -> Result<(), Status> {
    match parts.paths {
        Some(paths) if replicas(scale) == NOT_SET => {
            let path = quote(&paths.spec_replicas_path);
            Err(status(format!("the spec replicas field {path} {fault}")))
        }
        _ => Ok(()),
    }
}

fn check(workload: &Object, scale: &Value, parts: &Parts<'_>) -> Result<(), Status> {
    check_count(scale, parts, "cannot be empty", Status::bad_request)?;
    let replicas = replicas(scale);
    // The count of a custom resource is validated with the resource.
    if replicas < 0 && parts.paths.is_none() {
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
fn managed_scale(workload: &Object, parts: &Parts<'_>) -> Result<Value, Status> {
    let mut scale = scale_of(workload, parts)?;
    to_scale(&workload.key.kind, &parts.count, &workload.parse()?, &mut scale);
    Ok(scale)
}

fn scale_of(workload: &Object, parts: &Parts<'_>) -> Result<Value, Status> {
    let document: Value = workload.parse()?;
    let (replicas, status) = match parts.paths {
        None => parts_of_workload(&workload.key.kind, &document),
        Some(paths) => parts_at(paths, &document).map_err(Status::internal)?,
    };
    let metadata = json!({"name": workload.key.name, "namespace": workload.key.namespace,
        "uid": workload.metadata.uid, "resourceVersion": workload.revision.to_string(),
        "creationTimestamp": workload.metadata.creation_timestamp});
    let mut scale = json!({"kind": SCALE.kind, "apiVersion": SCALE.api_version(), "metadata": metadata,
        "spec": {"replicas": replicas}, "status": status});
    canonicalise(&SCALE, &mut scale);
    Ok(scale)
}

/// The wanted replica count and the status of the scale of a built-in kind.
fn parts_of_workload(kind: &Kind, document: &Value) -> (i64, Value) {
    let mut selector = document["spec"]["selector"].clone();
    if kind.kind == "ReplicationController" {
        // A plain map of labels.
        selector = json!({"matchLabels": selector});
    }
    let selector: Option<LabelSelector> = serde_json::from_value(selector).unwrap_or_default();
    let selector = selector.map(|s| selector_text(&s)).unwrap_or_default();
    let count = |of: &str| document[of]["replicas"].as_i64().unwrap_or(0);
    (count("spec"), json!({"replicas": count("status"), "selector": selector}))
}

/// The same of a custom resource.
fn parts_at(paths: &ScalePaths, document: &Value) -> Result<(i64, Value), String> {
    let replicas = paths.replicas(document)?.unwrap_or(NOT_SET);
    let there = paths.status_replicas(document)?.unwrap_or_default();
    let selector = paths.selector(document)?.unwrap_or_default();
    Ok((replicas, json!({"replicas": there, "selector": selector})))
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
