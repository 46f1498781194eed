//! [`Kinds`]: the kinds that are served, with what is known of each. Built-in kinds are always there; a
//! CustomResourceDefinition adds one kind for each version that it serves.
//!
//! A view holds the kinds of its revision, so that one decision never sees two states. Enter at [`Kinds::built_in`].

pub(crate) mod custom;
pub(crate) mod scale;
mod versions;

pub(crate) use versions::by_preference;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    model::{Cause, Kind, Object, ObjectKey, Status, kind, object, patch::Resource},
    registry::{
        Event, EventKind,
        printing::{Cells, Column},
        strategy::{self, AnyRules, BuiltIn, Fields},
    },
};

/// One served kind.
#[derive(Debug)]
pub struct Descriptor {
    /// What identifies it.
    pub kind: Kind,
    /// Whether clients see it. Objects of a kind that is only stored are seen in another version.
    pub served: bool,
    details: Details,
}

impl Descriptor {
    /// The version of a definition that made the kind.
    pub(crate) fn custom(&self) -> Option<&custom::Version> {
        match &self.details {
            Details::BuiltIn(_) => None,
            Details::Custom(version) => Some(version),
        }
    }

    /// What documents of the kind must be like.
    pub(crate) fn rules(&self) -> &dyn AnyRules {
        match &self.details {
            Details::BuiltIn(built_in) => built_in.rules,
            Details::Custom(version) => version.as_ref(),
        }
    }

    /// The columns of its tables.
    pub(crate) fn columns(&self) -> Cow<'_, [Column<'_>]> {
        match &self.details {
            Details::BuiltIn(built_in) => built_in.columns.into(),
            Details::Custom(version) => version.additional_printer_columns.columns().into(),
        }
    }

    /// The cells of an object's row, in the order of the columns.
    ///
    /// # Errors
    /// The object is not of the kind's type.
    pub(crate) fn cells(&self, object: &Object, now: Timestamp) -> Cells {
        match &self.details {
            Details::BuiltIn(built_in) => (built_in.cells)(object, now),
            Details::Custom(version) => Ok(version.additional_printer_columns.cells(object, now)),
        }
    }

    /// The `conditions` of an object's row.
    pub(crate) fn row_conditions(&self, object: &Object) -> Vec<Value> {
        self.built_in().map(|built_in| (built_in.row_conditions)(object)).unwrap_or_default()
    }

    /// Whether Kubernetes prints the kind as it prints any object.
    pub(crate) fn is_generic(&self) -> bool {
        self.built_in().is_some_and(|built_in| built_in.is_generic)
    }

    /// The fields of a built-in kind by which clients may select, besides name and namespace.
    pub(crate) fn selectable_fields(&self) -> Fields {
        self.built_in().map(|built_in| built_in.selectable_fields).unwrap_or_default()
    }

    /// Checks that a document that replaces an object names a revision, where the kind wants that.
    ///
    /// # Errors
    /// 422 in the words of kube-apiserver's storage.
    pub(crate) fn check_replacement(&self, name: &str, document: &Value) -> Result<(), Status> {
        let wants = self.built_in().is_none_or(|built_in| built_in.replaced_by_revision);
        if !wants || names_revision(document) {
            return Ok(());
        }
        let cause = Cause {
            reason: "FieldValueInvalid",
            field: "metadata.resourceVersion".to_owned(),
            // So does Go show the number 0 here.
            message: "Invalid value: 0x0: must be specified for an update".to_owned(),
        };
        Err(Status::invalid(&self.kind, name, vec![cause]))
    }

    /// Whether a document that would replace an object may create it.
    pub(crate) fn may_be_created_by_put(&self, document: &Value) -> bool {
        let may = self.built_in().is_some_and(|built_in| built_in.created_by_put);
        may && !names_revision(document)
    }

    fn built_in(&self) -> Option<&'static BuiltIn> {
        match self.details {
            Details::BuiltIn(built_in) => Some(built_in),
            Details::Custom(_) => None,
        }
    }

    /// A stored object in the form of the kind.
    pub(crate) fn show(&self, object: &Arc<Object>) -> Arc<Object> {
        match self.custom() {
            Some(version) if object.key.kind != self.kind => self.completed(object, version),
            _ => object.shown_as(&self.kind),
        }
    }

    /// An object of the kind as its schema wants it now, which may have changed since it was written.
    pub(crate) fn refreshed(&self, object: &Arc<Object>) -> Arc<Object> {
        self.custom().map_or_else(|| object.clone(), |version| self.completed(object, version))
    }

    fn completed(&self, object: &Arc<Object>, version: &custom::Version) -> Arc<Object> {
        let complete = |mut document: Value| {
            version.complete(&mut document);
            let stored = object::to_stored(&self.kind, document);
            if stored == object.stored() {
                return Ok(object.clone());
            }
            let key = ObjectKey { kind: self.kind.clone(), ..object.key.clone() };
            Object::from_stored(key, object.revision, stored).map(Arc::new)
        };
        let completed = object.parse().and_then(complete);
        completed.unwrap_or_else(|error| {
            tracing::error!(%error, "a stored object cannot be completed");
            object.clone()
        })
    }

    /// How documents of the kind are merged.
    pub fn resource(&self) -> Resource<'_> {
        match self.custom() {
            None => Resource::built_in(&self.kind),
            Some(version) => Resource::custom(&self.kind, &version.schema().schema),
        }
    }
}

/// Where all but the identity of a kind stands.
enum Details {
    BuiltIn(&'static BuiltIn),
    Custom(Box<custom::Version>),
}

fn names_revision(document: &Value) -> bool {
    let version = document["metadata"]["resourceVersion"].as_str();
    version.is_some_and(|version| !matches!(version, "" | "0"))
}

/// The kinds that are served. Immutable: a change of definitions makes another one.
#[derive(Clone)]
pub struct Kinds {
    /// In the order of discovery, groups together.
    descriptors: Vec<Arc<Descriptor>>,
    /// Those of each CustomResourceDefinition, by its name.
    custom: BTreeMap<String, Vec<Arc<Descriptor>>>,
    /// Where in `descriptors` those of a group are.
    groups: BTreeMap<String, Vec<usize>>,
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("BuiltIn"),
            Self::Custom(version) => version.fmt(f),
        }
    }
}

impl Kinds {
    /// Those that every cluster has.
    pub fn built_in() -> Self {
        let of = |built_in: &&'static BuiltIn| {
            let (kind, details) = (built_in.kind.clone(), Details::BuiltIn(built_in));
            Arc::new(Descriptor { kind, served: true, details })
        };
        Self::of(strategy::BUILT_IN.iter().map(of).collect(), BTreeMap::new())
    }

    /// With other kinds for a CustomResourceDefinition. One that names a built-in kind changes nothing.
    pub(crate) fn with(&self, definition: &str, kinds: Vec<Arc<Descriptor>>) -> Self {
        let is_new = |new: &Arc<Descriptor>| {
            let mut group = self.in_group(&new.kind.group).filter(|old| !old.kind.is_custom());
            group.all(|old| old.kind.plural != new.kind.plural)
        };
        let kinds: Vec<_> = kinds.into_iter().filter(is_new).collect();
        let mut custom = self.custom.clone();
        match kinds.is_empty() {
            true => custom.remove(definition),
            false => custom.insert(definition.to_owned(), kinds),
        };
        let built_in = self.iter().filter(|descriptor| !descriptor.kind.is_custom());
        let all = built_in.chain(custom.values().flatten()).cloned().collect();
        Self::of(all, custom)
    }

    /// The kinds after changes of definitions; `None` if these were none.
    pub(crate) fn defined_by(&self, events: &[Arc<Event>]) -> Option<Self> {
        let of_definitions =
            |event: &&Arc<Event>| event.object.key.kind == kind::CUSTOM_RESOURCE_DEFINITION;
        let mut events = events.iter().filter(of_definitions).peekable();
        events.peek()?;
        Some(events.fold(self.clone(), |kinds, event| {
            let descriptors = match event.kind {
                EventKind::Deleted => Vec::new(),
                EventKind::Added | EventKind::Modified => kinds.defined_by_object(&event.object),
            };
            kinds.with(&event.object.key.name, descriptors)
        }))
    }

    /// The kinds of a definition.
    pub(crate) fn defined_by_object(&self, definition: &Object) -> Vec<Arc<Descriptor>> {
        let earlier = self.custom.get(&definition.key.name).map_or(&[][..], Vec::as_slice);
        custom::descriptors(definition, earlier)
    }

    /// A stored object in the form of a kind.
    pub(crate) fn show(&self, object: &Arc<Object>, kind: &Kind) -> Arc<Object> {
        match self.descriptor(kind) {
            Some(descriptor) => descriptor.show(object),
            None => object.shown_as(kind),
        }
    }

    /// The custom kinds that had another schema before.
    pub(crate) fn with_other_schemas<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a Arc<Descriptor>> {
        let is_other = |descriptor: &&Arc<Descriptor>| {
            let Some(version) = descriptor.custom() else { return false };
            let before = before.descriptor(&descriptor.kind).and_then(|before| before.custom());
            before.is_some_and(|before| !version.shares_schema(before))
        };
        self.stored_descriptors().filter(is_other)
    }

    /// Whether the objects of a stored kind need not be read anew.
    pub(crate) fn serves_as_is(&self, kind: &Kind) -> bool {
        self.descriptor(kind).is_some_and(|descriptor| *descriptor.kind == **kind)
    }

    fn of(
        descriptors: Vec<Arc<Descriptor>>,
        custom: BTreeMap<String, Vec<Arc<Descriptor>>>,
    ) -> Self {
        let mut groups = BTreeMap::<String, Vec<usize>>::new();
        for (at, descriptor) in descriptors.iter().enumerate() {
            groups.entry(descriptor.kind.group.to_string()).or_default().push(at);
        }
        Self { descriptors, custom, groups }
    }

    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Descriptor>> {
        self.descriptors.iter()
    }

    /// The kinds that have objects of their own: each object is of exactly one of them.
    pub fn stored(&self) -> impl Iterator<Item = &Kind> {
        self.stored_descriptors().map(|descriptor| &descriptor.kind)
    }

    fn stored_descriptors(&self) -> impl Iterator<Item = &Arc<Descriptor>> {
        self.iter().filter(|descriptor| descriptor.kind.stored_as.is_none())
    }

    /// What is known of a kind, as it is served now.
    pub fn descriptor(&self, kind: &Kind) -> Option<&Arc<Descriptor>> {
        self.in_group(&kind.group).find(|descriptor| descriptor.kind == *kind)
    }

    /// The kind with objects of its own that has this group and plural.
    pub fn by_resource(&self, group: &str, plural: &str) -> Option<&Kind> {
        let mut kinds = self.in_group(group).map(|descriptor| &descriptor.kind);
        kinds.find(|kind| kind.plural == plural && kind.stored_as.is_none())
    }

    /// The kind that a URL names.
    pub fn by_path(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        let mut kinds = self.served_in(group);
        kinds.find(|kind| kind.plural == plural && kind.version == version)
    }

    /// The kind that a document names by `apiVersion` and `kind`.
    pub fn by_api_version(&self, api_version: &str, name: &str) -> Option<&Kind> {
        let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut kinds = self.served_in(group);
        kinds.find(|kind| kind.is_named(api_version, name))
    }

    /// Whether a group has kinds that clients see.
    pub fn serves_group(&self, group: &str) -> bool {
        self.served_in(group).next().is_some()
    }

    /// The kinds of a group that clients see.
    pub fn served_in(&self, group: &str) -> impl Iterator<Item = &Kind> {
        self.in_group(group)
            .filter(|descriptor| descriptor.served)
            .map(|descriptor| &descriptor.kind)
    }

    /// The kinds that clients see.
    pub fn served(&self) -> impl Iterator<Item = &Kind> {
        self.iter().filter(|descriptor| descriptor.served).map(|descriptor| &descriptor.kind)
    }

    /// The object that stands at a key of the store; `None` for keys of other things, and of kinds that are not served.
    pub fn key_of(&self, store_key: &[u8]) -> Option<ObjectKey> {
        let (plural, group, namespace, name) = ObjectKey::store_parts(store_key)?;
        Some(ObjectKey::new(self.by_resource(group, plural)?, namespace, name))
    }

    /// The rules of a kind.
    ///
    /// # Errors
    /// 404 if it is not served any more.
    pub(crate) fn rules(&self, kind: &Kind) -> Result<&dyn AnyRules, Status> {
        Ok(self.descriptor(kind).ok_or_else(Status::no_such_path)?.rules())
    }

    /// All versions of a kind.
    pub(crate) fn versions<'a>(
        &'a self,
        kind: &'a Kind,
    ) -> impl Iterator<Item = &'a Arc<Descriptor>> {
        self.in_group(&kind.group).filter(|descriptor| descriptor.kind.plural == kind.plural)
    }

    fn in_group(&self, group: &str) -> impl Iterator<Item = &Arc<Descriptor>> {
        self.groups.get(group).into_iter().flatten().map(|at| &self.descriptors[*at])
    }
}
