//! [`Val`]: what an expression evaluates to. Parts of the object are borrowed, and typed by their [`Shape`] when they are
//! looked at; nothing is converted ahead.

pub(super) mod compare;
pub(super) mod extension;
pub(super) mod json;
pub(super) mod list;
pub(super) mod map;
pub(super) mod moment;
pub(super) mod show;

use std::{fmt, ops::Deref, sync::Arc};

use self::{extension::Extension, list::List, map::Map, moment::Moment};
use super::work::Failure;

/// The result of an evaluation.
pub(super) type Outcome<'a> = Result<Val<'a>, Failure>;

/// A value of CEL.
#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Arc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Moment),
    Type(&'static str),
    Optional(Option<Arc<Self>>),
    /// A value of a library: an address, a URL, a quantity, ...
    Extension(Arc<Extension>),
}

/// A string: a part of the object, or made by an expression.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::Shared(text.into()))
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(List::of(items))
    }

    /// A length as a number.
    pub(super) fn length(length: usize) -> Self {
        Self::Int(i64::try_from(length).unwrap_or(i64::MAX))
    }

    pub(super) fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub(super) fn extension(extension: Extension) -> Self {
        Self::Extension(Arc::new(extension))
    }

    pub(super) fn as_text(&self) -> Result<&str, Failure> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Failure::no_overload()),
        }
    }

    pub(super) fn as_int(&self) -> Result<i64, Failure> {
        match self {
            Self::Int(value) => Ok(*value),
            _ => Err(Failure::no_overload()),
        }
    }

    pub(super) fn as_bool(&self) -> Result<bool, Failure> {
        match self {
            Self::Bool(value) => Ok(*value),
            _ => Err(Failure::no_overload()),
        }
    }

    pub(super) fn as_list(&self) -> Result<&List<'a>, Failure> {
        match self {
            Self::List(list) => Ok(list),
            _ => Err(Failure::no_overload()),
        }
    }

    /// The name of the value's type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Extension(extension) => extension.type_name(),
        }
    }

    /// What `size()` would say; 1 for all that has no size. Costs grow with it.
    pub(super) fn size(&self) -> u64 {
        let length = match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => return list.len(),
            Self::Map(map) => map.len(),
            Self::Extension(extension) => extension.size(),
            Self::Optional(Some(value)) => return value.size(),
            _ => 1,
        };
        u64::try_from(length).unwrap_or(u64::MAX)
    }

    /// Whether the value is empty, zero or null.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Optional(None) => true,
            Self::Bool(value) => !value,
            Self::Int(value) | Self::Duration(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Timestamp(moment) => moment.is_zero(),
            Self::Type(_) | Self::Extension(_) | Self::Optional(Some(_)) => false,
        }
    }
}
