//! Functions on lists: those of Kubernetes (`isSorted`, `sum`, `min`, `max`, `indexOf`), CEL's extension library, version
//! 3 (`slice`, `flatten`, `sort`, `distinct`, `reverse`, `first`, ...), and its sets.

use std::cmp::Ordering;

use super::{Native, arithmetic, strings};
use crate::schema::cel::{
    value::{Outcome, Val, compare, list::List},
    work::{Failure, Work},
};

pub(super) fn find(name: &str, overload: &str) -> Option<Native> {
    Some(match name {
        "isSorted" => is_sorted,
        "min" => |work, a| best(work, a, "min", Ordering::is_gt),
        "max" => |work, a| best(work, a, "max", Ordering::is_lt),
        "sum" => match overload {
            "list_uint_sum_uint" => |work, a| sum(work, a, Val::Uint(0)),
            "list_double_sum_double" => |work, a| sum(work, a, Val::Double(0.0)),
            "list_duration_sum_duration" => |work, a| sum(work, a, Val::Duration(0)),
            "list_int_sum_int" => |work, a| sum(work, a, Val::Int(0)),
            _ => |work, a| sum(work, a, zero(&a[0])),
        },
        "indexOf" => |work, a| index_of(work, a, false),
        "lastIndexOf" => |work, a| index_of(work, a, true),
        "slice" => slice,
        "flatten" => flatten,
        "sort" => |work, a| sorted(work, &a[0], &a[0]),
        "@sortByAssociatedKeys" => |work, a| sorted(work, &a[0], &a[1]),
        "lists.range" => range,
        "reverse" => |work, a| {
            let mut items = a[0].as_list()?.items(work)?;
            items.reverse();
            Ok(Val::list(items))
        },
        "distinct" => distinct,
        "first" => |_, a| end(a[0].as_list()?, Some(0)),
        "last" => |_, a| {
            let list = a[0].as_list()?;
            end(list, list.len().checked_sub(1))
        },
        "sets.contains" => |work, a| contains_all(work, &a[0], &a[1]).map(Val::Bool),
        "sets.equivalent" => |work, a| {
            let both = contains_all(work, &a[0], &a[1])? && contains_all(work, &a[1], &a[0])?;
            Ok(Val::Bool(both))
        },
        "sets.intersects" => intersects,
        _ => return None,
    })
}

fn is_sorted<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let items = arguments[0].as_list()?.items(work)?;
    for pair in items.windows(2) {
        if compare::order(&pair[0], &pair[1])?.is_gt() {
            return Ok(Val::Bool(false));
        }
    }
    Ok(Val::Bool(true))
}

fn best<'a>(
    work: &mut Work,
    arguments: &[Val<'a>],
    name: &str,
    is_worse: fn(Ordering) -> bool,
) -> Outcome<'a> {
    let mut items = arguments[0].as_list()?.items(work)?.into_iter();
    let empty = || Failure::error(format!("{name} called on empty list"));
    let mut best = items.next().ok_or_else(empty)?;
    for item in items {
        if is_worse(compare::order(&best, &item)?) {
            best = item;
        }
    }
    Ok(best)
}

/// What a sum starts with, by the type of the first element.
fn zero<'a>(list: &Val<'a>) -> Val<'a> {
    match list {
        Val::List(list) => match list.get(0) {
            Some(Ok(Val::Uint(_))) => Val::Uint(0),
            Some(Ok(Val::Double(_))) => Val::Double(0.0),
            Some(Ok(Val::Duration(_))) => Val::Duration(0),
            _ => Val::Int(0),
        },
        _ => Val::Int(0),
    }
}

fn sum<'a>(work: &mut Work, arguments: &[Val<'a>], zero: Val<'a>) -> Outcome<'a> {
    let add = arithmetic::find("_+_").ok_or_else(Failure::no_overload)?;
    let items = arguments[0].as_list()?.items(work)?;
    items.into_iter().try_fold(zero, |sum, item| add(work, &[sum, item]))
}

fn index_of<'a>(work: &mut Work, arguments: &[Val<'a>], backwards: bool) -> Outcome<'a> {
    let Val::List(list) = &arguments[0] else {
        return strings::index_of(work, arguments, backwards);
    };
    let items = list.items(work)?;
    let mut found = None;
    for (at, item) in items.iter().enumerate() {
        if compare::equal(item, &arguments[1], work)? {
            found = Some(at);
            if !backwards {
                break;
            }
        }
    }
    Ok(found.map_or(Val::Int(-1), Val::length))
}

fn slice<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let list = arguments[0].as_list()?;
    let (start, end) = (arguments[1].as_int()?, arguments[2].as_int()?);
    let refused = |why: String| Err(Failure::error(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(first), Ok(last)) = (u64::try_from(start), u64::try_from(end)) else {
        return refused("negative indexes not supported".to_owned());
    };
    if first > last {
        return refused("start index must be less than or equal to end index".to_owned());
    }
    if list.len() < last {
        return refused(format!("list is length {}", list.len()));
    }
    work.steps(last - first)?;
    let items: Result<Vec<Val<'a>>, Failure> =
        (first..last).map_while(|index| list.get(index)).collect();
    items.map(Val::list)
}

fn flatten<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let depth = match arguments.get(1) {
        Some(depth) => depth.as_int()?,
        None => 1,
    };
    if depth < 0 {
        return Err(Failure::error("level must be non-negative"));
    }
    let mut flat = Vec::new();
    flatten_into(&mut flat, arguments[0].as_list()?, depth, work)?;
    Ok(Val::list(flat))
}

fn flatten_into<'a>(
    flat: &mut Vec<Val<'a>>,
    list: &List<'a>,
    depth: i64,
    work: &mut Work,
) -> Result<(), Failure> {
    for item in list.iter() {
        work.steps(1)?;
        match item? {
            Val::List(inner) if depth > 0 => flatten_into(flat, &inner, depth - 1, work)?,
            other => flat.push(other),
        }
    }
    Ok(())
}

fn sorted<'a>(work: &mut Work, list: &Val<'a>, keys: &Val<'a>) -> Outcome<'a> {
    let (list, keys) = (list.as_list()?, keys.as_list()?);
    if list.len() != keys.len() {
        return Err(Failure::error(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )));
    }
    let mut pairs: Vec<(Val<'a>, Val<'a>)> =
        keys.items(work)?.into_iter().zip(list.items(work)?).collect();
    if let Some((first, _)) = pairs.first() {
        if compare::order(first, first).is_err() {
            return Err(Failure::error("list elements must be comparable"));
        }
        let name = first.type_name();
        if pairs.iter().any(|(key, _)| key.type_name() != name) {
            return Err(Failure::error("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(one, _), (other, _)| compare::order(one, other).unwrap_or(Ordering::Equal));
    Ok(Val::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn range<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let count = arguments[0].as_int()?;
    work.steps(u64::try_from(count).unwrap_or_default())?;
    Ok(Val::list((0..count).map(Val::Int).collect()))
}

fn distinct<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let mut unique: Vec<Val<'a>> = Vec::new();
    'items: for item in arguments[0].as_list()?.items(work)? {
        for known in &unique {
            if compare::equal(&item, known, work)? {
                continue 'items;
            }
        }
        unique.push(item);
    }
    Ok(Val::list(unique))
}

fn end<'a>(list: &List<'a>, index: Option<u64>) -> Outcome<'a> {
    match index.and_then(|index| list.get(index)) {
        Some(item) => item.map(Val::some),
        None => Ok(Val::Optional(None)),
    }
}

fn contains_all<'a>(work: &mut Work, list: &Val<'a>, part: &Val<'a>) -> Result<bool, Failure> {
    let list = list.as_list()?;
    for item in part.as_list()?.items(work)? {
        if !list.contains(&item, work)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let other = arguments[1].as_list()?;
    for item in arguments[0].as_list()?.items(work)? {
        match other.contains(&item, work) {
            Ok(true) => return Ok(Val::Bool(true)),
            Err(Failure::Budget) => return Err(Failure::Budget),
            Ok(false) | Err(Failure::Error(_)) => {}
        }
    }
    Ok(Val::Bool(false))
}
