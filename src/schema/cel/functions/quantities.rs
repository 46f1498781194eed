//! Kubernetes' library `quantity`; `compareTo`, `isGreaterThan` and `isLessThan`, which versions have as well.

use std::cmp::Ordering;

use super::Native;
use crate::{
    model::quantity,
    schema::cel::{
        numbers,
        value::{Val, extension::Extension},
        work::Failure,
    },
};

const NANO: i128 = 1_000_000_000;

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "quantity" => |_, a| {
            let text = a[0].as_text()?;
            read(text).map(from_nano).ok_or_else(|| Failure::error(fault(text)))
        },
        "isQuantity" => |_, a| Ok(Val::Bool(read(a[0].as_text()?).is_some())),
        "sign" => |_, a| Ok(Val::Int(i64::from(nano(&a[0])?.cmp(&0) as i8))),
        "isGreaterThan" => |_, a| Ok(Val::Bool(compare(a)?.is_gt())),
        "isLessThan" => |_, a| Ok(Val::Bool(compare(a)?.is_lt())),
        "compareTo" => |_, a| Ok(Val::Int(i64::from(compare(a)? as i8))),
        "asApproximateFloat" => |_, a| {
            let nano = nano(&a[0])?;
            let (whole, rest) = (nano / NANO, nano % NANO);
            Ok(Val::Double(numbers::to_double(whole) + numbers::to_double(rest) / 1e9))
        },
        "asInteger" => |_, a| {
            let cannot = || Failure::error("cannot convert value to integer");
            integer(nano(&a[0])?).map(Val::Int).ok_or_else(cannot)
        },
        "isInteger" => |_, a| Ok(Val::Bool(integer(nano(&a[0])?).is_some())),
        "add" => |_, a| Ok(from_nano(nano(&a[0])?.saturating_add(operand(&a[1])?))),
        "sub" => |_, a| Ok(from_nano(nano(&a[0])?.saturating_sub(operand(&a[1])?))),
        _ => return None,
    })
}

fn read(text: &str) -> Option<i128> {
    let digits = text.trim_start_matches(['+', '-']);
    // Kubernetes reads `.5` and `5.`, but not a suffix alone.
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.').then(|| quantity::nano(text))?
}

fn fault(text: &str) -> &'static str {
    if text.is_empty() {
        return "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    }
    let digits = text.trim_start_matches(['+', '-']);
    let number = digits.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if number.len() < digits.len() && digits.matches('.').count() < 2 {
        return "unable to parse quantity's suffix";
    }
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
}

fn from_nano<'a>(nano: i128) -> Val<'a> {
    Val::extension(Extension::Quantity(nano))
}

fn nano(value: &Val<'_>) -> Result<i128, Failure> {
    match value {
        Val::Extension(extension) => match **extension {
            Extension::Quantity(nano) => Ok(nano),
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}

/// A quantity, or a whole number.
fn operand(value: &Val<'_>) -> Result<i128, Failure> {
    match value {
        Val::Int(value) => Ok(i128::from(*value) * NANO),
        other => nano(other),
    }
}

fn integer(nano: i128) -> Option<i64> {
    i64::try_from(nano / NANO).ok().filter(|_| nano % NANO == 0)
}

fn compare(arguments: &[Val<'_>]) -> Result<Ordering, Failure> {
    let (Val::Extension(one), Val::Extension(other)) = (&arguments[0], &arguments[1]) else {
        return Err(Failure::no_overload());
    };
    match (&**one, &**other) {
        (Extension::Quantity(one), Extension::Quantity(other)) => Ok(one.cmp(other)),
        (Extension::Semver(one), Extension::Semver(other)) => Ok(one.compare(other)),
        _ => Err(Failure::no_overload()),
    }
}
