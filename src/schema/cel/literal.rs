//! Escapes in string and bytes literals.

/// How many characters the escape at the start of `text` has; none if it is none.
pub(super) fn escape_length(text: &[char]) -> Option<usize> {
    let hex = |count: usize| {
        let digits = text.get(2..2 + count)?;
        digits.iter().all(char::is_ascii_hexdigit).then_some(2 + count)
    };
    match text.get(1)? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`' => Some(2),
        'x' | 'X' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        '0'..='3' => {
            let digits = text.get(2..4)?;
            digits.iter().all(|c| ('0'..='7').contains(c)).then_some(4)
        }
        _ => None,
    }
}

/// The value of a string literal between its quotes.
pub(super) fn string(text: &[char], raw: bool) -> Result<String, &'static str> {
    let mut value = String::new();
    each(text, raw, |part| {
        value.push(match part {
            Part::Character(c) => c,
            Part::Number { value, .. } => {
                char::from_u32(value).ok_or("invalid unicode code point")?
            }
        });
        Ok(())
    })?;
    Ok(value)
}

/// The value of a bytes literal between its quotes: escapes by number are bytes.
pub(super) fn bytes(text: &[char], raw: bool) -> Result<Vec<u8>, &'static str> {
    let mut value = Vec::new();
    each(text, raw, |part| {
        match part {
            Part::Character(c) => value.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            Part::Number { unicode: true, .. } => return Err("unable to unescape string"),
            Part::Number { value: byte, .. } => {
                value.push(u8::try_from(byte).ok().ok_or("unable to unescape string")?);
            }
        }
        Ok(())
    })?;
    Ok(value)
}

enum Part {
    Character(char),
    Number { value: u32, unicode: bool },
}

/// Line ends are `\n`, however they are written. The lexer has checked that escapes are whole.
fn each(
    text: &[char],
    raw: bool,
    mut take: impl FnMut(Part) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        if c == '\\' && !raw {
            let length = escape_length(&text[at..]).ok_or("unable to unescape string")?;
            take(escaped(&text[at..at + length])?)?;
            at += length;
            continue;
        }
        at += 1;
        if c == '\r' {
            at += usize::from(text.get(at) == Some(&'\n'));
            take(Part::Character('\n'))?;
        } else {
            take(Part::Character(c))?;
        }
    }
    Ok(())
}

fn escaped(escape: &[char]) -> Result<Part, &'static str> {
    let number = |digits: &[char], radix| {
        let text: String = digits.iter().collect();
        u32::from_str_radix(&text, radix).ok().ok_or("unable to unescape string")
    };
    Ok(match escape[1] {
        'a' => Part::Character('\u{7}'),
        'b' => Part::Character('\u{8}'),
        'f' => Part::Character('\u{c}'),
        'n' => Part::Character('\n'),
        'r' => Part::Character('\r'),
        't' => Part::Character('\t'),
        'v' => Part::Character('\u{b}'),
        'x' | 'X' => Part::Number { value: number(&escape[2..], 16)?, unicode: false },
        'u' | 'U' => Part::Number { value: number(&escape[2..], 16)?, unicode: true },
        '0'..='3' => Part::Number { value: number(&escape[1..], 8)?, unicode: false },
        other => Part::Character(other),
    })
}
