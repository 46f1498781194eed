//! [`Compiled`]: all rules of a schema, compiled once, when a `CustomResourceDefinition` is written or read.

use std::{fmt, sync::Arc};

use super::{
    expression::{self, Expression, Fault},
    shape::Shape,
    value_type::Type,
};
use crate::{
    model::Cause,
    schema::{
        field_path, go_text,
        path::Path,
        structural::{AdditionalProperties, ListType, Rule, Schema, Type as JsonType},
    },
};

/// Most that one rule may cost, with all the values that it may be evaluated on.
const RULE_COST_MAX: u64 = 10_000_000;
/// Most that all rules of a schema may cost.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// Bytes of a request; a value of which the schema does not limit the number cannot be there more often.
const REQUEST_BYTES_MAX: i64 = super::shape::REQUEST_BYTES_MAX;
/// How many expensive rules are named when all together are too expensive.
const NAMED_MAX: usize = 4;

/// The rules of a schema, ready to be evaluated. It follows the structure of the schema where that has rules.
#[derive(Debug, Default)]
pub struct Compiled {
    pub(super) root: Option<Node>,
}

/// The rules of a node, and of the nodes below.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) rules: Box<[CompiledRule]>,
    /// There if there are rules.
    pub(super) shape: Option<Arc<Shape>>,
    /// The `type` of the schema, which messages show for the value.
    pub(super) value_type: JsonType,
    pub(super) properties: Box<[(Box<str>, Self)]>,
    pub(super) values: Option<Box<Self>>,
    pub(super) items: Option<Box<Self>>,
}

/// A rule that can be evaluated.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) expression: Expression,
    pub(super) optional_old_self: bool,
    /// What messages call the rule: its message, or else its text.
    pub(super) name: Box<str>,
    /// What is said if it does not hold.
    pub(super) message: Box<str>,
    pub(super) message_expression: Option<(Expression, Box<str>)>,
    pub(super) reason: Reason,
    /// The field that is named, below the node.
    pub(super) field_path: Box<str>,
}

/// The reason of the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Invalid,
    Forbidden,
    Required,
    Duplicate,
}

impl Compiled {
    /// Compiles all rules of a schema that [`check`](crate::schema::check) has nothing to say against. The schema stands
    /// at `path`, that of `openAPIV3Schema`.
    ///
    /// Without rules this takes one walk over the schema, and nothing is kept.
    ///
    /// # Errors
    /// All rules that do not compile, use `oldSelf` where nothing says which value is the old one, or could cost too
    /// much.
    pub fn compile(schema: &Schema, path: &Path<'_>) -> Result<Self, Vec<Cause>> {
        let mut compiler = Compiler::default();
        let place = Place { shape: None, is_resource: true, count: Some(1), uncorrelated: None };
        let root = compiler.node(schema, path, &place);
        compiler.check_total(path);
        if compiler.causes.is_empty() { Ok(Self { root }) } else { Err(compiler.causes) }
    }

    /// Compiles what compiles: for rules of one node and below, on a default of it.
    pub(super) fn of_node(schema: &Schema, path: &Path<'_>) -> Self {
        let is_resource = schema.embedded_resource;
        let place = Place { shape: None, is_resource, count: Some(1), uncorrelated: None };
        Self { root: Compiler::default().node(schema, path, &place) }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

/// Where a node stands.
struct Place<'a> {
    /// The shape, if one of a node above is known.
    shape: Option<Arc<Shape>>,
    is_resource: bool,
    /// How often the node may be there, if the schema limits that.
    count: Option<u64>,
    /// The list above in which old values are not known.
    uncorrelated: Option<&'a str>,
}

#[derive(Default)]
struct Compiler {
    causes: Vec<Cause>,
    cost: u64,
    expensive: Vec<(u64, String)>,
}

fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.iter().any(|(_, property)| has_rules(property))
        || schema.additional_properties.schema().is_some_and(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
}

impl Compiler {
    fn node(&mut self, schema: &Schema, path: &Path<'_>, place: &Place<'_>) -> Option<Node> {
        if !has_rules(schema) {
            return None;
        }
        let mut shape = place.shape.clone();
        if shape.is_none() && !schema.rules.is_empty() {
            shape = Some(Arc::new(Shape::new(schema, place.is_resource)));
        }
        let values = schema.additional_properties.schema().and_then(|below| {
            let place = below_place(schema, below, shape.as_deref(), place, place.uncorrelated);
            self.node(below, &path.child("additionalProperties"), &place)
        });
        let properties = self.properties(schema, path, shape.as_deref(), place);
        let items = schema.items.as_deref().and_then(|below| {
            let here = path.to_string();
            let is_keyed = schema.list_type == Some(ListType::Map);
            let uncorrelated =
                if is_keyed { place.uncorrelated } else { place.uncorrelated.or(Some(&here)) };
            let place = below_place(schema, below, shape.as_deref(), place, uncorrelated);
            self.node(below, &path.child("items"), &place)
        });
        let rules = match &shape {
            Some(shape) => self.rules(schema, path, place, shape),
            None => Box::default(),
        };
        let shape = shape.filter(|_| !rules.is_empty());
        let value_type = schema.value_type.clone();
        let (values, items) = (values.map(Box::new), items.map(Box::new));
        Some(Node { rules, shape, value_type, properties, values, items })
    }

    fn properties(
        &mut self,
        schema: &Schema,
        path: &Path<'_>,
        shape: Option<&Shape>,
        place: &Place<'_>,
    ) -> Box<[(Box<str>, Node)]> {
        let path = path.child("properties");
        let mut nodes = Vec::new();
        for (name, below) in schema.properties.iter() {
            let known = shape.and_then(|shape| shape.property(name));
            let below_place = Place {
                shape: known,
                is_resource: below.embedded_resource,
                count: place.count,
                uncorrelated: place.uncorrelated,
            };
            if let Some(node) = self.node(below, &path.key(name), &below_place) {
                nodes.push((name.into(), node));
            }
        }
        nodes.into()
    }

    fn rules(
        &mut self,
        schema: &Schema,
        path: &Path<'_>,
        place: &Place<'_>,
        shape: &Arc<Shape>,
    ) -> Box<[CompiledRule]> {
        let path = path.child("x-kubernetes-validations");
        if !shape.is_visible {
            let detail = "internal error: failed to construct type information for x-kubernetes-validations rules: \
                          unable to convert structural schema to CEL declarations";
            self.causes.push(Cause::internal(path.to_string(), detail));
            return Box::default();
        }
        // As often as values of this size fit into a request.
        let fitting = u64::try_from(REQUEST_BYTES_MAX / shape.bytes_min.saturating_add(1));
        let count = place.count.unwrap_or_else(|| fitting.unwrap_or_default());
        let rules = schema.rules.iter().enumerate();
        rules
            .filter(|(_, rule)| !rule.rule.trim().is_empty())
            .filter_map(|(at, rule)| {
                self.rule(schema, rule, &path.index(at), &Scope { shape, count, place })
            })
            .collect()
    }

    fn rule(
        &mut self,
        schema: &Schema,
        rule: &Rule,
        path: &Path<'_>,
        scope: &Scope<'_>,
    ) -> Option<CompiledRule> {
        let optional = rule.optional_old_self == Some(true);
        let place = path.child("rule");
        let compiled = expression::compile(&rule.rule, scope.shape, optional, &Type::Bool);
        let expression = match compiled {
            Ok(expression) => expression,
            Err(fault) => {
                let detail = match fault {
                    Fault::Compilation(text) => format!("compilation failed: {text}"),
                    Fault::Type => "cel expression must evaluate to a bool".to_owned(),
                    Fault::Instantiation(text) => format!("program instantiation failed: {text}"),
                };
                self.invalid(&place, rule, &detail);
                self.check_old_self(rule, path, scope, false);
                return None;
            }
        };
        self.count("estimated rule cost", &place, expression.cost_max.saturating_mul(scope.count));
        let message_expression = self.message_expression(rule, path, scope, optional);
        self.check_old_self(rule, path, scope, expression.uses_old_self);
        let message = rule.message.trim();
        let name = if message.is_empty() { rule.rule.trim() } else { message };
        let message =
            if message.is_empty() { format!("failed rule: {name}") } else { message.to_owned() };
        let field_path = field_path::resolve(&rule.field_path, schema, true);
        Some(CompiledRule {
            expression,
            optional_old_self: optional,
            name: name.into(),
            message: message.into(),
            message_expression,
            reason: reason(rule.reason.as_deref()),
            field_path: field_path.map(|found| found.path.into()).unwrap_or_default(),
        })
    }

    fn message_expression(
        &mut self,
        rule: &Rule,
        path: &Path<'_>,
        scope: &Scope<'_>,
        optional: bool,
    ) -> Option<(Expression, Box<str>)> {
        let text = &rule.message_expression;
        if text.is_empty() {
            return None;
        }
        let place = path.child("messageExpression");
        match expression::compile(text, scope.shape, optional, &Type::String) {
            Ok(expression) => {
                self.count("estimated messageExpression cost", &place, expression.cost_max);
                Some((expression, text.clone()))
            }
            Err(fault) => {
                let detail = match fault {
                    Fault::Compilation(text) => {
                        format!("messageExpression compilation failed: {text}")
                    }
                    Fault::Type => "messageExpression must evaluate to a string".to_owned(),
                    Fault::Instantiation(text) => {
                        format!("messageExpression instantiation failed: {text}")
                    }
                };
                self.invalid(&place, rule, &detail);
                None
            }
        }
    }

    fn check_old_self(&mut self, rule: &Rule, path: &Path<'_>, scope: &Scope<'_>, uses: bool) {
        match (uses, scope.place.uncorrelated, rule.optional_old_self) {
            (true, Some(within), _) => {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                );
                let place = path.child("rule").to_string();
                self.causes.push(shown(place, &go_text::quote(&rule.rule), &detail));
            }
            (false, _, Some(optional)) => {
                let detail = "may not be set if oldSelf is not used in rule";
                let place = path.child("optionalOldSelf").to_string();
                self.causes.push(Cause::invalid(place, optional, detail));
            }
            _ => {}
        }
    }

    fn invalid(&mut self, place: &Path<'_>, rule: &Rule, detail: &str) {
        self.causes.push(shown(place.to_string(), &GoRule(rule).to_string(), detail));
    }

    /// Counts the cost of a rule, and refuses one that is too high.
    fn count(&mut self, name: &str, place: &Path<'_>, cost: u64) {
        if cost > RULE_COST_MAX {
            let detail = exceeds(name, cost, RULE_COST_MAX);
            self.causes.push(Cause::forbidden(place.to_string(), &detail));
        }
        self.cost = self.cost.saturating_add(cost);
        if cost >= SCHEMA_COST_MAX / 100 {
            self.expensive.push((cost, place.to_string()));
            self.expensive.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
            self.expensive.truncate(NAMED_MAX);
        }
    }

    fn check_total(&mut self, path: &Path<'_>) {
        if self.cost <= SCHEMA_COST_MAX {
            return;
        }
        let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        for (_, place) in std::mem::take(&mut self.expensive) {
            self.causes.push(Cause::forbidden(place, detail));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let detail = exceeds(name, self.cost, SCHEMA_COST_MAX);
        self.causes.push(Cause::forbidden(path.to_string(), &detail));
    }
}

/// What all rules of a node have in common.
struct Scope<'a> {
    shape: &'a Arc<Shape>,
    count: u64,
    place: &'a Place<'a>,
}

/// The place of the elements of a list or the values of a map.
fn below_place<'a>(
    schema: &Schema,
    below: &Schema,
    shape: Option<&Shape>,
    place: &Place<'_>,
    uncorrelated: Option<&'a str>,
) -> Place<'a> {
    let limits = schema.validations();
    let most = match (&schema.value_type, &schema.additional_properties) {
        (JsonType::Array, _) => limits.max_items,
        (JsonType::Object, AdditionalProperties::Unset) => Some(1),
        (JsonType::Object, _) => limits.max_properties,
        _ => Some(1),
    };
    let most = most.map(|most| u64::try_from(most).unwrap_or_default());
    let count = place.count.zip(most).map(|(count, most)| count.saturating_mul(most));
    let shape = shape.and_then(Shape::element).cloned();
    Place { shape, is_resource: below.embedded_resource, count, uncorrelated }
}

fn reason(reason: Option<&str>) -> Reason {
    match reason {
        Some("FieldValueForbidden") => Reason::Forbidden,
        Some("FieldValueRequired") => Reason::Required,
        Some("FieldValueDuplicate") => Reason::Duplicate,
        _ => Reason::Invalid,
    }
}

/// `Invalid value: VALUE: DETAIL`, for a value that is no JSON.
fn shown(field: String, value: &str, detail: &str) -> Cause {
    let message = format!("Invalid value: {value}: {detail}");
    Cause { reason: "FieldValueInvalid", field, message }
}

fn exceeds(name: &str, cost: u64, limit: u64) -> String {
    let factor = super::numbers::to_double(cost.into()) / super::numbers::to_double(limit.into());
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as Go's `%#v` shows it.
struct GoRule<'a>(&'a Rule);

impl fmt::Display for GoRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.0;
        let reason = if rule.reason.is_some() { "0xc000000000" } else { "nil" };
        let optional = if rule.optional_old_self.is_some() { "0xc000000000" } else { "nil" };
        write!(
            f,
            "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, \
             Reason:(*apiextensions.FieldValueErrorReason)({reason}), FieldPath:{}, OptionalOldSelf:(*bool)({optional})}}",
            go_text::quote(&rule.rule),
            go_text::quote(&rule.message),
            go_text::quote(&rule.message_expression),
            go_text::quote(&rule.field_path),
        )
    }
}
