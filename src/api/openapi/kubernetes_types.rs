//! The schemas of Kubernetes' types: what the library of types says of them, written to a file by a test (`generator`),
//! since the code that says it is a twentieth of the program.
//!
//! `types.json.gz` is generated; the descriptions in it are those of Kubernetes (Apache License 2.0).

use std::{collections::BTreeSet, io::Read};

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::api::openapi::references::PREFIX;

static FILE: &[u8] = include_bytes!("types.json.gz");

/// Schemas by name.
pub(super) type Schemas = Map<String, Value>;

/// All of them.
pub(super) struct Types(Schemas);

impl Types {
    /// Reads the file, which takes some milliseconds.
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(&text()).expect("a test has read it"))
    }

    /// Those with these names, as far as there are such, and all that they refer to.
    pub(super) fn with_references(&self, mut names: Vec<String>) -> Schemas {
        let mut found = Schemas::new();
        while let Some(name) = names.pop() {
            if !found.contains_key(&name)
                && let Some(schema) = self.0.get(&name)
            {
                let mut references = BTreeSet::new();
                collect_references(schema, &mut references);
                names.extend(references);
                found.insert(name, schema.clone());
            }
        }
        found
    }
}

/// The text of the file.
pub(super) fn text() -> String {
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).expect("a test has read it");
    text
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let reference = fields.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|text| text.strip_prefix(PREFIX)).map(str::to_owned));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}
