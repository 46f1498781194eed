//! Reads and fills fields of documents that have no Rust type here. Their types were checked by the table of fields, so
//! that a value of another type can stand for an absent one.

use serde_json::{Map, Value, json};

use crate::{
    model::Cause,
    registry::strategy::{checks, metadata::NameForm},
};

/// The text of a field, empty when absent.
pub(super) fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    document[field].as_str().unwrap_or_default()
}

/// The items of a list, none when absent.
pub(super) fn items<'a>(document: &'a Value, field: &str) -> &'a [Value] {
    document[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The same as texts.
pub(super) fn texts<'a>(document: &'a Value, field: &str) -> Vec<&'a str> {
    items(document, field).iter().map(|item| item.as_str().unwrap_or_default()).collect()
}

/// The size of a map of texts.
pub(super) fn bytes(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
}

/// A number, if there is one.
pub(super) fn number(document: &Value, field: &str) -> Option<i64> {
    document[field].as_i64()
}

/// Whether a field is there.
pub(super) fn is_set(document: &Value, field: &str) -> bool {
    !document[field].is_null()
}

/// The condition of a type, in a status.
pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    items(status, "conditions").iter().find(|condition| condition["type"] == kind)
}

/// Sets a field that is absent or an empty text.
pub(super) fn fill(document: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = document.as_object_mut() {
        let content = fields.entry(field).or_insert(Value::Null);
        if content.is_null() || content == "" {
            *content = value.into();
        }
    }
}

/// Sets a field that is absent or zero.
pub(super) fn fill_number(document: &mut Value, field: &str, value: i64) {
    if number(document, field).unwrap_or_default() == 0
        && let Some(fields) = document.as_object_mut()
    {
        fields.insert(field.to_owned(), value.into());
    }
}

/// The items of a list, to be changed.
pub(super) fn items_mut<'a>(
    document: &'a mut Value,
    field: &str,
) -> impl Iterator<Item = &'a mut Value> {
    document.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A field that must be there and is of a closed list.
pub(super) fn required_one_of(
    causes: &mut Vec<Cause>,
    path: &str,
    (document, field): (&Value, &str),
    supported: &[&str],
) {
    checks::required_one_of(causes, &format!("{path}.{field}"), text(document, field), supported);
}

/// A number above zero.
pub(super) fn above_zero(causes: &mut Vec<Cause>, path: &str, value: i64, rule: &str) {
    if value <= 0 {
        causes.push(Cause::invalid(path, value, rule));
    }
}

/// A name that must be there.
pub(super) fn required_name(causes: &mut Vec<Cause>, path: &str, value: &str, form: NameForm) {
    if value.is_empty() {
        causes.push(Cause::required(path, ""));
    } else {
        checks::name(causes, path, value, form);
    }
}

/// A label selector.
pub(super) fn selector(causes: &mut Vec<Cause>, path: &str, selector: &Value) {
    if let Ok(selector) = serde_json::from_value(selector.clone()) {
        checks::selector(causes, path, &selector);
    }
}

/// The places at which a list repeats what it had before, each once as a "duplicate".
pub(super) fn unique<'a>(
    causes: &mut Vec<Cause>,
    values: impl IntoIterator<Item = (String, &'a str)>,
) {
    let mut seen = std::collections::BTreeSet::new();
    for (path, value) in values {
        if !seen.insert(value) {
            causes.push(Cause::duplicate(path, value));
        }
    }
}

/// Tells the writer of an object that nothing acts on it yet; not when only its metadata or status changes.
pub(super) fn stored_only(new: &Value, old: Option<&Value>, but: &str) -> Vec<String> {
    let content = |document: &Value| {
        let mut content = document.clone();
        content["metadata"] = json!(null);
        content["status"] = json!(null);
        content
    };
    if old.is_some_and(|old| content(old) == content(new)) {
        return Vec::new();
    }
    vec![format!("Snowglobe stores this {} but {but} yet", text(new, "kind"))]
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::Value;

    use crate::{
        model::{Kind, canonical},
        registry::{
            Subresource, View,
            strategy::{
                checks::testing::{context, lines, options},
                document::DocumentRules,
            },
        },
    };

    /// A document with its defaults, and the rules of its kind that it breaks.
    pub(in crate::registry::strategy) fn admitted(
        rules: &DocumentRules,
        kind: &Kind,
        mut document: Value,
        old: Option<&Value>,
    ) -> (Vec<String>, Value) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        canonical::canonicalise(kind, &mut document);
        (rules.default)(&mut document, old, &context);
        canonical::canonicalise(kind, &mut document);
        (lines(&(rules.validate)(&document, old, &context)), document)
    }

    /// Replaces parts of a valid document, each by a JSON pointer, and compares what is then broken.
    #[track_caller]
    pub(in crate::registry::strategy) fn check_faults(
        rules: &DocumentRules,
        kind: &Kind,
        valid: &Value,
        cases: &[(&str, Value, &[&str])],
    ) {
        assert_eq!(admitted(rules, kind, valid.clone(), None).0, [""; 0]);
        for (pointer, value, expected) in cases {
            let mut document = valid.clone();
            *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is there")) =
                value.clone();
            let (found, _) = admitted(rules, kind, document, None);
            assert_eq!(found, *expected, "{pointer}: {value}");
        }
    }
}
