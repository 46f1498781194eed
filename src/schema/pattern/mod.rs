//! [`Pattern`]: a regular expression in Go's syntax (RE2), compiled once, when it is first needed.
//!
//! Go and Rust agree on what a pattern means in most places, and neither goes back in a text, so that matching takes
//! time that is linear in it. Where they differ, `translate` writes Go's meaning in Rust's syntax.

mod translate;

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Most bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of groups. Go allows 1000; to compile takes stack for each.
const NESTING_MAX: u32 = 250;

/// A regular expression.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    size: usize,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// Does not compile yet.
    pub fn new(text: &str) -> Self {
        // A pattern that is wrong is never compiled.
        let size = translate::translate(text).map_or(1, |translated| translated.size);
        Self { text: text.into(), size, compiled: OnceLock::new() }
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Compiles, if that has not been done.
    ///
    /// # Errors
    /// What is wrong with the pattern, in the words of Go.
    pub fn check(&self) -> Result<(), &str> {
        self.regex().map(|_| ())
    }

    /// Whether the text has a part that matches; never for a pattern that does not compile.
    pub fn matches(&self, text: &str) -> bool {
        self.regex().is_ok_and(|regex| regex.is_match(text))
    }

    /// The compiled expression.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn regex(&self) -> Result<&Regex, &str> {
        let compiled = self.compiled.get_or_init(|| {
            compile(&self.text).map_err(|detail| format!("error parsing regexp: {detail}"))
        });
        compiled.as_ref().map_err(String::as_str)
    }

    /// About how large the compiled expression is, and how many steps a character of a text takes at most: the number of
    /// characters and classes, those that are repeated counted so often, and large classes for more than one.
    pub fn size(&self) -> usize {
        self.size
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    let translated = translate::translate(text)?;
    RegexBuilder::new(&translated.text)
        .size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
}

#[cfg(test)]
mod tests;
