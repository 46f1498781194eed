//! Evaluates a [`Plan`], and counts what that costs as cel-go's `interpreter` does: at each step that it observes.

use super::{
    functions, numbers,
    plan::{Attribute, Base, By, Call, FoldPlan, PatternCall, Plan, Qualifier},
    runtime_cost::{self, LIST, MAP, SELECT},
    value::{
        Outcome, Val,
        compare::{self, Key},
        map, show,
    },
    work::{Failure, Work},
};

/// Evaluates a plan with the values of its variables. An outer variable that is `None` has no value.
pub(super) fn evaluate<'a>(
    plan: &'a Plan,
    variables: &[Option<Val<'a>>],
    work: &mut Work,
) -> Outcome<'a> {
    let slots = variables.iter().map(|value| match value {
        Some(value) => Slot::Value(Ok(value.clone())),
        None => Slot::Value(Err(Failure::error("no such attribute(s): oldSelf"))),
    });
    Evaluator { slots: slots.collect(), work }.plan(plan)
}

/// The value of a variable.
#[derive(Clone)]
enum Slot<'a> {
    Value(Outcome<'a>),
    /// The result of a loop before it is first asked for.
    Later(&'a Plan),
}

struct Evaluator<'a, 'w> {
    slots: Vec<Slot<'a>>,
    work: &'w mut Work,
}

impl<'a> Evaluator<'a, '_> {
    fn plan(&mut self, plan: &'a Plan) -> Outcome<'a> {
        match plan {
            Plan::Constant(value) => Ok(value.clone()),
            Plan::Attribute(attribute) => self.attribute(attribute),
            Plan::Logical(decisive, terms) => self.logical(*decisive, terms),
            Plan::Equality(is_equal, sides) => self.equality(*is_equal, sides),
            Plan::Call(call) => self.call(call),
            Plan::Pattern(call) => self.pattern(call),
            Plan::Member(value, set) => {
                let value = self.plan(value)?;
                Ok(Val::Bool(Key::numeric(&value).is_some_and(|key| set.contains(&key))))
            }
            Plan::Otherwise(is_value, sides) => self.otherwise(*is_value, sides),
            Plan::List(items) => self.list(items),
            Plan::Map(items) => self.map(items),
            Plan::Fold(fold) => self.fold(fold),
        }
    }

    fn charge(&mut self, cost: u64) -> Result<(), Failure> {
        self.work.charge(cost)
    }

    fn attribute(&mut self, attribute: &'a Attribute) -> Outcome<'a> {
        let value = self.resolve(attribute);
        let is_free = attribute.test || matches!(attribute.base, Base::Conditional(_));
        if !is_free {
            self.charge(SELECT)?;
        }
        value
    }

    /// The value of an attribute; only its steps cost something.
    fn resolve(&mut self, attribute: &'a Attribute) -> Outcome<'a> {
        let base = match &attribute.base {
            Base::Slot(slot) => self.slot(*slot)?,
            Base::Value(plan) => self.plan(plan)?,
            Base::Conditional(branches) => self.conditional(branches)?,
        };
        if attribute.qualifiers.is_empty() {
            return Ok(base);
        }
        let (mut value, mut is_optional) = match base {
            Val::Optional(None) => return Ok(Val::Optional(None)),
            Val::Optional(Some(value)) => ((*value).clone(), true),
            other => (other, false),
        };
        let last = attribute.qualifiers.len() - 1;
        for (at, qualifier) in attribute.qualifiers.iter().enumerate() {
            let is_test = attribute.test && at == last;
            is_optional |= qualifier.optional;
            let may_lack = is_optional || is_test;
            let found = self.qualify(&value, qualifier, may_lack);
            if is_test {
                self.charge(SELECT)?;
                return Ok(Val::Bool(found?.is_some()));
            }
            match found {
                Ok(Some(found)) => {
                    self.charge(SELECT)?;
                    value = found;
                }
                Ok(None) => return Ok(Val::Optional(None)),
                Err(failure) => {
                    self.charge(SELECT)?;
                    return Err(failure);
                }
            }
        }
        Ok(if is_optional { Val::some(value) } else { value })
    }

    fn slot(&mut self, slot: usize) -> Outcome<'a> {
        match &self.slots[slot] {
            Slot::Value(value) => value.clone(),
            Slot::Later(plan) => {
                let plan = *plan;
                // It was planned for the variables outside of the loop, and may use the places of those inside.
                let inside = self.slots.split_off(slot);
                let value = self.plan(plan);
                self.slots.truncate(slot);
                self.slots.extend(inside);
                self.slots[slot] = Slot::Value(value.clone());
                value
            }
        }
    }

    fn conditional(&mut self, branches: &'a (Plan, Attribute, Attribute)) -> Outcome<'a> {
        let (condition, one, other) = branches;
        match self.plan(condition)? {
            Val::Bool(true) => self.resolve(one),
            Val::Bool(false) => self.resolve(other),
            _ => Err(Failure::no_overload()),
        }
    }

    /// One step: none if the value is not there, which is an error unless it may lack.
    fn qualify(
        &mut self,
        value: &Val<'a>,
        qualifier: &'a Qualifier,
        may_lack: bool,
    ) -> Result<Option<Val<'a>>, Failure> {
        let key = match &qualifier.by {
            By::Field(escaped, name) => {
                if let Val::Map(map) = value {
                    let found = map.field(escaped, name.as_deref())?;
                    return match found {
                        None if !may_lack => Err(Failure::error(format!("no such key: {escaped}"))),
                        other => Ok(other),
                    };
                }
                Val::text(escaped.clone())
            }
            By::Constant(key) => key.clone(),
            By::Attribute(attribute) => self.resolve(attribute)?,
            By::Value(plan) => self.plan(plan)?,
        };
        self.index(value, &key, may_lack)
    }

    fn index(
        &mut self,
        value: &Val<'a>,
        key: &Val<'a>,
        may_lack: bool,
    ) -> Result<Option<Val<'a>>, Failure> {
        let found = match value {
            Val::Map(map) => map.find(key)?,
            Val::List(list) => match list_index(key, self.work)? {
                Some(index) => list.get(index).transpose()?,
                None => None,
            },
            _ if may_lack => return Ok(None),
            _ => None,
        };
        if found.is_some() || may_lack {
            return Ok(found);
        }
        let shown = show::show(key, self.work)?;
        Err(Failure::error(match value {
            Val::List(_) => format!("index out of bounds: {shown}"),
            _ => format!("no such key: {shown}"),
        }))
    }

    /// `&&` and `||`: an error counts only if the other side does not decide.
    fn logical(&mut self, decisive: bool, terms: &'a [Plan; 2]) -> Outcome<'a> {
        let mut failure = None;
        for term in terms {
            match self.plan(term) {
                Ok(Val::Bool(value)) if value == decisive => return Ok(Val::Bool(decisive)),
                Ok(Val::Bool(_)) => {}
                Ok(_) => failure = failure.or_else(|| Some(Failure::no_overload())),
                Err(Failure::Budget) => return Err(Failure::Budget),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Val::Bool(!decisive)), Err)
    }

    /// Both values, even if the first is an error: both are observed.
    fn both(&mut self, sides: &'a [Plan; 2]) -> Result<[Outcome<'a>; 2], Failure> {
        let one = self.plan(&sides[0]);
        if let Err(Failure::Budget) = one {
            return Err(Failure::Budget);
        }
        let other = self.plan(&sides[1]);
        if let Err(Failure::Budget) = other {
            return Err(Failure::Budget);
        }
        Ok([one, other])
    }

    fn equality(&mut self, is_equal: bool, sides: &'a [Plan; 2]) -> Outcome<'a> {
        match self.both(sides)? {
            [Ok(one), Ok(other)] => {
                self.charge(runtime_cost::equality(is_equal, &one, &other))?;
                let same = compare::equal(&one, &other, self.work);
                match same {
                    Ok(same) => Ok(Val::Bool(same == is_equal)),
                    // What cannot be compared is not equal.
                    Err(Failure::Error(_)) if !is_equal => Ok(Val::Bool(true)),
                    Err(failure) => Err(failure),
                }
            }
            [Err(failure), _] | [_, Err(failure)] => {
                self.charge(1)?;
                Err(failure)
            }
        }
    }

    fn call(&mut self, call: &'a Call) -> Outcome<'a> {
        if let Some(slot) = call.accumulates {
            return self.accumulate(call, slot);
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        let mut failure = None;
        for plan in &call.arguments {
            match self.plan(plan) {
                Ok(value) => arguments.push(value),
                Err(Failure::Budget) => return Err(Failure::Budget),
                // The only function that takes errors.
                Err(_) if call.is_lenient => arguments.push(Val::Bool(true)),
                Err(error) => {
                    failure = failure.or(Some(error));
                    if call.arguments.len() > 2 {
                        break;
                    }
                }
            }
        }
        if let Some(failure) = failure {
            if call.arguments.len() <= 2 {
                self.charge(1)?;
            }
            return Err(failure);
        }
        self.apply(call, &arguments)
    }

    fn apply(&mut self, call: &Call, arguments: &[Val<'a>]) -> Outcome<'a> {
        let cost = call.charge.before(arguments, self.work)?;
        if let Some(cost) = cost {
            self.charge(cost)?;
        }
        let result = (call.function)(self.work, arguments);
        if let Err(Failure::Budget) = result {
            return result;
        }
        if cost.is_none() {
            self.charge(call.charge.after(result.as_ref().ok()))?;
        }
        result
    }

    /// A step of a loop that makes its result larger: in place, since nobody else has it.
    fn accumulate(&mut self, call: &'a Call, slot: usize) -> Outcome<'a> {
        let so_far = self.slot(slot);
        self.charge(SELECT)?;
        let mut more = Vec::new();
        for plan in &call.arguments[1..] {
            more.push(self.plan(plan));
        }
        if more.iter().any(|value| matches!(value, Err(Failure::Budget))) {
            return Err(Failure::Budget);
        }
        self.charge(1)?;
        let so_far = so_far?;
        let more: Result<Vec<Val<'a>>, Failure> = more.into_iter().collect();
        let more = more?;
        match (so_far, &more[..]) {
            (Val::List(list), [Val::List(added)]) if added.len() == 1 => {
                // The loop takes the result of the step anyway; without its own copy, the list is changed in place.
                self.slots[slot] = Slot::Value(Ok(Val::Null));
                let item = added.get(0).ok_or_else(Failure::no_overload)??;
                Ok(Val::List(list.push(item)))
            }
            (Val::Map(map), [key, value]) => {
                self.slots[slot] = Slot::Value(Ok(Val::Null));
                map.insert(key.clone(), value.clone(), self.work).map(Val::Map)
            }
            (so_far, _) => {
                let mut arguments = vec![so_far];
                arguments.extend(more);
                (call.function)(self.work, &arguments)
            }
        }
    }

    fn pattern(&mut self, call: &'a PatternCall) -> Outcome<'a> {
        let text = self.plan(&call.text);
        if let Err(Failure::Budget) = text {
            return text;
        }
        let count = call.count.as_ref().map(|count| self.plan(count)).transpose()?;
        let Ok(text) = text else {
            self.charge(1)?;
            return text;
        };
        let pattern = Val::text(call.pattern.text());
        let arguments = [text, pattern];
        if let Some(cost) = call.charge.before(&arguments, self.work)? {
            self.charge(cost)?;
        }
        let regex = call.pattern.regex().map_err(Failure::error)?;
        functions::apply_pattern(self.work, call.kind, regex, &arguments[0], count.as_ref())
    }

    fn otherwise(&mut self, is_value: bool, sides: &'a [Plan; 2]) -> Outcome<'a> {
        match self.plan(&sides[0])? {
            Val::Optional(Some(value)) if is_value => Ok((*value).clone()),
            Val::Optional(Some(value)) => Ok(Val::Optional(Some(value))),
            Val::Optional(None) => self.plan(&sides[1]),
            _ => Err(Failure::no_overload()),
        }
    }

    /// The value of an element that may be left out; none if it is.
    fn element(&mut self, plan: &'a Plan, optional: bool) -> Result<Option<Val<'a>>, Failure> {
        match (self.plan(plan)?, optional) {
            (value, false) => Ok(Some(value)),
            (Val::Optional(value), true) => Ok(value.map(|value| (*value).clone())),
            (value, true) => {
                let shown = show::show(&value, self.work)?;
                Err(Failure::error(format!(
                    "cannot initialize optional list element from non-optional value {shown}"
                )))
            }
        }
    }

    fn list(&mut self, items: &'a [(Plan, bool)]) -> Outcome<'a> {
        let list = self.elements(items);
        self.charge(LIST)?;
        list.map(Val::list)
    }

    fn elements(&mut self, items: &'a [(Plan, bool)]) -> Result<Vec<Val<'a>>, Failure> {
        let mut list = Vec::with_capacity(items.len());
        for (plan, optional) in items {
            list.extend(self.element(plan, *optional)?);
        }
        Ok(list)
    }

    fn map(&mut self, items: &'a [(Plan, Plan, bool)]) -> Outcome<'a> {
        let entries = self.entries(items);
        self.charge(MAP)?;
        entries.map(|entries| Val::Map(map::Map::of(entries)))
    }

    fn entries(&mut self, items: &'a [(Plan, Plan, bool)]) -> Result<map::Entries<'a>, Failure> {
        let mut entries = map::Entries::default();
        for (key, value, optional) in items {
            let key = self.plan(key)?;
            if let Some(value) = self.element(value, *optional)? {
                entries.set(key, value)?;
            }
        }
        Ok(entries)
    }

    fn fold(&mut self, fold: &'a FoldPlan) -> Outcome<'a> {
        let range = self.plan(&fold.range)?;
        self.slots.truncate(fold.slot);
        self.slots.push(Slot::Later(&fold.init));
        let looped = self.each(fold, &range);
        self.slots.truncate(fold.slot + 1);
        let result = looped.and_then(|()| self.plan(&fold.result));
        self.slots.truncate(fold.slot);
        result
    }

    fn each(&mut self, fold: &'a FoldPlan, range: &Val<'a>) -> Result<(), Failure> {
        match range {
            Val::List(list) => {
                for (index, item) in (0_i64..).zip(list.iter()) {
                    let variables = if fold.has_two_variables {
                        [Ok(Val::Int(index)), item]
                    } else {
                        [item, Ok(Val::Null)]
                    };
                    if !self.step(fold, variables)? {
                        break;
                    }
                }
            }
            Val::Map(map) => {
                for key in map.keys() {
                    let value = if fold.has_two_variables {
                        map.find(&key).map(|value| value.unwrap_or(Val::Null))
                    } else {
                        Ok(Val::Null)
                    };
                    if !self.step(fold, [Ok(key), value])? {
                        break;
                    }
                }
            }
            _ => {
                let name = range.type_name();
                return Err(Failure::error(format!("got '{name}', expected iterable type")));
            }
        }
        Ok(())
    }

    /// One round of a loop: whether there may be more. An error is a result like any other, and may be absorbed by the
    /// rounds that follow.
    fn step(&mut self, fold: &'a FoldPlan, variables: [Outcome<'a>; 2]) -> Result<bool, Failure> {
        self.work.steps(1)?;
        self.slots.truncate(fold.slot + 1);
        let count = if fold.has_two_variables { 2 } else { 1 };
        self.slots.extend(variables.into_iter().take(count).map(Slot::Value));
        match self.plan(&fold.condition) {
            Ok(Val::Bool(false)) => return Ok(false),
            Err(Failure::Budget) => return Err(Failure::Budget),
            _ => {}
        }
        let value = self.plan(&fold.step);
        if let Err(Failure::Budget) = value {
            return Err(Failure::Budget);
        }
        self.slots[fold.slot] = Slot::Value(value);
        Ok(true)
    }
}

/// The index that a number says; none if no list has it.
fn list_index(key: &Val<'_>, work: &mut Work) -> Result<Option<u64>, Failure> {
    let index = match key {
        Val::Int(index) => Some(i128::from(*index)),
        Val::Uint(index) => Some(i128::from(*index)),
        Val::Double(index) => numbers::whole(*index),
        _ => {
            let name = key.type_name();
            return Err(Failure::error(format!("unsupported index type '{name}' in list")));
        }
    };
    let Some(index) = index else {
        let shown = show::show(key, work)?;
        return Err(Failure::error(format!("unsupported index value {shown} in list")));
    };
    Ok(u64::try_from(index).ok())
}
