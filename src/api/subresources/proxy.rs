//! `pods/proxy` and `services/proxy`: HTTP to a pod through the API, as `kubectl get --raw` and `kubectl proxy` use it.
//!
//! [`serve`] finds the place where a pod really listens, sends the request there, and passes the answer on while it comes.
//! When the pod switches to another protocol (a WebSocket), the connection carries whatever both sides send. Rules and
//! words are kube-apiserver's (`ResourceLocation` of pods and Services, `UpgradeAwareHandler`).

mod connection;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use crate::{
    api::{
        Api,
        subresources::proxy::connection::{Permit, exchange, tls, unavailable, unreachable},
        target::Target,
        tls::Peer,
    },
    descriptors::{Budget, Purpose},
    http_server::{headers, transfers::Transfer},
    model::{
        LabelSelector, Object, ObjectKey, Status, kind,
        well_known::{BOUND_PORTS_ANNOTATION, SERVICE_NAME_LABEL},
    },
    registry::View,
};

/// Requests that are on their way to pods at once: each has a connection of its own.
const REQUESTS_MAX: usize = 256;
/// After how long a client that was one too many may try again.
const RETRY_SECONDS: u32 = 1;
/// Where a pod without ports is asked.
const PORT_DEFAULT: u16 = 80;

/// What concerns one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// The API server does not let pods speak for it to browsers.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// The requests that are on their way to pods.
pub(crate) struct Backends {
    places: Arc<Semaphore>,
    descriptors: Budget,
    tls: Arc<ClientConfig>,
}

impl Backends {
    pub(crate) fn new(descriptors: Budget) -> Self {
        Self { places: Arc::new(Semaphore::new(REQUESTS_MAX)), descriptors, tls: tls() }
    }

    fn permit(&self) -> Result<Permit, Status> {
        let refused = |why: &str| {
            let message = format!("{why}, please try again later");
            Status::too_many_requests(&message, RETRY_SECONDS)
        };
        let place = self.places.clone().try_acquire_owned();
        let _place = place.map_err(|_full| refused("too many requests to pods"))?;
        let descriptor = self.descriptors.take(Purpose::Connection, 1);
        let _descriptor = descriptor.ok_or_else(|| refused(&self.descriptors.reason()))?;
        Ok(Permit { _place, _descriptor })
    }
}

/// Answers a request about `pods/proxy` or `services/proxy`; `proxied` is the part of its path and query that is the
/// pod's, as it was sent.
pub(crate) async fn serve(
    api: &Api,
    target: &Target,
    proxied: &str,
    mut request: Request,
) -> Result<Response, Status> {
    let key = target.key()?;
    let view = api.registry.view();
    let place = match &key.kind {
        pods if *pods == kind::POD => place_of_pod(&view, &key)?,
        services if *services == kind::SERVICE => place_of_service(&view, &key)?,
        _ => return Err(Status::no_such_path()),
    };
    drop(view);
    let path = request.uri().path();
    let prefix = prefix(path, proxied).to_owned();
    let upgrade = upgrade_of(&request);
    if path == prefix
        && upgrade.is_none()
        && matches!(*request.method(), Method::GET | Method::HEAD)
    {
        // Relative references in the answer would lead elsewhere.
        let to = format!("{prefix}/{proxied}");
        return Ok((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response());
    }
    let permit = api.backends.permit()?;
    let transfer = request.extensions_mut().remove::<Arc<Transfer>>();
    let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let host = request.headers().get(header::HOST).cloned();
    let host = host.or_else(|| HeaderValue::from_str(request.uri().authority()?.as_str()).ok());
    let mut request = forwarded(request, proxied, host.clone())?;
    if let Some(protocol) = upgrade {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, protocol);
    }
    let tls = place.tls.then(|| api.backends.tls.clone());
    let mut answer = exchange(place.address, tls, request, permit).await?;
    if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(transfer)) = (client, transfer) else {
            return Err(unreachable("the pod switches to a protocol that nobody asked for"));
        };
        let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
        *response.headers_mut() = std::mem::take(answer.response.headers_mut());
        transfer.hand_over(Box::pin(answer.carry(client)));
        return Ok(response);
    }
    let mut response = answer.passed_on();
    let headers = response.headers_mut();
    remove_hop_by_hop(headers);
    CORS.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(location) = headers::text(headers, header::LOCATION) {
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let location = HeaderValue::from_str(&place.seen_from_outside(location, &prefix, host));
        if let Ok(location) = location {
            headers.insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

/// The protocol that a client wants to switch to.
fn upgrade_of(request: &Request) -> Option<HeaderValue> {
    let headers = request.headers();
    let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("upgrade"))
    });
    headers.get(header::UPGRADE).filter(|_| asks && request.version() == Version::HTTP_11).cloned()
}

/// The path up to `proxy`.
fn prefix<'a>(path: &'a str, proxied: &str) -> &'a str {
    let inner = proxied.split('?').next().unwrap_or_default();
    path.strip_suffix(inner).unwrap_or(path)
}

/// Where a port of a pod is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// By the pod's status.
    declared: SocketAddr,
    /// Where it listens.
    address: SocketAddr,
    /// Whether it is asked over TLS.
    tls: bool,
}

impl Place {
    fn of(pod: &Object, ip: IpAddr, port: u16) -> Self {
        let bound = pod.metadata.annotations.get(BOUND_PORTS_ANNOTATION);
        let bound: BTreeMap<String, u16> =
            bound.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let real = bound.get(&format!("{port}/TCP")).copied().unwrap_or(port);
        let (declared, address) = (SocketAddr::new(ip, port), SocketAddr::new(ip, real));
        Self { declared, address, tls: false }
    }

    /// A `Location` of the pod as its client can use it: a path of the pod becomes one below `prefix`.
    fn seen_from_outside(&self, location: &str, prefix: &str, host: &str) -> String {
        let (authority, path) = match location.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
                let (authority, _) =
                    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                (authority, &rest[authority.len()..])
            }
            _ => ("", location),
        };
        let own = [self.declared.to_string(), self.address.to_string()];
        let other =
            !authority.is_empty() && authority != host && !own.iter().any(|a| a == authority);
        if other || !path.starts_with('/') {
            return location.to_owned();
        }
        let before = if authority == host { &location[..location.len() - path.len()] } else { "" };
        let prefix = if path.starts_with(prefix) { "" } else { prefix };
        format!("{before}{prefix}{path}")
    }
}

/// `[SCHEME:]NAME[:PORT]`.
struct Backend<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Backend<'a> {
    fn of(key: &'a ObjectKey) -> Result<Self, Status> {
        let parts: Vec<&str> = key.name.split(':').collect();
        let backend = match parts.as_slice() {
            [name] => Some(Self { scheme: "", name, port: "" }),
            [name, port] => Some(Self { scheme: "", name, port }),
            [scheme, name, port] => Some(Self { scheme, name, port }),
            _ => None,
        };
        let backend = backend.filter(|backend| {
            !backend.name.is_empty() && matches!(backend.scheme, "" | "http" | "https")
        });
        backend.ok_or_else(|| {
            let what = &key.kind.singular;
            Status::bad_request(format!("invalid {what} request {:?}", key.name))
        })
    }

    fn object<'view>(
        &self,
        view: &'view View,
        key: &ObjectKey,
    ) -> Result<&'view Arc<Object>, Status> {
        let key = ObjectKey::new(&key.kind, &*key.namespace, self.name);
        view.get(&key).ok_or_else(|| Status::not_found(&key))
    }

    fn is_tls(&self) -> bool {
        self.scheme == "https"
    }
}

/// The first address of a pod, if it has one.
fn address_of(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn place_of_pod(view: &View, key: &ObjectKey) -> Result<Place, Status> {
    let backend = Backend::of(key)?;
    let object = backend.object(view, key)?;
    let pod: Pod = object.parse()?;
    let ip = address_of(&pod).ok_or_else(|| Status::bad_request("address not allowed"))?;
    let mut declared =
        pod.spec.iter().flat_map(|spec| &spec.containers).filter_map(|c| c.ports.as_ref()?.first());
    let port = match backend.port {
        "" => declared.next().map_or(Some(PORT_DEFAULT), |p| p.container_port.try_into().ok()),
        text => text.parse().ok(),
    };
    let unknown = || unreachable(&format!("dial tcp: lookup tcp/{}: unknown port", backend.port));
    Ok(Place { tls: backend.is_tls(), ..Place::of(object, ip, port.ok_or_else(unknown)?) })
}

/// A ready endpoint of a Service that is a pod, at random.
fn place_of_service(view: &View, key: &ObjectKey) -> Result<Place, Status> {
    let backend = Backend::of(key)?;
    let service: Service = backend.object(view, key)?.parse()?;
    let name = match backend.port.parse::<i64>() {
        Err(_name) => backend.port.to_owned(),
        Ok(number) => {
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let mut ports = ports.filter(|port| i64::from(port.port) == number);
            let port = ports.next().ok_or_else(|| {
                let name = backend.name;
                unavailable(format!("no service port {number} found for service {name:?}"))
            })?;
            port.name.clone().unwrap_or_default()
        }
    };
    let mut places = ready_places(view, key, backend.name, &name);
    places.shuffle(&mut rand::rng());
    let place = places
        .pop()
        .ok_or_else(|| unavailable(format!("no endpoints available for service {:?}", key.name)))?;
    Ok(Place { tls: backend.is_tls(), ..place })
}

fn ready_places(view: &View, key: &ObjectKey, service: &str, port: &str) -> Vec<Place> {
    let of_service = LabelSelector::from_map(&BTreeMap::from([(
        SERVICE_NAME_LABEL.to_owned(),
        service.to_owned(),
    )]));
    let slices = view.matching(&kind::ENDPOINT_SLICE, &key.namespace, &of_service);
    let slices = slices.filter_map(|slice| slice.parse::<EndpointSlice>().ok());
    let mut places = Vec::new();
    for slice in slices {
        let ports: Vec<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter(|of| of.name.as_deref().unwrap_or_default() == port)
            .filter_map(|of| of.port?.try_into().ok())
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let target =
                endpoint.target_ref.as_ref().filter(|of| of.kind.as_deref() == Some("Pod"));
            let pod = target
                .and_then(|target| target.name.as_deref())
                .and_then(|name| view.get(&ObjectKey::new(&kind::POD, &*key.namespace, name)));
            let ip = endpoint.addresses.as_slice().choose(&mut rand::rng());
            if let (true, Some(pod), Some(Ok(ip))) = (ready, pod, ip.map(|ip| ip.parse())) {
                places.extend(ports.iter().map(|port| Place::of(pod, ip, *port)));
            }
        }
    }
    places
}

/// The request as the pod gets it: nothing of who asks, which is the API server's business.
fn forwarded(
    request: Request,
    proxied: &str,
    host: Option<HeaderValue>,
) -> Result<Request, Status> {
    let (mut parts, body) = request.into_parts();
    let outer = HeaderValue::from_str(parts.uri.path()).ok();
    let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.address);
    let slash = if proxied.starts_with('/') { "" } else { "/" };
    parts.uri = format!("{slash}{proxied}")
        .parse()
        .map_err(|_uri| Status::bad_request(format!("{proxied:?} is no path")))?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let headers = &mut parts.headers;
    remove_hop_by_hop(headers);
    headers.remove(header::AUTHORIZATION);
    let impersonates = |name: &&HeaderName| name.as_str().starts_with("impersonate-");
    let impersonation: Vec<HeaderName> = headers.keys().filter(impersonates).cloned().collect();
    impersonation.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    if let Some(outer) = outer {
        headers.insert(FORWARDED_URI, outer);
    }
    if let Some(peer) = peer {
        let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut all: Vec<String> = before.map(str::to_owned).collect();
        all.push(peer.ip().to_string());
        if let Ok(all) = HeaderValue::from_str(&all.join(", ")) {
            headers.insert(FORWARDED_FOR, all);
        }
    }
    Ok(Request::from_parts(parts, body))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = named
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn what_clients_switch_to() {
        for (connection, upgrade, version, expected) in [
            ("Upgrade", "websocket", Version::HTTP_11, true),
            ("keep-alive, upgrade", "SPDY/3.1", Version::HTTP_11, true),
            ("keep-alive", "websocket", Version::HTTP_11, false),
            ("Upgrade", "", Version::HTTP_11, false),
            ("Upgrade", "websocket", Version::HTTP_2, false),
        ] {
            let mut request = Request::new(Body::empty());
            *request.version_mut() = version;
            request.headers_mut().insert("connection", connection.parse().unwrap());
            if !upgrade.is_empty() {
                request.headers_mut().insert("upgrade", upgrade.parse().unwrap());
            }
            let found = upgrade_of(&request);
            assert_eq!(found, expected.then(|| upgrade.parse().unwrap()), "{connection} {upgrade}");
        }
    }

    #[test]
    fn names_are_taken_apart() {
        let check = |name: &str, expected: Result<[&str; 3], &str>| {
            let key = ObjectKey::new(&kind::SERVICE, "a", name);
            let found = Backend::of(&key).map(|b| [b.scheme, b.name, b.port]);
            assert_eq!(found.map_err(|status| status.message), expected.map_err(str::to_owned));
        };
        check("web", Ok(["", "web", ""]));
        check("web:", Ok(["", "web", ""]));
        check("web:http", Ok(["", "web", "http"]));
        check("https:web:443", Ok(["https", "web", "443"]));
        check("http:web:", Ok(["http", "web", ""]));
        check("ftp:web:21", Err("invalid service request \"ftp:web:21\""));
        check(":80", Err("invalid service request \":80\""));
        check("a:b:c:d", Err("invalid service request \"a:b:c:d\""));
    }

    #[test]
    fn locations_are_seen_from_outside() {
        let place = Place {
            declared: "127.0.0.9:80".parse().unwrap(),
            address: "127.0.0.9:41234".parse().unwrap(),
            tls: false,
        };
        let prefix = "/api/v1/namespaces/a/pods/b/proxy";
        let check = |location: &str, expected: &str| {
            let seen = place.seen_from_outside(location, prefix, "localhost:6443");
            assert_eq!(seen, expected, "{location}");
        };
        check("/x?y=//z#f", &format!("{prefix}/x?y=//z#f"));
        check("x/y", "x/y");
        check("?a", "?a");
        check("http://127.0.0.9:80/x", &format!("{prefix}/x"));
        check("http://127.0.0.9:41234/x", &format!("{prefix}/x"));
        check("//127.0.0.9:80/x", &format!("{prefix}/x"));
        check("https://localhost:6443/x", &format!("https://localhost:6443{prefix}/x"));
        check("http://example.com/x", "http://example.com/x");
        check(&format!("{prefix}/x"), &format!("{prefix}/x"));
    }

    #[test]
    fn pods_get_what_concerns_them() {
        let request = Request::builder()
            .uri("/api/v1/namespaces/a/pods/b/proxy/x%2F?y=1")
            .version(Version::HTTP_2)
            .header("authorization", "Bearer secret")
            .header("impersonate-user", "ann")
            .header("impersonate-extra-scopes", "all")
            .header("connection", "close, x-private")
            .header("x-private", "1")
            .header("upgrade", "websocket")
            .header("te", "trailers")
            .header("x-public", "2")
            .body(Body::empty())
            .unwrap();
        let sent = forwarded(request, "/x%2F?y=1", Some(HeaderValue::from_static("h:1"))).unwrap();
        assert_eq!(
            (sent.uri().to_string(), sent.version()),
            ("/x%2F?y=1".into(), Version::HTTP_11)
        );
        let headers: BTreeMap<&str, &str> = sent
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let uri = "/api/v1/namespaces/a/pods/b/proxy/x%2F";
        let expected = [("host", "h:1"), ("x-forwarded-uri", uri), ("x-public", "2")];
        assert_eq!(headers, BTreeMap::from(expected));
        assert_eq!(prefix(uri, "/x%2F?y=1"), "/api/v1/namespaces/a/pods/b/proxy");
    }
}
