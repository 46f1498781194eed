//! `metadata.managedFields`: which manager owns which fields, and how an update moves ownership.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{
    Kind,
    canonical::canonicalise,
    patch::{
        paths::Paths,
        place::Resource,
        walk::{Comparison, compare},
    },
    time::time_text,
};

/// Entries of managers that update (rather than apply) which are kept; older ones are merged into one
/// (kube-apiserver keeps as many).
const UPDATE_MANAGERS_MAX: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

/// Fields that belong to the server, whoever sends them.
const SYSTEM_METADATA: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Who changes an object.
#[derive(Clone, Copy, Debug)]
pub struct FieldManager<'a> {
    /// The `fieldManager` parameter, or the first part of the user agent; empty becomes `unknown`.
    pub name: &'a str,
    /// `status`, `scale`; empty for the object itself.
    pub subresource: &'a str,
    /// The time that the entry gets.
    pub now: Timestamp,
}

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) applied: bool,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) paths: Paths,
}

impl Entry {
    /// The (still empty) entry of an operation.
    pub(super) fn new(kind: &Kind, manager: &FieldManager<'_>, applied: bool) -> Self {
        let name = if manager.name.is_empty() { "unknown" } else { manager.name };
        Self {
            manager: name.to_owned(),
            applied,
            api_version: kind.api_version(),
            subresource: manager.subresource.to_owned(),
            time: Some(time_text(manager.now)),
            paths: Paths::default(),
        }
    }

    /// Whether both entries are of the same manager; an applier stays itself across versions.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    /// As error messages name a manager.
    pub(super) fn print(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applied {
            text += &format!(" using {}", self.api_version);
        }
        text
    }

    fn to_json(&self) -> Value {
        let mut out = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
        });
        if let Some(time) = &self.time {
            out["time"] = time.as_str().into();
        }
        out["fieldsType"] = "FieldsV1".into();
        out["fieldsV1"] = self.paths.to_json();
        if !self.subresource.is_empty() {
            out["subresource"] = self.subresource.as_str().into();
        }
        out
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let applied = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        if text("fieldsType") != "FieldsV1" || text("apiVersion").is_empty() {
            return None;
        }
        let no_fields = json!({});
        Some(Self {
            manager: text("manager").to_owned(),
            applied,
            api_version: text("apiVersion").to_owned(),
            subresource: text("subresource").to_owned(),
            time: value.get("time").and_then(Value::as_str).map(str::to_owned),
            paths: Paths::from_json(value.get("fieldsV1").unwrap_or(&no_fields))?,
        })
    }
}

/// The entries of a document; none when they do not parse, as if nobody had ever been recorded.
pub(super) fn decode(kind: &Kind, document: &Value) -> Vec<Entry> {
    let listed = document.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entries: Option<Vec<Entry>> =
        listed.map_or(Some(Vec::new()), |list| list.iter().map(Entry::from_json).collect());
    let mut entries = entries.unwrap_or_default();
    // Versions of a group have the same fields; what another group calls them is of no use here.
    let group = |api_version: &str| api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
    let own = group(&kind.api_version());
    entries.retain(|entry| group(&entry.api_version) == own);
    entries
}

/// Puts the entries into a document, in the order of Kubernetes.
pub(super) fn encode(document: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.paths.is_empty());
    entries.sort_by(|a, b| {
        let order =
            |e: &Entry| (!e.applied, e.time.clone(), e.manager.clone(), e.subresource.clone());
        order(a).cmp(&order(b))
    });
    remove_managers(document);
    let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if !entries.is_empty() {
        let list: Vec<Value> = entries.iter().map(Entry::to_json).collect();
        metadata.insert("managedFields".to_owned(), list.into());
    }
}

/// The document without `metadata.managedFields`.
pub(super) fn without_managers(document: &Value) -> Value {
    let mut document = document.clone();
    remove_managers(&mut document);
    document
}

pub(super) fn remove_managers(document: &mut Value) {
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

/// What a request to this subresource can change: the main resource everything but the status, and that of a native kind
/// the metadata too.
pub(super) fn in_reach(kind: &Kind, subresource: &str, paths: Paths) -> Paths {
    match subresource {
        "" if kind.has_status => paths.filter_fields(|field| field != "status"),
        "status" if kind.is_native() => {
            let paths = paths.filter_fields(|field| field != "spec");
            match kind.kept_by_status {
                Some(kept) => paths.without_metadata(kept),
                None => paths,
            }
        }
        "status" => paths.filter_fields(|field| field == "status"),
        _ => paths,
    }
}

/// The paths without those that belong to the server.
pub(super) fn without_system(paths: &Paths) -> Paths {
    let metadata: Map<String, Value> =
        SYSTEM_METADATA.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
    let mut metadata = Value::Object(metadata);
    metadata["."] = json!({});
    let system = json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": metadata});
    paths.difference(&Paths::from_json(&system).unwrap_or_default())
}

/// The difference that a request makes, as far as it can change things.
pub(super) fn difference(
    resource: Resource<'_>,
    subresource: &str,
    live: &Value,
    new: &Value,
) -> Comparison {
    let Comparison { added, modified, removed } = compare(live, new, resource.root);
    let in_reach = |paths| in_reach(resource.kind, subresource, paths);
    Comparison { added: in_reach(added), modified: in_reach(modified), removed: in_reach(removed) }
}

/// A document without content, so that the first write does not come to own what is always there.
pub(super) fn skeleton(kind: &Kind) -> Value {
    let mut document = match kind {
        Kind::BuiltIn(_) => json!({"metadata": {}, "spec": {}, "status": {}}),
        Kind::Custom(_) => json!({"metadata": {}}),
    };
    canonicalise(kind, &mut document);
    document
}

/// Records in `updated` that `manager` made it out of `live` (`None` on create) by anything but server-side apply.
pub(super) fn record_update(
    resource: Resource<'_>,
    live: Option<&Value>,
    updated: &mut Value,
    manager: &FieldManager<'_>,
    reset: bool,
) {
    let kind = resource.kind;
    let entries = if reset {
        Vec::new()
    } else {
        let sent = if manager.subresource.is_empty() { decode(kind, updated) } else { Vec::new() };
        let stored = || live.map_or_else(Vec::new, |live| decode(kind, live));
        if sent.is_empty() { stored() } else { sent }
    };
    if entries.is_empty() && live.is_some() {
        // An object that was not tracked from its beginning starts with its first apply.
        encode(updated, entries);
        return;
    }
    let base = live.map_or_else(|| skeleton(kind), without_managers);
    remove_managers(updated);
    let change = difference(resource, manager.subresource, &base, updated);
    encode(updated, moved(kind, entries, change, manager));
}

/// Whether the document says that nobody manages it.
pub(super) fn is_reset(document: &Value) -> bool {
    let Some(list) = document.pointer("/metadata/managedFields").and_then(Value::as_array) else {
        return false;
    };
    match list.as_slice() {
        [] => true,
        [only] => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Ownership after an update: what changed belongs to its manager alone, what vanished to nobody.
pub(super) fn moved(
    kind: &Kind,
    mut entries: Vec<Entry>,
    change: Comparison,
    manager: &FieldManager<'_>,
) -> Vec<Entry> {
    let taken = change.added.union(&change.modified);
    for entry in &mut entries {
        entry.paths = entry.paths.difference(&taken).difference(&change.removed);
    }
    let mut own = Entry::new(kind, manager, false);
    own.paths = without_system(&taken);
    if !own.paths.is_empty() {
        if let Some(at) = entries.iter().position(|entry| entry.is_same(&own)) {
            own.paths = own.paths.union(&entries.swap_remove(at).paths);
        }
        entries.push(own);
    }
    entries.retain(|entry| !entry.paths.is_empty());
    capped(entries)
}

fn capped(entries: Vec<Entry>) -> Vec<Entry> {
    let (mut updates, mut out): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| !entry.applied);
    if updates.len() > UPDATE_MANAGERS_MAX {
        updates.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
        let old = updates.drain(..=updates.len() - UPDATE_MANAGERS_MAX);
        if let Some(mut bucket) = old.reduce(|a, b| Entry { paths: a.paths.union(&b.paths), ..b }) {
            bucket.manager = OLD_UPDATES.to_owned();
            bucket.subresource.clear();
            updates.push(bucket);
        }
    }
    out.append(&mut updates);
    out
}
