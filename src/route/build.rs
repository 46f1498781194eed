//! Builds the route table from Kubernetes objects: Services, EndpointSlices, Pods, Nodes and Namespaces.
//!
//! Enter at [`Builder`]: feed it each changed object, then ask for the next table. A change marks the services that
//! it touches, and only those are rebuilt; everything else is shared with the table before. No I/O and no clock here.

mod input;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
use serde::de::DeserializeOwned;

use crate::{
    model::{Object, ObjectKey, kind, well_known::SERVICE_NAME_LABEL},
    route::{
        Endpoint, Frontend, FrontendKind, NamespacedName, Protocol, Route, RouteName, RouteTable,
        names::{self, ServiceKind, endpoint_label},
    },
};

/// What the builder must know about the cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where node ports are served in addition to every node's address.
    pub nodeport_listen: IpAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodeport_listen: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

/// Follows the objects and makes each next [`RouteTable`].
pub struct Builder {
    options: Options,
    services: BTreeMap<NamespacedName, input::Service>,
    /// Slices by their service and their own name.
    slices: BTreeMap<SliceName, Slice>,
    /// The service that each slice (namespace and name) was last labelled with.
    labels: BTreeMap<NamespacedName, NamespacedName>,
    pods: BTreeMap<NamespacedName, input::Pod>,
    /// Who has an address, nodes first (pods on the host network share their node's), and on which node that is.
    holders: BTreeMap<(IpAddr, Holder), Arc<str>>,
    /// Which slices look at a pod, an address or a node.
    uses: BTreeSet<(Use, SliceName)>,
    dirty: BTreeSet<NamespacedName>,
    /// Those of the dirty services whose names may have changed too.
    dirty_names: BTreeSet<NamespacedName>,
    names_changed: bool,
    table: RouteTable,
}

/// A slice with what was made of it, which is kept because a service may have many slices, of which one changes.
struct Slice {
    input: input::Slice,
    names: Vec<names::Endpoint>,
    /// The endpoints for each port of the slice; empty until they are made anew.
    completed: Vec<Vec<Endpoint>>,
}

type SliceName = (NamespacedName, Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Node(Arc<str>),
    Pod(NamespacedName),
}

/// The objects from which a slice's endpoints are completed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// The pod that `targetRef` names.
    Pod(NamespacedName),
    /// Whichever pod has the address of an endpoint without `targetRef`.
    Address(IpAddr),
    /// The node that gives its zone to an endpoint without one.
    Node(Arc<str>),
}

impl Builder {
    /// A builder that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            labels: BTreeMap::new(),
            pods: BTreeMap::new(),
            holders: BTreeMap::new(),
            uses: BTreeSet::new(),
            dirty: BTreeSet::new(),
            dirty_names: BTreeSet::new(),
            names_changed: false,
            table: RouteTable::default(),
        }
    }

    /// Takes in one object as it is now; `None` when it is gone. Kinds that routes do not depend on are ignored.
    pub fn apply(&mut self, key: &ObjectKey, object: Option<&Arc<Object>>) {
        let object = object.map(AsRef::as_ref);
        if key.kind == kind::SERVICE {
            self.apply_service(name_of(key), object);
        } else if key.kind == kind::ENDPOINT_SLICE {
            self.apply_slice(name_of(key), object);
        } else if key.kind == kind::POD {
            self.apply_pod(name_of(key), object);
        } else if key.kind == kind::NODE {
            self.apply_node(key.name.as_str().into(), object);
        } else if key.kind == kind::NAMESPACE {
            self.names_changed |= self.table.names.set_namespace(&key.name, object.is_some());
        }
    }

    /// The table with everything applied so far. `revision` is the store's; `now` becomes the serial of the names
    /// if they changed.
    pub fn table(&mut self, revision: u64, now: Timestamp) -> Arc<RouteTable> {
        for service in mem::take(&mut self.dirty) {
            if catch_unwind(AssertUnwindSafe(|| self.rebuild(&service))).is_err() {
                tracing::error!(%service, "building the routes of a Service panicked, which stay as they were; this is a bug");
            }
        }
        if mem::take(&mut self.names_changed) || self.table.names.serial == 0 {
            self.table.names.serial = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
        }
        self.table.revision = revision;
        Arc::new(self.table.clone())
    }

    fn rebuild(&mut self, service: &NamespacedName) {
        self.complete(service);
        self.rebuild_routes(service);
        if self.dirty_names.remove(service) {
            let names = self.services.get(service).map(|input| self.names(service, input));
            self.names_changed |= self.table.names.set_service(service, names);
        }
    }

    /// Makes the endpoints of a service's slices that changed, or use something that did.
    fn complete(&mut self, service: &NamespacedName) {
        let incomplete = self.slices_of(service).filter(|(_, slice)| slice.completed.is_empty());
        let completed: Vec<(SliceName, Vec<Vec<Endpoint>>)> = incomplete
            .map(|(name, Slice { input, .. })| {
                let of = |port| input.endpoints.iter().map(|e| self.endpoint(e, port)).collect();
                (name.clone(), input.ports.iter().map(of).collect())
            })
            .collect();
        for (name, completed) in completed {
            if let Some(slice) = self.slices.get_mut(&name) {
                slice.completed = completed;
            }
        }
    }

    fn apply_service(&mut self, name: NamespacedName, object: Option<&Object>) {
        let service = object.and_then(|object| {
            Some(input::Service::new(parse::<core::Service>(object)?, &object.metadata.annotations))
        });
        if service.as_ref() != self.services.get(&name) {
            put(&mut self.services, name.clone(), service);
            self.dirty_names.insert(name.clone());
            self.dirty.insert(name);
        }
    }

    fn apply_slice(&mut self, name: NamespacedName, object: Option<&Object>) {
        let label = object.and_then(|object| object.metadata.labels.get(SERVICE_NAME_LABEL));
        let service = label.map(|label| NamespacedName {
            namespace: name.namespace.clone(),
            name: label.as_str().into(),
        });
        if let Some(old) = self.labels.get(&name).filter(|old| service.as_ref() != Some(old)) {
            self.put_slice((old.clone(), name.name.clone()), None);
        }
        if let (Some(service), Some(object)) = (&service, object) {
            let slice = object.digest::<discovery::EndpointSlice>();
            let slice = input::Slice::new(&slice, &name.namespace);
            self.put_slice((service.clone(), name.name.clone()), Some(slice));
        }
        put(&mut self.labels, name, service);
    }

    fn put_slice(&mut self, name: SliceName, slice: Option<input::Slice>) {
        let old = self.slices.get(&name).map(|slice| &slice.input);
        if slice.as_ref() == old {
            return;
        }
        for gone in old.map(uses_of).unwrap_or_default() {
            self.uses.remove(&(gone, name.clone()));
        }
        for new in slice.as_ref().map(uses_of).unwrap_or_default() {
            self.uses.insert((new, name.clone()));
        }
        self.dirty_names.insert(name.0.clone());
        self.dirty.insert(name.0.clone());
        let slice =
            slice.map(|input| Slice { names: names_of(&input), input, completed: Vec::new() });
        put(&mut self.slices, name, slice);
    }

    fn apply_pod(&mut self, name: NamespacedName, object: Option<&Object>) {
        let pod = object.and_then(|object| {
            input::Pod::new(parse::<core::Pod>(object)?, &object.metadata.annotations)
        });
        let old = self.pods.get(&name);
        if pod.as_ref() == old {
            return;
        }
        let before = old.map(|old| old.addresses.clone()).unwrap_or_default();
        let after = pod.as_ref().map(|pod| pod.addresses.clone()).unwrap_or_default();
        let node = pod.as_ref().and_then(|pod| pod.node.clone());
        put(&mut self.pods, name.clone(), pod);
        self.hold(&Holder::Pod(name.clone()), &before, &after, node.as_ref());
        self.mark_users(&Use::Pod(name));
        for address in before.into_iter().chain(after) {
            self.mark_users(&Use::Address(address));
        }
    }

    fn apply_node(&mut self, name: Arc<str>, object: Option<&Object>) {
        let node = object.and_then(|object| {
            Some(input::node(&name, parse::<core::Node>(object)?, &object.metadata.labels))
        });
        let old = self.table.nodes.get(&name).cloned();
        if node.as_ref() == old.as_deref() {
            return;
        }
        let zone = |node: Option<&crate::route::Node>| node.and_then(|node| node.zone.clone());
        if zone(node.as_ref()) != zone(old.as_deref()) {
            self.mark_users(&Use::Node(name.clone()));
        }
        let before = old.map(|old| old.addresses.clone()).unwrap_or_default();
        let after = node.as_ref().map(|node| node.addresses.clone()).unwrap_or_default();
        if before != after {
            for address in before.iter().chain(&after) {
                self.mark_users(&Use::Address(*address));
            }
            self.hold(&Holder::Node(name.clone()), &before, &after, Some(&name));
            let with_ports = self.services.iter().filter(|(_, service)| service.has_node_ports());
            self.dirty.extend(with_ports.map(|(name, _)| name.clone()));
        }
        match node {
            Some(node) => self.table.nodes.insert(name, Arc::new(node)),
            None => self.table.nodes.remove(&name),
        };
    }

    /// Moves a holder from its old addresses to its new ones, and the places with it.
    fn hold(
        &mut self,
        holder: &Holder,
        before: &[IpAddr],
        after: &[IpAddr],
        node: Option<&Arc<str>>,
    ) {
        for address in before {
            self.holders.remove(&(*address, holder.clone()));
        }
        for address in after {
            if let Some(node) = node {
                self.holders.insert((*address, holder.clone()), node.clone());
            }
        }
        for address in before.iter().chain(after) {
            match self.holder(*address).map(|(_, node)| node.clone()) {
                Some(node) => self.table.places.insert(*address, node),
                None => self.table.places.remove(address),
            };
        }
    }

    fn holder(&self, address: IpAddr) -> Option<(&Holder, &Arc<str>)> {
        let first = (address, Holder::Node(Arc::default()));
        let ((found, holder), node) = self.holders.range(first..).next()?;
        (*found == address).then_some((holder, node))
    }

    fn mark_users(&mut self, of: &Use) {
        let first = (of.clone(), (lowest_name(), Arc::default()));
        let users = self.uses.range(first..).take_while(|(used, _)| used == of);
        for (_, name) in users {
            if let Some(slice) = self.slices.get_mut(name) {
                slice.completed.clear();
            }
            self.dirty.insert(name.0.clone());
        }
    }

    fn rebuild_routes(&mut self, service: &NamespacedName) {
        let routes = match self.services.get(service) {
            Some(input) => self.routes(service, input),
            None => BTreeMap::new(),
        };
        let first = RouteName { service: service.clone(), port: 0, protocol: Protocol::Tcp };
        let old = self.table.routes.range(first..).take_while(|(name, _)| name.service == *service);
        let gone: Vec<RouteName> =
            old.map(|(name, _)| name.clone()).filter(|name| !routes.contains_key(name)).collect();
        for name in &gone {
            self.table.routes.remove(name);
        }
        for (name, route) in routes {
            if self.table.routes.get(&name).is_none_or(|old| **old != route) {
                self.table.routes.insert(name, Arc::new(route));
            }
        }
    }

    fn routes(
        &self,
        name: &NamespacedName,
        service: &input::Service,
    ) -> BTreeMap<RouteName, Route> {
        let ServiceKind::ClusterIp(cluster_ips) = &service.kind else { return BTreeMap::new() };
        if cluster_ips.is_empty() {
            return BTreeMap::new();
        }
        let carried = service.ports.iter().filter(|port| port.protocol != Protocol::Sctp);
        let routes = carried.map(|port| {
            let (number, protocol) = (port.number, port.protocol);
            Route {
                name: RouteName { service: name.clone(), port: number, protocol },
                port_name: port.name.clone(),
                frontends: self.frontends(service, cluster_ips, port),
                endpoints: self.endpoints(name, port).into(),
                affinity: service.affinity,
                internal_local: service.internal_local,
                external_local: service.external_local,
                source_ranges: service.source_ranges.clone(),
                policy: service.policy.clone(),
                topology: service.topology.clone(),
            }
        });
        routes.map(|route| (route.name.clone(), route)).collect()
    }

    fn frontends(
        &self,
        service: &input::Service,
        cluster_ips: &[IpAddr],
        port: &input::ServicePort,
    ) -> Vec<Frontend> {
        let at = |kind, number| {
            move |ip: IpAddr| Frontend { kind, address: SocketAddr::new(ip, number) }
        };
        let mut all: Vec<Frontend> = Vec::new();
        all.extend(cluster_ips.iter().copied().map(at(FrontendKind::ClusterIp, port.number)));
        if let Some(number) = port.node_port {
            let nodes = self.table.nodes.values().flat_map(|node| node.addresses.iter().copied());
            let listen: BTreeSet<IpAddr> = nodes.chain([self.options.nodeport_listen]).collect();
            all.extend(listen.into_iter().map(at(FrontendKind::NodePort, number)));
        }
        all.extend(
            service.ingress.iter().copied().map(at(FrontendKind::LoadBalancer, port.number)),
        );
        all
    }

    fn endpoints(&self, service: &NamespacedName, port: &input::ServicePort) -> Vec<Endpoint> {
        let mut all = Vec::new();
        for (_, Slice { input, completed, .. }) in self.slices_of(service) {
            let matching = |p: &names::Port| p.name == port.name && p.protocol == port.protocol;
            let endpoints = input.ports.iter().position(matching).and_then(|at| completed.get(at));
            all.extend_from_slice(endpoints.map_or(&[], Vec::as_slice));
        }
        without_doubles(all)
    }

    fn endpoint(&self, endpoint: &input::SliceEndpoint, port: &names::Port) -> Endpoint {
        let ip = endpoint.addresses[0];
        let holder = || match self.holder(ip) {
            Some((Holder::Pod(name), _)) => Some(name),
            _ => None,
        };
        let named = endpoint.pod.as_ref().or_else(holder);
        let pod = named.and_then(|name| self.pods.get(name));
        let target = pod.map_or(port.number, |pod| pod.bound_port(port.number, port.protocol));
        let node = endpoint.node.as_ref().and_then(|name| self.table.nodes.get(name));
        Endpoint {
            address: SocketAddr::new(ip, port.number),
            target: SocketAddr::new(ip, target),
            node: endpoint.node.clone(),
            zone: endpoint.zone.clone().or_else(|| node.and_then(|node| node.zone.clone())),
            ready: endpoint.ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
            weight: pod.map_or(1, |pod| pod.weight),
            pod: named.map(|name| name.name.clone()),
            hints: endpoint.hints.clone(),
        }
    }

    fn names(&self, name: &NamespacedName, service: &input::Service) -> names::Service {
        let ports = service.ports.iter().map(|port| names::Port {
            name: port.name.clone(),
            protocol: port.protocol,
            number: port.number,
        });
        let mut endpoints = Vec::new();
        if !matches!(service.kind, ServiceKind::ExternalName(_)) {
            for (_, slice) in self.slices_of(name) {
                endpoints.extend_from_slice(&slice.names);
            }
        }
        names::Service::new(name.clone(), service.kind.clone(), ports.collect(), endpoints)
    }

    /// The slices of a service, by name.
    fn slices_of(&self, service: &NamespacedName) -> impl Iterator<Item = (&SliceName, &Slice)> {
        let first = (service.clone(), Arc::default());
        self.slices.range(first..).take_while(move |((of, _), _)| of == service)
    }
}

/// An address that stands in two slices (it may, while it moves) counts once, ready if it is so anywhere.
fn without_doubles(mut all: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut places: Vec<(SocketAddr, usize)> =
        all.iter().enumerate().map(|(at, endpoint)| (endpoint.address, at)).collect();
    places.sort_unstable();
    let mut doubles = BTreeSet::new();
    for same in places.chunk_by(|(a, _), (b, _)| a == b).filter(|same| same.len() > 1) {
        let (first, ready) = (same[0].1, same.iter().find(|(_, at)| all[*at].ready));
        if let Some((_, ready)) = ready.filter(|(_, ready)| *ready != first) {
            all[first] = all[*ready].clone();
        }
        doubles.extend(same[1..].iter().map(|(_, at)| *at));
    }
    let mut at = 0..;
    all.retain(|_| at.next().is_none_or(|at| !doubles.contains(&at)));
    all
}

/// The names of a slice's endpoints, in the order in which a service has them.
fn names_of(slice: &input::Slice) -> Vec<names::Endpoint> {
    let mut names: Vec<_> = slice
        .endpoints
        .iter()
        .flat_map(|endpoint| {
            endpoint.addresses.iter().map(|address| names::Endpoint {
                label: endpoint_label(endpoint.hostname.as_deref(), *address),
                address: *address,
                ready: endpoint.ready,
                ports: slice.ports.clone(),
                zone: endpoint.zone.clone(),
            })
        })
        .collect();
    names.sort();
    names
}

fn uses_of(slice: &input::Slice) -> BTreeSet<Use> {
    let mut uses = BTreeSet::new();
    for endpoint in &slice.endpoints {
        uses.insert(match &endpoint.pod {
            Some(pod) => Use::Pod(pod.clone()),
            None => Use::Address(endpoint.addresses[0]),
        });
        if let (None, Some(node)) = (&endpoint.zone, &endpoint.node) {
            uses.insert(Use::Node(node.clone()));
        }
    }
    uses
}

fn name_of(key: &ObjectKey) -> NamespacedName {
    NamespacedName { namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }
}

fn lowest_name() -> NamespacedName {
    NamespacedName { namespace: Arc::default(), name: Arc::default() }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn parse<T: DeserializeOwned>(object: &Object) -> Option<T> {
    let logged = |error: &_| tracing::error!(key = %object.key, %error, "object does not parse");
    object.parse().inspect_err(logged).ok()
}
