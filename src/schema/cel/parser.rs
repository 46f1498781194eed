//! Reads the text of an expression: CEL's grammar, with optional syntax (`a.?b`, `a[?b]`, `{?k: v}`).
//!
//! A text that is hostile is refused by its length, its depth or the number of its nodes, with cel-go's limits.

use std::sync::Arc;

use super::{
    ast::{Ast, Element, Entry, Expression, Id, Literal, TooLarge},
    lexer::{self, Placed, Token},
    macros,
    source::{Faults, NOWHERE, Offset},
};

/// Most code points of an expression.
const LENGTH_MAX: usize = 100_000;
/// How deep brackets and operators may nest.
const NESTING_MAX: usize = 250;
/// What an expression may start with, as ANTLR lists it.
const STARTS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                      BYTES, IDENTIFIER}";
/// Words that may not be variables.
pub(super) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// An expression that is written as the grammar says.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) ast: Ast,
    pub(super) root: Id,
}

/// A fault is reported; what follows is not read.
#[derive(Debug)]
pub(super) struct Stop;

/// The result of reading a part.
pub(super) type Read<T> = Result<T, Stop>;

/// Reads a whole expression.
///
/// # Errors
/// What is wrong with it, at least one fault.
pub(super) fn parse(text: &str) -> Result<Parsed, Faults> {
    let mut faults = Faults::default();
    let characters: Vec<char> = text.chars().take(LENGTH_MAX + 1).collect();
    if characters.len() > LENGTH_MAX {
        let size = text.chars().count();
        let message =
            format!("expression code point size exceeds limit: size: {size}, limit {LENGTH_MAX}");
        faults.report(NOWHERE, message);
        return Err(faults);
    }
    let tokens = lexer::tokens(&characters, &mut faults);
    let mut parser = Parser { tokens, at: 0, nesting: 0, ast: Ast::default(), faults };
    let root = parser.whole();
    match root {
        Ok(root) if parser.faults.is_empty() => Ok(Parsed { ast: parser.ast, root }),
        _ => Err(parser.faults),
    }
}

/// The parser's state; macros add nodes through it.
pub(super) struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    nesting: usize,
    ast: Ast,
    faults: Faults,
}

impl Parser {
    pub(super) fn ast(&self) -> &Ast {
        &self.ast
    }

    pub(super) fn add(&mut self, at: Offset, expression: Expression) -> Read<Id> {
        let added = self.ast.add(at, expression);
        self.fitting(added)
    }

    pub(super) fn copy(&mut self, id: Id) -> Read<Id> {
        let copied = self.ast.copy(id);
        self.fitting(copied)
    }

    pub(super) fn call(&mut self, at: Offset, function: &str, arguments: &[Id]) -> Read<Id> {
        let arguments = arguments.to_vec();
        self.add(at, Expression::Call { function: function.into(), target: None, arguments })
    }

    pub(super) fn stop<T>(&mut self, at: Offset, message: impl Into<String>) -> Read<T> {
        self.faults.report(at, message);
        Err(Stop)
    }

    fn fitting(&mut self, added: Result<Id, TooLarge>) -> Read<Id> {
        match added {
            Ok(id) => Ok(id),
            Err(TooLarge::Depth) => self.stop(NOWHERE, "max recursion depth exceeded"),
            Err(TooLarge::Nodes) => self.stop(NOWHERE, "expression is too large"),
        }
    }

    fn token(&self) -> &Placed {
        // The last token is the end, which is never passed.
        &self.tokens[self.at]
    }

    fn place(&self) -> Offset {
        self.token().start
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token().token, Token::Sign(found) if found == sign)
    }

    fn is_next(&self, sign: &str) -> bool {
        let next = self.tokens.get(self.at + 1).map(|placed| &placed.token);
        matches!(next, Some(Token::Sign(found)) if *found == sign)
    }

    fn advance(&mut self) -> Placed {
        let placed = self.token().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        placed
    }

    fn take(&mut self, sign: &str) -> Option<Offset> {
        self.is(sign).then(|| self.advance().start)
    }

    fn syntax<T>(&mut self, message: &str) -> Read<T> {
        let at = self.place();
        self.stop(at, format!("Syntax error: {message}"))
    }

    fn expect(&mut self, sign: &'static str) -> Read<Offset> {
        if let Some(at) = self.take(sign) {
            return Ok(at);
        }
        let found = self.found();
        if self.token().token == Token::End {
            return self.syntax(&format!("missing '{sign}' at '{found}'"));
        }
        let how = if self.is_next(sign) { "extraneous" } else { "mismatched" };
        self.syntax(&format!("{how} input '{found}' expecting '{sign}'"))
    }

    /// The next token as it is written.
    fn found(&self) -> String {
        self.token().token.to_string()
    }

    fn whole(&mut self) -> Read<Id> {
        let root = self.expression()?;
        if self.token().token == Token::End {
            return Ok(root);
        }
        let is_last = self.tokens.len() == self.at + 2;
        let how = if is_last { "extraneous" } else { "mismatched" };
        let found = self.found();
        self.syntax(&format!("{how} input '{found}' expecting <EOF>"))
    }

    fn expression(&mut self) -> Read<Id> {
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            let message = format!("expression recursion limit exceeded: {NESTING_MAX}");
            return self.stop(NOWHERE, message);
        }
        let condition = self.any()?;
        let expression = match self.take("?") {
            None => condition,
            Some(at) => {
                let truthy = self.any()?;
                self.expect(":")?;
                let falsy = self.expression()?;
                self.call(at, "_?_:_", &[condition, truthy, falsy])?
            }
        };
        self.nesting -= 1;
        Ok(expression)
    }

    fn any(&mut self) -> Read<Id> {
        let mut terms = vec![self.all()?];
        let mut places = Vec::new();
        while let Some(at) = self.take("||") {
            places.push(at);
            terms.push(self.all()?);
        }
        self.balanced("_||_", &terms, &places)
    }

    fn all(&mut self) -> Read<Id> {
        let mut terms = vec![self.operation(0)?];
        let mut places = Vec::new();
        while let Some(at) = self.take("&&") {
            places.push(at);
            terms.push(self.operation(0)?);
        }
        self.balanced("_&&_", &terms, &places)
    }

    /// Long chains of `&&` become a tree that is not deep.
    fn balanced(&mut self, function: &str, terms: &[Id], places: &[Offset]) -> Read<Id> {
        if places.is_empty() {
            return Ok(terms[0]);
        }
        let middle = places.len() / 2;
        let left = self.balanced(function, &terms[..=middle], &places[..middle])?;
        let right = self.balanced(function, &terms[middle + 1..], &places[middle + 1..])?;
        self.call(places[middle], function, &[left, right])
    }

    /// Comparisons, sums and products: operators of a level bind less than those of the next.
    fn operation(&mut self, level: usize) -> Read<Id> {
        const LEVELS: [&[(&str, &str)]; 3] = [
            &[
                ("<", "_<_"),
                ("<=", "_<=_"),
                (">=", "_>=_"),
                (">", "_>_"),
                ("==", "_==_"),
                ("!=", "_!=_"),
                ("in", "@in"),
            ],
            &[("+", "_+_"), ("-", "_-_")],
            &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
        ];
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.operation(level + 1)?;
        while let Some((_, function)) = operators.iter().find(|(sign, _)| self.is(sign)) {
            let at = self.advance().start;
            let right = self.operation(level + 1)?;
            left = self.call(at, function, &[left, right])?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Read<Id> {
        for (sign, function) in [("!", "!_"), ("-", "-_")] {
            let Some(first) = self.take(sign) else { continue };
            let is_number = matches!(self.token().token, Token::Int(_) | Token::Double(_));
            if sign == "-" && is_number {
                let literal = self.number(first, true)?;
                return self.member(literal);
            }
            let mut count = 1;
            while self.take(sign).is_some() {
                count += 1;
            }
            let operand = self.primary_and_members()?;
            if count % 2 == 0 {
                return Ok(operand);
            }
            return self.call(first, function, &[operand]);
        }
        self.primary_and_members()
    }

    fn primary_and_members(&mut self) -> Read<Id> {
        let primary = self.primary()?;
        self.member(primary)
    }

    /// What may follow a value: fields, calls, indices.
    fn member(&mut self, mut operand: Id) -> Read<Id> {
        loop {
            if let Some(at) = self.take(".") {
                operand = self.select(at, operand)?;
            } else if let Some(at) = self.take("[") {
                let optional = self.take("?").is_some();
                let index = self.expression()?;
                self.expect("]")?;
                let function = if optional { "_[?_]" } else { "_[_]" };
                operand = self.call(at, function, &[operand, index])?;
            } else if self.is("{") {
                let Some(name) = self.ast.qualified_name(operand) else { return Ok(operand) };
                operand = self.structure(name)?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn select(&mut self, at: Offset, operand: Id) -> Read<Id> {
        let optional = self.take("?").is_some();
        let field = match &self.token().token {
            Token::Identifier(name) => name.clone(),
            Token::Quoted => return self.stop(at, "unsupported syntax: '`'"),
            Token::End => return self.syntax("no viable alternative at input '.'"),
            Token::Sign(word @ ("true" | "false" | "null")) => {
                let message = format!("mismatched input '{word}' expecting IDENTIFIER");
                return self.syntax(&message);
            }
            _ => {
                let found = self.found();
                return self.syntax(&format!("no viable alternative at input '.{found}'"));
            }
        };
        let place = self.advance().start;
        if optional {
            let name = self.add(place, Expression::Literal(Literal::String(field)))?;
            return self.call(at, "_?._", &[operand, name]);
        }
        let Some(open) = self.take("(") else {
            return self.add(at, Expression::Select { operand, field, test: false });
        };
        let arguments = self.arguments()?;
        macros::method(self, open, &field, operand, arguments)
    }

    fn arguments(&mut self) -> Read<Vec<Id>> {
        let mut arguments = Vec::new();
        if self.take(")").is_some() {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression()?);
            if self.take(",").is_none() {
                self.expect(")")?;
                return Ok(arguments);
            }
        }
    }

    fn primary(&mut self) -> Read<Id> {
        let place = self.place();
        match self.token().token.clone() {
            Token::Identifier(name) => self.name(place, "", &name),
            Token::Int(_) | Token::Double(_) => self.number(place, false),
            Token::Uint(value) => {
                self.advance();
                let Some(value) = value else { return self.stop(place, "invalid uint literal") };
                self.add(place, Expression::Literal(Literal::Uint(value)))
            }
            Token::String(text) => {
                self.advance();
                let text = text.or_else(|fault| self.stop(place, fault))?;
                self.add(place, Expression::Literal(Literal::String(text)))
            }
            Token::Bytes(bytes) => {
                self.advance();
                let bytes = bytes.or_else(|fault| self.stop(place, fault))?;
                self.add(place, Expression::Literal(Literal::Bytes(bytes)))
            }
            Token::Sign(sign) => self.bracket(place, sign),
            Token::Quoted | Token::End => self.unexpected(),
        }
    }

    fn bracket(&mut self, place: Offset, sign: &str) -> Read<Id> {
        let literal = match sign {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            "(" => {
                self.advance();
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            "[" => return self.list(),
            "{" => return self.map(),
            "." => {
                self.advance();
                let Token::Identifier(name) = self.token().token.clone() else {
                    return self.unexpected();
                };
                let place = self.place();
                return self.name(place, ".", &name);
            }
            _ => return self.unexpected(),
        };
        self.advance();
        self.add(place, Expression::Literal(literal))
    }

    fn unexpected<T>(&mut self) -> Read<T> {
        let next = self.tokens.get(self.at + 1).map(|placed| &placed.token);
        let starts = match next {
            None | Some(Token::End) => false,
            Some(Token::Sign(sign)) => {
                matches!(*sign, "[" | "{" | "(" | "." | "-" | "!" | "true" | "false" | "null")
            }
            Some(_) => true,
        };
        let how = if starts { "extraneous" } else { "mismatched" };
        let found = self.found();
        self.syntax(&format!("{how} input '{found}' expecting {STARTS}"))
    }

    fn name(&mut self, place: Offset, dot: &str, name: &Arc<str>) -> Read<Id> {
        self.advance();
        if RESERVED.contains(&&**name) {
            return self.stop(place, format!("reserved identifier: {name}"));
        }
        let full: Arc<str> = if dot.is_empty() { name.clone() } else { format!(".{name}").into() };
        let Some(open) = self.take("(") else {
            return self.add(place, Expression::Identifier(full));
        };
        let arguments = self.arguments()?;
        macros::function(self, open, &full, arguments)
    }

    fn number(&mut self, place: Offset, negative: bool) -> Read<Id> {
        let literal = match self.advance().token {
            Token::Double(value) => {
                if value.is_infinite() {
                    return self.stop(place, "invalid double literal");
                }
                Literal::Double(if negative { -value } else { value })
            }
            Token::Int(value) => {
                let value = value.and_then(|value| {
                    let value = i128::from(value);
                    i64::try_from(if negative { -value } else { value }).ok()
                });
                let Some(value) = value else { return self.stop(place, "invalid int literal") };
                Literal::Int(value)
            }
            _ => return self.unexpected(),
        };
        self.add(place, Expression::Literal(literal))
    }

    fn list(&mut self) -> Read<Id> {
        let at = self.advance().start;
        let mut elements = Vec::new();
        while self.take("]").is_none() {
            if elements.is_empty() && self.take(",").is_some() {
                self.expect("]")?;
                break;
            }
            let optional = self.take("?").is_some();
            elements.push(Element { value: self.expression()?, optional });
            if self.take(",").is_none() {
                self.expect("]")?;
                break;
            }
        }
        self.add(at, Expression::List(elements))
    }

    fn map(&mut self) -> Read<Id> {
        let at = self.advance().start;
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            if entries.is_empty() && self.take(",").is_some() {
                self.expect("}")?;
                break;
            }
            let optional = self.take("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expression()?, optional });
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.add(at, Expression::Map(entries))
    }

    fn structure(&mut self, name: String) -> Read<Id> {
        let at = self.advance().start;
        let mut fields = Vec::new();
        while self.take("}").is_none() {
            self.take("?");
            let Token::Identifier(_) = self.token().token else {
                let found = self.found();
                return self.syntax(&format!(
                    "mismatched input '{found}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}"
                ));
            };
            self.advance();
            self.expect(":")?;
            fields.push(self.expression()?);
            if self.take(",").is_none() {
                self.expect("}")?;
                break;
            }
        }
        self.add(at, Expression::Struct { name: name.into(), fields })
    }
}
