use std::{net::IpAddr, sync::Arc};

use crate::route::{
    FrontendKind, Hints, NamespacedName, Protocol, Route, RouteName, RouteTable,
    build::{
        Builder, Options,
        fixture::{SERIAL, now, objects, table},
    },
};

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 127.64.0.2}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/zone: b}}
status: {addresses: [{type: InternalIP, address: 127.64.0.3}]}
---
";

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {snowglobe.dev/load-balancer-policy: maglev}}
spec:
  type: LoadBalancer
  clusterIP: 127.96.0.20
  clusterIPs: [127.96.0.20]
  sessionAffinity: ClientIP
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [127.244.0.0/24]
  ports:
  - {name: http, port: 80, nodePort: 30080, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP}
  - {name: sig, port: 36412, protocol: SCTP}
status: {loadBalancer: {ingress: [{ip: 127.100.0.1}, {ip: 127.100.0.2, ipMode: Proxy}, {hostname: x.y}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-b, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- addresses: [127.244.1.9]
  conditions: {ready: true}
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [127.244.0.5], nodeName: n1, targetRef: {kind: Pod, name: p1, namespace: default}}
- {addresses: [127.244.1.6], nodeName: n2, zone: z, conditions: {ready: false, terminating: true}}
- {addresses: [127.244.1.9], nodeName: n2, conditions: {ready: false, serving: true, terminating: true}}
ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}]
---
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p1, annotations: {snowglobe.dev/bound-ports: '{\"53/UDP\": 41234}', snowglobe.dev/weight: '3'}}
spec: {nodeName: n1, containers: []}
status: {phase: Running, podIP: 127.244.0.5, podIPs: [{ip: 127.244.0.5}]}
---
";

const OTHER: &str = "
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: NodePort, clusterIP: 127.96.0.21, clusterIPs: [127.96.0.21], ports: [{port: 81, nodePort: 30081}]}
---
";

fn route(table: &RouteTable, service: &str, port: u16, protocol: Protocol) -> Arc<Route> {
    let service = NamespacedName { namespace: "default".into(), name: service.into() };
    table.routes.get(&RouteName { service, port, protocol }).expect("route exists").clone()
}

fn frontends(route: &Route) -> Vec<String> {
    let show = |kind| match kind {
        FrontendKind::ClusterIp => 'c',
        FrontendKind::NodePort => 'n',
        FrontendKind::LoadBalancer => 'l',
    };
    route.frontends.iter().map(|f| format!("{}{}", show(f.kind), f.address)).collect()
}

/// `address>target node/zone ready serving terminating weight pod`, with `-` for what is absent.
fn endpoints(route: &Route) -> Vec<String> {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    let flag = |flag: bool, name: char| if flag { name } else { '-' };
    let show = |e: &crate::route::Endpoint| {
        let flags =
            [flag(e.ready, 'r'), flag(e.serving, 's'), flag(e.terminating, 't')].map(String::from);
        format!(
            "{}>{} {}/{} {} {} {}",
            e.address,
            e.target,
            text(&e.node),
            text(&e.zone),
            flags.concat(),
            e.weight,
            text(&e.pod)
        )
    };
    route.endpoints.iter().map(show).collect()
}

#[test]
fn a_route_has_frontends_endpoints_and_policies() {
    let table = table(&[NODES, WEB, POD].concat());
    assert_eq!(table.routes.len(), 2, "SCTP is not carried");
    let http = route(&table, "web", 80, Protocol::Tcp);
    assert_eq!(
        frontends(&http),
        [
            "c127.96.0.20:80",
            "n127.0.0.1:30080",
            "n127.64.0.2:30080",
            "n127.64.0.3:30080",
            "l127.100.0.1:80"
        ]
    );
    assert_eq!(
        endpoints(&http),
        [
            "127.244.0.5:8080>127.244.0.5:8080 n1/a rs- 3 p1",
            "127.244.1.6:8080>127.244.1.6:8080 n2/z --t 1 -",
            "127.244.1.9:8080>127.244.1.9:8080 -/- rs- 1 -",
        ],
        "slices by name; of a doubled address the ready one counts"
    );
    assert_eq!(http.policy.as_deref(), Some("maglev"));
    assert_eq!(http.affinity.map(|timeout| timeout.as_secs()), Some(10_800));
    assert!(http.external_local && !http.internal_local);
    assert_eq!(http.source_ranges, ["127.244.0.0/24".parse().unwrap()]);

    let dns = route(&table, "web", 53, Protocol::Udp);
    assert_eq!(frontends(&dns), ["c127.96.0.20:53", "l127.100.0.1:53"]);
    assert_eq!(endpoints(&dns)[0], "127.244.0.5:53>127.244.0.5:41234 n1/a rs- 3 p1");
    assert_eq!(endpoints(&dns).len(), 3);

    let place =
        |address: &str| table.places.get(&address.parse::<IpAddr>().unwrap()).map(|node| &**node);
    assert_eq!(place("127.244.0.5"), Some("n1"));
    assert_eq!(place("127.64.0.3"), Some("n2"));
    assert_eq!(place("127.244.1.9"), None);
    assert_eq!((table.revision, table.names.serial), (1, SERIAL));
}

#[test]
fn headless_external_and_unallocated_services_have_no_routes() {
    for spec in [
        "{clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}",
        "{type: ExternalName, externalName: a.example, ports: [{port: 80}]}",
        "{ports: [{port: 80}]}",
        "{clusterIP: 127.96.0.9, ports: [{port: 80, protocol: SCTP}]}",
    ] {
        let table = table(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}"
        ));
        assert!(table.routes.is_empty(), "{spec}");
        assert!(table.names.service("default", "s").is_some(), "{spec}");
    }
}

#[test]
fn a_slice_without_target_finds_the_pod_by_address() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: other}}
addressType: IPv4
endpoints: [{addresses: [127.244.0.5]}]
ports: [{port: 53, protocol: UDP}, {port: 90}]
---
";
    let pod = POD.replace("53/UDP", "90/TCP");
    let table = table(&[OTHER, slice, &pod].concat());
    let route = route(&table, "other", 81, Protocol::Tcp);
    assert_eq!(endpoints(&route), ["127.244.0.5:90>127.244.0.5:41234 -/- rs- 3 p1"]);
}

#[test]
fn hints_of_slices_are_kept() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, labels: {kubernetes.io/service-name: other}}
addressType: IPv4
endpoints:
- {addresses: [127.244.0.5], hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n1}]}}
- {addresses: [127.244.0.6], hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: n1}]}}
- {addresses: [127.244.0.7], hints: {forZones: []}}
- {addresses: [127.244.0.8]}
ports: [{port: 90}]
---
";
    let table = table(&[OTHER, slice].concat());
    let route = route(&table, "other", 81, Protocol::Tcp);
    let hints: Vec<_> = route.endpoints.iter().map(|endpoint| endpoint.hints.as_ref()).collect();
    let [Some(first), Some(second), None, None] = hints.as_slice() else { panic!("{hints:?}") };
    let expected = Hints { zones: vec!["a".into(), "b".into()], nodes: vec!["n1".into()] };
    assert_eq!(***first, expected);
    assert!(Arc::ptr_eq(first, second), "equal ones are shared");
}

/// What one change to a built cluster leads to: rebuilt routes, by identity.
#[test]
fn a_change_costs_what_changed() {
    let mut builder = Builder::new(Options::default());
    let apply = |builder: &mut Builder, manifest: &str, present: bool| {
        for object in objects(manifest) {
            builder.apply(&object.key, present.then_some(&object));
        }
        builder.table(2, now())
    };
    let mut before = apply(&mut builder, &[NODES, WEB, POD, OTHER].concat(), true);
    let mut step = |what: &str, manifest: &str, present: bool, web: bool, other: bool| {
        let after = apply(&mut builder, manifest, present);
        let changed = |service: &str, port| {
            let (old, new) = (
                route(&before, service, port, Protocol::Tcp),
                route(&after, service, port, Protocol::Tcp),
            );
            !Arc::ptr_eq(&old, &new)
        };
        assert_eq!((changed("web", 80), changed("other", 81)), (web, other), "{what}");
        before = after.clone();
        after
    };
    let all = [NODES, WEB, POD, OTHER].concat();
    step("the same again", &all, true, false, false);
    step("a pod that nothing routes to", &POD.replace("p1", "p9"), true, false, false);
    step("its end", &POD.replace("p1", "p9"), false, false, false);
    step("a weight", &POD.replace("'3'", "'4'"), true, true, false);
    step("a pod's end", &POD.replace("Running", "Succeeded"), true, true, false);
    step("a zone", &NODES.replace("zone: a", "zone: c"), true, true, false);
    step("a node's address", &NODES.replace("127.64.0.3", "127.64.0.9"), true, true, true);
    step("a node less", &NODES[NODES.find("---").unwrap()..], false, true, true);
    let other = OTHER.replace("nodePort: 30081", "nodePort: 30082");
    step("one service", &other, true, false, true);
    let slices = &WEB[WEB.find("---").unwrap()..];
    step("a slice of another service", &slices.replace(": web}", ": other}"), true, true, false);
    step("and back", slices, true, true, false);
    let hinted = slices.replace("nodeName: n1,", "nodeName: n1, hints: {forZones: [{name: a}]},");
    step("a hint", &hinted, true, true, false);
    step("the same hint", &hinted, true, false, false);
    let table = step("no slices", slices, false, true, false);
    assert!(route(&table, "web", 80, Protocol::Tcp).endpoints.is_empty());
    let table = apply(&mut builder, &[WEB, OTHER].concat(), false);
    assert!(table.routes.is_empty() && table.names.namespaces.is_empty());
    assert!(builder.services.is_empty() && builder.slices.is_empty() && builder.uses.is_empty());
    assert!(builder.labels.is_empty());
}

#[test]
fn places_follow_pods_and_nodes() {
    let mut builder = Builder::new(Options::default());
    let host_pod = POD.replace("127.244.0.5", "127.64.0.2");
    for object in objects(&[POD, NODES, &host_pod.replace("p1", "host")].concat()) {
        builder.apply(&object.key, Some(&object));
    }
    let table = builder.table(1, now());
    assert_eq!(table.places.len(), 3, "the host network's pod shares its node's address");
    let pods = [POD.to_owned(), host_pod.replace("p1", "host")].concat();
    for object in objects(&pods) {
        builder.apply(&object.key, None);
    }
    let table = builder.table(2, now());
    assert_eq!(table.places.len(), 2, "nodes keep theirs");
    assert_eq!(table.names.serial, SERIAL);
}
