//! The table of a custom resource: the printer columns of its definition, as apiextensions-apiserver's table convertor
//! fills them.

use std::sync::OnceLock;

use jiff::Timestamp;
use jsonpath_rust::{
    parser::{model::JpQuery, parse_json_path},
    query::js_path_process,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::Object,
    registry::printing::{Column, age::since_text},
};

/// The columns that a version of a definition gives its objects.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Vec<PrinterColumn>")]
pub(crate) struct PrinterColumns {
    given: Vec<PrinterColumn>,
    /// Where the cells of each are, read when they are first asked for; `None` for a path that cannot be read, whose cells
    /// are empty.
    paths: OnceLock<Vec<Option<JpQuery>>>,
}

/// One column as a definition has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PrinterColumn {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    format: String,
    description: String,
    priority: i32,
    json_path: String,
}

const NAME: Column<'static> = Column::text(
    "Name",
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a \
     client to request the generation of an appropriate name automatically.",
)
.named();
const AGE: &str =
    "CreationTimestamp is a timestamp representing the server time when this object was created.";
const CREATED: &str = ".metadata.creationTimestamp";

impl From<Vec<PrinterColumn>> for PrinterColumns {
    fn from(given: Vec<PrinterColumn>) -> Self {
        Self { given, paths: OnceLock::new() }
    }
}

impl PrinterColumns {
    /// The name, and what the definition gives, or else the age.
    pub(crate) fn columns(&self) -> Vec<Column<'_>> {
        let age = Column { kind: "date", ..Column::text("Age", AGE) };
        let given = self.given.iter().map(PrinterColumn::column);
        let age = self.given.is_empty().then_some(age);
        std::iter::once(NAME).chain(given).chain(age).collect()
    }

    /// The cells of a row.
    pub(crate) fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let document: Value = object.parse().unwrap_or_default();
        let columns = self.columns();
        let cells = columns.iter().skip(1).zip(self.paths()).map(|(column, path)| {
            let found = path.as_ref().and_then(|path| js_path_process(path, &document).ok());
            let first = found.and_then(|found| found.into_iter().next());
            first.map_or(Value::Null, |found| cell(column.kind, found.val, now))
        });
        std::iter::once(object.key.name.as_str().into()).chain(cells).collect()
    }

    /// Those of the columns but the name.
    fn paths(&self) -> &[Option<JpQuery>] {
        self.paths.get_or_init(|| match self.given.as_slice() {
            [] => vec![path(CREATED)],
            given => given.iter().map(|column| path(&column.json_path)).collect(),
        })
    }
}

impl PrinterColumn {
    fn column(&self) -> Column<'_> {
        let Self { name, kind, format, description, priority, .. } = self;
        Column { name, kind, format, description, priority: *priority }
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
