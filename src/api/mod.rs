//! The API server: what kubectl, helm, client-go and kube-rs talk to.
//!
//! Enter at [`router`]. Requests about objects go through `resources` (and `watch`, `subresources`) to the registry;
//! `discovery`, `openapi` and `table` tell clients what there is and how to show it. All of them, but for a few paths
//! about the server's health, lie behind [`gate`]: who asks, whether they may, how many at once. Nothing here decides what an
//! object means: defaults and validation are the registry's, behaviour is the controllers'.

pub mod authentication;
mod authorization;
mod bodies;
pub mod certificates;
pub mod discovery;
mod documents;
mod error;
pub mod gate;
mod lists;
pub mod openapi;
mod pages;
pub mod panics;
mod pieces;
pub mod protobuf;
mod request;
mod resources;
mod reviews;
mod snapshot;
mod subresources;
pub mod table;
pub mod tls;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query as QueryExtractor, Request as HttpRequest, State, rejection::QueryRejection},
    middleware,
    response::Response,
    routing::get,
};
use http::Uri;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use crate::{
    api::{
        authentication::Authenticator,
        authorization::{Attributes, To},
        bodies::Bodies,
        gate::InFlight,
        request::{Query, Target},
    },
    model::{Status, kind},
    registry::Registry,
};

pub use authentication::Caller;

/// As kube-apiserver warns since 1.33.
const ENDPOINTS_DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
/// Snapshots that are being sent; each keeps what it shows, however long it takes.
const SNAPSHOTS_MAX: usize = 2;

/// Gives what a pod (by uid) has written after its first so many lines; `None` for one that does not run here.
pub type Logs = Arc<dyn Fn(&str, u64) -> Option<Log> + Send + Sync>;

/// A part of a pod's log.
pub struct Log {
    /// When each line was written, and the line; oldest first.
    pub lines: Vec<(Timestamp, String)>,
    /// How many lines were ever written: where the next part begins.
    pub written: u64,
}

/// What the API server is told.
pub struct Options {
    /// Who asks.
    pub authenticator: Authenticator,
    /// The address that clients use, `127.0.0.1:6443`.
    pub server: String,
    /// Requests at once.
    pub limits: gate::Limits,
}

/// What the API server works on.
pub struct Api {
    /// Objects.
    pub registry: Arc<Registry>,
    /// True once everything runs; `/readyz` tells it.
    pub ready: channel::Receiver<bool>,
    /// Ends watches.
    pub stop: CancellationToken,
    /// The log of a pod, by uid.
    pub logs: Logs,
    /// Who asks.
    pub authenticator: Authenticator,
    /// The address that clients use, `127.0.0.1:6443`.
    pub server: String,
    pages: pages::Pages,
    openapi: openapi::OpenApi,
    in_flight: InFlight,
    bodies: Bodies,
    snapshots: Arc<Semaphore>,
}

impl Api {
    /// Puts the API server together.
    pub fn new(
        registry: Arc<Registry>,
        ready: channel::Receiver<bool>,
        stop: CancellationToken,
        logs: Logs,
        options: Options,
    ) -> Self {
        let Options { authenticator, server, limits } = options;
        Self {
            registry,
            ready,
            stop,
            logs,
            authenticator,
            server,
            pages: pages::Pages::default(),
            openapi: openapi::OpenApi::default(),
            in_flight: InFlight::new(limits),
            bodies: Bodies::new(),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }
}

/// All paths of the API server.
pub fn router(api: Arc<Api>) -> Router {
    let paths = Router::new()
        .merge(documents::router())
        .merge(snapshot::router())
        .fallback(resource)
        .layer(middleware::from_fn_with_state(api.clone(), gate::pass))
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/version", get(documents::version))
        .with_state(api);
    Router::new()
        .fallback_service(MapRequest::new(paths, without_slash_at_the_end))
        .layer(middleware::from_fn(panics::contain))
}

/// Some clients ask for `/version/` and `/apis/`.
fn without_slash_at_the_end(mut request: HttpRequest) -> HttpRequest {
    let path = request.uri().path();
    let shorter = path.trim_end_matches('/');
    if !shorter.is_empty() && shorter.len() < path.len() {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = format!("{shorter}{query}").parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The answer about a path that leads nowhere, which names an API group that is not here.
fn not_served(path: &str) -> Status {
    let mut status = Status::no_such_path();
    let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next());
    if let Some(group) = group.filter(|group| kind::KINDS.iter().all(|kind| kind.group != *group)) {
        let text = format!("{}: Snowglobe does not serve the API group {group}", status.message);
        status.message = text;
    }
    status
}

async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Status> {
    if let Some(stopped) = &*api.registry.stopped().borrow() {
        return Err(Status::internal(stopped.to_string()));
    }
    if *api.ready.borrow() { Ok("ok") } else { Err(Status::unavailable("the cluster is starting")) }
}

async fn resource(
    State(api): State<Arc<Api>>,
    query: Result<QueryExtractor<Query>, QueryRejection>,
    request: HttpRequest,
) -> Result<Response, Status> {
    let QueryExtractor(query) =
        query.map_err(|refused| Status::bad_request(refused.body_text()))?;
    serve(&api, query, request).await
}

async fn serve(api: &Arc<Api>, query: Query, request: HttpRequest) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(Status::unauthorized)?;
    let wanted = parts.extensions.get::<Arc<Attributes>>().map(|wanted| &wanted.to);
    if let Some(To::Resource(resource)) = wanted
        && let Some(kind) = reviews::kind_of(resource)
    {
        let body = whole(body).await?;
        let review = reviews::Review {
            kind,
            namespace: &resource.namespace,
            method: &parts.method,
            query: &query,
            headers: &parts.headers,
            body: &body,
            caller: &caller,
        };
        return reviews::serve(api, &review);
    }
    let target = Target::parse(parts.uri.path()).ok_or_else(|| not_served(parts.uri.path()))?;
    let request = resources::Request {
        method: parts.method,
        target,
        query,
        headers: parts.headers,
        body: whole(body).await?,
    };
    let mut response = resources::serve(api, &request).await?;
    if *request.target.kind == kind::ENDPOINTS {
        resources::add_warnings(&mut response, &[ENDPOINTS_DEPRECATED.to_owned()]);
    }
    Ok(response)
}

/// The body of a request, which is there as a whole.
async fn whole(body: Body) -> Result<Bytes, Status> {
    let collected = body.collect().await;
    Ok(collected.map_err(|_broken| Status::bad_request("the request body ended early"))?.to_bytes())
}
