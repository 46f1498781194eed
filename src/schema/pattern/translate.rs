//! Go's syntax of regular expressions in that of the crate `regex`: classes as `\d` are of ASCII, `{` and `[` may stand
//! for themselves, octal numbers and `\Q...\E` exist, and what only Rust knows is refused. Source: Go's
//! `regexp/syntax`.

use std::fmt::Write;

/// Most repetitions, alone or nested.
const REPEAT_MAX: usize = 1000;

/// Size of a class that has characters beyond ASCII, and of one by a property of Unicode.
const WIDE: usize = 4;
const OF_UNICODE: usize = 32;

/// A pattern in Rust's syntax.
pub(super) struct Translated {
    pub(super) text: String,
    /// As [`Pattern::size`](super::Pattern::size).
    pub(super) size: usize,
}

/// Translates a pattern.
///
/// # Errors
/// What Go would say, after `error parsing regexp: `.
pub(super) fn translate(pattern: &str) -> Result<Translated, String> {
    let mut translator =
        Translator { pattern, rest: pattern, out: String::new(), groups: vec![Group::default()] };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    let [whole] = translator.groups.as_slice() else {
        return Err(format!("missing closing ): `{pattern}`"));
    };
    Ok(Translated { size: whole.size.max(1), text: translator.out })
}

struct Translator<'a> {
    pattern: &'a str,
    rest: &'a str,
    out: String,
    /// Open groups, the whole pattern first.
    groups: Vec<Group>,
}

/// What has been read of a group.
#[derive(Default)]
struct Group {
    size: usize,
    /// What a repetition operator would repeat.
    last: Option<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    size: usize,
    /// How often it is repeated already by the repetitions inside of it.
    repeats: usize,
    /// Itself a repetition, which cannot be repeated without a group.
    is_repetition: bool,
}

/// Escapes for classes of ASCII: letter, and what stands between the brackets.
const PERL_CLASSES: &[(char, &str)] = &[('d', "0-9"), ('w', "0-9A-Za-z_"), ('s', r"\t\n\x0c\r ")];

const POSIX_CLASSES: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

impl<'a> Translator<'a> {
    fn step(&mut self) -> Result<(), String> {
        let Some(next) = self.rest.chars().next() else { return Ok(()) };
        match next {
            '\\' => return self.escape(),
            '[' => return self.class(),
            '(' => return self.open(),
            ')' => return self.close(),
            '*' | '+' | '?' => return self.repeat(1, (0, None), (next == '?').then_some(1)),
            '{' => {
                if let Some((length, counts)) = repeat_counts(self.rest) {
                    return self.repeat(length, counts, None);
                }
                self.literal('{');
            }
            '|' => {
                self.out.push('|');
                self.group().last = None;
            }
            '^' | '$' | '.' => {
                self.out.push(next);
                self.atom(if next == '.' { WIDE } else { 1 });
            }
            literal => self.literal(literal),
        }
        self.skip(next.len_utf8());
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn group(&mut self) -> &mut Group {
        // The whole pattern is never closed.
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let last = self.groups.len().saturating_sub(1);
        &mut self.groups[last]
    }

    fn atom(&mut self, size: usize) {
        let group = self.group();
        group.size = group.size.saturating_add(size);
        group.last = Some(Last { size, repeats: 1, is_repetition: false });
    }

    fn literal(&mut self, literal: char) {
        self.out.push_str(&quoted(literal));
        self.atom(1);
    }

    fn open(&mut self) -> Result<(), String> {
        let prefix = if self.rest.starts_with("(?") { self.open_special()? } else { "(" };
        self.out.push_str(prefix);
        self.skip(prefix.len());
        // Flags alone open nothing.
        if !prefix.ends_with(')') {
            if self.groups.len() > super::NESTING_MAX as usize {
                return Err(format!("expression nests too deeply: `{}`", self.pattern));
            }
            self.groups.push(Group::default());
        }
        Ok(())
    }

    /// `(?:`, `(?i)`, `(?i:`, `(?P<name>` or `(?<name>`.
    fn open_special(&self) -> Result<&'a str, String> {
        let rest = self.rest;
        for start in ["(?P<", "(?<"] {
            let Some(named) = rest.strip_prefix(start) else { continue };
            let Some(end) = named.find('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let whole = start.len().saturating_add(end).saturating_add(1);
            if end == 0 || !named[..end].chars().all(is_word) {
                return Err(format!("invalid named capture: `{}`", &rest[..whole]));
            }
            return Ok(&rest[..whole]);
        }
        let refused = |end: usize| {
            Err(format!("invalid or unsupported Perl syntax: `{}`", &rest[..end.min(rest.len())]))
        };
        let flags = &rest[2..];
        let Some(end) = flags.find(|c: char| !matches!(c, 'i' | 'm' | 's' | 'U' | '-')) else {
            return refused(rest.len());
        };
        let last = flags[end..].chars().next().unwrap_or_default();
        let whole = end.saturating_add(2).saturating_add(last.len_utf8());
        let minus = flags[..end].matches('-').count();
        let says_nothing = flags[..end].ends_with('-') || (end == 0 && last == ')');
        if !matches!(last, ':' | ')') || minus > 1 || says_nothing {
            return refused(whole);
        }
        Ok(&rest[..whole])
    }

    fn close(&mut self) -> Result<(), String> {
        if self.groups.len() < 2 {
            return Err(format!("unexpected ): `{}`", self.pattern));
        }
        let closed = self.groups.pop().unwrap_or_default();
        self.out.push(')');
        self.skip(1);
        let repeats = closed.last.map_or(1, |last| last.repeats);
        self.atom(closed.size.max(1));
        if let Some(last) = &mut self.group().last {
            last.repeats = repeats;
        }
        Ok(())
    }

    /// An operator of so many bytes, before a `?` that makes it lazy. `most`, if the counts do not say it.
    fn repeat(
        &mut self,
        length: usize,
        (min, max): (usize, Option<usize>),
        most: Option<usize>,
    ) -> Result<(), String> {
        let lazy = usize::from(self.rest[length..].starts_with('?'));
        let operator = &self.rest[..length.saturating_add(lazy)];
        let Some(last) = self.group().last else {
            return Err(format!("missing argument to repetition operator: `{operator}`"));
        };
        if last.is_repetition {
            return Err(format!("invalid nested repetition operator: `{operator}`"));
        }
        let counted = max.unwrap_or(0).max(min);
        let repeats = last.repeats.saturating_mul(counted.max(1));
        if max.is_some_and(|max| max < min) || counted > REPEAT_MAX || repeats > REPEAT_MAX {
            return Err(format!("invalid repeat count: `{operator}`"));
        }
        let size = last.size.saturating_mul(most.unwrap_or(counted).max(1));
        let group = self.group();
        group.size = group.size.saturating_sub(last.size).saturating_add(size);
        group.last = Some(Last { size, repeats, is_repetition: true });
        self.out.push_str(operator);
        self.skip(operator.len());
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        if let Some(quoted) = self.rest.strip_prefix(r"\Q") {
            let (literals, rest) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            literals.chars().for_each(|literal| self.literal(literal));
            self.rest = rest;
            return Ok(());
        }
        let escaped = self.rest[1..].chars().next();
        match escaped {
            Some(edge @ ('A' | 'z')) => {
                let _ = write!(self.out, "\\{edge}");
                self.skip(2);
            }
            Some(edge @ ('b' | 'B')) => {
                let _ = write!(self.out, "(?-u:\\{edge})");
                self.skip(2);
            }
            _ => match self.escaped_class(false)? {
                Some(class) => {
                    self.out.push_str(&class);
                    self.atom(class_size(&class));
                    return Ok(());
                }
                None => {
                    let literal = self.escaped_character()?;
                    self.out.push_str(&quoted(literal));
                }
            },
        }
        self.atom(1);
        Ok(())
    }

    /// `\d` and the like, or `\pL`: as a class of its own, or for the inside of one.
    fn escaped_class(&mut self, inside: bool) -> Result<Option<String>, String> {
        let Some(letter) = self.rest[1..].chars().next() else { return Ok(None) };
        if letter == 'p' || letter == 'P' {
            return self.unicode_class(letter).map(Some);
        }
        let Some((name, set)) = PERL_CLASSES.iter().find(|(c, _)| letter.eq_ignore_ascii_case(c))
        else {
            return Ok(None);
        };
        self.skip(2);
        Ok(Some(match (letter == *name, inside) {
            (true, true) => (*set).to_owned(),
            (true, false) => format!("[{set}]"),
            (false, _) => format!("[^{set}]"),
        }))
    }

    fn unicode_class(&mut self, letter: char) -> Result<String, String> {
        let rest = self.rest;
        let (name, length) = match rest[2..].strip_prefix('{') {
            Some(named) => {
                let Some(end) = named.find('}') else {
                    return Err(format!("invalid character class range: `{rest}`"));
                };
                (&named[..end], end.saturating_add(4))
            }
            None => {
                let length = rest[2..].chars().next().map_or(0, char::len_utf8);
                (&rest[2..length.saturating_add(2)], length.saturating_add(2))
            }
        };
        let (name, flipped) = match name.strip_prefix('^') {
            Some(name) => (name, true),
            None => (name, false),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            return Err(format!("invalid character class range: `{}`", &rest[..length]));
        }
        self.skip(length);
        let letter = if (letter == 'P') == flipped { 'p' } else { 'P' };
        Ok(format!("\\{letter}{{{name}}}"))
    }

    /// An escape that stands for one character.
    fn escaped_character(&mut self) -> Result<char, String> {
        let rest = self.rest;
        let Some(escaped) = rest[1..].chars().next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let end = escaped.len_utf8().saturating_add(1);
        let invalid = |end: usize| format!("invalid escape sequence: `{}`", &rest[..end]);
        let (found, end) = match escaped {
            'a' => ('\u{7}', end),
            'f' => ('\u{c}', end),
            'n' => ('\n', end),
            'r' => ('\r', end),
            't' => ('\t', end),
            'v' => ('\u{b}', end),
            'x' => hexadecimal(rest).ok_or_else(|| invalid(end))?,
            '0'..='7' => octal(rest).ok_or_else(|| invalid(end))?,
            mark if mark.is_ascii() && !mark.is_ascii_alphanumeric() => (mark, end),
            _ => return Err(invalid(end)),
        };
        self.skip(end);
        Ok(found)
    }

    fn class(&mut self) -> Result<(), String> {
        let start = self.rest;
        let begin = self.out.len();
        self.skip(1);
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.out.push('^');
            self.skip(1);
        }
        let mut is_first = true;
        while is_first || !self.rest.starts_with(']') {
            if self.rest.is_empty() {
                return Err(format!("missing closing ]: `{start}`"));
            }
            self.class_item()?;
            is_first = false;
        }
        self.out.push(']');
        self.skip(1);
        let size = class_size(&self.out[begin..]);
        self.atom(size);
        Ok(())
    }

    fn class_item(&mut self) -> Result<(), String> {
        if let Some((name, length)) = posix_class(self.rest) {
            let class = &self.rest[..length];
            if !POSIX_CLASSES.contains(&name.trim_start_matches('^')) {
                return Err(format!("invalid character class range: `{class}`"));
            }
            self.out.push_str(class);
            self.skip(length);
            return Ok(());
        }
        if self.rest.starts_with('\\')
            && let Some(class) = self.escaped_class(true)?
        {
            self.out.push_str(&class);
            return Ok(());
        }
        let start = self.rest;
        let low = self.class_character(start)?;
        self.out.push_str(&quoted(low));
        let to = self.rest.strip_prefix('-').filter(|to| !to.is_empty() && !to.starts_with(']'));
        if to.is_some() {
            self.skip(1);
            let high = self.class_character(start)?;
            if high < low {
                let range = &start[..start.len().saturating_sub(self.rest.len())];
                return Err(format!("invalid character class range: `{range}`"));
            }
            let _ = write!(self.out, "-{}", quoted(high));
        }
        Ok(())
    }

    fn class_character(&mut self, start: &str) -> Result<char, String> {
        match self.rest.chars().next() {
            Some('\\') => self.escaped_character(),
            Some(literal) => {
                self.skip(literal.len_utf8());
                Ok(literal)
            }
            None => Err(format!("missing closing ]: `{start}`")),
        }
    }
}

/// The size of a class that is written in Rust's syntax.
fn class_size(class: &str) -> usize {
    let properties = class.matches("\\p{").count().saturating_add(class.matches("\\P{").count());
    let is_wide = class.contains("[^") || !class.is_ascii();
    properties.saturating_mul(OF_UNICODE).max(if is_wide { WIDE } else { 1 })
}

/// A character that stands for itself, wherever it stands.
fn quoted(literal: char) -> String {
    if literal.is_ascii_punctuation() && !matches!(literal, '<' | '>') {
        format!("\\{literal}")
    } else {
        literal.to_string()
    }
}

/// `{2}`, `{2,}` or `{2,5}`: its length, and what it says. Anything else stands for itself.
fn repeat_counts(text: &str) -> Option<(usize, (usize, Option<usize>))> {
    let inner = text.strip_prefix('{')?;
    let end = inner.find('}')?;
    let length = end.saturating_add(2);
    // What is too large for a number is too large for a count as well.
    let number = |digits: &str| {
        let is_number = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        is_number.then(|| digits.parse().unwrap_or(usize::MAX))
    };
    let counts = match inner[..end].split_once(',') {
        None => {
            let count = number(&inner[..end])?;
            (count, Some(count))
        }
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    Some((length, counts))
}

/// `[:alpha:]`: its name, and its length.
fn posix_class(text: &str) -> Option<(&str, usize)> {
    let name = text.strip_prefix("[:")?;
    let end = name.find(":]")?;
    Some((&name[..end], end.saturating_add(4)))
}

/// `\x7f` or `\x{10ffff}`, and its length.
fn hexadecimal(text: &str) -> Option<(char, usize)> {
    let digits = &text[2..];
    let (digits, length) = match digits.strip_prefix('{') {
        Some(braced) => {
            let end = braced.find('}')?;
            (&braced[..end], end.saturating_add(4))
        }
        None => (digits.get(..2)?, 4),
    };
    let is_hexadecimal = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)?;
    Some((char::from_u32(code)?, length))
}

/// `\0`, `\12` or `\123`, and its length. One digit that is not zero would refer back to a group, which Go refuses.
fn octal(text: &str) -> Option<(char, usize)> {
    let digits: &str = &text[1..];
    let count = digits.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
    if count == 1 && !digits.starts_with('0') {
        return None;
    }
    let code = u32::from_str_radix(&digits[..count], 8).ok()?;
    Some((char::from_u32(code)?, count.saturating_add(1)))
}
