//! What the topology policy of a service port leaves of its endpoints for the clients of a scope.
//!
//! Enter at [`Scoring::select`]. It never waits: until the policy has answered, those are selected that served before.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::{
    policy::{
        Candidate, Candidates, InstanceKey, Load, identity,
        topologies::{Answer, Question, Topologies},
    },
    proxy::scope::{Numbers, Scope},
    route::{Endpoint, Route, RouteTable, topology},
};

/// One service port: what its topology policy is asked about.
#[derive(Default)]
pub(crate) struct Scoring {
    /// The endpoints of all nodes, and those of single ones, for clients who may only use these.
    usable: BTreeMap<Option<Arc<str>>, Usable>,
    /// Nobody reads it: topology policies may not.
    load: Arc<Load>,
}

/// What surrounds a question.
pub(crate) struct Surroundings<'a> {
    pub(crate) table: &'a RouteTable,
    pub(crate) numbers: &'a mut Numbers,
    pub(crate) topologies: &'a Arc<Topologies>,
}

/// The endpoints that clients may use.
pub(crate) struct Selected<'a> {
    pub(crate) endpoints: Vec<&'a Endpoint>,
    /// Who selected them; `None` without a topology policy.
    pub(crate) asked: Option<Asked>,
}

/// What a topology policy said.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) answer: Answer,
    /// [`Topologies::changes`] before it was asked.
    pub(crate) changes: u64,
    /// What it was asked about.
    generation: u64,
}

/// Endpoints that could be used, whatever a topology policy says.
struct Usable {
    /// By which they were found.
    route: Arc<Route>,
    generation: u64,
    candidates: Candidates,
    /// Their indices among the endpoints of the route.
    indices: Vec<usize>,
}

impl Asked {
    /// Whether both say the same about the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.generation == other.generation && self.answer == other.answer
    }

    /// Since when the policy is thinking about it.
    pub(crate) fn pending(&self) -> Option<Instant> {
        match self.answer {
            Answer::Pending(since) => Some(since),
            Answer::These(_) | Answer::WithoutPolicy => None,
        }
    }
}

impl Scoring {
    /// The endpoints for the clients of a scope. `is_in_use` tells those that served it before.
    pub(crate) fn select<'a>(
        &mut self,
        route: &'a Arc<Route>,
        scope: &Scope,
        is_in_use: impl Fn(&Endpoint) -> bool,
        around: &mut Surroundings<'_>,
    ) -> Selected<'a> {
        let asked = self.ask(route, scope, around);
        let usable = self.usable.get(&scope.local_node().cloned());
        let endpoints = match (asked.as_ref().map(|asked| &asked.answer), usable) {
            (Some(Answer::These(chosen)), Some(usable)) => {
                chosen.iter().map(|index| &route.endpoints[usable.indices[*index]]).collect()
            }
            (Some(Answer::Pending(_)), Some(usable)) => {
                let all = || usable.indices.iter().map(|index| &route.endpoints[*index]);
                let in_use: Vec<_> = all().filter(|endpoint| is_in_use(endpoint)).collect();
                if in_use.is_empty() { all().collect() } else { in_use }
            }
            _ => {
                let place = scope.place(around.table);
                topology::usable(&route.endpoints, scope.policy(), place).collect()
            }
        };
        Selected { endpoints, asked }
    }

    /// What the topology policy of a service port, if it has one, says about the clients of a scope.
    pub(crate) fn ask(
        &mut self,
        route: &Arc<Route>,
        scope: &Scope,
        around: &mut Surroundings<'_>,
    ) -> Option<Asked> {
        let policy = Arc::clone(route.topology.as_ref()?);
        let changes = around.topologies.changes();
        let usable = self.usable(route, scope, around);
        let (generation, candidates) = (usable.generation, Arc::clone(&usable.candidates));
        if candidates.is_empty() {
            let answer = Answer::These(Arc::from([]));
            return Some(Asked { answer, changes, generation });
        }
        let (zone, node) = scope.ids(around.table, around.numbers);
        let key = InstanceKey { route: route.name.clone(), scope: scope.label() };
        let question = Question { policy, generation, candidates, zone, node };
        let answer = around.topologies.ask(&key, &question);
        Some(Asked { answer, changes, generation })
    }

    /// Forgets endpoints, so that they are new ones next time.
    pub(crate) fn clear(&mut self) {
        self.usable.clear();
    }

    /// Those that may be used from a scope. Their generation stays as long as they do.
    fn usable(
        &mut self,
        route: &Arc<Route>,
        scope: &Scope,
        around: &mut Surroundings<'_>,
    ) -> &Usable {
        let key = scope.local_node().cloned();
        let before = self.usable.remove(&key);
        let usable = match before {
            Some(before) if Arc::ptr_eq(&before.route, route) => before,
            before => self.find(route, scope, before.as_ref(), around),
        };
        self.usable.entry(key).or_insert(usable)
    }

    fn find(
        &self,
        route: &Arc<Route>,
        scope: &Scope,
        before: Option<&Usable>,
        around: &mut Surroundings<'_>,
    ) -> Usable {
        let node = scope.place(around.table).node;
        let indices = topology::usable_anyhow(&route.endpoints, scope.policy(), node);
        let numbers = &mut *around.numbers;
        let candidate = |index: &usize| {
            let endpoint = &route.endpoints[*index];
            Candidate {
                address: endpoint.address,
                zone: numbers.zones.id(endpoint.zone.as_ref()),
                node: numbers.nodes.id(endpoint.node.as_ref()),
                weight: endpoint.weight,
                identity: identity(endpoint.address),
                load: Arc::clone(&self.load),
            }
        };
        let candidates: Candidates = indices.iter().map(candidate).collect();
        let route = Arc::clone(route);
        match before.filter(|before| are_same(&before.candidates, &candidates)) {
            Some(before) => {
                let (generation, candidates) = (before.generation, Arc::clone(&before.candidates));
                Usable { route, generation, candidates, indices }
            }
            None => {
                let generation = around.numbers.next_generation();
                Usable { route, generation, candidates, indices }
            }
        }
    }
}

/// Whether a policy sees no difference.
pub(crate) fn are_same(before: &[Candidate], now: &[Candidate]) -> bool {
    let same = |(before, now): (&Candidate, &Candidate)| {
        before.address == now.address
            && before.zone == now.zone
            && before.node == now.node
            && before.weight == now.weight
            && Arc::ptr_eq(&before.load, &now.load)
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}
