//! The only native scheduler: strict round robin, for when a policy has failed, has no opinion or does not exist.

use std::sync::Arc;

use crate::policy::{Candidates, Failure, Flow, Picker};

/// Every endpoint in turn. When the endpoints change, the round goes on behind the one that was picked last, or at
/// the same position if that is gone.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    candidates: Candidates,
    next: usize,
    last: Option<u64>,
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self { candidates: Candidates::from([]), next: 0, last: None }
    }
}

impl Picker for RoundRobin {
    fn configure(&mut self, _generation: u64, candidates: &Candidates) -> Result<(), Failure> {
        self.candidates = Arc::clone(candidates);
        let last = candidates.iter().position(|candidate| Some(candidate.identity) == self.last);
        self.next = last.map_or(self.next, |last| last + 1);
        Ok(())
    }

    fn pick(&mut self, _flow: &Flow) -> Result<Option<usize>, Failure> {
        let count = self.candidates.len();
        if count == 0 {
            return Ok(None);
        }
        let chosen = self.next % count;
        self.next = chosen + 1;
        self.last = Some(self.candidates[chosen].identity);
        Ok(Some(chosen))
    }
}
