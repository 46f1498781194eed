//! Equality and order of values, and the keys of maps and sets.

use std::{cmp::Ordering, sync::Arc};

use super::{Val, extension::Extension, moment::Moment};
use crate::schema::cel::{
    numbers,
    work::{Failure, Work},
};

/// A scalar as a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// A number as a map's key: 1, 1u and 1.0 are the same.
    Whole(i128),
    /// The bits of a double.
    Double(u64),
    Text(Box<str>),
    Bytes(Arc<[u8]>),
    Duration(i64),
    Timestamp(i64, u32),
}

impl Key {
    /// The key of an element of a set: values of different types differ. None for what is no scalar.
    pub(crate) fn exact(value: &Val<'_>) -> Option<Self> {
        Some(match value {
            Val::Null => Self::Null,
            Val::Bool(value) => Self::Bool(*value),
            Val::Int(value) => Self::Int(*value),
            Val::Uint(value) => Self::Uint(*value),
            // Zero has two forms.
            Val::Double(value) => Self::Double((value + 0.0).to_bits()),
            Val::Text(text) => Self::Text((**text).into()),
            Val::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Val::Duration(duration) => Self::Duration(*duration),
            Val::Timestamp(moment) => Self::Timestamp(moment.seconds, moment.nanos),
            _ => return None,
        })
    }

    /// The key of a map's entry; none for a value that can be none.
    pub(crate) fn numeric(value: &Val<'_>) -> Option<Self> {
        Some(match value {
            Val::Int(value) => Self::Whole((*value).into()),
            Val::Uint(value) => Self::Whole((*value).into()),
            Val::Double(value) => match numbers::whole(*value) {
                Some(whole) => Self::Whole(whole),
                None => Self::Double(value.to_bits()),
            },
            Val::Bool(value) => Self::Bool(*value),
            Val::Text(text) => Self::Text((**text).into()),
            Val::Bytes(_) | Val::Duration(_) | Val::Timestamp(_) | Val::Null => {
                return Self::exact(value);
            }
            _ => return None,
        })
    }
}

/// `one == other`.
///
/// # Errors
/// Values that cannot be compared; too much work.
pub(crate) fn equal<'a>(one: &Val<'a>, other: &Val<'a>, work: &mut Work) -> Result<bool, Failure> {
    work.steps(1)?;
    Ok(match (one, other) {
        (Val::Null, Val::Null) => true,
        (Val::Null, _) | (_, Val::Null) => false,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Text(a), Val::Text(b)) => {
            work.bytes(a.len().min(b.len()))?;
            **a == **b
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            work.bytes(a.len().min(b.len()))?;
            a == b
        }
        (Val::Duration(a), Val::Duration(b)) => a == b,
        (Val::Timestamp(a), Val::Timestamp(b)) => moments(a, b) == Ordering::Equal,
        (Val::Type(a), Val::Type(b)) => a == b,
        (Val::List(a), Val::List(b)) => a.equals(b, work)?,
        (Val::Map(a), Val::Map(b)) => a.equals(b, work)?,
        (Val::Optional(a), Val::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, work)?,
            (None, None) => true,
            _ => false,
        },
        (Val::Extension(a), Val::Extension(b)) => extensions(a, b)?,
        (Val::Extension(_), _) => return Err(Failure::no_overload()),
        _ => numeric(one, other) == Some(Ordering::Equal),
    })
}

fn extensions(one: &Extension, other: &Extension) -> Result<bool, Failure> {
    one.equals(other).ok_or_else(Failure::no_overload)
}

fn moments(one: &Moment, other: &Moment) -> Ordering {
    (one.seconds, one.nanos).cmp(&(other.seconds, other.nanos))
}

/// The order of two numbers; none if one of them is none, or not a number.
fn numeric(one: &Val<'_>, other: &Val<'_>) -> Option<Ordering> {
    let whole = |value: &Val<'_>| match value {
        Val::Int(value) => Some(i128::from(*value)),
        Val::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (one, other) {
        (Val::Double(a), Val::Double(b)) => a.partial_cmp(b),
        (Val::Double(a), b) => numbers::compare(*a, whole(b)?),
        (a, Val::Double(b)) => numbers::compare(*b, whole(a)?).map(Ordering::reverse),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

/// Which of two values comes first.
///
/// # Errors
/// Values of types that have no order, or not the same.
pub(crate) fn order(one: &Val<'_>, other: &Val<'_>) -> Result<Ordering, Failure> {
    Ok(match (one, other) {
        (Val::Bool(a), Val::Bool(b)) => a.cmp(b),
        (Val::Text(a), Val::Text(b)) => (**a).cmp(&**b),
        (Val::Bytes(a), Val::Bytes(b)) => a.cmp(b),
        (Val::Duration(a), Val::Duration(b)) => a.cmp(b),
        (Val::Timestamp(a), Val::Timestamp(b)) => moments(a, b),
        (Val::Double(value), _) | (_, Val::Double(value)) if value.is_nan() => {
            return Err(Failure::error("NaN values cannot be ordered"));
        }
        _ => numeric(one, other).ok_or_else(Failure::no_overload)?,
    })
}
