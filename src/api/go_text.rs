//! Numbers, booleans and durations of query parameters, read as Go reads them (packages `strconv` and `time`), with its
//! error texts: kube-apiserver puts those into its answers.

use std::{str::FromStr, time::Duration};

/// A number, as `ParseInt` reads it.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    number("ParseInt", text, digits)
}

/// A number without a sign, as `ParseUint` reads it.
pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    number("ParseUint", text, text)
}

fn number<T: FromStr>(function: &str, text: &str, digits: &str) -> Result<T, String> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let problem = if is_number { "value out of range" } else { "invalid syntax" };
    let parsed = text.parse().ok().filter(|_| is_number);
    parsed.ok_or_else(|| format!("strconv.{function}: parsing {text:?}: {problem}"))
}

/// A boolean, as `ParseBool` reads it; `None` for another text.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A boolean parameter of Kubernetes' API. Every value but `false` and `0` is true.
pub(crate) fn flag(text: &str) -> bool {
    text != "0" && !text.eq_ignore_ascii_case("false")
}

/// A duration, as `ParseDuration` reads it: `1h15m30.918s`, `-5ms`, `0`. A negative one is `None`.
pub(crate) fn duration(text: &str) -> Result<Option<Duration>, String> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("\u{b5}s", 1e3),
        ("\u{3bc}s", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 60e9),
        ("h", 3600e9),
    ];
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let has_digit = number.bytes().any(|byte| byte.is_ascii_digit());
        if !has_digit || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        nanoseconds += factor * number.parse::<f64>().map_err(|_number| invalid())?;
        rest = after;
    }
    // Go counts nanoseconds in 64 bits.
    if nanoseconds > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok((!text.starts_with('-')).then(|| Duration::from_secs_f64(nanoseconds / 1e9)))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300)
        })]

        #[test]
        fn any_number_is_read_as_it_is(signed: i64, number: u64) {
            prop_assert_eq!(integer(&signed.to_string()), Ok(signed));
            prop_assert_eq!(unsigned(&number.to_string()), Ok(number));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in prop_oneof![".*", "[-+]?[0-9]{0,25}"]) {
            prop_assert_eq!(integer(&text).ok(), text.parse().ok());
            let without_sign = text.parse().ok().filter(|_| !text.starts_with('+'));
            prop_assert_eq!(unsigned(&text).ok(), without_sign);
        }

        #[test]
        fn any_text_is_a_duration_or_refused(
            noise in prop_oneof![".*", "[-+]?[0-9.nuµmsh]{0,9}", "[-+]?[0-9]{1,400}(ns|h)"],
            parts in vec(("[0-9]{1,5}([.][0-9]*)?", select(vec!["ns", "us", "ms", "s", "m", "h"])), 1..4)
        ) {
            if let Ok(Some(read)) = duration(&noise) {
                prop_assert!(read.as_nanos() <= 1 << 63, "{}", noise);
            }
            let text: String = parts.iter().map(|(number, unit)| number.clone() + unit).collect();
            prop_assert!(matches!(duration(&text), Ok(Some(_))), "{}", text);
            prop_assert_eq!(duration(&format!("-{text}")), Ok(None));
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(integer("-5"), Ok(-5));
        assert_eq!(integer("+5"), Ok(5));
        let refused = |found: Result<String, String>, expected: &str| {
            assert_eq!(found, Err(format!("strconv.{expected}")));
        };
        let signed = |text: &str| integer(text).map(|number| number.to_string());
        refused(signed(""), "ParseInt: parsing \"\": invalid syntax");
        refused(signed("1.5"), "ParseInt: parsing \"1.5\": invalid syntax");
        refused(
            signed("9223372036854775808"),
            "ParseInt: parsing \"9223372036854775808\": value out of range",
        );
        let without_sign = |text: &str| unsigned(text).map(|number| number.to_string());
        refused(without_sign("+5"), "ParseUint: parsing \"+5\": invalid syntax");
        refused(without_sign("-5"), "ParseUint: parsing \"-5\": invalid syntax");
        refused(
            without_sign("18446744073709551616"),
            "ParseUint: parsing \"18446744073709551616\": value out of range",
        );
    }

    #[test]
    fn booleans() {
        for (text, parsed, is_set) in [
            ("1", Some(true), true),
            ("True", Some(true), true),
            ("t", Some(true), true),
            ("f", Some(false), true),
            ("0", Some(false), false),
            ("FALSE", Some(false), false),
            ("fAlse", None, false),
            ("yes", None, true),
            ("", None, true),
        ] {
            assert_eq!((boolean(text), flag(text)), (parsed, is_set), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(0)),
            ("32s", Some(32_000)),
            ("1h15m30.918s", Some(4_530_918)),
            ("-5ms", None),
            ("+.5h", Some(1_800_000)),
            ("3us", Some(0)),
            ("1.s", Some(1000)),
            ("2562047h", Some(9_223_369_200_000)),
        ] {
            let found = duration(text).map(|found| found.map(|found| found.as_millis()));
            assert_eq!(found, Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("soon", "time: invalid duration \"soon\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1s5", "time: missing unit in duration \"1s5\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1..5s", "time: invalid duration \"1..5s\""),
            ("-", "time: invalid duration \"-\""),
            ("2562048h", "time: invalid duration \"2562048h\""),
        ] {
            assert_eq!(duration(text).unwrap_err(), expected);
        }
    }
}
