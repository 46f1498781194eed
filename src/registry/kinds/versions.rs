//! The order of the versions of a group.

use std::cmp::Ordering;

/// Preferred versions first: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then other names in their order
/// (apimachinery's `version.CompareKubeAwareVersionStrings`, the other way round).
pub(crate) fn by_preference(one: &str, other: &str) -> Ordering {
    match (parsed(one), parsed(other)) {
        (Some(one), Some(other)) => other.cmp(&one),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.cmp(other),
    }
}

/// How stable a version is (alpha 0, beta 1, stable 2), its number, and the number within alpha or beta.
fn parsed(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = number(major)?;
    match rest {
        "" => Some((2, major, 0)),
        rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => Some((1, major, number(minor)?)),
            (_, Some(minor)) => Some((0, major, number(minor)?)),
            _ => None,
        },
    }
}

/// A number without leading zeros.
fn number(digits: &str) -> Option<u64> {
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_versions() {
        let mut versions = [
            "foo",
            "v1alpha1",
            "v10",
            "v1beta10",
            "v2",
            "v11alpha2",
            "v1beta2",
            "v1",
            "bar",
            "v01",
        ];
        versions.sort_by(|one, other| by_preference(one, other));
        let expected = [
            "v10",
            "v2",
            "v1",
            "v1beta10",
            "v1beta2",
            "v11alpha2",
            "v1alpha1",
            "bar",
            "foo",
            "v01",
        ];
        assert_eq!(versions, expected);
    }
}
