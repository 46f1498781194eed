//! What a call costs when it is evaluated: the figures of cel-go's `interpreter` and of kube-apiserver's
//! `library.CostEstimator`.

use super::{
    numbers::{scaled_down, scaled_up},
    value::{Val, extension::Extension},
    work::{Failure, Work},
};

/// To look at a character once.
pub(super) const TRAVERSAL: f64 = 0.1;
/// For each character of a pattern.
pub(super) const PATTERN: f64 = 0.25;
/// To make a list.
pub(super) const LIST: u64 = 10;
/// To make a map.
pub(super) const MAP: u64 = 30;
/// A variable, a field or an index.
pub(super) const SELECT: u64 = 1;

/// How the cost of a call follows from its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Charge {
    One,
    /// The size of the first argument, times this.
    Scan(f64),
    /// All that is in the first argument.
    Traverse,
    /// The length of the result, times this.
    Result(f64),
    /// A text and a pattern.
    Pattern,
    /// The smaller of two sizes.
    Shorter,
    /// Both sizes.
    Both,
    /// One size times the other, each rounded up.
    Contains,
    /// The size of the second argument.
    Elements,
    /// An address in a network; the flag says that it has to be read.
    ContainsAddress(bool),
    ContainsNetwork(bool),
    /// The length of the list that is made.
    NewList,
    /// The length of the first argument for each level.
    Flatten,
    /// This argument compared with itself.
    Square(usize),
    /// Two lists compared with each other, this many times.
    Sets(f64),
    /// A text and a format.
    Validate,
}

impl Charge {
    /// The charge of a call; the overload is empty if several fit.
    pub(super) fn of(function: &str, overload: &str) -> Self {
        match overload {
            "list_slice" | "lists_range" | "list_reverse" => return Self::NewList,
            "list_flatten" | "list_flatten_int" => return Self::Flatten,
            "list_distinct" => return Self::Square(0),
            "list_sets_contains_list" | "list_sets_intersects_list" => return Self::Sets(1.0),
            "list_sets_equivalent_list" => return Self::Sets(2.0),
            _ if overload.ends_with("_sort") => return Self::Square(0),
            _ if overload.ends_with("_sortByAssociatedKeys") => return Self::Square(1),
            _ => {}
        }
        match function {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Self::Traverse,
            "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP"
            | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => Self::Scan(TRAVERSAL),
            "ip" if overload != "cidr_ip" => Self::Scan(TRAVERSAL),
            "replace" | "split" | "ip.isCanonical" => Self::Scan(2.0 * TRAVERSAL),
            "join" => Self::Result(2.0 * TRAVERSAL),
            "find" | "findAll" => Self::Pattern,
            "containsIP" => Self::ContainsAddress(overload == "cidr_contains_ip_string"),
            "containsCIDR" => Self::ContainsNetwork(overload == "cidr_contains_cidr_string"),
            "validate" => Self::Validate,
            _ => Self::of_overload(overload),
        }
    }

    fn of_overload(overload: &str) -> Self {
        match overload {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
            | "strings_quote" | "string_format" => Self::Scan(TRAVERSAL),
            "in_list" => Self::Elements,
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes" => Self::Shorter,
            "add_string" | "add_bytes" => Self::Both,
            "matches_string" => Self::Pattern,
            "contains_string" => Self::Contains,
            _ => Self::One,
        }
    }

    /// The cost as far as the arguments say it, so that a call that is too expensive is not made at all. None if only the
    /// result says it.
    ///
    /// # Errors
    /// Too much work to find out.
    pub(super) fn before(
        self,
        arguments: &[Val<'_>],
        work: &mut Work,
    ) -> Result<Option<u64>, Failure> {
        if matches!(self, Self::Result(_) | Self::NewList) {
            return Ok(None);
        }
        let size = |at: usize| arguments.get(at).map_or(1, Val::size);
        Ok(Some(match self {
            Self::One | Self::Result(_) | Self::NewList => 1,
            Self::Scan(factor) => scaled_up(size(0), factor),
            Self::Traverse => match arguments.first() {
                Some(value) => traversal(value, work)?,
                None => 0,
            },
            Self::Pattern => pattern(size(0), size(1)),
            Self::Shorter => scaled_up(size(0).min(size(1)), TRAVERSAL),
            Self::Both => scaled_up(size(0).saturating_add(size(1)), TRAVERSAL),
            Self::Contains => {
                scaled_up(size(0), TRAVERSAL).saturating_mul(scaled_up(size(1), TRAVERSAL))
            }
            Self::Elements => size(1),
            Self::ContainsAddress(is_read) => {
                let read = if is_read { scaled_up(size(1), TRAVERSAL) } else { 0 };
                scaled_up(size(0) * 2, TRAVERSAL) + read
            }
            Self::ContainsNetwork(is_read) => {
                let read = if is_read { scaled_up(size(1), TRAVERSAL) } else { 0 };
                scaled_up(size(0) * 2, TRAVERSAL) + scaled_up(size(0), TRAVERSAL) + 1 + read
            }
            Self::Flatten => {
                let depth = match arguments.get(1) {
                    Some(Val::Int(depth)) => u64::try_from(*depth).unwrap_or_default(),
                    _ => 1,
                };
                size(0).saturating_mul(depth).saturating_add(1 + LIST)
            }
            Self::Square(at) => square(arguments.get(at)),
            Self::Sets(factor) => {
                scaled_down(size(0).saturating_mul(size(1)), factor).saturating_add(1)
            }
            Self::Validate => {
                let format = match arguments.first() {
                    Some(Val::Extension(format)) => match **format {
                        Extension::Format(name) => pattern_length(name),
                        _ => 1,
                    },
                    _ => 1,
                };
                pattern(size(1), format)
            }
        }))
    }

    /// The cost that only the result says.
    pub(super) fn after(self, result: Option<&Val<'_>>) -> u64 {
        let size = result.map_or(1, Val::size);
        match self {
            Self::Result(factor) => scaled_up(size, factor),
            Self::NewList => size.saturating_add(1 + LIST),
            _ => 0,
        }
    }
}

/// `==` and `!=`. Values of libraries count as one, if they are on the left of `==`.
pub(super) fn equality(is_equal: bool, one: &Val<'_>, other: &Val<'_>) -> u64 {
    if is_equal && matches!(one, Val::Extension(_)) {
        return 1;
    }
    scaled_up(one.size().min(other.size()), TRAVERSAL)
}

/// A text of this length against a pattern of that.
fn pattern(text: u64, pattern: u64) -> u64 {
    scaled_up(text.saturating_add(1), TRAVERSAL).saturating_mul(scaled_up(pattern, PATTERN))
}

fn square(list: Option<&Val<'_>>) -> u64 {
    let Some(Val::List(list)) = list else { return 1 + LIST };
    let is_text = matches!(list.get(0), Some(Ok(Val::Text(_) | Val::Bytes(_))));
    let factor = if is_text { 2.0 + TRAVERSAL } else { 2.0 };
    scaled_down(list.len().saturating_mul(list.len()), factor).saturating_add(1 + LIST)
}

/// How long the pattern of a format is taken to be.
fn pattern_length(format: &str) -> u64 {
    match format {
        "dns1123Label" | "dns1035Label" | "dns1123LabelPrefix" | "dns1035LabelPrefix" => 30,
        "dns1123Subdomain" | "dns1123SubdomainPrefix" | "qualifiedName" => 60,
        "labelValue" => 40,
        "uri" => 1103,
        "uuid" => 70,
        "byte" => 84,
        _ => 71,
    }
}

/// What it costs to look at all parts of a value.
fn traversal(value: &Val<'_>, work: &mut Work) -> Result<u64, Failure> {
    let bytes = |length: usize| scaled_down(u64::try_from(length).unwrap_or(u64::MAX), TRAVERSAL);
    let mut cost: u64 = 0;
    match value {
        Val::Text(text) => return Ok(bytes(text.len())),
        Val::Bytes(value) => return Ok(bytes(value.len())),
        Val::List(list) => {
            for item in list.iter() {
                work.steps(1)?;
                cost = cost.saturating_add(traversal(&item?, work)?);
            }
        }
        Val::Map(map) => {
            for key in map.keys() {
                work.steps(1)?;
                cost = cost.saturating_add(traversal(&key, work)?);
                if let Some(value) = map.find(&key)? {
                    cost = cost.saturating_add(traversal(&value, work)?);
                }
            }
        }
        _ => return Ok(1),
    }
    Ok(cost)
}
