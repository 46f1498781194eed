//! Endpoints, the old form of EndpointSlices.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use crate::{
    model::{Cause, kind},
    registry::{
        printing::{Column, row},
        strategy::{
            BuiltIn, Context, Rules, address, checks,
            fields::{fill_text, is_empty, items, text},
            metadata::NameForm,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::ENDPOINTS,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Endpoints", "Ready addresses and their ports."),
        Column::AGE,
    ],
    cells: |object, now| Ok(row::plain(object, now, [addresses(&object.parse()?)])),
    created_by_put: true,
    ..BuiltIn::STORED
};

static RULES: Rules<Endpoints> = Rules { default, validate, ..Rules::STORED };

fn default(new: &mut Endpoints, _old: Option<&Endpoints>, _context: &Context<'_>) {
    let subsets = new.subsets.iter_mut().flatten();
    for port in subsets.flat_map(|subset| subset.ports.iter_mut().flatten()) {
        fill_text(&mut port.protocol, "TCP");
    }
}

fn validate(new: &Endpoints, _old: Option<&Endpoints>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (i, subset) in items(&new.subsets).iter().enumerate() {
        let path = format!("subsets[{i}]");
        if is_empty(&subset.addresses) && is_empty(&subset.not_ready_addresses) {
            let rule = "must specify `addresses` or `notReadyAddresses`";
            causes.push(Cause::required(path.as_str(), rule));
        }
        for (field, addresses) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            for (i, address) in items(addresses).iter().enumerate() {
                validate_address(&mut causes, &format!("{path}.{field}[{i}]"), address, context);
            }
        }
        let ports = items(&subset.ports);
        for (i, port) in ports.iter().enumerate() {
            validate_port(&mut causes, &format!("{path}.ports[{i}]"), port, ports.len() > 1);
        }
    }
    causes
}

fn validate_address(
    causes: &mut Vec<Cause>,
    path: &str,
    endpoint: &EndpointAddress,
    context: &Context<'_>,
) {
    let field = format!("{path}.ip");
    let ip = address::ip(causes, &field, &endpoint.ip);
    if !text(&endpoint.hostname).is_empty() {
        checks::label(causes, &format!("{path}.hostname"), text(&endpoint.hostname));
    }
    if let Some(node) = &endpoint.node_name {
        checks::name(causes, &format!("{path}.nodeName"), node, NameForm::Subdomain);
    }
    if let Some(ip) = ip {
        address::endpoint(causes, &field, ip, context.options.loopback_endpoints);
    }
}

fn validate_port(causes: &mut Vec<Cause>, path: &str, port: &EndpointPort, name_required: bool) {
    let (name, field) = (text(&port.name), format!("{path}.name"));
    if !name.is_empty() {
        checks::label(causes, &field, name);
    } else if name_required {
        causes.push(Cause::required(field, ""));
    }
    checks::port_number(causes, &format!("{path}.port"), port.port);
    checks::protocol(causes, &format!("{path}.protocol"), text(&port.protocol));
    if let Some(protocol) = &port.app_protocol {
        checks::qualified_name(causes, &format!("{path}.appProtocol"), protocol);
    }
}

/// Addresses, each with each port.
fn addresses(endpoints: &Endpoints) -> String {
    let Some(subsets) = endpoints.subsets.as_ref().filter(|subsets| !subsets.is_empty()) else {
        return row::NONE.to_owned();
    };
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = || subset.addresses.iter().flatten().map(|address| address.ip.as_str());
        match subset.ports.as_deref().unwrap_or_default() {
            [] => all.extend(addresses().map(str::to_owned)),
            ports => {
                for port in ports {
                    all.extend(addresses().map(|ip| host_port(ip, port.port)));
                }
            }
        }
    }
    row::listed(&all)
}

fn host_port(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::{
        Options, Subresource, View,
        strategy::checks::testing::{context, lines, object, options},
    };

    fn check(subsets: &Value, options: &Options) -> Vec<String> {
        let view = View::for_tests();
        let context = context(&view, options, Subresource::None);
        let mut new: Endpoints = object(json!({"apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": "web"}, "subsets": subsets}));
        default(&mut new, None, &context);
        lines(&validate(&new, None, &context))
    }

    #[test]
    fn rules() {
        let loopback = options();
        let elsewhere = Options { loopback_endpoints: false, ..options() };
        let local = json!([{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 3000}]}]);
        assert_eq!(check(&local, &loopback), [""; 0]);
        assert_eq!(
            check(&local, &elsewhere),
            [
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
            ]
        );
        for (subset, expected) in [
            (
                json!({"ports": [{"port": 1}]}),
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            ),
            (
                json!({"notReadyAddresses": [{"ip": "web.local"}]}),
                "subsets[0].notReadyAddresses[0].ip: Invalid value: \"web.local\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"addresses": [{"ip": "10.0.0.1"}],
                       "ports": [{"port": 1, "name": "a"}, {"port": 2}]}),
                "subsets[0].ports[1].name: Required value",
            ),
            (
                json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 70000}]}),
                "subsets[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
        ] {
            assert_eq!(check(&json!([subset]), &loopback), [expected]);
        }
    }
}
