//! [`Expression`]: a text, checked against a shape, with its estimated cost, ready to be evaluated.

use std::sync::Arc;

use super::{
    checker::{self, Checked},
    checks, estimate, parser,
    plan::{self, Plan},
    shape::Shape,
    source::Faults,
    value_type::Type,
};

/// The variables of a rule, in the order of their places.
pub(super) const VARIABLES: [&str; 2] = ["self", "oldSelf"];

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) plan: Plan,
    /// The estimate of what one evaluation costs at most.
    pub(super) cost_max: u64,
    pub(super) uses_old_self: bool,
}

/// Why a text is no expression of the type that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not compile.
    Compilation(String),
    /// It gives a value of another type.
    Type,
    /// A constant part of it has no value.
    Instantiation(String),
}

/// Compiles an expression on values of this shape that gives a `wanted` value.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn compile(
    text: &str,
    shape: &Arc<Shape>,
    optional_old_self: bool,
    wanted: &Type,
) -> Result<Expression, Fault> {
    let checked = check(text, shape, optional_old_self).map_err(Fault::Compilation)?;
    if !checked.value_type(checked.root).is_exactly(wanted) {
        return Err(Fault::Type);
    }
    let plan = plan::plan(&checked, &VARIABLES)
        .map_err(|failure| Fault::Instantiation(failure.message().to_owned()))?;
    let cost_max = estimate::cost_max(&checked, shape);
    Ok(Expression { plan, cost_max, uses_old_self: checked.uses(VARIABLES[1]) })
}

fn check(text: &str, shape: &Arc<Shape>, optional_old_self: bool) -> Result<Checked, String> {
    let parsed = parser::parse(text).map_err(|faults| faults.show(text))?;
    let of = Type::of_shape(shape);
    let old = if optional_old_self { Type::optional(of.clone()) } else { of.clone() };
    let mut faults = Faults::default();
    let checked = checker::check(parsed, &[(VARIABLES[0], of), (VARIABLES[1], old)], &mut faults);
    if let Some(checked) = checked {
        checks::check(&checked, &mut faults);
        if faults.is_empty() {
            return Ok(checked);
        }
    }
    Err(faults.show(text))
}
