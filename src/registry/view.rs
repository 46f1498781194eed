//! [`View`]: the whole cluster at one revision, immutable and cheap to clone. Lists, controllers and the route
//! builder read it without a lock, so that one decision never sees two states.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    model::{Kind, Object, ObjectKey, kind},
    registry::{
        Unreadable,
        alloc::{self, ALLOCATIONS, Held},
    },
};

/// Namespace and name: the order in which lists are given.
pub(crate) type Name = (String, String);

/// A consistent snapshot of all objects.
#[derive(Clone, Default)]
pub struct View {
    pub(crate) revision: u64,
    pub(crate) kinds: OrdMap<&'static Kind, OrdMap<Name, Arc<Object>>>,
    /// Allocations that are not objects, by store key.
    pub(crate) allocations: OrdMap<String, Held>,
    pub(crate) unreadable: OrdMap<ObjectKey, Unreadable>,
    /// The objects that name an owner, by the owner's uid.
    pub(crate) dependents: OrdMap<String, OrdSet<ObjectKey>>,
}

/// What is read of Services over and over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Selecting {
    spec: SelectingSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SelectingSpec {
    selector: BTreeMap<String, String>,
}

impl View {
    /// The revision up to which every commit is contained.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn insert(&mut self, object: &Arc<Object>) {
        let name = (object.key.namespace.clone(), object.key.name.clone());
        let old = self.kinds.entry(object.key.kind).or_default().insert(name, object.clone());
        if let Some(old) = old {
            if old.metadata.owner_references == object.metadata.owner_references {
                return;
            }
            self.forget_owners(&old);
        }
        for owner in &object.metadata.owner_references {
            let dependents = self.dependents.entry(owner.uid.clone()).or_default();
            dependents.insert(object.key.clone());
        }
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        let Some(objects) = self.kinds.get_mut(&key.kind) else { return };
        if let Some(old) = objects.remove(&(key.namespace.clone(), key.name.clone())) {
            self.forget_owners(&old);
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

    /// The revision of what stands at a key of the store.
    pub(crate) fn revision_of(&self, key: &[u8]) -> Option<u64> {
        match ObjectKey::from_store_key(key) {
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
        self.kinds.get(&key.kind.stored())?.get(&(key.namespace.clone(), key.name.clone()))
    }

    /// All objects of a kind, ordered by namespace and name; with a namespace, only those in it.
    pub fn list<'a>(
        &'a self,
        kind: &'static Kind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let only = namespace.map(str::to_owned);
        let from = (namespace.unwrap_or_default().to_owned(), String::new());
        self.kinds
            .get(&kind.stored())
            .into_iter()
            .flat_map(move |objects| objects.range(from.clone()..))
            .take_while(move |((namespace, _), _)| only.as_ref().is_none_or(|o| o == namespace))
            .map(|(_, object)| object)
    }

    /// The Services whose selector selects a pod.
    pub fn services_selecting(&self, pod: &Object) -> impl Iterator<Item = &Arc<Object>> {
        let labels = &pod.metadata.labels;
        self.list(&kind::SERVICE, Some(&pod.key.namespace)).filter(move |service| {
            let selector = &service.digest::<Selecting>().spec.selector;
            !selector.is_empty()
                && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
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
        self.dependents.get(uid).into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// The objects of a kind in a namespace whose managing owner has this uid.
    pub fn controlled_by<'a>(
        &'a self,
        kind: &'static Kind,
        namespace: &'a str,
        uid: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.dependents(uid).filter(move |object| {
            object.key.kind == kind
                && object.key.namespace == namespace
                && object.controller().is_some_and(|owner| owner.uid == uid)
        })
    }

    /// Whether somebody holds an address of the load balancer range.
    pub fn is_load_balancer_address_taken(&self, address: std::net::IpAddr) -> bool {
        alloc::Claim::LoadBalancerAddress(address).is_taken(self)
    }
}
