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

use std::{collections::BTreeMap, fmt::Write};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    api::{
        discovery::{git_version, group_versions, kinds},
        openapi::kubernetes_types::Types,
    },
    model::Kind,
};

/// The media type of OpenAPI v2 that clients written in Go ask for; see [`OpenApi::v2_protobuf`].
pub const PROTOBUF_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The same in an answer: the `@` is not allowed in a media type, and Go's parser refuses it.
pub const PROTOBUF_V2_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Makes OpenAPI documents. What it remembers is one hash per group version.
#[derive(Debug, Default)]
pub struct OpenApi {
    hashes: Mutex<BTreeMap<String, String>>,
}

impl OpenApi {
    /// `/openapi/v3`: where the documents are. The URLs contain a hash of the document, so that clients can keep it
    /// for ever. The first call makes every document once (tens of milliseconds: keep it off the event loop).
    pub fn root(&self) -> Value {
        let mut paths = Map::new();
        let mut types = None;
        for (group, versions) in group_versions() {
            for version in versions {
                let path = path(group, version);
                let known = self.hashes.lock().get(&path).cloned();
                let hash = known.unwrap_or_else(|| {
                    let hash = hash(&document(
                        &kinds(group, version),
                        types.get_or_insert_with(Types::read),
                    ));
                    self.hashes.lock().insert(path.clone(), hash.clone());
                    hash
                });
                let url = format!("/openapi/v3/{path}?hash={hash}");
                paths.insert(path, json!({"serverRelativeURL": url}));
            }
        }
        json!({"paths": paths})
    }

    /// `/openapi/v3/api/v1` (group `""`), `/openapi/v3/apis/GROUP/VERSION`; `None` when it is not served.
    pub fn document(&self, group: &str, version: &str) -> Option<Bytes> {
        let kinds = kinds(group, version);
        (!kinds.is_empty()).then(|| document(&kinds, &Types::read()))
    }

    /// `/openapi/v2`, as JSON.
    pub fn v2(&self) -> Bytes {
        let kinds: Vec<&Kind> = group_versions()
            .into_iter()
            .flat_map(|(group, versions)| versions.into_iter().flat_map(move |v| kinds(group, v)))
            .collect();
        let paths: Map<String, Value> =
            kinds.iter().flat_map(|kind| operations::v2::paths(kind)).collect();
        let definitions = schemas::swagger(schemas::of(&kinds, &Types::read()));
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

fn document(kinds: &[&Kind], types: &Types) -> Bytes {
    let paths: Map<String, Value> =
        kinds.iter().flat_map(|kind| operations::v3::paths(kind)).collect();
    let document = json!({"openapi": "3.0.0", "info": info(), "paths": paths,
                          "components": {"schemas": schemas::of(kinds, types)}});
    document.to_string().into()
}

fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02X}");
        text
    })
}
