//! Sets of completion indexes as the status of an indexed Job writes them: `1,3-5,7`.

use std::{collections::BTreeSet, fmt::Write};

/// More indexes are not read: clients write statuses too, and a short text can name two thousand millions of them.
const COUNT_MAX: usize = 1_000_000;

/// Reads a set; what is no number, or not below `end`, is left out.
pub(super) fn parse(text: &str, end: i32) -> BTreeSet<i32> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?.min(end - 1))
    });
    ranges.flatten().take(COUNT_MAX).filter(|index| (0..end).contains(index)).collect()
}

/// Writes a set; three and more in a row become a range.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| *next == last + 1) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let written = match last - first {
            0 => write!(text, "{comma}{first}"),
            1 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
        written.expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, count) in [("", 0), ("3", 1), ("1,2", 2), ("0-2,4,6,7,9-11", 9)] {
            let set = parse(text, 20);
            assert_eq!((set.len(), format(&set).as_str()), (count, text));
        }
        assert_eq!(format(&parse("1-99999999,x", 4)), "1-3");
        assert_eq!(parse("0-2147483647", i32::MAX).len(), COUNT_MAX);
    }
}
