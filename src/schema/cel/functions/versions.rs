//! Kubernetes' library `semver`.

use super::Native;
use crate::schema::cel::{
    value::{
        Outcome, Val,
        extension::{Extension, Part, Semver},
    },
    work::Failure,
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "semver" => |_, a| {
            let version = read(a)?.map_err(Failure::error)?;
            Ok(Val::extension(Extension::Semver(version)))
        },
        "isSemver" => |_, a| Ok(Val::Bool(read(a)?.is_ok())),
        "major" => |_, a| number(&a[0], 0),
        "minor" => |_, a| number(&a[0], 1),
        "patch" => |_, a| number(&a[0], 2),
        _ => return None,
    })
}

fn number<'a>(value: &Val<'a>, at: usize) -> Outcome<'a> {
    match value {
        Val::Extension(extension) => match &**extension {
            Extension::Semver(version) => {
                Ok(Val::Int(i64::try_from(version.numbers[at]).unwrap_or(i64::MAX)))
            }
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}

/// The version that a text says; the second argument asks to be lenient about a `v`, zeros and missing parts.
fn read(arguments: &[Val<'_>]) -> Result<Result<Semver, String>, Failure> {
    let text = arguments[0].as_text()?;
    let lenient = match arguments.get(1) {
        Some(lenient) => lenient.as_bool()?,
        None => false,
    };
    Ok(if lenient { normalized(text).and_then(|text| strict(&text)) } else { strict(text) })
}

fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text
        .splitn(3, '.')
        .map(|part| {
            let cut = part.trim_start_matches('0');
            let keeps = part.len() <= 1;
            let needs_zero = !cut.starts_with(|c: char| c.is_ascii_digit());
            match (keeps, needs_zero) {
                (true, _) => part.to_owned(),
                (false, true) => format!("0{cut}"),
                (false, false) => cut.to_owned(),
            }
        })
        .collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn strict(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let mut parts = text.splitn(3, '.');
    let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let (rest, build) = match rest.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (rest, None),
    };
    let (patch, before) = match rest.split_once('-') {
        Some((patch, before)) => (patch, Some(before)),
        None => (rest, None),
    };
    let numbers = [
        version_number("Major", major)?,
        version_number("Minor", minor)?,
        version_number("Patch", patch)?,
    ];
    let mut parts = Vec::new();
    for part in before.into_iter().flat_map(|before| before.split('.')) {
        parts.push(prerelease(part)?);
    }
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !is_identifier(part) {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Semver { numbers, before: parts })
}

fn version_number(name: &str, text: &str) -> Result<u64, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.is_empty() {
        return Err(format!(
            "Invalid character(s) found in {} number {text:?}",
            name.to_lowercase()
        ));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {text:?}"));
    }
    text.parse()
        .ok()
        .ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn is_identifier(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn prerelease(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return if is_identifier(text) {
            Ok(Part::Text(text.to_owned()))
        } else {
            Err(format!("Invalid character(s) found in prerelease {text:?}"))
        };
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("Numeric PreRelease version must not contain leading zeroes {text:?}"));
    }
    let number = text.parse().ok().map(Part::Number);
    number.ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}
