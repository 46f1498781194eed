//! [`Faults`]: what is wrong with an expression, shown as cel-go shows it: place, message, the line, and a caret.

/// Most faults that are shown; the rest is counted.
const FAULTS_MAX: usize = 100;
/// The longest line that is shown below a fault, in bytes.
const SNIPPET_BYTES_MAX: usize = 16384;

/// A place in an expression: code points before it. [`NOWHERE`] for faults of the expression as a whole.
pub(super) type Offset = u32;

/// The place of faults that have none.
pub(super) const NOWHERE: Offset = Offset::MAX;

/// The faults of one expression.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<(Offset, String)>,
    more: usize,
}

impl Faults {
    /// Takes note of one.
    pub(super) fn report(&mut self, at: Offset, message: impl Into<String>) {
        if self.list.len() < FAULTS_MAX {
            self.list.push((at, message.into()));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All faults, in the order of their places; one paragraph each.
    pub(super) fn show(mut self, text: &str) -> String {
        self.list.sort_by_key(|(at, _)| if *at == NOWHERE { (0, 0) } else { (1, *at) });
        let mut shown: Vec<String> =
            self.list.iter().map(|(at, message)| show(*at, message, text)).collect();
        if self.more > 0 {
            shown.push(format!("{} more errors were truncated", self.more));
        }
        shown.join("\n")
    }
}

fn show(at: Offset, message: &str, text: &str) -> String {
    if at == NOWHERE {
        return format!("ERROR: <input>:-1:0: {message}");
    }
    let mut line = 1;
    let mut start = 0;
    let mut column = 0;
    for (position, character) in text.char_indices().take(at as usize) {
        column += 1;
        if character == '\n' {
            (line, start, column) = (line + 1, position + 1, 0);
        }
    }
    let head = format!("ERROR: <input>:{line}:{}: {message}", column + 1);
    let snippet = text[start..].split('\n').next().unwrap_or_default();
    if snippet.len() > SNIPPET_BYTES_MAX {
        return head;
    }
    let snippet = snippet.replace('\t', " ");
    let mut caret = String::new();
    let mut rest = snippet.chars();
    for before in rest.by_ref().take(column) {
        caret.push(if before.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
    }
    caret.push(if rest.next().is_some_and(|c| c.len_utf8() > 1) { '\u{ff3e}' } else { '^' });
    format!("{head}\n | {snippet}\n | {caret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_show_their_place() {
        let mut faults = Faults::default();
        faults.report(5, "undefined field 'x'");
        assert_eq!(
            faults.show("self.x"),
            "ERROR: <input>:1:6: undefined field 'x'\n | self.x\n | .....^"
        );
        let mut faults = Faults::default();
        faults.report(9, "second");
        faults.report(2, "first");
        assert_eq!(
            faults.show("'ä' &&\n\tfoo"),
            "ERROR: <input>:1:3: first\n | 'ä' &&\n | .．^\nERROR: <input>:2:3: second\n |  foo\n | ..^"
        );
    }
}
