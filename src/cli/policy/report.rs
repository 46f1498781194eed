//! What `snowglobe policy test` found, as text or JSON.

use std::{env, fmt::Write as _, io::IsTerminal as _, time::Duration};

use serde_json::{Value, json};

use crate::{
    cli::policy::grouped,
    lab::{
        conformance::{Check, Verdict, topologies::Place},
        simulation::{Outcome, Times},
        timing::Timing,
        workload::Workload,
    },
};

/// Everything that was found.
pub(super) struct Report {
    pub(super) file: String,
    pub(super) world: &'static str,
    pub(super) is_component: bool,
    pub(super) bytes: u64,
    pub(super) digest: String,
    pub(super) seed: u64,
    pub(super) checks: Vec<Check>,
    pub(super) timings: Vec<Timing>,
    pub(super) traffic: Option<Traffic>,
    pub(super) places: Vec<Place>,
    pub(super) memory_bytes: u64,
}

/// What became of the standard workload.
pub(super) struct Traffic {
    pub(super) workload: Workload,
    pub(super) outcome: Outcome,
    /// How long connections took with the native round robin.
    pub(super) round_robin: Option<Times>,
}

/// Characters of the longest bar.
const BAR: usize = 30;
/// What a call may take; `policies/policy.wit` says more.
const DEADLINE_MS: u64 = 20;

impl Report {
    pub(super) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            json!({"name": check.name, "verdict": word(check.verdict), "detail": check.detail})
        });
        let timings = self.timings.iter().map(|timing| {
            json!({"endpoints": timing.endpoints, "startNs": nanoseconds(timing.start),
                "configureNs": nanoseconds(timing.configure), "medianNs": nanoseconds(timing.median),
                "p99Ns": nanoseconds(timing.p99)})
        });
        let places = self.places.iter().map(
            |place| json!({"clients": place.name, "scores": place.scores, "endpoints": place.seen}),
        );
        let mut all = json!({"file": self.file, "world": self.world, "form": self.form(),
            "bytes": self.bytes, "digest": self.digest, "seed": self.seed,
            "passed": self.checks.iter().all(|check| check.verdict != Verdict::Failed),
            "checks": checks.collect::<Value>(), "deadlineMs": DEADLINE_MS,
            "memoryBytes": self.memory_bytes});
        if !self.timings.is_empty() {
            all["timings"] = timings.collect();
        }
        if let Some(traffic) = &self.traffic {
            all["workload"] = traffic.json();
        }
        if !self.places.is_empty() {
            all["places"] = places.collect();
        }
        all
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{}: {}, {}, {} bytes\n{}\n\n",
            self.file,
            self.world,
            self.form(),
            grouped(self.bytes),
            self.digest
        );
        self.write_checks(&mut text);
        self.write_timings(&mut text);
        if let Some(traffic) = &self.traffic {
            traffic.write(&mut text);
        }
        self.write_places(&mut text);
        text
    }

    fn form(&self) -> &'static str {
        if self.is_component { "component" } else { "core module" }
    }

    fn write_checks(&self, text: &mut String) {
        let is_colourful = std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for check in &self.checks {
            let (mut verdict, colour) = match check.verdict {
                Verdict::Passed => ("passed  ".to_owned(), 32),
                Verdict::Doubtful => ("doubtful".to_owned(), 33),
                Verdict::Failed => ("FAILED  ".to_owned(), 31),
            };
            if is_colourful {
                verdict = format!("\x1b[{colour}m{verdict}\x1b[0m");
            }
            put(text, &format!("{verdict}  {:width$}  {}", check.name, check.detail));
        }
    }

    fn write_timings(&self, text: &mut String) {
        if self.timings.is_empty() {
            return;
        }
        let call = if self.world == "topology" { "score" } else { " pick" };
        put(text, &format!("\nendpoints       start  configure  {call}: median       p99"));
        for timing in &self.timings {
            let line = format!(
                "{:>9}  {:>10} {:>10}  {:>12} {:>9}",
                grouped(timing.endpoints as u64),
                duration(timing.start),
                duration(timing.configure),
                duration(timing.median),
                duration(timing.p99)
            );
            put(text, &line);
        }
        let memory = grouped(self.memory_bytes.div_ceil(1024));
        put(
            text,
            &format!(
                "A call is stopped after {DEADLINE_MS} ms. Memory of an instance: {memory} KiB."
            ),
        );
    }

    fn write_places(&self, text: &mut String) {
        if !self.places.is_empty() {
            put(text, "\nTen endpoints, in the zones 0, 1 and 2 in turn");
        }
        for place in &self.places {
            let count = place.scores.len();
            let seen: Vec<String> = place.seen.iter().map(usize::to_string).collect();
            let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(" ") };
            put(text, &format!("clients {:38}  see {seen} of {count}", place.name));
        }
    }
}

impl Traffic {
    fn json(&self) -> Value {
        let connections = self.workload.connections;
        let endpoints = self.workload.backends.iter().zip(&self.outcome.endpoints);
        let endpoints = endpoints.map(|(backend, outcome)| {
            json!({"weight": backend.weight, "workers": backend.workers, "meanUs": microseconds(backend.mean),
                "picks": outcome.picks, "share": outcome.picks as f64 / connections as f64,
                "mostActive": outcome.most_active, "medianUs": microseconds(outcome.times.median),
                "p99Us": microseconds(outcome.times.p99)})
        });
        let times = |times: &Times| json!({"medianUs": microseconds(times.median), "p99Us": microseconds(times.p99)});
        json!({"connections": connections, "clients": self.workload.clients, "load": self.workload.load,
            "abstentions": self.outcome.abstentions, "endpoints": endpoints.collect::<Value>(),
            "times": times(&self.outcome.times), "roundRobin": self.round_robin.as_ref().map(times)})
    }

    fn write(&self, text: &mut String) {
        let Self { workload, outcome, round_robin } = self;
        let (connections, load) = (workload.connections, workload.load * 100.0);
        let title = format!(
            "\nSimulated: {} connections of {} clients, at {load:.0} % of what the endpoints can serve",
            grouped(connections as u64),
            grouped(workload.clients.into())
        );
        put(text, &title);
        put(
            text,
            &format!(
                "endpoint  weight  serves       {:BAR$}   share  most open  p99",
                "connections"
            ),
        );
        let most = outcome.endpoints.iter().map(|endpoint| endpoint.picks).max().unwrap_or(0);
        for (index, (backend, endpoint)) in
            workload.backends.iter().zip(&outcome.endpoints).enumerate()
        {
            let serves = format!("{} in {}", backend.workers, duration(backend.mean));
            let line = format!(
                "{index:>8}  {:>6}  {serves:<11}  {:BAR$}  {:>4.1} %  {:>9}  {}",
                backend.weight,
                bar(endpoint.picks, most),
                endpoint.picks as f64 * 100.0 / connections as f64,
                endpoint.most_active,
                duration(endpoint.times.p99)
            );
            put(text, &line);
        }
        let round_robin = round_robin.as_ref().map_or_else(String::new, |times| {
            format!("; round robin: {}, {}", duration(times.median), duration(times.p99))
        });
        let times = &outcome.times;
        let all = format!(
            "A connection takes {} (median), {} (p99){round_robin}.",
            duration(times.median),
            duration(times.p99)
        );
        put(text, &all);
        if outcome.abstentions > 0 {
            let count = grouped(outcome.abstentions as u64);
            put(text, &format!("No opinion of {count} connections: round robin picked for them."));
        }
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a String can be written to");
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Doubtful => "doubtful",
        Verdict::Failed => "failed",
    }
}

/// A bar in eighths of a character.
fn bar(value: usize, most: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (value * BAR * 8).checked_div(most).unwrap_or(0);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// Three digits and a unit.
fn duration(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        few if few < 1e3 => return format!("{few:.0} ns"),
        some if some < 1e6 => (some / 1e3, "us"),
        many if many < 1e9 => (many / 1e6, "ms"),
        long => (long / 1e9, "s"),
    };
    let digits = if value < 10.0 && value.fract() != 0.0 { 1 } else { 0 };
    format!("{value:.digits$} {unit}")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_durations() {
        for (value, most, expected) in [(0, 0, ""), (1, 240, "▏"), (5, 80, "█▉"), (8, 80, "███")]
        {
            assert_eq!(bar(value, most), expected);
        }
        assert_eq!(bar(7, 7).chars().count(), BAR);
        for (nanoseconds, expected) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.5 us"),
            (20_000_000, "20 ms"),
            (5_000_000, "5 ms"),
            (1_250_000_000, "1.2 s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanoseconds)), expected);
        }
    }
}
