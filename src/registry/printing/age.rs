//! Ages as kubectl prints them: two or three significant figures, `<unknown>` for no time.

use jiff::{SignedDuration, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24;
const YEAR: i64 = 365;

/// Time that has passed since then.
pub(crate) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| human(now.duration_since(time)))
}

/// Time since an RFC 3339 text.
pub(crate) fn since_text(time: Option<&str>, now: Timestamp) -> String {
    since(time.and_then(|text| text.parse().ok()), now)
}

/// `duration.HumanDuration` of Kubernetes. Clocks that differ by a second are forgiven.
pub(crate) fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / MINUTE, seconds / HOUR);
    let days = hours / DAY;
    match seconds {
        ..-1 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        0..120 => return format!("{seconds}s"),
        _ => {}
    }
    match (minutes, hours, days) {
        (..10, ..) => pair(minutes, 'm', seconds % 60, 's'),
        (..180, ..) => format!("{minutes}m"),
        (_, ..8, _) => pair(hours, 'h', minutes % 60, 'm'),
        (_, ..48, _) => format!("{hours}h"),
        (_, _, ..8) => pair(days, 'd', hours % DAY, 'h'),
        (_, _, ..730) => format!("{days}d"),
        (_, _, ..2920) => pair(days / YEAR, 'y', days % YEAR, 'd'),
        _ => format!("{}y", days / YEAR),
    }
}

fn pair(large: i64, large_unit: char, small: i64, small_unit: char) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (9 * MINUTE + 59, "9m59s"),
            (10 * MINUTE + 59, "10m"),
            (179 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (7 * HOUR + 59 * MINUTE, "7h59m"),
            (47 * HOUR + 59 * MINUTE, "47h"),
            (48 * HOUR, "2d"),
            (7 * 24 * HOUR + 23 * HOUR, "7d23h"),
            (8 * 24 * HOUR + 23 * HOUR, "8d"),
            (729 * 24 * HOUR, "729d"),
            (731 * 24 * HOUR, "2y1d"),
            (8 * 365 * 24 * HOUR + 9 * HOUR, "8y"),
        ] {
            assert_eq!(human(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(since(None, Timestamp::UNIX_EPOCH), "<unknown>");
        let now = "2026-01-01T00:00:05Z".parse().unwrap();
        assert_eq!(since_text(Some("2026-01-01T00:00:00Z"), now), "5s");
    }
}
