//! The data of DNS: services and their endpoints by name, the existing namespaces, and names by address.
//!
//! Plain values: [`build`](crate::route::build) fills them, `dns` reads them. Records, TTLs and zones are not known here.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};

use crate::route::{NamespacedName, Protocol};

/// The names of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Unix time of the last change that a DNS client could see (SOA serial); 0 while nothing is known.
    pub serial: u32,
    /// Namespaces by name, those that exist and those that only have services (yet).
    pub namespaces: OrdMap<Arc<str>, Namespace>,
    /// The way back: for each address the names that it has, ordered by address, service addresses first.
    pointers: OrdSet<Pointer>,
}

/// One namespace.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Whether the Namespace object exists.
    pub exists: bool,
    /// Services by name.
    pub services: OrdMap<Arc<str>, Arc<Service>>,
}

/// A service as DNS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: NamespacedName,
    /// How it is resolved.
    pub kind: ServiceKind,
    /// Ports of the service itself, SCTP included.
    pub ports: Vec<Port>,
    /// Endpoints, ordered by label, then address; none for ExternalName.
    endpoints: Vec<Endpoint>,
    /// Distinct addresses of the ready endpoints, in order: IPv4 first.
    ready_addresses: Vec<IpAddr>,
}

/// How a service name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// To its virtual addresses, one per family.
    ClusterIp(Vec<IpAddr>),
    /// To the addresses of its ready endpoints.
    Headless,
    /// To another name, as written in the Service.
    ExternalName(Arc<str>),
}

/// A port with a name that DNS can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Lower case; empty for an unnamed port, which has no name in DNS.
    pub name: Arc<str>,
    /// Transport.
    pub protocol: Protocol,
    /// Number.
    pub number: u16,
}

/// An endpoint with the label that it has below its service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Hostname, or the address with dashes; lower case. See [`endpoint_label`].
    pub label: Arc<str>,
    /// Address.
    pub address: IpAddr,
    /// Only ready endpoints are answered (`conditions.ready` true or absent).
    pub ready: bool,
    /// Its ports (those of its slice); empty for a service without ports.
    pub ports: Arc<[Port]>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// One name of an address. The order puts the service that owns an address before endpoints that have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// The address.
    pub address: IpAddr,
    /// The endpoint's label; `None` for the service's own address.
    pub endpoint: Option<Arc<str>>,
    /// The service.
    pub service: NamespacedName,
}

impl Names {
    /// One service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.namespaces.get(namespace)?.services.get(name)
    }

    /// Whether a namespace exists; a service in it is proof enough.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The names of an address: that of the service if it is a service's own address, else those of all endpoints
    /// that have it.
    pub fn pointers(&self, address: IpAddr) -> impl Iterator<Item = &Pointer> {
        let mut own = false;
        self.pointers.range(lowest(address)..).take_while(move |pointer| {
            let taken = pointer.address == address && !(own && pointer.endpoint.is_some());
            own |= pointer.endpoint.is_none();
            taken
        })
    }

    /// Whether any address from `first` to `last` has a name.
    pub fn any_pointer(&self, first: IpAddr, last: IpAddr) -> bool {
        self.pointers.range(lowest(first)..).next().is_some_and(|found| found.address <= last)
    }

    /// Notes whether a namespace exists; true when that is news.
    pub(super) fn set_namespace(&mut self, name: &str, exists: bool) -> bool {
        let mut namespace = self.namespaces.get(name).cloned().unwrap_or_default();
        if namespace.exists == exists {
            return false;
        }
        namespace.exists = exists;
        self.put(name, namespace);
        true
    }

    /// Puts, replaces or removes one service; true when anything changed.
    pub(super) fn set_service(&mut self, name: &NamespacedName, service: Option<Service>) -> bool {
        let mut namespace = self.namespaces.get(&name.namespace).cloned().unwrap_or_default();
        let old = namespace.services.get(&name.name).cloned();
        if old.as_deref() == service.as_ref() {
            return false;
        }
        let before = old.as_deref().map(Service::labels).unwrap_or_default();
        let after = service.as_ref().map(Service::labels).unwrap_or_default();
        let pointer = |(endpoint, address): (Option<&Arc<str>>, IpAddr)| Pointer {
            address,
            endpoint: endpoint.cloned(),
            service: name.clone(),
        };
        for gone in missing(&before, &after) {
            self.pointers.remove(&pointer(gone));
        }
        for new in missing(&after, &before) {
            self.pointers.insert(pointer(new));
        }
        match service {
            Some(service) => namespace.services.insert(name.name.clone(), Arc::new(service)),
            None => namespace.services.remove(&name.name),
        };
        self.put(&name.namespace, namespace);
        true
    }

    fn put(&mut self, name: &str, namespace: Namespace) {
        if namespace.exists || !namespace.services.is_empty() {
            self.namespaces.insert(name.into(), namespace);
        } else {
            self.namespaces.remove(name);
        }
    }
}

fn lowest(address: IpAddr) -> Pointer {
    let service = NamespacedName { namespace: Arc::default(), name: Arc::default() };
    Pointer { address, endpoint: None, service }
}

impl Service {
    /// A service with its endpoints in any order.
    pub fn new(
        name: NamespacedName,
        kind: ServiceKind,
        ports: Vec<Port>,
        mut endpoints: Vec<Endpoint>,
    ) -> Self {
        endpoints.sort();
        endpoints.dedup();
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
        let mut ready_addresses: Vec<IpAddr> = ready.map(|endpoint| endpoint.address).collect();
        ready_addresses.sort_unstable();
        ready_addresses.dedup();
        Self { name, kind, ports, endpoints, ready_addresses }
    }

    /// All endpoints, ordered by label.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints that carry a label; several pods may share a hostname.
    pub fn labelled(&self, label: &str) -> &[Endpoint] {
        let from = self.endpoints.partition_point(|endpoint| *endpoint.label < *label);
        let length = self.endpoints[from..].partition_point(|endpoint| *endpoint.label == *label);
        &self.endpoints[from..from + length]
    }

    /// Distinct addresses of the ready endpoints of one family.
    pub fn ready_addresses(&self, ipv4: bool) -> &[IpAddr] {
        let split = self.ready_addresses.partition_point(IpAddr::is_ipv4);
        let (v4, v6) = self.ready_addresses.split_at(split);
        if ipv4 { v4 } else { v6 }
    }

    /// What its addresses are called below it, in order, each once; `None` for its own ones.
    fn labels(&self) -> Vec<(Option<&Arc<str>>, IpAddr)> {
        let own = match &self.kind {
            ServiceKind::ClusterIp(addresses) => addresses.as_slice(),
            ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
        };
        let mut own: Vec<_> = own.iter().map(|address| (None, *address)).collect();
        own.sort_unstable();
        let ready = self.endpoints.iter().filter(|endpoint| endpoint.ready);
        own.extend(ready.map(|endpoint| (Some(&endpoint.label), endpoint.address)));
        own.dedup();
        own
    }
}

/// What one ordered list has and another has not.
fn missing<T: Copy + Ord>(of: &[T], from: &[T]) -> Vec<T> {
    let mut from = from.iter().peekable();
    let is_missing = |item: &&T| {
        while from.next_if(|other| other < item).is_some() {}
        from.peek() != Some(item)
    };
    of.iter().filter(is_missing).copied().collect()
}

/// The label of an endpoint below its service: its hostname, else its address with dashes for dots and colons
/// (`10-1-2-3`, `fd00--1`; a label cannot end in a dash, so `fd00::` is `fd00--0`).
pub fn endpoint_label(hostname: Option<&str>, address: IpAddr) -> Arc<str> {
    if let Some(hostname) = hostname.filter(|hostname| !hostname.is_empty()) {
        return hostname.to_ascii_lowercase().into();
    }
    let mut label = address.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label.into()
}

/// The address that a dashed label stands for. Three single dashes make it IPv4.
pub fn dashed_address(label: &str) -> Option<IpAddr> {
    if label.matches('-').count() == 3 && !label.contains("--") {
        return label.replace('-', ".").parse().ok().map(|v4: Ipv4Addr| IpAddr::V4(v4));
    }
    label.replace('-', ":").parse().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service_name(name: &str) -> NamespacedName {
        NamespacedName { namespace: "default".into(), name: name.into() }
    }

    fn endpoint(label: &str, address: &str, ready: bool) -> Endpoint {
        let address = address.parse().unwrap();
        Endpoint { label: label.into(), address, ready, ports: Arc::new([]), zone: None }
    }

    fn owners(names: &Names, address: &str) -> Vec<String> {
        let found = names.pointers(address.parse().unwrap());
        found.map(|p| format!("{}.{}", p.endpoint.as_deref().unwrap_or("-"), p.service)).collect()
    }

    #[test]
    fn labels_of_endpoints_and_back() {
        for (address, label) in [
            ("10.1.2.3", "10-1-2-3"),
            ("fd00::1", "fd00--1"),
            ("fd00::", "fd00--0"),
            ("1:2:3:4:5:6:7:8", "1-2-3-4-5-6-7-8"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(&*endpoint_label(None, address), label);
            assert_eq!(dashed_address(label), Some(address));
            assert_eq!(&*endpoint_label(Some("Web-0"), address), "web-0");
        }
        for none in ["blah", "1-2-3", "1-2-3-400", "1.2.3.4", "-", "", "01-2-3-4", "a-b-c-d-e"] {
            assert_eq!(dashed_address(none), None, "{none}");
        }
    }

    #[test]
    fn pointers_follow_services_and_the_own_address_wins() {
        let mut names = Names::default();
        let (web, db) = (service_name("web"), service_name("db"));
        let own = ServiceKind::ClusterIp(vec!["10.0.0.1".parse().unwrap()]);
        let ends = vec![endpoint("a", "10.1.0.1", true), endpoint("b", "10.1.0.2", false)];
        assert!(names.set_service(&web, Some(Service::new(web.clone(), own, vec![], ends))));
        let ends = vec![endpoint("db-0", "10.1.0.1", true), endpoint("db-1", "10.0.0.1", true)];
        let headless = Service::new(db.clone(), ServiceKind::Headless, vec![], ends);
        assert!(names.set_service(&db, Some(headless.clone())));
        assert!(!names.set_service(&db, Some(headless)), "the same again is no change");
        assert_eq!(owners(&names, "10.0.0.1"), ["-.default/web"]);
        assert_eq!(owners(&names, "10.1.0.1"), ["a.default/web", "db-0.default/db"]);
        assert!(owners(&names, "10.1.0.2").is_empty(), "not ready");
        assert!(names.has_namespace("default"));
        assert!(names.set_service(&web, None));
        assert_eq!(owners(&names, "10.0.0.1"), ["db-1.default/db"]);
        let any = |first: &str, last: &str| {
            names.any_pointer(first.parse().unwrap(), last.parse().unwrap())
        };
        assert!(any("10.1.0.0", "10.1.255.255"));
        assert!(!any("10.2.0.0", "10.255.255.255"));
        assert!(names.set_service(&db, None));
        assert!(!names.has_namespace("default"));
        assert!(names.pointers.is_empty());
    }

    #[test]
    fn endpoints_are_found_by_label_and_family() {
        let ends = ["10.1.0.2", "10.1.0.1", "fd00::1", "10.1.0.1"]
            .map(|address| endpoint("web", address, true));
        let mut ends = ends.to_vec();
        ends.push(endpoint("alpha", "10.1.0.3", false));
        ends.push(endpoint("zeta", "10.1.0.2", true));
        let service = Service::new(service_name("web"), ServiceKind::Headless, vec![], ends);
        assert_eq!(service.labelled("web").len(), 3);
        assert_eq!(service.labelled("wea"), []);
        assert_eq!(service.ready_addresses(true).len(), 2);
        assert_eq!(service.ready_addresses(false), ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
