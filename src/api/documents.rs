//! The paths that describe the API: `/version`, discovery and OpenAPI.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api::{
        Api,
        answer::in_syntax,
        discovery::{self, Form},
        forms, openapi,
    },
    http_server::headers,
    model::Status,
};

/// The path of the key that verifies tokens.
const KEY_SET_PATH: &str = "/openid/v1/jwks";

/// All paths but `/version`, which needs no authentication.
pub(crate) fn router() -> Router<Arc<Api>> {
    Router::new()
        .route("/api", get(core))
        .route("/apis", get(groups))
        .route(
            "/api/v1",
            get(|State(api): State<Arc<Api>>, headers: HeaderMap| async move {
                plain(&headers, discovery::resources(&api.kinds(), "", "v1"))
            }),
        )
        .route(
            "/apis/{group}",
            get(
                |State(api): State<Arc<Api>>, Path(group): Path<String>, headers: HeaderMap| async move {
                    plain(&headers, discovery::group(&api.kinds(), &group))
                },
            ),
        )
        .route(
            "/apis/{group}/{version}",
            get(
                |State(api): State<Arc<Api>>,
                 Path((group, version)): Path<(String, String)>,
                 headers: HeaderMap| async move {
                    plain(&headers, discovery::resources(&api.kinds(), &group, &version))
                },
            ),
        )
        .route("/.well-known/openid-configuration", get(openid_configuration))
        .route(KEY_SET_PATH, get(openid_key_set))
        .route("/openapi/v2", get(openapi_v2))
        .route("/openapi/v3", get(openapi_root))
        .route(
            "/openapi/v3/api/{version}",
            get(|State(api): State<Arc<Api>>, Path(version): Path<String>| {
                openapi_v3(api, String::new(), version)
            }),
        )
        .route(
            "/openapi/v3/apis/{group}/{version}",
            get(|State(api): State<Arc<Api>>, Path((group, version)): Path<(String, String)>| {
                openapi_v3(api, group, version)
            }),
        )
}

/// `/version`. As with kube-apiserver, it is always indented.
pub(crate) async fn version() -> Response {
    json_bytes(format!("{:#}", discovery::version()).into())
}

async fn core(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Status> {
    match Form::aggregated(&headers) {
        None => plain(&headers, Some(discovery::core_versions(&api.server))),
        Some(form) => Ok(aggregated(&api, true, form)),
    }
}

async fn groups(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Status> {
    match Form::aggregated(&headers) {
        None => plain(&headers, Some(discovery::groups(&api.kinds()))),
        Some(form) => Ok(aggregated(&api, false, form)),
    }
}

fn aggregated(api: &Api, core: bool, form: Form) -> Response {
    let body = discovery::aggregated(&api.kinds(), core, form).to_string();
    ([(header::CONTENT_TYPE, form.content_type())], body).into_response()
}

/// A document that is served only as JSON and YAML.
fn plain(headers: &HeaderMap, document: Option<Value>) -> Result<Response, Status> {
    let document = document.ok_or_else(Status::no_such_path)?;
    in_syntax(document.to_string().into(), forms::Form::plain(headers)?, StatusCode::OK)
}

/// How others verify the tokens of ServiceAccounts (OpenID Connect Discovery 1.0).
async fn openid_configuration(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({
        "issuer": api.authenticator.accounts.issuer(),
        "jwks_uri": format!("https://{}{KEY_SET_PATH}", api.server),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

async fn openid_key_set(State(api): State<Arc<Api>>) -> Response {
    let body = api.authenticator.accounts.key_set().to_string();
    ([(header::CONTENT_TYPE, "application/jwk-set+json")], body).into_response()
}

async fn openapi_root(State(api): State<Arc<Api>>) -> Result<Json<Value>, Status> {
    made(move || api.openapi.root(&api.kinds())).await.map(Json)
}

async fn openapi_v3(api: Arc<Api>, group: String, version: String) -> Result<Response, Status> {
    let document = made(move || api.openapi.document(&api.kinds(), &group, &version)).await?;
    document.map(json_bytes).ok_or_else(Status::no_such_path)
}

async fn openapi_v2(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Status> {
    let accept = accept(&headers);
    if accept.contains(openapi::PROTOBUF_V2) && !openapi::accepts_json(accept) {
        let content_type = [(header::CONTENT_TYPE, openapi::PROTOBUF_V2_ANSWER)];
        return Ok((content_type, api.openapi.v2_protobuf()).into_response());
    }
    if !openapi::accepts_json(accept) {
        return Err(Status::not_acceptable("application/json"));
    }
    made(move || api.openapi.v2(&api.kinds())).await.map(json_bytes)
}

/// Makes a document on a blocking thread: it takes tens of milliseconds.
async fn made<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(make)
        .await
        .map_err(|_panicked| Status::internal("the document could not be made"))
}

fn json_bytes(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn accept(headers: &HeaderMap) -> &str {
    headers::text(headers, header::ACCEPT).unwrap_or("*/*")
}
