//! Kubernetes' library `url`: URLs as Go's `net/url` reads them.

use std::fmt::Write as _;

use super::Native;
use crate::schema::cel::{
    value::{
        Outcome, Val,
        extension::{Extension, Url},
        map,
    },
    work::Failure,
};

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "url" => |_, a| {
            let url = absolute(a[0].as_text()?);
            url.map(|url| Val::extension(Extension::Url(url))).map_err(|error| {
                Failure::error(format!("URL parse error during conversion from string: {error}"))
            })
        },
        "isURL" => |_, a| Ok(Val::Bool(absolute(a[0].as_text()?).is_ok())),
        "getScheme" => |_, a| part(&a[0], |url| url.scheme.clone()),
        "getHost" => |_, a| part(&a[0], |url| url.host.clone()),
        "getHostname" => |_, a| part(&a[0], |url| hostname(&url.host).to_owned()),
        "getPort" => |_, a| part(&a[0], |url| port(&url.host).to_owned()),
        "getEscapedPath" => |_, a| part(&a[0], |url| url.escaped_path.clone()),
        "getQuery" => |_, a| {
            let Val::Extension(extension) = &a[0] else { return Err(Failure::no_overload()) };
            let Extension::Url(url) = &**extension else { return Err(Failure::no_overload()) };
            query(&url.query)
        },
        _ => return None,
    })
}

fn part<'a>(value: &Val<'a>, part: fn(&Url) -> String) -> Outcome<'a> {
    match value {
        Val::Extension(extension) => match &**extension {
            Extension::Url(url) => Ok(Val::text(part(url))),
            _ => Err(Failure::no_overload()),
        },
        _ => Err(Failure::no_overload()),
    }
}

/// Host without port and brackets.
fn hostname(host: &str) -> &str {
    if let Some((inner, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return inner;
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn port(host: &str) -> &str {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    after.rsplit_once(':').map_or("", |(_, port)| port)
}

/// A URL that is absolute, or a path that starts with a slash.
///
/// # Errors
/// What is wrong with it, in Go's words.
pub(super) fn absolute(text: &str) -> Result<Url, String> {
    read(text).map_err(|error| format!("parse {text:?}: {error}"))
}

fn read(text: &str) -> Result<Url, String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() {
        return Err("empty url".to_owned());
    }
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = scheme(before)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            // An opaque URL, `mailto:somebody`.
            return Ok(Url {
                scheme,
                query: query.to_owned(),
                text: text.to_owned(),
                ..Url::default()
            });
        }
        return Err("invalid URI for request".to_owned());
    }
    let (authority, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", rest),
    };
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            if !user.bytes().all(is_user_byte) {
                return Err("net/url: invalid userinfo".to_owned());
            }
            host
        }
        None => authority,
    };
    let host = checked_host(host)?;
    let escaped_path = escaped_path(path)?;
    unescape(fragment, false)?;
    Ok(Url { scheme, host, escaped_path, query: query.to_owned(), text: text.to_owned() })
}

fn scheme(text: &str) -> Result<(String, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(':') && !text.starts_with('/') {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    Ok((String::new(), text))
}

fn is_user_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

fn checked_host(host: &str) -> Result<String, String> {
    let after = match host.strip_prefix('[') {
        Some(inner) => {
            let (_, after) =
                inner.rsplit_once(']').ok_or_else(|| "missing ']' in host".to_owned())?;
            after
        }
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let is_port = after.is_empty()
        || after.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {after:?} after host"));
    }
    let invalid = host.chars().find(|c| " <>\"\\^`{|}".contains(*c));
    match invalid {
        Some(c) => Err(format!("invalid character {:?} in host name", c.to_string())),
        None => unescape(host, false),
    }
}

/// The text without its percent escapes.
fn unescape(text: &str, is_query: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let is_hex =
                    digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let byte = digits.filter(|_| is_hex).and_then(|d| u8::from_str_radix(d, 16).ok());
                let Some(byte) = byte else {
                    let shown: String =
                        String::from_utf8_lossy(rest).chars().take(2).collect::<String>();
                    return Err(format!("invalid URL escape {:?}", format!("%{shown}")));
                };
                bytes.push(byte);
                rest = &rest[2..];
            }
            b'+' if is_query => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path as it is written, if that is a valid form of it; else escaped anew.
fn escaped_path(path: &str) -> Result<String, String> {
    let plain = unescape(path, false)?;
    let is_valid = path
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@/[]%".contains(&byte));
    if is_valid {
        return Ok(path.to_owned());
    }
    if plain == "*" {
        return Ok(plain);
    }
    let mut escaped = String::with_capacity(plain.len());
    for byte in plain.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(escaped, "%{byte:02X}").map_err(|error| error.to_string())?;
        }
    }
    Ok(escaped)
}

/// The parameters, each with all its values. What cannot be read is skipped.
fn query<'a>(text: &str) -> Outcome<'a> {
    let mut values: Vec<(String, Vec<Val<'a>>)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Ok(key), Ok(value)) = (unescape(key, true), unescape(value, true)) else { continue };
        match values.iter_mut().find(|(known, _)| *known == key) {
            Some((_, list)) => list.push(Val::text(value)),
            None => values.push((key, vec![Val::text(value)])),
        }
    }
    let mut entries = map::Entries::default();
    for (key, list) in values {
        entries.set(Val::text(key), Val::list(list))?;
    }
    Ok(Val::Map(map::Map::of(entries)))
}
