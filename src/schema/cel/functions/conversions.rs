//! `int()`, `string()` and other conversions between types; `type()` and `dyn()`.

use std::sync::Arc;

use super::Native;
use crate::schema::cel::{
    numbers,
    value::{
        Outcome, Val,
        extension::Extension,
        moment::{self, Moment},
        show,
    },
    work::{Failure, Work},
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "bool" => |_, a| to_bool(&a[0]),
        "bytes" => |work, a| to_bytes(work, &a[0]),
        "double" => |_, a| to_double(&a[0]),
        "duration" => |_, a| to_duration(&a[0]),
        "dyn" => |_, a| Ok(a[0].clone()),
        "int" => |_, a| to_int(&a[0]),
        "string" => |work, a| to_string(work, &a[0]),
        "timestamp" => |_, a| to_timestamp(&a[0]),
        "type" => |_, a| Ok(Val::Type(a[0].type_name())),
        "uint" => |_, a| to_uint(&a[0]),
        _ => return None,
    })
}

fn failed<'a>(value: &Val<'_>, to: &str) -> Outcome<'a> {
    let from = value.type_name();
    Err(Failure::error(format!("type conversion error from '{from}' to '{to}'")))
}

/// What a text says, or the failure to convert it.
fn read<'a>(value: &Val<'_>, to: &str, read: Option<Val<'a>>) -> Outcome<'a> {
    read.map_or_else(|| failed(value, to), Ok)
}

fn to_bool<'a>(value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Bool(_) => Ok(value.clone()),
        Val::Text(text) => read(
            value,
            "bool",
            match &**text {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Val::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Val::Bool(false)),
                _ => None,
            },
        ),
        _ => Err(Failure::no_overload()),
    }
}

fn to_bytes<'a>(work: &mut Work, value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Bytes(_) => Ok(value.clone()),
        Val::Text(text) => {
            work.bytes(text.len())?;
            Ok(Val::Bytes(Arc::from(text.as_bytes())))
        }
        _ => Err(Failure::no_overload()),
    }
}

fn to_double<'a>(value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Double(_) => Ok(value.clone()),
        Val::Int(whole) => Ok(Val::Double(numbers::to_double((*whole).into()))),
        Val::Uint(whole) => Ok(Val::Double(numbers::to_double((*whole).into()))),
        Val::Text(text) => read(value, "double", double(text).map(Val::Double)),
        _ => Err(Failure::no_overload()),
    }
}

/// As Go reads it: `1e400` does not fit.
fn double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let names_infinity = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    (value.is_finite() || value.is_nan() || names_infinity).then_some(value)
}

fn to_duration<'a>(value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Duration(_) => Ok(value.clone()),
        Val::Text(text) => {
            let duration = moment::duration(text).map(Val::Duration);
            read(value, "google.protobuf.Duration", duration)
        }
        _ => Err(Failure::no_overload()),
    }
}

fn to_int<'a>(value: &Val<'a>) -> Outcome<'a> {
    let overflow = || Failure::error("integer overflow");
    match value {
        Val::Int(_) => Ok(value.clone()),
        Val::Uint(whole) => i64::try_from(*whole).ok().map(Val::Int).ok_or_else(overflow),
        Val::Double(double) => numbers::to_int(*double).map(Val::Int).ok_or_else(overflow),
        Val::Duration(nanos) => Ok(Val::Int(*nanos)),
        Val::Timestamp(moment) => Ok(Val::Int(moment.seconds)),
        Val::Text(text) => read(value, "int", text.parse().ok().map(Val::Int)),
        _ => Err(Failure::no_overload()),
    }
}

fn to_uint<'a>(value: &Val<'a>) -> Outcome<'a> {
    let overflow = || Failure::error("unsigned integer overflow");
    match value {
        Val::Uint(_) => Ok(value.clone()),
        Val::Int(whole) => u64::try_from(*whole).ok().map(Val::Uint).ok_or_else(overflow),
        Val::Double(double) => numbers::to_uint(*double).map(Val::Uint).ok_or_else(overflow),
        Val::Text(text) => {
            let is_unsigned = !text.starts_with('+');
            read(value, "uint", text.parse().ok().filter(|_| is_unsigned).map(Val::Uint))
        }
        _ => Err(Failure::no_overload()),
    }
}

fn to_timestamp<'a>(value: &Val<'a>) -> Outcome<'a> {
    let overflow = || Failure::error("timestamp overflow");
    match value {
        Val::Timestamp(_) => Ok(value.clone()),
        Val::Int(seconds) => Moment::new(*seconds, 0, 0).map(Val::Timestamp).ok_or_else(overflow),
        Val::Text(text) => match moment::rfc3339(text) {
            None => failed(value, "google.protobuf.Timestamp"),
            Some(time) => Moment::new(time.seconds, time.nanos, time.offset)
                .map(Val::Timestamp)
                .ok_or_else(overflow),
        },
        _ => Err(Failure::no_overload()),
    }
}

fn to_string<'a>(work: &mut Work, value: &Val<'a>) -> Outcome<'a> {
    match value {
        Val::Text(_) => Ok(value.clone()),
        Val::Bytes(bytes) => {
            work.bytes(bytes.len())?;
            let text = std::str::from_utf8(bytes).ok();
            let invalid = || Failure::error("invalid UTF-8 in bytes, cannot convert to string");
            text.map(Val::text).ok_or_else(invalid)
        }
        Val::Bool(_)
        | Val::Int(_)
        | Val::Uint(_)
        | Val::Double(_)
        | Val::Duration(_)
        | Val::Timestamp(_) => show::show(value, work).map(Val::text),
        Val::Extension(extension) => match &**extension {
            Extension::Address(address) => Ok(Val::text(address.to_string())),
            Extension::Network(network) => {
                Ok(Val::text(format!("{}/{}", network.address, network.bits)))
            }
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}
