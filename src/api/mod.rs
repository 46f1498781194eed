//! The API server: what kubectl, helm, client-go and kube-rs talk to.
//!
//! Enter at [`router`]. Requests about objects go through `resources` (and `watch`, `subresources`) to the registry;
//! `discovery`, `openapi` and `table` tell clients which resources there are and how to show them. Every request passes
//! [`gate`] first (authentication, authorization, limits), except a few about the server's health. Nothing here decides
//! what an object means: the registry defaults and validates it, the controllers act on it.

mod answer;
pub mod authentication;
mod authorization;
mod bodies;
mod component_statuses;
mod decode;
mod description;
pub mod discovery;
mod documents;
mod error;
mod forms;
pub mod gate;
mod go_text;
mod health;
mod lists;
pub mod openapi;
mod pages;
pub mod panics;
mod parameters;
mod pieces;
mod policy_stats;
mod pretty;
pub mod protobuf;
mod query;
mod request;
mod resources;
mod reviews;
mod selectors;
mod snapshot;
mod subresources;
pub mod table;
mod target;
pub mod tls;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request as HttpRequest, State},
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

use self::{
    authentication::{Authenticator, Caller},
    bodies::Bodies,
    description::Description,
    gate::InFlight,
    subresources::proxy::Backends,
};
use crate::{
    descriptors::Budget,
    model::{
        Status,
        kind::{
            self,
            extension::{COMPONENT_STATUS, POLICY_STATS},
        },
    },
    policy::library::{Info, Library},
    registry::{Kinds, Registry},
};

/// The warning of kube-apiserver since 1.33.
const ENDPOINTS_DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
/// How many snapshots can be sent at a time. Each keeps its objects in memory until it is sent.
const SNAPSHOTS_MAX: usize = 2;

/// Reads the log of a container, by the pod's uid and its name, after skipping so many lines. `None` if the container does
/// not run here.
pub type Logs = Arc<dyn Fn(&str, &str, u64) -> Option<Log> + Send + Sync>;

/// A part of a container's log.
pub struct Log {
    /// When each line was written, and the line; oldest first.
    pub lines: Vec<(Timestamp, String)>,
    /// How many lines the pod has written so far. The next part begins there.
    pub written: u64,
}

/// Gives the metrics of the process, as text.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Settings of the API server.
pub struct Options {
    /// Finds out who sent a request.
    pub authenticator: Authenticator,
    /// The address that clients use, `127.0.0.1:6443`.
    pub server: String,
    /// How many requests are served at a time.
    pub limits: gate::Limits,
    /// The text of `/metrics`.
    pub metrics: MetricsText,
    /// The policies that are loaded.
    pub policies: [Arc<Library>; 2],
    /// Where connections to pods come from.
    pub descriptors: Budget,
}

/// The state of the API server.
pub struct Api {
    /// The objects of the cluster.
    pub registry: Arc<Registry>,
    /// True once everything runs. `/readyz` reports it.
    pub ready: channel::Receiver<bool>,
    /// Ends all watches when it is cancelled.
    pub stop: CancellationToken,
    /// Reads the logs of containers.
    pub logs: Logs,
    /// Finds out who sent a request.
    pub authenticator: Authenticator,
    /// The address that clients use, `127.0.0.1:6443`.
    pub server: String,
    pages: pages::Pages,
    openapi: openapi::OpenApi,
    in_flight: InFlight,
    bodies: Bodies,
    snapshots: Arc<Semaphore>,
    metrics: MetricsText,
    policies: [Arc<Library>; 2],
    backends: Backends,
}

impl Api {
    /// A new API server.
    pub fn new(
        registry: Arc<Registry>,
        ready: channel::Receiver<bool>,
        stop: CancellationToken,
        logs: Logs,
        options: Options,
    ) -> Self {
        let Options { authenticator, server, limits, metrics, policies, descriptors } = options;
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
            metrics,
            policies,
            backends: Backends::new(descriptors),
        }
    }
}

impl Api {
    /// The kinds that are served now.
    pub(crate) fn kinds(&self) -> Arc<Kinds> {
        self.registry.kinds()
    }
}

/// The router of the API server, with all its paths.
pub fn router(api: Arc<Api>) -> Router {
    let paths = Router::new()
        .merge(documents::router())
        .merge(snapshot::router())
        .merge(health::checks())
        .route("/metrics", get(metrics))
        .fallback(resource)
        .layer(middleware::from_fn_with_state(api.clone(), gate::pass))
        .merge(health::summaries())
        .route("/version", get(documents::version))
        .with_state(api);
    Router::new()
        .fallback_service(MapRequest::new(paths, without_slash_at_the_end))
        .layer(middleware::from_fn(panics::contain))
}

/// Removes slashes at the end of the path: some clients ask for `/version/` and `/apis/`. Paths below `proxy` belong to
/// the pod and stay as they are.
fn without_slash_at_the_end(mut request: HttpRequest) -> HttpRequest {
    let path = request.uri().path();
    let shorter = path.trim_end_matches('/');
    if !shorter.is_empty() && shorter.len() < path.len() && !path.contains("/proxy/") {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = format!("{shorter}{query}").parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

async fn metrics(State(api): State<Arc<Api>>) -> String {
    (api.metrics)()
}

async fn resource(State(api): State<Arc<Api>>, request: HttpRequest) -> Result<Response, Status> {
    let (parts, body) = request.into_parts();
    let described =
        parts.extensions.get::<Arc<Description>>().zip(parts.extensions.get::<Caller>());
    let (description, caller) = described.ok_or_else(Status::unauthorized)?;
    if let Some((kind, resource)) = reviews::kind_of(&description.wanted) {
        let body = whole(body).await?;
        let review = reviews::Review {
            kind,
            namespace: &resource.namespace,
            method: &parts.method,
            headers: &parts.headers,
            body: &body,
            caller,
        };
        return reviews::serve(&api, &review);
    }
    let caller = caller.clone();
    let (description, target) = (description.clone(), description.target()?.clone());
    if description.is_proxied() {
        let request = HttpRequest::from_parts(parts, body);
        return subresources::proxy::serve(&api, &target, &description.proxied, request).await;
    }
    let request = request::Request {
        method: parts.method,
        target,
        query: description.query()?,
        headers: parts.headers,
        body: whole(body).await?,
        caller,
    };
    request.target.check_conversion()?;
    let mut response = match &request.target.subresource {
        Some(subresource) => subresources::serve(&api, &request, subresource).await?,
        None if *request.target.kind() == COMPONENT_STATUS => component_statuses::serve(&request)?,
        None if *request.target.kind() == POLICY_STATS => {
            let all: Vec<Info> = api.policies.iter().flat_map(|library| library.list()).collect();
            policy_stats::serve(&request, &all)?
        }
        None => resources::serve(&api, &request).await?,
    };
    if *request.target.kind() == kind::ENDPOINTS {
        answer::add_warnings(&mut response, &[ENDPOINTS_DEPRECATED.to_owned()]);
    }
    if let Some(warning) = request.target.deprecation() {
        answer::add_warnings(&mut response, &[warning]);
    }
    if *request.target.kind() == COMPONENT_STATUS {
        answer::add_warnings(&mut response, &[component_statuses::DEPRECATED.to_owned()]);
    }
    Ok(response)
}

/// Reads a body that [`gate`] has already received completely.
async fn whole(body: Body) -> Result<Bytes, Status> {
    let collected = body.collect().await;
    Ok(collected.map_err(|_broken| Status::bad_request("the request body ended early"))?.to_bytes())
}
