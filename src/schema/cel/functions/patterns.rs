//! Regular expressions: `matches`, and Kubernetes' `find` and `findAll`.

use regex::Regex;

use super::Native;
use crate::schema::cel::{
    value::{Outcome, Val},
    work::{Failure, Work},
};

/// Which function takes the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::schema::cel) enum PatternKind {
    Matches,
    Find,
    FindAll,
}

pub(super) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "matches" => |work, a| dynamic(work, a, PatternKind::Matches),
        "find" => |work, a| dynamic(work, a, PatternKind::Find),
        "findAll" => |work, a| dynamic(work, a, PatternKind::FindAll),
        _ => return None,
    })
}

/// The pattern is no constant.
fn dynamic<'a>(work: &mut Work, arguments: &[Val<'a>], kind: PatternKind) -> Outcome<'a> {
    let pattern = work.pattern(arguments[1].as_text()?)?;
    let illegal = |error: &str| match kind {
        PatternKind::Matches => Failure::error(error),
        _ => Failure::error(format!("Illegal regex: {error}")),
    };
    let regex = pattern.regex().map_err(illegal)?;
    apply(work, kind, regex, &arguments[0], arguments.get(2))
}

/// Applies a pattern to a text; at most `count` results of `findAll`, all if that is negative.
pub(in crate::schema::cel) fn apply<'a>(
    work: &mut Work,
    kind: PatternKind,
    regex: &Regex,
    text: &Val<'a>,
    count: Option<&Val<'a>>,
) -> Outcome<'a> {
    let text = text.as_text()?;
    work.bytes(text.len())?;
    Ok(match kind {
        PatternKind::Matches => Val::Bool(regex.is_match(text)),
        PatternKind::Find => Val::text(regex.find(text).map_or("", |found| found.as_str())),
        PatternKind::FindAll => {
            let count = match count {
                Some(count) => usize::try_from(count.as_int()?).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            let found = regex.find_iter(text).take(count);
            let found: Vec<Val<'a>> = found.map(|found| Val::text(found.as_str())).collect();
            work.steps(u64::try_from(found.len()).unwrap_or(u64::MAX))?;
            Val::list(found)
        }
    })
}
