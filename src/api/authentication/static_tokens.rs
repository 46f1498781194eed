//! `--token-auth-file`: kube-apiserver's static tokens, `token,user,uid,"group1,group2"` a line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::api::authentication::Caller;

/// Why the file cannot be used. Neither message shows any of its content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read --token-auth-file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line has not the right form.
    #[error("--token-auth-file {path}, line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Who may show which token. Found by digest, so that the time of a look-up tells nothing about a token.
#[derive(Default)]
pub struct StaticTokens(BTreeMap<[u8; 32], Caller>);

impl StaticTokens {
    /// Reads the file, once: changes count from the next start, as with kube-apiserver.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, problem)| {
            let path = path.to_owned();
            Error::Line { path, line, problem }
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut tokens = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |problem| (index + 1, problem);
            let fields = fields(line).map_err(wrong)?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(wrong("at least a token, a user name and a user uid are needed"));
            };
            if token.is_empty() || name.is_empty() {
                return Err(wrong("the token and the user name must not be empty"));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default().split(',');
            let groups = groups.map(str::trim).filter(|group| !group.is_empty());
            let caller = Caller::new(name, uid, groups.map(str::to_owned));
            if tokens.insert(digest(token), caller).is_some() {
                return Err(wrong("this token stands in an earlier line already"));
            }
        }
        Ok(Self(tokens))
    }

    /// Who shows this token.
    pub(crate) fn caller(&self, token: &str) -> Option<&Caller> {
        self.0.get(&digest(token))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The fields of a line of CSV (RFC 4180); a field in quotes ends on its line.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
            Some(quoted) => quoted_field(quoted).ok_or("a quote is not closed")?,
        };
        if field.contains('"') && !rest.starts_with('"') {
            return Err("a quote stands within a field that does not begin with one");
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text follows a closing quote"),
        }
    }
}

/// The field, and what follows its closing quote; a doubled quote stands for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_users() {
        let text =
            "t1,ann,1\n\nt2,bob,2,\"dev, ops\"\nt3,\"o\"\"hara\",,\"\"\r\nt4,eve,4,dev,ignored\n";
        let tokens = StaticTokens::parse(text).unwrap();
        let check = |token: &str, expected: &[&str]| {
            let caller = tokens.caller(token).unwrap();
            let mut seen = vec![&*caller.name, &*caller.uid];
            seen.extend(caller.groups.iter().map(String::as_str));
            assert_eq!(seen, expected);
        };
        check("t1", &["ann", "1", "system:authenticated"]);
        check("t2", &["bob", "2", "dev", "ops", "system:authenticated"]);
        check("t3", &["o\"hara", "", "system:authenticated"]);
        check("t4", &["eve", "4", "dev", "system:authenticated"]);
        assert_eq!(tokens.caller("t5"), None);
        assert_eq!(tokens.caller(""), None);
    }

    #[test]
    fn bad_lines_are_named_without_their_content() {
        for (text, line, part) in [
            ("secret,ann", 1, "at least"),
            ("t1,ann,1\n,bob,2", 2, "empty"),
            ("secret,,1", 1, "empty"),
            ("t1,ann,1\n\nt1,bob,2", 3, "earlier"),
            ("secret,\"ann,1", 1, "not closed"),
            ("secret,\"ann\"x,1", 1, "follows"),
            ("secret,a\"nn,1", 1, "within"),
        ] {
            let (at, problem) = StaticTokens::parse(text).err().unwrap();
            assert_eq!(at, line, "{text}");
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
