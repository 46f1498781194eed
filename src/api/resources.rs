//! Create, read, update, patch and delete of every kind. One entry, [`serve`]; subresources branch off to their files.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        forms::Form,
        lists::List,
        pages::{ContinueToken, listed},
        protobuf,
        request::{Query, Target, dry_run_cause, propagation},
        subresources, table, watch,
    },
    model::{
        Kind, Object, Status,
        duplicates::{self, Parsed},
        kind,
        patch::{self, FieldManager, PatchType, Wanted},
        wording,
    },
    registry::{DeleteOptions, Part, Propagation, ROUTED, View, WriteOptions, Written},
};

/// How often a server-side apply starts anew because the object came or went meanwhile.
const ATTEMPTS_MAX: u32 = 16;

/// One request about a resource.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Answers a request about a resource.
pub(crate) async fn serve(api: &Arc<Api>, request: &Request) -> Result<Response, Status> {
    let Target { kind, name, subresource, .. } = &request.target;
    if let Some(subresource) = subresource {
        return subresources::serve(api, request, subresource).await;
    }
    match (&request.method, name) {
        (&Method::GET, None) if request.query.watch => watch::serve(api, request),
        (&Method::GET, None) => list(api, request).await,
        (&Method::GET, Some(_)) => get(api, request).await,
        (&Method::POST, None) => create(api, request).await,
        (&Method::PUT, Some(_)) => replace(api, request, Part::Main).await,
        (&Method::PATCH, Some(_)) => apply_patch(api, request, Part::Main).await,
        (&Method::DELETE, Some(_)) => delete(api, request).await,
        (&Method::DELETE, None) if kind.namespaced || request.target.namespace.is_none() => {
            delete_collection(api, request).await
        }
        _ => Err(Status::method_not_allowed()),
    }
}

/// Who reads an object that routing depends on finds traffic and DNS as it says.
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
    settle(api, request.target.kind).await;
    let key = request.target.key()?;
    let object = match request.query.version()? {
        // Any that is not older will do; there is no exact one for a single object.
        Some(revision) => {
            let view = api.registry.view_not_before(revision).await?;
            let object = view.get(&key).ok_or_else(|| Status::not_found(&key))?;
            object.shown_as(key.kind)
        }
        None => api.registry.get(&key)?,
    };
    answer(&object, form, StatusCode::OK, &[])
}

async fn create(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = request.form()?;
    let Target { kind, namespace, .. } = &request.target;
    let Parsed { value: document, duplicates } = request.parsed()?;
    let namespace = match namespace {
        None if kind.namespaced => return Err(Status::method_not_allowed()),
        None => "",
        Some(namespace) => namespace,
    };
    let name = request.manager();
    let wanted = Wanted::updated(document, manager(&name, Part::Main)).with_duplicates(duplicates);
    let options = request.write_options()?;
    let written = api.registry.create(kind, namespace, wanted, &options).await?;
    api.answer_write(written, form, StatusCode::CREATED).await
}

/// PUT of an object or its status.
pub(crate) async fn replace(api: &Api, request: &Request, part: Part) -> Result<Response, Status> {
    let form = request.form()?;
    let options = request.write_options()?;
    let key = request.target.key()?;
    let Parsed { value: document, duplicates } = request.parsed()?;
    if document["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        return Err(Status::bad_request(
            "the name of the object must be in the request body (metadata.name)",
        ));
    }
    let name = request.manager();
    let written = api
        .registry
        .modify(&key, part, &options, |_| {
            let wanted = Wanted::updated(document.clone(), manager(&name, part));
            Ok(wanted.with_duplicates(duplicates.clone()))
        })
        .await?;
    api.answer_write(written, form, StatusCode::OK).await
}

/// PATCH of an object or its status; server-side apply may create.
pub(crate) async fn apply_patch(
    api: &Api,
    request: &Request,
    part: Part,
) -> Result<Response, Status> {
    let form = request.form()?;
    let options = request.write_options()?;
    let key = request.target.key()?;
    let patch = request.patch()?;
    let name = request.manager();
    let may_create = patch.kind == PatchType::Apply && part == Part::Main;
    for _attempt in 0..ATTEMPTS_MAX {
        if may_create && api.registry.view().get(&key).is_none() {
            let wanted = request.patched(&patch, None, manager(&name, part))?;
            match api.registry.create(key.kind, &key.namespace, wanted, &options).await {
                // Somebody else was faster: merge with what there is now.
                Err(status) if status.reason == "AlreadyExists" => {}
                written => return api.answer_write(written?, form, StatusCode::CREATED).await,
            }
        }
        let change =
            |old: &Object| request.patched(&patch, Some(&parsed(old)?), manager(&name, part));
        match api.registry.modify(&key, part, &options, change).await {
            Err(status) if may_create && status.reason == "NotFound" => {}
            written => return api.answer_write(written?, form, StatusCode::OK).await,
        }
    }
    Err(Status::conflict(&key, "the object comes and goes; please try again"))
}

async fn delete(api: &Api, request: &Request) -> Result<Response, Status> {
    let key = request.target.key()?;
    let options = request.delete_options()?;
    let (object, gone) = api.registry.delete(&key, &options).await?;
    api.registry.wait_routed(key.kind, object.revision).await;
    if !gone {
        let form = request.form()?;
        return answer(&object, form, StatusCode::OK, &[]);
    }
    let details = json!({"name": key.name, "group": key.kind.group, "kind": key.kind.plural,
        "uid": object.metadata.uid});
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details});
    Ok(axum::Json(body).into_response())
}

async fn delete_collection(api: &Api, request: &Request) -> Result<Response, Status> {
    request.query.check_versions()?;
    let selectors = request.query.selectors(request.target.kind)?;
    let options = request.delete_options()?;
    let view = api.registry.view();
    let kind = request.target.kind;
    let chosen = selected(&view, &request.target, &selectors);
    let chosen: Vec<Arc<Object>> = chosen.cloned().collect();
    for object in &chosen {
        match api.registry.delete(&object.key, &options).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(list_answer(kind, view.revision(), None, chosen, Form::Json))
}

async fn list(api: &Api, request: &Request) -> Result<Response, Status> {
    let form = Form::of_list(&request.headers, &request.query.include_object)?;
    let (query, kind) = (&request.query, request.target.kind);
    let selectors = query.selectors(kind)?;
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
        // As kube-apiserver, which does not count what a selector leaves.
        (token, selectors.is_empty().then_some(remaining))
    });
    if more.is_some() {
        api.pages.keep(&request.target, &view);
    }
    Ok(list_answer(kind, view.revision(), more, page, form))
}

/// The objects that a list or watch of this target shows, in order.
pub(crate) fn selected<'a>(
    view: &'a View,
    target: &Target,
    selectors: &'a crate::api::request::Selectors,
) -> impl Iterator<Item = &'a Arc<Object>> {
    view.list(target.kind, target.namespace.as_deref()).filter(|object| selectors.matches(object))
}

fn list_answer(
    kind: &'static Kind,
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
    List { kind, metadata, objects }.answer(form)
}

/// One object as an answer.
pub(crate) fn answer(
    object: &Arc<Object>,
    form: Form,
    code: StatusCode,
    warnings: &[String],
) -> Result<Response, Status> {
    let mut response = match form {
        Form::Table(rows) => {
            let table = table::render_one(object, Timestamp::now(), rows, true);
            in_form(table.to_bytes(), Form::Json, code)?
        }
        Form::Metadata(version) | Form::MetadataList(version) => {
            in_form(table::partial(object, version), Form::Json, code)?
        }
        Form::Json | Form::Yaml => in_form(object.document(), form, code)?,
    };
    add_warnings(&mut response, warnings);
    Ok(response)
}

/// JSON bytes as JSON or YAML.
pub(crate) fn in_form(json: Bytes, form: Form, code: StatusCode) -> Result<Response, Status> {
    let (body, media) = if form == Form::Yaml {
        let value: Value =
            serde_json::from_slice(&json).map_err(|error| Status::internal(error.to_string()))?;
        let yaml =
            serde_yaml::to_string(&value).map_err(|error| Status::internal(error.to_string()))?;
        (Body::from(yaml), "application/yaml")
    } else {
        (Body::from(json), "application/json")
    };
    Ok((code, [(header::CONTENT_TYPE, HeaderValue::from_static(media))], body).into_response())
}

/// `Warning: 299 - "text"` headers, which kubectl shows.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

impl Api {
    /// Answers a write once proxy and DNS know of it.
    pub(crate) async fn answer_write(
        &self,
        written: Written,
        form: Form,
        code: StatusCode,
    ) -> Result<Response, Status> {
        self.registry.wait_routed(written.object.key.kind, written.object.revision).await;
        answer(&written.object, form, code, &written.warnings)
    }
}

impl Request {
    /// The form of the answer, if that is one object.
    pub(crate) fn form(&self) -> Result<Form, Status> {
        Form::of_object(&self.headers, &self.query.include_object)
    }

    /// What a write is told.
    pub(crate) fn write_options(&self) -> Result<WriteOptions, Status> {
        self.query.write_options(match self.method {
            Method::POST => "CreateOptions",
            Method::PUT => "UpdateOptions",
            Method::PATCH => "PatchOptions",
            _ => "DeleteOptions",
        })
    }

    /// The body as a document.
    pub(crate) fn document(&self) -> Result<Value, Status> {
        document_of(&self.headers, &self.body)
    }

    /// The body as a document, and what a strict client minds about it.
    fn parsed(&self) -> Result<Parsed, Status> {
        parsed_of(&self.headers, &self.body)
    }

    /// The kind of a PATCH, checked against the query.
    pub(crate) fn patch(&self) -> Result<Patch<'_>, Status> {
        let kind = PatchType::from_content_type(self.target.kind, self.content_type())?;
        let force = self.query.force;
        patch::check_options(kind, &self.query.field_manager, force)?;
        Ok(Patch { kind, body: &self.body, force: force == Some(true) })
    }

    /// What a patch makes out of the old document.
    pub(crate) fn patched<'a>(
        &self,
        patch: &Patch<'_>,
        old: Option<&Value>,
        manager: FieldManager<'a>,
    ) -> Result<Wanted<'a>, Status> {
        let kind = self.target.kind;
        if patch.kind == PatchType::Apply {
            let Parsed { value: config, duplicates } = patch::decode_apply(patch.body)?;
            let wanted = patch::apply(kind, old, &config, &manager, patch.force)?;
            return Ok(wanted.with_duplicates(duplicates));
        }
        let Parsed { value, mut duplicates } = patch::decode_patch(patch.body)?;
        if patch.kind == PatchType::Json {
            // As kube-apiserver, which reads the operations as a type of their own.
            duplicates.iter_mut().for_each(|line| line.insert_str(0, "json patch "));
        }
        let document = patch::apply_patch(kind, patch.kind, old.unwrap_or(&Value::Null), value)?;
        Ok(Wanted::updated(document, manager).with_duplicates(duplicates))
    }

    fn content_type(&self) -> &str {
        content_type(&self.headers)
    }

    /// Who is written into `metadata.managedFields`: the query parameter, else the first word of the user agent.
    pub(crate) fn manager(&self) -> String {
        if !self.query.field_manager.is_empty() {
            return self.query.field_manager.clone();
        }
        let agent = self.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        agent.and_then(|text| text.split('/').next()).unwrap_or("unknown").to_owned()
    }

    fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let body: DeleteBody = if self.body.is_empty() {
            DeleteBody::default()
        } else {
            serde_json::from_value(self.document()?).map_err(|error| {
                Status::bad_request(format!("DeleteOptions: {}", wording::in_json(&error)))
            })?
        };
        let policy = body.propagation_policy.as_deref().unwrap_or(&self.query.propagation_policy);
        let mut causes: Vec<_> = [&body.dry_run, &self.query.dry_run]
            .into_iter()
            .filter_map(|values| dry_run_cause(values))
            .collect();
        let policy = match body.orphan_dependents {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => propagation(policy).unwrap_or_else(|cause| {
                causes.push(cause);
                None
            }),
        };
        if !causes.is_empty() {
            return Err(Status::invalid_options("DeleteOptions", causes));
        }
        let preconditions = body.preconditions.unwrap_or_default();
        let revision =
            preconditions.resource_version.map(|version| version.parse()).transpose().map_err(
                |_number| Status::bad_request("preconditions.resourceVersion: not a number"),
            )?;
        Ok(DeleteOptions {
            grace_seconds: body.grace_period_seconds.or(self.query.grace_period_seconds),
            uid: preconditions.uid,
            revision,
            propagation: policy,
            dry_run: !self.query.dry_run.is_empty() || !body.dry_run.is_empty(),
        })
    }
}

/// A PATCH body and what it is.
pub(crate) struct Patch<'a> {
    kind: PatchType,
    body: &'a [u8],
    force: bool,
}

pub(crate) fn manager(name: &str, part: Part) -> FieldManager<'_> {
    let subresource = match part {
        Part::Main => "",
        Part::Status => "status",
        Part::EphemeralContainers => "ephemeralcontainers",
        Part::Finalizers => "finalize",
        Part::Binding => "binding",
    };
    FieldManager { name, subresource, now: Timestamp::now() }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or_default().trim()
}

/// A body as a document: JSON, YAML or (from typed clients) protobuf, by its content type.
pub(crate) fn document_of(headers: &HeaderMap, body: &[u8]) -> Result<Value, Status> {
    parsed_of(headers, body).map(|parsed| parsed.value)
}

fn parsed_of(headers: &HeaderMap, body: &[u8]) -> Result<Parsed, Status> {
    match content_type(headers) {
        "" | "application/json" => parse_json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" => parse_yaml(body),
        protobuf::MEDIA_TYPE => {
            protobuf::decode(body).map(|value| Parsed { value, duplicates: Vec::new() })
        }
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}); accepted media types include: \
             application/json, application/yaml"
        ))),
    }
}

fn parse_json(body: &[u8]) -> Result<Parsed, Status> {
    duplicates::parse_json(body).map_err(|error| {
        Status::bad_request(format!("the request body is not valid JSON: {error}"))
    })
}

/// YAML to JSON; a document with several parts is an error, as for Kubernetes.
fn parse_yaml(body: &[u8]) -> Result<Parsed, Status> {
    duplicates::parse(serde_yaml::Deserializer::from_slice(body)).map_err(|error| {
        Status::bad_request(format!("the request body is not valid YAML: {error}"))
    })
}

/// The document of a stored object.
pub(crate) fn parsed(object: &Object) -> Result<Value, Status> {
    object.parse().map_err(|error| Status::internal(error.to_string()))
}
