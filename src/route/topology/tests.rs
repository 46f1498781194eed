use std::net::SocketAddr;

use super::*;
use crate::route::{Frontend, NamespacedName, Protocol, RouteName};

/// An endpoint as words: its name `0` to `9`, then `local`, `unready`, `terminating` (it still serves), zones as
/// `z:a+b`, nodes as `n:1+2`. The proxy's own node is `1`.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let port: u16 = words.next().unwrap().parse().unwrap();
    let address = SocketAddr::from(([10, 0, 0, 1], port));
    let words: Vec<_> = words.collect();
    let names = |prefix: &str| {
        let names = words.iter().find_map(|word| word.strip_prefix(prefix));
        names.map_or_else(Vec::new, |names| names.split('+').map(Arc::from).collect())
    };
    let hints = Hints { zones: names("z:"), nodes: names("n:") };
    let is = |word| words.contains(&word);
    Endpoint {
        address,
        target: address,
        node: Some(if is("local") { "1".into() } else { "9".into() }),
        zone: None,
        ready: !is("unready") && !is("terminating"),
        serving: !is("unready"),
        terminating: is("terminating"),
        weight: 1,
        pod: None,
        hints: (hints != Hints::default()).then(|| Arc::new(hints)),
    }
}

/// A service port with the words `iTP` and `eTP` for the policies `Local`, and `external` when clients outside reach it.
fn route(service: &str, endpoints: &[&str]) -> Route {
    let is = |word: &str| service.split(' ').any(|other| other == word);
    let address = SocketAddr::from(([10, 9, 9, 9], 80));
    let mut frontends = vec![Frontend { kind: FrontendKind::ClusterIp, address }];
    if is("external") {
        frontends.push(Frontend { kind: FrontendKind::NodePort, address });
    }
    let service = NamespacedName { namespace: "default".into(), name: "web".into() };
    Route {
        name: RouteName { service, port: 80, protocol: Protocol::Tcp },
        port_name: "".into(),
        frontends,
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
        affinity: None,
        internal_local: is("iTP"),
        external_local: is("eTP"),
        source_ranges: Vec::new(),
        policy: None,
        topology: None,
    }
}

/// The lists as names: by policy `Cluster`, by policy `Local`, and all; `none` for a policy that is not followed.
fn check(zone: &str, service: &str, endpoints: &[&str], expected: [&str; 3]) {
    let route = route(service, endpoints);
    let categories = categorize(&route, Place { node: "1", zone });
    let names = |list: &Vec<&Endpoint>| {
        list.iter()
            .map(|endpoint| endpoint.address.port().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let text = |list: &Option<Vec<_>>| list.as_ref().map_or_else(|| "none".to_owned(), names);
    let found = [text(&categories.cluster), text(&categories.local), names(&categories.reachable)];
    assert_eq!(found, expected, "{zone} {service} {endpoints:?}");
    let any = route.endpoints.iter().any(|e| e.ready || (e.serving && e.terminating));
    assert_eq!(categories.any, any);
}

const HINTED: &[&str] = &["0 z:a", "1 z:b", "2 z:c", "3 z:a"];

#[test]
fn zones_are_followed_when_all_have_hints_and_one_is_ours() {
    let check = |zone: &str, endpoints: &[&str], expected: &str| {
        check(zone, "", endpoints, [expected, "none", expected]);
    };
    check("a", HINTED, "0 3");
    check("d", HINTED, "0 1 2 3");
    check("", HINTED, "0 1 2 3");
    check("", &["0 z:a"], "0");
    check("a", &["0 z:a", "1 z:b", "2", "3 z:a"], "0 1 2 3");
    check("a", &["0", "1"], "0 1");
    check("c", &["0 z:a+b+c", "1 z:b+c", "2 z:b+d", "3 z:c"], "0 1 3");
    // Only ready endpoints count, for the hints too.
    check("a", &["0 z:a", "1 z:b", "2 z:c", "3 z:a unready"], "0");
    check("a", &["0 z:a unready", "1 z:b", "2 z:c", "3 z:a unready"], "1 2");
    check("a", &["0 z:a", "1 z:b", "2 unready", "3 terminating"], "0");
}

#[test]
fn nodes_go_before_zones() {
    let check = |endpoints: &[&str], expected: (Topology, &str)| {
        check("a", "", endpoints, [expected.1, "none", expected.1]);
        let endpoints: Vec<_> = endpoints.iter().map(|text| endpoint(text)).collect();
        assert_eq!(of(&endpoints, Place { node: "1", zone: "a" }), expected.0);
    };
    use Topology::{Cluster, SameNode, SameZone};
    check(&["0 z:a n:1", "1 z:a n:2", "2 z:b n:3"], (SameNode, "0"));
    check(&["0 z:a n:4", "1 z:a n:2", "2 z:b n:3"], (SameZone, "0 1"));
    check(&["0 z:c n:4", "1 z:c n:2", "2 z:b n:3"], (Cluster, "0 1 2"));
    // One has no hint for nodes, then none for zones, then neither.
    check(&["0 z:a n:1", "1 z:a", "2 z:b n:3"], (SameZone, "0 1"));
    check(&["0 z:a n:1", "1 n:2", "2 z:b n:3"], (SameNode, "0"));
    check(&["0 z:a n:4", "1 n:2", "2 z:b n:3"], (Cluster, "0 1 2"));
    check(&["0 z:a n:1", "1", "2 z:b n:3"], (Cluster, "0 1 2"));
    check(&["0 z:a n:1 unready", "1 z:a n:2", "2 z:b n:3"], (SameZone, "1"));
    check(&["0 n:1", "1 n:2"], (SameNode, "0"));
    check(&[], (Cluster, ""));
}

#[test]
fn policy_local_ignores_hints() {
    let endpoints = &["0 z:a local", "1 z:b local", "2 z:c", "3 z:a"];
    check("a", "eTP external", endpoints, ["0 3", "0 1", "0 1 3"]);
    check("a", "iTP external", endpoints, ["0 3", "0 1", "0 1 3"]);
    check("a", "iTP", endpoints, ["none", "0 1", "0 1"]);
    let endpoints = &["0 z:a local", "1 z:b local", "2 z:a", "3 z:b"];
    check("a", "eTP external", endpoints, ["0 2", "0 1", "0 1 2"]);
}

#[test]
fn policies_decide_which_lists_there_are() {
    check("", "iTP", &[], ["none", "", ""]);
    check("", "iTP", &["0", "1"], ["none", "", ""]);
    check("", "iTP", &["0 local", "1 local"], ["none", "0 1", "0 1"]);
    check("", "iTP", &["0 local", "1"], ["none", "0", "0"]);
    check("", "", &["0 unready", "1 unready"], ["", "none", ""]);
    check("", "", &["0 unready", "1"], ["1", "none", "1"]);
    for service in ["iTP external", "eTP external", "iTP eTP external"] {
        check("", service, &["0 local", "1"], ["0 1", "0", "0 1"]);
    }
    check("", "iTP eTP external", &["0", "1"], ["0 1", "", "0 1"]);
    check("", "eTP", &["0", "1 local"], ["0 1", "none", "0 1"]);
}

#[test]
fn terminating_endpoints_serve_when_no_other_is_ready() {
    let ending = &["0 terminating local", "1 terminating"];
    check("", "", ending, ["0 1", "none", "0 1"]);
    check("", "iTP eTP external", &ending[1..], ["1", "", "1"]);
    // For each policy by itself.
    let some = &["0", "1 unready local", "2 terminating local", "3 terminating"];
    check("", "eTP external", some, ["0", "2", "0 2"]);
    // Hints of endpoints that are not ready do not matter.
    check("a", "", &["0 z:b terminating", "1 terminating"], ["0 1", "none", "0 1"]);
}

#[test]
fn an_unknown_place_is_nowhere() {
    let mut stray = endpoint("0 z:a n:1");
    stray.node = None;
    let endpoints = [stray, endpoint("1 z:b n:2")];
    let count = |policy| usable(&endpoints, policy, Place::default()).count();
    assert_eq!((count(Policy::Cluster), count(Policy::Local)), (2, 0));
}
