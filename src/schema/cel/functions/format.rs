//! `string.format`: texts with values put in, as version 2 of the library writes them.

use std::fmt::Write as _;

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val, show},
    value_type::Type,
    work::{Failure, Work},
};

/// Most digits after the point; more are no use, and cost time.
const PRECISION_MAX: usize = 1000;
const PRECISION_DEFAULT: usize = 6;

pub(super) fn find(name: &str) -> Option<Native> {
    (name == "format").then_some(format as Native)
}

/// One `%` and what follows: the letter, and how many digits after the point.
#[derive(Clone, Copy, Debug)]
struct Clause {
    letter: char,
    precision: usize,
}

/// A text before a clause, and the clause.
type Piece<'a> = (&'a str, Option<Clause>);

/// Splits a format into pieces; `%%` is a text.
fn pieces(format: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let after = &rest[at + 1..];
        if let Some(text) = after.strip_prefix('%') {
            pieces.push((&rest[..=at], None));
            rest = text;
            continue;
        }
        let (clause, length) = clause(after)?;
        pieces.push((&rest[..at], Some(clause)));
        rest = &after[length..];
    }
    pieces.push((rest, None));
    Ok(pieces)
}

fn clause(text: &str) -> Result<(Clause, usize), String> {
    let parse = |why: &str| format!("could not parse formatting clause: {why}");
    if text.is_empty() {
        return Err("unexpected end of string".to_owned());
    }
    let mut precision = PRECISION_DEFAULT;
    let mut length = 0;
    if let Some(digits) = text.strip_prefix('.') {
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        if count == digits.len() {
            return Err(parse(
                "error while parsing precision: could not find end of precision specifier",
            ));
        }
        let invalid = || {
            let digits = &digits[..count];
            parse(&format!(
                "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing \
                 {digits:?}: invalid syntax"
            ))
        };
        precision = digits[..count].parse().ok().ok_or_else(invalid)?;
        if precision > PRECISION_MAX {
            return Err(parse(&format!(
                "error while parsing precision: precision {precision} exceeds maximum allowed precision {PRECISION_MAX}"
            )));
        }
        length = 1 + count;
    }
    let letter = text[length..].chars().next().unwrap_or_default();
    if !"sdfebxXo".contains(letter) {
        return Err(parse(&format!("unrecognized formatting clause \"{letter}\"")));
    }
    Ok((Clause { letter, precision }, length + 1))
}

fn format<'a>(work: &mut Work, arguments: &[Val<'a>]) -> Outcome<'a> {
    let format = arguments[0].as_text()?;
    let items = arguments[1].as_list()?.items(work)?;
    let count = items.len();
    let mut items = items.iter();
    let mut text = String::new();
    for (before, clause) in pieces(format).map_err(Failure::error)? {
        work.push(&mut text, before)?;
        let Some(clause) = clause else { continue };
        let missing = || Failure::error(format!("index {count} out of range"));
        let written = write(clause, items.next().ok_or_else(missing)?, work)?;
        work.push(&mut text, &written)?;
    }
    Ok(Val::text(text))
}

fn fault(message: &str) -> Failure {
    Failure::error(format!("error during formatting: {message}"))
}

fn write(clause: Clause, value: &Val<'_>, work: &mut Work) -> Result<String, Failure> {
    let refused = || fault(&mismatch(clause.letter, value.type_name()));
    Ok(match (clause.letter, value) {
        ('s', _) => {
            let mut text = String::new();
            write_text(&mut text, value, false, work)?;
            text
        }
        ('d', Val::Int(value)) => value.to_string(),
        ('d', Val::Uint(value)) => value.to_string(),
        ('f', value) => fixed(double(value).ok_or_else(refused)?, clause.precision),
        ('e', value) => scientific(double(value).ok_or_else(refused)?, clause.precision),
        ('b', Val::Int(value)) => signed(*value, |value| format!("{value:b}")),
        ('b', Val::Uint(value)) => format!("{value:b}"),
        ('b', Val::Bool(value)) => u8::from(*value).to_string(),
        ('o', Val::Int(value)) => signed(*value, |value| format!("{value:o}")),
        ('o', Val::Uint(value)) => format!("{value:o}"),
        ('x', value) => hex(value, work)?.ok_or_else(refused)?,
        ('X', value) => hex(value, work)?.ok_or_else(refused)?.to_ascii_uppercase(),
        _ => return Err(refused()),
    })
}

/// What a clause says about a value that it cannot take.
fn mismatch(letter: char, found: &str) -> String {
    let rule = match letter {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        'o' => "octal clause can only be used on integers",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
             and timestamps"
        }
    };
    format!("{rule}, was given {found}")
}

fn signed(value: i64, write: fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", write(value.unsigned_abs()))
}

fn double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Double(value) => Some(*value),
        Val::Text(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn special(value: f64) -> Option<String> {
    match value {
        _ if value.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("∞".to_owned()),
        f64::NEG_INFINITY => Some("-∞".to_owned()),
        _ => None,
    }
}

/// As English writes numbers: with commas between thousands.
fn fixed(value: f64, precision: usize) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    let text = format!("{value:.precision$}");
    let digits = text.trim_start_matches('-');
    let whole = digits.find('.').unwrap_or(digits.len());
    let mut grouped = String::with_capacity(text.len() + whole / 3 + 1);
    if text.starts_with('-') {
        grouped.push('-');
    }
    for (at, digit) in digits.char_indices() {
        if at > 0 && at < whole && (whole - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// As English writes large numbers: `1.5×10⁰³`.
fn scientific(value: f64, precision: usize) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = exponent.trim_start_matches('-');
    let mut raised = if exponent.starts_with('-') { "⁻".to_owned() } else { String::new() };
    for digit in format!("{digits:0>2}").chars() {
        let at = usize::try_from(digit.to_digit(10).unwrap_or_default()).unwrap_or_default();
        raised.extend("⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(at));
    }
    format!("{mantissa}×10{raised}")
}

fn hex(value: &Val<'_>, work: &mut Work) -> Result<Option<String>, Failure> {
    let bytes = |bytes: &[u8], work: &mut Work| -> Result<Option<String>, Failure> {
        work.bytes(bytes.len().saturating_mul(2))?;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string does not fail.
            write!(text, "{byte:02x}").map_err(|_| Failure::Budget)?;
        }
        Ok(Some(text))
    };
    match value {
        Val::Int(value) => Ok(Some(signed(*value, |value| format!("{value:x}")))),
        Val::Uint(value) => Ok(Some(format!("{value:x}"))),
        Val::Text(text) => bytes(text.as_bytes(), work),
        Val::Bytes(value) => bytes(value, work),
        _ => Ok(None),
    }
}

/// A value in a list or a map is written so that CEL could read it again.
fn write_text(
    text: &mut String,
    value: &Val<'_>,
    is_inside: bool,
    work: &mut Work,
) -> Result<(), Failure> {
    work.steps(1)?;
    match value {
        Val::List(list) => {
            text.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                write_text(text, &item?, true, work)?;
            }
            text.push(']');
        }
        Val::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                if !matches!(key, Val::Text(_) | Val::Bool(_) | Val::Int(_) | Val::Uint(_)) {
                    let name = key.type_name();
                    return Err(fault(&format!(
                        "no formatting function for map key of type {name}"
                    )));
                }
                let mut entry = (String::new(), String::new());
                write_text(&mut entry.0, &key, true, work)?;
                write_text(&mut entry.1, &map.find(&key)?.unwrap_or(Val::Null), true, work)?;
                entries.push(entry);
            }
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            let entries: Vec<String> =
                entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            work.push(text, &format!("{{{}}}", entries.join(", ")))?;
        }
        Val::Optional(_) | Val::Extension(_) => {
            return Err(fault(&mismatch('s', value.type_name())));
        }
        other => {
            let written = if is_inside { literal(other, work)? } else { show::show(other, work)? };
            work.push(text, &written)?;
        }
    }
    Ok(())
}

/// A scalar as CEL would read it.
fn literal(value: &Val<'_>, work: &mut Work) -> Result<String, Failure> {
    Ok(match value {
        Val::Text(value) => format!("{:?}", &**value),
        Val::Bytes(value) => format!("b{:?}", String::from_utf8_lossy(value)),
        Val::Double(value) => match special(*value) {
            Some(name) => format!("{:?}", name.replace('∞', "Inf")),
            None => format!("{value:.PRECISION_DEFAULT$}"),
        },
        Val::Duration(_) => format!("duration({:?})", show::show(value, work)?),
        Val::Timestamp(_) => format!("timestamp({:?})", show::show(value, work)?),
        other => show::show(other, work)?,
    })
}

/// What is wrong with a format for arguments of these types: the argument, if it is one, and the message.
pub(in crate::schema::cel) fn check(
    format: &str,
    arguments: &[Type],
) -> Result<(), (Option<usize>, String)> {
    let mut used = 0;
    for (_, clause) in pieces(format).map_err(|message| (None, message))? {
        let Some(clause) = clause else { continue };
        let Some(of) = arguments.get(used) else {
            return Err((None, format!("index {used} out of range")));
        };
        if !takes(clause.letter, of) {
            let message = format!("error during formatting: {}", mismatch(clause.letter, kind(of)));
            return Err((Some(used), message));
        }
        used += 1;
    }
    if arguments.len() > used {
        let given = arguments.len();
        let message =
            format!("too many arguments supplied to string.format (expected {used}, got {given})");
        return Err((None, message));
    }
    Ok(())
}

fn takes(letter: char, of: &Type) -> bool {
    match (letter, of) {
        (_, Type::Dyn) => true,
        ('s', Type::Optional(_) | Type::Opaque(_) | Type::Library(_) | Type::Object(_)) => false,
        ('s', _) => true,
        ('d' | 'o' | 'b' | 'x' | 'X', Type::Int | Type::Uint)
        | ('f' | 'e', Type::Double | Type::String)
        | ('b', Type::Bool)
        | ('x' | 'X', Type::String | Type::Bytes) => true,
        _ => false,
    }
}

/// The name of a type at run time.
fn kind(of: &Type) -> &str {
    match of {
        Type::List(_) => "list",
        Type::Map(_) => "map",
        Type::Meta(_) => "type",
        Type::Optional(_) => "optional_type",
        Type::Null => "null_type",
        Type::Bool => "bool",
        Type::Int => "int",
        Type::Uint => "uint",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Duration => "google.protobuf.Duration",
        Type::Timestamp => "google.protobuf.Timestamp",
        Type::Opaque(name) | Type::Library(name) => name,
        Type::Object(shape) => shape.name(),
        _ => "dyn",
    }
}
