//! Create, read, update, patch and delete of every kind. Enter at [`serve`].

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::answer,
        forms::Form,
        lists::List,
        pages::{ContinueToken, listed},
        request::{Request, manager},
        reviews::user_info,
        selectors::selected,
        watch,
    },
    model::{
        Kind, Object, Status,
        duplicates::Parsed,
        kind::{self, extension::CERTIFICATE_SIGNING_REQUEST},
        patch::{PatchType, Wanted},
    },
    registry::{Descriptor, ROUTED, Subresource, check_identity},
};

/// How often a server-side apply starts again because another client created or deleted the object meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// Answers a request about a resource that names no subresource.
pub(crate) async fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let (kind, name) = (request.target.kind(), &request.target.name);
    match (&request.method, name) {
        (&Method::GET, None) if request.query.watch => watch::serve(api, request),
        (&Method::GET, None) => list(api, request).await,
        (&Method::GET, Some(_)) => get(api, request).await,
        (&Method::POST, None) => create(api, request).await,
        (&Method::PUT, Some(_)) => replace(api, request, Subresource::None).await,
        (&Method::PATCH, Some(_)) => apply_patch(api, request, Subresource::None).await,
        (&Method::DELETE, Some(_)) => delete(api, request).await,
        (&Method::DELETE, None) if kind.namespaced || request.target.namespace.is_none() => {
            delete_collection(api, request).await
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Before a read of a kind that routing depends on, waits until proxy and DNS have applied the newest revision.
async fn settle(api: &Api, kind: &Kind) {
    if ROUTED.contains(&kind) || *kind == kind::ENDPOINTS {
        api.registry.wait_settled().await;
    }
}

/// Reads one object.
pub(crate) async fn get(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    if request.query.watch {
        return Err(Status::bad_request("watch needs a list request with a field selector"));
    }
    settle(api, request.target.kind()).await;
    let key = request.target.key()?;
    let object = match request.query.version()? {
        // Any revision that is not older will do. A read of one object cannot ask for an exact one.
        Some(revision) => {
            let view = api.registry.view_not_before(revision).await?;
            let object = view.get(&key).ok_or_else(|| Status::not_found(&key))?;
            request.target.descriptor.show(object)
        }
        None => api.registry.get(&key)?,
    };
    answer(&request.target.descriptor, &object, form, StatusCode::OK, &[])
}

async fn create(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let (kind, namespace) = (request.target.kind(), &request.target.namespace);
    let Parsed { value: mut document, duplicates } = request.parsed()?;
    if *kind == CERTIFICATE_SIGNING_REQUEST {
        name_requestor(&mut document, request);
    }
    let namespace = match namespace {
        None if kind.namespaced => return Err(Status::method_not_allowed()),
        None => "",
        Some(namespace) => namespace,
    };
    let name = request.manager();
    let wanted =
        Wanted::updated(document, manager(&name, Subresource::None)).with_duplicates(duplicates);
    let options = request.write_options()?;
    let written = api.registry.create(kind, namespace, wanted, &options).await?;
    api.answer_write(&request.target.descriptor, written, form, StatusCode::CREATED).await
}

/// Who asks for a certificate is who sends the request, whatever that says.
fn name_requestor(document: &mut Value, request: &Request) {
    let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    if let Value::Object(info) = user_info(&request.caller) {
        spec.extend(info);
    }
}

/// PUT of an object or a subresource.
pub(crate) async fn replace(
    api: &Api,
    request: &Request,
    subresource: Subresource,
) -> Result<Response, Status> {
    let form = request.form()?;
    let options = request.write_options()?;
    let key = request.target.key()?;
    let Parsed { value: document, duplicates } = request.replacement()?;
    let name = request.manager();
    let wanted = || {
        let wanted = Wanted::updated(document.clone(), manager(&name, subresource));
        wanted.with_duplicates(duplicates.clone())
    };
    let replaced = api.registry.modify(&key, subresource, &options, |_| {
        request.target.descriptor.check_replacement(&key.name, &document)?;
        Ok(wanted())
    });
    let (written, code) = match replaced.await {
        Err(status) if status.reason == "NotFound" && subresource == Subresource::None => {
            if api.registry.view().get(&key).is_some()
                || !request.target.descriptor.may_be_created_by_put(&document)
            {
                return Err(status);
            }
            check_identity(&key, &document["metadata"])?;
            let created =
                api.registry.create(&key.kind, &key.namespace, wanted(), &options).await?;
            (created, StatusCode::CREATED)
        }
        written => (written?, StatusCode::OK),
    };
    api.answer_write(&request.target.descriptor, written, form, code).await
}

/// PATCH of an object or a subresource. A server-side apply may create the object.
pub(crate) async fn apply_patch(
    api: &Api,
    request: &Request,
    subresource: Subresource,
) -> Result<Response, Status> {
    let form = request.form()?;
    let options = request.write_options()?;
    let key = request.target.key()?;
    let patch = request.patch()?;
    let resource = request.target.descriptor.resource();
    let name = request.manager();
    let may_create = patch.kind == PatchType::Apply && subresource == Subresource::None;
    for _attempt in 0..ATTEMPTS_MAX {
        if may_create && api.registry.view().get(&key).is_none() {
            let wanted = request.patched(resource, &patch, None, manager(&name, subresource))?;
            if wanted.document["metadata"]["name"].as_str().is_none_or(str::is_empty) {
                return Err(Status::bad_request(format!(
                    "the name of the object ({} based on URL) was undeterminable: name must be provided",
                    key.name
                )));
            }
            match api.registry.create(&key.kind, &key.namespace, wanted, &options).await {
                // Another client has created it meanwhile: merge with that object.
                Err(status) if status.reason == "AlreadyExists" => {}
                written => {
                    return api
                        .answer_write(
                            &request.target.descriptor,
                            written?,
                            form,
                            StatusCode::CREATED,
                        )
                        .await;
                }
            }
        }
        let change = |old: &Object| {
            request.patched(resource, &patch, Some(&old.parse()?), manager(&name, subresource))
        };
        match api.registry.modify(&key, subresource, &options, change).await {
            Err(status) if may_create && status.reason == "NotFound" => {}
            written => {
                return api
                    .answer_write(&request.target.descriptor, written?, form, StatusCode::OK)
                    .await;
            }
        }
    }
    Err(Status::conflict(&key, "the object comes and goes; please try again"))
}

async fn delete(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let options = request.delete_options()?;
    let (object, gone) = api.registry.delete(&key, &options).await?;
    api.registry.wait_routed(&key.kind, object.revision).await;
    if !gone {
        let form = request.form()?;
        return answer(&request.target.descriptor, &object, form, StatusCode::OK, &[]);
    }
    let details = json!({"name": key.name, "group": key.kind.group, "kind": key.kind.plural,
        "uid": object.metadata.uid});
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details});
    Ok(axum::Json(body).into_response())
}

async fn delete_collection(api: &Api, request: &Request) -> Result<Response, Status> {
    request.query.check_versions()?;
    let selectors = request.query.selectors(&request.target.descriptor)?;
    let options = request.delete_options()?;
    let view = api.registry.view();
    let chosen = selected(&view, &request.target, &selectors);
    let chosen: Vec<Arc<Object>> = chosen.cloned().collect();
    for object in &chosen {
        match api.registry.delete(&object.key, &options).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(list_answer(&request.target.descriptor, view.revision(), None, chosen, Form::JSON))
}

async fn list(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = Form::of_list(&request.headers, &request.query.include_object)?;
    let (query, kind) = (&request.query, request.target.kind());
    let selectors = query.selectors(&request.target.descriptor)?;
    query.check_versions()?;
    settle(api, kind).await;
    let (view, after) = listed(api, request).await?;
    let mut objects = selected(&view, &request.target, &selectors).skip_while(|object| {
        after
            .as_ref()
            .is_some_and(|after| (&object.key.namespace, &object.key.name) <= (&after.0, &after.1))
    });
    let limit = query.limit_of_page().unwrap_or(usize::MAX);
    let page: Vec<Arc<Object>> = objects.by_ref().take(limit).cloned().collect();
    let remaining = objects.count();
    let more = page.last().filter(|_| remaining > 0).map(|last| {
        let after = (last.key.namespace.clone(), last.key.name.clone());
        let token = ContinueToken { revision: Some(view.revision()), after }.encode();
        // Like kube-apiserver, do not count with a selector.
        (token, selectors.is_empty().then_some(remaining))
    });
    if more.is_some() {
        api.pages.keep(&request.target, &view);
    }
    Ok(list_answer(&request.target.descriptor, view.revision(), more, page, form))
}

pub(crate) fn list_answer(
    descriptor: &Arc<Descriptor>,
    revision: u64,
    more: Option<(String, Option<usize>)>,
    objects: Vec<Arc<Object>>,
    form: Form,
) -> Response {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some((token, remaining)) = more {
        metadata["continue"] = token.into();
        if let Some(remaining) = remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    List { descriptor: descriptor.clone(), metadata, objects }.answer(form)
}
