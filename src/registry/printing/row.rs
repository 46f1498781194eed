//! The parts of rows that several kinds have: names, ages, lists, labels and selectors as text.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    model::{Object, object::Error},
    registry::printing::age::since_text,
};

/// Addresses or ports that are named before `+ n more...`.
pub(crate) const LISTED_MAX: usize = 3;
pub(crate) const NONE: &str = "<none>";
pub(crate) const UNKNOWN: &str = "<unknown>";
pub(crate) const UNSET: &str = "<unset>";

/// Name, the cells, age: the form of most rows.
pub(crate) fn plain<T: Into<Value>, const N: usize>(
    object: &Object,
    now: Timestamp,
    cells: [T; N],
) -> Vec<Value> {
    let mut row = vec![Value::from(object.key.name.as_str())];
    row.extend(cells.into_iter().map(Into::into));
    row.push(age(object, now));
    row
}

/// Name and time of creation: the row of any object.
pub(crate) fn created(object: &Object) -> Vec<Value> {
    let created = object.metadata.creation_timestamp.clone().unwrap_or_default();
    vec![object.key.name.as_str().into(), created.into()]
}

/// The typed view of an object in the form that is stored, which has all that is shown.
pub(crate) fn stored<T: DeserializeOwned>(object: &Object) -> Result<T, Error> {
    match object.key.kind.stored_as {
        None => object.parse(),
        Some(_) => Arc::new(object.clone()).shown_as(object.key.kind.stored()).parse(),
    }
}

/// The age of an object.
pub(crate) fn age(object: &Object, now: Timestamp) -> Value {
    since_text(object.metadata.creation_timestamp.as_deref(), now).into()
}

pub(crate) fn joined<T: Display>(parts: impl IntoIterator<Item = T>) -> String {
    let parts: Vec<String> = parts.into_iter().map(|part| part.to_string()).collect();
    parts.join(",")
}

/// The text, or what stands for none.
pub(crate) fn or(text: impl Into<String>, instead: &str) -> String {
    let text = text.into();
    if text.is_empty() { instead.to_owned() } else { text }
}

/// The first three, and how many more there are.
pub(crate) fn listed(parts: &[String]) -> String {
    let shown = parts.iter().take(LISTED_MAX);
    match parts.len().checked_sub(LISTED_MAX) {
        None | Some(0) => joined(shown),
        Some(more) => format!("{} + {more} more...", joined(shown)),
    }
}

pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    or(joined(labels.into_iter().flatten().map(|(k, v)| format!("{k}={v}"))), NONE)
}

/// As `kubectl -l` takes it, requirements in the order of their keys.
pub(crate) fn selector(selector: &LabelSelector) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        parts.push((key.clone(), format!("{key}={value}")));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let key = &expression.key;
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        let text = match expression.operator.as_str() {
            "In" => format!("{key} in ({})", joined(values)),
            "NotIn" => format!("{key} notin ({})", joined(values)),
            "Exists" => key.clone(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<invalid>".to_owned(),
        };
        parts.push((key.clone(), text));
    }
    parts.sort();
    joined(parts.into_iter().map(|(_, text)| text))
}

/// Names and images of the containers.
pub(crate) fn containers(template: Option<&PodTemplateSpec>) -> [Value; 2] {
    let containers =
        template.and_then(|t| t.spec.as_ref()).map_or(&[][..], |spec| spec.containers.as_slice());
    let images = containers.iter().map(|c| c.image.as_deref().unwrap_or_default());
    [joined(containers.iter().map(|c| &c.name)).into(), joined(images).into()]
}
