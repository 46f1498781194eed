//! Rolling updates of DaemonSets: replace old pods in place, or surge and then remove them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::{Step, daemon_set::Set, pod::Pod};

impl Set<'_> {
    fn bound(&self, surge: bool) -> usize {
        let strategy = self.spec.update_strategy.as_ref();
        let update = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let value = update.and_then(|update| match surge {
            true => update.max_surge.as_ref(),
            false => update.max_unavailable.as_ref(),
        });
        let wanted = self.nodes.values().filter(|node| node.wants).count();
        match value {
            None => usize::from(!surge),
            Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
            Some(IntOrString::String(text)) => {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                wanted.saturating_mul(percent.unwrap_or(0)).div_ceil(100)
            }
        }
    }

    /// Nodes that may have an old and a new pod at the same time.
    pub(super) fn surge(&self) -> usize {
        let on_delete = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        if on_delete == Some("OnDelete") { 0 } else { self.bound(true) }
    }

    /// The next steps of a rolling update.
    pub(super) fn update(&self) -> Vec<(Step, Step)> {
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        if strategy == Some("OnDelete") {
            return Vec::new();
        }
        match self.surge() {
            0 => self.replace(self.bound(false).max(1)),
            surge => self.surge_by(surge),
        }
    }

    /// The old and the new pod of a node.
    fn pair(&self, node: &str) -> (Option<&Pod<'_>>, Option<&Pod<'_>>) {
        let find = |new: bool| {
            self.on(node).iter().find(|pod| !pod.is_finished() && self.is_new(pod) == new)
        };
        (find(false), find(true))
    }

    /// Deletes old pods as long as no more than `bound` nodes are without an available one.
    fn replace(&self, bound: usize) -> Vec<(Step, Step)> {
        let (mut unavailable, mut free, mut candidates) = (0, Vec::new(), Vec::new());
        for name in self.nodes.iter().filter(|(_, node)| node.wants).map(|(name, _)| name) {
            match self.pair(name) {
                (Some(old), None) if !old.is_active() => unavailable += 1,
                (Some(old), None) if self.is_available(old) => candidates.push(old),
                // It serves nobody: no reason to wait.
                (Some(old), None) => {
                    unavailable += 1;
                    free.push(old);
                }
                (_, Some(new)) if new.is_active() && self.is_available(new) => {}
                _ => unavailable += 1,
            }
        }
        let left = bound.saturating_sub(unavailable);
        let chosen = free.into_iter().chain(candidates.into_iter().take(left));
        chosen.filter_map(|pod| self.delete(pod)).collect()
    }

    /// Puts new pods beside at most `bound` old ones, and deletes the old one of a pair when the new one is available.
    fn surge_by(&self, bound: usize) -> Vec<(Step, Step)> {
        let (mut surging, mut free, mut candidates) = (0, Vec::new(), Vec::new());
        let mut steps = Vec::new();
        for name in self.nodes.iter().filter(|(_, node)| node.wants).map(|(name, _)| name) {
            match self.pair(name) {
                (Some(old), Some(new)) if self.is_available(new) => steps.extend(self.delete(old)),
                (Some(_), Some(_)) => surging += 1,
                (Some(old), None) if self.is_available(old) => candidates.push(name),
                (Some(_), None) => free.push(name),
                (None, _) => {}
            }
        }
        let left = bound.saturating_sub(surging);
        let chosen = free.into_iter().chain(candidates.into_iter().take(left));
        steps.extend(chosen.map(|name| self.create(name)));
        steps
    }
}
