//! How property names are written in expressions: `__dot__` for `.`, `__namespace__` for a word that CEL reserves, ...
//! (`apiservercel.Escape`).

use super::parser::RESERVED;

/// Words of the grammar, which may be no identifiers, as the reserved ones may not.
const GRAMMAR: [&str; 4] = ["true", "false", "null", "in"];
const ESCAPES: [(&str, &str); 4] =
    [("__", "underscores"), (".", "dot"), ("-", "dash"), ("/", "slash")];

/// How a field is written that has the name of a word that CEL reserves; none for other names. As a field, the word itself
/// will do.
pub(super) fn escape_reserved(name: &str) -> Option<Box<str>> {
    is_reserved(name).then(|| format!("__{name}__").into())
}

fn is_reserved(word: &str) -> bool {
    GRAMMAR.contains(&word) || RESERVED.contains(&word)
}

/// The identifier for a property; none if it can have none.
pub(super) fn escape(name: &str) -> Option<Box<str>> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(escaped) = escape_reserved(name) {
        return Some(escaped);
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        if let Some((text, word)) = ESCAPES.iter().find(|(text, _)| rest.starts_with(text)) {
            escaped.push_str(&format!("__{word}__"));
            rest = &rest[text.len()..];
        } else if first.is_ascii_alphanumeric() || first == '_' {
            escaped.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            return None;
        }
    }
    Some(escaped.into())
}

/// The property that an identifier stands for; none if it stands for none.
pub(super) fn unescape(escaped: &str) -> Option<Box<str>> {
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find("__") {
        let inner = &rest[at + 2..];
        let word = &inner[..inner.find('_').unwrap_or(inner.len())];
        let is_escape = !word.is_empty() && inner[word.len()..].starts_with("__");
        if !is_escape {
            // The escape may start one underscore later.
            name.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        let known = ESCAPES.iter().find(|(_, known)| *known == word);
        let text = match known {
            Some((text, _)) => text,
            None if is_reserved(word) && escaped.len() == word.len() + 4 => word,
            None => return None,
        };
        name.push_str(&rest[..at]);
        name.push_str(text);
        rest = &inner[word.len() + 2..];
    }
    name.push_str(rest);
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_identifiers() {
        let rows = [
            ("spec", Some("spec")),
            ("a.b", Some("a__dot__b")),
            ("max-surge", Some("max__dash__surge")),
            ("app/name", Some("app__slash__name")),
            ("a__b", Some("a__underscores__b")),
            ("a_b", Some("a_b")),
            ("namespace", Some("__namespace__")),
            ("namespaces", Some("namespaces")),
            ("$ref", None),
            ("0a", None),
            ("", None),
            ("größe", None),
        ];
        for (name, expected) in rows {
            let escaped = escape(name);
            assert_eq!(escaped.as_deref(), expected, "{name}");
            if let Some(escaped) = escaped {
                assert_eq!(unescape(&escaped).as_deref(), Some(name), "{escaped}");
            }
        }
        assert_eq!(unescape("__unknown__"), None);
        assert_eq!(unescape("x__namespace__"), None);
        assert_eq!(unescape("a___b").as_deref(), Some("a___b"));
    }
}
