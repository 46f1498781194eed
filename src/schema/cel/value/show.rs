//! Values as texts: in messages, and for `string()`.

use super::Val;
use crate::schema::cel::work::{Failure, Work};

/// The value as messages show it.
///
/// # Errors
/// Too much work.
pub(crate) fn show(value: &Val<'_>, work: &mut Work) -> Result<String, Failure> {
    work.steps(1)?;
    Ok(match value {
        Val::Null => "null".to_owned(),
        Val::Bool(value) => value.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => double(*value),
        Val::Text(text) => {
            work.bytes(text.len())?;
            (**text).to_owned()
        }
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::Duration(duration) => seconds(*duration),
        Val::Timestamp(moment) => moment.text(),
        Val::Type(name) => (*name).to_owned(),
        Val::Optional(None) => "optional.none()".to_owned(),
        Val::Optional(Some(value)) => format!("optional({})", show(value, work)?),
        Val::List(list) => {
            let items: Result<Vec<String>, Failure> =
                list.items(work)?.iter().map(|item| show(item, work)).collect();
            format!("[{}]", items?.join(", "))
        }
        Val::Map(map) => {
            let mut shown = Vec::new();
            for key in map.keys() {
                let value = map.find(&key)?.unwrap_or(Val::Null);
                shown.push(format!("{}: {}", show(&key, work)?, show(&value, work)?));
            }
            format!("{{{}}}", shown.join(", "))
        }
        Val::Extension(extension) => extension.type_name().to_owned(),
    })
}

/// A duration as `string()` writes it: `1.5s`.
pub(crate) fn seconds(duration: i64) -> String {
    let sign = if duration < 0 { "-" } else { "" };
    let (whole, rest) =
        (duration.unsigned_abs() / 1_000_000_000, duration.unsigned_abs() % 1_000_000_000);
    let mut text = format!("{sign}{whole}.{rest:09}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text + "s"
}

/// A double as Go's `%g` writes it: the shortest digits, with an exponent if that is below -4 or above 5.
pub(crate) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
