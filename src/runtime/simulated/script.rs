//! What a container's command would do, as far as that can be told without running it: how long it takes, what it
//! prints, and how it ends.
//!
//! Known are `true`, `false`, `sleep`, `echo`, `printf`, `date`, `hostname`, `env`, `exit` and `sh -c` with these, joined by
//! `;`, `&&`, `||` and new lines. Everything else is [`Outcome::Unknown`] as a whole.

use std::{collections::BTreeMap, time::Duration};

/// How a command ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Runs until it is stopped.
    Forever,
    /// Cannot be told.
    Unknown,
    /// Ends by itself.
    Ends(Vec<Step>),
}

/// One thing that a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Takes time.
    Sleep(Duration),
    /// Writes a line to the log.
    Print(String),
    /// Writes the time to the log.
    Date,
    /// Ends with this code; always the last step.
    Exit(u8),
}

/// Characters that make a shell script more than a list of commands.
const SYNTAX: &[char] = &['|', '`', '(', ')', '<', '{', '}', '*', '['];

/// What a command would do.
pub(super) fn outcome(command: &[String], env: &BTreeMap<String, String>) -> Outcome {
    let words: Vec<String> = command.iter().map(|word| expand_kubernetes(word, env)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let program = words.first().map(|program| program.rsplit('/').next().unwrap_or_default());
    match (program, words.as_slice()) {
        (Some("sh" | "bash" | "ash" | "dash"), [_, flags @ .., script])
            if flags.iter().any(|flag| flag.starts_with('-') && flag.contains('c')) =>
        {
            shell(script, env)
        }
        _ => {
            let mut steps = Vec::new();
            match simple(&words, env, &mut steps) {
                Some(Ran::Code(code) | Ran::Exit(code)) => {
                    steps.push(Step::Exit(code));
                    Outcome::Ends(steps)
                }
                Some(Ran::Forever) => Outcome::Forever,
                None => Outcome::Unknown,
            }
        }
    }
}

/// How one simple command ends.
enum Ran {
    Code(u8),
    /// Ends the whole script.
    Exit(u8),
    Forever,
}

fn shell(script: &str, env: &BTreeMap<String, String>) -> Outcome {
    let (mut steps, mut code) = (Vec::new(), 0);
    let Some(commands) = commands(script) else { return Outcome::Unknown };
    for (runs, words) in commands {
        let wanted = match runs {
            Runs::Always => true,
            Runs::AfterSuccess => code == 0,
            Runs::AfterFailure => code != 0,
        };
        if !wanted {
            continue;
        }
        let words: Vec<String> = words
            .iter()
            .map(|word| if word.literal { word.text.clone() } else { expand(&word.text, env) })
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match simple(&words, env, &mut steps) {
            Some(Ran::Code(own)) => code = own,
            Some(Ran::Exit(own)) => {
                code = own;
                break;
            }
            Some(Ran::Forever) => return Outcome::Forever,
            None => return Outcome::Unknown,
        }
    }
    steps.push(Step::Exit(code));
    Outcome::Ends(steps)
}

#[derive(Clone, Copy)]
enum Runs {
    Always,
    AfterSuccess,
    AfterFailure,
}

#[derive(Default)]
struct Word {
    text: String,
    /// In single quotes: variables stay.
    literal: bool,
}

/// The simple commands of a script; `None` when it has syntax beyond them.
fn commands(script: &str) -> Option<Vec<(Runs, Vec<Word>)>> {
    let mut all = Vec::new();
    let (mut runs, mut words, mut word) = (Runs::Always, Vec::new(), None::<Word>);
    let mut rest = script.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.literal |= c == '\'';
                loop {
                    match rest.next()? {
                        end if end == c => break,
                        '\\' if c == '"' => word.text.push(rest.next()?),
                        '`' if c == '"' => return None,
                        other => word.text.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().text.extend(rest.next()),
            '$' if rest.peek() == Some(&'{') => {
                let name: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                word.get_or_insert_default().text.push_str(&format!("${name}"));
            }
            '&' if rest.next_if_eq(&'&').is_none() => return None,
            '|' if rest.next_if_eq(&'|').is_none() => return None,
            '&' | '|' | ';' | '\n' => {
                words.extend(word.take());
                if !words.is_empty() {
                    all.push((runs, std::mem::take(&mut words)));
                }
                runs = match c {
                    '&' => Runs::AfterSuccess,
                    '|' => Runs::AfterFailure,
                    _ => Runs::Always,
                };
            }
            '>' => return None,
            c if c.is_whitespace() => words.extend(word.take()),
            c if SYNTAX.contains(&c) => return None,
            c => word.get_or_insert_default().text.push(c),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        all.push((runs, words));
    }
    Some(all)
}

fn simple(words: &[&str], env: &BTreeMap<String, String>, steps: &mut Vec<Step>) -> Option<Ran> {
    let (program, arguments) = words.split_first()?;
    let code = match program.rsplit('/').next().unwrap_or_default() {
        "true" | ":" | "sync" | "set" | "cd" | "export" | "mkdir" | "touch" => 0,
        "false" => 1,
        "exit" => {
            let code = arguments.first().map_or(Some(0), |code| code.parse::<i64>().ok())?;
            return Some(Ran::Exit(u8::try_from(code & 0xff).unwrap_or(1)));
        }
        "sleep" => {
            let mut total = Duration::ZERO;
            for argument in arguments {
                if matches!(*argument, "infinity" | "inf") {
                    return Some(Ran::Forever);
                }
                total = total.saturating_add(duration(argument)?);
            }
            steps.push(Step::Sleep(total));
            0
        }
        "echo" => {
            let text = arguments.strip_prefix(&["-n"]).or(arguments.strip_prefix(&["-e"]));
            steps.push(Step::Print(text.unwrap_or(arguments).join(" ")));
            0
        }
        "printf" => {
            let [text] = arguments else { return None };
            let lines = text.replace("\\n", "\n");
            steps.extend(lines.lines().map(|line| Step::Print(line.to_owned())));
            0
        }
        "hostname" => {
            steps.push(Step::Print(env.get("HOSTNAME").cloned().unwrap_or_default()));
            0
        }
        "env" | "printenv" if arguments.is_empty() => {
            steps.extend(env.iter().map(|(name, value)| Step::Print(format!("{name}={value}"))));
            0
        }
        "date" if arguments.is_empty() => {
            steps.push(Step::Date);
            0
        }
        _ => return None,
    };
    Some(Ran::Code(code))
}

/// `2`, `0.5`, `3s`, `1m`, `1h`, `1d`.
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

/// `$(NAME)`, as Kubernetes expands it in commands; unknown names stay.
fn expand_kubernetes(text: &str, env: &BTreeMap<String, String>) -> String {
    env.iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// `$NAME`, as a shell expands it; unknown names are empty.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut parts = text.split('$');
    let mut expanded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        expanded.push_str(env.get(name).map_or("", String::as_str));
        expanded.push_str(rest);
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &[&str]) -> Outcome {
        let env =
            [("INDEX", "3"), ("HOSTNAME", "web-0")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        outcome(&command, &env.into())
    }

    fn sleep(ms: u64) -> Step {
        Step::Sleep(Duration::from_millis(ms))
    }

    fn print(text: &str) -> Step {
        Step::Print(text.to_owned())
    }

    #[test]
    fn commands_and_scripts() {
        for (command, steps) in [
            (&["true"][..], vec![Step::Exit(0)]),
            (&["/bin/false"], vec![Step::Exit(1)]),
            (&["sleep", "0.5"], vec![sleep(500), Step::Exit(0)]),
            (&["sh", "-c", "exit 1"], vec![Step::Exit(1)]),
            (
                &["/bin/sh", "-ec", "date; echo Hello from 'the  $X' cluster"],
                vec![Step::Date, print("Hello from the  $X cluster"), Step::Exit(0)],
            ),
            (
                &["sh", "-c", "echo part ${INDEX} && sleep 2s && exit $INDEX"],
                vec![print("part 3"), sleep(2000), Step::Exit(3)],
            ),
            (&["sh", "-c", "false || exit 42\necho no"], vec![Step::Exit(42)]),
            (&["sh", "-c", "false && echo no; true"], vec![Step::Exit(0)]),
            (&["echo", "$(INDEX)", "$INDEX"], vec![print("3 $INDEX"), Step::Exit(0)]),
            (&["hostname"], vec![print("web-0"), Step::Exit(0)]),
        ] {
            assert_eq!(of(command), Outcome::Ends(steps), "{command:?}");
        }
    }

    #[test]
    fn what_cannot_be_told() {
        for command in [
            &["perl", "-Mbignum=bpi", "-wle", "print bpi(2000)"][..],
            &["sh", "-c", "while true; do sleep 1; done"],
            &["sh", "-c", "cat x | wc"],
            &["sh", "-c", "echo $(date)"],
            &["sh", "script.sh"],
        ] {
            assert_eq!(of(command), Outcome::Unknown, "{command:?}");
        }
        assert_eq!(of(&["sleep", "infinity"]), Outcome::Forever);
    }
}
