//! Kubernetes quantities (`500m`, `1Gi`, `2e3`) as numbers that can be compared.

/// Nano units; enough for every quantity that Kubernetes accepts.
const NANO: i128 = 1_000_000_000;
const DIGITS_MAX: usize = 18;

/// The value in billionths. `None` when the text is no quantity.
pub(super) fn parse(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.len() + fraction.len();
    if digits == 0 || digits > DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = mantissa.checked_mul(multiplier(suffix)?)?;
    let value = scaled / 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(if negative { -value } else { value })
}

/// What one unit of the suffix is in billionths.
fn multiplier(suffix: &str) -> Option<i128> {
    let binary = |power: u32| Some(NANO << (10 * power));
    let decimal = |exponent: i32| {
        let exponent = u32::try_from(exponent.checked_add(9)?).ok()?;
        10_i128.checked_pow(exponent)
    };
    match suffix {
        "" => Some(NANO),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => Some(1),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("1", Some(NANO)),
            ("500m", Some(NANO / 2)),
            ("0.5", Some(NANO / 2)),
            (".5", Some(NANO / 2)),
            ("1Ki", Some(1024 * NANO)),
            ("2e3", Some(2000 * NANO)),
            ("1E", Some(NANO * 1_000_000_000_000_000_000)),
            ("-1", Some(-NANO)),
            ("", None),
            ("one", None),
            ("1.2.3", None),
            ("1Xi", None),
            ("1e99", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
