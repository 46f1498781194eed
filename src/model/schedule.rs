//! Cron schedules as CronJobs have them: five fields, names, steps, `@hourly` and its like, `@every 90s`.
//!
//! The rules and messages are those of the parser that kube-apiserver uses (robfig/cron, standard form).

use std::{str::FromStr, time::Duration};

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// A schedule that never fires (30 February) is given up on after so many days: five years, as in Kubernetes.
const DAYS_MAX: usize = 5 * 366;

/// When something is to be done, in wall clock time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Every(Duration),
    Fields(Fields),
}

/// The allowed values of each field, one bit a value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Day or weekday is `*`: both must match. Otherwise one of them suffices.
    any_day: bool,
}

/// Why a text is no schedule, or no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

struct Bounds {
    min: u32,
    max: u32,
    /// Names from `min` on.
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTH: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Bounds =
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The time zone of a CronJob; UTC when it names none.
///
/// # Errors
/// A name that the time zone database does not have.
pub fn zone(name: Option<&str>) -> Result<TimeZone, Error> {
    match name {
        None => Ok(TimeZone::UTC),
        Some("") => Err(Error("timeZone must be nil or non-empty string".to_owned())),
        Some(name) if name.eq_ignore_ascii_case("local") => Err(Error(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_owned(),
        )),
        Some(name) => {
            // As Go finds them: by the names of files, letter by letter.
            let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name));
            zone.ok_or_else(|| Error(format!("unknown time zone {name}")))
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error("empty spec string".to_owned()));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => {
                if let Some(every) = text.strip_prefix("@every ") {
                    return every_form(text, every);
                }
                if text.starts_with('@') {
                    return Err(Error(format!("unrecognized descriptor: {text}")));
                }
                text
            }
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            let (count, shown) = (fields.len(), fields.join(" "));
            return Err(Error(format!("expected exactly 5 fields, found {count}: [{shown}]")));
        };
        let (day, any_day) = field(day, &DAY)?;
        let (weekday, any_weekday) = field(weekday, &WEEKDAY)?;
        Ok(Self(Form::Fields(Fields {
            minute: field(minute, &MINUTE)?.0,
            hour: field(hour, &HOUR)?.0,
            day,
            month: field(month, &MONTH)?.0,
            weekday,
            any_day: any_day || any_weekday,
        })))
    }
}

fn every_form(text: &str, every: &str) -> Result<Schedule, Error> {
    let span: Result<jiff::SignedDuration, _> = every.parse();
    let duration = span.ok().and_then(|span| Duration::try_from(span).ok());
    let duration = duration.ok_or_else(|| Error(format!("failed to parse duration {text}")))?;
    // Whole seconds, at least one.
    Ok(Schedule(Form::Every(Duration::from_secs(duration.as_secs().max(1)))))
}

/// The values of a comma-separated list, and whether one of its parts is `*`.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), Error> {
    let (mut bits, mut any) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (values, all) = range(part, bounds)?;
        bits |= values;
        any |= all;
    }
    Ok((bits, any))
}

/// `3`, `1-5`, `*`, each with an optional `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), Error> {
    let (values, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => {
            return Err(Error(format!("too many slashes: {text}")));
        }
        Some((values, step)) => (values, Some(step)),
        None => (text, None),
    };
    let all = matches!(values, "*" | "?");
    let (first, mut last) = match values.split_once('-') {
        _ if all => (bounds.min, bounds.max),
        Some((_, last)) if last.contains('-') => {
            return Err(Error(format!("too many hyphens: {text}")));
        }
        Some((first, last)) => (value(first, bounds)?, value(last, bounds)?),
        None => (value(values, bounds)?, value(values, bounds)?),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if !values.contains('-') {
                last = bounds.max;
            }
            number(step)?
        }
    };
    let (min, max) = (bounds.min, bounds.max);
    for (broken, rule) in [
        (first < min, format!("beginning of range ({first}) below minimum ({min})")),
        (last > max, format!("end of range ({last}) above maximum ({max})")),
        (first > last, format!("beginning of range ({first}) beyond end of range ({last})")),
        (step == 0, "step of range should be a positive number".to_owned()),
    ] {
        if broken {
            return Err(Error(format!("{rule}: {text}")));
        }
    }
    let values = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    Ok((values.fold(0, |bits, value| bits | 1 << value), all && step == 1))
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, Error> {
    let named =
        bounds.names.iter().zip(bounds.min..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map_or_else(|| number(text), |(_, value)| Ok(value))
}

fn number(text: &str) -> Result<u32, Error> {
    text.parse().map_err(|_not_a_number| Error(format!("failed to parse int from {text}")))
}

impl Schedule {
    /// The first time after `after`; `None` when there is none in the next five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match &self.0 {
            Form::Every(period) => {
                let seconds = i64::try_from(period.as_secs()).ok()?;
                return Timestamp::from_second(after.as_second().checked_add(seconds)?).ok();
            }
            Form::Fields(fields) => fields,
        };
        let mut from = zone.to_datetime(after);
        for _skipped in 0..DAYS_MAX {
            let next = fields.next(from)?;
            let ambiguous = zone.to_ambiguous_timestamp(next);
            // An hour that the clock leaves out fires nothing; of one that it repeats, the first that is ahead counts.
            let real = [ambiguous.earlier(), ambiguous.later()].into_iter().flatten();
            let mut real = real.filter(|at| *at > after && zone.to_datetime(*at) == next);
            if let Some(at) = real.next() {
                return Some(at);
            }
            from = next;
        }
        None
    }
}

impl Fields {
    /// The first matching minute after `from`.
    fn next(&self, from: DateTime) -> Option<DateTime> {
        let first = from.checked_add(1.minute()).ok()?;
        let mut date = first.date();
        for _day in 0..DAYS_MAX {
            if self.is_on(date) {
                let start =
                    if date == first.date() { (first.hour(), first.minute()) } else { (0, 0) };
                if let Some((hour, minute)) = self.time_from(start) {
                    return Some(date.at(hour, minute, 0, 0));
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_on(&self, date: Date) -> bool {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        let day = has(self.day, date.day());
        let weekday = has(self.weekday, date.weekday().to_sunday_zero_offset());
        has(self.month, date.month()) && if self.any_day { day && weekday } else { day || weekday }
    }

    fn time_from(&self, (hour, minute): (i8, i8)) -> Option<(i8, i8)> {
        let has = |bits: u64, value: i8| bits >> value & 1 == 1;
        (hour..24).filter(|now| has(self.hour, *now)).find_map(|now| {
            let from = if now == hour { minute } else { 0 };
            (from..60).find(|minute| has(self.minute, *minute)).map(|minute| (now, minute))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone_name: Option<&str>, after: &str) -> Option<String> {
        let schedule: Schedule = schedule.parse().unwrap();
        let next = schedule.next(after.parse().unwrap(), &zone(zone_name).unwrap());
        next.map(|at| at.to_string())
    }

    #[test]
    fn next_times() {
        let at = "2026-01-01T10:07:30Z";
        for (schedule, zone, after, expected) in [
            ("* * * * *", None, at, "2026-01-01T10:08:00Z"),
            ("*/15 * * * *", None, at, "2026-01-01T10:15:00Z"),
            ("5/20 * * * *", None, at, "2026-01-01T10:25:00Z"),
            ("0 9-17/4 * * mon-fri", None, at, "2026-01-01T13:00:00Z"),
            ("30 2 29 feb ?", None, at, "2028-02-29T02:30:00Z"),
            // Day or weekday, since neither is `*`.
            ("0 0 13 * FRI", None, at, "2026-01-02T00:00:00Z"),
            ("0 0 */5 * FRI", None, at, "2026-01-02T00:00:00Z"),
            ("0 0 13 * *", None, at, "2026-01-13T00:00:00Z"),
            ("@hourly", None, at, "2026-01-01T11:00:00Z"),
            ("@weekly", None, at, "2026-01-04T00:00:00Z"),
            ("@every 1h30m", None, at, "2026-01-01T11:37:30Z"),
            ("0 12 * * *", Some("Asia/Tokyo"), at, "2026-01-02T03:00:00Z"),
            // The clock jumps from 02:00 to 03:00, and later back again.
            ("30 2 * * *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", Some("Europe/Berlin"), "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(next(schedule, zone, after).as_deref(), Some(expected), "{schedule}");
        }
        assert_eq!(next("0 0 30 2 *", None, at), None);
    }

    #[test]
    fn what_is_none() {
        for (text, error) in [
            ("", "empty spec string"),
            ("@often", "unrecognized descriptor: @often"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap_err().to_string(), error);
        }
    }
}
