//! The fields of Kubernetes' API types: their JSON names, their numbers in protobuf, their forms, and when they are
//! written. Pure data out of `fields.txt`, parsed at first use. Enter at [`message`].

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

const TEXT: &str = include_str!("fields.txt");

/// A constant that is too long to write as one.
static TABLE: LazyLock<Table> = LazyLock::new(Table::parse);

struct Table {
    names: BTreeMap<&'static str, usize>,
    messages: Vec<Message>,
}

/// One type.
#[derive(Debug)]
pub struct Message {
    /// In the order of the table.
    pub fields: Vec<Field>,
    /// The same in the order of their names; a field that is [`EMBEDDED`] is replaced by those of its message.
    by_name: Vec<Field>,
    /// Fields that are written even if nobody set them.
    always: Vec<Field>,
}

/// One field of a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// In protobuf.
    pub number: u64,
    /// Name in JSON; or [`EMBEDDED`].
    pub name: &'static str,
    /// Of one value or many.
    pub shape: Shape,
    /// When it is written.
    pub presence: Presence,
}

/// The name of a message whose fields belong to the parent.
pub const EMBEDDED: &str = ".";

/// How many values a field has.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// One value.
    One(Form),
    /// A list.
    List(Form),
    /// A map from strings.
    Map(Form),
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A string.
    Text,
    /// `true` or `false`.
    Bool,
    /// A number without a fraction.
    Integer,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// `500m`.
    Quantity,
    /// A port or percentage.
    IntegerOrText,
    /// Whatever.
    Json,
    /// An object.
    Message(MessageId),
}

/// Where a message stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(usize);

/// When a field is written, by its Go type and tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// If it is not zero (`omitempty`); what is a struct in Go never is.
    NonZero,
    /// If it was set, also to zero (a pointer).
    Set,
    /// In any case.
    Always,
}

/// The message of a kind.
pub fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    let name = match api_version.split_once('/') {
        _ if kind == "DeleteOptions" => "meta.DeleteOptions".to_owned(),
        None => kind.to_owned(),
        Some((group, _)) => format!("{}.{kind}", group.split('.').next().unwrap_or_default()),
    };
    named(&name)
}

/// The message of `metadata`.
pub fn metadata() -> &'static Message {
    named("meta.ObjectMeta").expect("the table has it")
}

fn named(name: &str) -> Option<&'static Message> {
    TABLE.names.get(name).map(|id| &TABLE.messages[*id])
}

impl MessageId {
    /// The message itself.
    pub fn message(self) -> &'static Message {
        &TABLE.messages[self.0]
    }
}

impl Message {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let found = self.by_name.binary_search_by_key(&name, |field| field.name);
        found.ok().map(|at| &self.by_name[at])
    }

    /// Adds what is written even if nobody set it.
    pub fn complete(&self, object: &mut Map<String, Value>) {
        for field in &self.always {
            if !object.contains_key(field.name) {
                object.insert(field.name.to_owned(), field.zero());
            }
        }
    }
}

impl Field {
    /// The zero of a value that is not set.
    pub fn zero(&self) -> Value {
        match self.shape {
            Shape::List(_) => Value::Array(Vec::new()),
            Shape::Map(_) => Value::Object(Map::new()),
            Shape::One(form) => match form {
                Form::Text | Form::Bytes => "".into(),
                Form::Bool => false.into(),
                Form::Integer | Form::IntegerOrText => 0.into(),
                Form::Quantity => "0".into(),
                Form::Time | Form::MicroTime | Form::Json => Value::Null,
                Form::Message(id) => {
                    let mut object = Map::new();
                    id.message().complete(&mut object);
                    Value::Object(object)
                }
            },
        }
    }

    /// Whether it is written even if nobody set it. Times and free JSON would be null.
    fn is_always(&self) -> bool {
        match (self.presence, self.shape) {
            (_, Shape::One(Form::Time | Form::MicroTime | Form::Json)) | (Presence::Set, _) => {
                false
            }
            (Presence::Always, _) => true,
            (Presence::NonZero, shape) => {
                matches!(shape, Shape::One(Form::Message(_) | Form::Quantity))
            }
        }
    }
}

impl Table {
    fn parse() -> Self {
        let lines = || {
            let lines = TEXT.lines().filter(|line| !line.starts_with('#'));
            lines.filter_map(|line| line.split_once(": "))
        };
        let names = lines().enumerate().map(|(id, (name, _))| (name, id)).collect();
        let fields: Vec<Vec<Field>> = lines()
            .map(|(_, fields)| fields.split(", ").map(|text| Field::parse(text, &names)).collect())
            .collect();
        let messages = fields.iter().map(|own| Message::of(own, &fields)).collect();
        Self { names, messages }
    }
}

impl Message {
    fn of(own: &[Field], all: &[Vec<Field>]) -> Self {
        let mut by_name = Vec::new();
        flatten(own, all, &mut by_name);
        by_name.sort_by_key(|field| field.name);
        let always = by_name.iter().copied().filter(Field::is_always).collect();
        Self { fields: own.to_vec(), by_name, always }
    }
}

fn flatten(own: &[Field], all: &[Vec<Field>], out: &mut Vec<Field>) {
    for field in own {
        match field.shape {
            Shape::One(Form::Message(MessageId(id))) if field.name == EMBEDDED => {
                flatten(&all[id], all, out);
            }
            _ => out.push(*field),
        }
    }
}

impl Field {
    /// `NUMBER NAME FORM`, as the head of the table explains. The table is a part of this program: what is wrong with
    /// it, the tests find.
    fn parse(text: &'static str, names: &BTreeMap<&'static str, usize>) -> Self {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("a field has three words");
        let (number, name, form) = (word(), word(), word());
        let (form, presence) = match (form.strip_suffix('?'), form.strip_suffix('!')) {
            (Some(form), _) => (form, Presence::Set),
            (_, Some(form)) => (form, Presence::Always),
            _ => (form, Presence::NonZero),
        };
        let inner = |open, close| form.strip_prefix(open)?.strip_suffix(close);
        let shape = match (inner('[', ']'), inner('{', '}')) {
            (Some(item), _) => Shape::List(Form::parse(item, names)),
            (_, Some(value)) => Shape::Map(Form::parse(value, names)),
            _ => Shape::One(Form::parse(form, names)),
        };
        Self { number: number.parse().expect("fields have numbers"), name, shape, presence }
    }
}

impl Form {
    fn parse(text: &str, names: &BTreeMap<&'static str, usize>) -> Self {
        match text {
            "s" => Self::Text,
            "b" => Self::Bool,
            "i" => Self::Integer,
            "y" => Self::Bytes,
            "t" => Self::Time,
            "m" => Self::MicroTime,
            "q" => Self::Quantity,
            "o" => Self::IntegerOrText,
            "f" => Self::Json,
            name => Self::Message(MessageId(*names.get(name).expect("messages are in the table"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind::KINDS;

    #[test]
    fn every_kind_has_a_message() {
        assert!(TABLE.messages.len() > 200);
        // Custom resources have no Go types.
        let custom = ["multicluster.x-k8s.io", "snowglobe.dev"];
        for kind in KINDS.iter().filter(|kind| !custom.contains(&kind.group)) {
            assert!(message(&kind.api_version(), kind.kind).is_some(), "{kind:?}");
        }
        assert!(message("snowglobe.dev/v1", "LoadBalancerPolicy").is_none());
    }

    #[test]
    fn embedded_fields_belong_to_their_parent() {
        let probe = named("Probe").unwrap();
        assert!(probe.field("httpGet").is_some() && probe.field("periodSeconds").is_some());
        assert!(probe.field(EMBEDDED).is_none() && probe.field("port").is_none());
    }
}
