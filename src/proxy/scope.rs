//! [`Scope`]: the clients that share a view, and [`Numbers`], by which policies know zones and nodes.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    policy::UNKNOWN,
    route::{
        RouteTable,
        topology::{self, Place},
    },
};

/// The clients that share a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// All for whom their place does not matter.
    All,
    /// Those of a zone, which hints or a topology policy tell apart.
    Zone(Arc<str>),
    /// Those of a node.
    Node(Arc<str>),
    /// Those who may only use the endpoints of a node.
    Local(Arc<str>),
}

/// Numbers of this process, given out for good.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) zones: Ids,
    pub(crate) nodes: Ids,
    /// The last generation of any candidates.
    generation: u64,
}

/// Names to small numbers, for good.
#[derive(Default)]
pub(crate) struct Ids(BTreeMap<Arc<str>, u32>);

impl Scope {
    /// As users and metrics know it.
    pub(crate) fn label(&self) -> Arc<str> {
        match self {
            Self::All => Arc::from(""),
            Self::Zone(zone) => Arc::from(format!("zone/{zone}")),
            Self::Node(node) => Arc::clone(node),
            Self::Local(node) => Arc::from(format!("{node}/local")),
        }
    }

    pub(crate) fn policy(&self) -> topology::Policy {
        match self {
            Self::Local(_) => topology::Policy::Local,
            _ => topology::Policy::Cluster,
        }
    }

    /// The node whose endpoints its clients may only use.
    pub(crate) fn local_node(&self) -> Option<&Arc<str>> {
        match self {
            Self::Local(node) => Some(node),
            _ => None,
        }
    }

    /// Where its clients are.
    pub(crate) fn place<'a>(&'a self, table: &'a RouteTable) -> Place<'a> {
        let (zone, node) = self.zone_and_node(table);
        let name = |name: Option<&'a Arc<str>>| name.map_or("", |name| &**name);
        Place { node: name(node), zone: name(zone) }
    }

    /// The same as policies know it: zone and node.
    pub(crate) fn ids(&self, table: &RouteTable, numbers: &mut Numbers) -> (u32, u32) {
        let (zone, node) = self.zone_and_node(table);
        (numbers.zones.id(zone), numbers.nodes.id(node))
    }

    fn zone_and_node<'a>(
        &'a self,
        table: &'a RouteTable,
    ) -> (Option<&'a Arc<str>>, Option<&'a Arc<str>>) {
        match self {
            Self::All => (None, None),
            Self::Zone(zone) => (Some(zone), None),
            Self::Node(node) | Self::Local(node) => {
                (table.nodes.get(node).and_then(|node| node.zone.as_ref()), Some(node))
            }
        }
    }
}

impl Numbers {
    /// One that no candidates have had.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}

impl Ids {
    pub(crate) fn id(&mut self, name: Option<&Arc<str>>) -> u32 {
        let Some(name) = name else { return UNKNOWN };
        if let Some(id) = self.0.get(name) {
            return *id;
        }
        let id = u32::try_from(self.0.len()).unwrap_or(UNKNOWN);
        self.0.insert(Arc::clone(name), id);
        id
    }
}
