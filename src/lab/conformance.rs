//! Checks that a policy keeps its contract (`policies/policy.wit`) whatever endpoints and connections there are: a failure
//! that shows here does not have to show under traffic. Each check has an instance of its own, in a simulation.
//!
//! Enter at [`schedulers::check_all`] or [`topologies::check_all`].

pub mod schedulers;
pub mod topologies;

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked, in words.
    pub name: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// Allowed, but hardly meant.
    Doubtful,
    /// The contract is broken.
    Failed,
}

/// What a check found, if the contract was kept.
enum Found {
    Fine(String),
    Doubtful(String),
}

fn check(name: &'static str, found: Result<Found, String>) -> Check {
    let (verdict, detail) = match found {
        Ok(Found::Fine(detail)) => (Verdict::Passed, detail),
        Ok(Found::Doubtful(detail)) => (Verdict::Doubtful, detail),
        Err(detail) => (Verdict::Failed, detail),
    };
    Check { name, verdict, detail }
}

#[cfg(test)]
mod tests;
