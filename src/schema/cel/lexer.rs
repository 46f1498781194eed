//! Splits the text of an expression into tokens.

use std::{fmt, sync::Arc};

use super::{
    literal,
    source::{Faults, Offset},
};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Identifier(Arc<str>),
    /// A name in backticks.
    Quoted,
    /// None: too large. A sign before it is a token of its own.
    Int(Option<u64>),
    Uint(Option<u64>),
    Double(f64),
    String(Result<Arc<str>, &'static str>),
    Bytes(Result<Arc<[u8]>, &'static str>),
    /// An operator, a bracket or a keyword.
    Sign(&'static str),
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) start: Offset,
}

const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];
/// Longer ones first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!",
    "?", ":", "+", "*", "/", "%",
];

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sign(text) => text,
            Self::Identifier(name) => name,
            Self::End => "<EOF>",
            _ => "literal",
        })
    }
}

/// All tokens, the last of which is [`Token::End`]. What is none is reported and skipped.
pub(super) fn tokens(text: &[char], faults: &mut Faults) -> Vec<Placed> {
    let mut lexer = Lexer { text, at: 0, faults };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let Some(token) = lexer.next() else { continue };
        let is_end = token == Token::End;
        tokens.push(Placed { token, start: offset(start) });
        if is_end {
            return tokens;
        }
    }
}

fn offset(at: usize) -> Offset {
    // The text's length is bounded before.
    Offset::try_from(at).unwrap_or(Offset::MAX - 1)
}

struct Lexer<'a> {
    text: &'a [char],
    at: usize,
    faults: &'a mut Faults,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn is_digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|c| c.is_ascii_digit())
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                Some(' ' | '\t' | '\r' | '\n' | '\u{c}') => self.at += 1,
                Some('/') if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// The next token; none if what follows is no token and was skipped.
    fn next(&mut self) -> Option<Token> {
        let Some(first) = self.peek(0) else { return Some(Token::End) };
        if let Some((prefix, raw, bytes)) = self.quoted() {
            return self.string(prefix, raw, bytes);
        }
        if first.is_ascii_digit() || (first == '.' && self.is_digit(1)) {
            return Some(self.number());
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            let keyword = KEYWORDS.into_iter().find(|word| *word == name);
            return Some(keyword.map_or_else(|| Token::Identifier(name.into()), Token::Sign));
        }
        if first == '`' {
            return self.backticks();
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c)) {
                self.at += sign.len();
                return Some(Token::Sign(sign));
            }
        }
        let count = if matches!(first, '&' | '|' | '=') { 2 } else { 1 };
        self.unrecognized(self.at, self.at + count);
        None
    }

    fn unrecognized(&mut self, start: usize, end: usize) {
        let end = end.min(self.text.len());
        let text: String = self.text[start..end].iter().collect();
        self.at = end;
        let message = format!("Syntax error: token recognition error at: '{text}'");
        self.faults.report(offset(start), message);
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek(0).is_some_and(&is_part) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    fn backticks(&mut self) -> Option<Token> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
        if name.is_empty() || self.peek(0) != Some('`') {
            self.unrecognized(start, self.at + 1);
            return None;
        }
        self.at += 1;
        Some(Token::Quoted)
    }

    fn number(&mut self) -> Token {
        let is_hex = |c: Option<char>| c.is_some_and(|c| c.is_ascii_hexdigit());
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') && is_hex(self.peek(2)) {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.whole(u64::from_str_radix(&digits, 16).ok());
        }
        let start = self.at;
        while self.is_digit(0) {
            self.at += 1;
        }
        let mut is_double = false;
        if self.peek(0) == Some('.') && self.is_digit(1) {
            is_double = true;
            self.at += 1;
            while self.is_digit(0) {
                self.at += 1;
            }
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.is_digit(1 + sign) {
                is_double = true;
                self.at += 1 + sign;
                while self.is_digit(0) {
                    self.at += 1;
                }
            }
        }
        let text: String = self.text[start..self.at].iter().collect();
        if is_double {
            return Token::Double(text.parse().unwrap_or(f64::INFINITY));
        }
        self.whole(text.parse().ok())
    }

    fn whole(&mut self, value: Option<u64>) -> Token {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Uint(value);
        }
        Token::Int(value)
    }

    /// Whether a string follows: the letters before it, whether it is raw, whether it is bytes.
    fn quoted(&self) -> Option<(usize, bool, bool)> {
        let is = |ahead, letters: [char; 2]| self.peek(ahead).is_some_and(|c| letters.contains(&c));
        let bytes = is(0, ['b', 'B']);
        let raw = is(usize::from(bytes), ['r', 'R']);
        let prefix = usize::from(bytes) + usize::from(raw);
        is(prefix, ['"', '\'']).then_some((prefix, raw, bytes))
    }

    fn string(&mut self, prefix: usize, raw: bool, bytes: bool) -> Option<Token> {
        let start = self.at;
        let quote = self.peek(prefix)?;
        let triple = self.peek(prefix + 1) == Some(quote) && self.peek(prefix + 2) == Some(quote);
        let quotes = if triple { 3 } else { 1 };
        let mut at = start + prefix + quotes;
        let body = at;
        loop {
            let Some(&c) = self.text.get(at) else {
                self.unrecognized(start, at);
                return None;
            };
            let closes = (0..quotes).all(|ahead| self.text.get(at + ahead) == Some(&quote));
            if closes {
                break;
            }
            match c {
                '\n' | '\r' if !triple => {
                    self.unrecognized(start, at + 1);
                    return None;
                }
                '\\' if !raw => {
                    let Some(length) = literal::escape_length(&self.text[at..]) else {
                        self.unrecognized(start, at + 2);
                        return None;
                    };
                    at += length;
                }
                _ => at += 1,
            }
        }
        self.at = at + quotes;
        let body = &self.text[body..at];
        Some(if bytes {
            Token::Bytes(literal::bytes(body, raw).map(Into::into))
        } else {
            Token::String(literal::string(body, raw).map(Into::into))
        })
    }
}
