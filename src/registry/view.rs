//! [`View`]: the whole cluster at one revision, immutable and cheap to clone. Lists, controllers and the route
//! builder read it without a lock, so that one decision never sees two states.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::de::DeserializeOwned;

use crate::{
    model::{Kind, LabelSelector, Object, ObjectKey, kind, service::Digest},
    registry::{
        Kinds, Unreadable,
        alloc::{self, ALLOCATIONS, Held},
        cache,
        label_index::{LabelIndex, Names},
    },
};

/// Namespace and name: the order in which lists are given.
pub(crate) type Name = (String, String);

/// A consistent snapshot of all objects.
#[derive(Clone)]
pub struct View {
    pub(crate) revision: u64,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) objects: OrdMap<Kind, OrdMap<Name, Arc<Object>>>,
    /// What is stored of kinds that are not served, by store key.
    pub(crate) unserved: OrdMap<Bytes, (Bytes, u64)>,
    /// Allocations that are not objects, by store key.
    pub(crate) allocations: OrdMap<String, Held>,
    pub(crate) unreadable: OrdMap<ObjectKey, Unreadable>,
    /// The objects that name an owner, by the owner's uid.
    pub(crate) dependents: OrdMap<String, OrdMap<ObjectKey, Arc<Object>>>,
    pub(crate) labels: LabelIndex,
    /// The labels of those objects of an `INDEXED` kind that have no managing owner.
    pub(crate) orphans: LabelIndex,
}

/// Kinds of which there are many, and which are selected by their labels.
const INDEXED: [&Kind; 2] = [&kind::POD, &kind::REPLICA_SET];
/// To find an object by its name takes as long as to pass by so many.
const PASSED_BY: usize = 8;

impl View {
    /// Without objects.
    pub(crate) fn of(kinds: Arc<Kinds>, revision: u64) -> Self {
        Self {
            revision,
            kinds,
            objects: OrdMap::default(),
            unserved: OrdMap::default(),
            allocations: OrdMap::default(),
            unreadable: OrdMap::default(),
            dependents: OrdMap::default(),
            labels: LabelIndex::default(),
            orphans: LabelIndex::default(),
        }
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> &Arc<Kinds> {
        &self.kinds
    }

    /// The revision up to which every commit is contained.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn insert(&mut self, object: &Arc<Object>) {
        let name = (object.key.namespace.clone(), object.key.name.clone());
        let old =
            self.objects.entry(object.key.kind.clone()).or_default().insert(name, object.clone());
        let has_changed = |old: &Arc<Object>| {
            old.key.kind == kind::SERVICE
                || old.metadata.labels != object.metadata.labels
                || old.controller().is_none() != object.controller().is_none()
        };
        if old.as_ref().is_none_or(has_changed) {
            old.iter().for_each(|old| self.forget_labels(old));
            self.index(object);
        }
        if let Some(old) = old
            && old.metadata.owner_references != object.metadata.owner_references
        {
            self.forget_owners(&old);
        }
        for owner in &object.metadata.owner_references {
            let dependents = self.dependents.entry(owner.uid.clone()).or_default();
            dependents.insert(object.key.clone(), object.clone());
        }
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        let Some(objects) = self.objects.get_mut(&key.kind) else { return };
        if let Some(old) = objects.remove(&(key.namespace.clone(), key.name.clone())) {
            self.forget_owners(&old);
            self.forget_labels(&old);
        }
    }

    fn forget_owners(&mut self, object: &Object) {
        for owner in &object.metadata.owner_references {
            let Some(dependents) = self.dependents.get_mut(&owner.uid) else { continue };
            dependents.remove(&object.key);
            if dependents.is_empty() {
                self.dependents.remove(&owner.uid);
            }
        }
    }

    /// Takes over one store change when its key is an allocation.
    pub(crate) fn allocate(&mut self, key: &[u8], revision: u64, owner: Option<&[u8]>) {
        let Ok(key) = str::from_utf8(key) else { return };
        if !key.starts_with(ALLOCATIONS) {
            return;
        }
        match owner {
            Some(owner) => {
                let owner = String::from_utf8_lossy(owner).into_owned();
                self.allocations.insert(key.to_owned(), Held { owner, revision });
            }
            None => {
                self.allocations.remove(key);
            }
        }
    }

    /// Takes over one store change when its key is an object's of a kind that is not served.
    pub(crate) fn keep_unserved(&mut self, key: &Bytes, revision: u64, value: Option<&Bytes>) {
        if ObjectKey::store_parts(key).is_none() || self.kinds.key_of(key).is_some() {
            return;
        }
        match value {
            Some(value) => self.unserved.insert(key.clone(), (value.clone(), revision)),
            None => self.unserved.remove(key),
        };
    }

    /// Makes the objects of a kind unserved.
    pub(crate) fn withdraw(&mut self, kind: &Kind) {
        let Some(objects) = self.objects.get(kind).cloned() else { return };
        for object in objects.values() {
            self.remove(&object.key);
            let value = (object.stored(), object.revision);
            self.unserved.insert(object.key.to_store_key().into(), value);
        }
        self.objects.remove(kind);
    }

    /// Serves what was unserved of a kind. Returns the objects.
    pub(crate) fn adopt(&mut self, kind: &Kind) -> Vec<Arc<Object>> {
        let prefix = Bytes::from(ObjectKey::store_prefix(kind, None));
        let records = self.unserved.range(prefix.clone()..);
        let records = records.take_while(|(key, _)| key.starts_with(&prefix));
        let records: Vec<_> =
            records.map(|(key, (value, at))| (key.clone(), value.clone(), *at)).collect();
        let mut objects = Vec::new();
        for (key, value, revision) in records {
            self.unserved.remove(&key);
            match cache::decode(&self.kinds, &key, revision, value) {
                Some(Ok(object)) => {
                    let object = self.refreshed(&Arc::new(object));
                    self.insert(&object);
                    objects.push(object);
                }
                Some(Err((key, value))) => {
                    self.unreadable.insert(key, value);
                }
                None => {}
            }
        }
        objects
    }

    /// An object in the form that the schema of its kind asks for now.
    fn refreshed(&self, object: &Arc<Object>) -> Arc<Object> {
        let descriptor = self.kinds.descriptor(&object.key.kind);
        descriptor.map_or_else(|| object.clone(), |descriptor| descriptor.refreshed(object))
    }

    /// Serves the kinds that the stored definitions define, with their objects.
    pub(crate) fn serve_defined(&mut self) {
        let definitions = self.list(&kind::CUSTOM_RESOURCE_DEFINITION, None).cloned();
        let kinds = definitions.fold(Kinds::clone(&self.kinds), |kinds, definition| {
            let defined = kinds.defined_by_object(&definition);
            kinds.with(&definition.key.name, defined)
        });
        self.kinds = Arc::new(kinds);
        let custom: Vec<Kind> =
            self.kinds.stored().filter(|kind| kind.is_custom()).cloned().collect();
        for kind in custom {
            self.adopt(&kind);
        }
    }

    /// The revision of what stands at a key of the store.
    pub(crate) fn revision_of(&self, key: &[u8]) -> Option<u64> {
        match self.kinds.key_of(key) {
            None if let Some((_, revision)) = self.unserved.get(key) => Some(*revision),
            Some(key) => {
                let unreadable = || self.unreadable.get(&key).map(|value| value.revision);
                self.get(&key).map(|object| object.revision).or_else(unreadable)
            }
            None => self.allocations.get(str::from_utf8(key).ok()?).map(|held| held.revision),
        }
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        // A tuple of owned strings is what the map is keyed by; the clone is two short strings.
        self.objects.get(key.kind.stored())?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &Kind) -> usize {
        self.objects.get(kind.stored()).map_or(0, OrdMap::len)
    }

    /// All objects of a kind, ordered by namespace and name; with a namespace, only those in it.
    pub fn list<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let only = namespace.map(str::to_owned);
        let from = (namespace.unwrap_or_default().to_owned(), String::new());
        self.objects
            .get(kind.stored())
            .into_iter()
            .flat_map(move |objects| objects.range(from.clone()..))
            .take_while(move |((namespace, _), _)| only.as_ref().is_none_or(|o| o == namespace))
            .map(|(_, object)| object)
    }

    /// The objects of a kind in a namespace that a selector selects. Those of an `INDEXED` kind are found without
    /// looking at the others, as long as the selector demands some label.
    pub fn matching<'view, 'selector>(
        &'view self,
        kind: &Kind,
        namespace: &'selector str,
        selector: &'selector LabelSelector,
    ) -> impl Iterator<Item = &'view Arc<Object>> + use<'view, 'selector> {
        self.found_by(&self.labels, kind, namespace, selector)
    }

    /// Those of the [`matching`](Self::matching) objects that have no managing owner.
    pub(crate) fn matching_orphans<'view, 'selector>(
        &'view self,
        kind: &Kind,
        namespace: &'selector str,
        selector: &'selector LabelSelector,
    ) -> impl Iterator<Item = &'view Arc<Object>> + use<'view, 'selector> {
        let found = self.found_by(&self.orphans, kind, namespace, selector);
        found.filter(|object| object.controller().is_none())
    }

    fn found_by<'view, 'selector>(
        &'view self,
        index: &'view LabelIndex,
        kind: &Kind,
        namespace: &'selector str,
        selector: &'selector LabelSelector,
    ) -> impl Iterator<Item = &'view Arc<Object>> + use<'view, 'selector> {
        let indexed = |label| index.names(kind, namespace, label);
        let is_indexed = INDEXED.contains(&kind);
        let rarest = selector.demanded().filter(|_| is_indexed).map(indexed).min_by_key(Names::len);
        let are_few = |names: &Names<'_>| names.len() * PASSED_BY <= self.count(kind);
        let rarest = rarest.filter(are_few);
        let all = rarest.is_none().then(|| self.list(kind, Some(namespace)));
        let objects = self.objects.get(kind);
        let named = rarest
            .into_iter()
            .flat_map(|names| names.iter())
            .filter_map(move |name| objects?.get(&(namespace.to_owned(), name.clone())));
        let found = all.into_iter().flatten().chain(named);
        found.filter(|object| selector.matches(&object.metadata.labels))
    }

    /// The Services whose selector selects a pod.
    pub fn services_selecting<'a>(
        &'a self,
        pod: &'a Object,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let (namespace, labels) = (pod.key.namespace.as_str(), &pod.metadata.labels);
        let names = labels.iter().flat_map(move |(key, value)| {
            self.labels.names(&kind::SERVICE, namespace, (key, value)).iter()
        });
        let services = names.filter_map(move |name| {
            self.objects.get(&kind::SERVICE)?.get(&(namespace.to_owned(), name.clone()))
        });
        services.filter(|service| {
            let selector = &service.digest::<Digest>().spec.selector;
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
    }

    /// The pods that a Service in this state selects.
    pub fn selected_by(&self, service: &Object) -> Vec<&Arc<Object>> {
        let selector = LabelSelector::from_map(&service.digest::<Digest>().spec.selector);
        if selector.is_empty() {
            return Vec::new();
        }
        self.matching(&kind::POD, &service.key.namespace, &selector).collect()
    }

    /// Pods and ReplicaSets are indexed by all their labels, a Service by that label of its selector which the fewest
    /// other Services share.
    fn index(&mut self, object: &Object) {
        let key = &object.key;
        if INDEXED.contains(&&key.kind) {
            let is_orphan = object.controller().is_none();
            for (label, value) in &object.metadata.labels {
                self.labels.insert(key, (label, value));
                if is_orphan {
                    self.orphans.insert(key, (label, value));
                }
            }
        } else if key.kind == kind::SERVICE {
            let digest = object.digest::<Digest>();
            let labels =
                digest.spec.selector.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let shared =
                |label: &(&str, &str)| self.labels.names(&key.kind, &key.namespace, *label).len();
            if let Some(label) = labels.min_by_key(shared) {
                self.labels.insert(key, label);
            }
        }
    }

    fn forget_labels(&mut self, object: &Object) {
        let key = &object.key;
        if INDEXED.contains(&&key.kind) {
            let is_orphan = object.controller().is_none();
            for (label, value) in &object.metadata.labels {
                self.labels.remove(key, (label, value));
                if is_orphan {
                    self.orphans.remove(key, (label, value));
                }
            }
        } else if key.kind == kind::SERVICE {
            for (label, value) in &object.digest::<Digest>().spec.selector {
                self.labels.remove(key, (label, value));
            }
        }
    }

    /// The typed form of one object; `None` when it is absent (or, which the log then tells, does not parse).
    pub fn parse<T: DeserializeOwned>(&self, key: &ObjectKey) -> Option<T> {
        let object = self.get(key)?;
        object
            .parse()
            .inspect_err(|error| tracing::error!(%key, %error, "stored object does not parse"))
            .ok()
    }

    /// The objects of any kind that name an owner of this uid.
    pub fn dependents<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.dependents.get(uid).into_iter().flatten().map(|(_, object)| object)
    }

    /// The objects of a kind in a namespace whose managing owner has this uid.
    pub fn controlled_by<'view, 'owner>(
        &'view self,
        kind: &Kind,
        namespace: &'owner str,
        uid: &'owner str,
    ) -> impl Iterator<Item = &'view Arc<Object>> + use<'view, 'owner> {
        let (first, wanted) = (ObjectKey::new(kind, namespace, ""), kind.clone());
        let own = self.dependents.get(uid).into_iter();
        own.flat_map(move |all| all.range(first.clone()..))
            .take_while(move |(key, _)| key.kind == wanted && key.namespace == namespace)
            .map(|(_, object)| object)
            .filter(move |object| object.controller().is_some_and(|owner| owner.uid == uid))
    }

    /// Whether an address of the load balancer range is allocated.
    pub fn is_load_balancer_address_taken(&self, address: std::net::IpAddr) -> bool {
        alloc::Claim::LoadBalancerAddress(address).is_taken(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::object::to_stored;

    fn object(kind: &Kind, name: &str, document: serde_json::Value) -> Arc<Object> {
        let key = ObjectKey::new(kind, "default", name);
        Arc::new(Object::from_stored(key, 1, to_stored(kind, document)).unwrap())
    }

    #[test]
    fn services_are_found_by_the_labels_that_they_select() {
        let service = |name: &str, selector: serde_json::Value| {
            object(&kind::SERVICE, name, json!({"metadata": {}, "spec": {"selector": selector}}))
        };
        let pod = |labels| object(&kind::POD, "p", json!({"metadata": {"labels": labels}}));
        let mut view = View::for_tests();
        for (name, selector) in [
            ("one", json!({"app": "a"})),
            ("both", json!({"app": "a", "tier": "x"})),
            ("other", json!({"app": "b", "tier": "x"})),
            ("none", json!({})),
            ("null", json!(null)),
        ] {
            view.insert(&service(name, selector));
        }
        let check = |view: &View, labels: serde_json::Value, expected: &[&str]| {
            let pod = pod(labels);
            let found = view.services_selecting(&pod);
            let mut names: Vec<_> = found.map(|service| service.key.name.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{:?}", pod.metadata.labels);
        };
        check(&view, json!({}), &[]);
        check(&view, json!({"app": "a"}), &["one"]);
        check(&view, json!({"tier": "x"}), &[]);
        check(&view, json!({"app": "a", "tier": "x", "more": "y"}), &["both", "one"]);
        check(&view, json!({"app": "b", "tier": "x"}), &["other"]);
        view.insert(&service("one", json!({"app": "b"})));
        view.insert(&service("null", json!({"tier": "x"})));
        check(&view, json!({"app": "a"}), &[]);
        check(&view, json!({"app": "b", "tier": "x"}), &["null", "one", "other"]);
        for name in ["one", "both", "other", "none", "null"] {
            view.remove(&ObjectKey::new(&kind::SERVICE, "default", name));
        }
        check(&view, json!({"app": "b", "tier": "x"}), &[]);
        assert!(view.labels.is_empty());
    }

    #[test]
    fn pods_are_found_by_a_selector() {
        let mut view = View::for_tests();
        let pod =
            |name: &str, labels| object(&kind::POD, name, json!({"metadata": {"labels": labels}}));
        view.insert(&pod("a", json!({"app": "x", "tier": "front"})));
        view.insert(&pod("b", json!({"app": "x", "tier": "back"})));
        view.insert(&pod("c", json!({"app": "y"})));
        view.insert(&pod("d", json!({})));
        let check = |view: &View, selector: &str, expected: &[&str]| {
            let selector = LabelSelector::parse(selector).unwrap();
            let found = view.matching(&kind::POD, "default", &selector);
            let names: Vec<_> = found.map(|pod| pod.key.name.as_str()).collect();
            assert_eq!(names, expected, "{selector:?}");
            assert_eq!(view.matching(&kind::POD, "other", &selector).count(), 0);
        };
        check(&view, "", &["a", "b", "c", "d"]);
        check(&view, "app=x", &["a", "b"]);
        check(&view, "app=x,tier=back", &["b"]);
        check(&view, "app in (x,y),tier!=back", &["a", "c"]);
        check(&view, "app=x,!tier", &[]);
        check(&view, "app=z", &[]);
        // Among so many others they are looked up by their names.
        for n in 0..100 {
            let key = ObjectKey::new(&kind::POD, "full", n.to_string());
            let stored = to_stored(&kind::POD, json!({"metadata": {}}));
            view.insert(&Arc::new(Object::from_stored(key, 1, stored).unwrap()));
        }
        check(&view, "app=x", &["a", "b"]);
        check(&view, "app=x,tier=back", &["b"]);
        view.insert(&pod("b", json!({"app": "y"})));
        check(&view, "app=x", &["a"]);
        check(&view, "app=y", &["b", "c"]);
        view.remove(&ObjectKey::new(&kind::POD, "default", "c"));
        check(&view, "app=y", &["b"]);
        for name in ["a", "b", "d"] {
            view.remove(&ObjectKey::new(&kind::POD, "default", name));
        }
        assert!(view.labels.is_empty());
    }
}
