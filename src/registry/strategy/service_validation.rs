//! Validation of Services, in the order and the words of kube-apiserver.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServicePort, ServiceSpec};
use serde_json::{Value, json};

use crate::{
    model::{
        Cause,
        service::{
            CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, NONE, is_externally_accessible,
            is_headless, is_type, needs_cluster_ip, needs_health_check,
        },
        well_known::{TOPOLOGY_HINTS_ANNOTATION, TOPOLOGY_MODE_ANNOTATION},
    },
    registry::{
        Subresource,
        strategy::{
            Context, address, checks,
            fields::{is_empty, items, text},
            metadata::NameForm,
        },
    },
};

const AFFINITY_SECONDS_MAX: i32 = 86_400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const NOT_EXTERNAL_NAME: &str = "may not be set for ExternalName services";
const SET_ONCE: &str = "may not change once set";
/// The port of kubelet, which a load balancer must not expose.
const KUBELET_PORT: i32 = 10_250;
/// Discovery A13: unlike Kubernetes, which accepts them with a warning.
const EXTERNAL_IPS_REFUSED: &str =
    "externalIPs let any namespace take over the traffic to any address (CVE-2020-8554)";

pub(super) fn validate(new: &Service, old: Option<&Service>, context: &Context<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(spec) = &new.spec else { return causes };
    if context.subresource == Subresource::Status {
        let status = new.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        load_balancer_status(&mut causes, spec, status);
        return causes;
    }
    if let Some(old) = old.and_then(|old| old.spec.as_ref()) {
        cluster_ip_changes(&mut causes, spec, old);
        family_changes(&mut causes, spec, old);
        other_changes(&mut causes, spec, old);
    }
    topology_annotations(&mut causes, new);
    if is_empty(&spec.ports) && !is_headless(spec) && !is_type(spec, EXTERNAL_NAME) {
        causes.push(Cause::required("spec.ports", ""));
    }
    type_rules(&mut causes, spec);
    ports(&mut causes, spec);
    checks::labels(&mut causes, "spec.selector", spec.selector.as_ref());
    session_affinity(&mut causes, spec);
    causes.extend(cluster_ips(spec));
    if !is_empty(&spec.external_ips) {
        causes.push(Cause::forbidden("spec.externalIPs", EXTERNAL_IPS_REFUSED));
    }
    let types = [CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT];
    checks::one_of(&mut causes, "spec.type", text(&spec.type_), &types);
    port_conflicts(&mut causes, spec);
    source_ranges(&mut causes, new, spec);
    load_balancer_fields(&mut causes, spec);
    traffic_policies(&mut causes, spec);
    causes
}

/// Whether the sets of addresses before and after are one family more, one less, or the same.
fn cluster_ip_changes(causes: &mut Vec<Cause>, new: &ServiceSpec, old: &ServiceSpec) {
    if !needs_cluster_ip(old) || !needs_cluster_ip(new) || (is_headless(old) && is_headless(new)) {
        return;
    }
    let (before, after) = (items(&old.cluster_ips), items(&new.cluster_ips));
    let set_once =
        |i: usize| Cause::invalid(format!("spec.clusterIPs[{i}]"), checks::shown(&after), SET_ONCE);
    if before.len() == after.len() {
        let changed = before.iter().zip(after).enumerate().filter(|(_, (old, new))| old != new);
        causes.extend(changed.map(|(i, _)| set_once(i)));
        return;
    }
    match (before.first(), after.first()) {
        (Some(_), None) => {
            let rule = "primary clusterIP can not be unset";
            causes.push(Cause::invalid("spec.clusterIPs[0]", json!(after), rule));
        }
        (Some(old), Some(new)) if old != new => causes.push(set_once(0)),
        _ => {}
    }
    if before.len() > 1 && after.len() == 1 && text(&new.ip_family_policy) != "SingleStack" {
        let rule = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let policy = checks::shown(&new.ip_family_policy);
        causes.push(Cause::invalid("spec.ipFamilyPolicy", policy, rule));
    }
}

fn family_changes(causes: &mut Vec<Cause>, new: &ServiceSpec, old: &ServiceSpec) {
    let comparable = needs_cluster_ip(old) && needs_cluster_ip(new);
    if !comparable || is_headless(old) || is_headless(new) {
        return;
    }
    const FIELD: &str = "spec.ipFamilies[0]";
    let (before, after) = (items(&old.ip_families), items(&new.ip_families));
    let addresses = items(&new.cluster_ips);
    if before.len() == after.len() {
        let changed = before.iter().zip(after).filter(|(old, new)| old != new);
        causes.extend(changed.map(|_| Cause::invalid(FIELD, json!(after), SET_ONCE)));
        return;
    }
    if before.len() > after.len() && addresses.is_empty() {
        let rule = "primary ipFamily can not be unset";
        causes.push(Cause::invalid(FIELD, json!(after), rule));
    }
    if matches!((before.first(), after.first()), (Some(old), Some(new)) if old != new) {
        // kube-apiserver shows the addresses here.
        causes.push(Cause::invalid(FIELD, json!(addresses), SET_ONCE));
    }
    if before.len() > 1 && after.len() == 1 && text(&new.ip_family_policy) != "SingleStack" {
        let rule = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        let policy = checks::shown(&new.ip_family_policy);
        causes.push(Cause::invalid("spec.ipFamilyPolicy", policy, rule));
    }
}

fn other_changes(causes: &mut Vec<Cause>, new: &ServiceSpec, old: &ServiceSpec) {
    if is_type(old, LOAD_BALANCER)
        && is_type(new, LOAD_BALANCER)
        && new.load_balancer_class != old.load_balancer_class
    {
        let class = checks::shown(&new.load_balancer_class);
        causes.push(Cause::invalid("spec.loadBalancerClass", class, SET_ONCE));
    }
    // kube-apiserver checks it twice on an update.
    load_balancer_class(causes, new);
    if needs_health_check(old)
        && needs_health_check(new)
        && new.health_check_node_port != old.health_check_node_port
    {
        causes.push(Cause::forbidden("spec.healthCheckNodePort", checks::IMMUTABLE));
    }
}

fn topology_annotations(causes: &mut Vec<Cause>, service: &Service) {
    let annotation = |name| service.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let mode = annotation(TOPOLOGY_MODE_ANNOTATION);
    if let (Some(mode), Some(hints)) = (mode, annotation(TOPOLOGY_HINTS_ANNOTATION))
        && mode != hints
    {
        let rule =
            format!("must match annotations[{TOPOLOGY_HINTS_ANNOTATION}] when both are specified");
        let field = format!("metadata.annotations[{TOPOLOGY_MODE_ANNOTATION}]");
        causes.push(Cause::invalid(field, mode.as_str(), &rule));
    }
}

fn type_rules(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    if is_type(spec, LOAD_BALANCER) {
        let ports = items(&spec.ports).iter().enumerate();
        for (i, _) in ports.filter(|(_, port)| port.port == KUBELET_PORT) {
            let rule = "may not expose port 10250 externally since it is used by kubelet";
            causes.push(Cause::invalid(format!("spec.ports[{i}]"), KUBELET_PORT, rule));
        }
    }
    match text(&spec.type_) {
        type_ @ (LOAD_BALANCER | NODE_PORT) if is_headless(spec) => {
            let rule = format!("may not be set to 'None' for {type_} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", NONE, &rule));
        }
        EXTERNAL_NAME => {
            if !is_empty(&spec.cluster_ips) {
                causes.push(Cause::forbidden("spec.clusterIPs", NOT_EXTERNAL_NAME));
            }
            if !is_empty(&spec.ip_families) {
                causes.push(Cause::forbidden("spec.ipFamilies", NOT_EXTERNAL_NAME));
            }
            if spec.ip_family_policy.is_some() {
                causes.push(Cause::forbidden("spec.ipFamilyPolicy", NOT_EXTERNAL_NAME));
            }
            let name = text(&spec.external_name);
            match name.strip_suffix('.').unwrap_or(name) {
                "" => causes.push(Cause::required("spec.externalName", "")),
                name => checks::name(causes, "spec.externalName", name, NameForm::Subdomain),
            }
        }
        _ => {}
    }
}

fn ports(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    let ports = items(&spec.ports);
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        let name = text(&port.name);
        let name_path = format!("{path}.name");
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(name_path, ""));
        } else if !name.is_empty() {
            checks::label(causes, &name_path, name);
            if !names.insert(name) {
                causes.push(Cause::duplicate(name_path, name));
            }
        }
        checks::port_number(causes, &format!("{path}.port"), port.port);
        checks::protocol(causes, &format!("{path}.protocol"), text(&port.protocol));
        if let Some(target) = &port.target_port {
            checks::port(causes, &format!("{path}.targetPort"), target);
        }
        if let Some(protocol) = &port.app_protocol {
            checks::qualified_name(causes, &format!("{path}.appProtocol"), protocol);
        }
    }
}

fn session_affinity(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    let affinity = text(&spec.session_affinity);
    checks::one_of(causes, "spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    if affinity != "ClientIP" {
        return;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let timeout = config.and_then(|config| config.timeout_seconds).unwrap_or_default();
    if !(1..=AFFINITY_SECONDS_MAX).contains(&timeout) {
        let rule = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        causes.push(Cause::invalid(field, timeout, &rule));
    }
}

/// The rules that tie `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` together.
fn cluster_ips(spec: &ServiceSpec) -> Vec<Cause> {
    let mut causes = Vec::new();
    if is_type(spec, EXTERNAL_NAME) {
        return causes;
    }
    let addresses = items(&spec.cluster_ips);
    let all = || json!(addresses);
    match (text(&spec.cluster_ip), addresses.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            let rule = "must be empty when `clusterIP` is not specified";
            causes.push(Cause::invalid("spec.clusterIPs", all(), rule));
        }
        (_, None) => causes.push(Cause::required("spec.clusterIPs", "")),
        (one, Some(first)) if one != first => {
            let rule = "first value must match `clusterIP`";
            causes.push(Cause::invalid("spec.clusterIPs", all(), rule));
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for (i, family) in items(&spec.ip_families).iter().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        checks::one_of(&mut causes, &field, family, &["IPv4", "IPv6"]);
        if !seen.insert(family) {
            causes.push(Cause::duplicate(field, family.as_str()));
        }
    }
    if let Some(policy) = &spec.ip_family_policy {
        let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        checks::one_of(&mut causes, "spec.ipFamilyPolicy", policy, &policies);
    }
    if address_forms(&mut causes, addresses) {
        address_families(&mut causes, spec, addresses);
    }
    causes
}

/// Each address by itself; false when comparing them would make no sense.
fn address_forms(causes: &mut Vec<Cause>, addresses: &[String]) -> bool {
    let before = causes.len();
    if addresses.first().is_some_and(|first| first == NONE) && addresses.len() > 1 {
        let rule = "'None' must be the first and only value";
        causes.push(Cause::invalid("spec.clusterIPs", json!(addresses), rule));
    }
    for (i, text) in addresses.iter().enumerate().filter(|(i, text)| *i > 0 || *text != NONE) {
        address::ip(causes, &format!("spec.clusterIPs[{i}]"), text);
    }
    let comparable = causes.len() == before;
    if addresses.len() > 2 {
        let rule = "may only hold up to 2 values";
        causes.push(Cause::invalid("spec.clusterIPs", json!(addresses), rule));
    }
    comparable
}

fn address_families(causes: &mut Vec<Cause>, spec: &ServiceSpec, addresses: &[String]) {
    let is_v6 = |text: &String| text.contains(':');
    if addresses.len() > 1 && addresses.iter().all(is_v6) == addresses.iter().any(is_v6) {
        let rule = "may specify no more than one IP for each IP family";
        causes.push(Cause::invalid("spec.clusterIPs", json!(addresses), rule));
    }
    if is_headless(spec) {
        return;
    }
    for (i, (text, family)) in addresses.iter().zip(items(&spec.ip_families)).enumerate() {
        if (family == "IPv4" && is_v6(text)) || (family == "IPv6" && !is_v6(text)) {
            let rule = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            causes.push(Cause::invalid(format!("spec.clusterIPs[{i}]"), text.as_str(), &rule));
        }
    }
}

fn port_conflicts(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    let ports = items(&spec.ports);
    let has_node_port = |port: &ServicePort| port.node_port.unwrap_or_default() != 0;
    if is_type(spec, CLUSTER_IP) {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| has_node_port(port)) {
            let rule = "may not be used when `type` is 'ClusterIP'";
            causes.push(Cause::forbidden(format!("spec.ports[{i}].nodePort"), rule));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate().filter(|(_, port)| has_node_port(port)) {
        if !seen.insert((&port.protocol, port.node_port)) {
            let field = format!("spec.ports[{i}].nodePort");
            causes.push(Cause::duplicate(field, port.node_port.unwrap_or_default()));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            causes.push(Cause::duplicate(format!("spec.ports[{i}]"), shown_port(port)));
        }
    }
}

/// A port as kube-apiserver shows it in a message: only what makes it unique.
fn shown_port(port: &ServicePort) -> Value {
    json!({"Name": "", "Protocol": port.protocol, "AppProtocol": null, "Port": port.port,
           "TargetPort": 0, "NodePort": 0})
}

fn source_ranges(causes: &mut Vec<Cause>, service: &Service, spec: &ServiceSpec) {
    let balanced = is_type(spec, LOAD_BALANCER);
    // The capital letter is Kubernetes'.
    const FIELD: &str = "spec.LoadBalancerSourceRanges";
    if !is_empty(&spec.load_balancer_source_ranges) {
        if !balanced {
            causes.push(Cause::forbidden(FIELD, ONLY_LOAD_BALANCER));
        }
        for (i, range) in items(&spec.load_balancer_source_ranges).iter().enumerate() {
            address::range(causes, &format!("{FIELD}[{i}]"), range.trim());
        }
        return;
    }
    let annotations = service.metadata.annotations.as_ref();
    let Some(ranges) = annotations.and_then(|all| all.get(SOURCE_RANGES)) else { return };
    let field = format!("metadata.annotations[{SOURCE_RANGES}]");
    if !balanced {
        causes.push(Cause::forbidden(field.as_str(), ONLY_LOAD_BALANCER));
    }
    for range in ranges.split(',').filter(|_| !ranges.trim().is_empty()) {
        address::range(causes, &field, range.trim());
    }
}

fn load_balancer_fields(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    if spec.allocate_load_balancer_node_ports.is_some() && !is_type(spec, LOAD_BALANCER) {
        let field = "spec.allocateLoadBalancerNodePorts";
        causes.push(Cause::forbidden(field, ONLY_LOAD_BALANCER));
    }
    load_balancer_class(causes, spec);
}

fn load_balancer_class(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    const FIELD: &str = "spec.loadBalancerClass";
    match &spec.load_balancer_class {
        Some(class) if is_type(spec, LOAD_BALANCER) => {
            checks::qualified_name(causes, FIELD, class);
        }
        Some(_) => causes.push(Cause::forbidden(FIELD, ONLY_LOAD_BALANCER)),
        None => {}
    }
}

fn traffic_policies(causes: &mut Vec<Cause>, spec: &ServiceSpec) {
    let policies = ["Cluster", "Local"];
    let external = text(&spec.external_traffic_policy);
    if is_externally_accessible(spec) {
        checks::one_of(causes, "spec.externalTrafficPolicy", external, &policies);
    } else if !external.is_empty() {
        let rule = "may only be set for externally-accessible services";
        causes.push(Cause::invalid("spec.externalTrafficPolicy", external, rule));
    }
    let health = spec.health_check_node_port.unwrap_or_default();
    if health != 0 {
        let field = "spec.healthCheckNodePort";
        if needs_health_check(spec) {
            checks::port_number(causes, field, health);
        } else {
            let rule = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            causes.push(Cause::invalid(field, health, rule));
        }
    }
    if let Some(internal) = &spec.internal_traffic_policy {
        checks::one_of(causes, "spec.internalTrafficPolicy", internal, &policies);
    }
    if let Some(distribution) = &spec.traffic_distribution {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        checks::one_of(causes, "spec.trafficDistribution", distribution, &known);
    }
}

fn load_balancer_status(
    causes: &mut Vec<Cause>,
    spec: &ServiceSpec,
    status: Option<&LoadBalancerStatus>,
) {
    const FIELD: &str = "status.loadBalancer.ingress";
    let ingress = status.map(|status| items(&status.ingress)).unwrap_or_default();
    if !ingress.is_empty() && !is_type(spec, LOAD_BALANCER) {
        causes.push(Cause::forbidden(FIELD, "may only be used when `spec.type` is LoadBalancer"));
        return;
    }
    for (i, ingress) in ingress.iter().enumerate() {
        let (ip, hostname) = (text(&ingress.ip), text(&ingress.hostname));
        let mode_field = format!("{FIELD}[{i}].ipMode");
        if !ip.is_empty() {
            address::ip(causes, &format!("{FIELD}[{i}].ip"), ip);
        }
        match &ingress.ip_mode {
            Some(_) if ip.is_empty() => {
                let rule = "may not be specified when `ip` is not set";
                causes.push(Cause::forbidden(mode_field, rule));
            }
            Some(mode) => checks::one_of(causes, &mode_field, mode, &["Proxy", "VIP"]),
            None => {}
        }
        if !hostname.is_empty() {
            let field = format!("{FIELD}[{i}].hostname");
            checks::name(causes, &field, hostname, NameForm::Subdomain);
            if hostname.parse::<std::net::IpAddr>().is_ok() {
                let rule = "must be a DNS name, not an IP address";
                causes.push(Cause::invalid(field, hostname, rule));
            }
        }
    }
}
