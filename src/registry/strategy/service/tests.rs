use serde_json::{Value, json};

use super::{
    super::checks::{
        shown,
        testing::{context, lines, merged, object, options},
    },
    *,
};
use crate::{
    model::{Object, ObjectKey, kind, object::to_stored},
    registry::{Options, View, alloc::Held},
};

/// A view in which these are taken.
pub(in crate::registry::strategy) fn taken(addresses: &[&str], ports: &[u16]) -> View {
    let mut view = View::for_tests();
    for address in addresses {
        let key = ObjectKey::cluster(&kind::IP_ADDRESS, *address);
        let stored = to_stored(&kind::IP_ADDRESS, json!({"metadata": {"name": address}}));
        view.insert(&Object::from_stored(key, 1, stored).unwrap().into());
    }
    for port in ports {
        let held = Held { owner: "default/other".to_owned(), revision: 1 };
        view.allocations.insert(format!("allocations/node-ports/{port}"), held);
    }
    view
}

/// Runs a document through the rules like the registry does: the faults, or the Service.
pub(in crate::registry::strategy) fn admit_with(
    spec: &Value,
    old: Option<&Service>,
    view: &View,
    options: &Options,
) -> Result<Service, Vec<String>> {
    let context = context(view, options, Subresource::None);
    let mut new: Service = object(json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web"}, "spec": spec}));
    new.status = old.and_then(|old| old.status.clone());
    (RULES.default)(&mut new, old, &context);
    let mut causes = (RULES.validate)(&new, old, &context);
    if causes.is_empty() {
        causes = RULES.allocate.unwrap()(&mut new, old, &context);
    }
    if causes.is_empty() { Ok(new) } else { Err(lines(&causes)) }
}

pub(in crate::registry::strategy) fn admit(spec: &Value) -> Result<Service, Vec<String>> {
    admit_with(spec, None, &View::for_tests(), &options())
}

pub(in crate::registry::strategy) fn update(
    spec: &Value,
    old: &Service,
) -> Result<Service, Vec<String>> {
    let held = claims(old);
    let ips: Vec<String> = held
        .iter()
        .filter_map(|claim| match claim {
            Claim::ServiceAddress(address) => Some(address.to_string()),
            _ => None,
        })
        .collect();
    let ports: Vec<u16> = held
        .iter()
        .filter_map(|claim| match claim {
            Claim::NodePort(port) => Some(*port),
            _ => None,
        })
        .collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    admit_with(spec, Some(old), &taken(&ips, &ports), &options())
}

fn spec_of(service: &Service) -> Value {
    shown(&service.spec)
}

pub(in crate::registry::strategy) fn port_80() -> Value {
    json!({"ports": [{"port": 80}], "selector": {"app": "web"}})
}

pub(in crate::registry::strategy) fn with(change: &Value) -> Value {
    merged(port_80(), change)
}

#[test]
fn defaults() {
    let service = admit(&with(&json!({"clusterIP": "127.96.3.4"}))).unwrap();
    assert_eq!(
        spec_of(&service),
        json!({
            "clusterIP": "127.96.3.4", "clusterIPs": ["127.96.3.4"], "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "selector": {"app": "web"}, "sessionAffinity": "None", "type": "ClusterIP",
        })
    );
    assert_eq!(shown(&service.status), json!({"loadBalancer": {}}));
    for (change, path, expected) in [
        (
            json!({"sessionAffinity": "ClientIP"}),
            "/sessionAffinityConfig/clientIP/timeoutSeconds",
            json!(10_800),
        ),
        (json!({"type": "NodePort"}), "/externalTrafficPolicy", json!("Cluster")),
        (json!({"type": "LoadBalancer"}), "/allocateLoadBalancerNodePorts", json!(true)),
        (
            json!({"ports": [{"port": 80, "targetPort": "http"}]}),
            "/ports/0/targetPort",
            json!("http"),
        ),
        (json!({"ports": [{"port": 53, "protocol": "UDP"}]}), "/ports/0/targetPort", json!(53)),
        (json!({"clusterIP": "None"}), "/ipFamilyPolicy", json!("SingleStack")),
        (
            json!({"clusterIP": "None", "selector": null}),
            "/ipFamilyPolicy",
            json!("RequireDualStack"),
        ),
        (json!({"clusterIP": "None", "selector": null}), "/ipFamilies", json!(["IPv4", "IPv6"])),
        (json!({"ipFamilyPolicy": "PreferDualStack"}), "/ipFamilies", json!(["IPv4"])),
    ] {
        let spec = spec_of(&admit(&with(&change)).unwrap());
        assert_eq!(spec.pointer(path), Some(&expected), "{change}");
    }
}

#[test]
fn an_external_name_has_no_address() {
    let service =
        admit(&json!({"type": "ExternalName", "externalName": "api.example.com."})).unwrap();
    assert_eq!(
        spec_of(&service),
        json!({"externalName": "api.example.com.", "sessionAffinity": "None", "type": "ExternalName"})
    );
    assert_eq!(claims(&service), []);
}

fn refused(cases: &[(Value, &[&str])]) {
    for (change, expected) in cases {
        assert_eq!(admit(&with(change)).unwrap_err(), *expected, "{change}");
    }
}

#[test]
fn port_rules() {
    refused(&[
        (json!({"ports": null}), &["spec.ports: Required value"]),
        (
            json!({"ports": [{"port": 0}, {"port": 65536, "name": "b"}]}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].port: Invalid value: 65536: must be between 1 and 65535, inclusive",
                "spec.ports[1].targetPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}),
            &["spec.ports[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]}),
            &[
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "tcp"}]}),
            &[
                "spec.ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "a_b"}]}),
            &[
                "spec.ports[0].targetPort: Invalid value: \"a_b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30080}]}),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "name": "a", "nodePort": 30080},
                                                 {"port": 81, "name": "b", "nodePort": 30080}]}),
            &["spec.ports[1].nodePort: Duplicate value: 30080"],
        ),
    ]);
}

#[test]
fn type_and_affinity_rules() {
    refused(&[
        (
            json!({"type": "Ingress"}),
            &[
                "spec.type: Unsupported value: \"Ingress\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "ports": [{"port": 10250}]}),
            &[
                "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
            ],
        ),
        (json!({"type": "ExternalName"}), &["spec.externalName: Required value"]),
        (
            json!({"type": "ExternalName", "externalName": "a", "clusterIP": "None"}),
            &["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "None"}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ],
        ),
        (
            json!({"sessionAffinity": "Cookie"}),
            &[
                "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
            ],
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        ),
    ]);
}

#[test]
fn address_rules() {
    refused(&[
        (
            json!({"clusterIP": "web"}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"web\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            json!({"clusterIP": "127.96.3.4", "clusterIPs": ["127.96.3.5"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"127.96.3.5\"]: first value must match `clusterIP`",
            ],
        ),
        (
            json!({"clusterIPs": ["127.96.3.5"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"127.96.3.5\"]: must be empty when `clusterIP` is not specified",
            ],
        ),
        (
            json!({"clusterIP": "127.96.3.4", "clusterIPs": ["127.96.3.4", "127.96.3.5"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"127.96.3.4\",\"127.96.3.5\"]: may specify no more than one IP for each IP family",
            ],
        ),
        (
            json!({"clusterIP": "127.96.3.4", "ipFamilies": ["IPv6"]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"127.96.3.4\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
        ),
        (
            json!({"ipFamilyPolicy": "Any"}),
            &[
                "spec.ipFamilyPolicy: Unsupported value: \"Any\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ],
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            &[
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            &["spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"],
        ),
    ]);
}

#[test]
fn traffic_rules() {
    refused(&[
        (
            json!({"externalIPs": ["10.0.0.1"]}),
            &[
                "spec.externalIPs: Forbidden: externalIPs let any namespace take over the traffic to any address (CVE-2020-8554)",
            ],
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0"]}),
            &[
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"10.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        ),
        (
            json!({"allocateLoadBalancerNodePorts": false}),
            &[
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        ),
        (
            json!({"loadBalancerClass": "a/b"}),
            &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            &[
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ],
        ),
        (
            json!({"type": "NodePort", "externalTrafficPolicy": "Near"}),
            &[
                "spec.externalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
            ],
        ),
        (
            json!({"type": "NodePort", "healthCheckNodePort": 30000}),
            &[
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ],
        ),
        (
            json!({"internalTrafficPolicy": "Node"}),
            &[
                "spec.internalTrafficPolicy: Unsupported value: \"Node\": supported values: \"Cluster\", \"Local\"",
            ],
        ),
        (
            json!({"trafficDistribution": "Near"}),
            &[
                "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ],
        ),
    ]);
}

#[test]
fn names_follow_their_rules() {
    let upper = admit(&with(&json!({"type": "ExternalName", "externalName": "API.example.com"})));
    assert!(upper.unwrap_err()[0].starts_with(
        "spec.externalName: Invalid value: \"API.example.com\": a lowercase RFC 1123 subdomain must"
    ));
    let protocol = admit(&with(&json!({"ports": [{"port": 80, "appProtocol": "a b"}]})));
    assert!(
        protocol.unwrap_err()[0]
            .starts_with("spec.ports[0].appProtocol: Invalid value: \"a b\": name part")
    );
    let selector = admit(&with(&json!({"selector": {"app": "a b"}})));
    assert!(
        selector.unwrap_err()[0]
            .starts_with("spec.selector: Invalid value: \"a b\": a valid label")
    );
}

#[test]
fn further_rules() {
    refused(&[
        (
            json!({"type": "LoadBalancer", "clusterIP": "None"}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "name": "a.b"}]}),
            &["spec.ports[0].name: Invalid value: \"a.b\": must not contain dots"],
        ),
        (
            json!({"ports": [{"port": 80, "targetPort": "a-very-long-port-name"}]}),
            &[
                "spec.ports[0].targetPort: Invalid value: \"a-very-long-port-name\": must be no more than 15 characters",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "appProtocol": "/http"}]}),
            &["spec.ports[0].appProtocol: Invalid value: \"/http\": prefix part must be non-empty"],
        ),
        (
            json!({"type": "ExternalName", "externalName": "a", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            &[
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
            ],
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        ),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None", "127.96.3.4"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"None\",\"127.96.3.4\"]: 'None' must be the first and only value",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            &[
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerClass": "a/"}),
            &[
                "spec.loadBalancerClass: Invalid value: \"a/\": name part must be non-empty",
                "spec.loadBalancerClass: Invalid value: \"a/\": name part must consist of alphanumeric characters, '-', '_' \
                 or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                 '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 70000}),
            &[
                "spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080, "name": "a"},
                {"port": 80, "protocol": "UDP", "nodePort": 30080, "name": "a"}]}),
            &["spec.ports[1].name: Duplicate value: \"a\""],
        ),
    ]);
}

#[test]
fn families_may_not_change() {
    let mut old = admit(&with(&json!({"clusterIP": "127.96.3.4"}))).unwrap();
    let changed = |old: &Service, families: Value| {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let change = json!({"clusterIP": "127.96.3.4", "clusterIPs": ["127.96.3.4"], "ipFamilies": families,
            "ipFamilyPolicy": "PreferDualStack"});
        let mut new: Service = object(json!({"metadata": {"name": "web"}, "spec": with(&change)}));
        (RULES.default)(&mut new, Some(old), &context);
        lines(&(RULES.validate)(&new, Some(old), &context))
    };
    assert_eq!(
        changed(&old, json!(["IPv6"]))[0],
        "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set"
    );
    assert_eq!(
        changed(&old, json!(["IPv6", "IPv4"]))[0],
        "spec.ipFamilies[0]: Invalid value: [\"127.96.3.4\"]: may not change once set"
    );
    old.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    assert_eq!(
        changed(&old, json!(["IPv4"])),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily"
        ]
    );
}

#[test]
fn the_same_document_again_changes_nothing() {
    for document in [
        port_80(),
        with(&json!({"type": "NodePort"})),
        with(&json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"})),
        with(&json!({"clusterIP": "None"})),
        with(&json!({"clusterIP": "None", "selector": null})),
        with(&json!({"ipFamilyPolicy": "PreferDualStack"})),
        json!({"type": "ExternalName", "externalName": "a.example"}),
    ] {
        let first = admit(&document).unwrap();
        assert_eq!(update(&document, &first).unwrap(), first, "{document}");
    }
}

#[test]
fn unchanged_ports_keep_their_node_ports() {
    let old = admit(&json!({"type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}))
        .unwrap();
    let held = |service: &Service, name: &str| {
        let ports = items(&service.spec.as_ref().unwrap().ports).to_vec();
        ports.iter().find(|port| text(&port.name) == name).unwrap().node_port
    };
    let new = update(
        &json!({"type": "NodePort", "ports": [{"name": "c", "port": 82}, {"name": "b", "port": 8081}]}),
        &old,
    )
    .unwrap();
    assert_eq!(held(&new, "b"), held(&old, "b"));
    assert_ne!(held(&new, "c"), held(&old, "b"));
}

#[test]
fn cluster_ips_may_not_change() {
    let old = admit(&with(&json!({"clusterIP": "127.96.3.4"}))).unwrap();
    assert_eq!(
        update(&with(&json!({"clusterIP": "127.96.3.5"})), &old).unwrap_err(),
        ["spec.clusterIPs[0]: Invalid value: [\"127.96.3.5\"]: may not change once set"]
    );
    assert_eq!(
        update(&with(&json!({"clusterIP": "None"})), &old).unwrap_err(),
        ["spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set"]
    );
    let class = |class: &str| with(&json!({"type": "LoadBalancer", "loadBalancerClass": class}));
    let old = admit(&class("a")).unwrap();
    assert_eq!(
        update(&class("b"), &old).unwrap_err(),
        ["spec.loadBalancerClass: Invalid value: \"b\": may not change once set"]
    );
}

#[test]
fn types_change_in_place() {
    let external = json!({"type": "ExternalName", "externalName": "auth.example"});
    let old = admit(&external).unwrap();
    let new = update(&port_80(), &old).unwrap();
    assert_eq!(claims(&new).len(), 1);
    // What `kubectl apply` sends: the live object with the change merged in.
    let mut live = spec_of(&new);
    json_patch::merge(&mut live, &json!({"type": "ExternalName", "externalName": "auth.example"}));
    let back = update(&live, &new).unwrap();
    assert_eq!(claims(&back), []);
    assert_eq!(back.spec.as_ref().unwrap().cluster_ip, None);

    let balanced =
        admit(&with(&json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}))).unwrap();
    assert_eq!(claims(&balanced).len(), 3);
    for (type_, kept) in [("NodePort", 2), ("ClusterIP", 1)] {
        let live = merged(spec_of(&balanced), &json!({"type": type_}));
        let new = update(&live, &balanced).unwrap();
        assert_eq!(claims(&new).len(), kept, "{type_}");
        assert!(claims(&new).iter().all(|claim| claims(&balanced).contains(claim)));
        assert_eq!(new.spec.unwrap().allocate_load_balancer_node_ports, None);
    }
}

#[test]
fn load_balancer_status() {
    let mut old = admit(&with(&json!({"type": "LoadBalancer"}))).unwrap();
    let check = |status: Value, view: &View| {
        let options = options();
        let context = context(view, &options, Subresource::Status);
        let mut new = old.clone();
        new.status = Some(object(json!({"loadBalancer": {"ingress": [status]}})));
        (RULES.default)(&mut new, Some(&old), &context);
        let mut causes = (RULES.validate)(&new, Some(&old), &context);
        causes.extend(RULES.allocate.unwrap()(&mut new, Some(&old), &context));
        (lines(&causes), new)
    };
    let view = View::for_tests();
    let (faults, new) = check(json!({"ip": "127.100.0.1"}), &view);
    assert_eq!(faults, [""; 0]);
    assert!(claims(&new).contains(&Claim::LoadBalancerAddress("127.100.0.1".parse().unwrap())));
    assert_eq!(shown(&new.status)["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    assert_eq!(
        check(json!({"hostname": "10.0.0.1"}), &view).0,
        [
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"
        ]
    );
    let mut full = View::for_tests();
    let held = Held { owner: "default/other".to_owned(), revision: 1 };
    full.allocations.insert("allocations/load-balancer-addresses/127.100.0.1".to_owned(), held);
    assert_eq!(
        check(json!({"ip": "127.100.0.1"}), &full).0,
        [
            "status.loadBalancer.ingress: Invalid value: \"127.100.0.1\": provided IP is already allocated"
        ]
    );
    // A Service that is no longer balanced gives its address back.
    old = new;
    let plain = update(&merged(spec_of(&old), &json!({"type": "ClusterIP"})), &old).unwrap();
    assert_eq!(shown(&plain.status), json!({"loadBalancer": {}}));
}

#[test]
fn doubtful_values_are_warned_about() {
    let service = admit(&with(&json!({"ports": [{"port": 80, "protocol": "SCTP"}]}))).unwrap();
    assert_eq!(
        warnings(&service, None),
        ["spec.ports[0]: SCTP port 80 is answered in DNS, but no traffic is carried"]
    );
    let service =
        admit(&with(&json!({"clusterIP": "None", "sessionAffinity": "ClientIP"}))).unwrap();
    assert_eq!(warnings(&service, None), ["spec.SessionAffinity is ignored for headless services"]);
}
