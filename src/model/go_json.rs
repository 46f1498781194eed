//! JSON as Go's `encoding/json` writes it, for texts that are compared or hashed as they are: what HTML or JavaScript could
//! take for something else is escaped. The order of fields is the value's own ([`Value::sort_all_objects`] makes it
//! that of Go's maps).

use std::io;

use serde::Serialize;
use serde_json::{Serializer, Value, ser::Formatter};

/// A value as Go writes it.
pub fn to_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Escaping);
    value.serialize(&mut serializer).expect("a value has string keys, and memory takes any bytes");
    bytes
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, escaped) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let character = escaped.chars().next().unwrap_or_default();
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &escaped[character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn as_go() {
        for (value, expected) in [
            (json!("plain ü"), r#""plain ü""#),
            (json!("a < b && c > d"), r#""a \u003c b \u0026\u0026 c \u003e d""#),
            (json!("<>"), r#""\u003c\u003e""#),
            (
                json!("\u{2028}x\u{2029}\u{7f}\u{1}\n\"\\"),
                "\"\\u2028x\\u2029\u{7f}\\u0001\\n\\\"\\\\\"",
            ),
            (
                json!({"<k>": [1, -2.5, true, null, {}]}),
                r#"{"\u003ck\u003e":[1,-2.5,true,null,{}]}"#,
            ),
        ] {
            let written = String::from_utf8(to_bytes(&value)).unwrap();
            assert_eq!(written, expected);
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }
}
