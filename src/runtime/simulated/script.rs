//! The effects of the command of a container, as far as they can be predicted without running it: how long it takes,
//! what it prints, and how it ends.
//!
//! Known commands are the programs of [`Interpreter::program`] and [`Interpreter::answer`], and `sh -c` with scripts of them
//! (`shell`). If any part of a command is unknown, the whole command is.

use std::{collections::BTreeMap, time::Duration};

use crate::runtime::simulated::shell::{self, AndOrList, Command, List, Operator, Word};

/// One effect of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Waits for a time.
    Sleep(Duration),
    /// Writes a line to the log.
    Print(String),
    /// Writes the current time to the log.
    Date,
    /// Writes a line to the termination message.
    Message(String),
    /// Repeats these steps until the container is stopped. It is always the last step.
    Forever(Vec<Self>),
    /// Ends with this exit code. It is always the last step.
    Exit(u8),
}

/// How many commands of a script are followed, loops included.
const COMMANDS_MAX: u32 = 10_000;

/// The steps of a command; `None` if they cannot be predicted. `message_path` is the file of its termination message.
pub(super) fn steps(
    command: &[String],
    env: &BTreeMap<String, String>,
    message_path: &str,
) -> Option<Vec<Step>> {
    let mut interpreter = Interpreter {
        variables: env.clone(),
        steps: Vec::new(),
        code: 0,
        stops_on_error: false,
        commands_left: COMMANDS_MAX,
        message_path,
    };
    match interpreter.program(command)? {
        Flow::On | Flow::Exit => interpreter.steps.push(Step::Exit(interpreter.code)),
        Flow::Forever => {}
    }
    Some(interpreter.steps)
}

/// What happens after a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// The whole script ends.
    Exit,
    /// The script never ends. The last step is [`Step::Forever`].
    Forever,
}

/// The state of a script that is being followed.
struct Interpreter<'a> {
    variables: BTreeMap<String, String>,
    steps: Vec<Step>,
    /// The exit code of the last command.
    code: u8,
    /// Whether `set -e` is in effect.
    stops_on_error: bool,
    commands_left: u32,
    message_path: &'a str,
}

impl Interpreter<'_> {
    /// Follows a list of commands. In a condition, `set -e` has no effect.
    fn list(&mut self, list: &List, is_condition: bool) -> Option<Flow> {
        for AndOrList { first, rest } in list {
            let mut flow = self.command(first)?;
            let mut last = true;
            for (operator, command) in rest {
                if flow != Flow::On {
                    return Some(flow);
                }
                last = (*operator == Operator::And) == (self.code == 0);
                if last {
                    flow = self.command(command)?;
                }
            }
            if flow != Flow::On {
                return Some(flow);
            }
            if self.stops_on_error && self.code != 0 && last && !is_condition {
                return Some(Flow::Exit);
            }
        }
        Some(Flow::On)
    }

    fn command(&mut self, command: &Command) -> Option<Flow> {
        self.commands_left = self.commands_left.checked_sub(1)?;
        match command {
            Command::Simple { words, target } => self.simple(words, target.as_ref()),
            Command::Not(command) => {
                let before = std::mem::take(&mut self.stops_on_error);
                let flow = self.command(command)?;
                self.stops_on_error = before;
                if flow == Flow::On {
                    self.code = u8::from(self.code == 0);
                }
                Some(flow)
            }
            Command::If { branches, otherwise } => {
                for (condition, body) in branches {
                    let flow = self.list(condition, true)?;
                    if flow != Flow::On {
                        return Some(flow);
                    }
                    if self.code == 0 {
                        return self.list(body, false);
                    }
                }
                self.code = 0;
                self.list(otherwise, false)
            }
            Command::While { until, condition, body } => self.repeat(*until, condition, body),
            Command::For { name, words, body } => {
                let words: Vec<_> =
                    words.iter().flat_map(|word| word.split(&self.variables)).collect();
                self.code = 0;
                for word in words {
                    self.variables.insert(name.clone(), word);
                    let flow = self.list(body, false)?;
                    if flow != Flow::On {
                        return Some(flow);
                    }
                }
                Some(Flow::On)
            }
        }
    }

    /// A loop whose first round changes no variable and continues never ends.
    fn repeat(&mut self, until: bool, condition: &List, body: &List) -> Option<Flow> {
        loop {
            let (variables, begun) = (self.variables.clone(), self.steps.len());
            let flow = self.list(condition, true)?;
            if flow != Flow::On {
                return Some(flow);
            }
            if (self.code == 0) == until {
                self.code = 0;
                return Some(Flow::On);
            }
            let flow = self.list(body, false)?;
            if flow != Flow::On {
                return Some(flow);
            }
            if self.variables == variables {
                let again = self.steps.split_off(begun);
                self.steps.push(Step::Forever(again));
                return Some(Flow::Forever);
            }
            self.commands_left = self.commands_left.checked_sub(1)?;
        }
    }

    fn simple(&mut self, words: &[Word], target: Option<&Word>) -> Option<Flow> {
        let mut own = Vec::new();
        let mut words = words;
        while let Some((first, rest)) = words.split_first()
            && let Some((name, value)) = first.assignment()
        {
            let value = value.expand(&self.variables);
            own.push((name, value));
            words = rest;
        }
        let expanded: Vec<_> = words.iter().flat_map(|word| word.split(&self.variables)).collect();
        if expanded.is_empty() {
            self.variables.extend(own);
            self.code = 0;
            return Some(Flow::On);
        }
        let target = target.map(|word| word.expand(&self.variables));
        let begun = self.steps.len();
        // Assignments in front of a command hold only for this command.
        let before = (!own.is_empty()).then(|| self.variables.clone());
        self.variables.extend(own);
        let flow = self.program(&expanded)?;
        if let Some(before) = before {
            self.variables = before;
        }
        if let Some(target) = target {
            self.redirect(begun, &target);
        }
        Some(flow)
    }

    /// Removes the output since `begun`, because it goes to a file. Output to the file of the termination message is
    /// kept.
    fn redirect(&mut self, begun: usize, target: &str) {
        if matches!(target, "/dev/stdout" | "/dev/stderr") {
            return;
        }
        for step in self.steps.split_off(begun) {
            match step {
                Step::Print(line) if target == self.message_path => {
                    self.steps.push(Step::Message(line));
                }
                Step::Print(_) | Step::Date => {}
                other => self.steps.push(other),
            }
        }
    }

    fn program(&mut self, words: &[String]) -> Option<Flow> {
        let (program, arguments) = words.split_first()?;
        let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.code = match (program.rsplit('/').next().unwrap_or_default(), texts.as_slice()) {
            ("sh" | "bash" | "ash" | "dash", [flags @ .., script])
                if flags.iter().any(|flag| flag.starts_with('-') && flag.contains('c')) =>
            {
                return self.script(flags, script);
            }
            ("exec", _) if !arguments.is_empty() => return self.program(arguments),
            ("true" | ":" | "sync" | "cd" | "mkdir" | "touch", _) => 0,
            ("set", flags) => {
                let given =
                    |sign, flag| flags.iter().any(|f| f.starts_with(sign) && f.contains(flag));
                self.stops_on_error |= given('-', 'e');
                self.stops_on_error &= !given('+', 'e');
                0
            }
            ("export", _) => {
                let pairs = texts.iter().filter_map(|text| text.split_once('='));
                self.variables
                    .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                0
            }
            ("false", _) => 1,
            ("exit", codes) => {
                let code =
                    codes.first().map_or(Some(self.code.into()), |c| c.parse::<i64>().ok())?;
                self.code = u8::try_from(code & 0xff).unwrap_or(1);
                return Some(Flow::Exit);
            }
            ("pause", []) | ("sleep", ["infinity" | "inf", ..]) | ("tail", ["-f" | "-F", ..]) => {
                self.steps.push(Step::Forever(Vec::new()));
                return Some(Flow::Forever);
            }
            ("sleep", times) if !times.is_empty() => {
                let times = times.iter().map(|time| duration(time)).collect::<Option<Vec<_>>>()?;
                let total = times.into_iter().fold(Duration::ZERO, Duration::saturating_add);
                self.steps.push(Step::Sleep(total));
                0
            }
            (name, texts) => self.answer(name, texts)?,
        };
        Some(Flow::On)
    }

    /// The exit code of a program whose only effect is its output.
    fn answer(&mut self, program: &str, arguments: &[&str]) -> Option<u8> {
        Some(match (program, arguments) {
            ("echo", texts) => {
                let text = texts.strip_prefix(&["-n"]).or(texts.strip_prefix(&["-e"]));
                self.steps.push(Step::Print(text.unwrap_or(texts).join(" ")));
                0
            }
            ("printf", [text]) => {
                let lines = text.replace("\\n", "\n");
                self.steps.extend(lines.lines().map(|line| Step::Print(line.to_owned())));
                0
            }
            ("hostname", []) => {
                let name = self.variables.get("HOSTNAME").cloned().unwrap_or_default();
                self.steps.push(Step::Print(name));
                0
            }
            ("env" | "printenv", []) => {
                let all = self.variables.iter();
                self.steps.extend(all.map(|(name, value)| Step::Print(format!("{name}={value}"))));
                0
            }
            ("printenv", [name]) => match self.variables.get(*name) {
                Some(value) => {
                    self.steps.push(Step::Print(value.clone()));
                    0
                }
                None => 1,
            },
            ("date", []) => {
                self.steps.push(Step::Date);
                0
            }
            ("test", terms) => u8::from(!test(terms)?),
            ("[", [terms @ .., "]"]) => u8::from(!test(terms)?),
            ("expr", [left, operator, right]) => {
                let value = calculate(left, operator, right)?;
                let code = u8::from(value == "0" || value.is_empty());
                self.steps.push(Step::Print(value));
                code
            }
            _ => return None,
        })
    }

    /// Follows a script in a shell of its own. Its `exit` does not end the script that started it.
    fn script(&mut self, flags: &[&str], script: &str) -> Option<Flow> {
        let list = shell::parse(script)?;
        let before = (self.variables.clone(), self.stops_on_error);
        self.stops_on_error = flags.iter().any(|flag| flag.starts_with('-') && flag.contains('e'));
        self.code = 0;
        let flow = self.list(&list, false)?;
        (self.variables, self.stops_on_error) = before;
        Some(if flow == Flow::Forever { Flow::Forever } else { Flow::On })
    }
}

/// The result of `test` and `[`; `None` for tests of files, because there are none.
fn test(terms: &[&str]) -> Option<bool> {
    Some(match terms {
        ["!", rest @ ..] => !test(rest)?,
        [] => false,
        [text] | ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        [left, operator, right] => {
            let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
            match *operator {
                "-eq" => left == right,
                "-ne" => left != right,
                "-lt" => left < right,
                "-le" => left <= right,
                "-gt" => left > right,
                "-ge" => left >= right,
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// The result of `expr` with two numbers.
fn calculate(left: &str, operator: &str, right: &str) -> Option<String> {
    let (left, right): (i64, i64) = (left.parse().ok()?, right.parse().ok()?);
    let number = match operator {
        "+" => left.checked_add(right)?,
        "-" => left.checked_sub(right)?,
        "*" => left.checked_mul(right)?,
        "/" => left.checked_div(right)?,
        "%" => left.checked_rem(right)?,
        "=" => i64::from(left == right),
        "!=" => i64::from(left != right),
        "<" => i64::from(left < right),
        ">" => i64::from(left > right),
        _ => return None,
    };
    Some(number.to_string())
}

/// A duration such as `2`, `0.5`, `3s`, `1m`, `1h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, factor) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86_400.0),
        _ => (text, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Option<Vec<Step>> {
        let env =
            [("INDEX", "3"), ("HOSTNAME", "web-0")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        steps(&command, &env.into(), "/dev/termination-log")
    }

    fn sleep(ms: u64) -> Step {
        Step::Sleep(Duration::from_millis(ms))
    }

    fn print(text: &str) -> Step {
        Step::Print(text.to_owned())
    }

    #[test]
    fn programs() {
        for (command, steps) in [
            (&["true"][..], vec![Step::Exit(0)]),
            (&["/bin/false"], vec![Step::Exit(1)]),
            (&["sleep", "0.5"], vec![sleep(500), Step::Exit(0)]),
            (&["echo", "$(INDEX)", "$INDEX"], vec![print("$(INDEX) $INDEX"), Step::Exit(0)]),
            (&["hostname"], vec![print("web-0"), Step::Exit(0)]),
            (&["printenv", "INDEX"], vec![print("3"), Step::Exit(0)]),
            (&["expr", "7", "%", "4"], vec![print("3"), Step::Exit(0)]),
            (&["expr", "1", "-", "1"], vec![print("0"), Step::Exit(1)]),
            (&["sleep", "infinity"], vec![Step::Forever(vec![])]),
            (&["tail", "-f", "/dev/null"], vec![Step::Forever(vec![])]),
            (&["/pause"], vec![Step::Forever(vec![])]),
        ] {
            assert_eq!(of(command), Some(steps), "{command:?}");
        }
    }

    #[test]
    fn scripts() {
        for (script, steps) in [
            ("exit 1", vec![Step::Exit(1)]),
            (
                "date; echo Hello from 'the  $X' cluster",
                vec![Step::Date, print("Hello from the  $X cluster"), Step::Exit(0)],
            ),
            (
                "echo part ${INDEX} && sleep 2s && exit $INDEX",
                vec![print("part 3"), sleep(2000), Step::Exit(3)],
            ),
            ("false || exit 42\necho no", vec![Step::Exit(42)]),
            ("false && echo no; true", vec![Step::Exit(0)]),
            ("! true || echo yes", vec![print("yes"), Step::Exit(0)]),
            ("A='1  2'; B=$A; echo $B \"$B\"", vec![print("1 2 1  2"), Step::Exit(0)]),
            ("A=x env | true", vec![]),
            (
                "if [ \"$INDEX\" -gt 2 ]; then echo big; elif true; then echo small; else echo none; fi",
                vec![print("big"), Step::Exit(0)],
            ),
            ("if test -z \"$INDEX\"; then exit 1; else exit 2; fi", vec![Step::Exit(2)]),
            ("for x in a b; do echo $x; done", vec![print("a"), print("b"), Step::Exit(0)]),
            (
                "echo up; while true; do echo on; sleep 1; done",
                vec![print("up"), Step::Forever(vec![print("on"), sleep(1000)])],
            ),
            ("set -e; if false; then :; fi; false; echo no", vec![Step::Exit(1)]),
            ("sh -c 'exit 3'; echo on", vec![print("on"), Step::Exit(0)]),
            (
                "echo why > /dev/termination-log; echo lost >/tmp/x; echo told 2>&1; exit 4",
                vec![Step::Message("why".to_owned()), print("told"), Step::Exit(4)],
            ),
            ("sleep 1 # a word", vec![sleep(1000), Step::Exit(0)]),
            ("exec sleep 5", vec![sleep(5000), Step::Exit(0)]),
        ] {
            let expected = (!steps.is_empty()).then_some(steps);
            assert_eq!(of(&["sh", "-c", script]), expected, "{script}");
        }
    }

    #[test]
    fn what_cannot_be_told() {
        for command in [
            &["perl", "-Mbignum=bpi", "-wle", "print bpi(2000)"][..],
            &["sh", "-c", "cat x | wc"],
            &["sh", "-c", "echo $(date)"],
            &["sh", "-c", "if true; then echo no"],
            &["sh", "-c", "[ -f /etc/x ] && true"],
            &["sh", "-c", "sleep 1 &"],
            &["sh", "-c", "ls *"],
            &["sh", "script.sh"],
        ] {
            assert_eq!(of(command), None, "{command:?}");
        }
    }
}
