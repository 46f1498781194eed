//! Tests of the dashboard: who may look, what is shown, when news is sent.

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::{
    dashboard::views::{EndpointTraffic, RouteTraffic},
    model::{Kind, Object, ObjectKey, kind, object},
    registry::View,
    route::{NamespacedName, Protocol, RouteName},
};

const TOKEN: &str = "0123456789abcdef";
const OURS: &str = "127.0.0.1:6480";

/// A cluster that tests change, and the dashboard that looks at it.
struct Bench {
    view: Arc<Mutex<View>>,
    picks: Arc<Mutex<u64>>,
    shutdown: CancellationToken,
    router: Router,
}

impl Bench {
    fn new() -> Self {
        let view = Arc::new(Mutex::new(View::for_tests()));
        let picks = Arc::<Mutex<u64>>::default();
        let shutdown = CancellationToken::new();
        let mut bench = Self { view, picks: picks.clone(), shutdown, router: Router::new() };
        bench.look_at(move || vec![web_traffic("127.244.0.2:8080", *picks.lock())]);
        bench
    }

    /// Makes the dashboard anew, with these counters.
    fn look_at(&mut self, traffic: impl Fn() -> Vec<RouteTraffic> + Send + Sync + 'static) {
        let options = Options {
            listen: "192.0.2.7:6480".parse().unwrap(),
            allowed_hosts: vec!["Globe.Example".to_owned(), "2001:db8::1".to_owned()],
            token: TOKEN.to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            kubeconfig: String::new(),
        };
        let view = self.view.clone();
        let sources = Sources {
            view: Arc::new(move || view.lock().clone()),
            traffic: Arc::new(traffic),
            shutdown: self.shutdown.clone(),
        };
        self.router = router(options, sources);
    }

    async fn send(&self, request: &str, headers: &[(&str, &str)]) -> Response {
        let (method, uri) = request.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    /// A request with everything that it needs.
    async fn read(&self, uri: &str) -> Response {
        let bearer = format!("Bearer {TOKEN}");
        self.send(&format!("GET {uri}"), &[("host", OURS), ("authorization", &bearer)]).await
    }

    fn put(&self, kind: &Kind, document: Value) {
        put(&mut self.view.lock(), kind, document);
    }
}

fn put(view: &mut View, kind: &Kind, document: Value) {
    let metadata = &document["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let key = ObjectKey::new(kind, text("namespace"), text("name"));
    view.revision += 1;
    let stored = object::to_stored(kind, document);
    view.insert(&Arc::new(Object::from_stored(key, view.revision, stored).unwrap()));
}

fn web_traffic(address: &str, picks: u64) -> RouteTraffic {
    let service = NamespacedName { namespace: "shop".into(), name: "web".into() };
    RouteTraffic {
        route: RouteName { service, port: 80, protocol: Protocol::Tcp },
        policy: Some("rr".to_owned()),
        endpoints: vec![EndpointTraffic {
            address: address.parse().unwrap(),
            active: 1,
            failures: 0,
            latency_us: 250,
            picks,
        }],
    }
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn only_our_own_names_are_answered() {
    let bench = Bench::new();
    for (host, expected) in [
        ("localhost:6480", StatusCode::UNAUTHORIZED),
        ("LOCALHOST", StatusCode::UNAUTHORIZED),
        ("127.0.0.1:8080", StatusCode::UNAUTHORIZED),
        ("[::1]:6480", StatusCode::UNAUTHORIZED),
        ("192.0.2.7:6480", StatusCode::UNAUTHORIZED),
        ("globe.example", StatusCode::UNAUTHORIZED),
        ("[2001:db8::1]:6480", StatusCode::UNAUTHORIZED),
        ("evil.example:6480", StatusCode::FORBIDDEN),
        ("localhost.evil.example", StatusCode::FORBIDDEN),
        ("evil@localhost", StatusCode::FORBIDDEN),
        ("127.0.0.2:6480", StatusCode::UNAUTHORIZED),
        ("not a host", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
    ] {
        let response = bench.send("GET /", &[("host", host)]).await;
        assert_eq!(response.status(), expected, "{host}");
    }
    assert_eq!(bench.send("GET /", &[]).await.status(), StatusCode::FORBIDDEN);
    let two = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(bench.send("GET /", &two).await.status(), StatusCode::FORBIDDEN);
    let absolute = bench.send("GET http://evil.example/", &[("host", "localhost")]).await;
    assert_eq!(absolute.status(), StatusCode::FORBIDDEN);
    let refused = text(bench.send("GET /", &[("host", "evil.example")]).await).await;
    assert!(refused.contains("'evil.example'") && refused.contains("--allowed-hosts"), "{refused}");
}

#[tokio::test]
async fn the_token_becomes_a_cookie() {
    let bench = Bench::new();
    let welcome = bench.send(&format!("GET /?token={TOKEN}"), &[("host", OURS)]).await;
    assert_eq!(welcome.status(), StatusCode::SEE_OTHER);
    assert_eq!(welcome.headers()[header::LOCATION], "/");
    let cookie = welcome.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("snowglobe_6480="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    assert!(!cookie.contains(TOKEN), "the cookie gives the token away");

    let pair = cookie.split(';').next().unwrap();
    let several = format!("other=1; {pair}");
    let page = bench.send("GET /", &[("host", OURS), ("cookie", &several)]).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let stale = bench.send("GET /?token=old", &[("host", OURS), ("cookie", pair)]).await;
    assert_eq!(stale.status(), StatusCode::SEE_OTHER);
    assert!(!stale.headers().contains_key(header::SET_COOKIE));
    let elsewhere = bench.send("GET /", &[("host", "127.0.0.1:9999"), ("cookie", pair)]).await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_session_nothing_is_told() {
    let bench = Bench::new();
    for uri in ["/", "/?token=wrong", "/?token=", "/app.js", "/api/state", "/api/stream", "/none"] {
        let response = bench.send(&format!("GET {uri}"), &[("host", OURS)]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{uri}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert!(!response.headers().contains_key(header::REFRESH));
    }
    let page = text(bench.send("GET /", &[("host", OURS)]).await).await;
    assert!(page.contains("snowglobe up") && page.contains("/?token="), "{page}");
    let sheet = bench.send("GET /style.css", &[("host", OURS)]).await;
    assert_eq!(sheet.status(), StatusCode::OK);
    let forged = [("host", OURS), ("cookie", "snowglobe_6480=0123")];
    assert_eq!(bench.send("GET /", &forged).await.status(), StatusCode::UNAUTHORIZED);
    // A link on another site: the Strict cookie was not sent, so the browser is asked to come again by itself.
    let led = bench.send("GET /", &[("host", OURS), ("sec-fetch-site", "cross-site")]).await;
    assert_eq!(led.headers()[header::REFRESH], "0; url=/");
}

#[tokio::test]
async fn other_sites_pages_are_refused() {
    let bench = Bench::new();
    let bearer = format!("Bearer {TOKEN}");
    for (request, name, value, expected) in [
        ("POST /", "origin", "http://evil.example", StatusCode::FORBIDDEN),
        ("POST /", "origin", "null", StatusCode::FORBIDDEN),
        ("POST /", "origin", "http://127.0.0.1:3000", StatusCode::FORBIDDEN),
        ("POST /", "sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("POST /", "origin", "http://127.0.0.1:6480", StatusCode::METHOD_NOT_ALLOWED),
        ("DELETE /api/state", "sec-fetch-site", "same-origin", StatusCode::METHOD_NOT_ALLOWED),
        ("GET /api/stream", "sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("GET /api/state", "sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("GET /api/state", "sec-fetch-site", "same-origin", StatusCode::OK),
        ("GET /api/state", "sec-fetch-site", "none", StatusCode::OK),
        ("GET /", "sec-fetch-site", "cross-site", StatusCode::OK),
    ] {
        let headers = [("host", OURS), ("authorization", &*bearer), (name, value)];
        assert_eq!(
            bench.send(request, &headers).await.status(),
            expected,
            "{request} {name} {value}"
        );
    }
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let bench = Bench::new();
    for (uri, host) in [("/", OURS), ("/style.css", OURS), ("/none", OURS), ("/", "evil.example")] {
        let response = bench.send(&format!("GET {uri}"), &[("host", host)]).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert!(headers.contains_key(header::CACHE_CONTROL), "{uri}");
    }
}

#[tokio::test]
async fn files_have_types_and_are_sent_once() {
    let bench = Bench::new();
    for (uri, expected) in [
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/vendor/preact/preact.js", "text/javascript; charset=utf-8"),
        ("/vendor/preact/LICENSE", "text/plain; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let response = bench.read(uri).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], expected, "{uri}");
        let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("host", OURS), ("authorization", &*bearer), ("if-none-match", &*tag)];
        let again = bench.send(&format!("GET {uri}"), &headers).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{uri}");
    }
    for uri in ["/none.js", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/api/none"] {
        assert_eq!(bench.read(uri).await.status(), StatusCode::NOT_FOUND, "{uri}");
    }
}

/// The content security policy would block it, and nobody would notice before looking.
#[test]
fn the_page_asks_no_other_host_and_has_nothing_inline() {
    for (name, body) in files::all() {
        if name.starts_with("vendor/") || name.ends_with(".svg") {
            continue;
        }
        // The one URL on the page is an example of what the user shall type.
        let body = body.replace("`curl http://$", "").replace("curl http://CLUSTER-IP", "");
        for foreign in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!body.contains(foreign), "{name} refers to {foreign}");
        }
        for inline in ["<style", "<script>", " onclick=", "style=\"", "style='", "javascript:"] {
            assert!(!body.contains(inline), "{name} has {inline}");
        }
        for line in body.lines().filter(|line| line.starts_with("import ")) {
            let target = line.split('"').nth(1).unwrap();
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = match target.strip_prefix("../") {
                Some(up) => up.to_owned(),
                None => format!("{folder}/{}", target.trim_start_matches("./")),
            };
            let path = path.trim_start_matches('/').to_owned();
            assert!(files::all().any(|(name, _)| name == path), "{name} imports {path}");
        }
    }
}

fn shop() -> View {
    let mut view = View::for_tests();
    let zone = |name: &str| json!({"topology.kubernetes.io/zone": name});
    put(&mut view, &kind::NAMESPACE, json!({"metadata": {"name": "shop"}}));
    for (name, zone_name) in [("node-1", "a"), ("node-2", "b")] {
        put(
            &mut view,
            &kind::NODE,
            json!({"metadata": {"name": name, "labels": zone(zone_name)}, "status": {
                "addresses": [{"type": "InternalIP", "address": "127.64.0.1"}],
                "allocatable": {"pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}]}}),
        );
    }
    put(
        &mut view,
        &kind::SERVICE,
        json!({"metadata": {"namespace": "shop", "name": "web", "annotations": {
                "snowglobe.dev/load-balancer-policy": "p2c"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "127.96.0.5", "clusterIPs": ["127.96.0.5"],
                "selector": {"app": "web"}, "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
                          {"name": "dns", "port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.100.0.1"}]}}}),
    );
    let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
    let metadata = json!({"namespace": "shop", "name": "db"});
    put(&mut view, &kind::SERVICE, json!({"metadata": metadata, "spec": headless}));
    let slice = |name: &str, port: u16, endpoints: Value| {
        json!({"metadata": {"namespace": "shop", "name": name,
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": port}], "endpoints": endpoints})
    };
    let pod = |name: &str| json!({"kind": "Pod", "name": name});
    let first = json!([
        {"addresses": ["127.244.1.2"], "nodeName": "node-2", "targetRef": pod("web-2"),
         "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["127.244.0.2"], "nodeName": "node-1", "zone": "z", "targetRef": pod("web-1")}]);
    put(&mut view, &kind::ENDPOINT_SLICE, slice("web-a", 8080, first));
    let second = json!([{"addresses": ["127.244.1.2"], "nodeName": "node-2"}]);
    put(&mut view, &kind::ENDPOINT_SLICE, slice("web-b", 5353, second));
    for (name, phase, ready) in
        [("web-1", "Running", "True"), ("web-2", "Running", "False"), ("job", "Succeeded", "False")]
    {
        put(
            &mut view,
            &kind::POD,
            json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"nodeName": "node-1", "containers": []},
                "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}}),
        );
    }
    view
}

#[test]
fn services_show_addresses_and_endpoints() {
    let cluster = views::cluster(&shop(), "cluster.local", "");
    let [db, web] = cluster.services.as_slice() else { panic!("two services") };
    assert!(db.headless && db.cluster_ips.is_empty() && db.endpoints.is_empty());
    let shown = serde_json::to_value(web).unwrap();
    let expected = json!({"namespace": "shop", "name": "web", "type": "LoadBalancer", "headless": false,
        "clusterIps": ["127.96.0.5"], "externalIps": ["127.100.0.1"],
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "target": "web", "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP", "target": "53"}],
        "selector": {"app": "web"}, "policy": "p2c", "affinity": true,
        "internalLocal": false, "externalLocal": true,
        "endpoints": [
            {"zone": "b", "node": "node-2", "pod": "web-2", "address": "127.244.1.2", "ports": [5353, 8080],
             "ready": false, "serving": true, "terminating": true},
            {"zone": "z", "node": "node-1", "pod": "web-1", "address": "127.244.0.2", "ports": [8080],
             "ready": true, "serving": true, "terminating": false}],
        "endpointsTotal": 2, "endpointsReady": 1});
    assert_eq!(shown, expected);
}

#[test]
fn nodes_and_pods_are_counted() {
    let cluster = views::cluster(&shop(), "cluster.local", "");
    assert_eq!(cluster.pods, views::Pods { total: 2, ready: 1 });
    let nodes: Vec<_> =
        cluster.nodes.iter().map(|n| (&*n.name, &*n.zone, n.ready, n.pods, &*n.pods_max)).collect();
    assert_eq!(nodes, [("node-1", "a", true, 2, "110"), ("node-2", "b", true, 0, "110")]);
}

#[test]
fn events_are_the_newest_first() {
    let mut view = View::for_tests();
    for number in 0..views::EVENTS_MAX + 5 {
        put(
            &mut view,
            &kind::EVENT,
            json!({"metadata": {"namespace": "shop", "name": format!("e{number}")}, "type": "Warning",
                "involvedObject": {"kind": "Service", "namespace": "shop", "name": "web"},
                "reason": "PortNotBound", "message": number.to_string(), "count": 3,
                "lastTimestamp": "2026-01-02T03:04:05Z"}),
        );
    }
    let events = views::cluster(&view, "", "").events;
    assert_eq!(events.len(), views::EVENTS_MAX);
    assert_eq!(events[0].message, (views::EVENTS_MAX + 4).to_string());
    assert!(events[0].warning && events[0].count == 3);
    assert_eq!(events[0].time, Some("2026-01-02T03:04:05Z".parse().unwrap()));
}

#[test]
fn policies_say_why_they_are_refused() {
    let mut view = View::for_tests();
    for (name, status) in [("bad", "False"), ("good", "True")] {
        put(
            &mut view,
            &kind::LOAD_BALANCER_POLICY,
            json!({"metadata": {"name": name}, "spec": {"module": {"inline": "AA=="}},
                "status": {"conditions": [{"type": "Ready", "status": status, "message": "no pick"}]}}),
        );
    }
    put(&mut view, &kind::LOAD_BALANCER_POLICY, json!({"metadata": {"name": "new"}, "spec": {}}));
    let policies = views::cluster(&view, "", "").policies;
    let shown: Vec<_> =
        policies.iter().map(|p| (&*p.name, &*p.source, &*p.ready, &*p.message)).collect();
    let expected = [
        ("bad", "inline", "False", "no pick"),
        ("good", "inline", "True", ""),
        ("new", "", "Unknown", ""),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn views_of_all_nodes_are_added_up() {
    let [a, b] = ["127.244.0.2:8080", "127.244.1.2:8080"];
    let mut slow = web_traffic(a, 5);
    slow.endpoints[0].latency_us = 900;
    slow.policy = None;
    let traffic = views::traffic(&[slow, web_traffic(a, 2), web_traffic(b, 1)]);
    let port = &traffic["shop/web:80/TCP"];
    assert_eq!(port.policy.as_deref(), Some("rr"));
    let counters =
        |picks, active, latency_us| views::Counters { picks, active, failures: 0, latency_us };
    assert_eq!(port.endpoints[a], counters(7, 2, 900));
    assert_eq!(port.endpoints[b], counters(1, 1, 250));
}

#[tokio::test]
async fn state_has_both_documents() {
    let bench = Bench::new();
    *bench.view.lock() = shop();
    *bench.picks.lock() = 3;
    let state: Value = serde_json::from_str(&text(bench.read("/api/state").await).await).unwrap();
    assert_eq!(state["cluster"]["services"][1]["name"], "web");
    let endpoints = &state["traffic"]["shop/web:80/TCP"]["endpoints"];
    assert_eq!(endpoints["127.244.0.2:8080"]["picks"], 3);
}

#[tokio::test(start_paused = true)]
async fn the_stream_tells_what_changed() {
    let bench = Bench::new();
    let response = bench.read("/api/stream").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut frames = response.into_body().into_data_stream();
    let mut next = async || {
        let mut event = String::new();
        while !event.ends_with("\n\n") {
            event += std::str::from_utf8(&frames.next().await?.unwrap()).unwrap();
        }
        Some(event)
    };

    let first = next().await.unwrap();
    assert!(first.starts_with("event: cluster\ndata: {") && first.ends_with("}\n\n"), "{first}");
    let first = next().await.unwrap();
    assert!(first.starts_with("event: traffic\ndata: {") && first.ends_with("}\n\n"), "{first}");
    assert_eq!(next().await.unwrap(), ":\n\n", "nothing changed, so only the heartbeat");

    *bench.picks.lock() = 7;
    let second = next().await.unwrap();
    assert!(second.starts_with("event: traffic\n") && second.contains("\"picks\":7"), "{second}");

    bench.put(&kind::NAMESPACE, json!({"metadata": {"name": "new"}}));
    let third = next().await.unwrap();
    assert!(third.starts_with("event: cluster\n") && third.contains("\"new\""), "{third}");
    assert!(!third.contains("event: traffic"), "{third}");

    // A revision that changes nothing that is shown sends nothing.
    bench.put(&kind::LEASE, json!({"metadata": {"namespace": "a", "name": "node-1"}}));
    assert_eq!(next().await.unwrap(), ":\n\n");
    bench.shutdown.cancel();
    assert_eq!(next().await, None);
}

/// However many pages are open, the counters are read once for all of them, and each is told every change.
#[tokio::test(start_paused = true)]
async fn counters_are_read_once_for_all_clients() {
    let mut bench = Bench::new();
    let (reads, picks) = (Arc::<Mutex<u64>>::default(), bench.picks.clone());
    let counted = reads.clone();
    bench.look_at(move || {
        *counted.lock() += 1;
        vec![web_traffic("127.244.0.2:8080", *picks.lock())]
    });
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(bench.read("/api/stream").await.into_body().into_data_stream());
    }
    for round in 1..=5 {
        *bench.picks.lock() = round;
        for client in &mut clients {
            let mut told = String::new();
            while !told.contains(&format!("\"picks\":{round}")) {
                told += std::str::from_utf8(&client.next().await.unwrap().unwrap()).unwrap();
            }
        }
    }
    assert!(*reads.lock() <= 12, "{} reads in 5 rounds", reads.lock());
}

#[test]
fn changes_name_what_is_gone() {
    let [a, b] = ["127.244.0.2:8080", "127.244.1.2:8080"];
    let named = |name: &str, address, picks| {
        let mut traffic = web_traffic(address, picks);
        traffic.route.service.name = name.into();
        traffic
    };
    let before = views::traffic(&[named("same", a, 1), named("more", a, 1), named("gone", a, 1)]);
    let now = views::traffic(&[named("same", a, 1), named("more", b, 2), named("new", a, 1)]);
    let changes = json!(views::changes(&before, &now));
    let picks = |service: &str, address: &str| {
        changes[format!("shop/{service}:80/TCP")]["endpoints"][address]["picks"].clone()
    };
    assert_eq!(changes["shop/gone:80/TCP"], Value::Null);
    assert_eq!(
        (picks("more", b), picks("more", a), picks("new", a)),
        (json!(2), json!(null), json!(1))
    );
    assert_eq!(changes.as_object().unwrap().len(), 3, "{changes}");
}

#[tokio::test]
async fn streams_are_bounded() {
    let bench = Bench::new();
    let mut open = Vec::new();
    for _ in 0..stream::CLIENTS_MAX {
        open.push(bench.read("/api/stream").await);
    }
    let refused = bench.read("/api/stream").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(bench.read("/api/stream").await.status(), StatusCode::OK);
}

#[test]
fn the_url_can_be_opened() {
    let token = random_token();
    assert_eq!(token.len(), 32);
    assert_ne!(token, random_token());
    for (listen, expected) in [
        ("127.0.0.1:6480", "http://127.0.0.1:6480/?token=t"),
        ("0.0.0.0:80", "http://127.0.0.1:80/?token=t"),
        ("[::1]:6480", "http://[::1]:6480/?token=t"),
    ] {
        let options = Options {
            listen: listen.parse().unwrap(),
            allowed_hosts: Vec::new(),
            token: "t".to_owned(),
            cluster_domain: String::new(),
            kubeconfig: String::new(),
        };
        assert_eq!(options.url(), expected);
    }
}
