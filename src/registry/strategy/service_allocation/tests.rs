use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::registry::{
    Options, View,
    strategy::{
        checks::testing::options,
        service::{
            RULES,
            tests::{admit, admit_with, port_80, taken, update, with},
        },
    },
};

fn claims(service: &Service) -> Vec<Claim> {
    (RULES.claims)(service)
}

fn dual_stack() -> Options {
    let service_cidrs = vec!["127.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
    Options { service_cidrs, ..options() }
}

#[test]
fn cluster_ips_are_chosen_or_honoured() {
    let service = admit(&port_80()).unwrap();
    let Some(Claim::ServiceAddress(address)) = claims(&service).first().cloned() else {
        panic!("an address")
    };
    assert!(options().service_cidrs[0].contains(&address));
    let request = |address: &str| with(&json!({"clusterIP": address}));
    assert!(admit(&request("127.96.0.10")).is_ok());
    for (address, fault) in [
        ("127.96.0.7", "provided IP is already allocated"),
        ("10.0.0.1", "the provided network does not match the current range"),
        ("127.96.0.0", "the provided network does not match the current range"),
        ("127.96.255.255", "the provided network does not match the current range"),
    ] {
        let view = taken(&["127.96.0.7"], &[]);
        assert_eq!(
            admit_with(&request(address), None, &view, &options()).unwrap_err(),
            [format!(
                "spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: {fault}"
            )]
        );
    }
}

#[test]
fn two_families_where_there_are_two() {
    let admit = |change: Value| admit_with(&with(&change), None, &View::for_tests(), &dual_stack());
    let both = admit(json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]})).unwrap();
    let spec = both.spec.as_ref().unwrap();
    assert_eq!(items(&spec.ip_families), ["IPv6", "IPv4"]);
    assert!(items(&spec.cluster_ips)[0].starts_with("fd00:96::"));
    assert!(items(&spec.cluster_ips)[1].starts_with("127.96."));
    assert_eq!(claims(&both).len(), 2);
    let one = admit(json!({})).unwrap();
    assert_eq!(items(&one.spec.unwrap().ip_families), ["IPv4"]);
    assert_eq!(
        admit(json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}))
            .unwrap_err(),
        [
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
        ]
    );
}

#[test]
fn a_second_family_comes_and_goes() {
    let options = dual_stack();
    let admit = |change: &Value, old: Option<&Service>| {
        let ips: Vec<String> = old
            .and_then(|old| old.spec.as_ref())
            .map(|spec| items(&spec.cluster_ips).to_vec())
            .unwrap_or_default();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        admit_with(&with(change), old, &taken(&ips, &[]), &options)
    };
    let one = admit(&json!({}), None).unwrap();
    let both = admit(&json!({"ipFamilyPolicy": "RequireDualStack"}), Some(&one)).unwrap();
    assert_eq!(claims(&both).len(), 2);
    assert_eq!(claims(&both).iter().filter(|claim| claims(&one).contains(claim)).count(), 1);
    let again = admit(&json!({"ipFamilyPolicy": "SingleStack"}), Some(&both)).unwrap();
    // The client left families and addresses out, so what is kept is inferred from what was.
    assert_eq!(claims(&again), claims(&one));
}

#[test]
fn node_ports_are_chosen_or_honoured() {
    let node_port =
        |port: i32| with(&json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}));
    assert!(admit(&node_port(30_080)).is_ok());
    for (port, fault) in [
        (
            40_000,
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (30_001, "provided port is already allocated"),
    ] {
        assert_eq!(
            admit_with(&node_port(port), None, &taken(&[], &[30_001]), &options()).unwrap_err(),
            [format!("spec.ports[0].nodePort: Invalid value: {port}: {fault}")]
        );
    }
    let shared = json!({"type": "NodePort", "ports": [{"port": 53, "name": "a", "protocol": "UDP"},
        {"port": 53, "name": "b"}, {"port": 80, "name": "c"}]});
    let service = admit(&shared).unwrap();
    let ports: Vec<i32> =
        items(&service.spec.as_ref().unwrap().ports).iter().filter_map(|p| p.node_port).collect();
    assert_eq!(ports[0], ports[1]);
    assert_ne!(ports[0], ports[2]);
    assert_eq!(claims(&service).len(), 3);
    let none =
        admit(&with(&json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false})));
    assert_eq!(node_ports(none.unwrap().spec.as_ref().unwrap()), BTreeSet::new());
}

#[test]
fn health_check_ports() {
    let local = |port: i32| {
        with(
            &json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}),
        )
    };
    let service = admit(&local(0)).unwrap();
    let port = service.spec.as_ref().unwrap().health_check_node_port.unwrap();
    assert!(options().node_ports.contains(&u16::try_from(port).unwrap()));
    assert!(claims(&service).contains(&Claim::NodePort(u16::try_from(port).unwrap())));
    assert_eq!(
        admit(&local(5)).unwrap_err(),
        [
            "spec.healthCheckNodePort: Invalid value: 5: failed to allocate requested HealthCheck NodePort 5: provided port is not in the valid range. The range of valid ports is 30000-32767"
        ]
    );
    let other = if port == 32_000 { 32_001 } else { 32_000 };
    assert_eq!(
        update(&local(other), &service).unwrap_err(),
        ["spec.healthCheckNodePort: Forbidden: field is immutable"]
    );
}
