//! Services: defaults, what an update keeps and drops, and what a Service holds. What the fields mean is in
//! [`crate::model::service`].
//! Validation is in [`service_validation`], addresses and ports in [`service_allocation`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec,
        SessionAffinityConfig,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    model::{
        Object, kind,
        service::{
            CLUSTER_IP, LOAD_BALANCER, NODE_PORT, NONE, is_externally_accessible, is_headless,
            is_type, needs_cluster_ip, needs_health_check, needs_node_ports, node_ports,
        },
    },
    registry::{
        Subresource,
        alloc::Claim,
        printing::{Cells, Column, row},
        strategy::{
            BuiltIn, Context, Rules, as_named,
            fields::{fill, fill_text, is_empty, items, text},
            metadata::NameForm,
            service_allocation::{self, load_balancer_addresses},
            service_validation,
        },
    },
};

pub(super) static DESCRIPTOR: BuiltIn = BuiltIn {
    kind: &kind::SERVICE,
    rules: &RULES,
    columns: &[
        Column::NAME,
        Column::text("Type", "How the service is exposed."),
        Column::text("Cluster-IP", "Virtual address inside the cluster."),
        Column::text("External-IP", "Addresses or name outside the cluster."),
        Column::text("Port(s)", "Ports, with the node port where there is one."),
        Column::AGE,
        Column::SELECTOR,
    ],
    cells,
    selectable_fields: &[as_named("spec.clusterIP"), as_named("spec.type")],
    created_by_put: true,
    ..BuiltIn::STORED
};

pub(super) static RULES: Rules<Service> = Rules {
    default,
    validate: service_validation::validate,
    allocate: Some(service_allocation::allocate),
    claims,
    warnings,
    name: NameForm::Label,
    ..Rules::STORED
};

const AFFINITY_SECONDS: i32 = 10_800;

fn default(new: &mut Service, old: Option<&Service>, context: &Context<'_>) {
    let spec = new.spec.get_or_insert_default();
    default_spec(spec);
    match old.and_then(|old| old.spec.as_ref()) {
        None => {
            if !text(&spec.cluster_ip).is_empty() && is_empty(&spec.cluster_ips) {
                spec.cluster_ips = spec.cluster_ip.clone().map(|address| vec![address]);
            }
        }
        Some(old) if context.subresource == Subresource::None => {
            keep_allocated(spec, old);
            align_cluster_ips(spec, old);
            drop_what_the_type_has_not(spec, old);
        }
        Some(_) => {}
    }
    let balanced = is_type(spec, LOAD_BALANCER);
    let status = new.status.get_or_insert_default();
    let balancer = status.load_balancer.get_or_insert_default();
    if !balanced && context.subresource == Subresource::None {
        *balancer = LoadBalancerStatus::default();
    }
    for ingress in balancer.ingress.iter_mut().flatten().filter(|_| balanced) {
        if !text(&ingress.ip).is_empty() {
            fill(&mut ingress.ip_mode, "VIP".to_owned());
        }
    }
}

fn default_spec(spec: &mut ServiceSpec) {
    fill_text(&mut spec.type_, CLUSTER_IP);
    fill_text(&mut spec.session_affinity, "None");
    match text(&spec.session_affinity) {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.take().and_then(|config| config.client_ip);
            let timeout = config.and_then(|config| config.timeout_seconds);
            let timeout_seconds = Some(timeout.unwrap_or(AFFINITY_SECONDS));
            let client_ip = Some(ClientIPConfig { timeout_seconds });
            spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        }
        _ => {}
    }
    for port in spec.ports.iter_mut().flatten() {
        fill_text(&mut port.protocol, "TCP");
        let open = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if open {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_externally_accessible(spec) {
        fill_text(&mut spec.external_traffic_policy, "Cluster");
    }
    if needs_cluster_ip(spec) {
        fill(&mut spec.internal_traffic_policy, "Cluster".to_owned());
    }
    if is_type(spec, LOAD_BALANCER) {
        fill(&mut spec.allocate_load_balancer_node_ports, true);
    }
}

/// Puts back addresses and ports that were chosen for the client and that it left out, so that the document that
/// created a Service can be sent again.
fn keep_allocated(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && needs_cluster_ip(spec) {
        if text(&spec.cluster_ip).is_empty() {
            spec.cluster_ip.clone_from(&old.cluster_ip);
        }
        if is_empty(&spec.cluster_ips) && !is_empty(&old.cluster_ips) {
            spec.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if needs_node_ports(old) && needs_node_ports(spec) {
        keep_node_ports(spec, old);
    }
    if needs_health_check(old)
        && needs_health_check(spec)
        && spec.health_check_node_port.unwrap_or_default() == 0
    {
        spec.health_check_node_port = old.health_check_node_port;
    }
}

/// A port is known by its name; whatever else of it changed, it keeps its node port unless another took that.
fn keep_node_ports(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let mut used: BTreeSet<i32> = &node_ports(old) & &node_ports(spec);
    let by_name: BTreeMap<&str, i32> = items(&old.ports)
        .iter()
        .map(|port| (text(&port.name), port.node_port.unwrap_or_default()))
        .collect();
    for port in spec.ports.iter_mut().flatten() {
        if port.node_port.unwrap_or_default() != 0 {
            continue;
        }
        let kept = by_name.get(text(&port.name)).copied().unwrap_or_default();
        if kept != 0 && used.insert(kept) {
            port.node_port = Some(kept);
        }
    }
}

/// `clusterIP` is the first of `clusterIPs`; a client that knows only one of the two fields means both.
fn align_cluster_ips(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if spec.cluster_ip == old.cluster_ip {
        if is_empty(&spec.cluster_ips) {
            spec.cluster_ips.clone_from(&old.cluster_ips);
        }
    } else if items(&spec.cluster_ips) == items(&old.cluster_ips) {
        let cleared = text(&spec.cluster_ip).is_empty();
        spec.cluster_ips =
            spec.cluster_ip.clone().filter(|_| !cleared).map(|address| vec![address]);
    }
}

/// After a change of type, drops fields that the new type has not, as long as the client did not touch them.
fn drop_what_the_type_has_not(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(spec) {
        if items(&spec.cluster_ips) == items(&old.cluster_ips) {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
        }
        if items(&spec.ip_families) == items(&old.ip_families) {
            spec.ip_families = None;
        }
        drop_same(&mut spec.ip_family_policy, &old.ip_family_policy);
    }
    let has_node_ports = |spec| is_type(spec, NODE_PORT) || is_type(spec, LOAD_BALANCER);
    if has_node_ports(old) && !has_node_ports(spec) && node_ports(spec) == node_ports(old) {
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if needs_health_check(old) && !needs_health_check(spec) {
        drop_same(&mut spec.health_check_node_port, &old.health_check_node_port);
    }
    if is_type(old, LOAD_BALANCER) && !is_type(spec, LOAD_BALANCER) {
        let allocate = &old.allocate_load_balancer_node_ports;
        drop_same(&mut spec.allocate_load_balancer_node_ports, allocate);
        drop_same(&mut spec.load_balancer_class, &old.load_balancer_class);
    }
    if is_externally_accessible(old) && !is_externally_accessible(spec) {
        drop_same(&mut spec.external_traffic_policy, &old.external_traffic_policy);
    }
}

fn drop_same<T: PartialEq>(field: &mut Option<T>, old: &Option<T>) {
    if field == old {
        *field = None;
    }
}

/// Cluster addresses, node ports (the health check's too), and the load balancer addresses that come from our pool
/// (a Service with a class of its own is served by somebody else's).
fn claims(service: &Service) -> Vec<Claim> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let addresses = items(&spec.cluster_ips).iter().filter(|_| needs_cluster_ip(spec));
    let service_addresses = addresses.filter_map(|a| a.parse().ok()).map(Claim::ServiceAddress);
    let ports = node_ports(spec).into_iter().chain(spec.health_check_node_port);
    let node_ports = ports
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .map(Claim::NodePort);
    let balancer = load_balancer_addresses(service).map(Claim::LoadBalancerAddress);
    let claims: BTreeSet<Claim> = service_addresses.chain(node_ports).chain(balancer).collect();
    claims.into_iter().collect()
}

fn warnings(service: &Service, _old: Option<&Service>) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut warnings: Vec<String> = items(&spec.ports)
        .iter()
        .enumerate()
        .filter(|(_, port)| text(&port.protocol) == "SCTP")
        .map(|(i, ServicePort { port, .. })| {
            format!(
                "spec.ports[{i}]: SCTP port {port} is answered in DNS, but no traffic is carried"
            )
        })
        .collect();
    if is_headless(spec) && is_type(spec, CLUSTER_IP) {
        if !text(&spec.load_balancer_ip).is_empty() {
            warnings.push(ignored("spec.loadBalancerIP"));
        }
        if text(&spec.session_affinity) == "ClientIP" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    warnings
}

fn ignored(field: &str) -> String {
    format!("{field} is ignored when spec.clusterIP is \"{NONE}\"")
}

#[cfg(test)]
pub(super) mod tests;

fn cells(object: &Object, now: Timestamp) -> Cells {
    let service: Service = object.parse()?;
    let spec = service.spec.clone().unwrap_or_default();
    let cluster_ip = spec.cluster_ips.as_ref().and_then(|ips| ips.first().cloned());
    let ports: Vec<String> = spec.ports.iter().flatten().map(printed_port).collect();
    let mut row = row::plain(
        object,
        now,
        [
            spec.type_.clone().unwrap_or_default(),
            cluster_ip.unwrap_or_else(|| row::NONE.to_owned()),
            external_ip(&service),
            row::or(row::joined(ports), row::NONE),
        ],
    );
    row.push(row::labels(spec.selector.as_ref()).into());
    Ok(row)
}

fn printed_port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
        _ => format!("{}/{protocol}", port.port),
    }
}

fn external_ip(service: &Service) -> String {
    let Some(spec) = &service.spec else { return row::UNKNOWN.to_owned() };
    let external = spec.external_ips.iter().flatten().cloned();
    match spec.type_.as_deref() {
        Some("ClusterIP" | "NodePort") => row::or(row::joined(external), row::NONE),
        Some("LoadBalancer") => {
            let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = status.and_then(|status| status.ingress.as_ref());
            let mut addresses: Vec<String> = ingress
                .into_iter()
                .flatten()
                .filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()))
                .collect();
            addresses.sort();
            addresses.dedup();
            row::or(row::joined(addresses.into_iter().chain(external)), "<pending>")
        }
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        _ => row::UNKNOWN.to_owned(),
    }
}
