//! What each function costs at most: cel-go's standard library, its extensions for lists and sets, and Kubernetes'
//! libraries (`library.CostEstimator`).

use super::{Cost, Estimator, Id, Node, Path, Size, Type, traversed};
use crate::schema::cel::{
    ast::{Expression, Literal},
    numbers::scaled_up,
    runtime_cost::{LIST, PATTERN, TRAVERSAL},
};

/// How long the pattern of a format can be.
const FORMAT_PATTERN: f64 = 128.0;
/// How long the name of a format can be.
const FORMAT_SIZE: u64 = 64;

/// A call, and one of its overloads.
pub(super) struct Call<'c, 'a> {
    pub(super) id: Id,
    pub(super) function: &'static str,
    pub(super) overload: &'static str,
    pub(super) target: Option<&'c Node<'a>>,
}

/// A cost, and the size of the result if that is known.
type Estimate = (Cost, Option<Size>);

fn only(cost: Cost) -> Estimate {
    (cost, None)
}

impl<'a> Estimator<'a> {
    /// A call of one overload, its arguments included.
    pub(super) fn overload(
        &mut self,
        call: &Call<'_, 'a>,
        arguments: &[Node<'a>],
        costs: &[Cost],
    ) -> Estimate {
        let sum = costs.iter().fold(Cost::default(), |sum, cost| sum + *cost);
        let extension = self.extension(call, arguments);
        let found = extension.or_else(|| self.library(call, arguments));
        match found {
            Some((cost, size)) => (cost + sum, size),
            None => self.standard(call, arguments, costs, sum),
        }
    }

    /// The size of a node, or no limit.
    fn sized(&self, node: &Node<'a>) -> Size {
        node.size.or_else(|| node.path.and_then(Path::size)).unwrap_or(Size::UNKNOWN)
    }

    /// A literal number, or another.
    fn number(&self, node: &Node<'a>, otherwise: u64) -> u64 {
        let literal = node.id.map(|id| self.checked.ast.get(id));
        match literal {
            Some(Expression::Literal(Literal::Int(value))) => {
                u64::try_from(*value).unwrap_or_default()
            }
            _ => otherwise,
        }
    }

    /// Lists and sets of cel-go.
    fn extension(&self, call: &Call<'_, 'a>, arguments: &[Node<'a>]) -> Option<Estimate> {
        let new_list = |factor: f64, size: Size| {
            let cost = size.scaled(factor) + Cost::fixed(1) + Cost::fixed(LIST);
            Some((cost, Some(size)))
        };
        let target = call.target.map(|target| self.sized(target));
        match (call.overload, arguments) {
            ("list_slice", [start, end]) => {
                let start = self.number(start, 0);
                let end = self.number(end, target?.max);
                new_list(1.0, Size::fixed(end.wrapping_sub(start)))
            }
            ("lists_range", [count]) => new_list(1.0, Size::fixed(self.number(count, u64::MAX))),
            ("list_reverse", []) => new_list(1.0, target?),
            ("list_flatten", []) => new_list(1.0, target?),
            ("list_flatten_int", [depth]) => {
                let depth = self.number(depth, u64::MAX);
                new_list(crate::schema::cel::numbers::to_double(depth.into()), target?)
            }
            ("list_distinct", []) => new_list(2.0, target?.multiply(target?)),
            ("list_sets_contains_list" | "list_sets_intersects_list", [one, other]) => {
                let size = self.sized(one).multiply(self.sized(other));
                Some(only(size.scaled(1.0) + Cost::fixed(1)))
            }
            ("list_sets_equivalent_list", [one, other]) => {
                let size = self.sized(one).multiply(self.sized(other));
                Some(only(size.scaled(2.0) + Cost::fixed(1)))
            }
            (overload, _) if overload.ends_with("_sort") => {
                let size = target?;
                new_list(sort_factor(overload), size.multiply(size))
            }
            (overload, [keys]) if overload.ends_with("_sortByAssociatedKeys") => {
                let size = self.sized(keys);
                new_list(sort_factor(overload), size.multiply(size))
            }
            _ => None,
        }
    }

    /// Kubernetes' own functions, and strings.
    fn library(&mut self, call: &Call<'_, 'a>, arguments: &[Node<'a>]) -> Option<Estimate> {
        let scanned = |node: &Node<'a>| only(traversed(self.sized(node)));
        let first = arguments.first();
        Some(match call.function {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                only(self.searched(call.target?))
            }
            "url" => {
                let size = self.sized(first?);
                (traversed(size), Some(size))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.sized(call.target?);
                (traversed(size), Some(size))
            }
            "replace" if arguments.len() >= 2 => self.replaced(call.target?, arguments),
            "split" => {
                let size = self.sized(call.target?);
                let max = arguments.get(1).map_or(size.max, |count| self.split_max(count, size));
                (size.scaled(2.0 * TRAVERSAL), Some(Size::up_to(max)))
            }
            "join" => self.joined(call.target?, first),
            "find" | "findAll" => {
                let size = self.sized(call.target?);
                let text = traversed(size + Size::fixed(1));
                let pattern = self.sized(first?).scaled(PATTERN);
                (text.multiply(pattern), Some(Size::up_to(size.max)))
            }
            "cidr" | "isIP" | "isCIDR" => scanned(first?),
            "ip" if call.overload == "cidr_ip" => only(Cost::fixed(1)),
            "ip" => scanned(first?),
            "ip.isCanonical" => only(self.sized(first?).scaled(2.0 * TRAVERSAL)),
            "containsIP" | "containsCIDR" => only(self.contained(call, first?)),
            "quantity" | "isQuantity" | "semver" | "isSemver" => scanned(first?),
            "validate" => only(traversed(self.sized(first?)).scaled(FORMAT_PATTERN * PATTERN)),
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => only(Cost::fixed(1)),
            "_==_" => only(self.library_equality(arguments)?),
            _ => return None,
        })
    }

    /// Each element is compared once, and strings are looked at.
    fn searched(&self, target: &Node<'a>) -> Cost {
        let size = self.sized(target);
        let Some(element) = self.element(target) else { return traversed(size) };
        let mut each = Cost::fixed(1);
        if matches!(element.of, Type::String | Type::Bytes) {
            each = each + traversed(self.sized(&element));
        }
        size.times(each)
    }

    /// The elements of a list; none for what has no parameters.
    fn element(&self, list: &Node<'a>) -> Option<Node<'a>> {
        let of = match &list.of {
            Type::List(of) | Type::Optional(of) | Type::Meta(Some(of)) => (**of).clone(),
            Type::Map(of) => of.0.clone(),
            _ => return None,
        };
        Some(Node { id: None, path: list.path.map(|path| path.child("@items")), of, size: None })
    }

    fn split_max(&self, count: &Node<'a>, size: Size) -> u64 {
        let literal = count.id.map(|id| self.checked.ast.get(id));
        match literal {
            Some(Expression::Literal(Literal::Int(value))) => {
                // A negative number means no limit here as well.
                u64::try_from(*value).unwrap_or(u64::MAX)
            }
            _ => size.max,
        }
    }

    fn replaced(&self, target: &Node<'a>, arguments: &[Node<'a>]) -> Estimate {
        let size = self.sized(target);
        let (from, to) = (self.sized(&arguments[0]), self.sized(&arguments[1]));
        let divided = |size: u64, by: u64| size.div_ceil(by);
        let (count_max, kept_max) = if from.min == 0 {
            (size.max.saturating_add(1), size.max)
        } else if to.max <= from.min {
            (0, size.max)
        } else {
            (divided(size.max, from.min), 0)
        };
        let (count_min, kept_min) = if from.max == 0 {
            (size.min.saturating_add(1), size.min)
        } else if from.max <= to.min {
            (0, size.min)
        } else {
            (divided(size.min, from.max), 0)
        };
        let count = Size { min: count_min, max: count_max };
        let result = count.multiply(to) + Size { min: kept_min, max: kept_max };
        (size.scaled(2.0 * TRAVERSAL), Some(result))
    }

    fn joined(&self, target: &Node<'a>, separator: Option<&Node<'a>>) -> Estimate {
        let count = self.sized(target);
        let mut size = Size::fixed(0);
        if let Some(element) = self.element(target) {
            size = count.multiply(self.sized(&element));
        }
        if let Some(separator) = separator {
            let between =
                Size { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
            size = size + self.sized(separator).multiply(between);
        }
        (traversed(size), Some(size))
    }

    fn contained(&self, call: &Call<'_, 'a>, other: &Node<'a>) -> Cost {
        // Addresses have 4 or 16 bytes.
        let bytes = Size { min: 4, max: 16 };
        let mut cost = traversed(bytes + bytes);
        if call.function == "containsCIDR" {
            cost = cost + traversed(bytes) + Cost::fixed(1);
        }
        if call.overload.ends_with("_string") {
            cost = cost + traversed(self.sized(other));
        }
        cost
    }

    fn library_equality(&self, arguments: &[Node<'a>]) -> Option<Cost> {
        let [one, other] = arguments else { return None };
        if !one.of.is_exactly(&other.of) {
            return None;
        }
        match one.of {
            Type::Opaque(_) | Type::Library("kubernetes.Quantity" | "kubernetes.Semver") => {
                Some(Cost::fixed(1))
            }
            Type::Library("kubernetes.NamedFormat") => {
                Some(Cost { min: 1, max: FORMAT_SIZE }.scaled(TRAVERSAL))
            }
            Type::Library("kubernetes.URL") => {
                let max = other.size.map_or(1, |size| size.max);
                Some(Cost { min: 1, max }.scaled(TRAVERSAL))
            }
            _ => None,
        }
    }

    /// CEL's standard library.
    fn standard(
        &mut self,
        call: &Call<'_, 'a>,
        arguments: &[Node<'a>],
        costs: &[Cost],
        sum: Cost,
    ) -> Estimate {
        // Unlike the library's estimates, these take no size from the schema that was not computed before.
        let sized = |node: &Node<'a>| node.size.unwrap_or(Size::UNKNOWN);
        let target = call.target.map(sized);
        match (call.overload, arguments, target) {
            ("string_format", _, Some(target)) => only(traversed(target) + sum),
            ("string_to_bytes", [text], _) => {
                let size = sized(text);
                let result = Size { min: size.min, max: size.max.wrapping_mul(4) };
                (traversed(size) + sum, Some(result))
            }
            ("bytes_to_string", [bytes], _) => {
                let size = sized(bytes);
                (traversed(size) + sum, Some(Size { min: size.min / 4, max: size.max }))
            }
            ("strings_quote", [text], _) => {
                let size = sized(text);
                let max = size.max.wrapping_mul(2).wrapping_add(2);
                (traversed(size) + sum, Some(Size { min: size.min.wrapping_add(2), max }))
            }
            ("starts_with_string" | "ends_with_string", [part], _) => {
                only(traversed(sized(part)) + sum)
            }
            ("in_list", [_, list], _) => only(sized(list).scaled(1.0) + sum),
            ("matches_string", [pattern], Some(text)) => {
                let text = traversed(text + Size::fixed(1));
                only(text.multiply(sized(pattern).scaled(PATTERN)) + sum)
            }
            ("contains_string", [part], Some(text)) => {
                only(traversed(text).multiply(traversed(sized(part))) + sum)
            }
            ("logical_or" | "logical_and", _, _) => {
                // The first term may decide alone.
                only(Cost { min: costs[0].min, max: (costs[0] + costs[1]).max })
            }
            ("conditional", [_, one, other], _) => self.conditional(call.id, one, other, costs),
            ("add_string" | "add_bytes" | "add_list", [one, other], _) => {
                let size = sized(one) + sized(other);
                if let Some(entries) = self.joined_entries(one, other) {
                    self.entries[call.id.index()] = Some(entries);
                }
                let own =
                    if call.overload == "add_list" { Cost::fixed(1) } else { traversed(size) };
                (own + sum, Some(size))
            }
            ("equals" | "not_equals", [one, other], _) => {
                only(compared(sized(one), sized(other)) + sum)
            }
            (overload, [one, other], _) if is_text_comparison(overload) => {
                only(compared(sized(one), sized(other)) + sum)
            }
            _ => only(Cost::fixed(1) + sum),
        }
    }

    fn joined_entries(&self, one: &Node<'a>, other: &Node<'a>) -> Option<super::Entries> {
        let (one, other) = (self.entry_sizes(one.id?)?, self.entry_sizes(other.id?)?);
        let (key, value) = (one.key.union(other.key), one.value.union(other.value));
        Some(super::Entries { is_list: one.is_list, key, value })
    }

    fn conditional(
        &mut self,
        id: Id,
        one: &Node<'a>,
        other: &Node<'a>,
        costs: &[Cost],
    ) -> Estimate {
        let sized = |node: &Node<'a>| node.size.unwrap_or(Size::UNKNOWN);
        let size = sized(one).union(sized(other));
        if let Some(entries) = self.joined_entries(one, other) {
            self.entries[id.index()] = Some(entries);
        }
        (costs[0] + costs[1].union(costs[2]), Some(size))
    }
}

/// Strings that are compared while they are sorted are looked at as well.
fn sort_factor(overload: &str) -> f64 {
    if overload.starts_with("list_string") || overload.starts_with("list_bytes") {
        2.0 + TRAVERSAL
    } else {
        2.0
    }
}

fn is_text_comparison(overload: &str) -> bool {
    let is_order = overload.starts_with("less_") || overload.starts_with("greater_");
    is_order && (overload.ends_with("_string") || overload.ends_with("_bytes"))
}

fn compared(one: Size, other: Size) -> Cost {
    let max = one.max.min(other.max);
    let min = u64::from(max > 0);
    Cost { min: scaled_up(min, TRAVERSAL), max: scaled_up(max, TRAVERSAL) }
}
