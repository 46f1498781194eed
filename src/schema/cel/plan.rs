//! [`Plan`]: a checked expression made ready to be evaluated. It has the parts that cel-go's planner makes, since their
//! costs are what Kubernetes counts: chains of fields are one attribute, constants are computed ahead and are free.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    ast::{Expression, Fold, Id, Literal},
    checker::{Checked, Reference},
    escape::unescape,
    functions::{self, Native, PatternKind},
    runtime_cost::Charge,
    value::{Val, compare::Key, map},
    work::{Failure, Work},
};
use crate::schema::pattern::Pattern;

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) enum Plan {
    /// Costs nothing.
    Constant(Val<'static>),
    Attribute(Attribute),
    /// `_&&_` if the word is false, `_||_` if it is true: the value that decides alone.
    Logical(bool, Box<[Self; 2]>),
    /// `==` if the word is true, else `!=`.
    Equality(bool, Box<[Self; 2]>),
    Call(Box<Call>),
    /// `matches`, `find` or `findAll` with a pattern that is known.
    Pattern(Box<PatternCall>),
    /// `value in [constants]`, free.
    Member(Box<Self>, BTreeSet<Key>),
    /// `or`, or `orValue` if the word is true.
    Otherwise(bool, Box<[Self; 2]>),
    /// Elements; the word says whether each is left out if it has no value.
    List(Vec<(Self, bool)>),
    Map(Vec<(Self, Self, bool)>),
    Fold(Box<FoldPlan>),
}

/// A variable or another value, and the chain of fields and indices after it.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) base: Base,
    pub(super) qualifiers: Vec<Qualifier>,
    /// `has(...)`: whether the last field is there.
    pub(super) test: bool,
}

/// Where an attribute starts.
#[derive(Debug)]
pub(super) enum Base {
    /// A variable, by its place.
    Slot(usize),
    Value(Box<Plan>),
    /// `condition ? one : other`.
    Conditional(Box<(Plan, Attribute, Attribute)>),
}

/// One step of an attribute.
#[derive(Debug)]
pub(super) struct Qualifier {
    pub(super) by: By,
    /// `.?` or `[?]`.
    pub(super) optional: bool,
}

/// What a step goes by.
#[derive(Debug)]
pub(super) enum By {
    /// A field: its name in the expression and in JSON.
    Field(Arc<str>, Option<Box<str>>),
    Constant(Val<'static>),
    /// The index is an attribute, of which only the steps cost something.
    Attribute(Attribute),
    Value(Plan),
}

/// A call of a function.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: Native,
    pub(super) charge: Charge,
    pub(super) arguments: Vec<Plan>,
    /// The call adds to the result of a loop, which may be changed in place: the loop's place for it.
    pub(super) accumulates: Option<usize>,
    /// An error is an argument like any other.
    pub(super) is_lenient: bool,
}

/// A call with a pattern.
#[derive(Debug)]
pub(super) struct PatternCall {
    pub(super) kind: PatternKind,
    pub(super) pattern: Pattern,
    pub(super) charge: Charge,
    pub(super) text: Plan,
    pub(super) count: Option<Plan>,
}

/// A loop.
#[derive(Debug)]
pub(super) struct FoldPlan {
    pub(super) range: Plan,
    pub(super) init: Plan,
    pub(super) condition: Plan,
    pub(super) step: Plan,
    pub(super) result: Plan,
    pub(super) has_two_variables: bool,
    /// The place of the result; those of the variables follow.
    pub(super) slot: usize,
}

/// Makes a plan. `variables` are those that the caller gives, in their order.
///
/// # Errors
/// A constant part that cannot be computed.
pub(super) fn plan(checked: &Checked, variables: &[&str]) -> Result<Plan, Failure> {
    let scopes = variables.iter().map(|name| Arc::from(*name)).collect();
    Planner { checked, scopes }.plan(checked.root)
}

struct Planner<'a> {
    checked: &'a Checked,
    scopes: Vec<Arc<str>>,
}

type Planned<T> = Result<T, Failure>;

impl Planner<'_> {
    fn plan(&mut self, id: Id) -> Planned<Plan> {
        let checked = self.checked;
        match checked.reference(id) {
            Reference::Variable(name) => return self.variable(name),
            Reference::Type(name) => return Ok(Plan::Constant(Val::Type(name))),
            Reference::None | Reference::Function { .. } => {}
        }
        match checked.ast.get(id) {
            Expression::Literal(literal) => Ok(Plan::Constant(constant(literal))),
            Expression::Select { operand, field, test } => {
                self.select(*operand, field, *test, false)
            }
            Expression::Call { target, arguments, .. } => self.call(id, *target, arguments),
            Expression::List(elements) => {
                let mut items = Vec::new();
                for element in elements {
                    items.push((self.plan(element.value)?, element.optional));
                }
                list(items)
            }
            Expression::Map(entries) => {
                let mut items = Vec::new();
                for entry in entries {
                    let key = self.plan(entry.key)?;
                    items.push((key, self.plan(entry.value)?, entry.optional));
                }
                map_plan(items)
            }
            Expression::Fold(fold) => self.fold(fold),
            // The check refuses both.
            Expression::Identifier(name) | Expression::Struct { name, .. } => {
                Err(Failure::error(format!("undeclared reference to '{name}'")))
            }
        }
    }

    fn variable(&self, name: &str) -> Planned<Plan> {
        let slot = self.scopes.iter().rposition(|known| **known == *name);
        let slot = slot.ok_or_else(|| Failure::error(format!("no such attribute(s): {name}")))?;
        let base = Base::Slot(slot);
        Ok(Plan::Attribute(Attribute { base, qualifiers: Vec::new(), test: false }))
    }

    fn attribute(&mut self, id: Id) -> Planned<Attribute> {
        Ok(attribute_of(self.plan(id)?))
    }

    fn select(
        &mut self,
        operand: Id,
        field: &Arc<str>,
        test: bool,
        optional: bool,
    ) -> Planned<Plan> {
        let mut attribute = self.attribute(operand)?;
        let by = By::Field(field.clone(), unescape(field));
        attribute.qualifiers.push(Qualifier { by, optional });
        attribute.test = test;
        Ok(Plan::Attribute(attribute))
    }

    fn index(&mut self, operand: Id, index: Id, optional: bool) -> Planned<Plan> {
        let mut attribute = self.attribute(operand)?;
        let by = match self.plan(index)? {
            Plan::Constant(Val::Text(text)) => {
                let text: Arc<str> = Arc::from(&*text);
                By::Field(text.clone(), unescape(&text))
            }
            Plan::Constant(value) => By::Constant(value),
            Plan::Attribute(attribute) => By::Attribute(attribute),
            other => By::Value(other),
        };
        attribute.qualifiers.push(Qualifier { by, optional });
        Ok(Plan::Attribute(attribute))
    }

    fn call(&mut self, id: Id, target: Option<Id>, arguments: &[Id]) -> Planned<Plan> {
        let Reference::Function { name, is_method, overloads } = self.checked.reference(id) else {
            return Err(Failure::no_overload());
        };
        match (*name, arguments) {
            ("_?._", [operand, field]) => {
                let field = self.checked.ast.string(*field).cloned().unwrap_or_default();
                return self.select(*operand, &field, false, true);
            }
            ("_[_]", [operand, index]) => return self.index(*operand, *index, false),
            ("_[?_]", [operand, index]) => return self.index(*operand, *index, true),
            ("_?_:_", [condition, one, other]) => {
                let condition = self.plan(*condition)?;
                let branches = (condition, self.attribute(*one)?, self.attribute(*other)?);
                let base = Base::Conditional(Box::new(branches));
                let qualifiers = Vec::new();
                return Ok(Plan::Attribute(Attribute { base, qualifiers, test: false }));
            }
            _ => {}
        }
        let target = target.filter(|_| *is_method);
        let mut planned = Vec::new();
        for argument in target.iter().chain(arguments) {
            planned.push(self.plan(*argument)?);
        }
        // A call that several overloads fit costs what a call of none of them costs.
        let overload = if let [one] = overloads[..] { one } else { "" };
        self.planned_call(name, overload, planned)
    }

    fn planned_call(
        &self,
        name: &'static str,
        overload: &'static str,
        arguments: Vec<Plan>,
    ) -> Planned<Plan> {
        let arguments = match <[Plan; 2]>::try_from(arguments) {
            Ok(pair) => match (name, pair) {
                ("_&&_", pair) => return Ok(Plan::Logical(false, Box::new(pair))),
                ("_||_", pair) => return Ok(Plan::Logical(true, Box::new(pair))),
                ("_==_", pair) => return Ok(Plan::Equality(true, Box::new(pair))),
                ("_!=_", pair) => return Ok(Plan::Equality(false, Box::new(pair))),
                ("or", pair) => return Ok(Plan::Otherwise(false, Box::new(pair))),
                ("orValue", pair) => return Ok(Plan::Otherwise(true, Box::new(pair))),
                ("@in", [value, Plan::Constant(list)]) if overload == "in_list" => {
                    match members(&list) {
                        Some(set) if set.is_empty() => {
                            return Ok(Plan::Constant(Val::Bool(false)));
                        }
                        Some(set) => return Ok(Plan::Member(Box::new(value), set)),
                        None => vec![value, Plan::Constant(list)],
                    }
                }
                (_, pair) => pair.into(),
            },
            Err(arguments) => arguments,
        };
        let charge = Charge::of(name, overload);
        let arguments = match pattern_call(name, charge, arguments)? {
            Ok(call) => return Ok(Plan::Pattern(Box::new(call))),
            Err(arguments) => arguments,
        };
        let function = functions::find(name, overload).ok_or_else(Failure::no_overload)?;
        if functions::is_conversion(name)
            && let [Plan::Constant(value)] = &arguments[..]
        {
            let mut work = Work::new(u64::MAX);
            return function(&mut work, std::slice::from_ref(value)).map(Plan::Constant);
        }
        let accumulates = match (name, arguments.first()) {
            ("_+_" | "cel.@mapInsert", Some(Plan::Attribute(first))) => self.accumulator(first),
            _ => None,
        };
        let is_lenient = name == "@not_strictly_false";
        Ok(Plan::Call(Box::new(Call { function, charge, arguments, accumulates, is_lenient })))
    }

    /// The place of the loop's result, if that is all that the attribute is.
    fn accumulator(&self, attribute: &Attribute) -> Option<usize> {
        match attribute.base {
            Base::Slot(slot)
                if attribute.qualifiers.is_empty() && *self.scopes[slot] == *super::ast::RESULT =>
            {
                Some(slot)
            }
            _ => None,
        }
    }

    fn fold(&mut self, fold: &Fold) -> Planned<Plan> {
        let init = self.plan(fold.init)?;
        let range = self.plan(fold.range)?;
        let slot = self.scopes.len();
        self.scopes.push(fold.accumulator.clone());
        self.scopes.push(fold.variable.clone());
        self.scopes.extend(fold.second.clone());
        let condition = self.plan(fold.condition)?;
        let step = self.plan(fold.step)?;
        self.scopes.truncate(slot + 1);
        let result = self.plan(fold.result)?;
        self.scopes.truncate(slot);
        let has_two_variables = fold.second.is_some();
        let fold = FoldPlan { range, init, condition, step, result, has_two_variables, slot };
        Ok(Plan::Fold(Box::new(fold)))
    }
}

/// The plan as the start of a chain.
fn attribute_of(plan: Plan) -> Attribute {
    match plan {
        Plan::Attribute(attribute) if !attribute.test => attribute,
        other => {
            let base = Base::Value(Box::new(other));
            Attribute { base, qualifiers: Vec::new(), test: false }
        }
    }
}

fn constant(literal: &Literal) -> Val<'static> {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(value) => Val::Bool(*value),
        Literal::Int(value) => Val::Int(*value),
        Literal::Uint(value) => Val::Uint(*value),
        Literal::Double(value) => Val::Double(*value),
        Literal::String(text) => Val::text(text.clone()),
        Literal::Bytes(bytes) => Val::Bytes(bytes.clone()),
    }
}

/// A list of constants is one.
fn list(items: Vec<(Plan, bool)>) -> Planned<Plan> {
    let constants: Option<Vec<Val<'static>>> = items
        .iter()
        .map(|(item, optional)| match item {
            Plan::Constant(value) if !optional => Some(value.clone()),
            _ => None,
        })
        .collect();
    Ok(constants.map_or(Plan::List(items), |items| Plan::Constant(Val::list(items))))
}

fn map_plan(items: Vec<(Plan, Plan, bool)>) -> Planned<Plan> {
    let mut entries = map::Entries::default();
    for item in &items {
        let (Plan::Constant(key), Plan::Constant(value), false) = item else {
            return Ok(Plan::Map(items));
        };
        entries.set(key.clone(), value.clone())?;
    }
    Ok(Plan::Constant(Val::Map(map::Map::of(entries))))
}

/// The constants of a list as a set; none if one of them cannot be found in it.
fn members(list: &Val<'static>) -> Option<BTreeSet<Key>> {
    let Val::List(list) = list else { return None };
    list.iter()
        .map(|item| match item.ok()? {
            Val::Bytes(_) => None,
            item @ (Val::Null
            | Val::Bool(_)
            | Val::Int(_)
            | Val::Uint(_)
            | Val::Double(_)
            | Val::Text(_)) => Key::numeric(&item),
            _ => None,
        })
        .collect()
}

/// A call whose pattern is a constant, which is compiled here; the arguments themselves for all others.
fn pattern_call(
    name: &str,
    charge: Charge,
    arguments: Vec<Plan>,
) -> Planned<Result<PatternCall, Vec<Plan>>> {
    let kind = match name {
        "matches" => PatternKind::Matches,
        "find" => PatternKind::Find,
        "findAll" => PatternKind::FindAll,
        _ => return Ok(Err(arguments)),
    };
    let Some(Plan::Constant(Val::Text(text))) = arguments.get(1) else { return Ok(Err(arguments)) };
    let pattern = Pattern::new(text);
    pattern.regex().map_err(Failure::error)?;
    let mut arguments = arguments.into_iter();
    let Some(text) = arguments.next() else { return Err(Failure::no_overload()) };
    let count = arguments.nth(1);
    Ok(Ok(PatternCall { kind, pattern, charge, text, count }))
}
