//! The manifests of `snowglobe up FILE...`. They are first read and checked as a whole. Then each is applied in order
//! by server-side apply, as `kubectl apply --server-side` does.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        Kind, ObjectKey, kind,
        patch::{self, FieldManager, Resource},
    },
    registry::{FieldValidation, Registry, Subresource, WriteOptions},
};

/// The field manager in `metadata.managedFields`.
const MANAGER: &str = "snowglobe-up";

/// One document of a manifest file.
pub struct Manifest {
    /// The file and the document in it, for messages: `web.yaml, document 2`.
    pub place: String,
    api_version: String,
    kind: String,
    document: Value,
}

/// How long the kinds of a definition may take to be served.
const DEFINED_WAIT: Duration = Duration::from_secs(10);

impl Manifest {
    /// The key of its object. An object without a namespace is put into `default`.
    pub fn key(&self, kind: &Kind, default: &str) -> ObjectKey {
        let metadata = &self.document["metadata"];
        let namespace = match metadata["namespace"].as_str() {
            _ if !kind.namespaced => "",
            None | Some("") => default,
            Some(namespace) => namespace,
        };
        ObjectKey::new(kind, namespace, metadata["name"].as_str().unwrap_or_default())
    }

    /// Whether it is of this kind.
    pub fn is_of(&self, kind: &Kind) -> bool {
        kind.is_named(&self.api_version, &self.kind)
    }

    /// The error for a kind that is not served.
    pub fn not_served(&self) -> anyhow::Error {
        anyhow!(
            "{}: kind {} of {} is not served; `kubectl api-resources` lists what is",
            self.place,
            self.kind,
            self.api_version
        )
    }

    /// Whether its kind would be Kubernetes' own, but is not served.
    fn is_unknown_built_in(&self) -> bool {
        // The group of a custom kind has a dot.
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        !group.contains('.') && kind::built_in(&self.api_version, &self.kind).is_none()
    }

    /// Whether it is a CustomResourceDefinition that defines the kind of another manifest.
    fn defines(&self, other: &Self) -> bool {
        let spec = &self.document["spec"];
        self.is_of(&kind::CUSTOM_RESOURCE_DEFINITION)
            && spec["names"]["kind"] == *other.kind
            && other.api_version.split('/').next() == spec["group"].as_str()
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.document
    }
}

/// Reads files. Of a directory it reads the `.yaml`, `.yml` and `.json` files, sorted by name.
pub fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        for file in files(path)? {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            parse(&file.display().to_string(), &text, &mut manifests)?;
        }
    }
    Ok(manifests)
}

/// Reads the documents of one text.
pub fn parse(name: &str, text: &str, manifests: &mut Vec<Manifest>) -> anyhow::Result<()> {
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = format!("{name}, document {}", index + 1);
        let document =
            Value::deserialize(document).with_context(|| format!("{place}: this is not YAML"))?;
        if document.is_null() {
            continue;
        }
        let field = |field: &str| document[field].as_str().unwrap_or_default();
        if field("kind") == "List" {
            for item in document["items"].as_array().into_iter().flatten() {
                manifests.push(manifest(place.clone(), item.clone())?);
            }
            continue;
        }
        manifests.push(manifest(place, document)?);
    }
    Ok(())
}

fn manifest(place: String, document: Value) -> anyhow::Result<Manifest> {
    let field = |field: &str| document[field].as_str().unwrap_or_default();
    let (api_version, name) = (field("apiVersion"), field("kind"));
    if api_version.is_empty() || name.is_empty() {
        bail!("{place}: apiVersion and kind are missing: this is no Kubernetes object");
    }
    if document["metadata"]["name"].as_str().is_none_or(str::is_empty) {
        bail!("{place}: {name} has no metadata.name");
    }
    let (api_version, kind) = (api_version.to_owned(), name.to_owned());
    let manifest = Manifest { place, api_version, kind, document };
    if manifest.is_unknown_built_in() {
        return Err(manifest.not_served());
    }
    Ok(manifest)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("cannot read {}", path.display()))?.path();
        let manifest = file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if manifest && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{} holds no .yaml, .yml or .json file", path.display());
    }
    Ok(files)
}

/// Checks that the kinds of all manifests are served, or defined by one of them.
pub fn check(registry: &Registry, manifests: &[Manifest]) -> anyhow::Result<()> {
    let kinds = registry.kinds();
    let is_known = |manifest: &&Manifest| {
        kinds.by_api_version(&manifest.api_version, &manifest.kind).is_some()
            || manifests.iter().any(|other| other.defines(manifest))
    };
    match manifests.iter().find(|manifest| !is_known(manifest)) {
        Some(unknown) => Err(unknown.not_served()),
        None => Ok(()),
    }
}

/// The kind of a manifest. Waits a little until its definition, which was just applied, is established.
async fn served(registry: &Registry, manifest: &Manifest) -> anyhow::Result<Kind> {
    let mut revisions = registry.revisions();
    let found = || registry.kinds().by_api_version(&manifest.api_version, &manifest.kind).cloned();
    let established = revisions.wait_for(|_| found().is_some());
    let waited = tokio::time::timeout(DEFINED_WAIT, established).await;
    found().filter(|_| waited.is_ok()).ok_or_else(|| manifest.not_served())
}

/// Applies one manifest. Returns the name of the object for messages.
pub async fn apply(registry: &Registry, manifest: &Manifest) -> anyhow::Result<ObjectKey> {
    let Manifest { place, document, .. } = manifest;
    let kind = &served(registry, manifest).await?;
    let key = manifest.key(kind, "default");
    let options =
        WriteOptions { field_validation: FieldValidation::Strict, ..WriteOptions::default() };
    let apply = |old: Option<&Value>| {
        let manager = FieldManager { name: MANAGER, subresource: "", now: Timestamp::now() };
        patch::apply(Resource::built_in(kind), old, document, &manager, true)
    };
    let result = if registry.view().get(&key).is_none() {
        match apply(None) {
            Ok(document) => registry.create(kind, &key.namespace, document, &options).await,
            Err(status) => Err(status),
        }
    } else {
        let change = |old: &crate::model::Object| {
            let old: Value =
                old.parse().map_err(|error| crate::model::Status::internal(error.to_string()))?;
            apply(Some(&old))
        };
        registry.modify(&key, Subresource::None, &options, change).await
    };
    result.with_context(|| place.clone())?;
    Ok(key)
}
