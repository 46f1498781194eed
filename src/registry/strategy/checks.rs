//! Checks that fields of many kinds share, each with Kubernetes' message. They append what is broken to `causes`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
    util::intstr::IntOrString,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    model::Cause,
    registry::{
        decode,
        strategy::{
            fields::items,
            metadata::{
                NameForm, invalid, validate_label_value, validate_name, validate_qualified_name,
            },
        },
    },
};

/// The field as Kubernetes names it when the whole object is meant.
pub(super) const WHOLE_OBJECT: &str = "[]";
/// The message about a changed field that is immutable.
pub(super) const IMMUTABLE: &str = "field is immutable";
/// What `protocol` may be, in the order in which Kubernetes lists it.
pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

const PORT_NAME_MAX: usize = 15;
const PERCENT_RULE: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
     or '93%', regex used for validation is '[0-9]+%')";
const DATA_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
     'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const DATA_KEY_MAX: usize = 253;

/// A value as messages show it.
pub(super) fn shown(value: &impl Serialize) -> Value {
    decode::encode(value)
}

/// A DNS name of the given form.
pub(super) fn name(causes: &mut Vec<Cause>, path: &str, value: &str, form: NameForm) {
    invalid(causes, path, value, validate_name(value, form));
}

/// A name that can stand in a URL path; empty is "required".
pub(super) fn path_segment(causes: &mut Vec<Cause>, path: &str, value: &str) {
    if value.is_empty() {
        causes.push(Cause::required(path, ""));
    } else {
        name(causes, path, value, NameForm::PathSegment);
    }
}

/// An RFC 1123 label.
pub(super) fn label(causes: &mut Vec<Cause>, path: &str, value: &str) {
    name(causes, path, value, NameForm::Label);
}

/// `name` or `prefix.example/name`.
pub(super) fn qualified_name(causes: &mut Vec<Cause>, path: &str, value: &str) {
    invalid(causes, path, value, validate_qualified_name(value));
}

/// The value of a label.
pub(super) fn label_value(causes: &mut Vec<Cause>, path: &str, value: &str) {
    invalid(causes, path, value, validate_label_value(value));
}

/// A map of labels.
pub(super) fn labels(
    causes: &mut Vec<Cause>,
    path: &str,
    labels: Option<&BTreeMap<String, String>>,
) {
    for (key, value) in labels.into_iter().flatten() {
        qualified_name(causes, path, key);
        label_value(causes, path, value);
    }
}

/// A label selector of a workload or an affinity term.
pub(super) fn selector(causes: &mut Vec<Cause>, path: &str, selector: &LabelSelector) {
    labels(causes, &format!("{path}.matchLabels"), selector.match_labels.as_ref());
    for (i, requirement) in items(&selector.match_expressions).iter().enumerate() {
        selector_requirement(causes, &format!("{path}.matchExpressions[{i}]"), requirement);
    }
}

fn selector_requirement(
    causes: &mut Vec<Cause>,
    path: &str,
    requirement: &LabelSelectorRequirement,
) {
    let values = items(&requirement.values);
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => causes.push(Cause::required(
            format!("{path}.values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => causes.push(Cause::forbidden(
            format!("{path}.values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let field = format!("{path}.operator");
            causes.push(Cause::invalid(field, other, "not a valid selector operator"));
        }
    }
    qualified_name(causes, &format!("{path}.key"), &requirement.key);
    for (i, value) in values.iter().enumerate() {
        label_value(causes, &format!("{path}.values[{i}]"), value);
    }
}

/// A port number.
pub(super) fn port_number(causes: &mut Vec<Cause>, path: &str, port: i32) {
    if !(1..=65_535).contains(&port) {
        causes.push(Cause::invalid(path, port, "must be between 1 and 65535, inclusive"));
    }
}

/// An IANA service name, as container ports have it.
pub(super) fn port_name(causes: &mut Vec<Cause>, path: &str, name: &str) {
    let rules = [
        (name.len() > PORT_NAME_MAX, "must be no more than 15 characters"),
        (
            name.is_empty()
                || !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!name.bytes().any(|c| c.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (name.contains("--"), "must not contain consecutive hyphens"),
        (name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    for (_, rule) in rules.into_iter().filter(|(broken, _)| *broken) {
        causes.push(Cause::invalid(path, name, rule));
    }
}

/// A port by number or by name.
pub(super) fn port(causes: &mut Vec<Cause>, path: &str, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => port_number(causes, path, *number),
        IntOrString::String(name) => port_name(causes, path, name),
    }
}

/// `TCP`, `UDP` or `SCTP`.
pub(super) fn protocol(causes: &mut Vec<Cause>, path: &str, protocol: &str) {
    required_one_of(causes, path, protocol, PROTOCOLS);
}

/// One of a closed list; empty is "required".
pub(super) fn required_one_of(
    causes: &mut Vec<Cause>,
    path: &str,
    value: &str,
    supported: &[&str],
) {
    if value.is_empty() {
        causes.push(Cause::required(path, ""));
    } else {
        one_of(causes, path, value, supported);
    }
}

/// One of a closed list.
pub(super) fn one_of(causes: &mut Vec<Cause>, path: &str, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        causes.push(Cause::not_supported(path, value, supported));
    }
}

/// Zero or more.
pub(super) fn not_negative(causes: &mut Vec<Cause>, path: &str, value: Option<impl Into<i64>>) {
    if let Some(value) = value.map(Into::into).filter(|value| *value < 0) {
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// A count or a percentage of the replicas.
pub(super) fn count_or_percent(causes: &mut Vec<Cause>, path: &str, value: &IntOrString) {
    match value {
        IntOrString::Int(number) => not_negative(causes, path, Some(*number)),
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
                causes.push(Cause::invalid(path, text.as_str(), PERCENT_RULE));
            }
        }
    }
}

/// A percentage above 100.
pub(super) fn not_above_all(causes: &mut Vec<Cause>, path: &str, value: &IntOrString) {
    if let IntOrString::String(text) = value
        && text
            .strip_suffix('%')
            .and_then(|digits| digits.parse().ok())
            .is_some_and(|n: u32| n > 100)
    {
        causes.push(Cause::invalid(path, text.as_str(), "must not be greater than 100%"));
    }
}

/// A field that keeps its first value.
pub(super) fn immutable<T: PartialEq + Serialize>(
    causes: &mut Vec<Cause>,
    path: &str,
    new: &T,
    old: &T,
) {
    if new != old {
        causes.push(Cause::invalid(path, shown(new), IMMUTABLE));
    }
}

/// A key of a ConfigMap or Secret.
pub(super) fn data_key(causes: &mut Vec<Cause>, path: &str, key: &str) {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let rule = if key.len() > DATA_KEY_MAX {
        "must be no more than 253 bytes"
    } else if key.is_empty() || !key.bytes().all(allowed) {
        DATA_KEY_RULE
    } else if key == "." {
        "must not be '.'"
    } else if key == ".." {
        "must not be '..'"
    } else if key.starts_with("..") {
        "must not start with '..'"
    } else {
        return;
    };
    causes.push(Cause::invalid(path, key, rule));
}

#[cfg(test)]
pub(super) mod testing {
    use std::fmt::Debug;

    use jiff::Timestamp;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use crate::{
        model::{
            Cause, kind,
            patch::{Ownership, Wanted},
        },
        registry::{
            FieldValidation, Options, Subresource, View,
            strategy::{Context, Rules},
        },
    };

    /// `field: message` of each cause.
    pub(in crate::registry::strategy) fn lines(causes: &[Cause]) -> Vec<String> {
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    /// The registry options of a default cluster.
    pub(in crate::registry::strategy) fn options() -> Options {
        Options {
            service_cidrs: vec!["127.96.0.0/16".parse().unwrap()],
            load_balancer_cidr: "127.100.0.0/24".parse().unwrap(),
            node_ports: 30_000..=32_767,
            loopback_endpoints: true,
        }
    }

    static WANTED: Wanted<'static> =
        Wanted { document: Value::Null, ownership: Ownership::Kept, duplicates: Vec::new() };

    /// A context over a view.
    pub(in crate::registry::strategy) fn context<'a>(
        view: &'a View,
        options: &'a Options,
        subresource: Subresource,
    ) -> Context<'a> {
        let field_validation = FieldValidation::Strict;
        let (now, shown) = (Timestamp::UNIX_EPOCH, &kind::CONFIG_MAP);
        Context {
            view,
            options,
            now,
            subresource,
            shown,
            wanted: &WANTED,
            seed: 7,
            field_validation,
        }
    }

    /// A typed object from JSON.
    pub(in crate::registry::strategy) fn object<T: DeserializeOwned + Debug>(json: Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    /// A document as the rules of its kind leave it in an empty cluster, and the rules that it breaks.
    pub(in crate::registry::strategy) fn admitted<T: DeserializeOwned + Debug>(
        rules: &Rules<T>,
        document: Value,
        old: Option<&T>,
    ) -> (Vec<String>, T) {
        let (view, options) = (View::for_tests(), options());
        let context = context(&view, &options, Subresource::None);
        let mut new = object(document);
        (rules.default)(&mut new, old, &context);
        if let Some(admit) = rules.admit {
            admit(&mut new, old, &context);
        }
        (lines(&(rules.validate)(&new, old, &context)), new)
    }

    /// Parts of a document replaced, RFC 7386.
    pub(in crate::registry::strategy) fn merged(mut document: Value, change: &Value) -> Value {
        json_patch::merge(&mut document, change);
        document
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{testing::lines, *};

    fn broken(check: impl FnOnce(&mut Vec<Cause>)) -> Vec<String> {
        let mut causes = Vec::new();
        check(&mut causes);
        lines(&causes)
    }

    #[test]
    fn ports() {
        for (given, expected) in [
            (json!(80), vec![]),
            (json!("http-1"), vec![]),
            (json!(0), vec!["p: Invalid value: 0: must be between 1 and 65535, inclusive"]),
            (
                json!(65_536),
                vec!["p: Invalid value: 65536: must be between 1 and 65535, inclusive"],
            ),
            (
                json!("a--b"),
                vec!["p: Invalid value: \"a--b\": must not contain consecutive hyphens"],
            ),
            (
                json!("123"),
                vec!["p: Invalid value: \"123\": must contain at least one letter (a-z)"],
            ),
            (
                json!("Http"),
                vec![
                    "p: Invalid value: \"Http\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                ],
            ),
        ] {
            let given: IntOrString = serde_json::from_value(given).unwrap();
            assert_eq!(broken(|c| port(c, "p", &given)), expected, "{given:?}");
        }
    }

    #[test]
    fn selectors() {
        let given: LabelSelector = serde_json::from_value(json!({
            "matchLabels": {"a": "b c"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "-", "operator": "Exists", "values": ["x"]},
                {"key": "a", "operator": "Near"},
            ],
        }))
        .unwrap();
        let lines = broken(|c| selector(c, "s", &given));
        assert!(lines[0].starts_with("s.matchLabels: Invalid value: \"b c\": a valid label must"));
        assert_eq!(
            lines[1],
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
        );
        assert_eq!(
            lines[2],
            "s.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        );
        assert!(lines[3].starts_with("s.matchExpressions[1].key: Invalid value: \"-\": name part"));
        assert_eq!(
            lines[4],
            "s.matchExpressions[2].operator: Invalid value: \"Near\": not a valid selector operator"
        );
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn counts_and_keys() {
        for (given, faults) in [(json!(1), 0), (json!(-1), 1), (json!("25%"), 0), (json!("x%"), 1)]
        {
            let given: IntOrString = serde_json::from_value(given).unwrap();
            assert_eq!(broken(|c| count_or_percent(c, "p", &given)).len(), faults, "{given:?}");
        }
        assert_eq!(
            broken(|c| not_above_all(c, "p", &IntOrString::String("101%".into()))),
            ["p: Invalid value: \"101%\": must not be greater than 100%"]
        );
        for (key, faults) in [("a.b_C-1", 0), ("..", 1), ("..a", 1), ("a/b", 1), ("", 1)] {
            assert_eq!(broken(|c| data_key(c, "data", key)).len(), faults, "{key}");
        }
    }
}
