//! Checks of one value by itself: its type, its text, whether it is listed; and the causes in kube-apiserver's words.

use serde_json::{Number, Value};

use crate::{
    model::Cause,
    schema::{
        format::Format,
        go_text,
        path::Path,
        structural::{Schema, Type, Validations},
    },
};

/// Whether a value has the type that a schema names.
pub(super) enum Typed {
    /// The schema names none.
    Unsaid,
    /// It has.
    Fits,
    /// It has not.
    Differs(Cause),
}

/// The types of a schema: two for an integer or string, at most one for any other.
struct Types<'a>(&'a Schema);

impl Types<'_> {
    fn has(&self, name: &str) -> bool {
        if self.0.int_or_string {
            matches!(name, "integer" | "string")
        } else {
            self.0.value_type.name() == name
        }
    }

    fn is_empty(&self) -> bool {
        !self.0.int_or_string && self.0.value_type == Type::Unset
    }

    fn names(&self) -> &str {
        if self.0.int_or_string { "integer,string" } else { self.0.value_type.name() }
    }
}

/// The format, if one of that name is supported for the type; else empty.
pub(super) fn kept_format<'a>(schema: &Schema, checks: &'a Validations) -> &'a str {
    let format = &*checks.format;
    let is_kept = match &schema.value_type {
        _ if format.is_empty() => false,
        Type::Unset | Type::String => Format::of(format).is_some(),
        _ if schema.int_or_string => Format::of(format).is_some(),
        Type::Integer => matches!(format, "int32" | "int64"),
        Type::Number => matches!(format, "float" | "double"),
        _ => false,
    };
    if is_kept { format } else { "" }
}

/// The format that a text must have.
pub(super) fn known_format(schema: &Schema, checks: &Validations) -> Option<Format> {
    Format::of(kept_format(schema, checks))
}

pub(super) fn check_null(schema: &Schema, path: &Path<'_>) -> Option<Cause> {
    let types = Types(schema);
    (!types.is_empty() && !schema.nullable).then(|| wrong_type(path, types.names(), "\"null\""))
}

pub(super) fn check_type(schema: &Schema, value: &Value, path: &Path<'_>) -> Typed {
    let types = Types(schema);
    let format = kept_format(schema, schema.validations());
    if types.is_empty() && format.is_empty() {
        return Typed::Unsaid;
    }
    let (found, found_format) = found_type(value);
    let is_number_as_asked = match value {
        Value::Number(number) if is_whole(number) => types.has("number"),
        Value::Number(number) => {
            types.has("integer") && number.as_f64().is_some_and(is_whole_float)
        }
        _ => false,
    };
    let is_listed = types.has(found) || is_number_as_asked;
    let is_text_or_list = value.is_string() || value.is_array();
    if !is_text_or_list && !format.is_empty() && !is_listed && found_format != format {
        return Typed::Differs(wrong_type(path, format, &go_text::quote(found_format)));
    }
    // A list passes where a formatted text is asked for. So it does in Kubernetes.
    let is_formatted = !format.is_empty() && !types.has("number") && !types.has("integer");
    if is_listed || (is_formatted && is_text_or_list) {
        return Typed::Fits;
    }
    Typed::Differs(wrong_type(path, types.names(), &go_text::quote(found)))
}

/// The type in JSON Schema, and the format that Go's type of the value implies.
fn found_type(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::String(_) => ("string", ""),
        Value::Number(number) if is_whole(number) => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// Whether Go reads the number as an integer.
fn is_whole(number: &Number) -> bool {
    number.as_i64().is_some()
}

/// Whether a number with a fraction has none to speak of.
pub(super) fn is_whole_float(number: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let rest = (number - number.trunc()).abs();
    number.abs() <= LARGEST && (rest == 0.0 || rest / (number.abs() * 2.0) < 1e-9)
}

/// The first of length and pattern that a text breaks.
pub(super) fn check_text(checks: &Validations, text: &str, path: &Path<'_>) -> Option<Cause> {
    let has_limits = checks.max_length.is_some() || checks.min_length.is_some();
    let count = if has_limits { text.chars().count() } else { 0 };
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if let Some(max) = checks.max_length.filter(|max| count > *max) {
        return Some(too_long(path, max));
    }
    if let Some(min) = checks.min_length.filter(|min| count < *min) {
        let detail = format!("should be at least {min} chars long");
        return Some(invalid(path, &go_text::quote(text), &detail));
    }
    let pattern = checks.pattern.as_ref()?;
    let detail = match pattern.check() {
        Ok(()) if pattern.matches(text) => return None,
        Ok(()) => format!("should match '{}'", pattern.text()),
        Err(fault) => format!("should match '{}, but pattern is invalid: {fault}'", pattern.text()),
    };
    Some(invalid(path, &go_text::quote(text), &detail))
}

/// Whether a value is one of the listed. Numbers are made what the listed one is, as Go's `Convert` does; null is never
/// listed.
pub(super) fn is_listed(listed: &[Value], value: &Value) -> bool {
    listed.iter().any(|one| match (one, value) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Number(one), Value::Number(value)) => match (one.as_i64(), value.as_i64()) {
            (Some(one), Some(value)) => one == value,
            (Some(one), None) => value.as_f64().and_then(truncated) == Some(one),
            (None, _) => one.as_f64() == value.as_f64(),
        },
        (one, value) => one == value,
    })
}

/// A number without its fraction, if an integer can hold it.
pub(super) fn truncated(number: f64) -> Option<i64> {
    // The bounds are the first numbers that an integer cannot hold.
    let fits = number > -9_223_372_036_854_777_856.0 && number < 9_223_372_036_854_775_808.0;
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked")]
    fits.then_some(number as i64)
}

pub(super) fn not_listed(listed: &[Value], value: &Value, path: &Path<'_>) -> Cause {
    let quoted = |one: &Value| match one {
        Value::String(text) => go_text::quote(text),
        other => go_text::quote(&go_text::json(other)),
    };
    let all: Vec<String> = listed.iter().map(quoted).collect();
    let value = go_text::value(value);
    let message = format!("Unsupported value: {value}: supported values: {}", all.join(", "));
    Cause { reason: "FieldValueNotSupported", field: path.to_string(), message }
}

/// A value of a wrong type; `found` is in quotes.
pub(super) fn wrong_type(path: &Path<'_>, asked: &str, found: &str) -> Cause {
    let field = path.to_string();
    let message =
        format!("Invalid value: {found}: {field} in body must be of type {asked}: {found}");
    Cause { reason: "FieldValueTypeInvalid", field, message }
}

/// A value that breaks a rule, as it is shown.
pub(super) fn invalid(path: &Path<'_>, value: &str, rule: &str) -> Cause {
    let field = path.to_string();
    let message = format!("Invalid value: {value}: {field} in body {rule}");
    Cause { reason: "FieldValueInvalid", field, message }
}

/// A failure that Kubernetes tells of the object as a whole.
pub(super) fn whole(detail: &str) -> Cause {
    let message = format!("Invalid value: \"\": {detail}");
    Cause { reason: "FieldValueInvalid", field: String::new(), message }
}

pub(super) fn too_many(path: &Path<'_>, count: i64, max: i64) -> Cause {
    let items = if max == 1 { "item" } else { "items" };
    let message = if max < 0 {
        format!("Too many: {count}: has too many items")
    } else {
        format!("Too many: {count}: must have at most {max} {items}")
    };
    Cause { reason: "FieldValueTooMany", field: path.to_string(), message }
}

fn too_long(path: &Path<'_>, max: i64) -> Cause {
    let bytes = if max == 1 { "byte" } else { "bytes" };
    let message = if max < 0 {
        "Too long: value is too long".to_owned()
    } else {
        format!("Too long: may not be more than {max} {bytes}")
    };
    Cause { reason: "FieldValueTooLong", field: path.to_string(), message }
}
