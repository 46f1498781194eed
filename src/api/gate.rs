//! What every request passes on its way to a handler: authentication, impersonation, authorization; then its body is
//! read, and only now does it count among the requests at once. The audit log gets a line about it.
//!
//! Audit lines (target `audit`, level debug) say who did what, with which outcome; never a body, a query or a token.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    api::{
        Api, Caller,
        authentication::impersonation::impersonated,
        authorization::{Attributes, Resource, To, authorize},
        bodies::Encoding,
        not_served,
        request::{Target, is_true},
        reviews,
        tls::Peer,
    },
    http_server::{
        ANSWER_MAX,
        sending::{self, Held, send},
        transfers::Transfer,
    },
    model::Status,
};

/// After how long a refused client may try again.
const RETRY_SECONDS: u32 = 1;

/// How many requests may be served at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Reads (`--max-requests-inflight`).
    pub reads: usize,
    /// Writes (`--max-mutating-requests-inflight`).
    pub writes: usize,
    /// Watches, followed logs and other streams, which count among neither: each costs a task and two positions.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reads: 400, writes: 200, streams: 10_000 }
    }
}

/// The requests that are being served.
pub(crate) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: Limits) -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self { reads: of(limits.reads), writes: of(limits.writes), streams: of(limits.streams) }
    }

    fn permit(&self, wanted: &Attributes) -> Result<OwnedSemaphorePermit, Status> {
        let reads = matches!(wanted.verb.as_str(), "get" | "list" | "watch" | "head" | "options");
        let permits = match () {
            () if is_stream(wanted) => &self.streams,
            () if reads => &self.reads,
            () => &self.writes,
        };
        permits.clone().try_acquire_owned().map_err(|_full| {
            Status::too_many_requests("Too many requests, please try again later.", RETRY_SECONDS)
        })
    }
}

/// Whether the answer goes on as long as the client likes.
fn is_stream(wanted: &Attributes) -> bool {
    let To::Resource(Resource { group, resource, subresource, .. }) = &wanted.to else {
        return false;
    };
    wanted.verb == "watch"
        || matches!(subresource.as_str(), "log" | "attach" | "exec" | "portforward")
        || (group == "snowglobe.dev" && resource == "snapshot")
}

/// The middleware. A handler behind it finds the [`Caller`] and the [`Attributes`] in the request's extensions.
pub(crate) async fn pass(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let wanted = attributes_of(&request);
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let transfer = request.extensions_mut().remove::<Arc<Transfer>>();
    let mut entry = Entry { user: None, acts_as: None, agent: agent(request.headers()) };
    let stream = is_stream(&wanted);
    let gzip = !stream && sending::accepts_gzip(request.headers());
    let admitted = match entry.admit(&api, &peer, request.headers(), &wanted) {
        Ok(caller) => admit(&api, &peer, &wanted, caller, request).await,
        Err(status) => Err(status),
    };
    let (response, permit, work) = match admitted {
        Err(status) => (status.into_response(), None, None),
        Ok((request, permit)) => {
            let work = transfer.as_ref().map(|transfer| transfer.work());
            (next.run(request).await, Some(permit), work)
        }
    };
    entry.write(&wanted, &peer, &response, started);
    if let Some(transfer) = transfer.as_ref().filter(|_| !stream) {
        transfer.end_in(ANSWER_MAX);
    }
    send(response, gzip, Held { _permit: permit, _work: work, transfer })
}

/// Reads the body of a request that is allowed, and gives it its place among those being served.
async fn admit(
    api: &Api,
    peer: &Peer,
    wanted: &Attributes,
    caller: Caller,
    request: Request,
) -> Result<(Request, OwnedSemaphorePermit), Status> {
    let (mut parts, body) = request.into_parts();
    // There is no need to wait for the body of a write to nothing.
    if !parts.method.is_safe() && !is_known(parts.uri.path(), wanted) {
        return Err(not_served(parts.uri.path()));
    }
    let encoding = Encoding::of(&parts.headers)?;
    let source = peer.address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    let body = api.bodies.read(source, body).await?;
    let body = api.bodies.unpack(encoding, body).await?;
    let permit = api.in_flight.permit(wanted)?;
    parts.extensions.insert(caller);
    parts.extensions.insert(Arc::new(wanted.clone()));
    Ok((Request::from_parts(parts, body.into()), permit))
}

/// Whether a path names something that can be written.
fn is_known(path: &str, wanted: &Attributes) -> bool {
    let is_review =
        matches!(&wanted.to, To::Resource(resource) if reviews::kind_of(resource).is_some());
    is_review || Target::parse(path).is_some()
}

fn attributes_of(request: &Request) -> Attributes {
    let query = request.uri().query().unwrap_or_default();
    let watches = query.split('&').filter_map(|pair| pair.strip_prefix("watch=")).any(is_true);
    Attributes::of_request(request.method(), request.uri().path(), watches)
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.unwrap_or_default().to_owned()
}

/// What the audit log is told about a request besides what it wants.
struct Entry {
    user: Option<Caller>,
    acts_as: Option<Caller>,
    agent: String,
}

impl Entry {
    fn admit(
        &mut self,
        api: &Api,
        peer: &Peer,
        headers: &HeaderMap,
        wanted: &Attributes,
    ) -> Result<Caller, Status> {
        let user = api.authenticator.caller(peer.certificate.as_ref(), headers);
        let user = user.ok_or_else(Status::unauthorized)?;
        let mut caller = self.user.insert(user).clone();
        if let Some(other) = impersonated(headers)? {
            caller = self.acts_as.insert(other).clone();
        }
        authorize(&caller, wanted)?;
        Ok(caller)
    }

    fn write(&self, wanted: &Attributes, peer: &Peer, response: &Response, started: Instant) {
        if !tracing::enabled!(target: "audit", tracing::Level::DEBUG) {
            return;
        }
        let name = |caller: &Option<Caller>| {
            caller.as_ref().map(|caller| caller.name.to_string()).unwrap_or_default()
        };
        let (resource, path) = match &wanted.to {
            To::Resource(resource) => (resource.clone(), ""),
            To::Path(path) => (Resource::default(), path.as_str()),
        };
        tracing::debug!(
            target: "audit",
            user = name(&self.user),
            acts_as = name(&self.acts_as),
            verb = wanted.verb,
            group = resource.group,
            resource = resource.resource,
            subresource = resource.subresource,
            namespace = resource.namespace,
            name = resource.name,
            path,
            code = response.status().as_u16(),
            latency_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            source = peer.address.map(|address| address.to_string()).unwrap_or_default(),
            user_agent = self.agent,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn bounds_are_apart() {
        let in_flight = InFlight::new(Limits { reads: 1, writes: 1, streams: 1 });
        let permit = |method: Method, path: &str, watches| {
            in_flight.permit(&Attributes::of_request(&method, path, watches))
        };
        let read = permit(Method::GET, "/api/v1/pods", false).unwrap();
        let refused = permit(Method::GET, "/apis", false).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_seconds), (429, Some(1)));
        let write = permit(Method::POST, "/api/v1/nodes", false).unwrap();
        assert_eq!(permit(Method::DELETE, "/api/v1/nodes/a", false).unwrap_err().code, 429);
        let watch = permit(Method::GET, "/api/v1/pods", true).unwrap();
        for path in ["/api/v1/namespaces/a/pods/a/log", "/apis/snowglobe.dev/v1alpha1/snapshot"] {
            assert_eq!(permit(Method::GET, path, false).unwrap_err().code, 429, "{path}");
        }
        drop((read, write, watch));
        drop(permit(Method::GET, "/apis", false).unwrap());
    }
}
