//! [`Object`]: one document as it is stored and sent. The metadata that many readers need is parsed already.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use crate::model::{Kind, ObjectKey, Status, conversion, go_json, kind};

/// One object at one revision. Cheap to share (`Arc<Object>`); the body stays the store's JSON bytes, not a copy of
/// them, and is parsed on demand.
#[derive(Clone, Debug)]
pub struct Object {
    /// Kind, namespace and name.
    pub key: ObjectKey,
    /// The revision that wrote it, which is its `resourceVersion`.
    pub revision: u64,
    /// The parts of `metadata` that selectors, controllers and garbage collection read.
    pub metadata: Arc<Metadata>,
    stored: Bytes,
    /// Where in `stored` the fields of `metadata` begin, and `resourceVersion` has its place.
    metadata_at: usize,
    digest: Digest,
}

/// What was parsed of a document, if anything. A copy of the object begins without.
#[derive(Debug, Default)]
struct Digest(Mutex<Option<Arc<dyn Any + Send + Sync>>>);

impl Clone for Digest {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The parsed part of `metadata`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique over time, also among objects of one name.
    pub uid: String,
    /// Counts changes of the spec; 0 for kinds that do not count.
    pub generation: i64,
    /// RFC 3339, seconds.
    pub creation_timestamp: Option<String>,
    /// RFC 3339, seconds; set once deletion was asked for.
    pub deletion_timestamp: Option<String>,
    /// Seconds that a pod has between the request and its end.
    pub deletion_grace_period_seconds: Option<i64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Controllers that must do something before the object may be removed.
    pub finalizers: Vec<String>,
    /// The owners of the object.
    pub owner_references: Vec<OwnerReference>,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind.
    pub kind: String,
    /// The owner's name, in the same namespace or cluster-scoped.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
    /// True for the one owner that manages the object.
    pub controller: bool,
    /// True when foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

/// The metadata that every object has.
#[derive(Deserialize)]
struct Envelope {
    metadata: Metadata,
    #[serde(default, rename = "spec")]
    _spec: Option<Fields>,
    #[serde(default, rename = "status")]
    _status: Option<Fields>,
}

/// A map whose values are not read.
struct Fields;

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// What an object takes beside its document: itself, its key, and the maps and strings of its metadata.
const PARSED_BYTES: usize = 1024;
const METADATA: &str = "\"metadata\":{";
const ITEM_HEAD: &[u8] = b"{\"metadata\":{";
const RESOURCE_VERSION: &str = "\"resourceVersion\":\"";

impl Object {
    /// Decodes stored bytes (written by [`to_stored`]) and puts the revision in as `metadata.resourceVersion`.
    pub fn from_stored(key: ObjectKey, revision: u64, stored: Bytes) -> Result<Self, Error> {
        let text = std::str::from_utf8(&stored).map_err(|_utf8| Error::NotStored(key.clone()))?;
        let at = text.find(METADATA).ok_or_else(|| Error::NotStored(key.clone()))?;
        let Envelope { metadata, .. } = serde_json::from_str(text)
            .map_err(|source| Error::Json { key: key.clone(), source })?;
        let metadata_at = at + METADATA.len();
        let metadata = Arc::new(metadata);
        Ok(Self { key, revision, metadata, stored, metadata_at, digest: Digest::default() })
    }

    /// The JSON document, `metadata.resourceVersion` included.
    pub fn document(&self) -> Bytes {
        let mut document = Vec::with_capacity(self.document_len());
        self.write_document(&mut document);
        document.into()
    }

    /// Appends the [`document`](Self::document).
    pub fn write_document(&self, out: &mut Vec<u8>) {
        let (head, rest) = self.stored.split_at(self.metadata_at);
        out.extend_from_slice(head);
        out.extend_from_slice(RESOURCE_VERSION.as_bytes());
        out.extend_from_slice(self.revision.to_string().as_bytes());
        out.extend_from_slice(self.after_revision().as_bytes());
        out.extend_from_slice(rest);
    }

    /// The [`document`](Self::document) in three parts, the first and the last shared with the store.
    pub fn document_parts(&self) -> (Bytes, String, Bytes) {
        let head = self.stored.slice(..self.metadata_at);
        let version = format!("{RESOURCE_VERSION}{}{}", self.revision, self.after_revision());
        (head, version, self.stored.slice(self.metadata_at..))
    }

    /// The same for an item of a list. Its kind stands in the list, not in the item.
    pub fn item_parts(&self) -> (Bytes, String, Bytes) {
        let (head, version, rest) = self.document_parts();
        let head = if self.has_item_head() { Bytes::from_static(ITEM_HEAD) } else { head };
        (head, version, rest)
    }

    /// How many bytes the [`item_parts`](Self::item_parts) have.
    pub fn item_len(&self) -> usize {
        let head = if self.has_item_head() { ITEM_HEAD.len() } else { self.metadata_at };
        self.document_len() - self.metadata_at + head
    }

    /// Whether only the kind stands before the metadata, as [`to_stored`] writes it.
    fn has_item_head(&self) -> bool {
        let kind = &self.key.kind;
        let head = format!(
            "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",{METADATA}",
            kind.api_version(),
            kind.kind
        );
        self.stored[..self.metadata_at] == *head.as_bytes()
    }

    /// The bytes that the store has of it.
    pub fn stored(&self) -> Bytes {
        self.stored.clone()
    }

    /// How many bytes the [`document`](Self::document) has.
    pub fn document_len(&self) -> usize {
        let digits = self.revision.checked_ilog10().map_or(1, |power| power as usize + 1);
        self.stored.len() + RESOURCE_VERSION.len() + digits + self.after_revision().len()
    }

    /// About how many bytes of memory the object takes.
    pub fn footprint(&self) -> usize {
        self.document_len() + PARSED_BYTES
    }

    fn after_revision(&self) -> &'static str {
        if self.stored[self.metadata_at..].starts_with(b"}") { "\"" } else { "\"," }
    }

    /// The same document at another revision: the last state of a deleted object.
    pub fn at_revision(&self, revision: u64) -> Self {
        Self { revision, ..self.clone() }
    }

    /// The same object in the form of another kind that shows it.
    pub fn shown_as(self: &Arc<Self>, kind: &Kind) -> Arc<Self> {
        if self.key.kind == *kind {
            return self.clone();
        }
        let convert = |document| {
            let stored = conversion::to_stored(&self.key.kind, document);
            let key = ObjectKey { kind: kind.clone(), ..self.key.clone() };
            let bytes = to_stored(kind, conversion::from_stored(kind, stored));
            Self::from_stored(key, self.revision, bytes)
        };
        self.parse()
            .and_then(convert)
            .inspect_err(|error| tracing::error!(%error, "stored object cannot be converted"))
            .map_or_else(|_told| self.clone(), Arc::new)
    }

    /// Whether it has this finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.metadata.finalizers.iter().any(|finalizer| finalizer == name)
    }

    /// The document as a typed view, parsed anew on each call.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.document())
            .map_err(|source| Error::Json { key: self.key.clone(), source })
    }

    /// A digest of the document: the fields that many readers ask for often, parsed at the first call and kept with this
    /// revision. The type that was asked for last is the one that is kept, so let a kind have one. A document that does
    /// not parse gives the empty digest (and the log tells).
    pub fn digest<T: DeserializeOwned + Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let kept = self.digest.0.lock().clone();
        if let Some(Ok(kept)) = kept.map(Arc::downcast) {
            return kept;
        }
        let digest = self.parse::<T>().inspect_err(
            |error| tracing::error!(key = %self.key, %error, "stored object does not parse"),
        );
        let digest = Arc::new(digest.unwrap_or_default());
        *self.digest.0.lock() = Some(digest.clone());
        digest
    }

    /// Keeps the parsed metadata of an earlier revision where that says the same.
    pub fn share_metadata(&mut self, earlier: &Self) {
        if self.metadata == earlier.metadata {
            self.metadata = earlier.metadata.clone();
        }
    }

    /// Drops the digest of an old revision, to save memory.
    pub fn forget_digest(&self) {
        *self.digest.0.lock() = None;
    }

    /// The owner that manages this object, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.metadata.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

/// Serialises a document for the store: `apiVersion`, `kind` and `metadata` first, without `resourceVersion`
/// (the store's revision is the truth).
pub fn to_stored(kind: &Kind, mut document: Value) -> Bytes {
    let mut ordered = serde_json::Map::new();
    ordered.insert("apiVersion".into(), kind.api_version().into());
    ordered.insert("kind".into(), (*kind.kind).into());
    if let Some(fields) = document.as_object_mut() {
        let mut metadata =
            fields.remove("metadata").unwrap_or_else(|| Value::Object(<_>::default()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("resourceVersion");
        }
        ordered.insert("metadata".into(), metadata);
        for (name, value) in std::mem::take(fields) {
            ordered.entry(name).or_insert(value);
        }
    }
    let ordered = Value::Object(ordered);
    // A client compares the data of a revision as it comes with what Go makes of a template.
    let bytes = match *kind == kind::CONTROLLER_REVISION {
        true => go_json::to_bytes(&ordered),
        false => ordered.to_string().into_bytes(),
    };
    // Without the spare room of a growing string: the bytes may stay for long.
    bytes.into_boxed_slice().into()
}

/// Why stored bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes were not written by [`to_stored`].
    #[error("the stored document of {0} has no metadata")]
    NotStored(ObjectKey),
    /// The document is not what its kind's type says.
    #[error("the document of {key} does not parse")]
    Json {
        /// Whose document.
        key: ObjectKey,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}

/// 500: a stored document was checked when it was written, so this is a bug or damage.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::kind;

    #[test]
    fn revision_becomes_resource_version() {
        let stored = to_stored(
            &kind::CONFIG_MAP,
            json!({"data": {"metadata": "{"}, "metadata": {"name": "a", "resourceVersion": "1",
                   "uid": "u", "labels": {"x": "y"}}}),
        );
        let key = ObjectKey::new(&kind::CONFIG_MAP, "default", "a");
        let object = Object::from_stored(key, 42, stored).unwrap();
        let value: Value = object.parse().unwrap();
        assert_eq!(value["metadata"]["resourceVersion"], "42");
        assert_eq!(value["data"]["metadata"], "{");
        assert_eq!(value["kind"], "ConfigMap");
        assert_eq!(object.metadata.labels["x"], "y");
        for revision in [0, 9, 10, 12_345, u64::MAX] {
            let object = object.at_revision(revision);
            let (head, version, rest) = object.document_parts();
            assert_eq!([&head, version.as_bytes(), &rest].concat(), object.document());
            assert_eq!(object.document_len(), object.document().len());
            let (head, version, rest) = object.item_parts();
            let item = [&head, version.as_bytes(), &rest].concat();
            assert_eq!(object.item_len(), item.len());
            let mut document: Value = object.parse().unwrap();
            document
                .as_object_mut()
                .unwrap()
                .retain(|name, _| name != "kind" && name != "apiVersion");
            assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), document);
        }
        assert_eq!(
            object.at_revision(7).parse::<Value>().unwrap()["metadata"]["resourceVersion"],
            "7"
        );
    }
}
