//! What functions do with their arguments, by subject. Each takes what it gets and refuses what it cannot use: the type
//! check has nothing to say about values of type dyn.

mod arithmetic;
mod conversions;
mod format;
mod lists;
mod named_formats;
mod networks;
mod optionals;
mod patterns;
mod quantities;
mod strings;
mod times;
mod urls;
mod versions;

pub(super) use format::check as check_format;
pub(super) use patterns::{PatternKind, apply as apply_pattern};

use super::{
    value::{Outcome, Val},
    work::Work,
};

/// A function.
pub(super) type Native = for<'a> fn(&mut Work, &[Val<'a>]) -> Outcome<'a>;

/// The function of this name. The overload decides where a name has two meanings that its arguments do not tell apart.
pub(super) fn find(name: &str, overload: &str) -> Option<Native> {
    if name.starts_with("format.") && name != "format.named" {
        return named_formats::constant(name);
    }
    arithmetic::find(name)
        .or_else(|| conversions::find(name))
        .or_else(|| strings::find(name))
        .or_else(|| lists::find(name, overload))
        .or_else(|| times::find(name))
        .or_else(|| optionals::find(name))
        .or_else(|| patterns::find(name))
        .or_else(|| networks::find(name))
        .or_else(|| urls::find(name))
        .or_else(|| quantities::find(name))
        .or_else(|| versions::find(name))
        .or_else(|| named_formats::find(name))
        .or_else(|| format::find(name))
}

/// Whether a call with a constant is computed ahead.
pub(super) fn is_conversion(name: &str) -> bool {
    matches!(
        name,
        "bool"
            | "bytes"
            | "double"
            | "duration"
            | "dyn"
            | "int"
            | "string"
            | "timestamp"
            | "type"
            | "uint"
    )
}
