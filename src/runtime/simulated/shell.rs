//! The part of the shell grammar that is followed: simple commands, `&&`, `||`, `!`, `if`, `while`, `until`, `for`,
//! variables and redirections. Enter at [`parse`]. Any other syntax makes the whole script unknown.

use std::{collections::BTreeMap, iter::Peekable, str::Chars, vec::IntoIter};

/// Commands that run one after another.
pub(super) type List = Vec<AndOrList>;

/// Commands joined by `&&` and `||`.
pub(super) struct AndOrList {
    pub(super) first: Command,
    pub(super) rest: Vec<(Operator, Command)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    And,
    Or,
}

pub(super) enum Command {
    Simple { words: Vec<Word>, target: Option<Word> },
    Not(Box<Self>),
    If { branches: Vec<(List, List)>, otherwise: List },
    While { until: bool, condition: List, body: List },
    For { name: String, words: Vec<Word>, body: List },
}

/// A word before variables are expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pieces: Vec<Piece>,
    quoted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable { name: String, quoted: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Word),
    And,
    Or,
    End,
    /// `>` and its target.
    To(Word),
}

const KEYWORDS: &[&str] =
    &["if", "then", "elif", "else", "fi", "while", "until", "for", "do", "done", "!"];

impl Word {
    fn push(&mut self, c: char) {
        match self.pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => self.pieces.push(Piece::Text(c.into())),
        }
    }

    /// The word as it is written, if nothing in it is quoted or a variable, so that it can be a keyword.
    fn plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }

    /// The name in `NAME=` at the beginning of the word, and the rest of the word.
    pub(super) fn assignment(&self) -> Option<(String, Self)> {
        let (Piece::Text(first), rest) = self.pieces.split_first()? else { return None };
        let (name, value) = first.split_once('=')?;
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(is_name);
        let first = Piece::Text(value.to_owned());
        let pieces = std::iter::once(first).chain(rest.iter().cloned()).collect();
        is_name.then(|| (name.to_owned(), Self { pieces, quoted: true }))
    }

    /// The word as one text.
    pub(super) fn expand(&self, variables: &BTreeMap<String, String>) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable { name, .. } => variables.get(name).map_or("", String::as_str),
        });
        pieces.collect()
    }

    /// The word as the shell splits it: at spaces in expanded variables that are not quoted.
    pub(super) fn split(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let splits =
            self.pieces.iter().any(|piece| matches!(piece, Piece::Variable { quoted: false, .. }));
        let text = self.expand(variables);
        match (splits, self.quoted) {
            (true, false) => text.split_whitespace().map(str::to_owned).collect(),
            _ => vec![text],
        }
    }
}

/// Parses a script. `None` if it has syntax that is not followed.
pub(super) fn parse(script: &str) -> Option<List> {
    let mut tokens = tokens(script)?.into_iter().peekable();
    let list = list(&mut tokens)?;
    tokens.next().is_none().then_some(list)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn tokens(script: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = script.chars().peekable();
    while let Some(c) = rest.peek().copied() {
        match c {
            '\n' | ';' => {
                rest.next();
                tokens.push(Token::End);
            }
            c if c.is_whitespace() => drop(rest.next()),
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            '&' | '|' => {
                rest.next();
                rest.next_if_eq(&c)?;
                tokens.push(if c == '&' { Token::And } else { Token::Or });
            }
            '>' => {
                rest.next();
                rest.next_if_eq(&'>');
                let stream = rest.next_if_eq(&'&').is_some();
                while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
                let to = word(&mut rest)?;
                let to = if stream { plain_word("/dev/stdout") } else { to };
                tokens.push(Token::To(to));
            }
            _ => {
                let word = word(&mut rest)?;
                match (word.plain(), rest.peek()) {
                    // `1>` is the same as `>`. A redirection of standard error to the same place changes nothing,
                    // because both go to one log.
                    (Some("1"), Some('>')) => {}
                    (Some("2"), Some('>')) => {
                        rest.next();
                        rest.next_if_eq(&'&');
                        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
                        self::word(&mut rest)?;
                    }
                    _ => tokens.push(Token::Word(word)),
                }
            }
        }
    }
    Some(tokens)
}

fn plain_word(text: &str) -> Word {
    Word { pieces: vec![Piece::Text(text.to_owned())], quoted: false }
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Option<Word> {
    let mut word = Word::default();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !matches!(c, ';' | '&' | '|' | '>'))
    {
        match c {
            '\'' => {
                word.quoted = true;
                loop {
                    match rest.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                word.quoted = true;
                loop {
                    match rest.next()? {
                        '"' => break,
                        '`' => return None,
                        '\\' => {
                            let next = rest.next()?;
                            if !matches!(next, '"' | '\\' | '$' | '`') {
                                word.push('\\');
                            }
                            word.push(next);
                        }
                        '$' => variable(&mut word, rest, true)?,
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.push(rest.next()?),
            '$' => variable(&mut word, rest, false)?,
            '`' | '(' | ')' | '<' | '{' | '}' | '*' | '?' | '~' => return None,
            '[' if word.pieces.is_empty() => word.push('['),
            '[' => return None,
            other => word.push(other),
        }
    }
    (word.quoted || !word.pieces.is_empty()).then_some(word)
}

/// Parses `$NAME` or `${NAME}`. A `$` that begins no name stays.
fn variable(word: &mut Word, rest: &mut Peekable<Chars<'_>>, quoted: bool) -> Option<()> {
    let braces = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = rest.next_if(|c| is_name(*c)) {
        name.push(c);
    }
    if braces {
        rest.next_if_eq(&'}')?;
    }
    if name.is_empty() {
        if braces || matches!(rest.peek(), Some('(' | '?' | '$' | '@' | '*' | '#' | '!')) {
            return None;
        }
        word.push('$');
    } else {
        word.pieces.push(Piece::Variable { name, quoted });
    }
    Some(())
}

type Tokens = Peekable<IntoIter<Token>>;

fn keyword(tokens: &mut Tokens) -> Option<&'static str> {
    let Some(Token::Word(word)) = tokens.peek() else { return None };
    let text = word.plain()?;
    KEYWORDS.iter().find(|known| **known == text).copied()
}

fn expect(tokens: &mut Tokens, wanted: &str) -> Option<()> {
    (keyword(tokens)? == wanted).then(|| drop(tokens.next()))
}

/// Parses commands up to the end, or up to a keyword that begins no command.
fn list(tokens: &mut Tokens) -> Option<List> {
    let mut all = Vec::new();
    loop {
        while tokens.next_if_eq(&Token::End).is_some() {}
        let ends = keyword(tokens)
            .is_some_and(|word| !matches!(word, "if" | "while" | "until" | "for" | "!"));
        if ends || tokens.peek().is_none() {
            return Some(all);
        }
        let mut list = AndOrList { first: command(tokens)?, rest: Vec::new() };
        loop {
            let operator = match tokens.peek() {
                Some(Token::And) => Operator::And,
                Some(Token::Or) => Operator::Or,
                _ => break,
            };
            tokens.next();
            while tokens.next_if_eq(&Token::End).is_some() {}
            list.rest.push((operator, command(tokens)?));
        }
        all.push(list);
    }
}

fn command(tokens: &mut Tokens) -> Option<Command> {
    let Some(word) = keyword(tokens) else { return simple(tokens) };
    tokens.next();
    match word {
        "!" => Some(Command::Not(Box::new(command(tokens)?))),
        "if" => {
            let mut branches = Vec::new();
            loop {
                let condition = list(tokens)?;
                expect(tokens, "then")?;
                branches.push((condition, list(tokens)?));
                match keyword(tokens)? {
                    "elif" => drop(tokens.next()),
                    _ => break,
                }
            }
            let mut otherwise = Vec::new();
            if expect(tokens, "else").is_some() {
                otherwise = list(tokens)?;
            }
            expect(tokens, "fi")?;
            Some(Command::If { branches, otherwise })
        }
        "while" | "until" => {
            let condition = list(tokens)?;
            let body = block(tokens)?;
            Some(Command::While { until: word == "until", condition, body })
        }
        "for" => {
            let Some(Token::Word(name)) = tokens.next() else { return None };
            let name = name.plain()?.to_owned();
            let Some(Token::Word(of)) = tokens.next() else { return None };
            if of.plain() != Some("in") {
                return None;
            }
            let mut words = Vec::new();
            while let Some(Token::Word(word)) = tokens.next_if(|t| matches!(t, Token::Word(_))) {
                words.push(word);
            }
            while tokens.next_if_eq(&Token::End).is_some() {}
            Some(Command::For { name, words, body: block(tokens)? })
        }
        _ => None,
    }
}

fn block(tokens: &mut Tokens) -> Option<List> {
    expect(tokens, "do")?;
    let body = list(tokens)?;
    expect(tokens, "done")?;
    Some(body)
}

fn simple(tokens: &mut Tokens) -> Option<Command> {
    let (mut words, mut target) = (Vec::new(), None);
    loop {
        match tokens.next_if(|token| matches!(token, Token::Word(_) | Token::To(_))) {
            Some(Token::Word(word)) => words.push(word),
            Some(Token::To(word)) => target = Some(word),
            _ => break,
        }
    }
    (!words.is_empty()).then_some(Command::Simple { words, target })
}
