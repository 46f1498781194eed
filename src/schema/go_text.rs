//! Values as Go prints them in messages for people.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

use crate::model::go_json;

/// A text in quotes, as `%q` prints it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            plain if is_printed(plain) => out.push(plain),
            other => {
                let code = u32::from(other);
                let _ = match code {
                    0..0x80 => write!(out, "\\x{code:02x}"),
                    0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
    out
}

fn is_printed(character: char) -> bool {
    let is_blank = character.is_whitespace() && character != ' ';
    let is_format = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}');
    !character.is_control() && !is_blank && !is_format
}

/// A number with a fraction, as `%v` prints it: with an exponent if that is less than -4 or more than 5.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A value as `field.Error` shows it: texts in quotes, numbers plainly, all else as JSON.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (None, Some(number)) => float(number),
            _ => number.to_string(),
        },
        Value::Bool(flag) => flag.to_string(),
        other => json(other),
    }
}

/// A decoded value, as `%v` prints it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(name, value)| format!("{name}:{}", plain(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => self::value(value),
    }
}

/// The type of a decoded value, as `%T` prints it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// JSON with the fields of objects in the order of their names.
pub(crate) fn json(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    String::from_utf8_lossy(&go_json::to_bytes(&sorted)).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_go_prints() {
        for (given, expected) in [
            (json!("a \"b\"\n\u{1}\u{7f}ü\u{feff}"), r#""a \"b\"\n\x01\x7fü\ufeff""#),
            (json!(5), "5"),
            (json!(0.5), "0.5"),
            (json!(1.0), "1"),
            (json!(1e21), "1e+21"),
            (json!(1_234_567.5), "1.2345675e+06"),
            (json!(100_000.5), "100000.5"),
            (json!(0.00001), "1e-05"),
            (json!(true), "true"),
            (json!(null), "null"),
            (json!({"b": [1, "<"], "a": null}), r#"{"a":null,"b":[1,"\u003c"]}"#),
        ] {
            assert_eq!(value(&given), expected);
        }
    }
}
