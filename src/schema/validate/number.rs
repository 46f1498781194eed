//! Checks of numbers: bounds, multiples, and whether they fit their format.
//!
//! An integer is compared with bounds that have lost their fraction, any other number with the bounds as they are.

use serde_json::Number;

use crate::schema::{
    go_text,
    path::Path,
    structural::{Schema, Type, Validations},
    validate::{Outcome, scalar},
};

/// A number as Go reads it.
#[derive(Clone, Copy)]
enum Given {
    Whole(i64),
    Float(f64),
}

/// What the schema says about its kind of number.
struct Expected<'a> {
    /// `integer`, `number`, or empty.
    name: &'a str,
    /// One that belongs to the type, or empty.
    format: &'a str,
}

pub(super) fn check(
    schema: &Schema,
    checks: &Validations,
    number: &Number,
    path: &Path<'_>,
    outcome: &mut Outcome,
) {
    let given = match number.as_i64() {
        Some(whole) => Given::Whole(whole),
        None => Given::Float(number.as_f64().unwrap_or_default()),
    };
    let expected = Expected::of(schema, checks);
    if !expected.fits(given) {
        outcome.add(expected.misfit("Checked", path));
    }
    if let Some(factor) = checks.multiple_of {
        let fits = expected.check_rule("MultipleOf", factor, path, outcome);
        check_multiple(given, factor, fits, path, outcome);
    }
    let mut bounds = |bound: Option<f64>, name, is_broken: &dyn Fn(Given, f64) -> bool, words| {
        let Some(bound) = bound else { return };
        let fits = expected.check_rule(name, bound, path, outcome);
        let given = if fits { given } else { Given::Float(given.as_float()) };
        if is_broken(given, bound) {
            let rule = format!("should be {words} {}", shown_rule(given, bound));
            outcome.add(scalar::invalid(path, &given.shown(), &rule));
        }
    };
    if checks.exclusive_minimum {
        bounds(checks.minimum, MINIMUM, &|g, b| g.compare(b).is_le(), "greater than");
    } else {
        bounds(checks.minimum, MINIMUM, &|g, b| g.compare(b).is_lt(), "greater than or equal to");
    }
    if checks.exclusive_maximum {
        bounds(checks.maximum, MAXIMUM, &|g, b| g.compare(b).is_ge(), "less than");
    } else {
        bounds(checks.maximum, MAXIMUM, &|g, b| g.compare(b).is_gt(), "less than or equal to");
    }
}

const MINIMUM: &str = "Minimum boundary";
const MAXIMUM: &str = "Maximum boundary";

fn check_multiple(given: Given, factor: f64, fits: bool, path: &Path<'_>, outcome: &mut Outcome) {
    let given = if fits { given } else { Given::Float(given.as_float()) };
    let shown = shown_rule(given, factor);
    let is_multiple = match given {
        Given::Whole(whole) => match saturated(factor) {
            factor if factor <= 0 => None,
            factor => Some(whole.checked_rem(factor) == Some(0)),
        },
        Given::Float(_) if factor <= 0.0 => None,
        Given::Float(float) if factor < 1.0 => Some(scalar::is_whole_float(1.0 / factor * float)),
        Given::Float(float) => Some(scalar::is_whole_float(float / factor)),
    };
    match is_multiple {
        Some(true) => {}
        Some(false) => {
            let rule = format!("should be a multiple of {shown}");
            outcome.add(scalar::invalid(path, &given.shown(), &rule));
        }
        None => {
            let detail = format!("factor MultipleOf declared for {path} must be positive: {shown}");
            let mut cause = scalar::whole("");
            cause.field = path.to_string();
            cause.message = format!("Invalid value: {shown}: {detail}");
            outcome.add(cause);
        }
    }
}

/// A bound or factor, as it is compared with the number.
fn shown_rule(given: Given, rule: f64) -> String {
    match given {
        Given::Whole(_) => saturated(rule).to_string(),
        Given::Float(_) => go_text::float(rule),
    }
}

fn saturated(number: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
    let whole = number as i64;
    whole
}

impl Given {
    fn as_float(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "so does Go")]
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }

    fn compare(self, bound: f64) -> std::cmp::Ordering {
        match self {
            Self::Whole(whole) => whole.cmp(&saturated(bound)),
            Self::Float(float) => float.partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Whole(whole) => whole.to_string(),
            Self::Float(float) => go_text::float(float),
        }
    }
}

impl<'a> Expected<'a> {
    fn of(schema: &Schema, checks: &'a Validations) -> Self {
        let name = match schema.value_type {
            _ if schema.int_or_string => "",
            Type::Integer => "integer",
            Type::Number => "number",
            _ => "",
        };
        let format = if name.is_empty() { "" } else { scalar::kept_format(schema, checks) };
        Self { name, format }
    }

    fn fits(&self, given: Given) -> bool {
        match (self.name, self.format) {
            ("integer", "int32") => given.as_whole().is_some_and(|n| i32::try_from(n).is_ok()),
            ("integer", _) => given.as_whole().is_some(),
            ("number", "float") => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "what does not fit is infinite"
                )]
                let narrow = given.as_float() as f32;
                narrow.is_finite()
            }
            _ => true,
        }
    }

    /// Whether a bound or factor fits the type as well; it is told if it does not.
    fn check_rule(&self, name: &str, rule: f64, path: &Path<'_>, outcome: &mut Outcome) -> bool {
        let fits = self.fits(Given::Float(rule));
        if !fits {
            outcome.add(self.misfit(name, path));
        }
        fits
    }

    fn misfit(&self, what: &str, path: &Path<'_>) -> crate::model::Cause {
        let Self { name, format } = self;
        scalar::whole(&if format.is_empty() {
            format!("{what} value must be of type {name} (default format) in {path}")
        } else {
            format!("{what} value must be of type {name} with format {format} in {path}")
        })
    }
}

impl Given {
    /// The number without a fraction, if it has none and fits.
    fn as_whole(self) -> Option<i64> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Float(float) if float.fract() == 0.0 => scalar::truncated(float),
            Self::Float(_) => None,
        }
    }
}
