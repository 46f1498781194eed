//! Label and field selectors: they choose the objects of a list or watch.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    api::target::Target,
    model::{FieldSelector, LabelSelector, Object, Status},
    registry::{Descriptor, View},
};

/// Label and field selectors of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selectors {
    descriptor: Option<Arc<Descriptor>>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selectors {
    /// Parses the selectors.
    ///
    /// # Errors
    /// 400 if a text is no selector, or selects by a field that Kubernetes does not offer for this kind.
    pub(crate) fn of(
        descriptor: &Arc<Descriptor>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let labels = LabelSelector::parse(labels).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(fields).map_err(Status::bad_request)?;
        for field in fields.paths() {
            if field_path(descriptor, field).is_none() {
                return Err(Status::bad_request(not_selectable(descriptor, field)));
            }
        }
        Ok(Self { descriptor: Some(descriptor.clone()), labels, fields })
    }

    /// Whether they match every object.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        if !self.labels.matches(&object.metadata.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let is_metadata = |field: &str| field.starts_with("metadata.name");
        let document: Value = match self.fields.paths().all(is_metadata) {
            true => Value::Null,
            false => object.parse().unwrap_or_default(),
        };
        self.fields.matches(|field| match field {
            "metadata.name" => object.key.name.as_str().into(),
            "metadata.namespace" => object.key.namespace.as_str().into(),
            field => {
                let of = self.descriptor.as_ref();
                let paths = of.and_then(|of| field_path(of, field)).unwrap_or(field);
                let at = |path: &str| path.split('.').fold(&document, |value, part| &value[part]);
                let is_set = |value: &&Value| !value.is_null() && **value != "";
                match paths.split('|').map(at).find(is_set) {
                    Some(Value::String(text)) => text.clone().into(),
                    Some(other) => other.to_string().into(),
                    None => empty_value(field).into(),
                }
            }
        })
    }
}

/// The objects of a target that the selectors match, in order.
pub(crate) fn selected<'a>(
    view: &'a View,
    target: &Target,
    selectors: &'a Selectors,
) -> impl Iterator<Item = &'a Arc<Object>> {
    view.list(target.kind(), target.namespace.as_deref()).filter(|object| selectors.matches(object))
}

/// The value of a field that the document does not have.
fn empty_value(field: &str) -> &'static str {
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.successful" | "status.replicas" => "0",
        _ => "",
    }
}

/// Where the stored document has the field that a selector names. Of several places (`a|b`) the first one that is set
/// counts. `None` if Kubernetes does not offer the field for this kind.
fn field_path<'a>(descriptor: &Descriptor, field: &'a str) -> Option<&'a str> {
    let kind = &descriptor.kind;
    if let Some(version) = descriptor.custom() {
        let mut offered = version.selectable_fields.iter();
        let is_offered = field == "metadata.name"
            || (field == "metadata.namespace" && kind.namespaced)
            || offered.any(|offered| offered.json_path.strip_prefix('.') == Some(field));
        return is_offered.then_some(field);
    }
    let fields = descriptor.selectable_fields();
    let has_namespace = kind.namespaced || fields.is_empty();
    if field == "metadata.name" || (field == "metadata.namespace" && has_namespace) {
        return Some("");
    }
    fields.iter().find(|(name, _)| *name == field).map(|(_, path)| *path)
}

/// kube-apiserver's message. It depends on the kind, because each kind with fields of its own has its own function for it.
fn not_selectable(descriptor: &Descriptor, field: &str) -> String {
    let kind = &descriptor.kind;
    if kind.is_custom() {
        format!("field label not supported: {field}")
    } else if kind.kind == "Job" {
        format!("field label {field:?} not supported for Job")
    } else if descriptor.selectable_fields().is_empty() {
        format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )
    } else {
        format!("field label not supported: {field}")
    }
}
