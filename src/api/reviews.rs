//! The kinds that ask about users and rights: `TokenReview`, `SelfSubjectReview` (`kubectl auth whoami`), and the access
//! reviews (`kubectl auth can-i`). A review is answered when it is created, and kept nowhere.

use axum::{
    body::Bytes,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::TokenReviewSpec,
    authorization::v1::{
        NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReviewSpec,
        SelfSubjectRulesReviewSpec, SubjectAccessReviewSpec,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::in_syntax,
        authentication::Caller,
        authorization::{Attributes, Resource, To, authorize},
        decode::document_of,
        forms::Form,
    },
    model::{Cause, Kind, Status, kind::REVIEWS, time::time_text, wording},
};

/// The review that a request is about.
pub(crate) fn kind_of(wanted: &Attributes) -> Option<(&'static Kind, &Resource)> {
    let To::Resource(resource) = &wanted.to else { return None };
    let kind = REVIEWS.iter().copied().find(|kind| {
        kind.group == resource.group
            && kind.version == resource.version
            && kind.plural == resource.resource
            && kind.namespaced != resource.namespace.is_empty()
            && resource.subresource.is_empty()
    })?;
    Some((kind, resource))
}

/// One review.
pub(crate) struct Review<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) namespace: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    pub(crate) caller: &'a Caller,
}

/// Answers it.
pub(crate) fn serve(api: &Api, review: &Review<'_>) -> Result<Response, Status> {
    if review.method != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let form = Form::plain(review.headers)?;
    let mut document = document_of(review.headers, review.body)?;
    check_kind(review.kind, &mut document)?;
    let status = review.status(api, &document)?;
    document["status"] = status;
    document["metadata"]["creationTimestamp"] = time_text(Timestamp::now()).into();
    in_syntax(document.to_string().into(), form, StatusCode::CREATED)
        .map(IntoResponse::into_response)
}

fn check_kind(kind: &Kind, document: &mut Value) -> Result<(), Status> {
    let Some(fields) = document.as_object_mut() else {
        return Err(Status::bad_request("the object in the request body is not a JSON object"));
    };
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_string())] {
        let given = fields.entry(field).or_insert_with(|| expected.clone().into());
        if *given != expected.as_str() {
            return Err(Status::bad_request(format!(
                "the {field} in the data ({given}) does not match the expected {field} ({expected})"
            )));
        }
    }
    if !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".to_owned(), json!({}));
    }
    Ok(())
}

impl Review<'_> {
    fn status(&self, api: &Api, document: &Value) -> Result<Value, Status> {
        match &*self.kind.kind {
            "SelfSubjectReview" => Ok(json!({"userInfo": user_info(self.caller)})),
            "TokenReview" => self.token_status(api, &spec(document)?),
            "SelfSubjectAccessReview" => {
                let asked: SelfSubjectAccessReviewSpec = spec(document)?;
                let (resource, path) = (asked.resource_attributes, asked.non_resource_attributes);
                let wanted = self.wanted(resource, path, Vec::new())?;
                Ok(access(self.caller, &wanted))
            }
            "SelfSubjectRulesReview" => rules(&spec(document)?),
            _ => self.subject_status(spec(document)?),
        }
    }

    fn token_status(&self, api: &Api, asked: &TokenReviewSpec) -> Result<Value, Status> {
        let token = asked.token.as_str();
        if token.is_empty() {
            let cause = Cause::required("spec.token", "");
            return Err(Status::invalid(self.kind, "", vec![cause]));
        }
        let own = [api.authenticator.accounts.issuer().to_owned()];
        let audiences = asked.audiences.as_deref().filter(|list| !list.is_empty()).unwrap_or(&own);
        Ok(match api.authenticator.by_token(token, audiences) {
            Ok((caller, audiences)) => {
                json!({"authenticated": true, "user": user_info(&caller), "audiences": audiences})
            }
            Err(reason) => {
                json!({"user": {}, "error": format!("[invalid bearer token, {reason}]")})
            }
        })
    }

    /// SubjectAccessReview and LocalSubjectAccessReview, which ask about another user.
    fn subject_status(&self, asked: SubjectAccessReviewSpec) -> Result<Value, Status> {
        let name = asked.user.unwrap_or_default();
        let groups = asked.groups.unwrap_or_default();
        let mut causes = Vec::new();
        if name.is_empty() && groups.is_empty() {
            let detail = "at least one of user or group must be specified";
            causes.push(Cause::invalid("spec.user", "", detail));
        }
        let (resource, path) = (asked.resource_attributes, asked.non_resource_attributes);
        let wanted = self.wanted(resource, path, causes)?;
        if self.kind.namespaced
            && !matches!(&wanted.to, To::Resource(to) if to.namespace == self.namespace)
        {
            return Err(Status::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {}",
                self.namespace
            )));
        }
        let uid = asked.uid.unwrap_or_default();
        Ok(access(&Caller::new(&name, &uid, groups), &wanted))
    }

    /// The action that a review asks about: on a resource or on a path, not both.
    fn wanted(
        &self,
        resource: Option<ResourceAttributes>,
        path: Option<NonResourceAttributes>,
        mut causes: Vec<Cause>,
    ) -> Result<Attributes, Status> {
        let wanted = match (resource, path) {
            (Some(asked), None) => Some(of_resource(asked)),
            (None, Some(asked)) => Some(of_path(asked)),
            (None, None) => {
                let detail =
                    "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                causes.push(Cause::invalid("spec.resourceAttributes", Value::Null, detail));
                None
            }
            (Some(_), Some(asked)) => {
                let detail = "cannot be specified in combination with resourceAttributes";
                let value = json!(asked.path);
                causes.push(Cause::invalid("spec.nonResourceAttributes", value, detail));
                None
            }
        };
        match wanted {
            Some(wanted) if causes.is_empty() => Ok(wanted),
            _ => Err(Status::invalid(self.kind, "", causes)),
        }
    }
}

/// The spec of a review, by its type.
fn spec<T: DeserializeOwned>(document: &Value) -> Result<T, Status> {
    let spec = match &document["spec"] {
        Value::Null => json!({}),
        spec => spec.clone(),
    };
    serde_json::from_value(spec)
        .map_err(|error| Status::bad_request(format!("spec: {}", wording::in_json(&error))))
}

fn of_resource(asked: ResourceAttributes) -> Attributes {
    let to = Resource {
        group: asked.group.unwrap_or_default(),
        version: asked.version.unwrap_or_default(),
        resource: asked.resource.unwrap_or_default(),
        subresource: asked.subresource.unwrap_or_default(),
        namespace: asked.namespace.unwrap_or_default(),
        name: asked.name.unwrap_or_default(),
    };
    Attributes { verb: asked.verb.unwrap_or_default(), to: To::Resource(to) }
}

fn of_path(asked: NonResourceAttributes) -> Attributes {
    let to = To::Path(asked.path.unwrap_or_default());
    Attributes { verb: asked.verb.unwrap_or_default(), to }
}

fn access(caller: &Caller, wanted: &Attributes) -> Value {
    match authorize(caller, wanted) {
        Ok(reason) => json!({"allowed": true, "reason": reason}),
        Err(refusal) => json!({"allowed": false, "reason": refusal.message}),
    }
}

/// What [`authorize`] allows, as rules. The caller is authenticated, otherwise its request would have been refused.
fn rules(asked: &SelfSubjectRulesReviewSpec) -> Result<Value, Status> {
    if asked.namespace.as_deref().unwrap_or_default().is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    Ok(json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": false,
    }))
}

/// What authentication says of a caller, as documents show it.
pub(crate) fn user_info(caller: &Caller) -> Value {
    let mut info = json!({"username": *caller.name});
    if !caller.uid.is_empty() {
        info["uid"] = (*caller.uid).into();
    }
    info["groups"] = json!(*caller.groups);
    if !caller.extra.is_empty() {
        info["extra"] = json!(*caller.extra);
    }
    info
}
