//! The API server: what kubectl, helm, client-go and kube-rs talk to.
//!
//! Enter at [`router`]. Requests about objects go through `resources` (and `watch`, `subresources`) to the registry;
//! `discovery`, `openapi` and `table` tell clients what there is and how to show it. Nothing here decides what an
//! object means: defaults and validation are the registry's, behaviour is the controllers'.

pub mod authentication;
pub mod certificates;
pub mod discovery;
mod documents;
mod error;
pub mod openapi;
mod pages;
pub mod protobuf;
mod request;
mod resources;
mod snapshot;
mod subresources;
pub mod table;
pub mod tls;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    body::to_bytes,
    extract::{Query as QueryExtractor, Request as HttpRequest, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::Method;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::{
    api::request::{Query, Target, is_true},
    model::{Status, kind},
    registry::Registry,
};

pub use authentication::Caller;

/// Largest request body, as kube-apiserver has it.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Requests in flight that are not watches (kube-apiserver: 400 reads and 200 writes).
const REQUESTS_MAX: usize = 600;
/// As kube-apiserver warns since 1.33.
const ENDPOINTS_DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
/// Watches in flight; each costs a task and two channel positions.
const WATCHES_MAX: usize = 10_000;

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
    /// The address that clients use, `127.0.0.1:6443`.
    pub server: String,
    pages: pages::Pages,
    openapi: openapi::OpenApi,
    requests: Semaphore,
    watches: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

impl Api {
    /// Puts the API server together.
    pub fn new(
        registry: Arc<Registry>,
        ready: channel::Receiver<bool>,
        stop: CancellationToken,
        logs: Logs,
        server: String,
    ) -> Self {
        Self {
            registry,
            ready,
            stop,
            logs,
            server,
            pages: pages::Pages::default(),
            openapi: openapi::OpenApi::default(),
            requests: Semaphore::new(REQUESTS_MAX),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }
}

/// All paths of the API server.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(documents::router())
        .merge(snapshot::router())
        .fallback(resource)
        .layer(middleware::from_fn(authenticated))
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/version", get(documents::version))
        .with_state(api)
}

/// Nobody is anonymous, except on the paths that are added after this layer.
async fn authenticated(request: HttpRequest, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        Some(_) => next.run(request).await,
        None => Status::unauthorized().into_response(),
    }
}

async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Status> {
    if *api.ready.borrow() { Ok("ok") } else { Err(Status::unavailable("the cluster is starting")) }
}

async fn resource(
    State(api): State<Arc<Api>>,
    QueryExtractor(query): QueryExtractor<Query>,
    request: HttpRequest,
) -> Response {
    match serve(&api, query, request).await {
        Ok(response) => response,
        Err(status) => status.into_response(),
    }
}

async fn serve(api: &Arc<Api>, query: Query, request: HttpRequest) -> Result<Response, Status> {
    let target = Target::parse(request.uri().path()).ok_or_else(Status::no_such_path)?;
    let watching = request.method() == Method::GET && is_true(&query.watch);
    let busy = || Status::too_many_requests("too many requests, please try again later", 1);
    let _permit =
        if watching { None } else { Some(api.requests.try_acquire().map_err(|_full| busy())?) };
    let watch_permit = match watching {
        true => Some(api.watches.clone().try_acquire_owned().map_err(|_full| busy())?),
        false => None,
    };
    let (parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(Status::unauthorized)?;
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_too_large| Status::too_large(BODY_BYTES_MAX))?;
    let request = resources::Request {
        method: parts.method,
        target,
        query,
        headers: parts.headers,
        body,
        caller,
    };
    tracing::debug!(
        user = %request.caller.name,
        method = %request.method,
        kind = %request.target.kind.kind,
        namespace = request.target.namespace.as_deref().unwrap_or_default(),
        name = request.target.name.as_deref().unwrap_or_default(),
        "api request"
    );
    let mut response = resources::serve(api, &request).await?;
    if *request.target.kind == kind::ENDPOINTS {
        resources::add_warnings(&mut response, &[ENDPOINTS_DEPRECATED.to_owned()]);
    }
    if let Some(permit) = watch_permit {
        // The permit lives as long as the response body does.
        let (parts, body) = response.into_parts();
        let body = http_body_util::BodyExt::map_frame(body, move |frame| {
            let _held = &permit;
            frame
        });
        response = Response::from_parts(parts, axum::body::Body::new(body));
    }
    Ok(response)
}
