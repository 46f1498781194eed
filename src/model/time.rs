//! How times are written in documents: RFC 3339 in UTC, of a fixed length. All code that writes one uses these.

use jiff::Timestamp;

/// The time as `metav1.Time` is written: in whole seconds.
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time as `metav1.MicroTime` is written.
pub fn micro_time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
