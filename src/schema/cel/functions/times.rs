//! Parts of timestamps and durations.

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val, moment::Civil},
    work::Failure,
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "getFullYear" => |_, a| of_timestamp(a, |civil| civil.year),
        "getMonth" => |_, a| of_timestamp(a, |civil| civil.month - 1),
        "getDate" => |_, a| of_timestamp(a, |civil| civil.day),
        "getDayOfMonth" => |_, a| of_timestamp(a, |civil| civil.day - 1),
        "getDayOfYear" => |_, a| of_timestamp(a, |civil| civil.day_of_year),
        "getDayOfWeek" => |_, a| of_timestamp(a, |civil| civil.weekday),
        "getHours" => |_, a| of(a, 3_600_000_000_000, |civil| civil.seconds / 3600),
        "getMinutes" => |_, a| of(a, 60_000_000_000, |civil| civil.seconds / 60 % 60),
        "getSeconds" => |_, a| of(a, 1_000_000_000, |civil| civil.seconds % 60),
        "getMilliseconds" => |_, a| match &a[0] {
            Val::Timestamp(moment) => Ok(Val::Int(i64::from(moment.nanos / 1_000_000))),
            _ => of(a, 1_000_000, |_| 0),
        },
        _ => return None,
    })
}

fn of_timestamp<'a>(arguments: &[Val<'a>], part: fn(&Civil) -> i64) -> Outcome<'a> {
    let Val::Timestamp(moment) = &arguments[0] else { return Err(Failure::no_overload()) };
    let offset = match arguments.get(1) {
        Some(zone) => moment.offset_in(zone.as_text()?).map_err(Failure::error)?,
        None => 0,
    };
    Ok(Val::Int(part(&moment.civil(offset))))
}

/// A part of a timestamp, or a whole duration in units of so many nanoseconds.
fn of<'a>(arguments: &[Val<'a>], unit: i64, part: fn(&Civil) -> i64) -> Outcome<'a> {
    match arguments {
        [Val::Duration(duration)] => Ok(Val::Int(duration / unit)),
        _ => of_timestamp(arguments, part),
    }
}
