//! Values of the object as the schema types them (`UnstructuredToVal` of kube-apiserver).

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Number, Value};

use super::{Outcome, Text, Val, list::List, map::Map, moment};
use crate::schema::cel::{
    shape::{Kind, Shape},
    value::extension::Extension,
    work::Failure,
};

/// The value as its shape says.
///
/// # Errors
/// It is not what the shape says; objects are validated before rules see them.
pub(crate) fn typed<'a>(value: &'a Value, shape: &'a Shape) -> Outcome<'a> {
    let text = |what: &str| match value {
        Value::String(text) => Ok(text.as_str()),
        _ => Err(Failure::error(format!("invalid data, expected {what}, got {}", name(value)))),
    };
    if value.is_null() {
        return if shape.nullable {
            Ok(Val::Null)
        } else {
            Err(Failure::error("invalid data, got null for schema with nullable=false"))
        };
    }
    Ok(match (&shape.kind, value) {
        (Kind::Object(_) | Kind::Map(_), Value::Object(object)) => {
            Val::Map(Map::Json(object, shape))
        }
        (Kind::List(items), Value::Array(list)) => Val::List(List::Json(list, items)),
        (Kind::Boolean, Value::Bool(value)) => Val::Bool(*value),
        (Kind::Number, Value::Number(number)) => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
        (Kind::Integer | Kind::IntOrString, Value::Number(number)) => integer(number)?,
        (Kind::String | Kind::IntOrString, Value::String(text)) => Val::Text(Text::Borrowed(text)),
        (Kind::Unknown, _) => Val::extension(Extension::Unknown(value.clone())),
        (Kind::Bytes, _) => {
            let text = text("string")?;
            let bytes = BASE64_STANDARD.decode(text).map_err(|error| {
                Failure::error(format!("Invalid byte formatted string {text}: {error}"))
            })?;
            Val::Bytes(Arc::from(bytes))
        }
        (Kind::Duration, _) => {
            let text = text("string")?;
            let duration = moment::lenient_duration(text);
            let fault = || format!("Invalid duration {text}: unable to parse {text}");
            Val::Duration(duration.ok_or_else(|| Failure::error(fault()))?)
        }
        (Kind::Date, _) => {
            let text = text("string")?;
            let fault = || format!("Invalid date formatted string {text}: cannot parse it");
            Val::Timestamp(moment::date(text).ok_or_else(|| Failure::error(fault()))?)
        }
        (Kind::DateTime, _) => {
            let text = text("string")?;
            let fault = || format!("Invalid date-time formatted string {text}: cannot parse it");
            Val::Timestamp(moment::rfc3339(text).ok_or_else(|| Failure::error(fault()))?)
        }
        (kind, _) => {
            let expected = match kind {
                Kind::Object(_) | Kind::Map(_) => {
                    "expected a map for the provided schema with type=object".to_owned()
                }
                Kind::List(_) => {
                    "expected an array for the provided schema with type=array".to_owned()
                }
                Kind::IntOrString => {
                    "expected XIntOrString value to be either a string or integer".to_owned()
                }
                Kind::Boolean => format!("expected bool, got {}", name(value)),
                Kind::Number => format!("expected float, got {}", name(value)),
                Kind::Integer => format!("expected int, got {}", name(value)),
                _ => format!("expected string, got {}", name(value)),
            };
            return Err(Failure::error(format!("invalid data, {expected}")));
        }
    })
}

fn integer<'a>(number: &Number) -> Outcome<'a> {
    number
        .as_i64()
        .map(Val::Int)
        .ok_or_else(|| Failure::error("invalid data, expected int, got float64"))
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The shape of a property; none if the schema does not say it.
pub(crate) fn property_shape<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match &shape.kind {
        Kind::Object(fields) => fields.find(name).map(|shape| &**shape),
        Kind::Map(values) => Some(values),
        _ => None,
    }
}

/// Whether two documents are the same, as Go's `DeepEqual` says: 1 is not 1.0.
pub(crate) fn is_same(one: &Value, other: &Value) -> bool {
    one == other
}
