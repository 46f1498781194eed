//! Strategic merge patches: merge patches that know the merge key of each list, with the directives `$patch`,
//! `$retainKeys`, `$setElementOrder/LIST` and `$deleteFromPrimitiveList/LIST`.
//!
//! The rules are those of Kubernetes' strategic merge patch; [`keys`](super::keys) has the merge keys.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::model::{
    Kind, Status,
    patch::keys::{self, Strategy, Type},
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";

type Fields = Map<String, Value>;

/// Lays the patch over the document.
pub(super) fn apply(kind: &Kind, document: &Value, patch: Value) -> Result<Value, Status> {
    let (Value::Object(document), Value::Object(patch)) = (document.clone(), patch) else {
        return Err(Status::bad_request("error decoding patch: the patch is not an object"));
    };
    Ok(Value::Object(merge_object(document, patch, keys::root(kind))?))
}

fn invalid(detail: impl Into<String>) -> Status {
    Status::bad_request(detail.into())
}

fn merge_object(mut original: Fields, mut patch: Fields, of: &Type) -> Result<Fields, Status> {
    if let Some(directive) = patch.shift_remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Fields::new()),
            // The patch is merged without its directive.
            Some("merge") => merge_object(original, patch, of),
            _ => Err(unknown_directive(&directive)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, of)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, list, &value)?;
            continue;
        }
        if value.is_null() {
            original.shift_remove(&name);
            continue;
        }
        let merged = match original.get_mut(&name).map(Value::take) {
            Some(old) => merge_value(old, value, of, &name)?,
            None => without_directives(value),
        };
        match merged {
            Some(merged) => original.insert(name, merged),
            None => original.shift_remove(&name),
        };
    }
    Ok(original)
}

fn unknown_directive(directive: &Value) -> Status {
    invalid(format!("unknown patch type {directive} of the {DIRECTIVE} directive"))
}

fn merge_value(old: Value, new: Value, of: &Type, name: &str) -> Result<Option<Value>, Status> {
    let field = of.field(name);
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            Ok(Some(Value::Object(merge_object(old, new, field.of)?)))
        }
        (Value::Array(old), Value::Array(new)) => {
            let merged = match field.strategy {
                Strategy::Default | Strategy::RetainKeys => new,
                Strategy::Union => union(old, new),
                Strategy::Merge(key) | Strategy::MergeRetainKeys(key) => {
                    merge_list(old, new, key, field.of)?
                }
            };
            Ok(Some(Value::Array(merged)))
        }
        (_, new) => Ok(without_directives(new)),
    }
}

/// A value that enters the document without a counterpart: directives have nothing to direct, and nulls of objects
/// nothing to delete.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) => {
            if fields.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = fields
                .into_iter()
                .filter(|(name, value)| !value.is_null() && !is_directive(name))
                .filter_map(|(name, value)| Some((name, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => {
            let kept = items.into_iter().filter_map(without_directives);
            Some(Value::Array(kept.collect()))
        }
        scalar => Some(scalar),
    }
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS || name.starts_with(ELEMENT_ORDER) || name.starts_with(DELETE_FROM_LIST)
}

/// `$retainKeys` names every field that stays; the patch may not set any other.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), Status> {
    let Some(retained) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let broken = || invalid(format!("invalid patch format of {RETAIN_KEYS}"));
    let retained = retained.as_array().ok_or_else(broken)?;
    let is_retained = |name: &str| retained.iter().any(|retained| retained == name);
    if patch.iter().any(|(name, v)| !v.is_null() && !is_directive(name) && !is_retained(name)) {
        return Err(broken());
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

fn delete_from_list(original: &mut Fields, list: &str, delete: &Value) -> Result<(), Status> {
    let delete = delete
        .as_array()
        .ok_or_else(|| invalid(format!("invalid patch format of {DELETE_FROM_LIST}{list}")))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !delete.contains(item));
    }
    Ok(())
}

/// Lists with a `$setElementOrder` directive: merges each with its patch, if any, then orders it.
fn merge_ordered_lists(original: &mut Fields, patch: &mut Fields, of: &Type) -> Result<(), Status> {
    let names: Vec<String> = patch
        .keys()
        .filter_map(|name| name.strip_prefix(ELEMENT_ORDER))
        .map(str::to_owned)
        .collect();
    for name in names {
        let broken = || invalid(format!("invalid patch format of {ELEMENT_ORDER}{name}"));
        let Some(Value::Array(order)) = patch.shift_remove(&format!("{ELEMENT_ORDER}{name}"))
        else {
            return Err(broken());
        };
        let old = match original.shift_remove(&name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => return Err(broken()),
        };
        if let Some(Value::Array(delete)) = patch.get(&format!("{DELETE_FROM_LIST}{name}"))
            && patch.get(&name).is_none_or(Value::is_null)
        {
            // Deletions first: the order tells what remains.
            let mut items = old.unwrap_or_default();
            items.retain(|item| !delete.contains(item));
            original.insert(name, Value::Array(sorted_as(items.clone(), &order, &items, "")));
            continue;
        }
        let new = match patch.shift_remove(&name) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => return Err(broken()),
        };
        let key = match of.field(&name).strategy {
            Strategy::Merge(key) | Strategy::MergeRetainKeys(key) => key,
            _ => "",
        };
        if let Some(new) = &new {
            check_order(new, &order, key, &name)?;
        }
        let before = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (Some(old), None) => old,
            (Some(old), Some(new)) => match merge_value(old.into(), new.into(), of, &name)? {
                Some(Value::Array(merged)) => merged,
                _ => continue,
            },
            (None, Some(new)) => match without_directives(new.into()) {
                Some(Value::Array(new)) => new,
                _ => continue,
            },
            (None, None) => continue,
        };
        original.insert(name, Value::Array(sorted_as(merged, &order, &before, key)));
    }
    Ok(())
}

/// What identifies an item: its merge key's value, or itself.
fn identity<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() { Some(item) } else { item.get(key) }
}

/// The patch list must be a subsequence of the order list.
fn check_order(patch: &[Value], order: &[Value], key: &str, name: &str) -> Result<(), Status> {
    let mut rest = order.iter();
    let ordered = patch
        .iter()
        .filter(|item| item.get(DIRECTIVE).is_none())
        .all(|item| rest.any(|other| identity(other, key) == identity(item, key)));
    if ordered || order.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER}{name} list:\n{}\n",
        Value::from(patch),
        Value::from(order)
    )))
}

/// The union of two lists of scalars; new ones come last.
fn union(mut old: Vec<Value>, new: Vec<Value>) -> Vec<Value> {
    let before = old.clone();
    let order = new.clone();
    for item in new {
        if !old.contains(&item) {
            old.push(item);
        }
    }
    sorted_as(old, &order, &before, "")
}

fn merge_list(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
    of: &Type,
) -> Result<Vec<Value>, Status> {
    let no_key =
        |item: &Value| invalid(format!("map: {item} does not contain declared merge key: {key}"));
    let mut plain = Vec::new();
    let mut replace = false;
    for item in new {
        match item.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            None => plain.push(item),
            Some("delete") => {
                let value = item.get(key).ok_or_else(|| no_key(&item))?;
                old.retain(|other| other.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(invalid("merging lists cannot yet be specified in the patch"));
            }
            Some(_) => return Err(unknown_directive(item.get(DIRECTIVE).unwrap_or(&Value::Null))),
        }
    }
    if replace {
        return Ok(plain);
    }
    let (before, order) = (old.clone(), plain.clone());
    for item in plain {
        let value = item.get(key).ok_or_else(|| no_key(&item))?;
        let found = old.iter_mut().find(|other| other.get(key) == Some(value));
        match (found, item) {
            (Some(found), Value::Object(patch)) => {
                let original = match found.take() {
                    Value::Object(original) => original,
                    _ => Fields::new(),
                };
                *found = Value::Object(merge_object(original, patch, of)?);
            }
            (_, item) => old.extend(without_directives(item)),
        }
    }
    Ok(sorted_as(old, &order, &before, key))
}

/// Items that `order` names, in its order, merged with the others, in the order of `before`. Of one from each, the
/// one that came first in `before` is first; unless both were there, the named one is.
fn sorted_as(items: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| {
        list.iter().position(|other| identity(other, key) == identity(item, key))
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by(|a, b| match (place(before, a), place(before, b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => Ordering::Equal,
    });
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                matches!((place(before, other), place(before, named)), (Some(a), Some(b)) if a < b)
            }
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
}
