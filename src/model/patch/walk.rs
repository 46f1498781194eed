//! Walks over documents that know how each list is merged: the merge, comparison, field set and removal that
//! server-side apply is made of. The rules are those of Kubernetes' structured merge (list types `atomic`, `set`
//! and `map`); a [`Place`] says which list is what.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::patch::{
    keys::Key,
    paths::{Paths, Step},
    place::{Form, Place},
};

/// Why a document cannot be merged: where, and what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Path of the list or field, `.spec.ports`.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) detail: String,
}

/// The difference of two documents.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Paths,
    pub(super) modified: Paths,
    pub(super) removed: Paths,
}

fn field_step(name: &str) -> Step {
    Step::Field(name.to_owned())
}

/// How an item is identified within its list; no keys make it a set.
fn item_step(keys: &[Key<'_>], item: &Value) -> Result<Step, String> {
    if keys.is_empty() {
        return Ok(Step::Value(canonical(item)));
    }
    let mut found: BTreeMap<&str, Value> = BTreeMap::new();
    for key in keys {
        match (item.get(key.field).filter(|value| !value.is_null()), key.default) {
            (Some(value), _) => found.insert(key.field, value.clone()),
            (None, Some(default)) => found.insert(key.field, default.clone()),
            // One key of several may be missing; an item without any identity may not.
            (None, None) => None,
        };
    }
    if found.is_empty() {
        let names: Vec<&str> = keys.iter().map(|key| key.field).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [\"{}\"] \
             (and doesn't have default values for any key fields)",
            names.join("\" \"")
        ));
    }
    let found: Map<String, Value> = found.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Ok(Step::Key(Value::Object(found).to_string()))
}

/// A value as text, the same for the same value.
fn canonical(value: &Value) -> String {
    if !value.is_object() && !value.is_array() {
        return value.to_string();
    }
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    }
}

/// What is wrong with a configuration: keyed lists with items that have no identity, or one that another has; fields that
/// a schema does not know.
pub(super) fn check(value: &Value, place: Place<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_at(value, place, "", &mut problems);
    problems
}

fn check_at(value: &Value, place: Place<'_>, path: &str, problems: &mut Vec<Problem>) {
    match (place.form([Some(value), None]), value) {
        (Form::Object, Value::Object(fields)) => check_fields(fields, place, path, problems),
        (Form::List(keys), Value::Array(items)) => {
            check_items(items, &keys, place, path, problems);
        }
        // What is owned as a whole has a schema too.
        (_, Value::Object(fields)) if place.is_of_schema() => {
            check_fields(fields, place, path, problems);
        }
        (_, Value::Array(items)) if place.is_of_schema() => {
            for (index, item) in items.iter().enumerate() {
                check_at(item, place.item(), &format!("{path}[{index}]"), problems);
            }
        }
        _ => {}
    }
}

fn check_fields(
    fields: &Map<String, Value>,
    place: Place<'_>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        if place.declares(name) {
            check_at(value, place.field(name), &path, problems);
        } else {
            problems.push(Problem { path, detail: "field not declared in schema".to_owned() });
        }
    }
}

fn check_items(
    items: &[Value],
    keys: &[Key<'_>],
    place: Place<'_>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let mut seen = Paths::default();
    let problem = |detail| Problem { path: path.to_owned(), detail };
    for (index, item) in items.iter().enumerate() {
        let step = match item_step(keys, item) {
            Ok(step) => step,
            Err(detail) => {
                problems.push(problem(format!("element {index}: {detail}")));
                continue;
            }
        };
        let mut only = Paths::default();
        only.insert(std::slice::from_ref(&step));
        let printed = only.to_strings().concat();
        if seen.has(&step) {
            problems.push(problem(format!("duplicate entries for key {printed}")));
            continue;
        }
        seen.insert(&[step]);
        check_at(item, place.item(), &format!("{path}{printed}"), problems);
    }
}

/// Every leaf of the document, and every item of a keyed list.
pub(super) fn field_set(value: &Value, place: Place<'_>) -> Paths {
    let mut out = Paths::default();
    collect(value, place, &mut Vec::new(), &mut out);
    out
}

fn collect(value: &Value, place: Place<'_>, path: &mut Vec<Step>, out: &mut Paths) {
    match place.form([Some(value), None]) {
        Form::Leaf => out.insert(path),
        Form::Object if is_blank(Some(value)) => out.insert(path),
        Form::Object => {
            for (name, value) in fields(Some(value)).into_iter().flatten() {
                path.push(field_step(name));
                collect(value, place.field(name), path, out);
                path.pop();
            }
        }
        Form::List(keys) => {
            let index = index_items(&keys, items(Some(value)));
            for (step, values) in index {
                path.push(step);
                out.insert(path);
                if let [value] = values.as_slice() {
                    collect(value, place.item(), path, out);
                }
                path.pop();
            }
        }
    }
}

/// Items by identity; those without one are left out (only stored documents can have such).
fn index_items<'a>(keys: &[Key<'_>], items: &'a [Value]) -> BTreeMap<Step, Vec<&'a Value>> {
    let mut index: BTreeMap<Step, Vec<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(step) = item_step(keys, item) {
            index.entry(step).or_default().push(item);
        }
    }
    index
}

fn values_of<'a, 'b>(index: &'b BTreeMap<Step, Vec<&'a Value>>, step: &Step) -> &'b [&'a Value] {
    index.get(step).map_or(&[], Vec::as_slice)
}

/// What differs between two documents.
pub(super) fn compare(old: &Value, new: &Value, place: Place<'_>) -> Comparison {
    let mut out = Comparison::default();
    compare_at(Some(old), Some(new), place, &mut Vec::new(), &mut out);
    out
}

fn compare_at(
    old: Option<&Value>,
    new: Option<&Value>,
    place: Place<'_>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    let form = if is_blank(old) && is_blank(new) { Form::Leaf } else { place.form([new, old]) };
    let is_leaf = matches!(form, Form::Leaf);
    match form {
        Form::Leaf => {}
        Form::Object => {
            let (old, new) = (fields(old), fields(new));
            let names = new.into_iter().flat_map(Map::keys).chain(
                old.into_iter()
                    .flat_map(Map::keys)
                    .filter(|n| new.is_none_or(|new| !new.contains_key(*n))),
            );
            for name in names {
                path.push(field_step(name));
                let sides = (old.and_then(|o| o.get(name)), new.and_then(|n| n.get(name)));
                compare_at(sides.0, sides.1, place.field(name), path, out);
                path.pop();
            }
        }
        Form::List(keys) => {
            let (olds, news) = (index_items(&keys, items(old)), index_items(&keys, items(new)));
            let steps = olds.keys().chain(news.keys().filter(|step| !olds.contains_key(*step)));
            for step in steps {
                let (olds, news) = (values_of(&olds, step), values_of(&news, step));
                path.push(step.clone());
                match (olds, news) {
                    ([] | [_], [] | [_]) => {
                        let (old, new) = (olds.first().copied(), news.first().copied());
                        compare_at(old, new, place.item(), path, out);
                    }
                    ([] | [_], _) => out.added.insert(path),
                    (_, [] | [_]) => out.removed.insert(path),
                    _ if olds == news => {}
                    _ => out.modified.insert(path),
                }
                path.pop();
            }
        }
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        (Some(old), Some(new)) if is_leaf && old != new => out.modified.insert(path),
        _ => {}
    }
}

/// The live document with the configuration laid over it.
pub(super) fn merge(
    live: Option<&Value>,
    config: Option<&Value>,
    place: Place<'_>,
) -> Option<Value> {
    let keep_config = || config.or(live).cloned();
    if is_blank(live) && is_blank(config) {
        return keep_config();
    }
    match place.form([config, live]) {
        Form::Leaf => keep_config(),
        Form::Object => {
            let (live, config) = (fields(live), fields(config));
            let names = live.into_iter().flat_map(Map::keys).chain(
                config
                    .into_iter()
                    .flat_map(Map::keys)
                    .filter(|name| live.is_none_or(|live| !live.contains_key(*name))),
            );
            let merged: Map<String, Value> = names
                .filter_map(|name| {
                    let sides = (live.and_then(|l| l.get(name)), config.and_then(|c| c.get(name)));
                    Some((name.clone(), merge(sides.0, sides.1, place.field(name))?))
                })
                .collect();
            (!merged.is_empty()).then_some(Value::Object(merged))
        }
        Form::List(keys) => {
            let merged = merge_items(items(live), items(config), &keys, place.item());
            (!merged.is_empty()).then_some(Value::Array(merged))
        }
    }
}

/// Items keep the live order, except where the configuration orders items that both have differently; new ones
/// stand where the configuration has them.
fn merge_items(live: &[Value], config: &[Value], keys: &[Key<'_>], item: Place<'_>) -> Vec<Value> {
    let identify = |items: &[Value]| -> Vec<Option<Step>> {
        items.iter().map(|item| item_step(keys, item).ok()).collect()
    };
    let (live_steps, config_steps) = (identify(live), identify(config));
    let mut shared = config_steps.iter().filter(|step| live_steps.contains(step)).peekable();
    let mut out = Vec::new();
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < config.len() {
        if let (Some(step), Some(value)) = (live_steps.get(left), live.get(left)) {
            if step.is_none() || !config_steps.contains(step) {
                out.extend(merge(Some(value), None, item));
                left += 1;
                continue;
            }
            // An item that both have, but that is not the next one in the configuration's order, is (or was)
            // emitted there.
            if shared.peek() != Some(&step) {
                left += 1;
                continue;
            }
        }
        let Some(step) = config_steps.get(right) else { break };
        let mut lives = live_steps.iter().zip(live).filter(|(s, _)| *s == step).map(|(_, v)| v);
        // Duplicates in the live list are replaced by the one configured item.
        let counterpart = lives.next().filter(|_| lives.next().is_none());
        out.extend(merge(counterpart, config.get(right), item));
        if shared.peek() == Some(&step) {
            shared.next();
        }
        right += 1;
    }
    out
}

/// The document without the paths.
pub(super) fn remove(value: &Value, paths: &Paths, place: Place<'_>) -> Option<Value> {
    match place.form([Some(value), None]) {
        Form::Leaf => Some(value.clone()),
        Form::Object => {
            let fields = fields(Some(value))?;
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, value)| {
                    let step = field_step(name);
                    let value = match paths.below(&step) {
                        _ if paths.has(&step) => return None,
                        Some(below) => remove(value, below, place.field(name))?,
                        None => value.clone(),
                    };
                    Some((name.clone(), value))
                })
                .collect();
            (!kept.is_empty() || fields.is_empty()).then_some(Value::Object(kept))
        }
        Form::List(keys) => {
            let all = items(Some(value));
            let kept: Vec<Value> = all
                .iter()
                .filter_map(|value| {
                    let Ok(step) = item_step(&keys, value) else { return Some(value.clone()) };
                    match paths.below(&step) {
                        _ if paths.has(&step) => None,
                        Some(below) => remove(value, below, place.item()),
                        None => Some(value.clone()),
                    }
                })
                .collect();
            (!kept.is_empty() || all.is_empty()).then_some(Value::Array(kept))
        }
    }
}
