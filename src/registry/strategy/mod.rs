//! All that is known of each built-in kind besides its identity: its rules (defaults, fields that the server owns,
//! validation, addresses and ports) and what `kubectl get` prints of it.
//!
//! One file per kind says all of it in a [`BuiltIn`]; few small ones that belong together share a file. The list of them is
//! [`BUILT_IN`]. Messages are kube-apiserver's.

mod access;
mod address;
mod admission_match;
mod admission_policy;
mod api_service;
mod built_in;
mod certificate_signing_request;
mod checks;
mod cluster_trust_bundle;
mod component_status;
mod config_map;
mod container_validation;
mod controller_revision;
mod cron_job;
mod csi;
mod custom_resource;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device;
mod document;
mod endpoint_slice;
mod endpoints;
mod ephemeral_containers;
mod event;
mod field_references;
mod fields;
mod flow_control;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod job_policies;
mod json;
mod lease;
mod limit_range;
mod limit_ranger;
mod metadata;
mod multicluster;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_admission;
mod pod_defaults;
mod pod_disruption_budget;
mod pod_template;
mod pod_validation;
mod pod_warnings;
mod policy;
mod policy_stats;
mod priority_class;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod resource_validation;
mod runtime_class;
mod secret;
mod security_validation;
mod service;
mod service_account;
mod service_allocation;
mod service_cidr;
mod service_validation;
mod stateful_set;
mod storage_class;
mod volume_attachment;
mod volume_validation;
mod webhook_configuration;
mod workload;

pub(crate) use built_in::BUILT_IN;
pub(crate) use daemon_set::TEMPLATE_GENERATION;
pub(crate) use metadata::{validate_label_value, validate_qualified_name};
pub(crate) use persistent_volume::VOLUME_PROTECTION;
pub(crate) use persistent_volume_claim::{CLAIM_PROTECTION, CLASS_ANNOTATION};
pub(crate) use storage_class::{DEFAULT_CLASS, default_class};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    model::{
        Cause, Kind, Object, ObjectKey, Status, canonical, conversion, kind::extension,
        patch::Wanted,
    },
    registry::{
        FieldValidation, Options, Subresource, View,
        alloc::Claim,
        decode,
        printing::{Cells, Column, Columns, row},
    },
};

/// Fields of documents by the names by which clients know them, and their places: of several (`a|b`), the first one that is
/// set counts.
pub(crate) type Fields = &'static [(&'static str, &'static str)];

/// All that is known of a built-in kind.
#[derive(Clone, Copy)]
pub(crate) struct BuiltIn {
    /// What identifies it.
    pub(crate) kind: &'static Kind,
    /// What its documents must be like.
    pub(crate) rules: &'static dyn AnyRules,
    /// The columns of its tables.
    pub(crate) columns: Columns,
    /// The cells of an object's row, in the order of the columns.
    pub(crate) cells: fn(object: &Object, now: Timestamp) -> Cells,
    /// The `conditions` of an object's row.
    pub(crate) row_conditions: fn(object: &Object) -> Vec<Value>,
    /// Whether Kubernetes prints it as it prints any object, for want of columns of its own.
    pub(crate) is_generic: bool,
    /// The fields by which clients may select, besides name and namespace.
    pub(crate) selectable_fields: Fields,
    /// Whether it is only replaced by who names the revision that he knows (the strategy's `AllowUnconditionalUpdate` in
    /// Kubernetes, turned around).
    pub(crate) replaced_by_revision: bool,
    /// Whether PUT may create it (`AllowCreateOnUpdate`).
    pub(crate) created_by_put: bool,
}

impl BuiltIn {
    /// A kind of which nothing special is known. Each descriptor says its own kind; a test sees to that.
    pub(crate) const STORED: Self = Self {
        kind: &extension::COMPONENT_STATUS,
        rules: &document::DocumentRules::STORED,
        columns: &[Column::NAME, Column::AGE],
        cells: |object, now| Ok(row::plain::<Value, 0>(object, now, [])),
        row_conditions: |_| Vec::new(),
        is_generic: false,
        selectable_fields: &[],
        replaced_by_revision: false,
        created_by_put: false,
    };

    /// One that Kubernetes prints as any object.
    pub(crate) const GENERIC: Self = Self {
        columns: &[Column::NAME, Column::CREATED],
        cells: |object, _| Ok(row::created(object)),
        is_generic: true,
        ..Self::STORED
    };
}

/// A field whose place in the document is its name.
const fn as_named(name: &'static str) -> (&'static str, &'static str) {
    (name, name)
}

/// What a rule may read besides the object.
pub(crate) struct Context<'a> {
    pub(crate) view: &'a View,
    pub(crate) options: &'a Options,
    pub(crate) now: Timestamp,
    pub(crate) subresource: Subresource,
    /// The kind in whose form the client wrote the object.
    pub(crate) shown: &'a Kind,
    /// What the client sent besides the document: the field manager, and the duplicate fields of its text.
    pub(crate) wanted: &'a Wanted<'a>,
    /// Spreads the choice of free addresses and ports.
    pub(crate) seed: u64,
    pub(crate) field_validation: FieldValidation,
}

/// A rule that changes the new object.
pub(crate) type Mutate<T> = fn(new: &mut T, old: Option<&T>, context: &Context<'_>);
/// A rule that changes the new object and tells what it could not.
pub(crate) type Allocate<T> = fn(new: &mut T, old: Option<&T>, context: &Context<'_>) -> Vec<Cause>;

/// The rules of one kind over its Rust type. `old` is absent on create.
pub(crate) struct Rules<T> {
    /// Fills in what the client left out, and puts server-owned fields where they belong (a status on create, a
    /// field that an update may not take away). Runs on every write.
    pub(crate) default: Mutate<T>,
    /// What admission plugins of a real cluster add. The client does not own that.
    pub(crate) admit: Option<Mutate<T>>,
    /// Every rule that is broken.
    pub(crate) validate: fn(new: &T, old: Option<&T>, context: &Context<'_>) -> Vec<Cause>,
    /// Chooses addresses and ports that are left open, and checks that requested ones are free.
    pub(crate) allocate: Option<Allocate<T>>,
    /// The addresses and ports that an object holds.
    pub(crate) claims: fn(object: &T) -> Vec<Claim>,
    /// Why an admission plugin would refuse the object (403).
    pub(crate) refuse: fn(new: &T, old: Option<&T>, context: &Context<'_>) -> Option<String>,
    /// Deprecations and doubtful values, for `Warning` headers.
    pub(crate) warnings: fn(new: &T, old: Option<&T>) -> Vec<String>,
    /// The form of names.
    pub(crate) name: metadata::NameForm,
    /// Whether a delete waits for a grace period (pods on a node).
    pub(crate) grace_seconds: fn(object: &T) -> Option<i64>,
    /// Why an admission plugin would refuse to delete the object of this name (403).
    pub(crate) undeletable: fn(name: &str) -> Option<&'static str>,
}

impl<T> Rules<T> {
    /// The rules of a kind that has none.
    pub(crate) const STORED: Self = Self {
        default: |_, _, _| {},
        admit: None,
        validate: |_, _, _| Vec::new(),
        allocate: None,
        claims: |_| Vec::new(),
        refuse: |_, _, _| None,
        warnings: |_, _| Vec::new(),
        name: metadata::NameForm::Subdomain,
        grace_seconds: |_| None,
        undeletable: |_| None,
    };
}

/// A document that passed its kind's rules.
pub(crate) struct Admitted {
    pub(crate) document: Value,
    /// What it holds now; compared with what it held, this tells what to allocate and to release.
    pub(crate) claims: Vec<Claim>,
    pub(crate) old_claims: Vec<Claim>,
    pub(crate) warnings: Vec<String>,
}

/// [`Rules`] without the type.
pub(crate) trait AnyRules: Sync {
    /// Reads the document as the kind's type, then defaults, field managers, validation, allocation. Both documents are
    /// in canonical form, as the result is. The error is a 400 for what has no meaning (and, if so wished, for unknown
    /// fields), a 409 for fields of another manager, or a 422 with every broken rule.
    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status>;

    /// What an object holds, to be released with it.
    fn claims(&self, _kind: &Kind, _document: &Value) -> Vec<Claim> {
        Vec::new()
    }

    /// The grace period of a delete, when the kind has one and the object is worth it.
    fn grace_seconds(&self, _kind: &Kind, _document: &Value) -> Option<i64> {
        None
    }

    /// Why the object of this name is never deleted.
    fn undeletable(&self, _name: &str) -> Option<&'static str> {
        None
    }
}

impl<T: DeserializeOwned + Serialize> AnyRules for Rules<T> {
    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status> {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let metadata_changes =
            old.map(|old| metadata::validate_update(document, old)).unwrap_or_default();
        let (mut new, mut warnings) = decode::decode::<T>(
            kind,
            document,
            context.field_validation,
            &context.wanted.duplicates,
        )?;
        let old_document = old;
        let old = old.map(|old| decode::typed::<T>(kind, old)).transpose()?;
        (self.default)(&mut new, old.as_ref(), context);
        let mut settled = None;
        if !context.wanted.ownership.is_kept() {
            let document = settled.insert(written(kind, &new));
            settle(kind, old_document, document, context)?;
        }
        if let Some(admit) = self.admit {
            admit(&mut new, old.as_ref(), context);
        }
        if let Some(why) = (self.refuse)(&new, old.as_ref(), context) {
            return Err(Status::forbidden(&ObjectKey::cluster(kind, name), &why));
        }
        let mut causes = metadata::validate(document, self.name);
        causes.extend(metadata_changes);
        causes.extend((self.validate)(&new, old.as_ref(), context));
        if let Some(allocate) = self.allocate
            && causes.is_empty()
        {
            causes = allocate(&mut new, old.as_ref(), context);
        }
        if !causes.is_empty() {
            return Err(Status::invalid(kind, name, causes));
        }
        let old_claims = old.as_ref().map(self.claims).unwrap_or_default();
        warnings.extend((self.warnings)(&new, old.as_ref()));
        let claims = (self.claims)(&new);
        let is_final = self.admit.is_none() && self.allocate.is_none();
        let document = match settled {
            Some(settled) if is_final => settled,
            Some(settled) => with_managers_of(settled, written(kind, &new)),
            None => written(kind, &new),
        };
        Ok(Admitted { document, claims, old_claims, warnings })
    }

    fn claims(&self, kind: &Kind, document: &Value) -> Vec<Claim> {
        decode::typed::<T>(kind, document).map_or_else(|_| Vec::new(), |o| (self.claims)(&o))
    }

    fn grace_seconds(&self, kind: &Kind, document: &Value) -> Option<i64> {
        (self.grace_seconds)(&decode::typed::<T>(kind, document).ok()?)
    }

    fn undeletable(&self, name: &str) -> Option<&'static str> {
        (self.undeletable)(name)
    }
}

/// The document of an object in canonical form.
fn written<T: Serialize>(kind: &Kind, object: &T) -> Value {
    let mut document = decode::encode(object);
    canonical::canonicalise(kind, &mut document);
    document
}

/// Lets the write's ownership settle on the document, in the form in which the client knows it.
fn settle(
    kind: &Kind,
    old: Option<&Value>,
    document: &mut Value,
    context: &Context<'_>,
) -> Result<(), Status> {
    let (shown, kinds) = (context.shown, context.view.kinds());
    let resource = kinds.descriptor(shown).ok_or_else(Status::no_such_path)?.resource();
    if *shown == *kind {
        return context.wanted.ownership.settle(resource, old, document);
    }
    let old = old.map(|old| conversion::from_stored(shown, old.clone()));
    let mut converted = conversion::from_stored(shown, document.clone());
    context.wanted.ownership.settle(resource, old.as_ref(), &mut converted)?;
    *document = with_managers_of(converted, document.take());
    Ok(())
}

/// The second document with the `managedFields` of the first.
fn with_managers_of(mut first: Value, mut second: Value) -> Value {
    const FIELD: &str = "managedFields";
    let managers = first["metadata"].as_object_mut().and_then(|metadata| metadata.remove(FIELD));
    if let Some(metadata) = second["metadata"].as_object_mut() {
        match managers {
            Some(managers) => metadata.insert(FIELD.to_owned(), managers),
            None => metadata.remove(FIELD),
        };
    }
    second
}

#[cfg(test)]
mod tests;
