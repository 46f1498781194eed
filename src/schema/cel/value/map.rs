//! [`Map`]: an object or a map of the object, or one that an expression made.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    Outcome, Text, Val,
    compare::{self, Key},
    json,
};
use crate::schema::cel::{
    escape::{escape, unescape},
    shape::{Kind, Shape},
    work::{Failure, Work},
};

/// A map.
#[derive(Clone, Debug)]
pub(crate) enum Map<'a> {
    /// A part of the object, as the schema says.
    Json(&'a serde_json::Map<String, Value>, &'a Shape),
    Values(Arc<Entries<'a>>),
}

/// Entries that an expression made, in the order in which it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries<'a> {
    list: Vec<(Val<'a>, Val<'a>)>,
    places: BTreeMap<Key, usize>,
}

impl<'a> Entries<'a> {
    /// Adds an entry, or replaces the value of its key.
    ///
    /// # Errors
    /// A key that cannot be one.
    pub(crate) fn set(&mut self, key: Val<'a>, value: Val<'a>) -> Result<(), Failure> {
        let place = map_key(&key)?;
        match self.places.get(&place) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.places.insert(place, self.list.len());
                self.list.push((key, value));
            }
        }
        Ok(())
    }
}

fn map_key(key: &Val<'_>) -> Result<Key, Failure> {
    Key::numeric(key)
        .ok_or_else(|| Failure::error(format!("unsupported key type: {}", key.type_name())))
}

impl<'a> Map<'a> {
    pub(crate) fn of(entries: Entries<'a>) -> Self {
        Self::Values(Arc::new(entries))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(object, _) => object.len(),
            Self::Values(entries) => entries.list.len(),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A key of a type that no key of this map has.
    pub(crate) fn find(&self, key: &Val<'a>) -> Result<Option<Val<'a>>, Failure> {
        match self {
            Self::Json(object, shape) => {
                let text = key.as_text()?;
                match &shape.kind {
                    Kind::Object(fields) if fields.are_named => match unescape(text) {
                        Some(name) => property(object, shape, &name),
                        None => Ok(None),
                    },
                    _ => property(object, shape, text),
                }
            }
            Self::Values(entries) => {
                let at = Key::numeric(key).and_then(|key| entries.places.get(&key));
                Ok(at.map(|at| entries.list[*at].1.clone()))
            }
        }
    }

    /// The value of a field that an expression names: `escaped` there, `name` in JSON.
    ///
    /// # Errors
    /// A value that is not what the schema says.
    pub(crate) fn field(
        &self,
        escaped: &Arc<str>,
        name: Option<&str>,
    ) -> Result<Option<Val<'a>>, Failure> {
        match self {
            Self::Json(object, shape) => match &shape.kind {
                Kind::Object(fields) if fields.are_named => {
                    name.map_or(Ok(None), |name| property(object, shape, name))
                }
                _ => property(object, shape, escaped),
            },
            Self::Values(_) => self.find(&Val::text(escaped.clone())),
        }
    }

    /// The value of a property by its name in JSON.
    pub(crate) fn property(&self, name: &str) -> Option<Outcome<'a>> {
        match self {
            Self::Json(object, shape) => property(object, shape, name).transpose(),
            Self::Values(_) => self.find(&Val::text(name)).transpose(),
        }
    }

    /// The keys, in the order of the document.
    pub(crate) fn keys(&self) -> Vec<Val<'a>> {
        match self {
            Self::Values(entries) => entries.list.iter().map(|(key, _)| key.clone()).collect(),
            Self::Json(object, shape) => match &shape.kind {
                Kind::Object(fields) => object
                    .keys()
                    .filter(|name| fields.find(name).is_some())
                    .map(|name| match escape(name) {
                        Some(escaped) => Val::text(escaped),
                        None => Val::Text(Text::Borrowed(name)),
                    })
                    .collect(),
                _ => object.keys().map(|name| Val::Text(Text::Borrowed(name))).collect(),
            },
        }
    }

    /// The map with one more entry, in place if nobody else has it.
    ///
    /// # Errors
    /// The key is there already, or can be none.
    pub(crate) fn insert(
        self,
        key: Val<'a>,
        value: Val<'a>,
        work: &mut Work,
    ) -> Result<Self, Failure> {
        if self.find(&key)?.is_some() {
            let key = super::show::show(&key, work)?;
            return Err(Failure::error(format!("insert failed: key {key} already exists")));
        }
        let mut entries = match self {
            Self::Values(entries) => entries,
            Self::Json(..) => {
                let mut entries = Entries::default();
                for key in self.keys() {
                    work.steps(1)?;
                    if let Some(value) = self.find(&key)? {
                        entries.set(key, value)?;
                    }
                }
                Arc::new(entries)
            }
        };
        if Arc::get_mut(&mut entries).is_none() {
            work.steps(u64::try_from(entries.list.len()).unwrap_or(u64::MAX))?;
        }
        Arc::make_mut(&mut entries).set(key, value)?;
        Ok(Self::Values(entries))
    }

    /// `self == other`.
    ///
    /// # Errors
    /// Values that cannot be compared; too much work.
    pub(crate) fn equals(&self, other: &Self, work: &mut Work) -> Result<bool, Failure> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let Self::Json(object, shape) = self {
            return json_equals(object, shape, other, work);
        }
        for key in self.keys() {
            work.steps(1)?;
            let (Some(ours), Some(theirs)) = (self.find(&key)?, other.find(&key)?) else {
                return Ok(false);
            };
            if !compare::equal(&ours, &theirs, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Fields that the schema does not name are compared as they are.
fn json_equals<'a>(
    object: &'a serde_json::Map<String, Value>,
    shape: &'a Shape,
    other: &Map<'a>,
    work: &mut Work,
) -> Result<bool, Failure> {
    for (name, value) in object {
        work.steps(1)?;
        if json::property_shape(shape, name).is_none() {
            let Map::Json(others, _) = other else { return Err(Failure::no_overload()) };
            if others.get(name).is_some_and(|theirs| !json::is_same(value, theirs)) {
                return Ok(false);
            }
            continue;
        }
        let ours = property(object, shape, name)?;
        let theirs = other.property(name).transpose()?;
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if compare::equal(&ours, &theirs, work)? => {}
            (None, None) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Null in an object stands for no value; in a map it is one.
fn property<'a>(
    object: &'a serde_json::Map<String, Value>,
    shape: &'a Shape,
    name: &str,
) -> Result<Option<Val<'a>>, Failure> {
    let Some(value) = object.get(name) else { return Ok(None) };
    let is_object = matches!(&shape.kind, Kind::Object(_));
    match json::property_shape(shape, name) {
        Some(of) if !(is_object && value.is_null()) => json::typed(value, of).map(Some),
        _ => Ok(None),
    }
}
