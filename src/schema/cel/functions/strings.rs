//! CEL's functions on strings, and its extension library for them, version 2.

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val},
    work::{Failure, Work},
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "contains" => |work, a| searched(work, a, |text, part| text.contains(part)),
        "startsWith" => |work, a| searched(work, a, |text, part| text.starts_with(part)),
        "endsWith" => |work, a| searched(work, a, |text, part| text.ends_with(part)),
        "charAt" => char_at,
        "lowerAscii" => |work, a| mapped(work, a, |text| text.to_ascii_lowercase()),
        "upperAscii" => |work, a| mapped(work, a, |text| text.to_ascii_uppercase()),
        "trim" => |work, a| mapped(work, a, |text| text.trim_matches(is_space).to_owned()),
        "replace" => replace,
        "split" => split,
        "substring" => substring,
        "join" => join,
        "strings.quote" => |work, a| mapped(work, a, quoted),
        _ => return None,
    })
}

/// White space as Go knows it.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

fn searched<'a>(
    work: &mut Work,
    arguments: &[Val<'a>],
    holds: fn(&str, &str) -> bool,
) -> Outcome<'a> {
    let (text, part) = (arguments[0].as_text()?, arguments[1].as_text()?);
    work.bytes(text.len())?;
    Ok(Val::Bool(holds(text, part)))
}

fn mapped<'a>(work: &mut Work, arguments: &[Val<'a>], map: fn(&str) -> String) -> Outcome<'a> {
    let text = arguments[0].as_text()?;
    work.bytes(text.len().saturating_mul(2))?;
    Ok(Val::text(map(text)))
}

fn out_of_range(index: i64) -> Failure {
    Failure::error(format!("index out of range: {index}"))
}

fn char_at<'a>(_: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let (text, index) = (arguments[0].as_text()?, arguments[1].as_int()?);
    let at = usize::try_from(index).ok().ok_or_else(|| out_of_range(index))?;
    match text.chars().nth(at) {
        Some(found) => Ok(Val::text(found.to_string())),
        None if at == text.chars().count() => Ok(Val::text("")),
        None => Err(out_of_range(index)),
    }
}

fn replace<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let text = arguments[0].as_text()?;
    let (from, to) = (arguments[1].as_text()?, arguments[2].as_text()?);
    let most = match arguments.get(3) {
        Some(count) => usize::try_from(count.as_int()?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    work.bytes(text.len())?;
    let count = text.matches(from).count().min(most);
    work.bytes(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(Val::text(text.replacen(from, to, most)))
}

fn split<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let (text, separator) = (arguments[0].as_text()?, arguments[1].as_text()?);
    let most = match arguments.get(2) {
        Some(count) => usize::try_from(count.as_int()?).ok(),
        None => None,
    };
    work.bytes(text.len())?;
    let parts: Vec<&str> = if separator.is_empty() {
        characters(text, most)
    } else {
        match most {
            Some(most) => text.splitn(most, separator).collect(),
            None => text.split(separator).collect(),
        }
    };
    work.steps(u64::try_from(parts.len()).unwrap_or(u64::MAX))?;
    Ok(Val::list(parts.into_iter().map(Val::text).collect()))
}

/// Each character by itself; the last of `most` parts is the rest.
fn characters(text: &str, most: Option<usize>) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if most.is_some_and(|most| parts.len() + 1 >= most) {
            break;
        }
        let (part, after) = rest.split_at(first.len_utf8());
        parts.push(part);
        rest = after;
    }
    if !rest.is_empty() && most != Some(0) {
        parts.push(rest);
    }
    parts
}

fn substring<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let (text, start) = (arguments[0].as_text()?, arguments[1].as_int()?);
    work.bytes(text.len())?;
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let end = match arguments.get(2) {
        Some(end) => end.as_int()?,
        None => length,
    };
    if arguments.len() > 2 && start > end {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return Err(Failure::error(message));
    }
    for index in [start, end] {
        if !(0..=length).contains(&index) {
            return Err(out_of_range(index));
        }
    }
    let (skipped, taken) = (usize::try_from(start), usize::try_from(end - start));
    let (Ok(skipped), Ok(taken)) = (skipped, taken) else { return Err(out_of_range(start)) };
    Ok(Val::text(text.chars().skip(skipped).take(taken).collect::<String>()))
}

fn join<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let items = arguments[0].as_list()?.items(work)?;
    let separator = match arguments.get(1) {
        Some(separator) => separator.as_text()?,
        None => "",
    };
    let mut joined = String::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            work.push(&mut joined, separator)?;
        }
        work.push(&mut joined, item.as_text()?)?;
    }
    Ok(Val::text(joined))
}

/// The text in quotes, as CEL writes it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Where a part of a text is, at or after a place; `lastIndexOf` searches backwards from it.
pub(super) fn index_of<'a>(work: &mut Work, arguments: &[Val<'a>], backwards: bool) -> Outcome<'a> {
    let text: Vec<char> = arguments[0].as_text()?.chars().collect();
    let part: Vec<char> = arguments[1].as_text()?.chars().collect();
    let most = text.len().saturating_mul(part.len().max(1)) / 16;
    work.steps(u64::try_from(most).unwrap_or(u64::MAX))?;
    let found = match arguments.get(2) {
        Some(offset) => {
            let offset = offset.as_int()?;
            let at = usize::try_from(offset).ok().ok_or_else(|| out_of_range(offset))?;
            from_offset(&text, &part, at, backwards)
        }
        None if backwards => last_place(&text, &part, text.len()),
        None => first_place(&text, &part, 0),
    };
    Ok(found.map_or(Val::Int(-1), Val::length))
}

fn from_offset(text: &[char], part: &[char], at: usize, backwards: bool) -> Option<usize> {
    if part.is_empty() {
        return Some(at.min(text.len()));
    }
    if at >= text.len() {
        return None;
    }
    if backwards { last_place(text, part, at) } else { first_place(text, part, at) }
}

fn first_place(text: &[char], part: &[char], from: usize) -> Option<usize> {
    (from..=text.len().checked_sub(part.len())?).find(|at| text[*at..].starts_with(part))
}

fn last_place(text: &[char], part: &[char], from: usize) -> Option<usize> {
    let last = text.len().checked_sub(part.len())?.min(from);
    (0..=last).rev().find(|at| text[*at..].starts_with(part))
}
