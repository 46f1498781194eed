//! `serviceaccounts/token`: TokenRequest, what `kubectl create token` and kubelets ask for.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequestSpec};
use serde_json::{Value, json};

use crate::{
    api::{
        Api, answer::in_syntax, authentication::account_tokens::Grant, forms::Form,
        request::Request,
    },
    model::{Cause, Kind, Object, ObjectKey, Status, kind, time::time_text, wording},
    registry::View,
};

const DURATION_DEFAULT: i64 = 3600;
/// Bounds of kube-apiserver's.
const DURATION_MIN: i64 = 600;
const DURATION_MAX: i64 = 1 << 32;

pub(crate) fn serve(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = Form::plain(&request.headers)?;
    let key = request.target.key()?;
    let view = api.registry.view();
    let account = view.get(&key).ok_or_else(|| Status::not_found(&key))?;
    let mut document = request.document()?;
    if !document.is_object() {
        return Err(Status::bad_request("the object in the request body is not a JSON object"));
    }
    let spec = document.get("spec").filter(|spec| !spec.is_null()).cloned();
    let spec: TokenRequestSpec = serde_json::from_value(spec.unwrap_or_else(|| json!({})))
        .map_err(|error| Status::bad_request(format!("spec: {}", wording::in_json(&error))))?;
    let seconds = duration(&spec)?;
    let own = [api.authenticator.accounts.issuer().to_owned()];
    let audiences = spec.audiences.as_deref().filter(|list| !list.is_empty()).unwrap_or(&own);
    let bound = spec.bound_object_ref.as_ref();
    let bound = bound.map(|reference| bound_object(&view, account, reference)).transpose()?;
    let node = bound.and_then(|object| node_of(&view, object));
    let from = Timestamp::now();
    let to = from
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_range| Status::internal("the token would outlive the calendar"))?;
    let bound = bound.map(AsRef::as_ref);
    let grant = Grant { account, audiences, from, to, bound, node: node.map(AsRef::as_ref) };
    let token = api.authenticator.accounts.issue(&grant);
    document["kind"] = "TokenRequest".into();
    document["apiVersion"] = "authentication.k8s.io/v1".into();
    document["metadata"] = json!({"name": key.name, "namespace": key.namespace,
        "creationTimestamp": time_text(from)});
    document["spec"]["audiences"] = json!(audiences);
    document["spec"]["expirationSeconds"] = seconds.into();
    document["status"] = json!({"token": token, "expirationTimestamp": time_text(to)});
    in_syntax(document.to_string().into(), form, StatusCode::CREATED)
}

fn duration(spec: &TokenRequestSpec) -> Result<i64, Status> {
    let seconds = spec.expiration_seconds.unwrap_or(DURATION_DEFAULT);
    let detail = match seconds {
        ..DURATION_MIN => "may not specify a duration less than 10 minutes",
        DURATION_MIN..=DURATION_MAX => return Ok(seconds),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let cause = Cause::invalid("spec.expirationSeconds", seconds, detail);
    Err(Status::invalid(&kind::TOKEN_REQUEST, "", vec![cause]))
}

/// The object that the token shall live as long as.
fn bound_object<'a>(
    view: &'a View,
    account: &Object,
    reference: &BoundObjectReference,
) -> Result<&'a Arc<Object>, Status> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (word, name, uid) = (text(&reference.kind), text(&reference.name), text(&reference.uid));
    let kinds: [&'static Kind; 3] = [&kind::POD, &kind::NODE, &kind::SECRET];
    let version = text(&reference.api_version);
    let kind = kinds.into_iter().find(|kind| kind.kind == word && kind.api_version() == version);
    let kind = kind.ok_or_else(|| {
        let what = format!("/{version}, Kind={word}");
        Status::bad_request(format!("cannot bind token to object of type {what}"))
    })?;
    let namespace = if kind.namespaced { account.key.namespace.as_str() } else { "" };
    let key = ObjectKey::new(kind, namespace, name);
    let object = view.get(&key).ok_or_else(|| Status::not_found(&key))?;
    if !uid.is_empty() && uid != object.metadata.uid {
        return Err(Status::conflict(
            &key,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            ),
        ));
    }
    if *kind == kind::POD {
        let pod: Value = object.parse().unwrap_or_default();
        if pod["spec"]["serviceAccountName"].as_str().unwrap_or("default") != account.key.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                account.key.name
            )));
        }
    }
    Ok(object)
}

/// The node that a bound pod runs on.
fn node_of<'a>(view: &'a View, bound: &Object) -> Option<&'a Arc<Object>> {
    let pod: Value = if bound.key.kind == kind::POD { bound.parse().ok()? } else { return None };
    view.get(&ObjectKey::cluster(&kind::NODE, pod["spec"]["nodeName"].as_str()?))
}
