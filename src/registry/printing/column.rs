//! [`Column`]: one column of a table, and those that several kinds have.

use serde::Serialize;

/// One column definition.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Column<'a> {
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) format: &'a str,
    pub(super) description: &'a str,
    /// 1 is shown only with `-o wide`.
    pub(super) priority: i32,
}

impl Column<'static> {
    pub(crate) const NAME: Self =
        Self::text("Name", "Name, unique within the namespace for its kind.").named();
    pub(crate) const AGE: Self = Self::text("Age", "Time since the object was created.");
    /// An age in the table of a custom resource.
    pub(crate) const DATE: Self = Self { kind: "date", ..Self::AGE };
    /// What there is besides the name of an object that nobody described.
    pub(crate) const CREATED: Self =
        Self { kind: "date", ..Self::text("Created At", "When the object was created.") };
    pub(crate) const CONTAINERS: Self =
        Self::text("Containers", "Container names of the pod template.").wide();
    pub(crate) const IMAGES: Self =
        Self::text("Images", "Container images of the pod template.").wide();
    pub(crate) const SELECTOR: Self = Self::text("Selector", "Labels that select the pods.").wide();

    pub(crate) const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    pub(crate) const fn number(name: &'static str, description: &'static str) -> Self {
        Self { kind: "integer", ..Self::text(name, description) }
    }

    pub(crate) const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self { kind: "boolean", ..Self::text(name, description) }
    }

    /// With names of objects as its cells.
    pub(crate) const fn named(self) -> Self {
        Self { format: "name", ..self }
    }

    /// Only with `-o wide`.
    pub(crate) const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}
