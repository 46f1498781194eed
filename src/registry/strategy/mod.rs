//! What each kind demands of its objects: defaults, fields that the server owns, validation, addresses and ports.
//! One file per kind that has rules; stored-only kinds are one line of [`rules`].

mod metadata;

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    model::{Cause, Kind, Status},
    registry::{
        Options, Part, View,
        alloc::Claim,
        decode::{self, Decoded},
    },
};

/// What a rule may look at besides the object itself.
pub(crate) struct Context<'a> {
    pub(crate) view: &'a View,
    pub(crate) options: &'a Options,
    pub(crate) now: Timestamp,
    pub(crate) part: Part,
}

/// The rules of one kind over its Rust type. `old` is absent on create.
pub(crate) struct Rules<T> {
    /// Fills in what the client left out, and puts server-owned fields where they belong (a status on create, a
    /// field that an update may not take away). Runs on every write.
    pub(crate) default: fn(new: &mut T, old: Option<&T>, context: &Context<'_>),
    /// Every rule that is broken.
    pub(crate) validate: fn(new: &T, old: Option<&T>, context: &Context<'_>) -> Vec<Cause>,
    /// Chooses addresses and ports that are left open, and checks that requested ones are free.
    pub(crate) allocate: fn(new: &mut T, old: Option<&T>, context: &Context<'_>) -> Vec<Cause>,
    /// The addresses and ports that an object holds.
    pub(crate) claims: fn(object: &T) -> Vec<Claim>,
    /// Deprecations and doubtful values, for `Warning` headers.
    pub(crate) warnings: fn(new: &T) -> Vec<String>,
    /// How names are formed.
    pub(crate) name: metadata::NameForm,
    /// Whether a delete waits for a grace period (pods on a node).
    pub(crate) grace_seconds: fn(object: &T) -> Option<i64>,
}

impl<T> Rules<T> {
    /// A kind that is stored as it comes.
    pub(crate) const STORED: Self = Self {
        default: |_, _, _| {},
        validate: |_, _, _| Vec::new(),
        allocate: |_, _, _| Vec::new(),
        claims: |_| Vec::new(),
        warnings: |_| Vec::new(),
        name: metadata::NameForm::Subdomain,
        grace_seconds: |_| None,
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
    /// Drops what the kind does not know; gives the cleaned document and the dropped paths.
    fn clean(&self, kind: &Kind, document: &Value) -> Result<(Value, Vec<String>), Status>;

    /// Defaults, then validation, then allocation. The error is a 422 with every broken rule.
    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status>;

    /// What an object holds, to be released with it.
    fn claims(&self, kind: &Kind, document: &Value) -> Vec<Claim>;

    /// The grace period of a delete, when the kind has one and the object is worth it.
    fn grace_seconds(&self, kind: &Kind, document: &Value) -> Option<i64>;
}

impl<T: DeserializeOwned + Serialize> AnyRules for Rules<T> {
    fn clean(&self, kind: &Kind, document: &Value) -> Result<(Value, Vec<String>), Status> {
        let Decoded { object, unknown } = decode::decode::<T>(kind, document)?;
        Ok((decode::encode(&object), unknown))
    }

    fn admit(
        &self,
        kind: &Kind,
        document: &Value,
        old: Option<&Value>,
        context: &Context<'_>,
    ) -> Result<Admitted, Status> {
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let mut new = decode::decode::<T>(kind, document)?.object;
        let old = old.map(|old| decode::decode::<T>(kind, old)).transpose()?.map(|old| old.object);
        (self.default)(&mut new, old.as_ref(), context);
        let mut causes = metadata::validate(document, self.name);
        causes.extend((self.validate)(&new, old.as_ref(), context));
        if causes.is_empty() {
            causes = (self.allocate)(&mut new, old.as_ref(), context);
        }
        if !causes.is_empty() {
            return Err(Status::invalid(kind, name, causes));
        }
        let old_claims = old.as_ref().map(self.claims).unwrap_or_default();
        let warnings = (self.warnings)(&new);
        let claims = (self.claims)(&new);
        Ok(Admitted { document: decode::encode(&new), claims, old_claims, warnings })
    }

    fn claims(&self, kind: &Kind, document: &Value) -> Vec<Claim> {
        decode::decode::<T>(kind, document)
            .map_or_else(|_| Vec::new(), |d| (self.claims)(&d.object))
    }

    fn grace_seconds(&self, kind: &Kind, document: &Value) -> Option<i64> {
        (self.grace_seconds)(&decode::decode::<T>(kind, document).ok()?.object)
    }
}

/// The rules of a kind.
pub(crate) fn rules(kind: &'static Kind) -> &'static dyn AnyRules {
    use k8s_openapi::api::{
        apps::v1 as apps, coordination::v1 as coordination, core::v1 as core,
        discovery::v1 as discovery, networking::v1 as networking, node::v1 as node,
    };
    match (kind.group, kind.kind) {
        ("", "ConfigMap") => &Rules::<core::ConfigMap>::STORED,
        ("", "Endpoints") => &Rules::<core::Endpoints>::STORED,
        ("", "Event") => &Rules::<core::Event>::STORED,
        ("", "Namespace") => &Rules::<core::Namespace>::STORED,
        ("", "Node") => &Rules::<core::Node>::STORED,
        ("", "Pod") => &Rules::<core::Pod>::STORED,
        ("", "Secret") => &Rules::<core::Secret>::STORED,
        ("", "ServiceAccount") => &Rules::<core::ServiceAccount>::STORED,
        ("", "Service") => &Rules::<core::Service>::STORED,
        ("apps", "Deployment") => &Rules::<apps::Deployment>::STORED,
        ("apps", "ReplicaSet") => &Rules::<apps::ReplicaSet>::STORED,
        ("apps", "StatefulSet") => &Rules::<apps::StatefulSet>::STORED,
        ("coordination.k8s.io", "Lease") => &Rules::<coordination::Lease>::STORED,
        ("discovery.k8s.io", "EndpointSlice") => &Rules::<discovery::EndpointSlice>::STORED,
        ("networking.k8s.io", "IPAddress") => &Rules::<networking::IPAddress>::STORED,
        ("node.k8s.io", "RuntimeClass") => &Rules::<node::RuntimeClass>::STORED,
        _ => &Rules::<Value>::STORED,
    }
}
