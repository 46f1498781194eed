//! Bodies in Kubernetes' protobuf encoding, turned into JSON documents.
//!
//! Typed clients made with client-go 0.32 or later (so also `kubectl create deployment`) send
//! `application/vnd.kubernetes.protobuf` and have no fallback; they do accept JSON answers. Enter at
//! [`decode`]. Nothing is ever encoded.

mod wire;

#[cfg(test)]
mod tests;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    api::protobuf::wire::{Fields, Malformed, Wire},
    model::{
        Status,
        fields::{self, EMBEDDED, Field, Form, Message, Presence, Shape},
        time::{micro_time_text, time_text},
    },
};

/// The media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Every body begins with this, then comes a `runtime.Unknown` message.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("the body is not in the Kubernetes protobuf encoding")]
    NoMagic,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("no kind {kind:?} is known in version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("field {0:?} has the wrong type")]
    WrongType(&'static str),
}

/// The JSON document of a body.
///
/// # Errors
/// 400 when the body is malformed; 415 when it is of a kind that is not known in this encoding.
pub fn decode(body: &[u8]) -> Result<Value, Status> {
    document(body).map_err(|error| match error {
        Error::UnknownKind { .. } => {
            Status::unsupported_media_type(format!("{error} in {MEDIA_TYPE}: send JSON or YAML"))
        }
        _ => Status::bad_request(error.to_string()),
    })
}

fn document(body: &[u8]) -> Result<Value, Error> {
    let unknown = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(unknown) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = string(text),
                        (2, Wire::Bytes(text)) => kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    if kind.is_empty() {
        return Err(Malformed.into());
    }
    let Some(fields) = fields::message(&api_version, &kind) else {
        return Err(Error::UnknownKind { api_version, kind });
    };
    let mut document = Map::new();
    document.insert("apiVersion".to_owned(), api_version.into());
    document.insert("kind".to_owned(), kind.into());
    message(fields, raw, &mut document)?;
    Ok(Value::Object(document))
}

fn message(message: &Message, bytes: &[u8], out: &mut Map<String, Value>) -> Result<(), Error> {
    for sent in Fields(bytes) {
        let (number, wire) = sent?;
        if let Some(field) = message.fields.iter().find(|field| field.number == number) {
            add_field(field, wire, out)?;
        }
    }
    // What is zero is not sent.
    for field in message.fields.iter().filter(|field| field.presence == Presence::Always) {
        let zero = field.zero();
        if !zero.is_object() && !zero.is_null() && !out.contains_key(field.name) {
            out.insert(field.name.to_owned(), zero);
        }
    }
    Ok(())
}

fn add_field(field: &Field, wire: Wire<'_>, out: &mut Map<String, Value>) -> Result<(), Error> {
    let name = field.name;
    match field.shape {
        Shape::One(Form::Message(id)) if name == EMBEDDED => {
            let Wire::Bytes(bytes) = wire else { return Err(Error::WrongType(name)) };
            return message(id.message(), bytes, out);
        }
        Shape::One(form) => {
            if let Some(value) = value(form, wire, name)?
                && !(field.presence == Presence::NonZero && is_zero(&value))
            {
                out.insert(name.to_owned(), value);
            }
        }
        Shape::List(form) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Some(list) = list.as_array_mut() else { return Err(Error::WrongType(name)) };
            match (form, wire) {
                // Numbers may be packed into one field.
                (Form::Integer32 | Form::Integer, Wire::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let number = wire::varint(&mut packed)?;
                        list.push(wire::signed(number).into());
                    }
                }
                _ => list.extend(value(form, wire, name)?),
            }
        }
        Shape::Map(form) => {
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Some(map) = map.as_object_mut() else { return Err(Error::WrongType(name)) };
            let (key, value) = map_entry(form, wire, name)?;
            map.insert(key, value);
        }
    }
    Ok(())
}

fn map_entry(form: Form, wire: Wire<'_>, name: &'static str) -> Result<(String, Value), Error> {
    let Wire::Bytes(entry) = wire else { return Err(Error::WrongType(name)) };
    let (mut key, mut content) = (String::new(), None);
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(text)) => key = string(text),
            (2, wire) => content = value(form, wire, name)?,
            _ => {}
        }
    }
    let absent = || if form == Form::Quantity { "0".into() } else { "".into() };
    Ok((key, content.unwrap_or_else(absent)))
}

/// One value; `None` for a time that is not set.
fn value(form: Form, wire: Wire<'_>, name: &'static str) -> Result<Option<Value>, Error> {
    Ok(Some(match (form, wire) {
        (Form::Integer32 | Form::Integer, Wire::Number(number)) => wire::signed(number).into(),
        (Form::Number, Wire::Double(number)) => number.into(),
        (Form::Bool, Wire::Number(number)) => (number != 0).into(),
        (Form::Text, Wire::Bytes(text)) => string(text).into(),
        (Form::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        (Form::Time, Wire::Bytes(bytes)) => return time(bytes, time_text, name),
        (Form::MicroTime, Wire::Bytes(bytes)) => return time(bytes, micro_time_text, name),
        (Form::Quantity, Wire::Bytes(bytes)) => {
            let text = first_text(bytes)?;
            if text.is_empty() { "0".into() } else { text.into() }
        }
        (Form::Json, Wire::Bytes(bytes)) => {
            serde_json::from_str(&first_text(bytes)?).map_err(|_json| Error::WrongType(name))?
        }
        (Form::Message(id), Wire::Bytes(bytes)) if id.message().is_either => {
            either(id.message(), bytes)?
        }
        (Form::IntegerOrText, Wire::Bytes(bytes)) => integer_or_string(bytes)?,
        (Form::Message(id), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(id.message(), bytes, &mut object)?;
            Value::Object(object)
        }
        _ => return Err(Error::WrongType(name)),
    }))
}

/// The value of the one field that such a message is. Where several are set, the last one says more.
fn either(of: &Message, bytes: &[u8]) -> Result<Value, Error> {
    let mut sent = Map::new();
    message(of, bytes, &mut sent)?;
    let mut fields = of.fields.iter().rev();
    let chosen = fields.find_map(|field| sent.remove(field.name));
    Ok(chosen.or_else(|| of.fields.first().map(Field::zero)).unwrap_or_default())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

/// Go's strings may hold anything; what is not UTF-8 is refused by validation later on.
fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The first field of messages that only wrap a text.
fn first_text(bytes: &[u8]) -> Result<String, Error> {
    let mut text = String::new();
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            text = string(bytes);
        }
    }
    Ok(text)
}

/// Seconds and nanoseconds since 1970; an empty message is no time.
fn time(
    bytes: &[u8],
    write: fn(Timestamp) -> String,
    name: &'static str,
) -> Result<Option<Value>, Error> {
    let (mut seconds, mut nanoseconds) = (None, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = Some(wire::signed(number)),
            (2, Wire::Number(number)) => nanoseconds = wire::signed(number),
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Ok(None) };
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_range| Error::WrongType(name))?;
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_range| Error::WrongType(name))?;
    Ok(Some(write(time).into()))
}

/// `intstr.IntOrString`: which of both it is, the number, the text.
fn integer_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = wire::signed(value),
            (3, Wire::Bytes(bytes)) => text = string(bytes),
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}
