//! The table of a custom resource: the printer columns of its definition, as apiextensions-apiserver's table convertor
//! fills them.

use jiff::Timestamp;
use jsonpath_rust::{
    parser::{model::JpQuery, parse_json_path},
    query::js_path_process,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::table::age::since_text,
    model::Object,
    registry::{CustomVersion, PrinterColumn},
};

/// The columns of a kind, with the paths of their cells.
#[derive(Debug)]
pub(super) struct CustomColumns {
    definitions: Vec<Definition>,
    /// Of each column but the name; `None` for a path that cannot be read, whose cells are empty.
    paths: Vec<Option<JpQuery>>,
}

/// A column definition, as clients see it.
#[derive(Debug, Serialize)]
struct Definition {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    format: String,
    description: String,
    priority: i32,
}

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically.";
const AGE: &str =
    "CreationTimestamp is a timestamp representing the server time when this object was created.";
const CREATED: &str = ".metadata.creationTimestamp";

impl CustomColumns {
    pub(super) fn of(version: &CustomVersion) -> Self {
        let name = PrinterColumn {
            name: "Name".to_owned(),
            kind: "string".to_owned(),
            format: "name".to_owned(),
            description: NAME.to_owned(),
            ..PrinterColumn::default()
        };
        let age = PrinterColumn {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            description: AGE.to_owned(),
            json_path: CREATED.to_owned(),
            ..PrinterColumn::default()
        };
        let given = &version.additional_printer_columns;
        let columns = if given.is_empty() { std::slice::from_ref(&age) } else { given.as_slice() };
        let paths = columns.iter().map(|column| path(&column.json_path)).collect();
        let definitions = std::iter::once(&name).chain(columns).map(Definition::of).collect();
        Self { definitions, paths }
    }

    /// The cells of a row.
    pub(super) fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let document: Value = object.parse().unwrap_or_default();
        let columns = self.definitions.iter().skip(1).zip(&self.paths);
        let cells = columns.map(|(definition, path)| {
            let found = path.as_ref().and_then(|path| js_path_process(path, &document).ok());
            let first = found.and_then(|found| found.into_iter().next());
            first.map_or(Value::Null, |found| cell(&definition.kind, found.val, now))
        });
        std::iter::once(object.key.name.as_str().into()).chain(cells).collect()
    }
}

impl Definition {
    fn of(column: &PrinterColumn) -> Self {
        let PrinterColumn { name, kind, format, description, priority, .. } = column.clone();
        Self { name, kind, format, description, priority }
    }
}

impl Serialize for CustomColumns {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.definitions.serialize(serializer)
    }
}

/// The value in the type of the column; null if it is of another.
fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            #[expect(clippy::cast_possible_truncation, reason = "Go's conversion of a float")]
            (None, Some(float)) => (float as i64).into(),
            (None, None) => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("date", Value::String(text)) => since_text(Some(text), now).into(),
        _ => Value::Null,
    }
}

/// Reads a path as kubectl writes it, `.status.conditions[?(@.type=="Ready")].status`.
fn path(text: &str) -> Option<JpQuery> {
    parse_json_path(&standard(text)).ok()
}

/// The same path in the form of RFC 9535: it begins with `$`, and a name with special characters stands in brackets.
fn standard(path: &str) -> String {
    let mut out = "$".to_owned();
    let mut rest = path.trim();
    while let Some(next) = rest.chars().next() {
        match next {
            '[' => {
                let end = end_of_bracket(rest);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '.' if rest.starts_with("..") => {
                out.push_str("..");
                rest = &rest[2..];
                if !rest.starts_with(['[', '*']) {
                    rest = name(rest, &mut out);
                }
            }
            '.' => rest = name(&rest[1..], &mut out),
            _ => rest = name(rest, &mut out),
        }
    }
    out
}

/// Appends the name at the beginning of the text; returns what follows it.
fn name<'a>(text: &'a str, out: &mut String) -> &'a str {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => out.push_str("[*]"),
        name => out.push_str(&format!("[{}]", Value::from(name))),
    }
    &text[end..]
}

/// Where the bracket at the beginning of the text closes.
fn end_of_bracket(text: &str) -> usize {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            (None, _) => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_found_by_path() {
        let document = json!({
            "metadata": {"annotations": {"example.com/a": "x"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "share": 0.5, "on": true, "list": [1, 2], "map": {"a": 1}},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let check = |kind: &str, text: &str, expected: Value| {
            let path = path(text);
            let found = path.as_ref().and_then(|path| js_path_process(path, &document).ok());
            let first = found.and_then(|found| found.into_iter().next());
            let found = first.map_or(Value::Null, |found| cell(kind, found.val, now));
            assert_eq!(found, expected, "{text} {}", standard(text));
        };
        check("integer", ".spec.replicas", json!(3));
        check("integer", ".spec.share", json!(0));
        check("number", ".spec.share", json!(0.5));
        check("boolean", ".spec.on", json!(true));
        check("boolean", ".spec.replicas", json!(null));
        check("string", ".spec.replicas", json!("3"));
        check("string", ".spec.list", json!("[1,2]"));
        check("string", ".spec.map", json!(r#"{"a":1}"#));
        check("string", ".spec.list[1]", json!("2"));
        check("string", ".spec.list[*]", json!("1"));
        check("string", ".spec.absent", json!(null));
        check("string", r".metadata.annotations.example\.com/a", json!("x"));
        check("string", ".metadata.annotations['example.com/a']", json!("x"));
        check("string", r#".status.conditions[?(@.type=="Ready")].status"#, json!("True"));
        check("string", ".status.conditions[?(@.type=='Synced')].status", json!("False"));
        check("string", ".status.conditions[-1:].type", json!("Ready"));
        check("date", ".metadata.creationTimestamp", json!("120m"));
        check("date", ".spec.replicas", json!(null));
        check("string", ".[", json!(null));
    }
}
