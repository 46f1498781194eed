//! How endpoints are spread over EndpointSlices: full slices, few changed ones. Pure; Services and mirrored Endpoints
//! both end here.
//!
//! Enter at [`pack`], whose result may still be given hints before [`Packing::steps`] makes it writes. The rules are those
//! of Kubernetes' endpoint slice reconciler: endpoints stay where they are; changed slices are filled up first, then one
//! that has room for all the rest, then new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::{Value, json};

use crate::{
    controllers::{Step, document, service::Port, to_value},
    model::{
        Object, kind,
        well_known::{HEADLESS_LABEL, HINTS_ANNOTATION, MANAGED_BY_LABEL, SERVICE_NAME_LABEL},
    },
};

/// The value of the annotation that tells where hints come from.
const AUTO: &str = "Auto";

/// What makes an endpoint the same endpoint: addresses, hostname, and the pod behind it, a line for each.
pub(crate) type Identity = String;
/// Endpoints that have the same ports.
pub(crate) type Endpoints = BTreeMap<Identity, Endpoint>;

/// What all slices of one owner and address family have in common.
pub(crate) struct Template {
    pub(crate) namespace: String,
    /// Beginning of generated names.
    pub(crate) base: String,
    pub(crate) address_type: &'static str,
    pub(crate) labels: BTreeMap<String, String>,
    /// Set on slices that are written; those of a slice that is left alone may be older.
    pub(crate) annotations: BTreeMap<String, String>,
    /// The owner reference.
    pub(crate) owner: Value,
    /// Whether one empty slice stands for no endpoints at all.
    pub(crate) placeholder: bool,
    /// Whether endpoints that stay keep their hints, and a slice counts as unchanged whatever its hints are: they are
    /// decided later, for all slices together.
    pub(crate) keep_hints: bool,
}

struct Slice<'a> {
    object: &'a Arc<Object>,
    parsed: Arc<EndpointSlice>,
    ports: Vec<Port>,
    outdated: bool,
}

impl Slice<'_> {
    fn endpoints(&self) -> &[Endpoint] {
        self.parsed.endpoints.as_deref().unwrap_or_default()
    }

    /// It stands for no endpoints, as a new placeholder would.
    fn is_placeholder(&self) -> bool {
        self.ports.is_empty() && self.endpoints().is_empty() && !self.outdated
    }
}

/// A slice as it shall be.
pub(crate) struct Packed<'a> {
    /// What it is now; new ones have none.
    pub(crate) object: Option<&'a Arc<Object>>,
    pub(crate) ports: Arc<[Port]>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// It is to be written.
    pub(crate) changed: bool,
}

/// All slices of one owner and address family as they shall be.
pub(crate) struct Packing<'a> {
    pub(crate) slices: Vec<Packed<'a>>,
    /// Their hints are those of topology mode `Auto`, which their annotation tells.
    pub(crate) auto_hints: bool,
    deleted: Vec<&'a Arc<Object>>,
}

pub(crate) fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses: Vec<&str> = endpoint.addresses.iter().map(String::as_str).collect();
    addresses.sort_unstable();
    let mut identity = addresses.join(",");
    let target = endpoint.target_ref.as_ref();
    let (namespace, name) = target.map_or((&None, &None), |t| (&t.namespace, &t.name));
    for part in [&endpoint.hostname, namespace, name] {
        identity.push('\n');
        identity.push_str(part.as_deref().unwrap_or_default());
    }
    identity
}

/// How the endpoints that are desired go into the owner's slices of one address family.
pub(crate) fn pack<'a>(
    existing: &[&'a Arc<Object>],
    desired: BTreeMap<Vec<Port>, Endpoints>,
    template: &Template,
    per_slice: usize,
) -> Packing<'a> {
    let mut groups: BTreeMap<Vec<Port>, Vec<Slice<'_>>> = BTreeMap::new();
    for object in existing {
        let slice = parse(object, template);
        groups.entry(slice.ports.clone()).or_default().push(slice);
    }
    let (mut slices, mut deleted) = (Vec::new(), Vec::new());
    for (ports, endpoints) in desired {
        let group = groups.remove(&ports).unwrap_or_default();
        let (packed, emptied) = pack_group(group, endpoints, template, per_slice.max(1), &ports);
        slices.extend(packed);
        deleted.extend(emptied);
    }
    let mut undesired: Vec<_> = groups.into_values().flatten().collect();
    if template.placeholder && slices.is_empty() {
        // No endpoints at all: the one placeholder stays, or takes the place of what is deleted.
        let kept = undesired.pop_if(|last| existing.len() == 1 && last.is_placeholder());
        let changed = kept.is_none();
        let object = kept.map(|slice| slice.object);
        slices.push(Packed { object, ports: Arc::default(), endpoints: Vec::new(), changed });
    }
    deleted.extend(undesired.into_iter().map(|slice| slice.object));
    Packing { slices, auto_hints: false, deleted }
}

impl<'a> Packing<'a> {
    /// The writes that make it so.
    pub(crate) fn steps(self, template: &Template) -> Vec<Step> {
        let Self { mut slices, auto_hints, mut deleted } = self;
        // Rather rewrite a slice than delete one and create another.
        for new in slices.iter_mut().filter(|slice| slice.object.is_none()) {
            new.object = deleted.pop();
        }
        let outdated = |slice: &&Packed<'_>| {
            slice.changed || slice.object.is_some_and(|old| has_auto_hints(old) != auto_hints)
        };
        let written = slices.iter().filter(outdated);
        let mut steps: Vec<_> = written.map(|slice| write(slice, auto_hints, template)).collect();
        steps.extend(deleted.into_iter().map(|object| Step::delete(object)));
        steps
    }
}

/// Whether the hints of a slice are those of topology mode `Auto`.
pub(crate) fn has_auto_hints(slice: &Object) -> bool {
    slice.metadata.annotations.contains_key(HINTS_ANNOTATION)
}

fn parse<'a>(object: &'a Arc<Object>, template: &Template) -> Slice<'a> {
    let parsed = object.digest::<EndpointSlice>();
    let ports = parsed.ports.iter().flatten().map(|port| Port {
        name: port.name.clone(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: port.port,
        app_protocol: port.app_protocol.clone(),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    let outdated = object.metadata.labels != template.labels;
    Slice { object, parsed, ports, outdated }
}

/// Packs the endpoints of one set of ports; gives the slices, changed ones first, and what to delete.
fn pack_group<'a>(
    slices: Vec<Slice<'a>>,
    mut desired: Endpoints,
    template: &Template,
    per_slice: usize,
    ports: &[Port],
) -> (Vec<Packed<'a>>, Vec<&'a Arc<Object>>) {
    let ports: Arc<[Port]> = ports.into();
    let (mut written, mut unchanged, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for slice in slices {
        let before = slice.endpoints().len();
        let mut changed = slice.outdated;
        let mut endpoints = Vec::with_capacity(before);
        for old in slice.endpoints() {
            if let Some(mut new) = desired.remove(&identity(old)) {
                if template.keep_hints {
                    new.hints.clone_from(&old.hints);
                }
                changed |= new != *old;
                endpoints.push(new);
            }
        }
        changed |= endpoints.len() != before;
        if endpoints.is_empty() && before > 0 {
            deleted.push(slice.object);
            continue;
        }
        let (object, ports) = (Some(slice.object), ports.clone());
        let packed = Packed { object, ports, endpoints, changed };
        if changed { written.push(packed) } else { unchanged.push(packed) }
    }
    written.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in &mut written {
        fill(slice, &mut desired, per_slice);
    }
    while !desired.is_empty() {
        let mut slice = take_roomy(&mut unchanged, desired.len(), per_slice).unwrap_or_else(|| {
            let ports = ports.clone();
            Packed { object: None, ports, endpoints: Vec::new(), changed: true }
        });
        fill(&mut slice, &mut desired, per_slice);
        written.push(slice);
    }
    written.append(&mut unchanged);
    (written, deleted)
}

fn fill(slice: &mut Packed<'_>, desired: &mut Endpoints, per_slice: usize) {
    while slice.endpoints.len() < per_slice
        && let Some((_, endpoint)) = desired.pop_first()
    {
        slice.endpoints.push(endpoint);
        slice.changed = true;
    }
}

/// The fullest slice that has room for `count` more.
fn take_roomy<'a>(
    slices: &mut Vec<Packed<'a>>,
    count: usize,
    per_slice: usize,
) -> Option<Packed<'a>> {
    let roomy = |slice: &Packed<'_>| slice.endpoints.len() + count <= per_slice;
    let roomy = slices.iter().enumerate().filter(|(_, slice)| roomy(slice));
    let (index, _) = roomy.max_by_key(|(_, slice)| slice.endpoints.len())?;
    Some(slices.remove(index))
}

fn write(slice: &Packed<'_>, auto_hints: bool, template: &Template) -> Step {
    let mut document = match slice.object {
        Some(object) => document(object),
        None => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": template.namespace, "generateName": template.base,
                         "ownerReferences": [template.owner]},
            "addressType": template.address_type,
        }),
    };
    document["metadata"]["labels"] = to_value(&template.labels);
    for (name, value) in &template.annotations {
        document["metadata"]["annotations"][name.as_str()] = value.as_str().into();
    }
    if auto_hints {
        document["metadata"]["annotations"][HINTS_ANNOTATION] = AUTO.into();
    } else if let Some(Value::Object(annotations)) = document.pointer_mut("/metadata/annotations") {
        annotations.remove(HINTS_ANNOTATION);
    }
    document["endpoints"] = to_value(&slice.endpoints);
    document["ports"] = slice.ports.iter().map(port_value).collect();
    match slice.object {
        Some(object) => Step::Update(object.key.clone(), document),
        None => Step::Create(kind::ENDPOINT_SLICE.clone(), document),
    }
}

fn port_value(port: &Port) -> Value {
    let mut value = json!({"protocol": port.protocol});
    if let Some(name) = &port.name {
        value["name"] = name.as_str().into();
    }
    if let Some(number) = port.port {
        value["port"] = number.into();
    }
    if let Some(protocol) = &port.app_protocol {
        value["appProtocol"] = protocol.as_str().into();
    }
    value
}

/// Labels of an owner without those that the slices' keeper sets itself.
pub(crate) fn inherited_labels(owner: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let reserved: BTreeSet<&str> =
        BTreeSet::from([SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL]);
    let free = owner.iter().filter(|(key, _)| !reserved.contains(key.as_str()));
    free.map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    use super::*;
    use crate::controllers::testing::Cluster;

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n";

    fn template() -> Template {
        Template {
            namespace: "default".into(),
            base: "web-".into(),
            address_type: "IPv4",
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: json!({"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "u"}),
            placeholder: true,
            keep_hints: false,
        }
    }

    fn endpoints(numbers: impl IntoIterator<Item = usize>) -> BTreeMap<Vec<Port>, Endpoints> {
        let name = Some(String::new());
        let port = Port { name, protocol: "TCP".into(), port: Some(80), app_protocol: None };
        let make = |n| {
            let addresses = vec![format!("10.0.{}.{}", n / 200, n % 200)];
            let conditions = Some(EndpointConditions { ready: Some(true), ..<_>::default() });
            let endpoint = Endpoint { addresses, conditions, ..Endpoint::default() };
            (identity(&endpoint), endpoint)
        };
        BTreeMap::from([(vec![port], numbers.into_iter().map(make).collect())])
    }

    /// Reconciles and gives the number of writes and the sizes of all slices afterwards.
    fn check(
        cluster: &mut Cluster,
        desired: BTreeMap<Vec<Port>, Endpoints>,
    ) -> (usize, Vec<usize>) {
        let view = cluster.view.clone();
        let existing: Vec<_> = view.list(&kind::ENDPOINT_SLICE, None).collect();
        let steps = pack(&existing, desired, &template(), 100).steps(&template());
        let count = steps.len();
        steps.into_iter().for_each(|step| cluster.apply(step));
        let slices = cluster.list(&kind::ENDPOINT_SLICE);
        let mut sizes: Vec<_> =
            slices.iter().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        (count, sizes)
    }

    #[test]
    fn few_slices_change() {
        let mut cluster = Cluster::of(NAMESPACE);
        assert_eq!(check(&mut cluster, BTreeMap::new()), (1, vec![0]), "a placeholder");
        assert_eq!(check(&mut cluster, BTreeMap::new()), (0, vec![0]));
        assert_eq!(check(&mut cluster, endpoints(0..250)), (3, vec![50, 100, 100]));
        assert_eq!(check(&mut cluster, endpoints(0..250)), (0, vec![50, 100, 100]));
        // One goes and one comes: both in one slice.
        assert_eq!(check(&mut cluster, endpoints((1..250).chain([300]))), (1, vec![50, 100, 100]));
        // One more fits into the slice with room.
        assert_eq!(
            check(&mut cluster, endpoints((1..250).chain([300, 301]))),
            (1, vec![51, 100, 100])
        );
        assert_eq!(check(&mut cluster, BTreeMap::new()), (3, vec![0]), "back to a placeholder");
    }

    #[test]
    fn five_thousand() {
        let mut cluster = Cluster::of(NAMESPACE);
        assert_eq!(check(&mut cluster, endpoints(0..5000)).0, 50);
        assert_eq!(check(&mut cluster, endpoints(0..4999)).0, 1);
    }
}
