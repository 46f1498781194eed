//! [`Format`]: the formats of strings that Kubernetes checks, by kube-openapi's `strfmt`. All others are ignored.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use regex::Regex;

/// A format that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A BSON object ID.
    BsonObjectId,
    /// Base64 that is not empty.
    Byte,
    /// An IP network, `10.0.0.0/8`.
    Cidr,
    /// A credit card's number with a right check digit.
    CreditCard,
    /// `2006-01-02`.
    Date,
    /// A time by RFC 3339.
    DateTime,
    /// `1h30m`, or `22 ns`.
    Duration,
    /// An e-mail address, with or without a name.
    Email,
    /// `#fff` or `#ffffff`.
    HexColor,
    /// A host's name.
    Hostname,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A book's number, either length.
    Isbn,
    /// A book's number of 10 digits.
    Isbn10,
    /// A book's number of 13 digits.
    Isbn13,
    /// A hardware address.
    Mac,
    /// Any text.
    Password,
    /// `rgb(0, 127, 255)`.
    RgbColor,
    /// A social security number of the United States.
    Ssn,
    /// An absolute URI, or an absolute path.
    Uri,
    /// Any UUID.
    Uuid,
    /// A UUID of version 3.
    Uuid3,
    /// A UUID of version 4.
    Uuid4,
    /// A UUID of version 5.
    Uuid5,
    /// A DNS label in lower case.
    ShortName,
    /// DNS labels in lower case.
    LongName,
}

impl Format {
    /// The format of this name; dashes in names do not count.
    pub fn of(name: &str) -> Option<Self> {
        if name.contains('-') {
            return match name {
                "date-time" => Some(Self::DateTime),
                "k8s-short-name" => Some(Self::ShortName),
                "k8s-long-name" => Some(Self::LongName),
                other => Self::of(&other.replace('-', "")),
            };
        }
        Some(match name {
            "bsonobjectid" => Self::BsonObjectId,
            "byte" => Self::Byte,
            "cidr" => Self::Cidr,
            "creditcard" => Self::CreditCard,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "duration" => Self::Duration,
            "email" => Self::Email,
            "hexcolor" => Self::HexColor,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "isbn" => Self::Isbn,
            "isbn10" => Self::Isbn10,
            "isbn13" => Self::Isbn13,
            "mac" => Self::Mac,
            "password" => Self::Password,
            "rgbcolor" => Self::RgbColor,
            "ssn" => Self::Ssn,
            "uri" => Self::Uri,
            "uuid" => Self::Uuid,
            "uuid3" => Self::Uuid3,
            "uuid4" => Self::Uuid4,
            "uuid5" => Self::Uuid5,
            "k8sshortname" => Self::ShortName,
            "k8slongname" => Self::LongName,
            _ => return None,
        })
    }

    /// Whether the text has the format.
    pub fn holds(self, text: &str) -> bool {
        match self {
            Self::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Self::Byte => is_base64(text),
            Self::Cidr => is_cidr(text),
            Self::CreditCard => is_credit_card(text),
            Self::Date => is_date(text),
            Self::DateTime => is_date_time(text),
            Self::Duration => is_duration(text),
            Self::Email => is_email(text),
            Self::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Self::Hostname => is_hostname(text),
            Self::Ipv4 => is_ipv4(text) || (text.contains('.') && is_ipv6(text)),
            Self::Ipv6 => is_ipv6(text),
            Self::Isbn => is_isbn10(text) || is_isbn13(text),
            Self::Isbn10 => is_isbn10(text),
            Self::Isbn13 => is_isbn13(text),
            Self::Mac => is_mac(text),
            Self::Password => true,
            Self::RgbColor => is_rgb_color(text),
            Self::Ssn => is_ssn(text),
            Self::Uri => is_request_uri(text),
            Self::Uuid => is_uuid(text, None),
            Self::Uuid3 => is_uuid(text, Some(b'3')),
            Self::Uuid4 => is_uuid(text, Some(b'4')),
            Self::Uuid5 => is_uuid(text, Some(b'5')),
            Self::ShortName => text.len() <= 63 && is_short_name(text),
            Self::LongName => text.len() <= 253 && text.split('.').all(is_short_name),
        }
    }
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len().saturating_sub(digits.len());
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    !text.is_empty() && text.len().is_multiple_of(4) && padding < 3 && digits.bytes().all(is_digit)
}

/// With leading zeros, which Go once read and Kubernetes still does.
fn is_ipv4(text: &str) -> bool {
    let is_octet = |part: &str| {
        let digits = part.trim_start_matches('0');
        !part.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits.is_empty() || digits.parse::<u8>().is_ok())
    };
    text.split('.').count() == 4 && text.split('.').all(is_octet)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.rsplit_once('/') else { return false };
    let max = if is_ipv4(address) {
        32
    } else if is_ipv6(address) {
        128
    } else {
        return false;
    };
    let is_plain = length.bytes().all(|b| b.is_ascii_digit());
    is_plain && length.parse::<u16>().is_ok_and(|length| length <= max)
}

fn is_credit_card(text: &str) -> bool {
    const FORMS: &str = "^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}\
        |3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    static FORM: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(FORMS).expect("the pattern is right"));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let doubled = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
    let sum: usize = digits
        .bytes()
        .rev()
        .map(|b| usize::from(b.saturating_sub(b'0')))
        .enumerate()
        .map(|(at, digit)| if at % 2 == 1 { doubled[digit] } else { digit })
        .sum();
    FORM.is_match(&digits) && sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    let is_plain = |(at, b): (usize, u8)| match at {
        4 | 7 => b == b'-',
        _ => b.is_ascii_digit(),
    };
    let is_zero_year = text.starts_with("0000");
    text.len() == 10
        && text.bytes().enumerate().all(is_plain)
        && (text.parse::<jiff::civil::Date>().is_ok() || is_zero_year && text.is_ascii())
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && is_time(time)
}

/// `19:30:20.000z` or `19:30:20+01:00`. Seconds of 60 do not exist; the separator of the fraction may be any character.
fn is_time(text: &str) -> bool {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$")
            .expect("the pattern is right")
    });
    FORM.is_match(text) && &text[..2] <= "23" && &text[3..5] <= "59" && &text[6..8] <= "59"
}

/// As Go's `time.ParseDuration` reads it, or any text with a number before a unit.
fn is_duration(text: &str) -> bool {
    static PAIR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"([0-9]+)[\t\n\x0c\r ]*([A-Za-zµ]+)").expect("the pattern is right")
    });
    const UNITS: &[&str] = &[
        "ns", "us", "µs", "ms", "s", "m", "h", "d", "w", "wk", "nano", "micro", "milli", "sec",
        "min", "hr", "hour", "day", "week",
    ];
    // The last name of each unit may go on: `hours`.
    const OPEN: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    if is_go_duration(text) {
        return true;
    }
    let mut found = false;
    for pair in PAIR.captures_iter(text) {
        if pair[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = pair[2].to_lowercase();
        found |= UNITS.contains(&&*unit) || OPEN.iter().any(|open| unit.starts_with(open));
    }
    found
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut count = 0_usize;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.trim_matches('.').is_empty() || number.matches('.').count() > 1 {
            return false;
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
        count = count.saturating_add(1);
    }
    count > 0
}

/// An address by RFC 5322, as `net/mail` reads it: `snow@example.com`, or with a name before it in angle brackets.
fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    let address = match text.strip_suffix('>') {
        None => text,
        Some(named) => {
            let Some((name, address)) = named.rsplit_once('<') else { return false };
            let name = name.trim();
            let is_quoted = name.len() > 1 && name.starts_with('"') && name.ends_with('"');
            let is_word = |c: char| is_atom(c) || matches!(c, ' ' | '.' | '\t');
            if !is_quoted && !name.chars().all(is_word) {
                return false;
            }
            address
        }
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let inner = local.strip_prefix('"').and_then(|local| local.strip_suffix('"'));
    let is_local = match inner {
        Some(inner) => !inner.contains(['"', '\\', '\n']),
        None => is_dotted_atoms(local),
    };
    is_local && (is_dotted_atoms(domain) || is_domain_literal(domain))
}

fn is_domain_literal(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| {
        let six = inner.strip_prefix("IPv6:").is_some_and(is_ipv6);
        six || inner.parse::<Ipv4Addr>().is_ok()
    })
}

fn is_dotted_atoms(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom))
}

fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

/// Labels of letters, digits, symbols and inner dashes; the last of several has letters only.
fn is_hostname(text: &str) -> bool {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.))+([a-zA-Z\p{L}]){2,63})$",
        )
        .expect("the pattern is right")
    });
    text.len() <= 255 && text.split('.').all(|label| label.len() <= 63) && FORM.is_match(text)
}

fn without_dashes(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !matches!(b, b'-' | b' ' | b'\t' | b'\n' | b'\r' | 0xc)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = without_dashes(text);
    let value = |(at, b): (usize, &u8)| match b {
        b'0'..=b'9' => Some(usize::from(b.saturating_sub(b'0'))),
        b'X' if at == 9 => Some(10),
        _ => None,
    };
    let values: Option<Vec<usize>> = digits.iter().enumerate().map(value).collect();
    let Some(values) = values.filter(|values| values.len() == 10) else { return false };
    let sum: usize =
        (1..).zip(values).map(|(weight, v): (usize, _)| weight.saturating_mul(v)).sum();
    sum.is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let digits = without_dashes(text);
    if digits.len() != 13 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let values = digits.iter().map(|b| usize::from(b.saturating_sub(b'0'))).enumerate();
    let sum: usize = values.map(|(at, v)| if at % 2 == 1 { v.saturating_mul(3) } else { v }).sum();
    sum.is_multiple_of(10)
}

/// Pairs of hexadecimal digits between colons or dashes, or groups of four between dots: 6, 8 or 20 bytes.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        counts.contains(&text.split(separator).count())
            && text
                .split(separator)
                .all(|g| g.len() == width && g.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|text| text.strip_suffix(')'));
    let is_part = |part: &str| {
        let part = part.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
        let is_plain = part == "0" || !part.starts_with('0');
        is_plain && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok()
    };
    inner.is_some_and(|inner| inner.split(',').count() == 3 && inner.split(',').all(is_part))
}

fn is_ssn(text: &str) -> bool {
    let is_plain = |(at, b): (usize, u8)| match at {
        3 | 6 => matches!(b, b'-' | b' '),
        _ => b.is_ascii_digit(),
    };
    text.len() == 11 && text.bytes().enumerate().all(is_plain)
}

/// As Go's `url.ParseRequestURI` reads it: a scheme and more, or an absolute path.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b.is_ascii_control()) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = split_scheme(text) else { return false };
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        // An opaque text after a scheme.
        return !scheme.is_empty();
    }
    let authority = rest.strip_prefix("//").filter(|after| !after.starts_with('/'));
    match authority {
        Some(after) if !scheme.is_empty() => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            is_authority(authority) && has_sound_escapes(path)
        }
        _ => has_sound_escapes(rest),
    }
}

/// The scheme, which may be empty, and the rest; none if a scheme should be there and is not sound.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at > 0 => return Some((&text[..at], &text[at.saturating_add(1)..])),
            ':' => return None,
            _ => return Some(("", text)).filter(|_| text.starts_with('/')),
        }
    }
    None
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.rsplit_once('@').unwrap_or(("", text));
    let is_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    let port = match host.strip_prefix('[') {
        Some(literal) => {
            let Some((_, port)) = literal.split_once(']') else { return false };
            port
        }
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let is_host =
        |c: char| !matches!(c, ' ' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}' | '\\');
    user.chars().all(is_user) && is_port && host.chars().all(is_host) && has_sound_escapes(text)
}

fn has_sound_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        after.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Dashes may be left out. Version 4 and 5 also say the variant.
fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let mut dashes = text.bytes().enumerate().filter(|(_, b)| *b == b'-');
    let mut seen = 0_usize;
    let are_placed = dashes.all(|(at, _)| {
        let digits_before = at.saturating_sub(seen);
        seen = seen.saturating_add(1);
        matches!(digits_before, 8 | 12 | 16 | 20)
    });
    let is_variant = !matches!(version, Some(b'4' | b'5'))
        || digits
            .get(16)
            .is_some_and(|b| matches!(b.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'));
    digits.len() == 32
        && digits.iter().all(u8::is_ascii_hexdigit)
        && are_placed
        && !text.contains("--")
        && version.is_none_or(|version| digits[12] == version)
        && is_variant
}

fn is_short_name(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::Format;

    /// Name, texts that have it, texts that have not.
    const FORMATS: &[(&str, &[&str], &[&str])] = &[
        ("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f1f77bcf86cd79943901", "x"]),
        ("byte", &["ZWxpemFiZXRocG9zZXk="], &["", "abc", "a===", "ab-_"]),
        (
            "cidr",
            &["10.0.0.0/8", "2001:db8::/32", "010.0.0.0/8"],
            &["10.0.0.0", "10.0.0.0/33", "x/8"],
        ),
        ("creditcard", &["4111-1111-1111-1111"], &["4111-1111-1111-1112", "9"]),
        ("date", &["2014-12-15", "2024-02-29"], &["2014-02-30", "2014-1-1", "2014-12-15T"]),
        (
            "date-time",
            &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
            &["2014-12-15", "2014-12-15T24:00:00Z", "2014-12-15T19:30:60Z"],
        ),
        ("datetime", &["2014-12-15T19:30:20Z"], &["yesterday"]),
        (
            "duration",
            &["1h30m", "22 ns", "3 days", "1.5h", "-1s", "0"],
            &["", "h", "1", "1x", "one hour"],
        ),
        (
            "email",
            &["snow@example.com", "Snow <snow@example.com>", "\"a b\"@x"],
            &["snow", "@x", "a b@x"],
        ),
        ("hexcolor", &["#FFFFFF", "fff"], &["#ffff", "#ggg"]),
        (
            "hostname",
            &["somewhere.com", "a", "a-b", "xn--ls8h.la"],
            &["somewhere.com!", "-a", "a..b", "1.2"],
        ),
        ("ipv4", &["192.168.254.1", "010.1.1.1"], &["1.2.3", "1.2.3.256", "::1"]),
        ("ipv6", &["::1", "2001:db8::1"], &["127.0.0.1", ":::1"]),
        ("isbn", &["0321751043", "978-0321751041"], &["0321751042"]),
        ("isbn10", &["0321751043", "080442957X"], &["978-0321751041"]),
        ("isbn13", &["978 3401013190"], &["978 3401013191"]),
        ("mac", &["01:02:03:04:05:06", "0102.0304.0506"], &["01:02:03:04:05", "01-02:03-04-05-06"]),
        ("password", &["", "any"], &[]),
        ("rgbcolor", &["rgb(255, 0,1)"], &["rgb(256,0,0)", "rgb(0,0)", "rgb(01,0,0)"]),
        ("ssn", &["111-11-1111", "111 11 1111"], &["111111111", "11-111-1111"]),
        (
            "uri",
            &["http://somewhere.com/a?b", "/path", "mailto:a@b", "*"],
            &["", "somewhere", "http://a b/", "http://a:b/", "/%zz"],
        ),
        (
            "uuid",
            &["a8098c1a-f86e-11da-bd1a-00112444be1e", "A8098C1AF86E11DABD1A00112444BE1E"],
            &["a8098c1a", "a8098c1a-f86e-11da-bd1a-00112444be1g"],
        ),
        (
            "uuid3",
            &["bcd02e22-68f0-3046-a512-327cca9def8f"],
            &["025b0d74-00a2-4048-bf57-227c5111bb34"],
        ),
        (
            "uuid4",
            &["025b0d74-00a2-4048-bf57-227c5111bb34"],
            &["bcd02e22-68f0-3046-a512-327cca9def8f"],
        ),
        (
            "uuid5",
            &["886313e1-3b8a-5372-9b90-0c9aee199e5d"],
            &["025b0d74-00a2-4048-7f57-227c5111bb34"],
        ),
        ("k8s-short-name", &["a-1"], &["", "-a", "A", "a.b"]),
        ("k8s-long-name", &["a.b-1.c"], &["a..b", "A"]),
    ];

    #[test]
    fn formats_hold_as_in_kubernetes() {
        for (format, right, wrong) in FORMATS {
            let known = Format::of(format).unwrap();
            for text in *right {
                assert!(known.holds(text), "{format}: {text:?}");
            }
            for text in *wrong {
                assert!(!known.holds(text), "{format}: {text:?}");
            }
        }
        assert_eq!(Format::of("int32"), None);
        assert_eq!(Format::of("snow"), None);
    }
}
