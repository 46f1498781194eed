//! Kubernetes quantities (`500m`, `1Gi`, `2e3`): their value, and the one way to write it.
//!
//! The rules are those of `resource.Quantity` (k8s.io/apimachinery): what is finer than a billionth is rounded away
//! from zero, a quantity keeps its family of suffixes, and a binary one is at most 2^63 - 1.

use std::fmt;

/// A quantity to the billionth. What is larger than [`LIMIT`] is [`LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quantity {
    nano: i128,
    family: Family,
}

/// Which suffixes a quantity has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `k`, `M`, `m`, none.
    Decimal,
    /// `Ki`, `Mi`.
    Binary,
    /// `e3`.
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const NANO_PER_MILLI: i128 = 1_000_000;
const LIMIT: i128 = i128::MAX;
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// Digits after the point that are read.
const PLACES_MAX: usize = 18;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// With the power of ten of each.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// The text in its canonical form; `None` when it is no quantity, or one too large to be written.
pub fn canonical(text: &str) -> Option<String> {
    Quantity::parse(text).filter(|quantity| quantity.nano.abs() < LIMIT).map(|q| q.to_string())
}

/// The value in billionths; `None` when the text is no quantity.
pub fn nano(text: &str) -> Option<i128> {
    Quantity::parse(text).map(|quantity| quantity.nano)
}

/// The value in thousandths, rounded up; `None` when the text is no quantity.
pub fn milli(text: &str) -> Option<i64> {
    let nano = nano(text)?;
    let milli = nano / NANO_PER_MILLI + i128::from(nano % NANO_PER_MILLI > 0);
    Some(i64::try_from(milli).unwrap_or(if milli < 0 { i64::MIN } else { i64::MAX }))
}

/// Billionths as a quantity with the suffixes of another one.
pub fn written_like(nano: i128, other: &str) -> String {
    let family = Quantity::parse(other).map_or(Family::Decimal, |other| other.family);
    Quantity { nano, family }.to_string()
}

impl Quantity {
    /// As in Kubernetes, a missing number is zero.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = unsigned.split_at(digits(unsigned));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        let (family, base, power) = meaning(suffix)?;
        let mut nano = magnitude(whole, fraction, base, power);
        if family == Family::Binary {
            nano = nano.min(BINARY_MAX);
        }
        let small = family == Family::Binary && nano < NANO;
        let family = if small { Family::Decimal } else { family };
        Some(Self { nano: if negative { -nano } else { nano }, family })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return formatter.write_str("0");
        }
        let binary = self.family == Family::Binary
            && self.nano.abs() >= 1024 * NANO
            && self.nano % NANO == 0;
        if binary {
            let (mut number, mut suffixes) = (self.nano / NANO, BINARY.iter());
            let mut suffix = suffixes.next();
            while number % 1024 == 0 {
                number /= 1024;
                suffix = suffixes.next();
            }
            return write!(formatter, "{number}{}", suffix.unwrap_or(&""));
        }
        let (mut number, mut power) = (self.nano, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        match self.family {
            Family::Exponent if power == 0 => write!(formatter, "{number}"),
            Family::Exponent => write!(formatter, "{number}e{power}"),
            Family::Decimal | Family::Binary => {
                let suffix = DECIMAL.iter().find(|(_, other)| *other == power);
                write!(formatter, "{number}{}", suffix.map_or("", |(suffix, _)| suffix))
            }
        }
    }
}

/// What a suffix says: its family, and the number that it multiplies by as a power of 2 or 10.
fn meaning(suffix: &str) -> Option<(Family, i128, i32)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(other, _)| *other == suffix) {
        return Some((Family::Decimal, 10, *power));
    }
    if let Some(at) = BINARY.iter().position(|other| *other == suffix) {
        return Some((Family::Binary, 2, i32::try_from(at * 10).ok()?));
    }
    let power = suffix.strip_prefix(['e', 'E'])?;
    Some((Family::Exponent, 10, power.parse().ok()?))
}

/// `whole.fraction * base^power` in billionths, rounded up; [`LIMIT`] when it is larger.
fn magnitude(whole: &str, fraction: &str, base: i128, power: i32) -> i128 {
    let fraction = match fraction.trim_end_matches('0') {
        // That there is more is all that counts for rounding up.
        long if long.len() > PLACES_MAX => format!("{}1", &long[..PLACES_MAX]),
        short => short.to_owned(),
    };
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let (twos, tens) = if base == 2 { (power, 0) } else { (0, power) };
    // The value is digits * 2^twos * 10^tens; all that follows is exact or too large.
    let tens = tens.saturating_add(9).saturating_sub(places);
    if twos == 0 && tens < 0 {
        let cut = usize::try_from(tens.unsigned_abs()).unwrap_or(usize::MAX);
        let (kept, rest) = digits.split_at(digits.len().saturating_sub(cut));
        let number = if kept.is_empty() { Ok(0) } else { kept.parse::<i128>() };
        let more = rest.bytes().any(|digit| digit != b'0');
        return number.map_or(LIMIT, |number| number.saturating_add(more.into()));
    }
    let Ok(number) = digits.parse::<i128>() else { return LIMIT };
    let number = number.checked_mul(1 << twos);
    let scale = 10_i128.checked_pow(tens.unsigned_abs());
    let scaled = match (number, scale) {
        (Some(number), Some(scale)) if tens >= 0 => number.checked_mul(scale),
        (Some(number), Some(scale)) => Some(number / scale + i128::from(number % scale != 0)),
        _ => None,
    };
    scaled.unwrap_or(LIMIT)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select, test_runner::RngSeed};

    use super::*;

    /// Numbers of any length, with every suffix.
    fn quantities() -> impl Strategy<Value = String> {
        let decimal = DECIMAL.map(|(suffix, _)| suffix.to_owned());
        let suffixes = select([&decimal[..], &BINARY.map(str::to_owned)[..]].concat());
        let exponents = (-60..60).prop_map(|power| format!("e{power}"));
        let number = "[-+]?[0-9]{0,45}([.][0-9]{0,30})?";
        let text = (number, prop_oneof![suffixes, exponents]);
        text.prop_map(|(number, suffix)| number + &suffix)
            .prop_filter("an empty text is none", |text| !text.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(1000)
        })]

        #[test]
        fn the_one_form_keeps_the_value(text in quantities()) {
            let nano = nano(&text);
            prop_assert!(nano.is_some());
            if let Some(form) = canonical(&text) {
                prop_assert_eq!(super::nano(&form), nano, "{}", form);
                prop_assert_eq!(canonical(&form), Some(form));
            } else {
                prop_assert_eq!(nano.map(i128::abs), Some(LIMIT));
            }
        }

        #[test]
        fn a_larger_exponent_is_no_smaller_value(digits in "[1-9][0-9]{0,60}", power in -70..70) {
            let nano = |power: i32| nano(&format!("{digits}e{power}"));
            prop_assert!(nano(power) <= nano(power + 1));
            // What has no more digits than its exponent takes away is less than one.
            let length = i32::try_from(digits.len()).unwrap();
            prop_assert!(nano(-length) <= Some(NANO));
            prop_assert!(nano(1 - length) >= Some(NANO));
        }

        #[test]
        fn other_texts_are_none_or_have_a_form(text in prop_oneof![".*", "[-+.0-9eEKMi]{0,12}"]) {
            if let Some(form) = canonical(&text) {
                prop_assert_eq!(canonical(&form), Some(form));
            }
            prop_assert_eq!(milli(&text).is_some(), nano(&text).is_some());
        }
    }

    #[test]
    fn one_value_has_one_form() {
        for (canonical, others) in [
            ("0", &["0", "0Mi", "0.000", "-0", "+", "m", ".", "0e5"][..]),
            ("1", &["1000m", "+1", "1.0", "01", "1000000000n", "1000000u"]),
            ("500m", &["0.5", ".5", "500m", "500000u", "0.5000"]),
            ("1500m", &["1.5", "1500m"]),
            ("-1500m", &["-1.5"]),
            ("100m", &["0.1", "100m"]),
            ("1k", &["1000", "1k", "1000.0"]),
            ("10k", &["10000"]),
            ("1500", &["1.5k", "1.5e3"]),
            ("1M", &["1000k", "1000000"]),
            ("1Gi", &["1024Mi", "1Gi", "1.0Gi", "1048576Ki"]),
            ("1536Mi", &["1.5Gi"]),
            ("1000Ki", &["1000Ki"]),
            ("-1Gi", &["-1024Mi"]),
            // Below 1Ki, or no whole number: the decimal family.
            ("512", &["0.5Ki"]),
            ("1024102400u", &["1.0001Ki"]),
            // Powers of ten keep theirs, in steps of three.
            ("1e3", &["1e3", "1E3", "1000e0", "100e1", "0.001e6"]),
            ("20e3", &["2e4"]),
            ("5e-3", &["5e-3", "0.5e-2"]),
            // Finer than a billionth: up.
            ("1n", &["0.1n", "0.0000000001", "0.00000000000000000000000000000000000000001"]),
            ("2n", &["1.1n"]),
            ("-1n", &["-0.1n"]),
            ("1e-9", &["5e-10", "1e-99"]),
            // More digits than a number has, most of which the exponent takes away.
            ("1e-9", &["1000000000000000000000e-48", "1000000000000000000000e-30"]),
            ("2e-9", &["1000000000000000000001e-30"]),
            ("1", &["10000000000000000000000000000000000000000e-40"]),
            // The largest.
            ("9223372036854775807", &["8Ei", "100Ei", "9223372036854775807"]),
            ("100E", &["100E", "100000P"]),
            ("1000E", &["1000E"]),
        ] {
            for text in others {
                assert_eq!(super::canonical(text).as_deref(), Some(canonical), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for text in ["", "one", "1.2.3", "1Xi", "1 Gi", "1e", "1e+", "1ee3", "--1", "1Kii", "½"] {
            assert_eq!(nano(text), None, "{text}");
        }
        assert!(nano("1e99") > nano("1E"));
        assert_eq!(canonical("1e99"), None);
    }

    #[test]
    fn thousandths_are_rounded_up() {
        for (text, milli) in [
            ("1", 1000),
            ("100m", 100),
            ("0.1", 100),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("2k", 2_000_000),
            ("1n", 1),
            ("-1n", 0),
            ("1e99", i64::MAX),
        ] {
            assert_eq!(super::milli(text), Some(milli), "{text}");
        }
    }
}
