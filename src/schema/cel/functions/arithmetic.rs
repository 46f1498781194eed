//! Operators on numbers, texts, lists and times; `size` and `in`.

use std::{cmp::Ordering, sync::Arc};

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val, compare},
    work::{Failure, Work},
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "!_" => |_, a| Ok(Val::Bool(!a[0].as_bool()?)),
        "@not_strictly_false" => |_, a| Ok(Val::Bool(!matches!(a[0], Val::Bool(false)))),
        "_+_" => |work, a| add(work, &a[0], &a[1]),
        "_-_" => |_, a| subtract(&a[0], &a[1]),
        "_*_" => |_, a| multiply(&a[0], &a[1]),
        "_/_" => |_, a| divide(&a[0], &a[1]),
        "_%_" => |_, a| modulo(&a[0], &a[1]),
        "-_" => |_, a| negate(&a[0]),
        "_<_" => |_, a| ordered(a, Ordering::is_lt),
        "_<=_" => |_, a| ordered(a, Ordering::is_le),
        "_>_" => |_, a| ordered(a, Ordering::is_gt),
        "_>=_" => |_, a| ordered(a, Ordering::is_ge),
        "size" => |_, a| size(&a[0]),
        "@in" => |work, a| is_in(work, &a[0], &a[1]),
        "cel.@mapInsert" => insert,
        _ => return None,
    })
}

/// Numbers that are not ordered are an error, and so is what follows from it.
fn ordered<'a>(arguments: &[Val<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    Ok(Val::Bool(holds(compare::order(&arguments[0], &arguments[1])?)))
}

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Val::Int).ok_or_else(|| Failure::error("integer overflow"))
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map(Val::Uint).ok_or_else(|| Failure::error("unsigned integer overflow"))
}

fn duration<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Val::Duration).ok_or_else(|| Failure::error("duration overflow"))
}

fn add<'a>(work: &mut Work, one: &Val<'a>, other: &Val<'a>) -> Outcome<'a> {
    match (one, other) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_add(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_add(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Text(a), Val::Text(b)) => {
            work.bytes(a.len() + b.len())?;
            Ok(Val::text([&**a, &**b].concat()))
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            work.bytes(a.len() + b.len())?;
            Ok(Val::Bytes(Arc::from([&**a, &**b].concat())))
        }
        (Val::List(a), Val::List(b)) => a.clone().plus(b.clone(), work),
        (Val::Duration(a), Val::Duration(b)) => duration(a.checked_add(*b)),
        (Val::Timestamp(time), Val::Duration(by)) | (Val::Duration(by), Val::Timestamp(time)) => {
            let moved = time.plus((*by).into());
            moved.map(Val::Timestamp).ok_or_else(|| Failure::error("timestamp overflow"))
        }
        _ => Err(Failure::no_overload()),
    }
}

fn subtract<'a>(one: &Val<'a>, other: &Val<'a>) -> Outcome<'a> {
    match (one, other) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_sub(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_sub(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        (Val::Duration(a), Val::Duration(b)) => duration(a.checked_sub(*b)),
        (Val::Timestamp(a), Val::Timestamp(b)) => duration(a.minus(b)),
        (Val::Timestamp(time), Val::Duration(by)) => {
            let moved = time.plus(-i128::from(*by));
            moved.map(Val::Timestamp).ok_or_else(|| Failure::error("timestamp overflow"))
        }
        _ => Err(Failure::no_overload()),
    }
}

fn multiply<'a>(one: &Val<'a>, other: &Val<'a>) -> Outcome<'a> {
    match (one, other) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_mul(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_mul(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        _ => Err(Failure::no_overload()),
    }
}

fn divide<'a>(one: &Val<'a>, other: &Val<'a>) -> Outcome<'a> {
    match (one, other) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => {
            Err(Failure::error("division by zero"))
        }
        (Val::Int(a), Val::Int(b)) => int(a.checked_div(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_div(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        _ => Err(Failure::no_overload()),
    }
}

fn modulo<'a>(one: &Val<'a>, other: &Val<'a>) -> Outcome<'a> {
    match (one, other) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => {
            Err(Failure::error("modulus by zero"))
        }
        (Val::Int(a), Val::Int(b)) => int(a.checked_rem(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_rem(*b)),
        _ => Err(Failure::no_overload()),
    }
}

fn negate<'a>(value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Int(value) => int(value.checked_neg()),
        Val::Double(value) => Ok(Val::Double(-value)),
        _ => Err(Failure::no_overload()),
    }
}

fn size<'a>(value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Text(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_) => {
            Ok(Val::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => Err(Failure::no_overload()),
    }
}

fn is_in<'a>(work: &mut Work, value: &Val<'a>, within: &Val<'a>) -> Outcome<'a> {
    match within {
        Val::List(list) => list.contains(value, work).map(Val::Bool),
        Val::Map(map) => Ok(Val::Bool(map.find(value)?.is_some())),
        _ => Err(Failure::no_overload()),
    }
}

/// Adds an entry, or all entries of a map.
fn insert<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    match arguments {
        [Val::Map(map), key, value] => {
            map.clone().insert(key.clone(), value.clone(), work).map(Val::Map)
        }
        [Val::Map(map), Val::Map(more)] => {
            let mut map = map.clone();
            for key in more.keys() {
                if let Some(value) = more.find(&key)? {
                    map = map.insert(key, value, work)?;
                }
            }
            Ok(Val::Map(map))
        }
        _ => Err(Failure::no_overload()),
    }
}
