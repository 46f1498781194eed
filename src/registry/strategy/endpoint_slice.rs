//! EndpointSlices: address types, addresses, ports, hints.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};

use crate::{
    model::{Cause, Object, kind},
    registry::{
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, address, checks,
            fields::{fill, fill_text, items, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::ENDPOINT_SLICE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("AddressType", "Family of the addresses."),
        Column::text("Ports", "Ports of each endpoint."),
        Column::text("Endpoints", "Addresses."),
        Column::AGE,
    ],
    cells,
    ..BuiltIn::STORED
};

static RULES: Rules<EndpointSlice> = Rules { default, validate, ..Rules::STORED };

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_LABELS_MAX: usize = 16;
const HINTS_MAX: usize = 8;

fn default(new: &mut EndpointSlice, _old: Option<&EndpointSlice>, _context: &Context<'_>) {
    for port in new.ports.iter_mut().flatten() {
        fill(&mut port.name, String::new());
        fill_text(&mut port.protocol, "TCP");
    }
    for endpoint in new.endpoints.get_or_insert_default() {
        fill(&mut endpoint.conditions, <_>::default());
    }
}

fn validate(new: &EndpointSlice, old: Option<&EndpointSlice>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let types = ["FQDN", "IPv4", "IPv6"];
    checks::required_one_of(&mut causes, "addressType", &new.address_type, &types);
    let endpoints = items(&new.endpoints);
    if endpoints.len() > ENDPOINTS_MAX {
        causes.push(Cause::too_many("endpoints", endpoints.len(), ENDPOINTS_MAX));
    } else {
        for (i, endpoint) in endpoints.iter().enumerate() {
            let path = format!("endpoints[{i}]");
            validate_endpoint(&mut causes, &path, endpoint, &new.address_type, context);
        }
    }
    validate_ports(&mut causes, items(&new.ports));
    if let Some(old) = old {
        checks::immutable(&mut causes, "addressType", &new.address_type, &old.address_type);
    }
    causes
}

fn validate_endpoint(
    causes: &mut Vec<Cause>,
    path: &str,
    endpoint: &Endpoint,
    address_type: &str,
    context: &Context<'_>,
) {
    let field = format!("{path}.addresses");
    match endpoint.addresses.len() {
        0 => causes.push(Cause::required(field.as_str(), "must contain at least 1 address")),
        many if many > ADDRESSES_MAX => {
            causes.push(Cause::too_many(field.as_str(), many, ADDRESSES_MAX));
        }
        _ => {}
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        validate_address(causes, &format!("{field}[{i}]"), address, address_type, context);
    }
    if let Some(node) = &endpoint.node_name {
        checks::name(causes, &format!("{path}.nodeName"), node, NameForm::Subdomain);
    }
    if let Some(topology) = &endpoint.deprecated_topology {
        let field = format!("{path}.deprecatedTopology");
        if topology.len() > TOPOLOGY_LABELS_MAX {
            causes.push(Cause::too_many(field.as_str(), topology.len(), TOPOLOGY_LABELS_MAX));
        }
        checks::labels(causes, &field, Some(topology));
    }
    if let Some(hostname) = &endpoint.hostname {
        checks::label(causes, &format!("{path}.hostname"), hostname);
    }
    if let Some(hints) = &endpoint.hints {
        validate_hints(causes, &format!("{path}.hints"), hints);
    }
}

fn validate_address(
    causes: &mut Vec<Cause>,
    path: &str,
    text: &str,
    address_type: &str,
    context: &Context<'_>,
) {
    let family = match address_type {
        "IPv4" => text.parse().ok().filter(std::net::IpAddr::is_ipv4),
        "IPv6" => text.parse().ok().filter(is_ipv6),
        "FQDN" => return address::domain(causes, path, text),
        _ => return,
    };
    match family {
        Some(ip) => address::endpoint(causes, path, ip, context.options.loopback_endpoints),
        None => {
            let rule = format!("must be a valid {address_type} address");
            causes.push(Cause::invalid(path, text, &rule));
        }
    }
}

/// An IPv4 address in the form of IPv6 is none, as in Kubernetes.
fn is_ipv6(address: &std::net::IpAddr) -> bool {
    matches!(address, std::net::IpAddr::V6(address) if address.to_ipv4_mapped().is_none())
}

fn validate_hints(causes: &mut Vec<Cause>, path: &str, hints: &EndpointHints) {
    let zones: Vec<&str> = items(&hints.for_zones).iter().map(|zone| zone.name.as_str()).collect();
    let nodes: Vec<&str> = items(&hints.for_nodes).iter().map(|node| node.name.as_str()).collect();
    for (field, names, form) in
        [("forZones", zones, None), ("forNodes", nodes, Some(NameForm::Subdomain))]
    {
        let field = format!("{path}.{field}");
        if names.len() > HINTS_MAX {
            causes.push(Cause::too_many(field, names.len(), HINTS_MAX));
            continue;
        }
        let mut seen = BTreeSet::new();
        for (i, name) in names.into_iter().enumerate() {
            let field = format!("{field}[{i}].name");
            if !seen.insert(name) {
                causes.push(Cause::duplicate(field.as_str(), name));
            }
            match form {
                Some(form) => checks::name(causes, &field, name, form),
                None => checks::label_value(causes, &field, name),
            }
        }
    }
}

fn validate_ports(causes: &mut Vec<Cause>, ports: &[EndpointPort]) {
    if ports.len() > PORTS_MAX {
        causes.push(Cause::too_many("ports", ports.len(), PORTS_MAX));
        return;
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (name, field) = (text(&port.name), format!("ports[{i}].name"));
        if !name.is_empty() {
            checks::label(causes, &field, name);
        }
        if !names.insert(name) {
            causes.push(Cause::duplicate(field, name));
        }
        // Kubernetes takes any number here; a port that cannot exist helps nobody.
        if let Some(number) = port.port {
            checks::port_number(causes, &format!("ports[{i}].port"), number);
        }
        checks::protocol(causes, &format!("ports[{i}].protocol"), text(&port.protocol));
        if let Some(protocol) = &port.app_protocol {
            checks::qualified_name(causes, &format!("ports[{i}].appProtocol"), protocol);
        }
    }
}

fn cells(object: &Object, now: Timestamp) -> Cells {
    let slice: EndpointSlice = object.parse()?;
    let ports: Vec<String> = slice
        .ports
        .iter()
        .flatten()
        .map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> =
        slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
    let listed = |all: &[String]| row::or(row::listed(all), row::UNSET);
    Ok(row::plain(object, now, [slice.address_type, listed(&ports), listed(&addresses)]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, merged, object, options},
    };

    fn check(change: &Value, old: Option<&EndpointSlice>) -> (Vec<String>, EndpointSlice) {
        let base = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.244.0.5"]}], "ports": [{"port": 8080}]});
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: EndpointSlice = object(merged(base, change));
        default(&mut new, old, &context);
        (lines(&validate(&new, old, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, slice) = check(&json!({}), None);
        assert_eq!(faults, [""; 0]);
        let port = &slice.ports.unwrap()[0];
        assert_eq!((port.name.as_deref(), port.protocol.as_deref()), (Some(""), Some("TCP")));
    }

    #[test]
    fn rules() {
        let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["127.244.0.5"]})).collect();
        for (change, expected) in [
            (json!({"addressType": ""}), "addressType: Required value"),
            (
                json!({"addressType": "IP"}),
                "addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                json!({"endpoints": [{"addresses": []}]}),
                "endpoints[0].addresses: Required value: must contain at least 1 address",
            ),
            (
                json!({"endpoints": [{"addresses": ["fd00::1"]}]}),
                "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address",
            ),
            (
                json!({"endpoints": [{"addresses": ["169.254.0.1"]}]}),
                "endpoints[0].addresses[0]: Invalid value: \"169.254.0.1\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
            (json!({"endpoints": many}), "endpoints: Too many: 1001: must have at most 1000 items"),
            (
                json!({"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"ports": [{"port": 1, "protocol": "QUIC"}]}),
                "ports[0].protocol: Unsupported value: \"QUIC\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                json!({"ports": [{"port": 0}]}),
                "ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"endpoints": [{"addresses": ["127.0.0.1"],
                    "hints": {"forZones": [{"name": "a"}, {"name": "a"}]}}]}),
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
            ),
        ] {
            assert_eq!(check(&change, None).0, [expected]);
        }
        let (_, old) = check(&json!({}), None);
        let change = json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]});
        assert_eq!(
            check(&change, Some(&old)).0,
            ["addressType: Invalid value: \"FQDN\": field is immutable"]
        );
    }
}
