//! Rules that hold for the `metadata` of every kind: names, labels, annotations.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::Cause;

/// How the names of a kind are formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameForm {
    /// RFC 1123 subdomain, the usual form: up to 253 characters of labels joined by dots.
    Subdomain,
    /// RFC 1123 label, 63 characters: Services, Namespaces, and kinds whose name becomes a DNS label.
    Label,
    /// Anything that can stand in a URL path: IPAddress names such as `127.96.0.1`.
    PathSegment,
}

const SUBDOMAIN_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// The sum of all annotations of one object, as Kubernetes limits it.
const ANNOTATIONS_MAX: usize = 256 * 1024;

const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
     and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
     for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// The broken rules of a document's metadata.
pub(crate) fn validate(document: &Value, form: NameForm) -> Vec<Cause> {
    let metadata = &document["metadata"];
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Err(rule) = validate_name(name, form) {
        causes.push(Cause::invalid("metadata.name", name, &rule));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if let Err(rule) = validate_qualified_name(key) {
            causes.push(Cause::invalid("metadata.labels", key.as_str(), &rule));
        }
        if let Err(rule) = validate_label_value(value) {
            causes.push(Cause::invalid("metadata.labels", value, &rule));
        }
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if let Err(rule) = validate_qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", key.as_str(), &rule));
        }
    }
    if size > ANNOTATIONS_MAX {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_MAX));
    }
    causes
}

/// What an update may not do to the metadata: once an object is being deleted, finalizers only go.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    if old["metadata"]["deletionTimestamp"].is_null() {
        return Vec::new();
    }
    let finalizers = |document: &Value| -> BTreeSet<String> {
        let listed = document["metadata"]["finalizers"].as_array().into_iter().flatten();
        listed.filter_map(|finalizer| finalizer.as_str().map(str::to_owned)).collect()
    };
    let added: Vec<_> = finalizers(new).difference(&finalizers(old)).cloned().collect();
    if added.is_empty() {
        return Vec::new();
    }
    let added: Vec<_> = added.iter().map(|name| format!("{name:?}")).collect();
    let rule = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    vec![Cause::forbidden("metadata.finalizers", &rule)]
}

/// Checks one name; the error is the rule that it breaks.
pub(crate) fn validate_name(name: &str, form: NameForm) -> Result<(), String> {
    match form {
        NameForm::Label if name.len() > LABEL_MAX => {
            Err(format!("must be no more than {LABEL_MAX} bytes"))
        }
        NameForm::Label if !is_label(name) => Err(LABEL_RULE.to_owned()),
        NameForm::Subdomain if name.len() > SUBDOMAIN_MAX => {
            Err(format!("must be no more than {SUBDOMAIN_MAX} bytes"))
        }
        NameForm::Subdomain if !name.split('.').all(is_label) => Err(SUBDOMAIN_RULE.to_owned()),
        NameForm::PathSegment if matches!(name, "." | "..") => Err(format!("may not be '{name}'")),
        NameForm::PathSegment if name.contains(['/', '%']) => {
            Err("may not contain '/' or '%'".to_owned())
        }
        _ => Ok(()),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A label value: empty, or up to 63 characters as the rule says.
pub(crate) fn validate_label_value(value: &str) -> Result<(), String> {
    if value.len() > LABEL_MAX {
        Err(format!("must be no more than {LABEL_MAX} bytes"))
    } else if value.is_empty() || is_name_part(value) {
        Ok(())
    } else {
        Err(LABEL_VALUE_RULE.to_owned())
    }
}

/// A label or annotation key, `prefix.example/name` or `name`.
pub(crate) fn validate_qualified_name(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && let Err(rule) = validate_name(prefix, NameForm::Subdomain)
    {
        return Err(format!("prefix part {rule}"));
    }
    if name.is_empty() {
        Err("name part must be non-empty".to_owned())
    } else if name.len() > LABEL_MAX {
        Err(format!("name part must be no more than {LABEL_MAX} bytes"))
    } else if is_name_part(name) {
        Ok(())
    } else {
        Err(QUALIFIED_NAME_RULE.to_owned())
    }
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        for (name, form, valid) in [
            ("web", NameForm::Label, true),
            ("1web", NameForm::Label, true),
            ("web.a", NameForm::Label, false),
            ("web.a", NameForm::Subdomain, true),
            ("Web", NameForm::Subdomain, false),
            ("web-", NameForm::Subdomain, false),
            ("127.96.0.1", NameForm::PathSegment, true),
            ("a/b", NameForm::PathSegment, false),
        ] {
            assert_eq!(validate_name(name, form).is_ok(), valid, "{name} as {form:?}");
        }
    }

    #[test]
    fn labels_and_annotations() {
        let faults = |metadata| validate(&json!({"metadata": metadata}), NameForm::Subdomain).len();
        assert_eq!(faults(json!({"name": "a", "labels": {"app.kubernetes.io/name": "x"}})), 0);
        assert_eq!(faults(json!({"name": "a", "labels": {"-a": "x"}})), 1);
        assert_eq!(faults(json!({"name": "a", "labels": {"a": "x y"}})), 1);
        assert_eq!(faults(json!({"name": "a", "annotations": {"Example.com/X": "any text"}})), 0);
        assert_eq!(faults(json!({})), 1);
    }

    #[test]
    fn finalizers_of_what_is_being_deleted() {
        let object = |deleted: Option<&str>, finalizers: &[&str]| json!({"metadata": {"deletionTimestamp": deleted, "finalizers": finalizers}});
        let deleted = Some("2026-01-01T00:00:00Z");
        for (deleted, old, new, rule) in [
            (None, &["a/b"][..], &["a/b", "c/d"][..], ""),
            (deleted, &["a/b", "c/d"], &["c/d"], ""),
            (deleted, &["a/b", "c/d"], &["c/d", "a/b"], ""),
            (
                deleted,
                &["a/b"],
                &["x/y", "a/b", "c/d"],
                "no new finalizers can be added if the object is being deleted, found new finalizers \
                 []string{\"c/d\", \"x/y\"}",
            ),
        ] {
            let causes = validate_update(&object(deleted, new), &object(deleted, old));
            let expected: Vec<_> = (!rule.is_empty())
                .then(|| Cause::forbidden("metadata.finalizers", rule))
                .into_iter()
                .collect();
            assert_eq!(causes, expected, "{old:?} -> {new:?}");
        }
    }
}
