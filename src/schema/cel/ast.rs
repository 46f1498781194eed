//! [`Ast`]: an expression after parsing, with all macros written out. Nodes live in one list and name each other by
//! number, so that other passes keep what they know beside it.

use std::sync::Arc;

use super::source::Offset;

/// Most nodes of one expression. Macros that repeat a part of the text could make more than the text is long.
pub(super) const NODES_MAX: usize = 200_000;
/// How deep an expression may nest. Evaluation recurses, so the stack must hold this many levels.
pub(super) const DEPTH_MAX: u16 = 400;
/// What the loop macros call their result while they loop. No identifier can be written like this.
pub(super) const RESULT: &str = "@result";

/// A node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

impl Id {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value that is written out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Literal(Literal),
    Identifier(Arc<str>),
    /// `operand.field`; with `test` set, `has(operand.field)`.
    Select {
        operand: Id,
        field: Arc<str>,
        test: bool,
    },
    /// `target.function(arguments)`, `function(arguments)` or an operator.
    Call {
        function: Arc<str>,
        target: Option<Id>,
        arguments: Vec<Id>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    /// `name{field: value}`. There are no types that this could make; it is kept to be refused by name.
    Struct {
        name: Arc<str>,
        fields: Vec<Id>,
    },
    /// What loop macros become.
    Fold(Box<Fold>),
}

/// An element of a list; an optional one is left out when it has no value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) value: Id,
    pub(super) optional: bool,
}

/// An entry of a map; an optional one is left out when its value has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: Id,
    pub(super) value: Id,
    pub(super) optional: bool,
}

/// A loop: `result` starts as `init`; while `condition` holds, `step` is its next value for each element of `range`.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Id,
    pub(super) variable: Arc<str>,
    /// The second variable: the value of an entry, when the first is its key or its index.
    pub(super) second: Option<Arc<str>>,
    pub(super) accumulator: Arc<str>,
    pub(super) init: Id,
    pub(super) condition: Id,
    pub(super) step: Id,
    pub(super) result: Id,
}

#[derive(Clone, Debug)]
struct Node {
    expression: Expression,
    at: Offset,
    depth: u16,
}

/// Why a node could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLarge {
    Nodes,
    Depth,
}

/// All nodes of an expression.
#[derive(Debug, Default)]
pub(super) struct Ast {
    nodes: Vec<Node>,
}

impl Ast {
    /// Adds a node whose parts are there already.
    pub(super) fn add(&mut self, at: Offset, expression: Expression) -> Result<Id, TooLarge> {
        let depths = expression.parts().into_iter().map(|part| self.nodes[part.index()].depth);
        let depth = depths.max().unwrap_or_default();
        if depth >= DEPTH_MAX {
            return Err(TooLarge::Depth);
        }
        let id = u32::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < NODES_MAX);
        self.nodes.push(Node { expression, at, depth: depth + 1 });
        id.map(Id).ok_or(TooLarge::Nodes)
    }

    pub(super) fn get(&self, id: Id) -> &Expression {
        &self.nodes[id.index()].expression
    }

    pub(super) fn offset(&self, id: Id) -> Offset {
        self.nodes[id.index()].at
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, parts before what they are parts of.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Expression)> {
        (0_u32..).map(Id).zip(self.nodes.iter().map(|node| &node.expression))
    }

    /// Adds a copy of a node and of all its parts.
    pub(super) fn copy(&mut self, id: Id) -> Result<Id, TooLarge> {
        let mut expression = self.get(id).clone();
        let mut fault = None;
        expression.for_each_part(|part| match self.copy(*part) {
            Ok(copied) => *part = copied,
            Err(error) => fault = Some(error),
        });
        match fault {
            Some(fault) => Err(fault),
            None => self.add(self.offset(id), expression),
        }
    }

    /// The value of a node that is a string literal.
    pub(super) fn string(&self, id: Id) -> Option<&Arc<str>> {
        match self.get(id) {
            Expression::Literal(Literal::String(text)) => Some(text),
            _ => None,
        }
    }

    /// `a.b.c` as a text, if that is all that the node is.
    pub(super) fn qualified_name(&self, id: Id) -> Option<String> {
        match self.get(id) {
            Expression::Identifier(name) => Some((**name).to_owned()),
            Expression::Select { operand, field, test: false } => {
                Some(format!("{}.{field}", self.qualified_name(*operand)?))
            }
            _ => None,
        }
    }
}

impl Expression {
    /// The direct parts.
    pub(super) fn parts(&self) -> Vec<Id> {
        match self {
            Self::Literal(_) | Self::Identifier(_) => Vec::new(),
            Self::Select { operand, .. } => vec![*operand],
            Self::Call { target, arguments, .. } => {
                target.iter().chain(arguments).copied().collect()
            }
            Self::List(elements) => elements.iter().map(|element| element.value).collect(),
            Self::Map(entries) => entries.iter().flat_map(|e| [e.key, e.value]).collect(),
            Self::Struct { fields, .. } => fields.clone(),
            Self::Fold(fold) => {
                vec![fold.range, fold.init, fold.condition, fold.step, fold.result]
            }
        }
    }

    fn for_each_part(&mut self, mut visit: impl FnMut(&mut Id)) {
        match self {
            Self::Literal(_) | Self::Identifier(_) => {}
            Self::Select { operand, .. } => visit(operand),
            Self::Call { target, arguments, .. } => {
                target.iter_mut().chain(arguments).for_each(visit);
            }
            Self::List(elements) => elements.iter_mut().for_each(|e| visit(&mut e.value)),
            Self::Map(entries) => entries.iter_mut().for_each(|entry| {
                visit(&mut entry.key);
                visit(&mut entry.value);
            }),
            Self::Struct { fields, .. } => fields.iter_mut().for_each(visit),
            Self::Fold(fold) => {
                let Fold { range, init, condition, step, result, .. } = &mut **fold;
                [range, init, condition, step, result].into_iter().for_each(visit);
            }
        }
    }
}
