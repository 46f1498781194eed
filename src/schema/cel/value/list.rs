//! [`List`]: a list of the object, one that an expression made, or two of them in a row.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{
    Outcome, Val,
    compare::{self, Key},
    json,
};
use crate::schema::cel::{
    shape::{Items, Order},
    work::{Failure, Work},
};

/// A list.
#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    /// A list of the object, as the schema says.
    Json(&'a Vec<Value>, &'a Items),
    Values(Arc<Values<'a>>),
    /// Two lists in a row. Making it costs nothing, however long they are.
    Joined(Arc<(Self, Self, u64)>),
}

/// Elements that an expression made.
#[derive(Clone, Debug)]
pub(crate) struct Values<'a> {
    items: Vec<Val<'a>>,
    /// Sums of lists that are sets or maps are such as well.
    order: &'a Order,
}

impl<'a> List<'a> {
    pub(crate) fn of(items: Vec<Val<'a>>) -> Self {
        Self::Values(Arc::new(Values { items, order: &Order::Atomic }))
    }

    pub(crate) fn len(&self) -> u64 {
        let length = match self {
            Self::Json(items, _) => items.len(),
            Self::Values(values) => values.items.len(),
            Self::Joined(parts) => return parts.2,
        };
        u64::try_from(length).unwrap_or(u64::MAX)
    }

    pub(crate) fn order(&self) -> &'a Order {
        match self {
            Self::Json(_, items) => &items.order,
            Self::Values(values) => values.order,
            Self::Joined(_) => &Order::Atomic,
        }
    }

    /// The element at an index; none if there is none.
    pub(crate) fn get(&self, index: u64) -> Option<Outcome<'a>> {
        let mut list = self;
        let mut index = index;
        loop {
            let at = usize::try_from(index).ok()?;
            match list {
                Self::Json(items, of) => {
                    return items.get(at).map(|item| json::typed(item, &of.shape));
                }
                Self::Values(values) => return values.items.get(at).cloned().map(Ok),
                Self::Joined(parts) => {
                    let left = parts.0.len();
                    list = if index < left { &parts.0 } else { &parts.1 };
                    index = index.checked_sub(left).unwrap_or(index);
                }
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// All elements, counted as work.
    ///
    /// # Errors
    /// Too many, or one that is not what the schema says.
    pub(crate) fn items(&self, work: &mut Work) -> Result<Vec<Val<'a>>, Failure> {
        work.steps(self.len())?;
        self.iter().collect()
    }

    /// One more element, in place if nobody else has the list.
    pub(crate) fn push(self, item: Val<'a>) -> Self {
        match self {
            Self::Values(mut values) if *values.order == Order::Atomic => {
                Arc::make_mut(&mut values).items.push(item);
                Self::Values(values)
            }
            other => other.join(Self::of(vec![item])),
        }
    }

    fn join(self, other: Self) -> Self {
        let length = self.len().saturating_add(other.len());
        Self::Joined(Arc::new((self, other, length)))
    }

    /// `self + other`: a union for sets; for maps, elements of `other` replace those with the same keys.
    ///
    /// # Errors
    /// Elements that cannot be elements of a set or a map.
    pub(crate) fn plus(self, other: Self, work: &mut Work) -> Outcome<'a> {
        let order = self.order();
        let (mut items, more) = match order {
            Order::Atomic if self.len() == 0 => return Ok(Val::List(other)),
            Order::Atomic if other.len() == 0 => return Ok(Val::List(self)),
            Order::Atomic => return Ok(Val::List(self.join(other))),
            Order::Set | Order::Keys(_) => (self.items(work)?, other.items(work)?),
        };
        match order {
            Order::Keys(keys) => merge(&mut items, more, keys)?,
            _ => {
                let mut seen = BTreeSet::new();
                for item in &items {
                    seen.insert(set_key(item)?);
                }
                for item in more {
                    if seen.insert(set_key(&item)?) {
                        items.push(item);
                    }
                }
            }
        }
        Ok(Val::List(Self::Values(Arc::new(Values { items, order }))))
    }

    /// `self == other`, by the order of `self`.
    ///
    /// # Errors
    /// Elements that cannot be compared; too much work.
    pub(crate) fn equals(&self, other: &Self, work: &mut Work) -> Result<bool, Failure> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self.order() {
            Order::Atomic => {
                for (one, other) in self.iter().zip(other.iter()) {
                    if !compare::equal(&one?, &other?, work)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Order::Set => {
                let keys = |list: &Self, work: &mut Work| -> Result<BTreeSet<Key>, Failure> {
                    list.items(work)?.iter().map(set_key).collect()
                };
                Ok(keys(self, work)? == keys(other, work)?)
            }
            Order::Keys(keys) => {
                let ours = keyed(self.items(work)?, keys)?;
                let theirs = keyed(other.items(work)?, keys)?;
                for (key, item) in &theirs {
                    let Some((_, ours)) = ours.iter().find(|(other, _)| other == key) else {
                        return Ok(false);
                    };
                    work.steps(u64::try_from(theirs.len()).unwrap_or(u64::MAX))?;
                    if !compare::equal(ours, item, work)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Whether an element equals `value`.
    ///
    /// # Errors
    /// None equals it, and one cannot be compared with it.
    pub(crate) fn contains(&self, value: &Val<'a>, work: &mut Work) -> Result<bool, Failure> {
        let mut failure = None;
        for item in self.iter() {
            match item.and_then(|item| compare::equal(&item, value, work)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(Failure::Budget) => return Err(Failure::Budget),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(false), Err)
    }
}

fn set_key(item: &Val<'_>) -> Result<Key, Failure> {
    Key::exact(item).ok_or_else(|| {
        Failure::error("listSet operations are only supported on lists of scalar values")
    })
}

/// The values of the keys of an element.
fn map_key(item: &Val<'_>, keys: &[Box<str>]) -> Result<Vec<Option<Key>>, Failure> {
    let Val::Map(map) = item else {
        return Err(Failure::error(
            "unexpected data format for element of array with x-kubernetes-list-type=map",
        ));
    };
    keys.iter()
        .map(|key| match map.property(key) {
            None => Ok(None),
            Some(value) => Ok(Key::exact(&value?)),
        })
        .collect()
}

type Keyed<'a> = Vec<(Vec<Option<Key>>, Val<'a>)>;

fn keyed<'a>(items: Vec<Val<'a>>, keys: &[Box<str>]) -> Result<Keyed<'a>, Failure> {
    items.into_iter().map(|item| Ok((map_key(&item, keys)?, item))).collect()
}

fn merge<'a>(
    items: &mut Vec<Val<'a>>,
    more: Vec<Val<'a>>,
    keys: &[Box<str>],
) -> Result<(), Failure> {
    let mut places = std::collections::BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        places.insert(map_key(item, keys)?, at);
    }
    for item in more {
        let key = map_key(&item, keys)?;
        match places.get(&key) {
            Some(at) => items[*at] = item,
            None => {
                places.insert(key, items.len());
                items.push(item);
            }
        }
    }
    Ok(())
}
