//! Follows a name through the tree of the zone and collects its records.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{CNAME, NS, PTR, SRV, TXT},
};
use rand::{Rng, seq::SliceRandom};

use crate::{
    dns::zone::{self, PodRecords, Zone},
    route::{
        Protocol, RouteTable,
        names::{self, Port, Service, ServiceKind, dashed_address},
    },
};

/// The version of the DNS specification. The TXT record of `dns-version` contains it.
const VERSION: &str = "1.1.0";
const VERSION_TTL: u32 = 28_800;
/// The largest number of labels below the zone, as in `_port._protocol.service.namespace.svc`.
const DEPTH_MAX: usize = 5;
/// How many ExternalName Services that point to each other are followed.
const CHAIN_MAX: usize = 10;
/// A Service with the address of the server and this port is the DNS Service.
const DNS_PORT: u16 = 53;

/// One resolution: where it searches, and the records that it has found.
pub(super) struct Lookup<'a, R> {
    table: &'a RouteTable,
    zone: &'a Zone,
    /// The zone as the client spelt it.
    origin: &'a Name,
    records_max: usize,
    rng: &'a mut R,
    answers: Vec<Record>,
    additionals: Vec<Record>,
    follow: Option<Name>,
    chain: usize,
}

/// The target of an SRV record: the label below the Service (none for the Service itself), its address, its port.
type Target<'a> = (Option<&'a Arc<str>>, IpAddr, u16);

impl<'a, R: Rng> Lookup<'a, R> {
    pub(super) fn new(
        table: &'a RouteTable,
        zone: &'a Zone,
        origin: &'a Name,
        records_max: usize,
        rng: &'a mut R,
    ) -> Self {
        let (answers, additionals) = (Vec::new(), Vec::new());
        Self { table, zone, origin, records_max, rng, answers, additionals, follow: None, chain: 0 }
    }

    pub(super) fn finish(self) -> (Vec<Record>, Vec<Record>, Option<Name>) {
        (self.answers, self.additionals, self.follow)
    }

    /// Collects the records of a name in the zone. Returns false if the name does not exist. For a name that exists
    /// without records of the type it returns true and collects nothing.
    pub(super) fn resolve(&mut self, name: &Name, rtype: RecordType) -> bool {
        let lower = name.to_lowercase();
        let depth = lower.iter().len().saturating_sub(self.origin.iter().len());
        if depth == 0 {
            self.apex(name, rtype);
            return true;
        }
        if zone::is_reverse(self.origin) {
            return self.reverse(name, rtype);
        }
        let mut labels = [""; DEPTH_MAX];
        if depth > DEPTH_MAX {
            return false;
        }
        for (label, bytes) in labels.iter_mut().zip(lower.iter().take(depth)) {
            let Ok(text) = std::str::from_utf8(bytes) else { return false };
            *label = text;
        }
        match labels[..depth] {
            ["svc" | "pod" | "dns"] => true,
            ["dns-version"] => {
                if rtype == RecordType::TXT {
                    let version = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
                    self.answers.push(Record::from_rdata(name.clone(), VERSION_TTL, version));
                }
                true
            }
            ["ns", "dns"] => {
                let addresses = self.nameservers().into_iter().flat_map(|(_, all)| all).collect();
                self.addresses(name, rtype, addresses);
                true
            }
            [namespace, "svc"] => self.table.names.has_namespace(namespace),
            [service, namespace, "svc"] => self.service(name, rtype, (namespace, service), None),
            [endpoint, service, namespace, "svc"] => {
                self.service(name, rtype, (namespace, service), Some(Prefix::Endpoint(endpoint)))
            }
            [port, protocol, service, namespace, "svc"] => {
                let prefix = Prefix::Port { port: bare(port), protocol: bare(protocol) };
                self.service(name, rtype, (namespace, service), Some(prefix))
            }
            [namespace, "pod"] => {
                self.zone.pods != PodRecords::Disabled && self.table.names.has_namespace(namespace)
            }
            [address, namespace, "pod"] => self.pod(name, rtype, namespace, address),
            _ => false,
        }
    }

    fn apex(&mut self, name: &Name, rtype: RecordType) {
        match rtype {
            RecordType::SOA => {
                self.answers.extend(self.zone.soa(self.origin, self.table.names.serial));
            }
            RecordType::NS => {
                for (target, addresses) in self.nameservers() {
                    self.push(name, RData::NS(NS(target.clone())));
                    for address in addresses {
                        self.glue(&target, address);
                    }
                }
            }
            _ => {}
        }
    }

    /// The names of the server: the Services that have its address, else `ns.dns.ZONE`.
    fn nameservers(&self) -> Vec<(Name, Vec<IpAddr>)> {
        let names = &self.table.names;
        let origin = self.forward_origin();
        let mut found: Vec<(Name, Vec<IpAddr>)> = Vec::new();
        for own in &self.zone.nameservers {
            for pointer in names.pointers(*own) {
                let service = names.service(&pointer.service.namespace, &pointer.service.name);
                let Some(service) = service.filter(|s| serves_dns(s)) else { continue };
                let (label, addresses) = match &service.kind {
                    ServiceKind::ClusterIp(addresses) => (None, addresses.clone()),
                    ServiceKind::Headless => (pointer.endpoint.as_deref(), vec![*own]),
                    ServiceKind::ExternalName(_) => continue,
                };
                let target = name_in(service, label, &origin);
                let known = |target: &Name| found.iter().any(|(name, _)| name == target);
                found.extend(target.filter(|t| !known(t)).map(|target| (target, addresses)));
            }
        }
        if found.is_empty() {
            let own = zone::prepend(&["ns", "dns"], &origin);
            found.extend(own.map(|name| (name, self.zone.nameservers.clone())));
        }
        found
    }

    /// The zone of the names of Services: the zone of the question, or the primary zone for a question in a reverse
    /// zone.
    fn forward_origin(&self) -> Name {
        if zone::is_reverse(self.origin) { self.zone.primary() } else { self.origin.clone() }
    }

    fn reverse(&mut self, name: &Name, rtype: RecordType) -> bool {
        let Some((first, last)) = zone::address_range(name) else { return false };
        if first != last || rtype != RecordType::PTR {
            return self.table.names.any_pointer(first, last);
        }
        let origin = self.forward_origin();
        for pointer in self.table.names.pointers(first).take(self.records_max) {
            let names::Pointer { service, endpoint, .. } = pointer;
            let labels = [&*service.name, &*service.namespace, "svc"];
            let labels: Vec<&str> = endpoint.as_deref().into_iter().chain(labels).collect();
            if let Some(target) = zone::prepend(&labels, &origin) {
                self.push(name, RData::PTR(PTR(target)));
            }
        }
        !self.answers.is_empty()
    }

    fn pod(&mut self, name: &Name, rtype: RecordType, namespace: &str, label: &str) -> bool {
        if self.zone.pods == PodRecords::Disabled || !self.table.names.has_namespace(namespace) {
            return false;
        }
        let Some(address) = dashed_address(label) else { return false };
        self.addresses(name, rtype, vec![address]);
        true
    }

    fn service(
        &mut self,
        name: &Name,
        rtype: RecordType,
        (namespace, service): (&str, &str),
        prefix: Option<Prefix<'_>>,
    ) -> bool {
        let table = self.table;
        let Some(service) = table.names.service(namespace, service) else { return false };
        match (&service.kind, prefix) {
            (ServiceKind::ExternalName(target), None) => self.external(name, rtype, target),
            (ServiceKind::ExternalName(_), Some(_)) => false,
            (ServiceKind::ClusterIp(addresses), None | Some(Prefix::Port { .. })) => {
                let ports: Vec<&Port> =
                    service.ports.iter().filter(|port| fits(port, prefix)).collect();
                if prefix.is_some() && ports.is_empty() {
                    return false;
                }
                if rtype == RecordType::SRV {
                    let pairs = ports.iter().flat_map(|port| {
                        addresses.iter().map(|address| (None, *address, port.number))
                    });
                    let targets: Vec<Target<'_>> = pairs.collect();
                    self.srv(name, service, &targets);
                } else {
                    self.addresses(name, rtype, addresses.clone());
                }
                true
            }
            (ServiceKind::Headless, None) if rtype != RecordType::SRV => {
                // The most frequent question. The table contains its answer.
                let (v4, v6) = (service.ready_addresses(true), service.ready_addresses(false));
                match rtype {
                    RecordType::A => self.addresses(name, rtype, v4.to_vec()),
                    RecordType::AAAA => self.addresses(name, rtype, v6.to_vec()),
                    _ => {}
                }
                !(v4.is_empty() && v6.is_empty())
            }
            (_, prefix) => self.endpoints(name, rtype, service, prefix),
        }
    }

    /// The ready endpoints of a Service: all, or those that the prefix of the name selects.
    fn endpoints(
        &mut self,
        name: &Name,
        rtype: RecordType,
        service: &Service,
        prefix: Option<Prefix<'_>>,
    ) -> bool {
        let all = match prefix {
            Some(Prefix::Endpoint(label)) => service.labelled(label),
            _ => service.endpoints(),
        };
        let asked_port = matches!(prefix, Some(Prefix::Port { .. }));
        let with_port =
            |e: &&names::Endpoint| !asked_port || e.ports.iter().any(|p| fits(p, prefix));
        let picked: Vec<&names::Endpoint> =
            all.iter().filter(|endpoint| endpoint.ready).filter(with_port).collect();
        if picked.is_empty() {
            return false;
        }
        if rtype == RecordType::SRV {
            let pairs = picked.iter().flat_map(|endpoint| {
                let ports = endpoint.ports.iter().filter(|port| fits(port, prefix));
                ports.map(|port| (Some(&endpoint.label), endpoint.address, port.number))
            });
            let targets: Vec<Target<'_>> = pairs.collect();
            self.srv(name, service, &targets);
        } else {
            let addresses: BTreeSet<IpAddr> = picked.iter().map(|e| e.address).collect();
            self.addresses(name, rtype, addresses.into_iter().collect());
        }
        true
    }

    /// The CNAME record, and the records of its target if that is in a zone served here. If the chain ends in a name
    /// that does not exist, there is no answer.
    fn external(&mut self, name: &Name, rtype: RecordType, target: &str) -> bool {
        if target.parse::<IpAddr>().is_ok() {
            return false;
        }
        let wanted = matches!(rtype, RecordType::A | RecordType::AAAA | RecordType::CNAME);
        let Ok(target) = zone::absolute(target) else { return true };
        if !wanted || self.chain == CHAIN_MAX {
            return true;
        }
        self.push(name, RData::CNAME(CNAME(target.clone())));
        if rtype == RecordType::CNAME {
            return true;
        }
        if !self.origin.zone_of(&target) {
            self.follow = Some(target);
            return true;
        }
        self.chain += 1;
        let before = self.answers.len();
        self.resolve(&target, rtype);
        if self.answers.len() == before {
            self.answers.pop();
        }
        true
    }

    /// Address records of the family in the question, in random order. Other types have none.
    fn addresses(&mut self, name: &Name, rtype: RecordType, mut addresses: Vec<IpAddr>) {
        match rtype {
            RecordType::A => addresses.retain(IpAddr::is_ipv4),
            RecordType::AAAA => addresses.retain(IpAddr::is_ipv6),
            _ => return,
        }
        let (shuffled, _) = addresses.partial_shuffle(self.rng, self.records_max);
        for address in shuffled {
            self.push(name, rdata(*address));
        }
    }

    /// One SRV record for each different target and port. As in CoreDNS, the weight is 100 divided by the number of
    /// pairs of address and port, also if several pairs share a record.
    fn srv(&mut self, name: &Name, service: &Service, targets: &[Target<'_>]) {
        let share = 100_usize.checked_div(targets.len()).unwrap_or(0).max(1);
        let weight = u16::try_from(share).unwrap_or(1);
        let mut ports = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        for (label, address, port) in targets {
            if self.answers.len() >= self.records_max {
                break;
            }
            let new_port = ports.insert((*label, *port));
            let new_host = hosts.insert((*label, *address));
            if !new_port && !new_host {
                continue;
            }
            let Some(target) = name_in(service, label.map(AsRef::as_ref), self.origin) else {
                continue;
            };
            if new_host {
                self.glue(&target, *address);
            }
            if new_port {
                self.push(name, RData::SRV(SRV::new(0, weight, *port, target)));
            }
        }
    }

    fn push(&mut self, name: &Name, data: RData) {
        self.answers.push(Record::from_rdata(name.clone(), self.zone.ttl, data));
    }

    fn glue(&mut self, name: &Name, address: IpAddr) {
        if self.additionals.len() < self.records_max {
            self.additionals.push(Record::from_rdata(name.clone(), self.zone.ttl, rdata(address)));
        }
    }
}

/// The labels before the name of a Service.
#[derive(Clone, Copy)]
enum Prefix<'a> {
    Endpoint(&'a str),
    Port { port: &'a str, protocol: &'a str },
}

/// Whether the name selects this port. A name without a port selects all.
fn fits(port: &Port, prefix: Option<Prefix<'_>>) -> bool {
    let Some(Prefix::Port { port: name, protocol }) = prefix else { return true };
    let transport = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    protocol == transport && !name.is_empty() && *port.name == *name
}

/// A port or protocol without its underscore. As in CoreDNS, the underscore is optional.
fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

fn serves_dns(service: &Service) -> bool {
    let own = service.ports.iter();
    own.chain(service.endpoints().iter().flat_map(|e| e.ports.iter())).any(|p| p.number == DNS_PORT)
}

fn name_in(service: &Service, label: Option<&str>, origin: &Name) -> Option<Name> {
    let below = [&*service.name.name, &*service.name.namespace, "svc"];
    match label {
        Some(label) => zone::prepend(&[label, below[0], below[1], below[2]], origin),
        None => zone::prepend(&below, origin),
    }
}

fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(v4.into()),
        IpAddr::V6(v6) => RData::AAAA(v6.into()),
    }
}
