//! Timestamps and durations, with the texts that Go reads and writes.

use jiff::tz::TimeZone;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// `0001-01-01T00:00:00Z`.
const SECONDS_MIN: i64 = -62_135_596_800;
/// `9999-12-31T23:59:59Z`.
const SECONDS_MAX: i64 = 253_402_300_799;

/// A point in time, and the offset with which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since 1970.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
    /// Seconds east of UTC.
    pub(crate) offset: i32,
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 is January.
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) seconds: i64,
    /// 0 is January 1st.
    pub(crate) day_of_year: i64,
    /// 0 is Sunday.
    pub(crate) weekday: i64,
}

impl Moment {
    /// From seconds since 1970; none outside of the years 1 to 9999.
    pub(crate) fn new(seconds: i64, nanos: u32, offset: i32) -> Option<Self> {
        let is_valid = (SECONDS_MIN..=SECONDS_MAX).contains(&seconds);
        is_valid.then_some(Self { seconds, nanos, offset })
    }

    /// Whether it is Go's zero time.
    pub(crate) fn is_zero(&self) -> bool {
        self.seconds == SECONDS_MIN && self.nanos == 0
    }

    /// `self + nanoseconds`; none outside of the years 1 to 9999.
    pub(crate) fn plus(&self, duration: i128) -> Option<Self> {
        let nanos = self.total().checked_add(duration)?;
        let second = i128::from(NANOS_PER_SECOND);
        let seconds = i64::try_from(nanos.div_euclid(second)).ok()?;
        Self::new(seconds, u32::try_from(nanos.rem_euclid(second)).ok()?, self.offset)
    }

    /// `self - other` in nanoseconds; none if they do not fit.
    pub(crate) fn minus(&self, other: &Self) -> Option<i64> {
        i64::try_from(self.total() - other.total()).ok()
    }

    fn total(&self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS_PER_SECOND) + i128::from(self.nanos)
    }

    /// Date and time at an offset.
    pub(crate) fn civil(&self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let days = local.div_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            seconds: local.rem_euclid(SECONDS_PER_DAY),
            day_of_year: days - days_from_civil(year, 1, 1),
            weekday: (days + 4).rem_euclid(7),
        }
    }

    /// As RFC 3339 writes it, with as many digits as needed.
    pub(crate) fn text(&self) -> String {
        let Civil { year, month, day, seconds, .. } = self.civil(self.offset.into());
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut fraction = String::new();
        if self.nanos > 0 {
            fraction = format!(".{:09}", self.nanos);
            fraction.truncate(fraction.trim_end_matches('0').len());
        }
        let zone = if self.offset == 0 {
            "Z".to_owned()
        } else {
            let sign = if self.offset < 0 { '-' } else { '+' };
            let minutes = self.offset.abs() / 60;
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
    }

    /// The offset of a time zone (`Europe/Berlin`, `+01:30`) at this moment, in seconds.
    pub(crate) fn offset_in(&self, zone: &str) -> Result<i64, String> {
        let unknown = || format!("unknown time zone {zone}");
        if let Some((hours, minutes)) = zone.split_once(':') {
            let invalid = |part: &str| format!("strconv.Atoi: parsing {part:?}: invalid syntax");
            let number = |part: &str| part.parse::<i32>().ok().ok_or_else(|| invalid(part));
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            let minutes = if zone.starts_with('-') { -minutes } else { minutes };
            return Ok((i64::from(hours) * 60 + i64::from(minutes)) * 60);
        }
        if matches!(zone, "" | "UTC" | "Local") {
            return Ok(0);
        }
        let zone = TimeZone::get(zone).ok().ok_or_else(&unknown)?;
        let time = jiff::Timestamp::from_second(self.seconds).ok().ok_or_else(unknown)?;
        Ok(zone.to_offset(time).seconds().into())
    }
}

/// Days since 1970 of a date (the algorithm of Howard Hinnant).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)
}

/// A number of exactly this many digits, and what follows.
fn digits(text: &str, count: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

fn year_month_day(text: &str) -> Option<(i64, &str)> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let is_valid = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    is_valid.then(|| (days_from_civil(year, month, day), rest))
}

/// Reads `2006-01-02`.
pub(crate) fn date(text: &str) -> Option<Moment> {
    let (days, rest) = year_month_day(text)?;
    rest.is_empty().then_some(Moment { seconds: days * SECONDS_PER_DAY, nanos: 0, offset: 0 })
}

/// Reads `2006-01-02T15:04:05.999+07:00`.
pub(crate) fn rfc3339(text: &str) -> Option<Moment> {
    let (days, rest) = year_month_day(text)?;
    let (hour, rest) = digits(rest.strip_prefix('T')?, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, mut rest) = digits(rest.strip_prefix(':')?, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let shown = &fraction[..length.min(9)];
        nanos = format!("{shown:0<9}").parse().ok().filter(|_| length > 0)?;
        rest = &fraction[length..];
    }
    let offset = match rest {
        "Z" => 0,
        _ => {
            let sign = match rest.chars().next()? {
                '+' => 1,
                '-' => -1,
                _ => return None,
            };
            let (hours, rest) = digits(&rest[1..], 2)?;
            let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
            if !rest.is_empty() || hours > 24 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes) * 60
        }
    };
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Moment { seconds, nanos, offset: i32::try_from(offset).ok()? })
}

/// Reads a duration as Go writes it: `1h30m`, `-1.5s`.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(whole);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", after),
        };
        if number.is_empty() && fraction.is_empty() {
            return None;
        }
        let length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let unit = nanos_in(unit)?;
        let number: i128 = if number.is_empty() { 0 } else { number.parse().ok()? };
        total = total.checked_add(number.checked_mul(unit)?)?;
        // Nothing is finer than a nanosecond, and the largest unit has 13 digits of them.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total += fraction.parse::<i128>().ok()? * unit / scale;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn nanos_in(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Reads a duration as the format `duration` allows: Go's, or a number and a word (`2 days`).
pub(crate) fn lenient_duration(text: &str) -> Option<i64> {
    if let Some(duration) = duration(text) {
        return Some(duration);
    }
    let text = text.trim();
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(length);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = match unit.as_str() {
        "nanosecond" | "nanoseconds" | "nano" => 1,
        "microsecond" | "microseconds" | "micro" | "micros" => 1_000,
        "millisecond" | "milliseconds" | "milli" | "millis" => 1_000_000,
        "second" | "seconds" | "sec" | "secs" => 1_000_000_000,
        "minute" | "minutes" | "min" | "mins" => 60_000_000_000,
        "hour" | "hours" | "hr" | "hrs" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        "w" | "wk" | "week" | "weeks" => 604_800_000_000_000,
        other => nanos_in(other)?,
    };
    i64::try_from(number.parse::<i128>().ok()?.checked_mul(unit)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let rows = [
            ("2024-02-29T23:59:59Z", Some("2024-02-29T23:59:59Z")),
            ("2023-02-29T00:00:00Z", None),
            ("1969-12-31T23:59:59.120Z", Some("1969-12-31T23:59:59.12Z")),
            ("2020-01-01T00:30:00+02:00", Some("2020-01-01T00:30:00+02:00")),
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z")),
            ("2020-01-01 00:00:00Z", None),
            ("2020-01-01T00:00:60Z", None),
            ("2020-01-01T00:00:00", None),
        ];
        for (text, expected) in rows {
            assert_eq!(rfc3339(text).map(|m| m.text()).as_deref(), expected, "{text}");
        }
        let monday = rfc3339("2024-01-01T12:00:00Z").unwrap();
        let civil = monday.civil(monday.offset_in("America/New_York").unwrap());
        assert_eq!((civil.weekday, civil.day_of_year, civil.seconds), (1, 0, 7 * 3600));
        assert_eq!(monday.offset_in("-01:30"), Ok(-5400));
        assert!(monday.offset_in("Nowhere/Town").is_err());
    }

    #[test]
    fn durations_are_read() {
        let rows = [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("1us1ns", Some(1001)),
            (".5m", Some(30_000_000_000)),
            ("1", None),
            ("", None),
            ("1d", None),
            ("h", None),
            ("2562048h", None),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text), expected, "{text}");
        }
        assert_eq!(lenient_duration("2 days"), Some(172_800_000_000_000));
    }
}
