//! Who sees what: views over tables, without a socket.

use std::{collections::BTreeMap, net::IpAddr};

use super::*;
use crate::{
    policy::{Candidates, Flow},
    proxy::views::View,
    route::Hints,
};

const VIP: &str = "127.253.1.1:80";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn views(mode: ProxyView) -> Views {
    let topologies = topologies(&mpsc::channel(1).0);
    Views::new(Arc::from("node-1"), mode, Metrics::default(), topologies)
}

fn resolve(
    views: &Views,
    route: &Route,
    source: &str,
    frontend: Frontend,
) -> Result<(Arc<View>, Flow), ResetReason> {
    views.resolve(Dialled {
        protocol: Protocol::Tcp,
        source: SocketAddr::new(source.parse::<IpAddr>().unwrap(), 4000),
        destination: frontend.address,
        route: &route.name,
        frontend: frontend.kind,
        tried: &[],
    })
}

fn three_nodes() -> Route {
    let endpoints = ["127.252.1.1:80", "127.252.2.1:80", "127.252.2.2:80"];
    let endpoints: Vec<_> = endpoints.iter().map(|text| endpoint(address(text))).collect();
    let mut route = route(Protocol::Tcp, address(VIP), &endpoints);
    let more = [
        (FrontendKind::NodePort, "127.252.2.254:30080"),
        (FrontendKind::NodePort, "127.252.3.254:30080"),
        (FrontendKind::NodePort, "127.0.0.1:30080"),
        (FrontendKind::LoadBalancer, "127.100.0.1:80"),
    ];
    let more = more.map(|(kind, text)| Frontend { kind, address: address(text) });
    route.frontends.extend(more);
    route
}

/// Source, which frontend, and what it sees: view and number of candidates, `None` when it is empty.
type Case<'a> = (&'a str, usize, Option<(&'a str, usize)>);

fn check(mode: ProxyView, route: &Route, cases: &[Case<'_>]) {
    let views = views(mode);
    views.follow(Arc::new(table(1, std::slice::from_ref(route))));
    for (source, frontend, expected) in cases {
        let resolved = resolve(&views, route, source, route.frontends[*frontend]);
        let found = resolved
            .map(|(view, _)| (String::from(&*view.seat.key().scope), view.candidates.len()));
        let expected = expected.map(|(label, count)| (label.to_owned(), count));
        assert_eq!(found.ok(), expected, "{source} to {frontend}");
    }
}

#[test]
fn the_view_is_the_clients_node() {
    let route = three_nodes();
    let cases = [
        ("127.0.0.1", 0, Some(("node-1", 3))),
        ("127.252.3.5", 0, Some(("node-3", 3))),
        ("127.252.3.254", 0, Some(("node-3", 3))),
        ("127.0.0.1", 1, Some(("node-2", 3))),
        ("127.252.3.5", 1, Some(("node-2", 3))),
        ("127.252.3.5", 3, Some(("node-3", 3))),
        ("127.0.0.1", 3, Some(("node-1", 3))),
        ("127.0.0.1", 4, Some(("node-1", 3))),
    ];
    check(ProxyView::PerNode, &route, &cases);
    check(ProxyView::Global, &route, &cases.map(|(s, f, _)| (s, f, Some(("", 3)))));
}

#[test]
fn hints_tell_clients_of_zones_and_nodes_apart() {
    let hints = |zones: &[&str], nodes: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Some(Arc::new(Hints { zones: names(zones), nodes: names(nodes) }))
    };
    let hinted = |hints: [Option<Arc<Hints>>; 3]| {
        let mut route = three_nodes();
        let endpoints = route.endpoints.iter().cloned().zip(hints);
        route.endpoints =
            endpoints.map(|(endpoint, hints)| Endpoint { hints, ..endpoint }).collect();
        route
    };
    // Node 1 is in zone a, nodes 2 and 3 are in zone b.
    let zones = hinted([hints(&["a"], &[]), hints(&["b"], &[]), hints(&["b"], &[])]);
    let (first, second, third) = ("127.252.1.5", "127.252.2.5", "127.252.3.5");
    let per_node = [
        (first, 0, Some(("node-1", 1))),
        (second, 0, Some(("node-2", 2))),
        (third, 0, Some(("node-3", 2))),
    ];
    check(ProxyView::PerNode, &zones, &per_node);
    let shared = [
        (first, 0, Some(("zone/a", 1))),
        (second, 0, Some(("zone/b", 2))),
        (third, 0, Some(("zone/b", 2))),
    ];
    check(ProxyView::Global, &zones, &shared);
    let nodes = hinted([
        hints(&["a"], &["node-1"]),
        hints(&["b"], &["node-2"]),
        hints(&["b"], &["node-2"]),
    ]);
    let shared = [
        (first, 0, Some(("node-1", 1))),
        (second, 0, Some(("node-2", 2))),
        // No endpoint is hinted for the node.
        (third, 0, Some(("zone/b", 2))),
    ];
    check(ProxyView::Global, &nodes, &shared);
    let incomplete = hinted([hints(&["a"], &[]), None, hints(&["b"], &[])]);
    check(ProxyView::Global, &incomplete, &[(first, 0, Some(("", 3))), (third, 0, Some(("", 3)))]);

    // A zone that changes changes the views of its clients.
    let views = views(ProxyView::PerNode);
    let mut table = table(1, std::slice::from_ref(&zones));
    views.follow(Arc::new(table.clone()));
    let count = || {
        let (view, _) = resolve(&views, &zones, first, zones.frontends[0]).ok().unwrap();
        view.candidates.len()
    };
    assert_eq!(count(), 1);
    let node = Node { zone: Some(Arc::from("b")), ..Node::clone(&table.nodes["node-1"]) };
    table.nodes.insert(Arc::from("node-1"), Arc::new(node));
    views.follow(Arc::new(table));
    assert_eq!(count(), 2);
}

#[test]
fn local_policies_restrict_to_the_views_node() {
    let internal = Route { internal_local: true, ..three_nodes() };
    let external = Route { external_local: true, ..three_nodes() };
    for mode in [ProxyView::PerNode, ProxyView::Global] {
        let shared = |node| if mode == ProxyView::Global { "" } else { node };
        check(
            mode,
            &internal,
            &[
                ("127.0.0.1", 0, Some(("node-1/local", 1))),
                ("127.252.2.5", 0, Some(("node-2/local", 2))),
                ("127.252.3.5", 0, None),
                ("127.0.0.1", 2, Some((shared("node-3"), 3))),
            ],
        );
        check(
            mode,
            &external,
            &[
                ("127.0.0.1", 0, Some((shared("node-1"), 3))),
                ("127.0.0.1", 1, Some(("node-2/local", 2))),
                ("127.252.1.5", 1, Some(("node-2/local", 2))),
                ("127.0.0.1", 2, None),
                ("127.0.0.1", 4, Some(("node-1/local", 1))),
                ("127.0.0.1", 4, Some(("node-2/local", 2))),
                ("127.0.0.1", 4, Some(("node-1/local", 1))),
                // Within the cluster the load balancer's address always has Cluster semantics.
                ("127.252.3.5", 4, Some((shared("node-3"), 3))),
            ],
        );
    }
}

#[test]
fn flows_carry_stable_ids_of_the_clients_place() {
    let (views, route) = (views(ProxyView::Global), three_nodes());
    views.follow(Arc::new(table(1, std::slice::from_ref(&route))));
    let place = |source| {
        let flow = resolve(&views, &route, source, route.frontends[0]).unwrap().1;
        (flow.client_zone, flow.client_node)
    };
    let (one, two, three) = (place("127.252.1.5"), place("127.252.2.5"), place("127.252.3.5"));
    assert!(one.0 != two.0 && two.0 == three.0 && two.1 != three.1);
    let (view, _) = resolve(&views, &route, "127.0.0.1", route.frontends[0]).unwrap();
    assert_eq!(view.candidates.iter().map(|c| c.node).collect::<Vec<_>>(), [one.1, two.1, two.1]);
    assert_eq!(place("127.252.1.6"), one);
}

#[test]
fn figures_last_while_the_endpoint_stays_and_generations_rise_with_change() {
    let (views, full) = (views(ProxyView::PerNode), three_nodes());
    let seen = |revision, route: &Route| {
        views.follow(Arc::new(table(revision, std::slice::from_ref(route))));
        resolve(&views, route, "127.0.0.1", route.frontends[0]).unwrap().0
    };
    let loads = |view: &View| -> BTreeMap<_, _> {
        view.candidates.iter().map(|c| (c.address, Arc::as_ptr(&c.load) as usize)).collect()
    };
    let first = seen(1, &full);
    let renamed = Route { port_name: Arc::from("http"), ..full.clone() };
    let second = seen(2, &renamed);
    assert_eq!((second.generation, loads(&second)), (first.generation, loads(&first)));
    assert!(Arc::ptr_eq(&first.candidates, &second.candidates));
    let mut endpoints = full.endpoints.to_vec();
    endpoints[0].ready = false;
    let third = seen(3, &Route { endpoints: endpoints.clone().into(), ..full.clone() });
    assert!(third.generation > second.generation && third.candidates.len() == 2);
    let fourth = seen(4, &full);
    assert!(fourth.generation > third.generation);
    assert_eq!(loads(&fourth), loads(&first), "an endpoint that was not ready is the same one");
    seen(5, &Route { endpoints: endpoints[1..].into(), ..full.clone() });
    assert_ne!(loads(&seen(6, &full)), loads(&first), "one that was gone is a new one");
}

#[test]
fn no_generation_is_given_twice() {
    let (views, full) = (views(ProxyView::PerNode), three_nodes());
    let mut given = Vec::new();
    let mut see = |table: RouteTable, sources: &[&str]| {
        let route = Arc::clone(&table.routes[&full.name]);
        views.follow(Arc::new(table));
        for source in sources {
            let view = resolve(&views, &route, source, route.frontends[0]).unwrap().0;
            given.push((view.generation, view.candidates.clone()));
        }
    };
    let with = |revision, endpoints: &[Endpoint]| {
        table(revision, &[Route { endpoints: endpoints.into(), ..full.clone() }])
    };
    see(with(1, &full.endpoints), &["127.0.0.1", "127.252.2.5", "127.252.3.5"]);
    // Node 2 goes and returns, and so do the service port and its views.
    let mut without = with(2, &full.endpoints[1..]);
    without.nodes.remove("node-2");
    see(without, &["127.0.0.1", "127.252.3.5"]);
    see(with(3, &full.endpoints[..1]), &["127.252.2.5"]);
    views.follow(Arc::new(table(4, &[])));
    see(with(5, &full.endpoints[1..]), &["127.0.0.1", "127.252.2.5"]);
    let same = |a: &Candidates, b: &Candidates| Arc::ptr_eq(a, b);
    for (nth, (generation, candidates)) in given.iter().enumerate() {
        let mut others = given[..nth].iter().filter(|(other, _)| other == generation);
        assert!(others.all(|(_, others)| same(others, candidates)), "{generation} twice");
    }
}

#[test]
fn an_address_in_two_slices_is_one_candidate() {
    let mut route = three_nodes();
    route.endpoints = route.endpoints.iter().chain(route.endpoints.iter()).cloned().collect();
    check(ProxyView::PerNode, &route, &[("127.0.0.1", 0, Some(("node-1", 3)))]);
}

#[test]
fn a_service_port_that_is_gone_is_no_route() {
    let (views, route) = (views(ProxyView::PerNode), three_nodes());
    views.follow(Arc::new(table(1, std::slice::from_ref(&route))));
    assert!(resolve(&views, &route, "127.0.0.1", route.frontends[0]).is_ok());
    assert_eq!(views.in_use().len(), 1);
    let changes = views.follow(Arc::new(table(2, &[])));
    assert_eq!((changes.removed.len(), views.in_use().len()), (1, 0));
    let gone = resolve(&views, &route, "127.0.0.1", route.frontends[0]);
    assert_eq!(gone.err(), Some(ResetReason::NoRoute));
}

#[test]
fn only_what_was_dialled_is_in_use() {
    let views = views(ProxyView::PerNode);
    let numbered = |number| {
        let mut route = three_nodes();
        route.name.port = number;
        route
    };
    let routes: Vec<Route> = (1..=400).map(numbered).collect();
    views.follow(Arc::new(table(1, &routes)));
    assert!(views.in_use().is_empty(), "nobody has dialled any");
    let dialled = &routes[100..350];
    for route in dialled {
        assert!(resolve(&views, route, "127.0.0.1", route.frontends[0]).is_ok());
    }
    let seen: Vec<u16> = views.in_use().iter().map(|view| view.route.name.port).collect();
    assert_eq!(seen, (101..=350).collect::<Vec<_>>());
}
