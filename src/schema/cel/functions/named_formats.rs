//! Kubernetes' library `format`: named formats, and what is wrong with a text that should have one.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Native, urls};
use crate::schema::cel::{
    declarations::FORMATS,
    value::{Outcome, Val, extension::Extension, moment},
    work::Failure,
};

const LABEL_BYTES_MAX: usize = 63;
const SUBDOMAIN_BYTES_MAX: usize = 253;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                         '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                         for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                          alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
                          'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                           '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                           'my_value',  or '12345', regex used for validation is \
                           '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                         with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start \
                         and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
                         used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS \
                         subdomain prefix and '/' (e.g. 'example.com/MyName')";

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "format.named" => |_, a| {
            let name = a[0].as_text()?;
            let known = FORMATS.into_iter().find(|known| *known == name);
            Ok(Val::Optional(known.map(|name| Val::extension(Extension::Format(name)).into())))
        },
        "validate" => |_, a| {
            let Val::Extension(format) = &a[0] else { return Err(Failure::no_overload()) };
            let Extension::Format(name) = **format else { return Err(Failure::no_overload()) };
            validate(name, a[1].as_text()?)
        },
        _ => return None,
    })
}

/// `format.uuid()` and its like.
pub(super) fn constant(name: &str) -> Option<Native> {
    macro_rules! formats {
        ($($name:literal)*) => {
            match name {
                $(concat!("format.", $name) => {
                    Some(|_, _| Ok(Val::extension(Extension::Format($name))))
                })*
                _ => None,
            }
        };
    }
    formats!(
        "dns1123Label" "dns1123Subdomain" "dns1035Label" "qualifiedName" "dns1123LabelPrefix"
        "dns1123SubdomainPrefix" "dns1035LabelPrefix" "labelValue" "uri" "uuid" "byte" "date" "datetime"
    )
}

fn validate<'a>(format: &str, text: &str) -> Outcome<'a> {
    let masked = |text: &str| text.strip_suffix('-').map(|text| format!("{text}a"));
    let faults = match format {
        "dns1123Label" => label(text),
        "dns1123LabelPrefix" => label(&masked(text).unwrap_or_else(|| text.to_owned())),
        "dns1123Subdomain" => subdomain(text),
        "dns1123SubdomainPrefix" => subdomain(&masked(text).unwrap_or_else(|| text.to_owned())),
        "dns1035Label" => label_1035(text),
        "dns1035LabelPrefix" => label_1035(&masked(text).unwrap_or_else(|| text.to_owned())),
        "qualifiedName" => qualified_name(text),
        "labelValue" => label_value(text),
        "uri" => urls::absolute(text).err().into_iter().collect(),
        "uuid" => unless(is_uuid(text), "does not match the UUID format"),
        "byte" => unless(BASE64_STANDARD.decode(text).is_ok(), "invalid base64"),
        "date" => unless(moment::date(text).is_some(), "invalid date"),
        "datetime" => unless(is_datetime(text), "invalid datetime"),
        _ => return Err(Failure::no_overload()),
    };
    if faults.is_empty() {
        return Ok(Val::Optional(None));
    }
    Ok(Val::some(Val::list(faults.into_iter().map(Val::text).collect())))
}

fn unless(is_valid: bool, fault: &str) -> Vec<String> {
    if is_valid { Vec::new() } else { vec![fault.to_owned()] }
}

fn too_long(text: &str, most: usize) -> Vec<String> {
    unless(text.len() <= most, &format!("must be no more than {most} bytes"))
}

/// Whether the text starts and ends with a letter or a digit, with these in between.
fn is_name(text: &str, is_end: fn(u8) -> bool, between: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_end(*first) && is_end(*last) && bytes.iter().all(|b| is_end(*b) || between.contains(b))
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_any(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn label(text: &str) -> Vec<String> {
    let mut faults = too_long(text, LABEL_BYTES_MAX);
    if !is_name(text, is_lower, b"-") {
        faults.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            LABEL.to_owned()
        });
    }
    faults
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| is_name(label, is_lower, b"-"))
}

fn subdomain(text: &str) -> Vec<String> {
    let mut faults = too_long(text, SUBDOMAIN_BYTES_MAX);
    faults.extend(unless(is_subdomain(text), SUBDOMAIN));
    faults
}

fn label_1035(text: &str) -> Vec<String> {
    let mut faults = too_long(text, LABEL_BYTES_MAX);
    let is_label =
        is_name(text, is_lower, b"-") && text.starts_with(|c: char| c.is_ascii_lowercase());
    faults.extend(unless(is_label, LABEL_1035));
    faults
}

fn label_value(text: &str) -> Vec<String> {
    let mut faults = too_long(text, LABEL_BYTES_MAX);
    faults.extend(unless(text.is_empty() || is_name(text, is_any, b"-_."), LABEL_VALUE));
    faults
}

fn qualified_name(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(subdomain(prefix).iter().map(|fault| format!("prefix part {fault}")));
            }
            name
        }
        _ => return vec![QUALIFIED.to_owned()],
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_BYTES_MAX {
        faults.push(format!("name part must be no more than {LABEL_BYTES_MAX} bytes"));
    }
    faults.extend(unless(is_name(name, is_any, b"-_."), NAME_PART));
    faults
}

fn is_uuid(text: &str) -> bool {
    let digits: String = text.split('-').collect();
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    // Hyphens are optional, but stand only between groups.
    let starts = [8, 12, 16, 20];
    let mut at = 0;
    let hyphens_fit = groups[..groups.len() - 1].iter().all(|length| {
        at += length;
        starts.contains(&at) && *length > 0
    });
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && hyphens_fit
}

/// The format of OpenAPI also takes small letters and a space.
fn is_datetime(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    moment::rfc3339(&text).is_some()
}
