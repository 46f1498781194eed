//! Conversions between numbers, each of which says what it does with what does not fit.

use std::cmp::Ordering;

/// 2^63.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
/// 2^64.
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// The double as a whole number of at most 64 bits; none if it is none.
pub(super) fn whole(value: f64) -> Option<i128> {
    let fits = value.fract() == 0.0 && (-TWO_TO_63..TWO_TO_64).contains(&value);
    fits.then(|| truncated(value))
}

/// The double without its fraction. The caller has checked its range.
#[expect(clippy::cast_possible_truncation, reason = "that is what is asked for")]
fn truncated(value: f64) -> i128 {
    value as i128
}

/// `int(value)`: none if it does not fit.
pub(super) fn to_int(value: f64) -> Option<i64> {
    let fits = value > -TWO_TO_63 && value < TWO_TO_63;
    fits.then(|| truncated(value)).and_then(|value| i64::try_from(value).ok())
}

/// `uint(value)`: none if it does not fit.
pub(super) fn to_uint(value: f64) -> Option<u64> {
    let fits = (0.0..TWO_TO_64).contains(&value);
    fits.then(|| truncated(value)).and_then(|value| u64::try_from(value).ok())
}

/// Compares a double with a whole number of at most 64 bits; none for what is not a number.
pub(super) fn compare(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= TWO_TO_64 {
        return Some(Ordering::Greater);
    }
    if double < -TWO_TO_63 {
        return Some(Ordering::Less);
    }
    let floor = double.floor();
    let fraction = if double > floor { Ordering::Greater } else { Ordering::Equal };
    Some(truncated(floor).cmp(&whole).then(fraction))
}

/// `count * factor`, rounded up; the largest number if it does not fit.
#[expect(clippy::cast_precision_loss, reason = "costs are estimates, and Kubernetes' own")]
pub(super) fn scaled_up(count: u64, factor: f64) -> u64 {
    saturated((count as f64 * factor).ceil())
}

/// `count * factor`, rounded down.
#[expect(clippy::cast_precision_loss, reason = "costs are estimates, and Kubernetes' own")]
pub(super) fn scaled_down(count: u64, factor: f64) -> u64 {
    saturated((count as f64 * factor).floor())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast to an integer saturates, and no cost is negative"
)]
fn saturated(value: f64) -> u64 {
    value as u64
}

/// An integer as a double, as near as it can be.
#[expect(clippy::cast_precision_loss, reason = "CEL's conversion to a double")]
pub(super) fn to_double(value: i128) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_types_compare() {
        let rows = [
            (1.0, 1, Some(Ordering::Equal)),
            (1.5, 1, Some(Ordering::Greater)),
            (-1.5, -1, Some(Ordering::Less)),
            (f64::NAN, 1, None),
            (f64::INFINITY, i128::from(u64::MAX), Some(Ordering::Greater)),
            (f64::NEG_INFINITY, i128::from(i64::MIN), Some(Ordering::Less)),
            (TWO_TO_63, i128::from(i64::MAX), Some(Ordering::Greater)),
            (-TWO_TO_63, i128::from(i64::MIN), Some(Ordering::Equal)),
        ];
        for (double, whole, expected) in rows {
            assert_eq!(compare(double, whole), expected, "{double} {whole}");
        }
        assert_eq!(to_int(TWO_TO_63), None);
        assert_eq!(to_int(-1.9), Some(-1));
        assert_eq!(to_uint(-0.5), None);
        assert_eq!(scaled_up(u64::MAX, 2.0), u64::MAX);
    }
}
