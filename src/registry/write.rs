//! The write path: own metadata -> canonical form -> admission ([`admit`]: types, defaults and rules of the kind, allocation) ->
//! compare-and-swap. The API server has decided before whether the caller may write.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rand::{RngExt, SeedableRng};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    model::{
        Kind, Object, ObjectKey, Status, canonical, conversion, kind, object, patch::Wanted,
        time::time_text,
    },
    registry::{
        FieldValidation, Preconditions, Registry, View, alloc, decode,
        strategy::{Admitted, Context},
    },
    store::{self, Expect, Revision, Write},
};

/// The subresource that a write goes through. It says which part of the object may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The resource itself: everything, but not the status of a kind that has a status subresource.
    None,
    /// Only the status.
    Status,
    /// Only the ephemeral containers of a pod.
    EphemeralContainers,
    /// What can change without a subresource, and `spec.finalizers` of a Namespace.
    Finalize,
    /// Only the node of a pod that has none yet, and annotations that come with it.
    Binding,
    /// The status of a CertificateSigningRequest, of which its rules keep all but the conditions.
    Approval,
}

/// Options of a write.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Check the write, but do not store it.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub field_validation: FieldValidation,
}

/// The result of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as stored.
    pub object: Arc<Object>,
    /// The texts of `Warning` headers.
    pub warnings: Vec<String>,
}

/// How often a write is tried again when others write the same object or take the same address.
const ATTEMPTS_MAX: u32 = 16;
/// How often another suffix is tried for `generateName` (as Kubernetes does).
const NAMES_MAX: u32 = 8;
/// Characters of generated suffixes: no vowels and no look-alikes, as Kubernetes has them.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
const NAME_MAX: usize = 63;

impl Registry {
    /// Creates an object. `namespace` is empty for cluster-scoped kinds; the document's own must agree with it.
    pub async fn create<'a>(
        &self,
        kind: &Kind,
        namespace: &str,
        wanted: impl Into<Wanted<'a>> + Send,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let mut wanted = wanted.into();
        let mut document = conversion::to_stored(kind, of_kind(kind, wanted.document.take())?);
        let metadata = &document["metadata"];
        let generate = match (metadata["name"].as_str(), metadata["generateName"].as_str()) {
            (None | Some(""), Some(base)) if !base.is_empty() => Some(base.to_owned()),
            _ => None,
        };
        check_namespace(namespace, metadata)?;
        if metadata["resourceVersion"].as_str().is_some_and(|v| !v.is_empty()) {
            let text = "resourceVersion should not be set on objects to be created";
            return Err(Status::bad_request(text));
        }
        self.require_namespace(kind, namespace)?;
        self.require_definition(kind)?;
        for attempt in 1.. {
            if let Some(base) = &generate {
                document["metadata"]["name"] = generated_name(base).into();
            }
            let name = document["metadata"]["name"].as_str().unwrap_or_default();
            let key = ObjectKey::new(kind, namespace, name);
            match self.create_named(&key, &mut document, &wanted, options).await {
                Err(status)
                    if status.reason == "AlreadyExists"
                        && generate.is_some()
                        && attempt < NAMES_MAX => {}
                result => return result,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn create_named(
        &self,
        key: &ObjectKey,
        document: &mut Value,
        wanted: &Wanted<'_>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let now = (self.clock)();
        let stamp = time_text(now);
        own_metadata_on_create(key, document, &stamp);
        canonical::canonicalise(key.kind.stored(), document);
        for _attempt in 0..ATTEMPTS_MAX {
            let view = self.view();
            if view.get(key).is_some() {
                return Err(Status::already_exists(key));
            }
            let context = self.context(&view, now, options, &key.kind, wanted);
            let admitted = admit(&key.kind, document, None, &context)?;
            let Admitted { document, claims, warnings, .. } = admitted;
            let value = object::to_stored(key.kind.stored(), document);
            if options.dry_run {
                return Ok(Written { object: self.decoded(key, 0, value)?, warnings });
            }
            let mut writes = alloc::writes(&view, key, &[], &claims, &stamp);
            writes.push(Write {
                key: key.to_store_key().into(),
                expect: Expect::Absent,
                value: Some(value.clone()),
            });
            match self.commit(writes).await? {
                Ok(revision) => {
                    return Ok(Written { object: self.stored(key, revision, value)?, warnings });
                }
                Err(taken) if taken == key.to_store_key() => {
                    return Err(Status::already_exists(key));
                }
                Err(_allocation) => {}
            }
        }
        Err(contended(key))
    }

    /// Replaces an object, or its status. A `resourceVersion` in the document must be the current one.
    pub async fn update(
        &self,
        key: &ObjectKey,
        subresource: Subresource,
        document: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        self.modify(key, subresource, options, |_| Ok(document.clone())).await
    }

    /// Changes an object by a function of its current document; called again when another writer was faster,
    /// unless the new document itself demands a `resourceVersion`.
    pub async fn modify<'a, W: Into<Wanted<'a>>>(
        &self,
        key: &ObjectKey,
        subresource: Subresource,
        options: &WriteOptions,
        mut change: impl FnMut(&Object) -> Result<W, Status> + Send,
    ) -> Result<Written, Status> {
        for _attempt in 0..ATTEMPTS_MAX {
            let view = self.view();
            let old = view.get(key).cloned().ok_or_else(|| view.missing(key))?;
            let mut wanted = change(&view.kinds().show(&old, &key.kind))?.into();
            let document = wanted.document.take();
            check_identity(key, &document["metadata"])?;
            check_preconditions(key, &old, &document)?;
            let mut old_document: Value = old.parse()?;
            // Earlier versions of Snowglobe wrote other forms.
            canonical::canonicalise(key.kind.stored(), &mut old_document);
            let document = conversion::to_stored(&key.kind, of_kind(&key.kind, document)?);
            let mut document = merge_parts(&key.kind, subresource, document, &old_document);
            canonical::canonicalise(key.kind.stored(), &mut document);
            let now = (self.clock)();
            let context = self.context(&view, now, options, &key.kind, &wanted);
            let context = Context { subresource, ..context };
            let Admitted { mut document, claims, old_claims, warnings } =
                admit(&key.kind, &document, Some(&old_document), &context)?;
            if matches!(subresource, Subresource::None | Subresource::EphemeralContainers) {
                count_generation(&key.kind, &mut document, &old_document);
            }
            if same_content(&document, &old_document) {
                return Ok(Written { object: view.kinds().show(&old, &key.kind), warnings });
            }
            let gone = old.is_terminating() && !holds_on(&document);
            let value = object::to_stored(key.kind.stored(), document);
            if options.dry_run {
                return Ok(Written { object: self.decoded(key, old.revision, value)?, warnings });
            }
            let claims = if gone { &[] } else { claims.as_slice() };
            let mut writes = alloc::writes(&view, key, &old_claims, claims, &time_text(now));
            writes.push(Write {
                key: key.to_store_key().into(),
                expect: Expect::At(Revision(old.revision)),
                value: (!gone).then(|| value.clone()),
            });
            if let Ok(revision) = self.commit(writes).await? {
                return Ok(Written { object: self.stored(key, revision, value)?, warnings });
            }
        }
        Err(contended(key))
    }

    /// The context of a write without subresource.
    pub(super) fn context<'a>(
        &'a self,
        view: &'a View,
        now: Timestamp,
        options: &WriteOptions,
        shown: &'a Kind,
        wanted: &'a Wanted<'a>,
    ) -> Context<'a> {
        Context {
            view,
            options: &self.options,
            now,
            subresource: Subresource::None,
            shown,
            wanted,
            seed: rand::rng().random(),
            field_validation: options.field_validation,
        }
    }

    /// Commits, then waits until the cache contains the commit. `Ok(Err(key))` means that another writer changed this key
    /// first. The cache then contains that change.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<Result<u64, Bytes>, Status> {
        let expectations: Vec<(Bytes, Expect)> =
            writes.iter().map(|write| (write.key.clone(), write.expect)).collect();
        match self.store.commit(writes).await {
            Ok(Revision(revision)) => {
                self.cache.wait_for(revision).await?;
                Ok(Ok(revision))
            }
            Err(store::Error::Conflict { key, found }) => {
                let expected = expectations.iter().find(|(written, _)| *written == key);
                let expected = expected.map_or(Expect::Absent, |(_, expected)| *expected);
                self.cache.wait_for_conflict(&key, expected, found).await?;
                Ok(Err(key))
            }
            Err(error) => Err(store_status(&error)),
        }
    }

    /// The object that a commit wrote, in the form of the key's kind: that of the cache, unless others were faster.
    pub(crate) fn stored(
        &self,
        key: &ObjectKey,
        revision: u64,
        value: Bytes,
    ) -> Result<Arc<Object>, Status> {
        let view = self.view();
        match view.get(key).filter(|object| object.revision == revision) {
            Some(object) => Ok(view.kinds().show(object, &key.kind)),
            None => self.decoded(key, revision, value),
        }
    }

    /// The object that was written, in the form of the key's kind.
    pub(crate) fn decoded(
        &self,
        key: &ObjectKey,
        revision: u64,
        value: Bytes,
    ) -> Result<Arc<Object>, Status> {
        let object = Object::from_stored(key.stored(), revision, value)?;
        Ok(self.kinds().show(&Arc::new(object), &key.kind))
    }

    /// A custom kind whose definition is ending gets no new objects.
    fn require_definition(&self, kind: &Kind) -> Result<(), Status> {
        if !kind.is_custom() {
            return Ok(());
        }
        let name = format!("{}.{}", kind.plural, kind.group);
        let key = ObjectKey::cluster(&kind::CUSTOM_RESOURCE_DEFINITION, name);
        match self.view().get(&key) {
            Some(definition) if !definition.is_terminating() => Ok(()),
            Some(_) => Err(Status::method_not_allowed_because(
                "create not allowed while custom resource definition is terminating",
            )),
            None => Err(Status::no_such_path()),
        }
    }

    fn require_namespace(&self, kind: &Kind, namespace: &str) -> Result<(), Status> {
        if !kind.namespaced {
            return Ok(());
        }
        let key = ObjectKey::cluster(&kind::NAMESPACE, namespace);
        let found = self.view().get(&key).cloned().ok_or_else(|| Status::not_found(&key))?;
        if found.is_terminating() {
            let text = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(Status::forbidden(&key, &text));
        }
        Ok(())
    }
}

/// Admission of every created and changed object. Mutating admission would run before the rules of the kind, validating
/// admission after them, as in kube-apiserver. There is neither yet.
pub(super) fn admit(
    kind: &Kind,
    document: &Value,
    old: Option<&Value>,
    context: &Context<'_>,
) -> Result<Admitted, Status> {
    context.view.kinds().rules(kind)?.admit(kind, document, old, context)
}

/// The error for a client whose write the store does not take.
pub(crate) fn store_status(error: &store::Error) -> Status {
    let cause: &dyn std::error::Error = error;
    match error {
        // The store has logged once that it is away, full or stopped.
        store::Error::Unavailable(_) | store::Error::Full(_) | store::Error::Stopped(_) => {
            tracing::debug!(error = cause, "the object store is away");
        }
        _ => tracing::warn!(error = cause, "the object store refused a request"),
    }
    match error {
        store::Error::Unavailable(_) => Status::unavailable(error.to_string()),
        // Not 503: clients would retry, and it would not help.
        store::Error::Stopped(_) => Status::internal(error.to_string()),
        store::Error::Failed { .. } => Status::internal(format!(
            "it is not known whether the write happened: {}",
            error.with_causes()
        )),
        store::Error::Unknown(_) => Status::timeout(error.to_string()),
        store::Error::Invalid(_) => Status::bad_request(error.to_string()),
        store::Error::Full(_) => Status::insufficient_storage(error.to_string()),
        store::Error::Closed => Status::unavailable("the server is shutting down"),
        _ => Status::internal(error.to_string()),
    }
}

pub(crate) fn contended(key: &ObjectKey) -> Status {
    Status::conflict(key, "too many other writers; please try again")
}

/// The document that a client sent to a subresource with a type of its own, in canonical form, and warnings about it.
/// `key` names the object that has the subresource.
pub(crate) fn decode_subresource<T: DeserializeOwned + Serialize>(
    key: &ObjectKey,
    kind: &Kind,
    document: Value,
    validation: FieldValidation,
    duplicates: &[String],
) -> Result<(Value, Vec<String>), Status> {
    check_identity(key, &document["metadata"])?;
    let document = of_kind(kind, document)?;
    let (typed, warnings) = decode::decode::<T>(kind, &document, validation, duplicates)?;
    let mut document = decode::encode(&typed);
    canonical::canonicalise(kind, &mut document);
    Ok((document, warnings))
}

/// Adds the `apiVersion`, `kind` and `metadata` that the URL implies. It is an error if the document says otherwise.
fn of_kind(kind: &Kind, mut document: Value) -> Result<Value, Status> {
    let Some(fields) = document.as_object_mut() else {
        return Err(Status::bad_request("the object in the request body is not a JSON object"));
    };
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.kind.to_string())] {
        match fields.get(field).and_then(Value::as_str) {
            None | Some("") => {
                fields.insert(field.to_owned(), expected.into());
            }
            Some(given) if given != expected => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({expected})"
                )));
            }
            Some(_) => {}
        }
    }
    if !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".to_owned(), json!({}));
    }
    Ok(document)
}

fn check_namespace(namespace: &str, metadata: &Value) -> Result<(), Status> {
    match metadata["namespace"].as_str() {
        Some(given) if !given.is_empty() && given != namespace => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => Ok(()),
    }
}

/// Checks that a document has the place that its URL names.
pub(crate) fn check_identity(key: &ObjectKey, metadata: &Value) -> Result<(), Status> {
    check_namespace(&key.namespace, metadata)?;
    match metadata["name"].as_str() {
        Some(name) if name != key.name => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        ))),
        _ => Ok(()),
    }
}

fn check_preconditions(key: &ObjectKey, old: &Object, document: &Value) -> Result<(), Status> {
    let metadata = &document["metadata"];
    if let Some(uid) = metadata["uid"].as_str().filter(|uid| !uid.is_empty()) {
        Preconditions::of_uid(uid).check_update(key, old)?;
    }
    match metadata["resourceVersion"].as_str() {
        None | Some("" | "0") => Ok(()),
        Some(version) if version.parse() == Ok(old.revision) => Ok(()),
        Some(version) if version.parse::<u64>().is_err() => Err(Status::invalid(
            &key.kind,
            &key.name,
            vec![crate::model::Cause::invalid(
                "metadata.resourceVersion",
                version,
                "must be specified for an update",
            )],
        )),
        Some(_) => Err(Status::modified(key)),
    }
}

pub(super) fn own_metadata_on_create(key: &ObjectKey, document: &mut Value, stamp: &str) {
    // A node registers with its status, as the kubelet does.
    if key.kind.has_status
        && key.kind != kind::NODE
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("status");
    }
    let Some(metadata) = document["metadata"].as_object_mut() else { return };
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    if key.kind.namespaced {
        metadata.insert("namespace".to_owned(), key.namespace.as_str().into());
    } else {
        metadata.remove("namespace");
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), stamp.into());
    if key.kind.has_generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// Fields of metadata that only the server sets.
const OWN_METADATA: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generateName",
    "generation",
];

/// The new document, with the old value of everything that this write may not change.
fn merge_parts(kind: &Kind, subresource: Subresource, mut new: Value, old: &Value) -> Value {
    for field in OWN_METADATA {
        set_or_remove(&mut new["metadata"], field, old["metadata"].get(field).cloned());
    }
    match subresource {
        Subresource::None | Subresource::Finalize => {
            if kind.has_status {
                set_or_remove(&mut new, "status", old.get("status").cloned());
            }
            new
        }
        Subresource::Status | Subresource::Approval => {
            let mut document = old.clone();
            set_or_remove(&mut document, "status", new.get("status").cloned());
            document["metadata"] = status_metadata(kind, new["metadata"].take(), &old["metadata"]);
            document
        }
        Subresource::EphemeralContainers => {
            let mut document = old.clone();
            let containers = new["spec"].get("ephemeralContainers").cloned();
            set_or_remove(&mut document["spec"], "ephemeralContainers", containers);
            let managers = new["metadata"].get("managedFields").cloned();
            set_or_remove(&mut document["metadata"], "managedFields", managers);
            document
        }
        Subresource::Binding => {
            let mut document = old.clone();
            document["spec"]["nodeName"] = new["spec"]["nodeName"].take();
            let annotations = new["metadata"].get("annotations").cloned();
            set_or_remove(&mut document["metadata"], "annotations", annotations);
            document
        }
    }
}

/// The metadata after a write of the status: that of the new document. A custom resource changes only its `managedFields`.
fn status_metadata(kind: &Kind, mut new: Value, old: &Value) -> Value {
    if !kind.is_native() {
        let mut metadata = old.clone();
        set_or_remove(&mut metadata, "managedFields", new.get("managedFields").cloned());
        return metadata;
    }
    if let Some(kept) = kind.kept_by_status {
        set_or_remove(&mut new, kept, old.get(kept).cloned());
    }
    new
}

fn set_or_remove(document: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = document.as_object_mut() else { return };
    match value {
        Some(value) => {
            fields.insert(field.to_owned(), value);
        }
        None => {
            fields.remove(field);
        }
    }
}

fn count_generation(kind: &Kind, new: &mut Value, old: &Value) {
    // The status of a custom resource without a status subresource is a field like others.
    let parts: &[&str] = if kind.has_status { &["metadata", "status"] } else { &["metadata"] };
    if kind.has_generation && !same_but_for(new, old, parts) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Whether only the resource version and the times of field managers differ. Such an update writes nothing, as in
/// Kubernetes.
fn same_content(new: &Value, old: &Value) -> bool {
    let (new_metadata, old_metadata) = (&new["metadata"], &old["metadata"]);
    same_but_for(new, old, &["metadata"])
        && same_but_for(new_metadata, old_metadata, &["resourceVersion", "managedFields"])
        && same_managers(&new_metadata["managedFields"], &old_metadata["managedFields"])
}

/// Whether only the times differ, and the order, which depends on them.
fn same_managers(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_array(), old.as_array()) else { return new == old };
    let same = |a: &Value, b: &Value| same_but_for(a, b, &["time"]);
    new.len() == old.len() && new.iter().all(|entry| old.iter().any(|other| same(entry, other)))
}

fn same_but_for(a: &Value, b: &Value, except: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let counts = |name: &String| !except.contains(&name.as_str());
    a.iter().filter(|(name, _)| counts(name)).all(|(name, value)| b.get(name) == Some(value))
        && b.keys().filter(|name| counts(name)).all(|name| a.contains_key(name))
}

/// Whether a terminating object may not vanish yet: finalizers (a Namespace has some in its spec too), or a
/// grace period that its node must end.
pub(crate) fn holds_on(document: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    some(&document["metadata"]["finalizers"])
        || (document["kind"] == "Namespace" && some(&document["spec"]["finalizers"]))
        || document["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|s| s > 0)
}

fn generated_name(base: &str) -> String {
    let kept: String = base.chars().take(NAME_MAX - SUFFIX_LENGTH).collect();
    kept + &suffix(rand::rng().random())
}

/// The end of a generated name, from a random number.
pub(crate) fn suffix(random: u64) -> String {
    let mut letters = rand::rngs::StdRng::seed_from_u64(random);
    (0..SUFFIX_LENGTH).map(|_| char::from(SUFFIX[letters.random_range(..SUFFIX.len())])).collect()
}

#[cfg(test)]
mod tests;
