//! What a CustomResourceDefinition defines: one kind for each of its versions.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use crate::{
    model::{
        Kind, Object, Status,
        kind::{Identity, Text},
    },
    registry::{
        kinds::{Descriptor, Details, scale::ScalePaths, versions::by_preference},
        printing::PrinterColumns,
    },
    schema::{Path, Schema, cel::Compiled, resource},
};

/// The condition of a definition whose kinds are served.
pub(crate) const ESTABLISHED: &str = "Established";

/// A definition, as far as serving needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Definition {
    spec: DefinitionSpec,
    status: DefinitionStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DefinitionSpec {
    group: String,
    scope: String,
    versions: Vec<Version>,
    conversion: Conversion,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conversion {
    strategy: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DefinitionStatus {
    accepted_names: Names,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Names {
    plural: String,
    singular: String,
    kind: String,
    list_kind: String,
    short_names: Vec<String>,
    categories: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// One version of a definition.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Version {
    name: String,
    served: bool,
    storage: bool,
    /// Whether a webhook would convert objects between this version and the stored one.
    #[serde(skip)]
    needs_webhook: bool,
    deprecated: bool,
    deprecation_warning: Option<String>,
    subresources: Subresources,
    #[serde(deserialize_with = "shared")]
    schema: Arc<VersionSchema>,
    pub(crate) additional_printer_columns: PrinterColumns,
    pub(crate) selectable_fields: Vec<SelectableField>,
}

/// The schema of a version. It is read when it is first asked for: a cluster may have hundreds that nobody uses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    text: Option<Box<RawValue>>,
    #[serde(skip)]
    read: OnceLock<ReadSchema>,
}

fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<VersionSchema>, D::Error> {
    VersionSchema::deserialize(deserializer).map(Arc::new)
}

/// A schema with its rules, ready to be used.
#[derive(Debug)]
pub(crate) struct ReadSchema {
    pub(crate) schema: Schema,
    pub(crate) rules: Compiled,
}

/// A field by which clients may select.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SelectableField {
    pub(crate) json_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subresources {
    status: Option<Value>,
    scale: Option<ScalePaths>,
}

impl Version {
    /// What documents of this version must be like.
    pub(crate) fn schema(&self) -> &ReadSchema {
        self.schema.read.get_or_init(|| {
            let document = self.document().unwrap_or_default();
            let schema = Schema::parse(&document, &Path::root("")).unwrap_or_else(|cause| {
                tracing::error!(?cause, "a stored schema cannot be read; all fields are dropped");
                Schema::default()
            });
            let rules = Compiled::compile(&schema, &Path::root("")).unwrap_or_else(|causes| {
                tracing::error!(?causes, "stored rules cannot be compiled; they are not checked");
                Compiled::default()
            });
            ReadSchema { schema, rules }
        })
    }

    /// The schema as it was written.
    pub(crate) fn document(&self) -> Option<Value> {
        serde_json::from_str(self.schema.text.as_ref()?.get()).ok()
    }

    /// Puts a stored document into the form of the version, as Kubernetes does at each read: what the schema does not
    /// specify any more goes, and defaults that are new come.
    pub(super) fn complete(&self, document: &mut Value) {
        let schema = &self.schema().schema;
        let done = resource::decode(document, schema)
            .and_then(|_dropped| resource::default(document, schema));
        if let Err(cause) = done {
            tracing::warn!(?cause, "a custom resource is shown as it is stored");
        }
    }

    /// Whether both have the very same schema.
    pub(super) fn shares_schema(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.schema, &other.schema)
    }

    /// Where the scale is, if there is one.
    pub(crate) fn scale(&self) -> Option<&ScalePaths> {
        self.subresources.scale.as_ref()
    }

    /// The error for objects in this version, if a webhook would have to convert them.
    pub(crate) fn check_conversion(&self, kind: &Kind) -> Result<(), Status> {
        if !self.needs_webhook {
            return Ok(());
        }
        let stored = &kind.stored().version;
        Err(Status::internal(format!(
            "conversion webhook for {}, Kind={} is not called: Snowglobe calls no webhooks yet; version {stored} needs no \
             conversion",
            kind.api_version(),
            kind.kind
        )))
    }

    /// The warning of a deprecated version of a kind.
    pub(crate) fn deprecation(&self, kind: &Kind) -> Option<String> {
        let told = || format!("{} {} is deprecated", kind.api_version(), kind.kind);
        self.deprecated.then(|| self.deprecation_warning.clone().unwrap_or_else(told))
    }

    /// Keeps what was read of an earlier version with the same schema.
    fn share(&mut self, earlier: &Self) {
        let text = |version: &Self| version.schema.text.as_ref().map(|text| text.get().to_owned());
        if text(self) == text(earlier) {
            self.schema = earlier.schema.clone();
        }
    }
}

/// The kinds that a stored definition defines: none until it is established.
pub(crate) fn descriptors(
    definition: &Object,
    earlier: &[Arc<Descriptor>],
) -> Vec<Arc<Descriptor>> {
    let parsed = definition.parse::<Definition>();
    let Ok(Definition { spec, status }) = parsed else { return Vec::new() };
    let established =
        |condition: &Condition| condition.kind == ESTABLISHED && condition.status == "True";
    if !status.conditions.iter().any(established) {
        return Vec::new();
    }
    let DefinitionSpec { group, scope, mut versions, conversion } = spec;
    versions.sort_by(|one, other| by_preference(&one.name, &other.name));
    let identity = |version: &Version, stored_as| {
        let names = &status.accepted_names;
        Kind::Custom(Arc::new(Identity {
            group: group.clone().into(),
            version: version.name.clone().into(),
            kind: names.kind.clone().into(),
            plural: names.plural.clone().into(),
            singular: names.singular.clone().into(),
            list_kind: names.list_kind.clone().into(),
            short_names: texts(&names.short_names),
            categories: texts(&names.categories),
            namespaced: scope == "Namespaced",
            has_status: version.subresources.status.is_some(),
            has_scale: version.subresources.scale.is_some(),
            has_generation: true,
            kept_by_status: None,
            stored_as,
        }))
    };
    let Some(stored) = versions.iter().find(|version| version.storage) else { return Vec::new() };
    let stored = identity(stored, None);
    let descriptor = |mut version: Version| {
        let before = earlier.iter().find(|before| before.kind.version == version.name);
        if let Some(before) = before.and_then(|before| before.custom()) {
            version.share(before);
        }
        version.needs_webhook = conversion.strategy == "Webhook" && !version.storage;
        let kind = match version.storage {
            true => stored.clone(),
            false => identity(&version, Some(stored.clone())),
        };
        Arc::new(Descriptor {
            kind,
            served: version.served,
            details: Details::Custom(Box::new(version)),
        })
    };
    versions.into_iter().map(descriptor).collect()
}

fn texts(list: &[String]) -> Cow<'static, [Text]> {
    list.iter().map(|text| Text::from(text.clone())).collect()
}
