//! Structural schemas: what a `CustomResourceDefinition` says about its objects, checked, and applied to documents.
//!
//! Enter at [`Schema`], one node of a schema, read by [`Schema::parse`]. [`check`] says whether it may be a resource's;
//! [`resource`] takes a document through all that happens on its way in; [`merge`] says what server-side apply does where;
//! [`publish`] makes OpenAPI of it. Pure data over `serde_json::Value`: this module must never know a kind, the registry or
//! a socket.

pub mod cel;
pub mod check;
pub mod correlate;
pub mod defaulting;
pub mod field_path;
pub mod format;
pub(crate) mod go_text;
pub mod inline;
pub mod list_types;
pub mod merge;
pub mod metadata;
pub mod parse;
pub mod path;
pub mod pattern;
pub mod prune;
pub mod publish;
pub mod resource;
pub mod structural;
pub mod validate;
pub mod warnings;

pub use path::Path;
pub use structural::Schema;

#[cfg(test)]
mod tests;
