//! Parses documents and finds duplicate fields. The last one counts, and strict clients get an error about the others.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A document, and the fields that stand in it more than once, as strict decoding calls them
/// (`duplicate field "spec.replicas"`).
#[derive(Debug)]
pub struct Parsed {
    /// The document.
    pub value: Value,
    /// One line each.
    pub duplicates: Vec<String>,
}

/// Reads a document.
///
/// # Errors
/// What the format's own reader says.
pub fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parsed, D::Error> {
    let found = RefCell::new(Vec::new());
    let value = Reader(&found).deserialize(deserializer)?;
    let line = |path: Path| format!("duplicate field \"{}\"", path.print());
    let duplicates = found.into_inner().into_iter().map(line).collect();
    Ok(Parsed { value, duplicates })
}

/// Reads JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse_json(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = parse(&mut deserializer)?;
    deserializer.end()?;
    Ok(parsed)
}

/// Steps from the inside out: a document without duplicates never has to keep a path.
struct Path(Vec<String>);

impl Path {
    fn print(self) -> String {
        let steps: String = self.0.into_iter().rev().collect();
        steps.strip_prefix('.').unwrap_or(&steps).to_owned()
    }
}

/// Reads one value; the cell takes the duplicates.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a RefCell<Vec<Path>>);

impl Reader<'_> {
    fn count(self) -> usize {
        self.0.borrow().len()
    }

    /// Puts this step before the paths of the duplicates that were found since `before`.
    fn locate(self, before: usize, step: impl Fn() -> String) {
        for path in &mut self.0.borrow_mut()[before..] {
            path.0.push(step());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let mut before = self.count();
        while let Some(item) = items.next_element_seed(self)? {
            self.locate(before, || format!("[{}]", list.len()));
            before = self.count();
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let before = self.count();
            let value = entries.next_value_seed(self)?;
            if map.contains_key(&name) {
                self.0.borrow_mut().push(Path(Vec::new()));
            }
            self.locate(before, || format!(".{name}"));
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_found_by_path() {
        let text = r#"{"spec": {"a": 1, "list": [{"x": 1}, {"x": 1, "y": [], "x": 2}], "a": 2},
                       "a": {"b": {}}, "b": [-1, 1.5, true, null, "s"], "a": 3, "a": 4}"#;
        let Parsed { value, duplicates } = parse_json(text.as_bytes()).unwrap();
        assert_eq!(
            value,
            json!({"spec": {"a": 2, "list": [{"x": 1}, {"x": 2, "y": []}]}, "a": 4,
                   "b": [-1, 1.5, true, null, "s"]})
        );
        let paths = ["spec.list[1].x", "spec.a", "a", "a"];
        assert_eq!(duplicates, paths.map(|path| format!("duplicate field \"{path}\"")));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "{\"a\": 1,}", "[1", "{\"a\" 1}"] {
            let parsed = parse_json(text.as_bytes());
            let plain = serde_json::from_slice::<Value>(text.as_bytes());
            assert_eq!(parsed.unwrap_err().to_string(), plain.unwrap_err().to_string(), "{text}");
        }
    }
}
