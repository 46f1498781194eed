//! The middleware that every request passes before its handler: authentication, impersonation, authorization. Then the
//! body is read, and only then the request counts among those that are being served. The audit log gets a line about it.
//!
//! Audit lines (target `audit`, level debug) say who did what, and the result. They never contain a body, a query or a token.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    api::{
        Api,
        authentication::{Caller, impersonation::impersonated},
        authorization::{Attributes, Resource, To, authorize},
        bodies::Encoding,
        description::Description,
        pretty, reviews,
        tls::Peer,
    },
    http_server::{
        ANSWER_MAX, headers,
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
    /// Watches, followed logs and other streams. They do not count as reads: each costs only a task and two positions.
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

    fn permit(&self, description: &Description) -> Result<OwnedSemaphorePermit, Status> {
        let verb = description.wanted.verb.as_str();
        let reads = matches!(verb, "get" | "list" | "watch" | "head" | "options");
        let permits = match () {
            () if description.is_stream() => &self.streams,
            () if reads => &self.reads,
            () => &self.writes,
        };
        permits.clone().try_acquire_owned().map_err(|_full| {
            Status::too_many_requests("Too many requests, please try again later.", RETRY_SECONDS)
        })
    }
}

/// The middleware. A handler behind it finds the [`Caller`] and the [`Description`] in the request's extensions.
pub(crate) async fn pass(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let description =
        Description::of(&api.kinds(), request.method(), request.uri(), request.headers());
    let description = Arc::new(description);
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let transfer = request.extensions_mut().remove::<Arc<Transfer>>();
    if let Some(transfer) = transfer.clone().filter(|_| description.is_proxied()) {
        // The client and the pod may agree on another protocol.
        request.extensions_mut().insert(transfer);
    }
    let mut entry = Entry { user: None, acts_as: None, agent: agent(request.headers()) };
    let stream = description.is_stream();
    let gzip = !stream && sending::accepts_gzip(request.headers());
    let served = match description.timeout() {
        Err(status) => Err(status),
        Ok(timeout) => {
            let served = async {
                let headers = request.headers();
                let caller = entry.admit(&api, &peer, headers, &description)?;
                let (request, permit) = admit(&api, &peer, &description, caller, request).await?;
                let work = transfer.as_ref().map(|transfer| transfer.work());
                Ok((next.run(request).await, Some(permit), work))
            };
            in_time(started, timeout, served).await
        }
    };
    let (response, permit, work) =
        served.unwrap_or_else(|status| (status.into_response(), None, None));
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let whole = !stream || failed && !description.is_proxied();
    let response = match description.pretty && whole {
        true => pretty::laid_out(response).await,
        false => response,
    };
    entry.write(&description.wanted, &peer, &response, started);
    if let Some(transfer) = transfer.as_ref().filter(|_| !stream) {
        transfer.end_in(ANSWER_MAX);
    }
    send(response, gzip, Held { _permit: permit, _work: work, transfer })
}

/// Stops waiting for an answer when its time is over.
///
/// # Errors
/// 504, in kube-apiserver's words.
async fn in_time<T>(
    started: Instant,
    timeout: Option<Duration>,
    served: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(end) = timeout.and_then(|timeout| started.checked_add(timeout)) else {
        return served.await;
    };
    let over = || Status::timeout("Timeout: request did not complete within the allotted timeout");
    if Instant::now() >= end {
        return Err(over());
    }
    timeout_at(end, served).await.unwrap_or_else(|_late| Err(over()))
}

/// Reads the body of an allowed request, then counts the request among those that are being served. The body of a request
/// that is forwarded to a pod is not read here.
async fn admit(
    api: &Api,
    peer: &Peer,
    description: &Arc<Description>,
    caller: Caller,
    request: Request,
) -> Result<(Request, OwnedSemaphorePermit), Status> {
    let (mut parts, mut body) = request.into_parts();
    // Do not wait for the body if the path is unknown.
    if !parts.method.is_safe() && reviews::kind_of(&description.wanted).is_none() {
        description.target()?;
    }
    if !description.is_proxied() {
        let encoding = Encoding::of(&parts.headers)?;
        let source = peer.address.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
        let read = api.bodies.read(source, body).await?;
        body = api.bodies.unpack(encoding, read).await?.into();
    }
    let permit = api.in_flight.permit(description)?;
    parts.extensions.insert(caller);
    parts.extensions.insert(description.clone());
    Ok((Request::from_parts(parts, body), permit))
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers::text(headers, header::USER_AGENT);
    agent.unwrap_or_default().to_owned()
}

/// The audit log's entry about a request, without its verb and resource.
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
        description: &Description,
    ) -> Result<Caller, Status> {
        let user = api.authenticator.caller(peer.certificate.as_ref(), headers);
        let user = user.ok_or_else(Status::unauthorized)?;
        let mut caller = self.user.insert(user).clone();
        if let Some(other) = impersonated(headers)? {
            caller = self.acts_as.insert(other).clone();
        }
        authorize(&caller, &description.wanted)?;
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
    use crate::registry::Kinds;

    #[test]
    fn bounds_are_apart() {
        let in_flight = InFlight::new(Limits { reads: 1, writes: 1, streams: 1 });
        let permit = |method: Method, uri: &str| {
            let uri = uri.parse().unwrap();
            in_flight.permit(&Description::of(&Kinds::built_in(), &method, &uri, &HeaderMap::new()))
        };
        let read = permit(Method::GET, "/api/v1/pods").unwrap();
        let refused = permit(Method::GET, "/apis").unwrap_err();
        assert_eq!((refused.code, refused.retry_after_seconds), (429, Some(1)));
        let write = permit(Method::POST, "/api/v1/nodes").unwrap();
        assert_eq!(permit(Method::DELETE, "/api/v1/nodes/a").unwrap_err().code, 429);
        let watch = permit(Method::GET, "/api/v1/pods?wat%63h=1").unwrap();
        for path in [
            "/api/v1/namespaces/a/pods/a/log",
            "/api/v1/namespaces/a/pods/a/proxy/x",
            "/apis/snowglobe.dev/v1alpha1/snapshot",
        ] {
            assert_eq!(permit(Method::GET, path).unwrap_err().code, 429, "{path}");
        }
        drop((read, write, watch));
        drop(permit(Method::GET, "/apis").unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_come_in_time_or_not_at_all() {
        let after = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(seconds)
        };
        let timeout = |seconds| Some(Duration::from_secs(seconds));
        let started = Instant::now();
        assert_eq!(in_time(started, timeout(2), after(1)).await, Ok(1));
        assert_eq!(in_time(started, None, after(70)).await, Ok(70));
        let late = in_time(Instant::now(), timeout(2), after(3)).await.unwrap_err();
        let message = "Timeout: request did not complete within the allotted timeout";
        assert_eq!((late.code, late.reason, late.message.as_str()), (504, "Timeout", message));
        // A time that is over before anything begins.
        assert_eq!(in_time(started, timeout(1), async { Ok(0) }).await.unwrap_err().code, 504);
    }
}
