//! OpenAPI documents, made on demand and not kept: v3 per group version, v2 for everything at once.
//!
//! kubectl needs them to see that the server validates fields (else it does so itself), to compute patches and for
//! `explain`; generators of clients read them too. Enter at [`OpenApi`].

mod kubernetes_types;
mod multicluster;
mod operations;
mod references;
mod schemas;

#[cfg(test)]
mod generator;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        discovery::{git_version, group_versions, kinds_of},
        openapi::kubernetes_types::Types,
    },
    model::Kind,
    registry::{Descriptor, Kinds},
    schema::publish::{self, GroupVersionKind},
};

/// The media type of OpenAPI v2 that clients written in Go ask for; see [`OpenApi::v2_protobuf`].
pub const PROTOBUF_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The same in an answer: the `@` is not allowed in a media type, and Go's parser refuses it.
pub const PROTOBUF_V2_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Makes OpenAPI documents. What it remembers is one hash per group version.
#[derive(Debug, Default)]
pub struct OpenApi {
    hashes: Mutex<BTreeMap<String, Hashed>>,
}

/// The hash of a document, and the kinds that it is about. It holds until one of them changes.
#[derive(Debug)]
struct Hashed {
    about: Vec<Option<Arc<Descriptor>>>,
    hash: String,
}

impl Hashed {
    fn is_about(&self, about: &[Option<Arc<Descriptor>>]) -> bool {
        let same = |(one, other): (&Option<Arc<_>>, &Option<Arc<_>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.about.len() == about.len() && self.about.iter().zip(about).all(same)
    }
}

impl OpenApi {
    /// `/openapi/v3`: where the documents are. The URLs contain a hash of the document, so that clients can keep it
    /// for ever. The first call makes every document once (tens of milliseconds: keep it off the event loop).
    pub fn root(&self, kinds: &Kinds) -> Value {
        let mut paths = Map::new();
        let mut types = None;
        for (group, versions) in group_versions(kinds) {
            for version in versions {
                let path = path(group, version);
                let of_version = kinds_of(kinds, group, version);
                let about: Vec<_> =
                    of_version.iter().map(|kind| kinds.descriptor(kind).cloned()).collect();
                let hashes = self.hashes.lock();
                let known = hashes.get(&path).filter(|known| known.is_about(&about));
                let known = known.map(|known| known.hash.clone());
                drop(hashes);
                let hash = known.unwrap_or_else(|| {
                    let types = types.get_or_insert_with(Types::read);
                    let hash = hash(&document(kinds, &of_version, types));
                    let hashed = Hashed { about, hash: hash.clone() };
                    self.hashes.lock().insert(path.clone(), hashed);
                    hash
                });
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// `/openapi/v3/api/v1` (group `""`), `/openapi/v3/apis/GROUP/VERSION`; `None` when it is not served.
    pub fn document(&self, kinds: &Kinds, group: &str, version: &str) -> Option<Bytes> {
        let of_version = kinds_of(kinds, group, version);
        (!of_version.is_empty()).then(|| document(kinds, &of_version, &Types::read()))
    }

    /// `/openapi/v2`, as JSON.
    pub fn v2(&self, kinds: &Kinds) -> Bytes {
        let all: Vec<&Kind> = group_versions(kinds)
            .into_iter()
            .flat_map(|(group, versions)| {
                versions.into_iter().flat_map(move |version| kinds_of(kinds, group, version))
            })
            .collect();
        let paths: Map<String, Value> =
            all.iter().flat_map(|kind| operations::v2::paths(kind)).collect();
        let custom = |kind: &Kind| published(kinds, kind, publish::v2);
        let definitions = schemas::swagger(schemas::of(&all, &Types::read(), &custom));
        let document = json!({"swagger": "2.0", "info": info(), "paths": paths,
                              "definitions": definitions});
        document.to_string().into()
    }

    /// `/openapi/v2`, as protobuf: who made it, and no definitions. kubectl asks for it when v3 does not know a kind, to
    /// be told that v2 does not know it either.
    pub fn v2_protobuf(&self) -> Bytes {
        // Field numbers of gnostic's OpenAPIv2.proto: Document.swagger = 1, .info = 2; Info.title = 1, .version = 2.
        let info = [field(1, b"Kubernetes"), field(2, git_version().as_bytes())].concat();
        [field(1, b"2.0"), field(2, &info)].concat().into()
    }
}

/// A short text or message as a protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    const LENGTH_DELIMITED: u8 = 2;
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80);
    let length = length.expect("a length of one byte");
    [&[number << 3 | LENGTH_DELIMITED, length], content].concat()
}

/// Whether a client that accepts this can read JSON.
pub fn accepts_json(accept: &str) -> bool {
    accept.is_empty()
        || accept.split(',').any(|media_type| {
            let media_type = media_type.split(';').next().unwrap_or_default().trim();
            matches!(media_type, "application/json" | "application/*" | "*/*")
        })
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": git_version()})
}

fn document(kinds: &Kinds, of_version: &[&Kind], types: &Types) -> Bytes {
    let paths: Map<String, Value> =
        of_version.iter().flat_map(|kind| operations::v3::paths(kind)).collect();
    let custom = |kind: &Kind| published(kinds, kind, publish::v3);
    let document = json!({"openapi": "3.0.0", "info": info(), "paths": paths,
                          "components": {"schemas": schemas::of(of_version, types, &custom)}});
    document.to_string().into()
}

/// The schema of a custom resource, in one of the versions of OpenAPI.
fn published(
    kinds: &Kinds,
    kind: &Kind,
    publish: fn(Option<&Value>, GroupVersionKind<'_>) -> Value,
) -> Option<Value> {
    let version = kinds.descriptor(kind)?.custom()?;
    let name = GroupVersionKind { group: &kind.group, version: &kind.version, kind: &kind.kind };
    Some(publish(version.document().as_ref(), name))
}

fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02X}");
        text
    })
}
