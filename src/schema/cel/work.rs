//! [`Work`]: how much an evaluation has cost, and how much more it may do.
//!
//! The cost is Kubernetes' and counted exactly. It says little about the real work of some functions (`'%s%s'.format`
//! doubles a string for the cost of five characters), so the work itself is bounded as well.

use std::{collections::BTreeMap, sync::Arc};

use crate::schema::pattern::Pattern;

/// Most elements and 64-byte pieces of strings that all evaluations on one object may look at or make.
const STEPS_MAX: u64 = 10_000_000;
/// Most bytes of a string, so that no single step takes gigabytes.
const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes that count as one step.
const STEP_BYTES: usize = 64;
/// Most patterns that are no constants and are compiled for one object.
const PATTERNS_MAX: usize = 100;

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// An error of CEL, which `&&` and `||` may absorb.
    Error(Arc<str>),
    /// It costs too much. Nothing absorbs this.
    Budget,
}

impl Failure {
    pub(super) fn error(message: impl Into<Arc<str>>) -> Self {
        Self::Error(message.into())
    }

    pub(super) fn no_overload() -> Self {
        Self::error("no such overload")
    }

    /// The text that Kubernetes puts into its message.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Error(message) => message,
            Self::Budget => "operation cancelled: actual cost limit exceeded",
        }
    }
}

/// The account of the evaluations on one object.
#[derive(Debug)]
pub(super) struct Work {
    cost: u64,
    cost_max: u64,
    steps: u64,
    patterns: BTreeMap<Box<str>, Arc<Pattern>>,
}

impl Work {
    pub(super) fn new(cost_max: u64) -> Self {
        Self { cost: 0, cost_max, steps: STEPS_MAX, patterns: BTreeMap::new() }
    }

    /// Starts another evaluation, which may cost this much.
    pub(super) fn restart(&mut self, cost_max: u64) {
        self.cost = 0;
        self.cost_max = cost_max;
    }

    /// The cost of the evaluation so far.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// Counts a cost.
    ///
    /// # Errors
    /// [`Failure::Budget`] once it is too much.
    pub(super) fn charge(&mut self, cost: u64) -> Result<(), Failure> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.cost_max { Err(Failure::Budget) } else { Ok(()) }
    }

    /// Counts work that the cost does not see.
    ///
    /// # Errors
    /// [`Failure::Budget`] once it is too much.
    pub(super) fn steps(&mut self, count: u64) -> Result<(), Failure> {
        self.steps = self.steps.checked_sub(count).ok_or(Failure::Budget)?;
        Ok(())
    }

    /// Leaves only so much of the work.
    #[cfg(test)]
    pub(super) fn leave(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Counts the bytes of a string before it is made.
    ///
    /// # Errors
    /// [`Failure::Budget`] if they are too many.
    pub(super) fn bytes(&mut self, count: usize) -> Result<(), Failure> {
        if count > TEXT_BYTES_MAX {
            return Err(Failure::Budget);
        }
        self.steps(u64::try_from(1 + count / STEP_BYTES).unwrap_or(u64::MAX))
    }

    /// Appends to a string that is being made.
    ///
    /// # Errors
    /// [`Failure::Budget`] if it becomes too long.
    pub(super) fn push(&mut self, text: &mut String, more: &str) -> Result<(), Failure> {
        self.bytes(more.len())?;
        if text.len() + more.len() > TEXT_BYTES_MAX {
            return Err(Failure::Budget);
        }
        text.push_str(more);
        Ok(())
    }

    /// A pattern that is no constant.
    ///
    /// # Errors
    /// It is none, or there are too many in this evaluation.
    pub(super) fn pattern(&mut self, text: &str) -> Result<Arc<Pattern>, Failure> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        if self.patterns.len() >= PATTERNS_MAX {
            return Err(Failure::Budget);
        }
        let pattern = Arc::new(Pattern::new(text));
        self.patterns.insert(text.into(), pattern.clone());
        Ok(pattern)
    }
}
