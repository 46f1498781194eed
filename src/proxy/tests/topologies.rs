//! What topology policies make of views: real modules, and tables without a socket.

use tokio::sync::mpsc;

use super::*;
use crate::{
    policy::library::{OnFailure, Source},
    proxy::views::View,
    route::Hints,
};

/// Endpoints in each of three nodes; node 1 is in zone a, nodes 2 and 3 are in zone b.
const ENDPOINTS: [&str; 4] =
    ["127.252.1.1:80", "127.252.1.2:80", "127.252.2.1:80", "127.252.3.1:80"];
const CLIENTS: [&str; 3] = ["127.252.1.5", "127.252.2.5", "127.252.3.5"];

struct Place {
    views: Views,
    topologies: Arc<Topologies>,
    library: Arc<Library>,
    notices: mpsc::Receiver<Notice>,
    revision: u64,
    route: Route,
}

impl Place {
    fn new(mode: ProxyView, policy: &str) -> Self {
        let (sender, notices) = mpsc::channel(64);
        let library = Library::new(sender, None).unwrap().for_topologies();
        library.load_builtins();
        let topologies = Topologies::new(Arc::clone(&library));
        let known = Arc::clone(&topologies);
        let views = Views::new(Arc::from("node-1"), mode, Metrics::default(), known);
        let endpoints: Vec<_> = ENDPOINTS.iter().map(|text| on_a_node(text)).collect();
        let mut route = route(Protocol::Tcp, "127.253.1.1:80".parse().unwrap(), &endpoints);
        route.topology = Some(policy.into());
        let mut place = Self { views, topologies, library, notices, revision: 0, route };
        place.follow();
        place
    }

    /// Another table with the route as it is now.
    fn follow(&mut self) {
        self.revision += 1;
        let table = table(self.revision, std::slice::from_ref(&self.route));
        self.views.follow(Arc::new(table));
    }

    fn load(&self, name: &str, score: &str) {
        let module = format!(
            r#"(module
                 (import "snowglobe:policy/host@0.1.0" "zone" (func $zone (param i32) (result i32)))
                 (import "snowglobe:policy/host@0.1.0" "node" (func $node (param i32) (result i32)))
                 (func (export "score") (param i32 i32 i32) (result i32) {score}))"#
        );
        let source = Source::Module(module.into_bytes());
        self.library.compile(name, source, String::new(), OnFailure::Fallback).unwrap();
    }

    fn resolve(&self, client: &str) -> Result<Arc<View>, ResetReason> {
        let frontend = self.route.frontends[0];
        let dialled = Dialled {
            protocol: Protocol::Tcp,
            source: SocketAddr::new(client.parse().unwrap(), 4000),
            destination: frontend.address,
            route: &self.route.name,
            frontend: frontend.kind,
            tried: &[],
        };
        self.views.resolve(dialled).map(|(view, _)| view)
    }

    /// Which endpoints a client has once the policy has answered, by their place in the table, and with whom it shares that.
    async fn seen_by(&self, client: &str) -> (String, Vec<usize>) {
        loop {
            let mut answers = self.topologies.answers();
            let view = match self.resolve(client) {
                Ok(view) => view,
                Err(reason) => return (format!("{reason:?}"), Vec::new()),
            };
            if view.pending().is_none() {
                return (view.seat.key().scope.to_string(), self.indices(&view));
            }
            timeout(LONG, answers.changed()).await.expect("an answer").unwrap();
        }
    }

    fn indices(&self, view: &View) -> Vec<usize> {
        let of = |address| self.route.endpoints.iter().position(|e| e.address == address).unwrap();
        view.candidates.iter().map(|candidate| of(candidate.address)).collect()
    }

    fn change(&mut self, change: impl Fn(usize, &mut Endpoint)) {
        let mut endpoints = self.route.endpoints.to_vec();
        endpoints.iter_mut().enumerate().for_each(|(index, endpoint)| change(index, endpoint));
        self.route.endpoints = endpoints.into();
        self.follow();
    }
}

fn on_a_node(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    let (node, zone) = match text.split('.').nth(2) {
        Some("1") => ("node-1", "a"),
        Some("2") => ("node-2", "b"),
        _ => ("node-3", "b"),
    };
    Endpoint { node: Some(node.into()), zone: Some(zone.into()), ..endpoint(address) }
}

fn seen(scope: &str, indices: &[usize]) -> (String, Vec<usize>) {
    (scope.to_owned(), indices.to_vec())
}

#[tokio::test]
async fn a_client_has_what_its_place_scores_highest() {
    let rows = [
        ("same-zone", [&[0, 1][..], &[2, 3], &[2, 3]], ["zone/a", "zone/b", "zone/b"]),
        ("same-node", [&[0, 1], &[2], &[3]], ["zone/a", "node-2", "node-3"]),
        ("spread", [&[0, 1], &[2, 3], &[2, 3]], ["zone/a", "zone/b", "zone/b"]),
        ("everybody", [&[0, 1, 2, 3]; 3], ["", "", ""]),
        ("first", [&[2, 3]; 3], ["", "", ""]),
    ];
    for (policy, expected, scopes) in rows {
        let per_node = Place::new(ProxyView::PerNode, policy);
        let global = Place::new(ProxyView::Global, policy);
        for place in [&per_node, &global] {
            place.load("everybody", "(i32.const 1)");
            place.load("first", "(call $zone (local.get 2))");
        }
        for (index, client) in CLIENTS.iter().enumerate() {
            let node = format!("node-{}", index + 1);
            assert_eq!(per_node.seen_by(client).await, seen(&node, expected[index]), "{policy}");
            let shared = seen(scopes[index], expected[index]);
            assert_eq!(global.seen_by(client).await, shared, "{policy}");
        }
    }
}

/// Zone a of the table gets number 0, so `first` above excludes it; here all are excluded.
#[tokio::test]
async fn whom_all_exclude_is_reset() {
    for mode in [ProxyView::PerNode, ProxyView::Global] {
        let place = Place::new(mode, "nobody");
        place.load("nobody", "(i32.const 0)");
        assert_eq!(place.seen_by(CLIENTS[0]).await, seen("NoEndpoint", &[]));
        place.load("nobody", "(i32.const 1)");
        assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1, 2, 3], "with the next connection");
    }
}

#[tokio::test]
async fn a_node_s_own_endpoints_come_first() {
    let mut place = Place::new(ProxyView::PerNode, "same-zone");
    place.route.internal_local = true;
    place.follow();
    assert_eq!(place.seen_by(CLIENTS[1]).await, seen("node-2/local", &[2]));
    place.route.topology = Some("nobody".into());
    place.load("nobody", "(i32.const 0)");
    place.follow();
    assert_eq!(place.seen_by(CLIENTS[1]).await, seen("NoEndpoint", &[]), "0 excludes those too");
}

#[tokio::test]
async fn unready_endpoints_are_not_scored() {
    let mut place = Place::new(ProxyView::PerNode, "same-zone");
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
    place.change(|index, endpoint| endpoint.ready = index != 0);
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [1]);
    place.change(|index, endpoint| endpoint.ready = index > 1);
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [2, 3], "its zone has none");
    // Without any, those that serve while they terminate.
    place.change(|_, endpoint| {
        (endpoint.ready, endpoint.serving, endpoint.terminating) = (false, true, true);
    });
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
}

#[tokio::test]
async fn until_there_are_scores_those_serve_that_served_before() {
    let mut place = Place::new(ProxyView::PerNode, "same-zone");
    let pending = |place: &Place| {
        let view = place.resolve(CLIENTS[0]).unwrap();
        assert!(view.pending().is_some());
        place.indices(&view)
    };
    // This runtime has one thread: nothing is scored before the next await.
    assert_eq!(pending(&place), [0, 1, 2, 3], "the first time all");
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
    place.change(|index, endpoint| endpoint.ready = index != 1);
    assert_eq!(pending(&place), [0], "those of before that are left");
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0]);
    place.change(|index, endpoint| endpoint.ready = index > 1);
    assert_eq!(pending(&place), [2, 3], "none of before is left");
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [2, 3]);
    place.change(|_, endpoint| endpoint.ready = true);
    assert_eq!(pending(&place), [2, 3]);
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
    // A change of the table that does not concern the endpoints asks nothing.
    place.route.affinity = Some(LONG);
    place.follow();
    assert!(place.resolve(CLIENTS[0]).unwrap().pending().is_none());
}

#[tokio::test]
async fn without_the_policy_hints_count() {
    for mode in [ProxyView::PerNode, ProxyView::Global] {
        let mut place = Place::new(mode, "unknown");
        place.change(|_, endpoint| {
            let zones = endpoint.zone.iter().cloned().collect();
            endpoint.hints = Some(Arc::new(Hints { zones, nodes: Vec::new() }));
        });
        assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
        let told = place.notices.try_recv();
        assert!(matches!(told, Ok(Notice::PolicyMissing { .. })), "{told:?}");
        // Once it is there, hints do not.
        place.load("unknown", "(i32.const 1)");
        assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1, 2, 3]);
        place.route.topology = None;
        place.follow();
        assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
    }
}

#[tokio::test]
async fn a_node_that_moves_has_another_place() {
    let place = Place::new(ProxyView::PerNode, "same-zone");
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [0, 1]);
    let mut table = table(2, std::slice::from_ref(&place.route));
    let node = Node { zone: Some(Arc::from("b")), ..Node::clone(&table.nodes["node-1"]) };
    table.nodes.insert(Arc::from("node-1"), Arc::new(node));
    place.views.follow(Arc::new(table));
    assert_eq!(place.seen_by(CLIENTS[0]).await.1, [2, 3]);
}
