//! References from one schema to another, by name.

use serde_json::{Value, json};

/// Where references point in v3 documents.
pub(super) const PREFIX: &str = "#/components/schemas/";
/// Where references point in v2 documents.
pub(super) const SWAGGER_PREFIX: &str = "#/definitions/";

/// A reference to a schema.
pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("{PREFIX}{schema}")})
}
