//! NetworkPolicies: policy types from what the rules say, ports and peers that mean something.

use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, Rules, address, checks,
            fields::{fill_text, is_empty, items},
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::NETWORK_POLICY,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Pod-Selector", "Labels of the pods that it is about."),
        Column::AGE,
    ],
    cells: |object, now| {
        let spec = object.parse::<NetworkPolicy>()?.spec.unwrap_or_default();
        let chosen = spec.pod_selector.as_ref().map(row::selector).unwrap_or_default();
        Ok(row::plain(object, now, [row::or(chosen, row::NONE)]))
    },
    ..BuiltIn::STORED
};

static RULES: Rules<NetworkPolicy> = Rules { default, validate, ..Rules::STORED };

const INGRESS: &str = "Ingress";
const EGRESS: &str = "Egress";
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

fn default(new: &mut NetworkPolicy, _old: Option<&NetworkPolicy>, _context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    spec.pod_selector.get_or_insert_default();
    if is_empty(&spec.policy_types) {
        let types = [Some(INGRESS), (!is_empty(&spec.egress)).then_some(EGRESS)];
        spec.policy_types = Some(types.into_iter().flatten().map(str::to_owned).collect());
    }
    let ingress = spec.ingress.iter_mut().flatten().map(|rule| &mut rule.ports);
    let egress = spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports);
    for port in ingress.chain(egress).flatten().flatten() {
        fill_text(&mut port.protocol, "TCP");
    }
}

fn validate(
    new: &NetworkPolicy,
    _old: Option<&NetworkPolicy>,
    _context: &Context<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if let Some(selector) = &spec.pod_selector {
        checks::selector(&mut causes, "spec.podSelector", selector);
    }
    for (i, rule) in items(&spec.ingress).iter().enumerate() {
        validate_rule(&mut causes, &format!("spec.ingress[{i}]"), &rule.ports, "from", &rule.from);
    }
    for (i, rule) in items(&spec.egress).iter().enumerate() {
        validate_rule(&mut causes, &format!("spec.egress[{i}]"), &rule.ports, "to", &rule.to);
    }
    let types = items(&spec.policy_types);
    if types.len() > 2 {
        let rule = "may not specify more than two policyTypes";
        causes.push(Cause::invalid("spec.policyTypes", checks::shown(&types), rule));
        return causes;
    }
    for (i, policy_type) in types.iter().enumerate() {
        let field = format!("spec.policyTypes[{i}]");
        checks::one_of(&mut causes, &field, policy_type, &[INGRESS, EGRESS]);
    }
    causes
}

fn validate_rule(
    causes: &mut Vec<Cause>,
    path: &str,
    ports: &Option<Vec<NetworkPolicyPort>>,
    direction: &str,
    peers: &Option<Vec<NetworkPolicyPeer>>,
) {
    for (i, port) in items(ports).iter().enumerate() {
        validate_port(causes, &format!("{path}.ports[{i}]"), port);
    }
    for (i, peer) in items(peers).iter().enumerate() {
        validate_peer(causes, &format!("{path}.{direction}[{i}]"), peer);
    }
}

fn validate_port(causes: &mut Vec<Cause>, path: &str, port: &NetworkPolicyPort) {
    if let Some(protocol) = &port.protocol {
        checks::one_of(causes, &format!("{path}.protocol"), protocol, PROTOCOLS);
    }
    let end_field = format!("{path}.endPort");
    let refuse_end = |causes: &mut Vec<Cause>, rule| {
        if let Some(end) = port.end_port {
            causes.push(Cause::invalid(&end_field, end, rule));
        }
    };
    match &port.port {
        Some(IntOrString::Int(number)) => {
            checks::port_number(causes, &format!("{path}.port"), *number);
            if port.end_port.is_some_and(|end| end < *number) {
                refuse_end(causes, "must be greater than or equal to `port`");
            }
            if let Some(end) = port.end_port {
                checks::port_number(causes, &end_field, end);
            }
        }
        Some(IntOrString::String(name)) => {
            refuse_end(causes, "may not be specified when `port` is non-numeric");
            checks::port_name(causes, &format!("{path}.port"), name);
        }
        None => refuse_end(causes, "may not be specified when `port` is not specified"),
    }
}

fn validate_peer(causes: &mut Vec<Cause>, path: &str, peer: &NetworkPolicyPeer) {
    let selectors =
        [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)];
    for (field, selector) in selectors {
        if let Some(selector) = selector {
            checks::selector(causes, &format!("{path}.{field}"), selector);
        }
    }
    if let Some(block) = &peer.ip_block {
        validate_block(causes, &format!("{path}.ipBlock"), block);
    }
    let selects = selectors.iter().any(|(_, selector)| selector.is_some());
    match (&peer.ip_block, selects) {
        (None, false) => causes.push(Cause::required(path, "must specify a peer")),
        (Some(_), true) => {
            causes.push(Cause::forbidden(path, "may not specify both ipBlock and another peer"));
        }
        _ => {}
    }
}

fn validate_block(causes: &mut Vec<Cause>, path: &str, block: &IPBlock) {
    let field = format!("{path}.cidr");
    if block.cidr.is_empty() {
        causes.push(Cause::required(field, ""));
        return;
    }
    address::range(causes, &field, &block.cidr);
    let Ok(range) = block.cidr.parse::<IpNet>() else { return };
    for (i, text) in items(&block.except).iter().enumerate() {
        let field = format!("{path}.except[{i}]");
        address::range(causes, &field, text);
        let Ok(except) = text.parse::<IpNet>() else { continue };
        if !range.contains(&except.addr()) || range.prefix_len() >= except.prefix_len() {
            let rule = "must be a strict subset of `cidr`";
            causes.push(Cause::invalid(field, text.as_str(), rule));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Subresource, View,
        strategy::checks::testing::{context, lines, object, options},
    };

    fn admit(spec: &Value) -> (Vec<String>, NetworkPolicy) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new: NetworkPolicy =
            object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "a"}, "spec": spec}));
        default(&mut new, None, &context);
        (lines(&validate(&new, None, &context)), new)
    }

    #[test]
    fn defaults() {
        let (faults, policy) = admit(&json!({"egress": [{"ports": [{"port": 53}]}]}));
        assert_eq!(faults, [""; 0]);
        let spec = checks::shown(&policy.spec);
        assert_eq!(spec["podSelector"], json!({}));
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["egress"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn rules() {
        for (spec, expected) in [
            (
                json!({"ingress": [{"ports": [{"port": 90, "endPort": 80}, {"port": "http", "endPort": 80},
                    {"endPort": 80}, {"protocol": "ICMP"}]}]}),
                vec![
                    "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                    "spec.ingress[0].ports[1].endPort: Invalid value: 80: may not be specified when `port` is non-numeric",
                    "spec.ingress[0].ports[2].endPort: Invalid value: 80: may not be specified when `port` is not specified",
                    "spec.ingress[0].ports[3].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                ],
            ),
            (
                json!({"egress": [{"to": [{}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
                vec![
                    "spec.egress[0].to[0]: Required value: must specify a peer",
                    "spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer",
                ],
            ),
            (
                json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/16",
                    "except": ["10.0.1.0/24", "10.0.0.0/16", "x"]}}, {"ipBlock": {}}]}]}),
                vec![
                    "spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"10.0.0.0/16\": must be a strict subset of `cidr`",
                    "spec.ingress[0].from[0].ipBlock.except[2]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                    "spec.ingress[0].from[1].ipBlock.cidr: Required value",
                ],
            ),
            (
                json!({"policyTypes": ["Both"]}),
                vec![
                    "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
                ],
            ),
        ] {
            assert_eq!(admit(&spec).0, expected);
        }
    }
}
