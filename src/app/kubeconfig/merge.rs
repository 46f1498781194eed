//! Adds the entry of a cluster to the text of a kubeconfig. Pure functions from text to text.

use serde::{Deserialize as _, de::IgnoredAny};
use serde_yaml::{Deserializer, Mapping, Value};

use crate::app::kubeconfig::{
    Entry,
    text::{self, Change},
};

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];
const CURRENT: &str = "current-context";
const PREFERENCES: &str = "preferences";

/// A kubeconfig with the entry.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) text: String,
    /// The current context.
    pub(super) current: String,
    /// Whether comments and layout were lost.
    pub(super) rewritten: bool,
}

/// Why a text is not a kubeconfig. An empty text is a kubeconfig without entries.
pub(super) fn refusal(text: &str) -> Option<String> {
    documents(text).and_then(|documents| check(&first(&documents))).err()
}

/// Adds the entry, or replaces the entry with the same name. Its context becomes the current one if there is none or
/// if `switch` is set. The error says why the text is not a kubeconfig.
pub(super) fn merged(old: &str, entry: &Entry, switch: bool) -> Result<Merged, String> {
    let mut documents = documents(old)?;
    let before = first(&documents);
    check(&before)?;
    let after = wanted(&before, entry, switch);
    let current = after[CURRENT].as_str().unwrap_or_default().to_owned();
    if before == after {
        return Ok(Merged { text: old.to_owned(), current, rewritten: false });
    }
    let edited =
        if is_blank(&before) { filled(old, &after) } else { changed(old, &before, &after, entry) };
    let several = documents.len() > 1;
    documents.truncate(0);
    let right = |text: &String| self::documents(text).is_ok_and(|now| first(&now) == after);
    match edited.filter(right) {
        Some(text) => Ok(Merged { text, current, rewritten: false }),
        None if several => Err("it has several YAML documents, and the first is not simple".into()),
        None => Ok(Merged { text: serialized(old, &after)?, current, rewritten: true }),
    }
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    let all = Deserializer::from_str(text).map(Value::deserialize).collect::<Result<_, _>>();
    all.map_err(|error| format!("it is not YAML: {error}"))
}

/// The first document. kubectl reads no other.
fn first(documents: &[Value]) -> Value {
    documents.first().cloned().unwrap_or_default()
}

fn is_blank(document: &Value) -> bool {
    document.is_null() || document.as_mapping().is_some_and(Mapping::is_empty)
}

fn check(document: &Value) -> Result<(), String> {
    if is_blank(document) {
        return Ok(());
    }
    let Some(map) = document.as_mapping() else { return Err("it is no YAML map".into()) };
    for (key, expected) in [("apiVersion", "v1"), ("kind", "Config")] {
        if let Some(value) = map.get(key).filter(|value| value.as_str() != Some(expected)) {
            let value = serde_yaml::to_string(value).unwrap_or_default();
            return Err(format!("its {key} is {}, not {expected}", value.trim_end()));
        }
    }
    let known = |key: &&str| map.contains_key(*key);
    if !map.contains_key("kind") && !LISTS.iter().chain(&[CURRENT, PREFERENCES]).any(known) {
        return Err(format!("it has no kind, and none of {}", LISTS.join(", ")));
    }
    for list in LISTS {
        let items = match map.get(list) {
            None | Some(Value::Null) => continue,
            Some(Value::Sequence(items)) => items,
            Some(_) => return Err(format!("its {list} are no list")),
        };
        if !items.iter().all(|item| item.get("name").is_none_or(Value::is_string)) {
            return Err(format!("the names of its {list} are not all texts"));
        }
        if !items.iter().all(Value::is_mapping) {
            return Err(format!("its {list} are not all maps"));
        }
    }
    match map.get(CURRENT) {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err(format!("its {CURRENT} is no text")),
    }
}

fn wanted(before: &Value, entry: &Entry, switch: bool) -> Value {
    let mut map = before.as_mapping().cloned().unwrap_or_default();
    if map.is_empty() {
        map.insert("apiVersion".into(), "v1".into());
        map.insert("kind".into(), "Config".into());
    }
    for (list, item) in entry.items() {
        let items = map.entry(list.into()).or_insert_with(|| Value::Sequence(Vec::new()));
        if !items.is_sequence() {
            *items = Value::Sequence(Vec::new());
        }
        let Value::Sequence(items) = items else { continue };
        let place = items.iter().position(|other| other.get("name") == item.get("name"));
        let place = place.unwrap_or(items.len());
        // kubectl refuses a file in which a name occurs twice.
        items.retain(|other| other.get("name") != item.get("name"));
        items.insert(place.min(items.len()), item.clone());
    }
    let has_current = map.get(CURRENT).and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if switch || !has_current {
        map.insert(CURRENT.into(), entry.name.as_str().into());
    }
    Value::Mapping(map)
}

/// Writes a document into a file that contains only comments, below them.
fn filled(old: &str, after: &Value) -> Option<String> {
    let mut new = serde_yaml::to_string(after).ok()?;
    if old.contains("\r\n") {
        new = new.replace('\n', "\r\n");
    }
    let range = text::placeholder(old).unwrap_or(old.len()..old.len());
    let (head, tail) = (&old[..range.start], &old[range.end..]);
    let gap = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    Some(format!("{head}{gap}{}{tail}", if tail.is_empty() { &new } else { new.trim_end() }))
}

fn changed(old: &str, before: &Value, after: &Value, entry: &Entry) -> Option<String> {
    let items = entry.items();
    let missing = items.iter().filter(|(list, item)| {
        before.get(list).and_then(Value::as_sequence).is_none_or(|items| !items.contains(item))
    });
    let mut changes: Vec<_> = missing.map(|(list, item)| Change::Item(list, item)).collect();
    if before.get(CURRENT) != after.get(CURRENT) {
        changes.push(Change::Text(CURRENT, &entry.name));
    }
    text::edited(old, &changes)
}

/// Writes the document in the syntax of the old text, JSON or YAML.
fn serialized(old: &str, document: &Value) -> Result<String, String> {
    if serde_json::from_str::<IgnoredAny>(old).is_ok() {
        return serde_json::to_string_pretty(document).map_err(|error| error.to_string());
    }
    serde_yaml::to_string(document).map_err(|error| error.to_string())
}
