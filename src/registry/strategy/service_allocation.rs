//! Which IP families, addresses and node ports a Service gets. What is requested is honoured or refused; the rest is
//! chosen. The registry stores the result together with the Service.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::json;

use crate::{
    model::{
        Cause,
        service::{
            EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, NONE, ip_family, is_headless, is_type,
            needs_cluster_ip, needs_health_check, needs_node_ports, node_ports,
        },
    },
    registry::{
        Subresource,
        alloc::{self, Claim},
        strategy::{
            Context, checks,
            fields::{items, text},
            service_cidr,
        },
    },
};

const SINGLE_STACK: &str = "SingleStack";
const PREFER_DUAL_STACK: &str = "PreferDualStack";
const REQUIRE_DUAL_STACK: &str = "RequireDualStack";
const FULL: &str = "range is full";

/// The outcome of a step that stops at the first fault.
type Step = Result<(), Vec<Cause>>;

pub(super) fn allocate(
    new: &mut Service,
    old: Option<&Service>,
    context: &Context<'_>,
) -> Vec<Cause> {
    if context.subresource == Subresource::Status {
        return taken_load_balancer_addresses(new, old, context);
    }
    let old = old.and_then(|old| old.spec.as_ref());
    let spec = new.spec.get_or_insert_default();
    choose_families(spec, old, &context.options.service_cidrs)
        .and_then(|()| choose_cluster_ips(spec, old, context))
        .and_then(|()| choose_node_ports(spec, old, context))
        .and_then(|()| choose_health_check_port(spec, old, context))
        .err()
        .unwrap_or_default()
}

/// The addresses in `status.loadBalancer` that come from our pool.
pub(super) fn load_balancer_addresses(service: &Service) -> impl Iterator<Item = IpAddr> + '_ {
    let ours = service.spec.as_ref().is_some_and(|spec| spec.load_balancer_class.is_none());
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.filter(|_| ours).into_iter().flat_map(|status| items(&status.ingress));
    ingress.filter_map(|ingress| text(&ingress.ip).parse().ok())
}

fn taken_load_balancer_addresses(
    new: &Service,
    old: Option<&Service>,
    context: &Context<'_>,
) -> Vec<Cause> {
    let held: Vec<IpAddr> = old.into_iter().flat_map(load_balancer_addresses).collect();
    load_balancer_addresses(new)
        .filter(|address| !held.contains(address))
        .filter(|address| Claim::LoadBalancerAddress(*address).is_taken(context.view))
        .map(|address| {
            let rule = "provided IP is already allocated";
            Cause::invalid("status.loadBalancer.ingress", address.to_string(), rule)
        })
        .collect()
}

fn other(family: &str) -> String {
    if family == "IPv4" { "IPv6".to_owned() } else { "IPv4".to_owned() }
}

fn policy_fault(spec: &ServiceSpec, rule: &str) -> Cause {
    Cause::invalid("spec.ipFamilyPolicy", checks::shown(&spec.ip_family_policy), rule)
}

/// Settles `ipFamilyPolicy` and `ipFamilies`, as `initIPFamilyFields` of kube-apiserver does.
fn choose_families(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, ranges: &[IpNet]) -> Step {
    if is_type(spec, EXTERNAL_NAME) || old.is_some_and(|old| keeps_dual_preference(spec, old)) {
        return Ok(());
    }
    let without_selector = spec.selector.as_ref().is_none_or(|labels| labels.is_empty());
    let free = is_headless(spec) && without_selector;
    if spec.ip_family_policy.is_none() {
        let policy = if free { REQUIRE_DUAL_STACK } else { SINGLE_STACK };
        let inherited = old.and_then(|old| old.ip_family_policy.clone());
        spec.ip_family_policy = Some(inherited.unwrap_or_else(|| policy.to_owned()));
    }
    let single = text(&spec.ip_family_policy) == SINGLE_STACK;
    check_counts(spec, old, single)?;
    let configured: Vec<&str> = ranges.iter().map(|range| ip_family(range.addr())).collect();
    infer_families(spec, &configured)?;
    if !free {
        check_configured(spec, &configured)?;
    }
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).to_owned()));
    }
    if !single && families.len() == 1 && (free || configured.len() == 2) {
        families.push(other(&families[0]));
    }
    Ok(())
}

/// A Service that merely prefers two families keeps what it got, whatever the cluster has become since.
fn keeps_dual_preference(spec: &ServiceSpec, old: &ServiceSpec) -> bool {
    text(&spec.ip_family_policy) == PREFER_DUAL_STACK
        && old.ip_family_policy.as_ref().is_none_or(|policy| policy == PREFER_DUAL_STACK)
        && needs_cluster_ip(spec)
        && spec.type_ == old.type_
        && items(&spec.cluster_ips) == items(&old.cluster_ips)
        && items(&spec.ip_families) == items(&old.ip_families)
}

/// The policy against the number of given addresses and families.
fn check_counts(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, single: bool) -> Step {
    let mut causes = Vec::new();
    if let Some(old) = old {
        let (ips_before, ips) = (items(&old.cluster_ips).len(), items(&spec.cluster_ips).len());
        let (before, families) = (items(&old.ip_families).len(), items(&spec.ip_families).len());
        if single {
            if spec.cluster_ips == old.cluster_ips {
                spec.cluster_ips.iter_mut().for_each(|addresses| addresses.truncate(1));
            }
            if spec.ip_families == old.ip_families {
                spec.ip_families.iter_mut().for_each(|families| families.truncate(1));
            }
        } else {
            if ips > 0 && ips < ips_before {
                let rule = "must be 'SingleStack' to release the secondary cluster IP";
                causes.push(policy_fault(spec, rule));
            }
            if families > 0 && families < before {
                let rule = "must be 'SingleStack' to release the secondary IP family";
                causes.push(policy_fault(spec, rule));
            }
        }
    }
    for (count, what) in [
        (items(&spec.cluster_ips).len(), "cluster IPs"),
        (items(&spec.ip_families).len(), "IP families"),
    ] {
        if single && count == 2 {
            let rule = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            causes.push(policy_fault(spec, &rule));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// Adds the families of given addresses.
fn infer_families(spec: &mut ServiceSpec, configured: &[&str]) -> Step {
    let mut causes = Vec::new();
    let addresses = items(&spec.cluster_ips).to_vec();
    let families = spec.ip_families.get_or_insert_default();
    for (i, address) in addresses.iter().enumerate().skip(families.len()) {
        let Ok(address) = address.parse() else { break };
        let family = ip_family(address);
        if configured.contains(&family) {
            families.push(family.to_owned());
        } else {
            let rule = format!("{family} is not configured on this cluster");
            let field = format!("spec.clusterIPs[{i}]");
            causes.push(Cause::invalid(field, json!(addresses), &rule));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// What a Service with addresses asks for must exist on this data plane.
fn check_configured(spec: &ServiceSpec, configured: &[&str]) -> Step {
    let mut causes = Vec::new();
    if text(&spec.ip_family_policy) == REQUIRE_DUAL_STACK && configured.len() < 2 {
        causes.push(policy_fault(spec, "this cluster is not configured for dual-stack services"));
    }
    for (i, family) in items(&spec.ip_families).iter().enumerate() {
        if !configured.contains(&family.as_str()) {
            let field = format!("spec.ipFamilies[{i}]");
            causes.push(Cause::invalid(field, family.as_str(), "not configured on this cluster"));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

/// One address per family, unless the Service is headless.
fn choose_cluster_ips(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    context: &Context<'_>,
) -> Step {
    if !needs_cluster_ip(spec) || items(&spec.cluster_ips).first().is_some_and(|ip| ip == NONE) {
        return Ok(());
    }
    let held = old.filter(|old| needs_cluster_ip(old)).map(|old| items(&old.cluster_ips));
    let held = held.unwrap_or_default();
    let requested = spec.cluster_ips.take().unwrap_or_default();
    let all = service_cidr::service_ranges(context);
    let mut chosen = Vec::new();
    for (i, family) in items(&spec.ip_families).iter().enumerate() {
        let ranges: Vec<IpNet> =
            all.iter().copied().filter(|range| ip_family(range.addr()) == family).collect();
        let address = match requested.get(i).filter(|text| !text.is_empty()) {
            Some(text) if held.contains(text) => text.clone(),
            Some(text) => requested_address(text, &requested, &ranges, context)?,
            None => ranges
                .iter()
                .find_map(|range| alloc::free_service_address(context.view, *range, context.seed))
                .ok_or_else(|| full("spec.clusterIPs", "serviceIP"))?
                .to_string(),
        };
        chosen.push(address);
    }
    spec.cluster_ip = chosen.first().cloned();
    spec.cluster_ips = Some(chosen);
    Ok(())
}

fn requested_address(
    text: &str,
    requested: &[String],
    ranges: &[IpNet],
    context: &Context<'_>,
) -> Result<String, Vec<Cause>> {
    let address: Option<IpAddr> = text.parse().ok();
    let usable = address.is_some_and(|a| ranges.iter().any(|range| alloc::is_usable(*range, a)));
    let fault = match address.filter(|_| usable) {
        None => "the provided network does not match the current range",
        Some(address) if Claim::ServiceAddress(address).is_taken(context.view) => {
            "provided IP is already allocated"
        }
        Some(_) => return Ok(text.to_owned()),
    };
    let rule = format!("failed to allocate IP {text}: {fault}");
    Err(vec![Cause::invalid("spec.clusterIPs", json!(requested), &rule)])
}

fn full(field: &str, what: &str) -> Vec<Cause> {
    vec![Cause::internal(field, &format!("failed to allocate a {what}: {FULL}"))]
}

/// Node ports of a NodePort or LoadBalancer Service. On create, TCP and UDP of one port number share a node port.
fn choose_node_ports(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    context: &Context<'_>,
) -> Step {
    if !is_type(spec, NODE_PORT) && !is_type(spec, LOAD_BALANCER) {
        return Ok(());
    }
    let held = old.map(node_ports).unwrap_or_default();
    for (i, port) in node_ports_by_index(spec).filter(|(_, port)| !held.contains(port)) {
        if let Some(fault) = node_port_fault(port, context) {
            return Err(vec![Cause::invalid(format!("spec.ports[{i}].nodePort"), port, &fault)]);
        }
    }
    if !needs_node_ports(spec) {
        return Ok(());
    }
    for i in 0..items(&spec.ports).len() {
        let ports = items(&spec.ports);
        if has_node_port(&ports[i]) {
            continue;
        }
        let twin = ports.iter().find(|port| port.port == ports[i].port && has_node_port(port));
        let shared = twin.filter(|_| old.is_none()).and_then(|port| port.node_port);
        let chosen = match shared {
            Some(port) => port,
            None => free_node_port(spec, context)
                .ok_or_else(|| full(&format!("spec.ports[{i}].nodePort"), "nodePort"))?,
        };
        if let Some(port) = spec.ports.as_mut().and_then(|ports| ports.get_mut(i)) {
            port.node_port = Some(chosen);
        }
    }
    Ok(())
}

fn has_node_port(port: &ServicePort) -> bool {
    port.node_port.unwrap_or_default() != 0
}

fn node_ports_by_index(spec: &ServiceSpec) -> impl Iterator<Item = (usize, i32)> + '_ {
    let ports = items(&spec.ports).iter().enumerate();
    ports.filter_map(|(i, port)| Some((i, port.node_port?))).filter(|(_, port)| *port != 0)
}

/// Why a requested node port cannot be had.
fn node_port_fault(port: i32, context: &Context<'_>) -> Option<String> {
    let range = &context.options.node_ports;
    match u16::try_from(port).ok().filter(|port| range.contains(port)) {
        None => Some(format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            range.start(),
            range.end()
        )),
        Some(port) if Claim::NodePort(port).is_taken(context.view) => {
            Some("provided port is already allocated".to_owned())
        }
        Some(_) => None,
    }
}

fn free_node_port(spec: &ServiceSpec, context: &Context<'_>) -> Option<i32> {
    let own: Vec<u16> = node_ports(spec)
        .into_iter()
        .chain(spec.health_check_node_port)
        .filter_map(|port| u16::try_from(port).ok())
        .collect();
    let range = &context.options.node_ports;
    alloc::free_node_port(context.view, range, &own, context.seed).map(i32::from)
}

fn choose_health_check_port(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    context: &Context<'_>,
) -> Step {
    const FIELD: &str = "spec.healthCheckNodePort";
    if !needs_health_check(spec) {
        return Ok(());
    }
    let held = old.filter(|old| needs_health_check(old)).and_then(|old| old.health_check_node_port);
    match spec.health_check_node_port.filter(|port| *port != 0) {
        None => {
            let port = free_node_port(spec, context);
            let port = port.ok_or_else(|| full(FIELD, "HealthCheck NodePort"))?;
            spec.health_check_node_port = Some(port);
        }
        Some(port) if Some(port) != held => {
            let own = node_ports(spec).contains(&port);
            let own = own.then(|| "provided port is already allocated".to_owned());
            if let Some(fault) = own.or_else(|| node_port_fault(port, context)) {
                let rule =
                    format!("failed to allocate requested HealthCheck NodePort {port}: {fault}");
                return Err(vec![Cause::invalid(FIELD, port, &rule)]);
            }
        }
        Some(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
