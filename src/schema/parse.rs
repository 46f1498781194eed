//! Reads a [`Schema`] from JSON, within bounds: a document of any size costs time that is linear in it.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    model::Cause,
    schema::{
        path::Path,
        pattern::Pattern,
        structural::{
            AdditionalProperties, ListType, MapType, Properties, Rule, Schema, Type, Validations,
        },
    },
};

/// Deepest nesting of schemas; as deep as JSON that is read may be.
pub const DEPTH_MAX: usize = 128;

/// Most nodes of one schema. Those of the largest public CRDs have about 20,000.
pub const NODES_MAX: usize = 100_000;

/// Largest size of all different patterns of one schema together, by [`Pattern::size`]. Those of large public CRDs have
/// about 1,000; compiled ones take time and memory.
pub const PATTERNS_SIZE_MAX: usize = 50_000;

impl Schema {
    /// Reads the JSON of a `JSONSchemaProps` that stands at `path`. Fields that Kubernetes does not know are skipped.
    ///
    /// # Errors
    /// A field that has the wrong type, or a schema that is too large or too deep. One is enough: the document is not
    /// read further.
    pub fn parse(document: &Value, path: &Path<'_>) -> Result<Self, Cause> {
        Parser::default().schema(document, path)
    }
}

/// Counts nodes and remembers patterns while one schema is read.
#[derive(Default)]
struct Parser {
    nodes: usize,
    depth: usize,
    patterns: BTreeMap<Box<str>, Arc<Pattern>>,
    patterns_size: usize,
}

/// Result of reading a part of a schema.
type Parsed<T> = Result<T, Cause>;

impl Parser {
    fn schema(&mut self, document: &Value, path: &Path<'_>) -> Parsed<Schema> {
        let Value::Object(fields) = document else {
            return Err(Cause::broken(path.to_string(), "must be an object"));
        };
        self.nodes = self.nodes.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        self.check_size(path)?;
        let schema = self.node(fields, path);
        self.depth = self.depth.saturating_sub(1);
        schema
    }

    fn check_size(&self, path: &Path<'_>) -> Parsed<()> {
        if self.nodes > NODES_MAX {
            let detail = format!("a schema may have at most {NODES_MAX} nodes");
            return Err(Cause::broken(path.to_string(), &detail));
        }
        if self.depth > DEPTH_MAX {
            let detail = format!("a schema may be at most {DEPTH_MAX} levels deep");
            return Err(Cause::broken(path.to_string(), &detail));
        }
        Ok(())
    }

    fn node(&mut self, fields: &Map<String, Value>, path: &Path<'_>) -> Parsed<Schema> {
        let mut schema = Schema::default();
        let mut checks = Validations::default();
        let mut has_checks = false;
        for (name, value) in fields {
            // Null counts as absent, as in Go.
            if value.is_null() {
                continue;
            }
            let given = Given { name, value, path };
            if self.read_structure(&mut schema, &given)? {
                continue;
            }
            if self.read_validation(&mut checks, &given)? {
                has_checks = true;
            } else if given.says_something() {
                schema.others.add(name);
            }
        }
        schema.validations = has_checks.then(|| Box::new(checks));
        Ok(schema)
    }

    /// Reads a field of the skeleton, if it is one.
    fn read_structure(&mut self, schema: &mut Schema, given: &Given<'_>) -> Parsed<bool> {
        match given.name {
            "type" => schema.value_type = Type::of(given.text()?),
            "nullable" => schema.nullable = given.flag()?,
            "x-kubernetes-preserve-unknown-fields" => {
                schema.preserve_unknown_fields = given.flag()?;
                schema.forbids_unknown_fields = !schema.preserve_unknown_fields;
            }
            "x-kubernetes-embedded-resource" => schema.embedded_resource = given.flag()?,
            "x-kubernetes-int-or-string" => schema.int_or_string = given.flag()?,
            "x-kubernetes-list-type" => schema.list_type = Some(ListType::of(given.text()?)),
            "x-kubernetes-map-type" => schema.map_type = Some(MapType::of(given.text()?)),
            "x-kubernetes-list-map-keys" => schema.list_map_keys = given.texts()?,
            "x-kubernetes-validations" => schema.rules = rules(given)?,
            "default" => schema.default = Some(Box::new(given.value.clone())),
            "properties" => schema.properties = self.properties(given)?,
            "additionalProperties" => {
                schema.additional_properties = match given.value {
                    Value::Bool(allowed) => AdditionalProperties::Allowed(*allowed),
                    _ => AdditionalProperties::Schema(Box::new(self.below(given)?)),
                }
            }
            "items" if given.value.is_array() => schema.others.add_items_as_list(),
            "items" => schema.items = Some(Box::new(self.below(given)?)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a field that validates, if it is one.
    fn read_validation(&mut self, checks: &mut Validations, given: &Given<'_>) -> Parsed<bool> {
        match given.name {
            "format" => checks.format = given.text()?.into(),
            "maximum" => checks.maximum = Some(given.number()?),
            "minimum" => checks.minimum = Some(given.number()?),
            "exclusiveMaximum" => checks.exclusive_maximum = given.flag()?,
            "exclusiveMinimum" => checks.exclusive_minimum = given.flag()?,
            "uniqueItems" => checks.unique_items = given.flag()?,
            "multipleOf" => checks.multiple_of = Some(given.number()?),
            "maxLength" => checks.max_length = Some(given.whole()?),
            "minLength" => checks.min_length = Some(given.whole()?),
            "maxItems" => checks.max_items = Some(given.whole()?),
            "minItems" => checks.min_items = Some(given.whole()?),
            "maxProperties" => checks.max_properties = Some(given.whole()?),
            "minProperties" => checks.min_properties = Some(given.whole()?),
            "pattern" => checks.pattern = self.pattern(given)?,
            "enum" => checks.enumeration = given.list()?.into(),
            "required" => checks.required = given.texts()?,
            "allOf" => checks.all_of = self.list_below(given)?,
            "anyOf" => checks.any_of = self.list_below(given)?,
            "oneOf" => checks.one_of = self.list_below(given)?,
            "not" => checks.not = Some(self.below(given)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn below(&mut self, given: &Given<'_>) -> Parsed<Schema> {
        self.schema(given.value, &given.place())
    }

    fn list_below(&mut self, given: &Given<'_>) -> Parsed<Box<[Schema]>> {
        let place = given.place();
        let items = given.list()?.iter().enumerate();
        items.map(|(at, document)| self.schema(document, &place.index(at))).collect()
    }

    fn properties(&mut self, given: &Given<'_>) -> Parsed<Properties> {
        let place = given.place();
        let Value::Object(named) = given.value else { return Err(given.wrong("an object")) };
        let mut properties = Vec::with_capacity(named.len());
        for (name, document) in named {
            properties.push((name.as_str().into(), self.schema(document, &place.key(name))?));
        }
        Ok(Properties::new(properties))
    }

    fn pattern(&mut self, given: &Given<'_>) -> Parsed<Option<Arc<Pattern>>> {
        let text = given.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.patterns.get(text) {
            return Ok(Some(known.clone()));
        }
        let pattern = Arc::new(Pattern::new(text));
        self.patterns_size = self.patterns_size.saturating_add(pattern.size());
        if self.patterns_size > PATTERNS_SIZE_MAX {
            let detail = "the patterns of this schema are too large together";
            return Err(Cause::broken(given.place().to_string(), detail));
        }
        self.patterns.insert(text.into(), pattern.clone());
        Ok(Some(pattern))
    }
}

/// A field of a document, which is not null.
struct Given<'a> {
    name: &'a str,
    value: &'a Value,
    /// Of the document.
    path: &'a Path<'a>,
}

impl<'a> Given<'a> {
    fn place(&self) -> Path<'_> {
        self.path.child(self.name)
    }

    fn wrong(&self, what: &str) -> Cause {
        Cause::broken(self.place().to_string(), &format!("must be {what}"))
    }

    fn flag(&self) -> Parsed<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("a boolean"))
    }

    fn text(&self) -> Parsed<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    fn whole(&self) -> Parsed<i64> {
        self.value.as_i64().ok_or_else(|| self.wrong("an integer"))
    }

    fn number(&self) -> Parsed<f64> {
        self.value.as_f64().ok_or_else(|| self.wrong("a number"))
    }

    fn list(&self) -> Parsed<&'a [Value]> {
        self.value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong("a list"))
    }

    fn texts(&self) -> Parsed<Box<[Box<str>]>> {
        let text = |(at, item): (usize, &Value)| match item {
            Value::String(text) => Ok(text.as_str().into()),
            _ => {
                let place = self.place();
                Err(Cause::broken(place.index(at).to_string(), "must be a string"))
            }
        };
        self.list()?.iter().enumerate().map(text).collect()
    }

    /// Whether it is more than an empty text or, where that says nothing, an empty object.
    fn says_something(&self) -> bool {
        match self.value {
            Value::String(text) => !text.is_empty(),
            Value::Object(fields) => {
                !fields.is_empty() || matches!(self.name, "additionalItems" | "dependencies")
            }
            _ => true,
        }
    }
}

fn rules(given: &Given<'_>) -> Parsed<Box<[Rule]>> {
    let place = given.place();
    let rule = |(at, item): (usize, &Value)| {
        let path = place.index(at);
        let Value::Object(fields) = item else {
            return Err(Cause::broken(path.to_string(), "must be an object"));
        };
        let mut rule = Rule::default();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let given = Given { name, value, path: &path };
            match name.as_str() {
                "rule" => rule.rule = given.text()?.into(),
                "message" => rule.message = given.text()?.into(),
                "messageExpression" => rule.message_expression = given.text()?.into(),
                "reason" => rule.reason = Some(given.text()?.into()),
                "fieldPath" => rule.field_path = given.text()?.into(),
                "optionalOldSelf" => rule.optional_old_self = Some(given.flag()?),
                _ => {}
            }
        }
        Ok(rule)
    };
    given.list()?.iter().enumerate().map(rule).collect()
}
