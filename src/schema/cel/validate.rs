//! Evaluates the rules of a schema on an object, in the order and with the messages of kube-apiserver.

use serde_json::{Map, Value};

use super::{
    compile::{Compiled, CompiledRule, Node, Reason},
    eval,
    value::{Val, json},
    work::{Failure, Work},
};
use crate::{
    model::Cause,
    schema::{
        correlate::Old,
        path::Path,
        structural::{ListType, Schema},
    },
};

/// Most that one evaluation of a rule may cost.
const CALL_COST_MAX: u64 = 1_000_000;
/// Most that all rules may cost on one object.
const OBJECT_COST_MAX: u64 = 10_000_000;
/// Most bytes of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// What rules say against an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why it is refused.
    pub causes: Vec<Cause>,
    /// What would refuse it, if the value had not been the same before: texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl Compiled {
    /// Evaluates all rules on an object that has the form that the schema says. `old` is the object before an update.
    /// `schema` is the one that was compiled, and `path` that of the object, empty for a whole one.
    pub fn validate(
        &self,
        schema: &Schema,
        new: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
    ) -> Findings {
        let Some(root) = &self.root else { return Findings::default() };
        let work = Work::new(CALL_COST_MAX);
        let mut validator =
            Validator { budget: OBJECT_COST_MAX, work, findings: Findings::default() };
        let correlated = old.map(|value| Old { value, schema });
        let ratchet = Ratchet { current: correlated, nearest: None };
        let at = At { schema, new, old, ratchet };
        // When the budget is spent, that has been told.
        let _stopped = validator.node(root, at, path);
        validator.findings
    }

    /// Evaluates the rules of a node and below on a default of it; for
    /// [`Context::rules`](crate::schema::check::Context::rules). Rules that do not compile are told elsewhere.
    pub fn validate_default(schema: &Schema, default: &Value, path: &Path<'_>) -> Vec<Cause> {
        Self::of_node(schema, path).validate(schema, default, None, path).causes
    }
}

/// No further rule is evaluated.
struct Stop;

/// A value, and what belongs to it.
#[derive(Clone, Copy)]
struct At<'a> {
    schema: &'a Schema,
    new: &'a Value,
    /// What rules see as `oldSelf`.
    old: Option<&'a Value>,
    ratchet: Ratchet<'a>,
}

/// What was there before, for rules that do not fail newly.
#[derive(Clone, Copy)]
struct Ratchet<'a> {
    /// The old value.
    current: Option<Old<'a>>,
    /// If there is none, that of the nearest value above, and the new one there.
    nearest: Option<(Old<'a>, &'a Value)>,
}

impl<'a> Ratchet<'a> {
    fn is_unchanged(self, new: &Value) -> bool {
        match (self.current, self.nearest) {
            (Some(old), _) => old.is_same(new),
            (None, Some((old, new))) => old.is_same(new),
            (None, None) => false,
        }
    }

    /// What was there before a value below `new`.
    fn below(self, new: &'a Value, old: impl FnOnce(Old<'a>) -> Option<Old<'a>>) -> Self {
        match self.current {
            None => self,
            Some(current) => Self { current: old(current), nearest: Some((current, new)) },
        }
    }

    fn field(self, name: &str, new: &'a Value) -> Self {
        // An update may change the version, in which both are seen.
        if self.nearest.is_none() && matches!(name, "apiVersion" | "kind") && self.current.is_some()
        {
            return Self { current: None, nearest: None };
        }
        self.below(new, |old| old.field(name))
    }
}

struct Validator {
    budget: u64,
    work: Work,
    findings: Findings,
}

impl Validator {
    fn node<'a>(&mut self, node: &'a Node, at: At<'a>, path: &Path<'_>) -> Result<(), Stop> {
        if at.new.is_null() {
            return Ok(());
        }
        let at = At { old: at.old.filter(|old| !old.is_null()), ..at };
        if !node.rules.is_empty() {
            self.rules(node, at, path)?;
        }
        match at.new {
            Value::Array(list) => self.items(node, list, at, path),
            Value::Object(fields) => self.fields(node, fields, at, path),
            _ => Ok(()),
        }
    }

    fn items<'a>(
        &mut self,
        node: &'a Node,
        list: &'a [Value],
        at: At<'a>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let At { schema, new, old, ratchet } = at;
        let (Some(node), Some(schema_below)) = (&node.items, schema.items.as_deref()) else {
            return Ok(());
        };
        let is_keyed = schema.list_type == Some(ListType::Map);
        let before = old.filter(|_| is_keyed).map(|value| Old { value, schema });
        let before = before.and_then(|before| before.items(list));
        let ratcheted = ratchet.current.and_then(|current| current.items(list));
        for (index, item) in list.iter().enumerate() {
            let old = before.as_ref().and_then(|before| before.at(index)).map(|old| old.value);
            let ratchet =
                ratchet.below(new, |_| ratcheted.as_ref().and_then(|items| items.at(index)));
            let at = At { schema: schema_below, new: item, old, ratchet };
            self.node(node, at, &path.index(index))?;
        }
        Ok(())
    }

    fn fields<'a>(
        &mut self,
        node: &'a Node,
        fields: &'a Map<String, Value>,
        at: At<'a>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let before = at.old.and_then(Value::as_object);
        let below = |name: &str, schema: &'a Schema, new: &'a Value| At {
            schema,
            new,
            old: before.and_then(|before| before.get(name)),
            ratchet: at.ratchet.field(name, at.new),
        };
        if let Some((node, schema)) =
            node.values.as_deref().zip(at.schema.additional_properties.schema())
        {
            for (name, value) in fields {
                self.node(node, below(name, schema, value), &path.key(name))?;
            }
        }
        for (name, node) in &node.properties {
            let found = fields.get(&**name).zip(at.schema.properties.find(name));
            if let Some((value, schema)) = found {
                self.node(node, below(name, schema, value), &path.child(name))?;
            }
        }
        Ok(())
    }

    fn rules<'a>(&mut self, node: &'a Node, at: At<'a>, path: &Path<'_>) -> Result<(), Stop> {
        let At { new, old, ratchet, .. } = at;
        let place = Place { node, path, new };
        if self.budget == 0 {
            return self.out_of_budget(&place);
        }
        let Some(shape) = &node.shape else { return Ok(()) };
        let uses_old = node.rules.iter().any(|rule| rule.expression.uses_old_self);
        let this = json::typed(new, shape);
        let before = old.filter(|_| uses_old).map(|old| json::typed(old, shape));
        let invalid = |failure: Failure| failure.message().to_owned();
        let this = match this.map_err(invalid) {
            Ok(this) => this,
            Err(text) => {
                self.findings.causes.push(place.typed(&text));
                return Ok(());
            }
        };
        let before = before.and_then(Result::ok);
        for rule in &node.rules {
            if rule.expression.uses_old_self && old.is_none() && !rule.optional_old_self {
                continue;
            }
            let before = if rule.optional_old_self {
                Some(before.clone().map_or(Val::Optional(None), Val::some))
            } else {
                before.clone()
            };
            self.rule(rule, &place, &[Some(this.clone()), before], ratchet)?;
        }
        Ok(())
    }

    fn rule<'a>(
        &mut self,
        rule: &'a CompiledRule,
        place: &Place<'_>,
        variables: &[Option<Val<'a>>],
        ratchet: Ratchet<'a>,
    ) -> Result<(), Stop> {
        self.work.restart(CALL_COST_MAX);
        let result = eval::evaluate(&rule.expression.plan, variables, &mut self.work);
        match self.budget.checked_sub(self.work.cost()) {
            Some(left) => self.budget = left,
            None => return self.out_of_budget(place),
        }
        let name = &rule.name;
        match result {
            Ok(Val::Bool(true)) => Ok(()),
            Ok(_) => self.broken(rule, place, variables, ratchet),
            Err(Failure::Budget) => {
                let text = Failure::Budget;
                let text = text.message();
                self.findings.causes.push(place.typed(&format!(
                    "'{text}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                )));
                Err(Stop)
            }
            Err(Failure::Error(text)) => {
                let detail = if text.starts_with("no such overload") {
                    format!(
                        "'{text}': call arguments did not match a supported operator, function or macro signature for \
                         rule: {name}"
                    )
                } else {
                    format!("{text} evaluating rule: {name}")
                };
                self.findings.causes.push(place.typed(&detail));
                Ok(())
            }
        }
    }

    fn out_of_budget(&mut self, place: &Place<'_>) -> Result<(), Stop> {
        self.findings.causes.push(place.typed(
            "validation failed due to running out of cost budget, no further validation rules will be run",
        ));
        Err(Stop)
    }

    /// A rule that does not hold.
    fn broken<'a>(
        &mut self,
        rule: &'a CompiledRule,
        place: &Place<'_>,
        variables: &[Option<Val<'a>>],
        ratchet: Ratchet<'a>,
    ) -> Result<(), Stop> {
        let field = place.field(&rule.field_path);
        let is_old = !rule.expression.uses_old_self && ratchet.is_unchanged(place.new);
        let mut detail = None;
        if let Some((expression, text)) = &rule.message_expression {
            self.work.restart(CALL_COST_MAX);
            let result = eval::evaluate(&expression.plan, variables, &mut self.work);
            let fault = match (self.budget.checked_sub(self.work.cost()), &result) {
                (None, _) => Some(
                    "messageExpression evaluation failed due to running out of cost budget, no further validation \
                     rules will be run"
                        .to_owned(),
                ),
                (Some(_), Err(Failure::Budget)) => Some(format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: \
                     {text:?}"
                )),
                (Some(left), _) => {
                    self.budget = left;
                    None
                }
            };
            if let Some(fault) = fault {
                self.add(is_old, place.typed_at(field, &fault));
                return Err(Stop);
            }
            detail = result.ok().and_then(|value| message(&value));
        }
        let detail = detail.unwrap_or_else(|| (*rule.message).to_owned());
        self.add(is_old, place.cause(rule.reason, field, &detail));
        Ok(())
    }

    fn add(&mut self, is_old: bool, cause: Cause) {
        if is_old {
            self.findings.warnings.push(format!("{}: {}", cause.field, cause.message));
        } else {
            self.findings.causes.push(cause);
        }
    }
}

/// The message that an expression made, unless it is too long, empty or more than one line.
fn message(value: &Val<'_>) -> Option<String> {
    let Val::Text(text) = value else { return None };
    let text = text.trim();
    let fits = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
    fits.then(|| text.to_owned())
}

/// A value that has rules.
struct Place<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    new: &'a Value,
}

impl Place<'_> {
    /// The field that a cause names; `below` is a path below the value.
    fn field(&self, below: &str) -> String {
        let here = self.path.to_string();
        match (here.is_empty(), below.is_empty()) {
            (true, true) => "<nil>".to_owned(),
            (true, false) => below.to_owned(),
            (false, true) => here,
            (false, false) => format!("{here}.{below}"),
        }
    }

    /// A failure to evaluate a rule: the type stands for the value.
    fn typed(&self, detail: &str) -> Cause {
        self.typed_at(self.field(""), detail)
    }

    fn typed_at(&self, field: String, detail: &str) -> Cause {
        Cause::invalid(field, self.node.value_type.name(), detail)
    }

    fn cause(&self, reason: Reason, field: String, detail: &str) -> Cause {
        // Objects and lists are not shown.
        let is_shown = !matches!(self.new, Value::Object(_) | Value::Array(_));
        match reason {
            Reason::Forbidden => Cause::forbidden(field, detail),
            Reason::Required => Cause::required(field, detail),
            Reason::Duplicate if is_shown => Cause::duplicate(field, self.new.clone()),
            Reason::Duplicate => {
                let message = "Duplicate value".to_owned();
                Cause { reason: "FieldValueDuplicate", field, message }
            }
            Reason::Invalid if is_shown => Cause::invalid(field, self.new.clone(), detail),
            Reason::Invalid => Cause::broken(field, detail),
        }
    }
}
