//! Macros: calls that the parser replaces by other expressions (`has`, `all`, `map`, `optMap`, `sortBy`, ...), those of
//! CEL, of its two-variable comprehensions and of its optional types.

use std::sync::Arc;

use super::{
    ast::{Element, Expression, Fold, Id, Literal, RESULT},
    parser::{Parser, Read},
    source::Offset,
};

/// The older name of [`RESULT`], which no variable may have.
const RESULT_ONCE: &str = "__result__";
const SORTED: &str = "@__sortBy_input__";
const UNUSED: &str = "#unused";

/// `name(arguments)`.
pub(super) fn function(
    parser: &mut Parser,
    at: Offset,
    name: &str,
    arguments: Vec<Id>,
) -> Read<Id> {
    if name != "has" || arguments.len() != 1 {
        let function = name.into();
        return parser.add(at, Expression::Call { function, target: None, arguments });
    }
    match parser.ast().get(arguments[0]).clone() {
        Expression::Select { operand, field, .. } => {
            parser.add(at, Expression::Select { operand, field, test: true })
        }
        _ => {
            let place = parser.ast().offset(arguments[0]);
            parser.stop(place, "invalid argument to has() macro")
        }
    }
}

/// `target.name(arguments)`.
pub(super) fn method(
    parser: &mut Parser,
    at: Offset,
    name: &str,
    target: Id,
    arguments: Vec<Id>,
) -> Read<Id> {
    let mut writer = Writer { parser, at, target };
    match (name, &arguments[..]) {
        ("all" | "exists" | "exists_one" | "existsOne", [variable, predicate]) => {
            let variable = writer.variable(*variable, "argument must be a simple name")?;
            writer.quantifier(name, (variable, None), *predicate)
        }
        ("all" | "exists" | "exists_one" | "existsOne", [first, second, predicate]) => {
            let (first, second) = writer.variables(*first, *second)?;
            writer.quantifier(name, (first, Some(second)), *predicate)
        }
        ("map", [variable, value]) => writer.map(*variable, None, *value),
        ("map", [variable, filter, value]) => writer.map(*variable, Some(*filter), *value),
        ("filter", [variable, filter]) => {
            let name = writer.variable(*variable, "argument is not an identifier")?;
            let step = writer.appended(*variable)?;
            writer.transformed((name, None), Some(*filter), step, Expression::List(Vec::new()))
        }
        ("transformList" | "transformMap" | "transformMapEntry", [first, second, value]) => {
            writer.transform(name, (*first, *second), None, *value)
        }
        (
            "transformList" | "transformMap" | "transformMapEntry",
            [first, second, filter, value],
        ) => writer.transform(name, (*first, *second), Some(*filter), *value),
        ("optMap" | "optFlatMap", [variable, value]) => writer.optional(name, *variable, *value),
        ("sortBy", [variable, key]) => writer.sorted(*variable, *key),
        _ => writer.call_target(name, target, arguments),
    }
}

/// Writes what a macro stands for. All of it has the place of the call.
struct Writer<'a> {
    parser: &'a mut Parser,
    at: Offset,
    target: Id,
}

/// One or two loop variables.
type Variables = (Arc<str>, Option<Arc<str>>);

impl Writer<'_> {
    fn add(&mut self, expression: Expression) -> Read<Id> {
        self.parser.add(self.at, expression)
    }

    fn literal(&mut self, literal: Literal) -> Read<Id> {
        self.add(Expression::Literal(literal))
    }

    fn identifier(&mut self, name: &str) -> Read<Id> {
        self.add(Expression::Identifier(name.into()))
    }

    fn call(&mut self, function: &str, arguments: &[Id]) -> Read<Id> {
        self.parser.call(self.at, function, arguments)
    }

    fn call_target(&mut self, name: &str, target: Id, arguments: Vec<Id>) -> Read<Id> {
        self.add(Expression::Call { function: name.into(), target: Some(target), arguments })
    }

    fn stop<T>(&mut self, id: Id, message: &str) -> Read<T> {
        let place = self.parser.ast().offset(id);
        self.parser.stop(place, message)
    }

    fn variable(&mut self, id: Id, otherwise: &str) -> Read<Arc<str>> {
        let name = match self.parser.ast().get(id) {
            Expression::Identifier(name) => name.clone(),
            _ => return self.stop(id, otherwise),
        };
        if *name == *RESULT || *name == *RESULT_ONCE {
            return self.stop(id, "iteration variable overwrites accumulator variable");
        }
        Ok(name)
    }

    fn variables(&mut self, first: Id, second: Id) -> Read<(Arc<str>, Arc<str>)> {
        let one = self.variable(first, "argument must be a simple name")?;
        let other = self.variable(second, "argument must be a simple name")?;
        if one == other {
            return self.stop(second, &format!("duplicate variable name: {one}"));
        }
        Ok((one, other))
    }

    fn fold(&mut self, variables: Variables, parts: [Id; 4]) -> Read<Id> {
        let (variable, second) = variables;
        let [init, condition, step, result] = parts;
        let (range, accumulator) = (self.target, RESULT.into());
        let fold = Fold { range, variable, second, accumulator, init, condition, step, result };
        self.add(Expression::Fold(Box::new(fold)))
    }

    fn quantifier(&mut self, name: &str, variables: Variables, predicate: Id) -> Read<Id> {
        let accumulator = self.identifier(RESULT)?;
        let (init, condition, step) = match name {
            "all" => {
                let condition = self.call("@not_strictly_false", &[accumulator])?;
                let so_far = self.identifier(RESULT)?;
                (Literal::Bool(true), condition, self.call("_&&_", &[so_far, predicate])?)
            }
            "exists" => {
                let not = self.call("!_", &[accumulator])?;
                let condition = self.call("@not_strictly_false", &[not])?;
                let so_far = self.identifier(RESULT)?;
                (Literal::Bool(false), condition, self.call("_||_", &[so_far, predicate])?)
            }
            _ => {
                let one = self.literal(Literal::Int(1))?;
                let more = self.call("_+_", &[accumulator, one])?;
                let condition = self.literal(Literal::Bool(true))?;
                let so_far = self.identifier(RESULT)?;
                let step = self.call("_?_:_", &[predicate, more, so_far])?;
                (Literal::Int(0), condition, step)
            }
        };
        let init = self.literal(init)?;
        let mut result = self.identifier(RESULT)?;
        if !matches!(name, "all" | "exists") {
            let one = self.literal(Literal::Int(1))?;
            result = self.call("_==_", &[result, one])?;
        }
        self.fold(variables, [init, condition, step, result])
    }

    /// `@result + [value]`.
    fn appended(&mut self, value: Id) -> Read<Id> {
        let so_far = self.identifier(RESULT)?;
        let element = self.add(Expression::List(vec![Element { value, optional: false }]))?;
        self.call("_+_", &[so_far, element])
    }

    fn map(&mut self, variable: Id, filter: Option<Id>, value: Id) -> Read<Id> {
        let name = self.variable(variable, "argument is not an identifier")?;
        let step = self.appended(value)?;
        self.transformed((name, None), filter, step, Expression::List(Vec::new()))
    }

    fn transform(
        &mut self,
        name: &str,
        variables: (Id, Id),
        filter: Option<Id>,
        value: Id,
    ) -> Read<Id> {
        let (first, second) = self.variables(variables.0, variables.1)?;
        if name == "transformList" {
            let step = self.appended(value)?;
            let init = Expression::List(Vec::new());
            return self.transformed((first, Some(second)), filter, step, init);
        }
        let mut arguments = vec![self.identifier(RESULT)?];
        if name == "transformMap" {
            arguments.push(self.identifier(&first)?);
        }
        arguments.push(value);
        let step = self.call("cel.@mapInsert", &arguments)?;
        self.transformed((first, Some(second)), filter, step, Expression::Map(Vec::new()))
    }

    /// A loop that takes a step for each element that passes the filter.
    fn transformed(
        &mut self,
        variables: Variables,
        filter: Option<Id>,
        mut step: Id,
        init: Expression,
    ) -> Read<Id> {
        if let Some(filter) = filter {
            let unchanged = self.identifier(RESULT)?;
            step = self.call("_?_:_", &[filter, step, unchanged])?;
        }
        let init = self.add(init)?;
        let condition = self.literal(Literal::Bool(true))?;
        let result = self.identifier(RESULT)?;
        self.fold(variables, [init, condition, step, result])
    }

    /// `value` with a name for another value: a loop over nothing.
    fn bind(&mut self, name: Arc<str>, init: Id, value: Id) -> Read<Id> {
        let range = self.add(Expression::List(Vec::new()))?;
        let condition = self.literal(Literal::Bool(false))?;
        let step = self.identifier(&name)?;
        self.add(Expression::Fold(Box::new(Fold {
            range,
            variable: UNUSED.into(),
            second: None,
            accumulator: name,
            init,
            condition,
            step,
            result: value,
        })))
    }

    fn optional(&mut self, name: &str, variable: Id, value: Id) -> Read<Id> {
        let message = format!("{name}() variable name must be a simple identifier");
        let Expression::Identifier(variable) = self.parser.ast().get(variable).clone() else {
            return self.stop(variable, &message);
        };
        let target = self.target;
        let has_value = self.call_target("hasValue", target, Vec::new())?;
        let again = self.parser.copy(target)?;
        let inner = self.call_target("value", again, Vec::new())?;
        let mut bound = self.bind(variable, inner, value)?;
        let none = self.optional_call("none", &[])?;
        if name == "optMap" {
            bound = self.optional_call("of", &[bound])?;
        }
        self.call("_?_:_", &[has_value, bound, none])
    }

    fn optional_call(&mut self, name: &str, arguments: &[Id]) -> Read<Id> {
        self.call(&format!("optional.{name}"), arguments)
    }

    fn sorted(&mut self, variable: Id, key: Id) -> Read<Id> {
        let list = self.target;
        if matches!(self.parser.ast().get(list), Expression::Literal(_) | Expression::Map(_)) {
            return self.stop(
                list,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            );
        }
        self.target = self.identifier(SORTED)?;
        let keys = self.map(variable, None, key)?;
        let input = self.identifier(SORTED)?;
        let sorted = self.call_target("@sortByAssociatedKeys", input, vec![keys])?;
        self.bind(SORTED.into(), list, sorted)
    }
}
