//! Functions on optional values. `or` and `orValue` are parts of the evaluator, since they may not need their argument.

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val},
    work::{Failure, Work},
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "optional.of" => |_, a| Ok(Val::some(a[0].clone())),
        "optional.ofNonZeroValue" => |_, a| {
            let value = a[0].clone();
            Ok(if value.is_zero() { Val::Optional(None) } else { Val::some(value) })
        },
        "optional.none" => |_, _| Ok(Val::Optional(None)),
        "value" => |_, a| match &a[0] {
            Val::Optional(Some(value)) => Ok((**value).clone()),
            Val::Optional(None) => Err(Failure::error("optional.none() dereference")),
            _ => Err(Failure::no_overload()),
        },
        "hasValue" => |_, a| match &a[0] {
            Val::Optional(value) => Ok(Val::Bool(value.is_some())),
            _ => Err(Failure::no_overload()),
        },
        "optional.unwrap" | "unwrapOpt" => unwrap,
        _ => return None,
    })
}

/// The values of those that have one.
fn unwrap<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let mut values = Vec::new();
    for item in arguments[0].as_list()?.items(work)? {
        match item {
            Val::Optional(None) => {}
            Val::Optional(Some(value)) => values.push((*value).clone()),
            _ => return Err(Failure::error("value is not optional")),
        }
    }
    Ok(Val::list(values))
}
