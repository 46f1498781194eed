//! Paths to fields in the form of `.spec.labels['app']`, which rules and selectable fields use. Source: `ValidFieldPath`
//! of apiextensions-apiserver's `schema/cel`.

use crate::schema::structural::Schema;

/// What a path leads to.
#[derive(Debug)]
pub struct Resolved<'a> {
    /// As Kubernetes prints it: `spec.labels[app]`.
    pub path: String,
    /// The node of the schema.
    pub schema: &'a Schema,
}

/// Follows a path from a node. `with_keys` allows `['...']`.
///
/// # Errors
/// What is wrong with the path, in the words of Kubernetes.
pub fn resolve<'a>(
    path: &str,
    schema: &'a Schema,
    with_keys: bool,
) -> Result<Resolved<'a>, String> {
    const END: &str = "unexpected end of JSON path";
    let mut found = Resolved { path: String::new(), schema };
    let mut rest = path;
    while !rest.is_empty() {
        let (token, after) = next_token(rest);
        rest = after;
        match token {
            "[" if !with_keys => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let (quoted, after) = some_token(rest).ok_or(END)?;
                let name = unquoted(quoted)?;
                found = found.step(&name)?;
                let (close, after) = some_token(after).ok_or(END)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                rest = after;
            }
            "." => {
                let (name, after) = some_token(rest).ok_or(END)?;
                found = found.step(name)?;
                rest = after;
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl<'a> Resolved<'a> {
    fn step(self, name: &str) -> Result<Self, String> {
        let fault = || "does not refer to a valid field".to_owned();
        if !self.schema.properties.is_empty() {
            let schema = self.schema.properties.find(name).ok_or_else(fault)?;
            let dot = if self.path.is_empty() { "" } else { "." };
            return Ok(Self { path: format!("{}{dot}{name}", self.path), schema });
        }
        let schema = self.schema.additional_properties.schema().ok_or_else(fault)?;
        Ok(Self { path: format!("{}[{name}]", self.path), schema })
    }
}

/// A bracket, a dot, a text in single quotes, or all up to the next of them. The text is not empty.
fn next_token(text: &str) -> (&str, &str) {
    if let Some(quoted) = text.strip_prefix('\'') {
        let mut before = '\'';
        for (at, c) in quoted.char_indices() {
            if c == '\'' && before != '\\' {
                return text.split_at(at.saturating_add(2));
            }
            before = c;
        }
        return (text, "");
    }
    match text.find(['.', '[', ']']) {
        Some(0) => text.split_at(1),
        Some(at) => text.split_at(at),
        None => (text, ""),
    }
}

fn some_token(text: &str) -> Option<(&str, &str)> {
    (!text.is_empty()).then(|| next_token(text))
}

fn unquoted(token: &str) -> Result<String, String> {
    let inner = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
    let Some(inner) = inner.filter(|_| token.len() > 1) else {
        return Err(format!("expected single quoted string but got {token}"));
    };
    let mut out = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(other) => other,
                None => return Err("invalid string literal: invalid syntax".to_owned()),
            },
            plain => plain,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Path;

    #[test]
    fn paths_are_followed() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a.b": {"type": "string"}, "c": {"type": "integer"}, "it's": {"type": "boolean"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            }},
        }});
        let schema = Schema::parse(&schema, &Path::root("")).unwrap();
        let invalid = "does not refer to a valid field";
        for (path, with_keys, expected) in [
            (".spec.c", true, Ok("spec.c integer")),
            (".spec['a.b']", true, Ok("spec.a.b string")),
            (".spec['it\\'s']", true, Ok("spec.it's boolean")),
            (".spec.labels['x']", true, Ok("spec.labels[x] string")),
            (".spec.labels.x", false, Ok("spec.labels[x] string")),
            (".spec['c']", false, Err("array notation is not allowed")),
            (".spec.d", true, Err(invalid)),
            (".spec.c.d", true, Err(invalid)),
            ("spec", true, Err("expected [ or . but got: spec")),
            (".spec.", true, Err("unexpected end of JSON path")),
            (".spec[c]", true, Err("expected single quoted string but got c")),
            (".spec['c'", true, Err("unexpected end of JSON path")),
        ] {
            let found = resolve(path, &schema, with_keys)
                .map(|found| format!("{} {}", found.path, found.schema.value_type.name()));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
        }
    }
}
