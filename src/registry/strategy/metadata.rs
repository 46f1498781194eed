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
const QUALIFIED_NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// The broken rules of a document's metadata.
pub(crate) fn validate(document: &Value, form: NameForm) -> Vec<Cause> {
    let metadata = &document["metadata"];
    let mut causes = Vec::new();
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        invalid(&mut causes, "metadata.name", name, validate_name(name, form));
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        invalid(&mut causes, "metadata.labels", key, validate_qualified_name(key));
        invalid(&mut causes, "metadata.labels", value, validate_label_value(value));
    }
    let mut size = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        let rules = validate_qualified_name(&key.to_lowercase());
        invalid(&mut causes, "metadata.annotations", key, rules);
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

/// Adds an error for each rule that a value breaks.
pub(crate) fn invalid(causes: &mut Vec<Cause>, path: &str, value: &str, rules: Vec<String>) {
    causes.extend(rules.into_iter().map(|rule| Cause::invalid(path, value, &rule)));
}

/// The rules that a name breaks.
pub(crate) fn validate_name(name: &str, form: NameForm) -> Vec<String> {
    let mut rules = Vec::new();
    match form {
        NameForm::Label => {
            too_long(&mut rules, name, LABEL_MAX);
            if !is_label(name) {
                let rule = if is_subdomain(name) { "must not contain dots" } else { LABEL_RULE };
                rules.push(rule.to_owned());
            }
        }
        NameForm::Subdomain => {
            too_long(&mut rules, name, SUBDOMAIN_MAX);
            if !is_subdomain(name) {
                rules.push(SUBDOMAIN_RULE.to_owned());
            }
        }
        NameForm::PathSegment if matches!(name, "." | "..") => {
            rules.push(format!("may not be '{name}'"));
        }
        NameForm::PathSegment => {
            let found = ['/', '%'].into_iter().filter(|c| name.contains(*c));
            rules.extend(found.map(|c| format!("may not contain '{c}'")));
        }
    }
    rules
}

fn too_long(rules: &mut Vec<String>, text: &str, max: usize) {
    if text.len() > max {
        rules.push(format!("must be no more than {max} bytes"));
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// The rules that the value of a label breaks.
pub(crate) fn validate_label_value(value: &str) -> Vec<String> {
    let mut rules = Vec::new();
    too_long(&mut rules, value, LABEL_MAX);
    if !value.is_empty() && !is_name_part(value) {
        rules.push(LABEL_VALUE_RULE.to_owned());
    }
    rules
}

/// The rules that the key of a label or annotation breaks: `prefix.example/name` or `name`.
pub(crate) fn validate_qualified_name(key: &str) -> Vec<String> {
    let mut rules = Vec::new();
    let (prefix, name) = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a qualified name {QUALIFIED_NAME_RULE} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    match prefix {
        Some("") => rules.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            let of_prefix = validate_name(prefix, NameForm::Subdomain);
            rules.extend(of_prefix.iter().map(|rule| format!("prefix part {rule}")));
        }
        None => {}
    }
    if name.is_empty() {
        rules.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        rules.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_name_part(name) {
        rules.push(format!("name part {QUALIFIED_NAME_RULE}"));
    }
    rules
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
            assert_eq!(validate_name(name, form).is_empty(), valid, "{name} as {form:?}");
        }
    }

    #[test]
    fn every_broken_rule_is_told() {
        let long = "A".repeat(64);
        let rule = |text: &str, constant: &str| text.replace('@', constant);
        for (found, expected) in [
            (validate_name("a.b", NameForm::Label), vec!["must not contain dots".to_owned()]),
            (validate_name("a_b", NameForm::Label), vec![LABEL_RULE.to_owned()]),
            (
                validate_name(&long, NameForm::Label),
                vec!["must be no more than 63 bytes".to_owned(), LABEL_RULE.to_owned()],
            ),
            (
                validate_name("/%", NameForm::PathSegment),
                vec!["may not contain '/'".to_owned(), "may not contain '%'".to_owned()],
            ),
            (
                validate_label_value(&format!("{long}-")),
                vec!["must be no more than 63 bytes".to_owned(), LABEL_VALUE_RULE.to_owned()],
            ),
            (
                validate_qualified_name("-/"),
                vec![
                    rule("prefix part @", SUBDOMAIN_RULE),
                    "name part must be non-empty".to_owned(),
                    rule("name part @", QUALIFIED_NAME_RULE),
                ],
            ),
            (validate_qualified_name("/a"), vec!["prefix part must be non-empty".to_owned()]),
            (
                validate_qualified_name("a/b/c"),
                vec![rule(
                    "a qualified name @ with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                    QUALIFIED_NAME_RULE,
                )],
            ),
        ] {
            assert_eq!(found, expected);
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
