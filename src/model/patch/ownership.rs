//! What a client wants, and who comes to own which fields by it. Ownership is settled when the new document has its
//! defaults: what a client left out and the server filled in again has not changed.

use serde_json::Value;

use crate::model::{
    Status,
    patch::{
        applied::Applied,
        managers::{self, FieldManager},
        place::Resource,
    },
};

/// A document that a client wants.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The document, without defaults.
    pub document: Value,
    /// Who owns its fields.
    pub ownership: Ownership<'a>,
    /// The fields that stood in its text more than once.
    pub duplicates: Vec<String>,
}

/// How `managedFields` change with a write.
#[derive(Debug)]
pub enum Ownership<'a> {
    /// They stay as the document has them.
    Kept,
    /// By any write but server-side apply.
    Updated {
        /// Who writes.
        manager: FieldManager<'a>,
        /// The client clears the managers by an empty list.
        reset: bool,
    },
    /// By server-side apply.
    Applied(Box<Applied>),
}

impl<'a> Wanted<'a> {
    /// What `manager` wants by anything but server-side apply. A client may send `managedFields` of its own (that is how
    /// kubectl migrates objects), an empty list clears them.
    pub fn updated(document: Value, manager: FieldManager<'a>) -> Self {
        let reset = manager.subresource.is_empty() && managers::is_reset(&document);
        Self { ownership: Ownership::Updated { manager, reset }, ..document.into() }
    }
}

impl Wanted<'_> {
    /// The same, read from a text with these duplicates.
    pub fn with_duplicates(self, duplicates: Vec<String>) -> Self {
        Self { duplicates, ..self }
    }
}

impl From<Value> for Wanted<'_> {
    fn from(document: Value) -> Self {
        Self { document, ownership: Ownership::Kept, duplicates: Vec::new() }
    }
}

impl Ownership<'_> {
    /// Whether `managedFields` stay as the document has them.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Kept)
    }

    /// Puts the new `managedFields` into the new document, which has its defaults. `live` is the document that it
    /// replaces.
    ///
    /// # Errors
    /// 409 for conflicts of a server-side apply.
    pub fn settle(
        &self,
        resource: Resource<'_>,
        live: Option<&Value>,
        document: &mut Value,
    ) -> Result<(), Status> {
        match self {
            Self::Kept => {}
            Self::Updated { manager, reset } => {
                managers::record_update(resource, live, document, manager, *reset);
            }
            Self::Applied(applied) => applied.settle(resource, document)?,
        }
        Ok(())
    }
}
