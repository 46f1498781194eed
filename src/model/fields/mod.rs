//! The fields of Kubernetes' API types: their JSON names, their numbers in protobuf, their forms, when they are written,
//! and how they are merged. Pure data out of `kubernetes.txt`, which `tools/kubernetes-types` makes, and `custom.txt`;
//! parsed at first use. Enter at [`message`]; [`Message::decode`] checks a document.

mod decode;

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

pub use decode::Fault;

const TEXTS: [&str; 2] = [include_str!("kubernetes.txt"), include_str!("custom.txt")];

/// A constant that is too long to write as one.
static TABLE: LazyLock<Table> = LazyLock::new(Table::parse);

struct Table {
    packages: Vec<Package>,
    messages: Vec<Message>,
}

/// The types of one API version.
struct Package {
    group: &'static str,
    version: &'static str,
    /// Name in OpenAPI, `io.k8s.api.apps.v1`.
    name: &'static str,
    /// Its messages by the names of their types.
    messages: BTreeMap<&'static str, MessageId>,
}

/// One type.
#[derive(Debug)]
pub struct Message {
    /// Name of its schema in OpenAPI.
    pub schema: String,
    /// In the order of the table.
    pub fields: Vec<Field>,
    /// Whether its JSON is not an object of its fields, but the value of one of them.
    pub is_either: bool,
    /// Whether server-side apply owns it as a whole wherever it stands.
    pub is_atomic: bool,
    /// API version and kind, if its JSON has these two.
    kind: Option<(String, &'static str)>,
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
    /// How it is merged, in the words of the table.
    pub merging: &'static str,
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
    /// A number of 32 bits without a fraction.
    Integer32,
    /// A number of 64 bits without a fraction.
    Integer,
    /// A number that may have a fraction.
    Number,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The message of a kind; `None` for a kind that has no Go type.
pub fn message(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (package, kind) = match kind {
        // Requests of every group carry it.
        "DeleteOptions" => (package("meta.k8s.io", "v1")?, kind),
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            (package(group, version)?, kind)
        }
    };
    package.messages.get(kind).map(|id| id.message())
}

/// The message of `metadata`.
pub fn metadata() -> &'static Message {
    message("meta.k8s.io/v1", "ObjectMeta").expect("the table has it")
}

/// The name in OpenAPI of the package with the types of an API version.
pub fn package_name(group: &str, version: &str) -> Option<&'static str> {
    package(group, version).map(|package| package.name)
}

/// Every message by its identity.
pub fn messages() -> impl Iterator<Item = (MessageId, &'static Message)> {
    TABLE.messages.iter().enumerate().map(|(id, message)| (MessageId(id), message))
}

/// Every kind: its API version, its name and its message.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static Message)> {
    TABLE.messages.iter().filter_map(|message| {
        let (api_version, kind) = message.kind.as_ref()?;
        Some((api_version.as_str(), *kind, message))
    })
}

fn package(group: &str, version: &str) -> Option<&'static Package> {
    TABLE.packages.iter().find(|package| package.group == group && package.version == version)
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

    /// Its fields in the order of their names; one that is [`EMBEDDED`] is replaced by those of its message.
    pub fn named_fields(&self) -> &[Field] {
        &self.by_name
    }

    /// Of a message that [is one of its fields](Self::is_either): the one that such a value is of.
    pub fn choice(&self, value: &Value) -> Option<&Field> {
        self.fields.iter().find(|field| {
            matches!(
                (field.shape, value),
                (Shape::List(_), Value::Array(_))
                    | (Shape::Map(_) | Shape::One(Form::Message(_)), Value::Object(_))
                    | (Shape::One(Form::Bool), Value::Bool(_))
            )
        })
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
                Form::Integer32 | Form::Integer | Form::Number | Form::IntegerOrText => 0.into(),
                Form::Quantity => "0".into(),
                Form::Time | Form::MicroTime | Form::Json => Value::Null,
                Form::Message(id) if id.message().is_either => Value::Null,
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

/// One line of the table about a type: its name, what stands after the name, its fields.
#[derive(Clone, Copy)]
struct Line {
    name: &'static str,
    flags: &'static str,
    fields: &'static str,
}

impl Line {
    fn parse(line: &'static str) -> Option<Self> {
        let (head, fields) = line.split_once(':')?;
        let (name, flags) = head.split_once(' ').unwrap_or((head, ""));
        Some(Self { name, flags, fields: fields.trim_start() })
    }

    fn has(self, flag: &str) -> bool {
        self.flags.split(' ').any(|word| word == flag)
    }

    /// The prefix of its package, and the name within.
    fn place(self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }
}

impl Table {
    fn parse() -> Self {
        let mut packages = BTreeMap::new();
        let mut lines = Vec::new();
        for text in TEXTS.iter().flat_map(|text| text.lines()) {
            if let Some(package) = text.strip_prefix('@') {
                let (prefix, package) = Package::parse(package);
                packages.insert(prefix, package);
            } else if !text.starts_with('#') {
                lines.extend(Line::parse(text));
            }
        }
        let names = lines.iter().enumerate().map(|(id, line)| (line.name, id)).collect();
        let fields: Vec<Vec<Field>> =
            lines.iter().map(|line| Field::parse_all(line.fields, &names)).collect();
        let mut messages = Vec::with_capacity(lines.len());
        for (id, line) in lines.into_iter().enumerate() {
            let (prefix, name) = line.place();
            let package = packages.get_mut(prefix).expect("every prefix has a package");
            package.messages.insert(name, MessageId(id));
            messages.push(Message::of(line, package, id, &fields));
        }
        Self { packages: packages.into_values().collect(), messages }
    }
}

impl Package {
    /// `PREFIX API-VERSION NAME`; custom resources, whose version is `-`, have no Go types.
    fn parse(text: &'static str) -> (&'static str, Self) {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("a package has three words");
        let (prefix, api_version, name) = (word(), word(), word());
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        (prefix, Self { group, version, name, messages: BTreeMap::new() })
    }

    fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}

impl Message {
    fn of(line: Line, package: &Package, id: usize, all: &[Vec<Field>]) -> Self {
        let (_, name) = line.place();
        let mut by_name = Vec::new();
        flatten(&all[id], all, &mut by_name);
        by_name.sort_by_key(|field| field.name);
        Self {
            schema: format!("{}.{name}", package.name),
            fields: all[id].clone(),
            is_either: line.has("either"),
            is_atomic: line.has("atomic"),
            kind: line.has("kind").then(|| (package.api_version(), name)),
            always: by_name.iter().copied().filter(Field::is_always).collect(),
            by_name,
        }
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
    fn parse_all(text: &'static str, names: &BTreeMap<&'static str, usize>) -> Vec<Self> {
        let fields = text.split(", ").filter(|field| !field.is_empty());
        fields.map(|field| Self::parse(field, names)).collect()
    }

    /// `NUMBER NAME FORM MERGING`, as the head of the table explains. The table is a part of this program: what is wrong
    /// with it, the tests find.
    fn parse(text: &'static str, names: &BTreeMap<&'static str, usize>) -> Self {
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().expect("a field has three words");
        let (number, name, form) = (word(), word(), word());
        let merging = words.next().unwrap_or_default();
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
        let number = number.parse().expect("fields have numbers");
        Self { number, name, shape, presence, merging }
    }
}

impl Form {
    fn parse(text: &str, names: &BTreeMap<&'static str, usize>) -> Self {
        match text {
            "s" => Self::Text,
            "b" => Self::Bool,
            "i" => Self::Integer32,
            "l" => Self::Integer,
            "d" => Self::Number,
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
    use serde_json::json;

    use super::*;
    use crate::model::kind::BUILT_IN;

    #[test]
    fn every_kind_has_a_message() {
        assert!(TABLE.messages.len() > 500);
        // Custom resources have no Go types.
        let custom = ["multicluster.x-k8s.io", "snowglobe.dev"];
        for kind in BUILT_IN.iter().filter(|kind| !custom.contains(&&*kind.group)) {
            assert!(message(&kind.api_version(), &kind.kind).is_some(), "{kind:?}");
        }
        for kind in ["LoadBalancerPolicy", "TopologyPolicy"] {
            assert!(message("snowglobe.dev/v1alpha1", kind).is_none());
        }
    }

    #[test]
    fn versions_have_types_of_their_own() {
        let metrics = |version: &str| {
            let spec = message(version, "HorizontalPodAutoscaler")?.field("spec")?;
            let Shape::One(Form::Message(spec)) = spec.shape else { return None };
            spec.message().field("metrics").map(|field| field.number)
        };
        assert_eq!((metrics("autoscaling/v1"), metrics("autoscaling/v2")), (None, Some(4)));
        assert!(message("autoscaling/v3", "HorizontalPodAutoscaler").is_none());
        assert!(message("policy/v1", "DeleteOptions").is_some());
    }

    #[test]
    fn embedded_fields_belong_to_their_parent() {
        let probe = message("v1", "Probe").unwrap();
        assert!(probe.field("httpGet").is_some() && probe.field("periodSeconds").is_some());
        assert!(probe.field(EMBEDDED).is_none() && probe.field("port").is_none());
    }

    #[test]
    fn some_types_are_the_value_of_one_field() {
        let items = message("apiextensions.k8s.io/v1", "JSONSchemaPropsOrArray").unwrap();
        let chosen = |value: Value| items.choice(&value).map(|field| field.name);
        assert!(items.is_either);
        assert_eq!(chosen(json!({})), Some("schema"));
        assert_eq!(chosen(json!([])), Some("jSONSchemas"));
        assert_eq!(chosen(json!(true)), None);
        let extra = message("certificates.k8s.io/v1", "ExtraValue").unwrap();
        assert!(extra.choice(&json!(["a"])).is_some());
    }
}
